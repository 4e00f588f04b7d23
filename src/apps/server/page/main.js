// The page: what happens when something is sent, stopped, asked again or edited.
import { ApiFailure, streamChat } from "./api.js";
import { Composer } from "./composer.js";
import { answerTurn, picturesOf, requestOf, userTurn } from "./conversation.js";
import { el } from "./dom.js";
import { exampleCards, filesOf } from "./examples.js";
import { PlanDialog } from "./plan.js";
import { pictureOf, pictureOfFile, release } from "./pictures.js";
import { Settings, setUpTheme } from "./settings.js";
import { Status } from "./status.js";
import { loadConversation, saveConversation } from "./store.js";
import { AnswerView, UserView } from "./turns.js";

const NEAR_THE_END = 120; // pixels: whoever is closer wants to follow the answer

class Chat {
  constructor() {
    this.turns = [];
    this.views = new Map();
    this.running = null; // AbortController of the answer that is coming
    this.log = document.querySelector("#log");
    this.page = document.querySelector("#scroll");
    this.settings = new Settings();
    this.plans = new PlanDialog();
    this.status = new Status(() => this.composer?.focus());
    this.composer = new Composer({
      send: (text, mode, pictures) => this.send(text, mode, pictures),
      stop: () => this.stop(),
      plan: (picture) => this.plan(picture),
      hasPictures: () => picturesOf(this.turns).length > 0,
      upright: () => this.settings.values.upright,
    });
    this.actions = {
      edit: (turn, text) => this.edit(turn, text),
      regenerate: (turn) => this.regenerate(turn),
      plan: (picture) => this.plan(picture),
      enterKey: () => this.status.askForKey(""),
    };
    document.querySelector("#new").addEventListener("click", () => this.clear());
    document.querySelector("#open-settings").addEventListener("click", () => this.settings.open());
    document.querySelector("#examples").append(...exampleCards((example) => this.tryExample(example)));
    addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !document.querySelector("dialog[open]")) this.stop();
    });
    addEventListener("pagehide", () => saveConversation(this.turns));
    this.following = true;
    this.page.addEventListener("scroll", () => { this.following = this.isNearTheEnd(); }, { passive: true });
    // The composer grows with what is in it; what was last said must not disappear behind it.
    new ResizeObserver(() => this.following && this.turns.length > 0 && this.toEnd()).observe(this.page);
    for (const dialog of document.querySelectorAll("dialog")) closeByClick(dialog);
    this.show();
  }

  async restore() {
    const saved = await loadConversation();
    if (!saved || this.turns.length > 0) return;
    try {
      for (const turn of saved.turns) {
        if (turn.pictures) turn.pictures = await Promise.all(turn.pictures.map(({ blob, name, id }) => pictureOf(blob, name, id)));
        if (turn.state === "streaming") turn.state = "stopped";
      }
    } catch (error) {
      console.warn("vl2: the conversation could not be restored", error);
      return;
    }
    this.turns = saved.turns;
    this.cut = saved.cut;
    this.show();
    this.toEnd();
  }

  // All turns, whose views are kept where they are there.
  show() {
    const empty = this.turns.length === 0;
    document.body.classList.toggle("empty", empty);
    for (const turn of this.views.keys()) if (!this.turns.includes(turn)) this.views.delete(turn);
    const nodes = this.turns.map((turn) => {
      if (!this.views.has(turn)) this.views.set(turn, this.viewOf(turn));
      return this.views.get(turn).root;
    });
    if (this.cut) nodes.unshift(el("p", { class: "muted cut" }, "Earlier turns were too large to be kept."));
    // In place: a node that is taken out and put back loses its focus and its scrolling.
    for (const node of [...this.log.children]) if (!nodes.includes(node)) node.remove();
    nodes.forEach((node, i) => {
      if (this.log.children[i] !== node) this.log.insertBefore(node, this.log.children[i] ?? null);
    });
    document.querySelector("#new").disabled = empty;
  }

  viewOf(turn) {
    if (turn.role === "user") return new UserView(turn, this.actions);
    const before = this.turns.slice(0, this.turns.indexOf(turn)).flatMap((one) => one.pictures ?? []);
    return new AnswerView(turn, before.find((picture) => picture.id === turn.pictureId) ?? null, this.actions);
  }

  send(text, mode, pictures) {
    this.turns.push(userTurn(text, mode, pictures));
    this.answer();
  }

  async answer() {
    const asked = [...this.turns];
    const turn = answerTurn();
    turn.pictureId = picturesOf(asked).at(-1)?.id;
    this.turns.push(turn);
    this.running = new AbortController();
    const { signal } = this.running;
    this.composer.setBusy(true);
    this.show();
    this.toEnd();
    this.save();
    try {
      const body = await requestOf(asked, this.settings.values, this.status.model?.id);
      await streamChat(body, signal, (chunk) => this.take(turn, chunk));
      turn.state = "done";
    } catch (error) {
      this.end(turn, error);
    }
    this.running = null;
    this.composer.setBusy(false);
    this.showSoon(turn, true);
    this.save();
  }

  end(turn, error) {
    if (error.name === "AbortError") {
      turn.state = "stopped";
      return;
    }
    turn.state = "failed";
    turn.failure = { message: error.message, status: error.status ?? 0, code: error.code ?? null };
    if (!(error instanceof ApiFailure)) console.error(error);
    if (error.status === 401) this.status.askForKey("");
  }

  take(turn, chunk) {
    if (chunk.usage) turn.usage = chunk.usage;
    if (chunk.timings) turn.timings = chunk.timings;
    const choice = chunk.choices?.[0];
    if (!choice) return;
    if (typeof choice.delta?.content === "string") turn.text += choice.delta.content;
    if (choice.finish_reason) turn.finish = choice.finish_reason;
    if (choice.finish_details?.type === "repetition") turn.loop = true;
    if (Array.isArray(choice.grounding)) turn.grounding = choice.grounding;
    this.showSoon(turn);
  }

  // Once a frame is often enough.
  showSoon(turn, now = false) {
    const view = this.views.get(turn);
    const draw = () => {
      this.frame = null;
      if (!this.turns.includes(turn)) return;
      const follow = this.isNearTheEnd();
      view.show();
      if (follow) this.toEnd();
    };
    if (now) {
      cancelAnimationFrame(this.frame);
      draw();
    } else {
      this.frame ??= requestAnimationFrame(draw);
    }
  }

  isNearTheEnd() { return this.page.scrollHeight - this.page.scrollTop - this.page.clientHeight < NEAR_THE_END; }
  toEnd() { this.page.scrollTop = this.page.scrollHeight; }

  stop() { this.running?.abort(); }

  // The turns before this one stay; what came after it is gone.
  async cutAt(turn) {
    this.stop();
    while (this.running) await new Promise((resolve) => setTimeout(resolve, 10));
    const at = this.turns.indexOf(turn);
    if (at < 0) return false;
    this.forget(this.turns.splice(at), turn);
    return true;
  }

  // A turn that is asked anew keeps its pictures.
  forget(turns, but = null) {
    for (const turn of turns) if (turn !== but) turn.pictures?.forEach(release);
  }

  async regenerate(turn) {
    if (await this.cutAt(turn)) this.answer();
  }

  async edit(turn, text) {
    if (!(await this.cutAt(turn))) return;
    this.send(text, turn.mode, turn.pictures);
    this.composer.focus();
  }

  async clear() {
    this.stop();
    while (this.running) await new Promise((resolve) => setTimeout(resolve, 10));
    this.forget(this.turns.splice(0));
    this.cut = false;
    this.show();
    this.save();
    this.composer.mode = "ask";
    this.composer.focus();
  }

  plan(picture) {
    const pictures = [...picturesOf(this.turns), ...this.composer.pictures];
    this.plans.open(picture, pictures.includes(picture) ? pictures : [picture], this.status.context);
  }

  async tryExample(example) {
    if (this.running) return;
    try {
      const pictures = await Promise.all((await filesOf(example)).map((file) => pictureOfFile(file, false)));
      this.send(example.text, example.mode, pictures);
    } catch (error) {
      this.composer.say(error.message);
    }
  }

  save() { saveConversation(this.turns); }
}

function closeByClick(dialog) {
  dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // beside it
  });
}

setUpTheme(document.querySelector("#theme"));
new Chat().restore();
