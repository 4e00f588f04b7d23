// How answers are made, and the dialog that says so. Kept in this browser, for all tabs.
import { el } from "./dom.js";
import { loadSetting, saveSetting } from "./store.js";

// Of the model's official code; the first is what this server and the official examples of locating do.
export const PRESETS = {
  greedy: { label: "Greedy", temperature: 0, topP: 1, repetitionPenalty: 1,
    note: "The likeliest token each time, and so the same answer each time. The server's default; the official README, the benchmarks and every score of the model card use it." },
  demo: { label: "Official demo script", temperature: 0.4, topP: 0.9, repetitionPenalty: 1.1,
    note: "inference.py: sampled, temperature 0.4, top-p 0.9, repetition penalty 1.1. Livelier texts, another one each time." },
  web: { label: "Official web demo", temperature: 0.1, topP: 0.9, repetitionPenalty: 1.1,
    note: "web_demo.py: nearly greedy, temperature 0.1, top-p 0.9, repetition penalty 1.1." },
};
const DEFAULTS = { preset: "greedy", temperature: 0, topP: 1, repetitionPenalty: 1, maxTokens: 2048, seed: null, system: "",
  detectLoops: true, upright: true };

const FIELDS = [
  ["temperature", 0, 2], ["topP", 0.01, 1], ["repetitionPenalty", 0.01, 100], ["maxTokens", 1, 1e6], ["seed", 0, 2 ** 53 - 1],
];

export class Settings {
  constructor() {
    this.values = { ...DEFAULTS };
    const saved = loadSetting("settings", {});
    for (const name of Object.keys(DEFAULTS))
      if (typeof saved[name] === typeof DEFAULTS[name] || (name === "seed" && Number.isInteger(saved.seed))) this.values[name] = saved[name];
    this.dialog = document.querySelector("#settings");
    this.form = this.dialog.querySelector("form");
    const picker = this.form.elements.preset;
    for (const [name, preset] of Object.entries({ ...PRESETS, custom: { label: "My own" } })) picker.append(el("option", { value: name }, preset.label));
    this.form.addEventListener("input", (event) => this.read(event.target));
    this.dialog.querySelector(".reset").addEventListener("click", () => {
      this.values = { ...DEFAULTS };
      this.changed();
    });
    this.show();
  }

  open() {
    this.show();
    this.dialog.showModal();
  }

  read(field) {
    const { values } = this;
    if (field.name === "preset") {
      values.preset = field.value;
      const { temperature, topP, repetitionPenalty } = PRESETS[field.value] ?? values;
      Object.assign(values, { temperature, topP, repetitionPenalty });
      return this.changed();
    }
    if (field.type === "checkbox") values[field.name] = field.checked;
    else if (field.name === "system") values.system = field.value;
    else this.readNumber(field);
    if (["temperature", "topP", "repetitionPenalty"].includes(field.name)) {
      values.preset = "custom";
      this.form.elements.preset.value = "custom";
      this.explain();
    }
    saveSetting("settings", values);
  }

  readNumber(field) {
    const [name, low, high] = FIELDS.find(([one]) => one === field.name);
    const empty = name === "seed" && field.value.trim() === "";
    const value = empty ? null : Number(field.value);
    const whole = name !== "maxTokens" && name !== "seed" ? true : Number.isInteger(value);
    const fits = empty || (field.value.trim() !== "" && whole && value >= low && value <= high);
    field.setCustomValidity(fits ? "" : `from ${low} to ${high}`);
    field.toggleAttribute("aria-invalid", !fits);
    if (fits) this.values[name] = value;
  }

  changed() {
    this.show();
    saveSetting("settings", this.values);
  }

  explain() {
    this.form.querySelector(".note").textContent = PRESETS[this.values.preset]?.note ?? "";
  }

  show() {
    for (const [name, value] of Object.entries(this.values)) {
      const field = this.form.elements[name];
      if (field.type === "checkbox") field.checked = value;
      else field.value = value ?? "";
      field.removeAttribute("aria-invalid");
    }
    this.explain();
  }
}

// auto -> light -> dark
const THEMES = { auto: "As the system", light: "Light", dark: "Dark" };

export function setUpTheme(button) {
  const root = document.documentElement;
  const show = () => {
    const now = root.dataset.theme ?? "auto";
    const label = `Theme: ${THEMES[now].toLowerCase()}`;
    button.setAttribute("aria-label", label);
    button.title = label;
    button.querySelector("use").setAttribute("href", `#i-${now}`);
  };
  button.addEventListener("click", () => {
    const names = Object.keys(THEMES);
    const next = names[(names.indexOf(root.dataset.theme ?? "auto") + 1) % names.length];
    if (next === "auto") delete root.dataset.theme;
    else root.dataset.theme = next;
    try {
      localStorage.setItem("vl2.theme", next);
    } catch { /* it holds until the page is left */ }
    show();
  });
  show();
}
