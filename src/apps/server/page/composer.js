// Where a message is written: text, pictures by picker, paste or drop, and what is wanted of the model.
import { el, iconButton } from "./dom.js";
import { pictureOfFile, PictureProblem, release } from "./pictures.js";

const PLACEHOLDERS = { ask: "Ask about a picture", locate: "What should be located? The pink ring…", ground: "What is in the picture?" };
const MOST_PICTURES = 16; // of a message
const LOCATING = new Set(["locate", "ground"]);

export class Composer {
  // `actions`: send(text, mode, pictures), stop(), plan(picture), hasPictures(), upright().
  constructor(actions) {
    this.actions = actions;
    this.form = document.querySelector("#composer");
    this.area = this.form.querySelector("textarea");
    this.tray = this.form.querySelector(".tray");
    this.problem = this.form.querySelector(".problem");
    this.button = this.form.querySelector(".send");
    this.picker = this.form.querySelector("input[type=file]");
    this.pictures = [];
    this.reading = 0;
    this.busy = false;
    this.area.addEventListener("input", () => this.changed());
    this.area.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.submit();
    });
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.busy ? this.actions.stop() : this.submit();
    });
    this.form.addEventListener("change", (event) => {
      if (event.target.name === "mode") this.changed();
    });
    this.form.querySelector(".attach").addEventListener("click", () => this.picker.click());
    this.picker.addEventListener("change", () => {
      this.add([...this.picker.files]);
      this.picker.value = "";
    });
    this.takeDrops();
    this.changed();
  }

  get mode() { return this.form.elements.mode.value; }
  set mode(mode) {
    this.form.elements.mode.value = mode;
    this.changed();
  }

  takeDrops() {
    const veil = document.querySelector("#drop");
    const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
    let inside = 0;
    const over = (on) => { veil.hidden = !on; };
    addEventListener("dragenter", (event) => {
      if (!holdsFiles(event)) return;
      event.preventDefault();
      inside++;
      over(true);
    });
    addEventListener("dragover", (event) => {
      if (holdsFiles(event)) event.preventDefault();
    });
    addEventListener("dragleave", (event) => {
      if (holdsFiles(event) && --inside <= 0) over((inside = 0) > 0);
    });
    addEventListener("drop", (event) => {
      inside = 0;
      over(false);
      if (!holdsFiles(event)) return;
      event.preventDefault();
      this.add([...event.dataTransfer.files]);
    });
    addEventListener("paste", (event) => {
      const files = [...(event.clipboardData?.files ?? [])];
      if (files.length === 0 || document.querySelector("dialog[open]")) return;
      event.preventDefault();
      this.add(files);
    });
  }

  async add(files) {
    this.say("");
    this.reading++;
    this.changed();
    const problems = [];
    for (const file of files) {
      if (this.pictures.length >= MOST_PICTURES) {
        problems.push(`At most ${MOST_PICTURES} pictures fit in a message.`);
        break;
      }
      try {
        this.pictures.push(await pictureOfFile(file, this.actions.upright()));
      } catch (error) {
        if (!(error instanceof PictureProblem)) throw error;
        problems.push(error.message);
      }
    }
    this.reading--;
    this.say(problems.join(" "));
    this.changed();
    this.area.focus();
  }

  remove(picture) {
    this.pictures = this.pictures.filter((one) => one !== picture);
    release(picture);
    this.changed();
    this.area.focus();
  }

  say(text) {
    this.problem.textContent = text;
    this.problem.hidden = text === "";
  }

  setBusy(busy) {
    this.busy = busy;
    this.changed();
  }

  changed() {
    const { area, button, busy } = this;
    area.style.height = "auto";
    area.style.height = `${Math.min(area.scrollHeight, 220)}px`;
    area.placeholder = PLACEHOLDERS[this.mode];
    this.tray.hidden = this.pictures.length === 0;
    this.tray.replaceChildren(...this.pictures.map((picture) => el("div", { class: "attached" },
      el("button", { type: "button", class: "thumb", title: "How the model sees it", "aria-label": `${picture.name}: how the model sees it`, onclick: () => this.actions.plan(picture) },
        el("img", { src: picture.url, alt: picture.name })),
      iconButton("close", `Remove ${picture.name}`, () => this.remove(picture), { class: "quiet remove" }))));
    button.classList.toggle("stop", busy);
    button.setAttribute("aria-label", busy ? "Stop" : "Send");
    button.title = busy ? "Stop (Esc)" : "Send (Enter)";
    button.querySelector("use").setAttribute("href", busy ? "#i-stop" : "#i-send");
    button.disabled = !busy && (area.value.trim() === "" || this.reading > 0);
  }

  submit() {
    const text = this.area.value.trim();
    if (this.busy || this.reading > 0 || text === "") return;
    const { mode } = this;
    if (LOCATING.has(mode) && this.pictures.length === 0 && !this.actions.hasPictures())
      return this.say("Locating needs a picture: drop one here, paste it, or choose a file.");
    const { pictures } = this;
    this.pictures = [];
    this.area.value = "";
    this.say("");
    this.changed();
    this.actions.send(text, mode, pictures);
  }

  focus() { this.area.focus({ preventScroll: true }); }
}
