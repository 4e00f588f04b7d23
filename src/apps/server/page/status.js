// Which model answers, whether it is there, and the key it may want.
import { ApiFailure, apiKey, firstModel, health } from "./api.js";
import { count } from "./dom.js";

const SMALL_MODEL = 50e6; // parameters

export class Status {
  // `onready`: called when a model has become known.
  constructor(onready) {
    this.onready = onready;
    this.model = null;
    this.chip = document.querySelector("#model");
    this.welcome = document.querySelector("#welcome-model");
    this.panel = document.querySelector("#key");
    this.panel.addEventListener("submit", (event) => {
      event.preventDefault();
      apiKey.set(this.panel.elements.key.value.trim());
      this.panel.elements.key.value = "";
      this.check();
    });
    this.check();
  }

  get context() { return this.model?.meta?.n_ctx ?? null; }

  askForKey(message) {
    this.panel.querySelector(".problem").textContent = message;
    this.panel.hidden = false;
    this.panel.elements.key.focus();
  }

  show(state, text) {
    this.chip.dataset.state = state;
    this.chip.querySelector(".name").textContent = text;
  }

  async check() {
    clearTimeout(this.timer);
    try {
      await health();
      this.model = await firstModel();
      this.panel.hidden = true;
      this.ready();
    } catch (error) {
      this.failed(error);
    }
  }

  failed(error) {
    if (error instanceof ApiFailure && error.status === 401) {
      this.show("problem", "locked");
      return this.askForKey(apiKey.get() ? "The server does not know this key." : "");
    }
    const loading = error instanceof ApiFailure && error.code === "model_loading";
    this.show(loading ? "loading" : "problem", loading ? "loading the model" : "no answer from the server");
    this.timer = setTimeout(() => this.check(), loading ? 700 : 3000);
    return undefined;
  }

  ready() {
    const { id, meta } = this.model;
    this.show("ready", id);
    this.chip.title = meta ? `${id}, ${count(meta.n_ctx)} tokens of context` : id;
    const small = meta && meta.n_params < SMALL_MODEL;
    this.welcome.textContent = small ? `${id} answers, a small model: it knows drawings of shapes, words, numbers and charts, and little else.`
      : `${id} answers. It can be wrong: look at what it says.`;
    this.onready();
  }
}
