// The markup of located things, read as the server reads it (core/text/grounding):
// <|ref|>label<|/ref|><|det|>[[x1, y1, x2, y2], ...]<|/det|>, 0 to 999 of the picture's sides.
//
// The text comes from a model, possibly in the middle of a tag: nothing here throws or evaluates.

const TAGS = ["<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>", "<|grounding|>"];
const [REF, REF_END, DET, DET_END] = TAGS;
const NUMBER = /^[+-]?(?:(?:0+|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?$/;
const MOST_BOXES = 300; // drawn; more are no picture any more

// Stand around the number of an object in the text; a model cannot write them (`plain` takes them out).
export const MARK = "\uE000";
export const MARK_END = "\uE001";
const plain = (text) => text.replace(/[\uE000\uE001]/g, "\uFFFD");

function parseList(text) {
  const parts = text.slice(1, -1).split(",").map((part) => part.trim());
  if (parts.at(-1) === "") parts.pop();
  if (parts.length !== 4 || !parts.every((part) => NUMBER.test(part))) return null;
  const n = parts.map(Number);
  if (!n.every(Number.isFinite)) return null;
  const grid = (x) => Math.round(Math.min(Math.max(x, 0), 999));
  return [Math.min(n[0], n[2]), Math.min(n[1], n[3]), Math.max(n[0], n[2]), Math.max(n[1], n[3])].map(grid);
}

// Every innermost [...] with four numbers; how the lists are nested does not matter.
function boxesOf(body) {
  const boxes = [];
  let from = 0;
  for (let end = body.indexOf("]"); end >= 0; end = body.indexOf("]", from)) {
    const begin = body.lastIndexOf("[", end);
    if (begin >= from) {
      const box = parseList(body.slice(begin, end + 1));
      if (box) boxes.push(box);
    }
    from = end + 1;
  }
  return boxes;
}

// How much at the front of an unclosed list can be one.
function listLength(text) {
  if (!text.trimStart().startsWith("[")) return 0;
  const end = text.search(/[^[\]0-9+\-.eE, \t\r\n]/);
  return end < 0 ? text.length : text.lastIndexOf("]", end) + 1;
}

function cutTag(text) {
  for (let at = text.indexOf("<|"); at >= 0; at = text.indexOf("<|", at + 1)) {
    const tag = TAGS.find((one) => text.startsWith(one, at));
    if (tag) return [text.slice(0, at), tag, text.slice(at + tag.length)];
  }
  return [text, null, ""];
}

// What may be the beginning of a tag whose rest has not arrived.
function withoutPartialTag(text) {
  const at = text.lastIndexOf("<");
  return at >= 0 && TAGS.some((tag) => tag !== text.slice(at) && tag.startsWith(text.slice(at))) ? text.slice(0, at) : text;
}

// -> { text, objects: [{ label, boxes: [[x1, y1, x2, y2], ...] }] }. In the text, MARK i MARK_END stands for the label of
// object i; labels without a box are text.
export function parseGrounding(answer, { streaming = false } = {}) {
  let rest = plain(streaming ? withoutPartialTag(answer) : answer);
  const pieces = []; // texts, and objects in place of their labels
  let current = null, before = null, tag = null, boxes = 0;
  const addObject = (label) => {
    current = { label, boxes: [] };
    pieces.push(current);
  };
  const addBoxes = (body) => {
    if (!current) addObject("");
    const found = boxesOf(body).slice(0, MOST_BOXES - boxes);
    boxes += found.length;
    current.boxes.push(...found);
  };
  do {
    let piece;
    [piece, tag, rest] = cutTag(rest);
    if (before === REF && (tag === REF_END || tag === DET)) {
      addObject(piece);
    } else if (before === DET && tag === DET_END) {
      addBoxes(piece);
    } else if (before === DET) {
      const list = listLength(piece);
      addBoxes(piece.slice(0, list));
      pieces.push(piece.slice(list));
    } else if (before !== REF_END || tag !== DET || piece.trim() !== "") {
      pieces.push(piece);
    }
    before = tag;
  } while (tag !== null);
  const objects = pieces.filter((piece) => typeof piece === "object" && piece.boxes.length > 0);
  const text = pieces.map((piece) => {
    if (typeof piece === "string") return piece;
    const at = objects.indexOf(piece);
    return at < 0 ? piece.label : MARK + at + MARK_END;
  }).join("");
  return { text, objects };
}

// The boxes one by one, with the scores of the server's reply where it has come. `grounding`: choices[].grounding.
export function flatBoxes(objects, grounding) {
  const flat = objects.flatMap((object, i) => object.boxes.map((box) => ({ object: i, label: object.label, box })));
  const same = grounding?.length === flat.length && flat.every((one, i) => String(one.box) === String(grounding[i].box_norm));
  if (same) flat.forEach((one, i) => { one.score = grounding[i].score; });
  return flat;
}

export function withMode(text, mode) {
  if (mode === "locate" && !text.includes(REF)) return `${REF}${text}${REF_END}`;
  if (mode === "ground" && !text.includes(TAGS[4])) return TAGS[4] + text;
  return text;
}
