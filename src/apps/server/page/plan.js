// How the model sees a picture: the tiles it is cut into, the padding, what that costs. Asked of the server on demand.
import { planPictures } from "./api.js";
import { count, el, plural } from "./dom.js";
import { dataUrl } from "./pictures.js";

const percentOf = (part, whole) => `${(100 * part) / whole}%`;

// The picture fitted into a frame of `size`, as the processor pads it.
function padded(picture, [width, height], [wide, high], [x, y]) {
  const image = el("img", { src: picture.url, alt: "" });
  Object.assign(image.style, { left: percentOf(x, width), top: percentOf(y, height), width: percentOf(wide, width), height: percentOf(high, height) });
  return image;
}

function tilesView(picture, plan) {
  const [columns, rows] = plan.grid;
  const view = el("div", { class: "tiles", role: "img", "aria-label": `${columns} by ${rows} tiles` }, padded(picture, plan.best_resolution, plan.resized, plan.offset));
  view.style.aspectRatio = `${columns} / ${rows}`;
  view.style.width = `min(100%, calc(46vh * ${columns / rows}))`;
  for (let i = 1; i < columns; ++i) view.append(line("column", i / columns));
  for (let i = 1; i < rows; ++i) view.append(line("row", i / rows));
  return view;
}

function line(kind, at) {
  const node = el("i", { class: kind });
  node.style[kind === "column" ? "left" : "top"] = `${100 * at}%`;
  return node;
}

function globalView(picture, plan) {
  const { width, height } = picture, tile = plan.tile_size, scale = tile / Math.max(width, height);
  const fitted = [width * scale, height * scale];
  return el("div", { class: "tiles global", role: "img", "aria-label": "global view" },
    padded(picture, [tile, tile], fitted, [(tile - fitted[0]) / 2, (tile - fitted[1]) / 2]));
}

function facts(plan, all) {
  const [columns, rows] = plan.grid;
  const many = all.images.length > 2;
  const isPadded = String(plan.resized) !== String(plan.best_resolution);
  const rowsOfFacts = [
    ["Picture", `${count(plan.size[0])} × ${count(plan.size[1])} pixels`],
    ["Resized to", `${count(plan.resized[0])} × ${count(plan.resized[1])}${isPadded ? `, padded to ${count(plan.best_resolution[0])} × ${count(plan.best_resolution[1])}` : ""}`],
    ["Local tiles", `${columns} × ${rows} of ${plan.tile_size} pixels${many ? ": with more than two pictures, each is one tile" : ""}`],
    ["Tokens", `${count(plan.tokens)}${all.images.length > 1 ? ` of ${count(all.tokens)} for all ${all.images.length} pictures` : ""}`],
  ];
  return el("dl", {}, ...rowsOfFacts.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

export class PlanDialog {
  constructor() {
    this.dialog = document.querySelector("#plan");
    this.body = this.dialog.querySelector(".body");
  }

  // `pictures`: all of the conversation, since their number decides how finely each is cut. `context`: tokens, or null.
  async open(picture, pictures, context) {
    this.dialog.querySelector("h2").textContent = picture.name;
    this.body.replaceChildren(el("p", { class: "muted" }, "Asking the server…"));
    this.dialog.showModal();
    this.last?.abort();
    this.last = new AbortController();
    const { signal } = this.last;
    try {
      const all = await planPictures(await Promise.all(pictures.map(dataUrl)), signal);
      if (signal.aborted) return;
      const plan = all.images[pictures.indexOf(picture)];
      const share = context ? ` That is ${Math.max(1, Math.round((100 * plan.tokens) / context))} % of the model's context of ${count(context)}.` : "";
      this.body.replaceChildren(
        el("div", { class: "views" },
          el("figure", {}, tilesView(picture, plan), el("figcaption", {}, `${plural(plan.tiles - 1, "local tile")}, for what is small`)),
          el("figure", { class: "small" }, globalView(picture, plan), el("figcaption", {}, "global view, for the whole"))),
        facts(plan, all),
        el("p", { class: "muted" }, `The vision encoder sees ${plural(plan.tiles, "image")} and turns them into ${plural(plan.tokens, "token")}.${share}`));
    } catch (error) {
      if (error.name !== "AbortError") this.body.replaceChildren(el("p", { class: "problem", role: "alert" }, error.message));
    }
  }
}
