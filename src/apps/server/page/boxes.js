// A picture with the boxes an answer found on it, and their list. Boxes are buttons laid over the picture, so that they
// stay sharp at any size and can be reached by keyboard.
import { el, icon, iconButton } from "./dom.js";

const COLOURS = 8, MOST_SHOWN_LABELS = 14;
const percent = (score) => `${Math.round(score * 100)} %`;

// The colour of a label is that of the first object that has it.
export function coloursOf(objects) {
  const first = new Map();
  return objects.map(({ label }) => {
    if (!first.has(label)) first.set(label, first.size % COLOURS);
    return first.get(label);
  });
}

export class BoxFigure {
  // `onselect(object)`: an object's number or null, when the reader picks another one.
  constructor(picture, onselect) {
    this.picture = picture;
    this.onselect = onselect;
    this.flat = [];
    this.selected = null; // the number of a box, or { object }
    this.shown = "";
    const image = el("img", { src: picture.url, alt: picture.name, draggable: "false" });
    this.frame = el("div", { class: "frame" }, image);
    const { width, height } = picture;
    this.frame.style.aspectRatio = `${width} / ${height}`;
    this.frame.style.width = `min(100%, ${Math.max(width, 440)}px, calc(58vh * ${width / height}))`;
    this.list = el("ol", { class: "found" });
    const save = iconButton("download", "Save the picture with its boxes", () => this.save(), { class: "quiet save" });
    this.root = el("figure", { class: "boxes" }, el("div", { class: "picture" }, this.frame, save), this.list);
    this.root.addEventListener("click", (event) => {
      if (event.target === image) this.select(null);
    });
  }

  // `flat`: of flatBoxes(); `colours`: of the objects.
  update(flat, colours) {
    const shown = JSON.stringify([flat, colours]);
    if (shown === this.shown) return;
    this.shown = shown;
    this.flat = flat;
    this.colours = colours;
    this.root.classList.toggle("crowded", flat.length > MOST_SHOWN_LABELS);
    this.boxes = flat.map((one, i) => this.boxButton(one, i));
    this.entries = flat.map((one, i) => this.entry(one, i));
    for (const old of this.frame.querySelectorAll("button")) old.remove();
    this.frame.append(...this.boxes);
    this.list.replaceChildren(...this.entries.map((entry) => el("li", {}, entry)));
    this.mark();
  }

  boxButton({ object, label, box, score }, i) {
    const [x1, y1, x2, y2] = box.map((n) => n / 9.99);
    const sides = [x1 > 55 ? "right" : "", y1 < 9 ? "inside" : ""].filter(Boolean).join(" ");
    const name = label.trim() || `box ${i + 1}`;
    const chip = el("span", { class: "chip" }, el("span", { class: "name" }, name), score !== undefined && el("span", { class: "score" }, percent(score)));
    const button = el("button", { type: "button", class: `box c${this.colours[object]} ${sides}`, "aria-label": `${name}${score === undefined ? "" : `, ${percent(score)} sure`}`,
      onclick: () => this.toggle(i) }, chip);
    Object.assign(button.style, { left: `${x1}%`, top: `${y1}%`, width: `${x2 - x1}%`, height: `${y2 - y1}%` });
    // Small ones on top, or they could not be reached.
    button.style.zIndex = String(1 + Math.round(1000 - ((x2 - x1) * (y2 - y1)) / 10));
    return button;
  }

  entry({ object, label, box, score }, i) {
    const { width, height } = this.picture;
    const pixels = box.map((n, side) => Math.round((n / 999) * (side % 2 ? height : width)));
    const place = `${pixels[0]}, ${pixels[1]} – ${pixels[2]}, ${pixels[3]}`;
    return el("button", { type: "button", class: `c${this.colours[object]}`, onclick: () => this.toggle(i), title: "Corners in pixels of the picture" },
      el("span", { class: "dot" }), el("span", { class: "name" }, label.trim() || `box ${i + 1}`), el("span", { class: "place" }, place),
      score !== undefined && el("span", { class: "score", title: "How sure the model was of the digits of this box" }, percent(score)));
  }

  toggle(i) { this.select(this.selected === i ? null : i); }

  // A box, all boxes of { object }, or null.
  select(what) {
    this.selected = what;
    this.mark();
    this.onselect(what === null ? null : (what.object ?? this.flat[what].object));
  }

  isSelected(i) {
    return this.selected === i || (this.selected !== null && this.selected.object !== undefined && this.selected.object === this.flat[i].object);
  }

  mark() {
    this.root.classList.toggle("selecting", this.selected !== null);
    this.flat.forEach((_, i) => {
      const on = this.isSelected(i);
      for (const button of [this.boxes[i], this.entries[i]]) {
        button.classList.toggle("selected", on);
        button.setAttribute("aria-pressed", String(on));
      }
    });
  }

  // A file of the picture in its own size, boxes and labels drawn in.
  async save() {
    const { width, height, blob, name } = this.picture;
    const canvas = document.createElement("canvas");
    const scale = Math.max(1, Math.min(4, 900 / Math.max(width, height)));
    [canvas.width, canvas.height] = [Math.round(width * scale), Math.round(height * scale)];
    const draw = canvas.getContext("2d");
    const bitmap = await createImageBitmap(blob);
    draw.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    const unit = Math.max(canvas.width, canvas.height) / 450;
    draw.font = `600 ${7 * unit + 6}px sans-serif`;
    draw.textBaseline = "top";
    this.flat.forEach(({ label, box }, i) => {
      const [x1, y1, x2, y2] = box.map((n, side) => (n / 999) * (side % 2 ? canvas.height : canvas.width));
      draw.strokeStyle = getComputedStyle(this.boxes[i]).getPropertyValue("--box");
      draw.fillStyle = draw.strokeStyle;
      draw.lineWidth = 1.5 * unit + 0.5;
      draw.strokeRect(x1, y1, x2 - x1, y2 - y1);
      if (!label.trim()) return;
      const high = 9 * unit + 8, wide = draw.measureText(label).width + 6 * unit;
      const left = Math.max(0, Math.min(x1, canvas.width - wide)), top = y1 >= high ? y1 - high : y1;
      draw.fillRect(left, top, wide, high);
      draw.fillStyle = "#fff";
      draw.fillText(label, left + 3 * unit, top + unit + 1);
    });
    canvas.toBlob((made) => {
      const url = URL.createObjectURL(made);
      el("a", { href: url, download: `${name.replace(/\.\w+$/, "")}-boxes.png` }).click();
      setTimeout(() => URL.revokeObjectURL(url), 10_000);
    }, "image/png");
  }
}

// A label in the text of the answer, which picks its boxes.
export function labelButton(object, label, colour, onclick) {
  return el("button", { type: "button", class: `ref c${colour}`, "data-object": object, onclick: () => onclick(object) }, label.trim() || icon("frame"));
}
