// How turns look. A view belongs to a turn and shows it again when the turn has changed.
import { BoxFigure, coloursOf, labelButton } from "./boxes.js";
import { append, count, el, iconButton, plural, seconds } from "./dom.js";
import { flatBoxes, parseGrounding } from "./grounding.js";
import { GrowingMarkdown } from "./markdown.js";

const MODES = { locate: "Locate", ground: "Describe with boxes" };

async function copyText(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Pages of plain http have no clipboard but this.
    const area = el("textarea", { class: "offscreen" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  button.classList.add("done");
  button.title = "Copied";
  setTimeout(() => {
    button.classList.remove("done");
    button.title = "Copy";
  }, 1200);
}

const copyButton = (text) => iconButton("copy", "Copy", (event) => copyText(text(), event.currentTarget));

export class UserView {
  // `actions`: edit(turn, text), plan(picture).
  constructor(turn, actions) {
    this.turn = turn;
    this.actions = actions;
    this.root = el("article", { class: "turn user", "aria-label": "You" });
    this.show();
  }

  show() {
    const { turn } = this;
    const pictures = turn.pictures.map((picture) => {
      const label = `${picture.name}: how the model sees it`;
      return el("button", { type: "button", class: "thumb", title: label, "aria-label": label, onclick: () => this.actions.plan(picture) },
        el("img", { src: picture.url, alt: picture.name, width: picture.width, height: picture.height }));
    });
    this.root.replaceChildren(...append(document.createDocumentFragment(), [
      pictures.length > 0 && el("div", { class: "thumbs" }, pictures),
      el("div", { class: "bubble" }, MODES[turn.mode] && el("span", { class: "mode" }, MODES[turn.mode]), el("span", { class: "text" }, turn.text)),
      el("div", { class: "tools" }, iconButton("edit", "Edit and ask again", () => this.edit()), copyButton(() => turn.text)),
    ]).childNodes);
  }

  edit() {
    const area = el("textarea", { rows: "1", "aria-label": "Your message" });
    area.value = this.turn.text;
    const grow = () => {
      area.style.height = "auto";
      area.style.height = `${Math.min(area.scrollHeight, 320)}px`;
    };
    const done = () => area.value.trim() && this.actions.edit(this.turn, area.value.trim());
    area.addEventListener("input", grow);
    area.addEventListener("keydown", (event) => {
      if (event.isComposing) return;
      if (event.key === "Enter" && !event.shiftKey) {
        event.preventDefault();
        done();
      } else if (event.key === "Escape") {
        event.stopPropagation();
        this.show();
        this.root.querySelector("[aria-label^=Edit]").focus();
      }
    });
    const bubble = this.root.querySelector(".bubble");
    bubble.classList.add("editing");
    bubble.querySelector(".text").replaceWith(area);
    this.root.querySelector(".tools").replaceChildren(
      el("button", { type: "button", class: "plain", onclick: () => this.show() }, "Cancel"),
      el("button", { type: "button", class: "primary", onclick: done }, "Ask again"));
    grow();
    area.focus();
    area.setSelectionRange(area.value.length, area.value.length);
  }
}

function usageText({ usage, timings }) {
  if (!usage) return "";
  const pictures = usage.prompt_tokens_details?.image_tokens ?? 0;
  const read = `${plural(usage.prompt_tokens, "token")} read${pictures ? `, ${count(pictures)} of pictures` : ""}`;
  return `${read} · ${count(usage.completion_tokens)} written${timings ? ` · ${seconds(timings.total_ms)}` : ""}`;
}

function usageTitle({ timings, usage }) {
  if (!timings) return null;
  const cached = usage?.prompt_tokens_details?.cached_tokens;
  return `waiting ${seconds(timings.queue_ms)}, seeing ${seconds(timings.vision_ms)}, reading ${seconds(timings.prefill_ms)}, writing ${seconds(timings.decode_ms)}` +
    (cached ? `; ${plural(cached, "token")} known from before` : "");
}

export class AnswerView {
  // `picture`: the one boxes are about, or null. `actions`: regenerate(turn), enterKey().
  constructor(turn, picture, actions) {
    this.turn = turn;
    this.picture = picture;
    this.actions = actions;
    this.objects = [];
    this.source = false;
    this.figure = null;
    this.body = el("div", { class: "body" });
    this.markdown = new GrowingMarkdown(this.body);
    this.place = el("div", { class: "place-of-figure" });
    this.notes = el("div", { class: "notes" });
    this.tools = el("div", { class: "tools" });
    this.root = el("article", { class: "turn answer", "aria-label": "Answer" }, this.place, this.body, this.notes, this.tools);
    this.show();
  }

  show() {
    const { turn } = this;
    const streaming = turn.state === "streaming";
    this.root.setAttribute("aria-busy", String(streaming));
    this.root.classList.toggle("streaming", streaming);
    this.showText(streaming);
    this.notes.replaceChildren(...this.noteNodes());
    if (streaming) return this.tools.replaceChildren();
    if (this.tools.childElementCount > 0) return undefined;
    return this.tools.replaceChildren(...append(document.createDocumentFragment(), [
      (turn.state !== "failed" || turn.text !== "") && iconButton("again", "Answer again", () => this.actions.regenerate(turn)),
      turn.text && copyButton(() => turn.text),
      turn.text && iconButton("source", "Show what the model wrote, markup and all", (event) => this.toggleSource(event.currentTarget), { "aria-pressed": "false" }),
      el("span", { class: "usage", title: usageTitle(turn) }, usageText(turn)),
    ]).childNodes);
  }

  showText(streaming) {
    const { turn } = this;
    const { text, objects } = parseGrounding(turn.text, { streaming });
    this.objects = objects;
    const colours = coloursOf(objects);
    if (this.source) {
      this.body.replaceChildren(el("pre", { class: "raw" }, turn.text));
    } else {
      this.markdown.update(text, (i) => labelButton(i, objects[i].label, colours[i], (object) => this.figure?.select({ object })));
    }
    const flat = flatBoxes(objects, turn.grounding);
    if (flat.length === 0 || !this.picture) return;
    if (!this.figure) {
      this.figure = new BoxFigure(this.picture, (object) => this.markLabels(object));
      this.place.append(this.figure.root);
    }
    this.figure.update(flat, colours);
  }

  markLabels(object) {
    for (const label of this.body.querySelectorAll(".ref")) label.classList.toggle("selected", label.dataset.object === String(object));
  }

  toggleSource(button) {
    this.source = !this.source;
    button.setAttribute("aria-pressed", String(this.source));
    this.body.replaceChildren();
    this.markdown = new GrowingMarkdown(this.body);
    this.showText(false);
  }

  noteNodes() {
    const { turn } = this;
    if (turn.state === "streaming") return turn.text ? [] : [el("p", { class: "waiting" }, el("span"), el("span"), el("span"), el("span", { class: "offscreen" }, "Waiting for the answer"))];
    if (turn.state === "failed") return [this.failureNode()];
    if (turn.state === "stopped") return [el("p", { class: "muted" }, "Stopped.")];
    if (turn.loop) return [el("p", { class: "muted" }, "Ended here, because it went round in circles. A repetition penalty (settings) may help.")];
    if (turn.finish === "length") return [el("p", { class: "muted" }, "Cut off here: as long as the settings or the model's context allow.")];
    if (turn.text === "") return [el("p", { class: "muted" }, "The model had nothing to say.")];
    if (this.objects.length > 0 && !this.picture) return [el("p", { class: "muted" }, "It names places, but there is no picture.")];
    return [];
  }

  failureNode() {
    const { failure } = this.turn;
    const advice = {
      context_length_exceeded: "Start a new conversation, or leave pictures out.",
      queue_full: "Many others are asking at the moment.",
    }[failure.code];
    const button = failure.status === 401 ? el("button", { type: "button", class: "plain", onclick: () => this.actions.enterKey() }, "Enter a key")
      : el("button", { type: "button", class: "plain", onclick: () => this.actions.regenerate(this.turn) }, "Try again");
    const message = /[.!?]$/.test(failure.message) ? failure.message : `${failure.message}.`;
    return el("div", { class: "problem", role: "alert" }, el("p", {}, message, advice && ` ${advice}`), button);
  }
}
