// Markdown to DOM nodes: headings, lists, tables, quotes, code, formulas. Built node by node, so whatever a model writes
// is text.
import { el } from "./dom.js";
import { mathNode, renderInline } from "./inline.js";

const MOST_DEPTH = 8, MOST_COLUMNS = 60;
const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^\s`]*)[^`]*$/;
const HEADING = /^ {0,3}(#{1,6})\s+(\S.*)$/;
const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const ITEM = /^( {0,3})([-*+•]|\d{1,9}[.)])(?:\s+(.*)|$)/;
const QUOTE = /^ {0,3}> ?/;
const DELIMITERS = /^\s*\|?(?:\s*:?-+:?\s*\|)+(?:\s*:?-+:?\s*)?$|^\s*\|\s*:?-+:?\s*$/;
const FORMULA = [["$$", "$$"], ["\\[", "\\]"]];

const blank = (line) => line.trim() === "";

// Cells of a row; \| is no border.
function cellsOf(line) {
  const cells = line.trim().replace(/^\|/, "").replace(/((?:^|[^\\])(?:\\\\)*)\|$/, "$1").split(/(?<!\\)\|/);
  return cells.slice(0, MOST_COLUMNS).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

function startsTable(lines, i) {
  return lines[i].includes("|") && lines[i + 1] !== undefined && lines[i + 1].length < 2000 && DELIMITERS.test(lines[i + 1]) &&
    cellsOf(lines[i]).length === cellsOf(lines[i + 1]).length;
}

const startsBlock = (lines, i) =>
  FENCE.test(lines[i]) || HEADING.test(lines[i]) || RULE.test(lines[i]) || QUOTE.test(lines[i]) ||
  /^ {0,3}(?:[-*+•]|1[.)])\s+\S/.test(lines[i]) || startsTable(lines, i) || FORMULA.some(([open]) => lines[i].trimStart().startsWith(open));

// The end of a formula that begins on line i, or -1.
function formulaEnd(lines, i) {
  const text = lines[i].trim();
  const fence = FORMULA.find(([open]) => text.startsWith(open));
  if (!fence) return -1;
  if (text.length > 3 && text.endsWith(fence[1])) return i + 1;
  if (text.indexOf(fence[1], 2) >= 0) return -1; // something follows: a paragraph's business
  for (let j = i + 1; j < lines.length && !blank(lines[j]); ++j) if (lines[j].trim().endsWith(fence[1])) return j + 1;
  return -1;
}

function listEnd(lines, i) {
  const ordered = /\d/.test(ITEM.exec(lines[i])[2]);
  let j = i + 1;
  for (; j < lines.length; ++j) {
    if (blank(lines[j])) {
      const next = lines[j + 1];
      if (next === undefined || !(/^\s{2,}\S/.test(next) || (ITEM.test(next) && /\d/.test(ITEM.exec(next)[2]) === ordered))) break;
      continue;
    }
    const item = ITEM.exec(lines[j]);
    if (item && /\d/.test(item[2]) !== ordered) break;
    if (!item && !/^\s/.test(lines[j]) && (blank(lines[j - 1]) || startsBlock(lines, j))) break;
  }
  return j;
}

// [{ kind, lines }] of the text, in order.
function split(lines) {
  const blocks = [];
  for (let i = 0; i < lines.length;) {
    if (blank(lines[i])) {
      i++;
      continue;
    }
    let kind = "paragraph", end = i + 1;
    const fence = FENCE.exec(lines[i]);
    if (fence) {
      kind = "code";
      while (end < lines.length && !lines[end].trim().startsWith(fence[1])) end++;
      end = Math.min(end + 1, lines.length);
    } else if (formulaEnd(lines, i) > 0) {
      kind = "formula";
      end = formulaEnd(lines, i);
    } else if (HEADING.test(lines[i])) {
      kind = "heading";
    } else if (RULE.test(lines[i])) {
      kind = "rule";
    } else if (QUOTE.test(lines[i])) {
      kind = "quote";
      while (end < lines.length && QUOTE.test(lines[end])) end++;
    } else if (ITEM.test(lines[i])) {
      kind = "list";
      end = listEnd(lines, i);
    } else if (startsTable(lines, i)) {
      kind = "table";
      end = i + 2;
      while (end < lines.length && !blank(lines[end]) && lines[end].includes("|")) end++;
    } else {
      while (end < lines.length && !blank(lines[end]) && !startsBlock(lines, end)) end++;
    }
    blocks.push({ kind, lines: lines.slice(i, end) });
    i = end;
  }
  return blocks;
}

function renderList(lines, atom, depth) {
  const first = ITEM.exec(lines[0]);
  const ordered = /\d/.test(first[2]);
  const items = [];
  for (const line of lines) {
    const item = ITEM.exec(line);
    if (item && item[1].length < first[1].length + 2) items.push({ indent: item[1].length + item[2].length + 1, lines: [item[3] ?? ""] });
    else items.at(-1)?.lines.push(line.replace(new RegExp(`^\\s{0,${items.at(-1).indent}}`), ""));
  }
  const start = ordered ? Number.parseInt(first[2], 10) : 1;
  const list = el(ordered ? "ol" : "ul", start !== 1 ? { start } : {});
  for (const item of items) {
    const task = /^\[([ xX])\]\s+/.exec(item.lines[0]);
    if (task) item.lines[0] = (task[1] === " " ? "☐ " : "☑ ") + item.lines[0].slice(task[0].length);
    const nodes = renderBlocks(item.lines, atom, depth + 1);
    // One paragraph in an item is its text.
    const leading = nodes[0]?.localName === "p" ? [...nodes[0].childNodes] : nodes.slice(0, 1);
    list.append(el("li", {}, ...leading, ...nodes.slice(1)));
  }
  return list;
}

function renderTable(lines, atom) {
  const align = cellsOf(lines[1]).map((cell) => (cell.endsWith(":") ? (cell.startsWith(":") ? "center" : "right") : "left"));
  const row = (line, tag) => {
    const cells = cellsOf(line);
    return el("tr", {}, ...align.map((side, i) => el(tag, { class: `to-${side}` }, ...renderInline(cells[i] ?? "", atom))));
  };
  const table = el("table", {}, el("thead", {}, row(lines[0], "th")), el("tbody", {}, ...lines.slice(2).map((line) => row(line, "td"))));
  return el("div", { class: "scroll", tabindex: "0" }, table);
}

function renderCode(lines) {
  const fence = FENCE.exec(lines[0]);
  const closed = lines.length > 1 && lines.at(-1).trim().startsWith(fence[1]);
  const code = el("code", {}, lines.slice(1, closed ? -1 : undefined).join("\n"));
  return el("pre", { tabindex: "0", "data-language": fence[2].slice(0, 20) || null }, code);
}

function render({ kind, lines }, atom, depth) {
  const text = lines.join("\n");
  switch (kind) {
    case "code": return renderCode(lines);
    case "formula": return el("div", { class: "formula scroll" }, mathNode(text.trim().slice(2, -2), true, text));
    case "heading": {
      const [, marks, title] = HEADING.exec(lines[0]);
      return el(`h${Math.min(marks.length + 2, 6)}`, {}, ...renderInline(title.replace(/ #+ *$/, ""), atom)); // the page has h1 and h2 itself
    }
    case "rule": return el("hr");
    case "quote": return el("blockquote", {}, ...renderBlocks(lines.map((line) => line.replace(QUOTE, "")), atom, depth + 1));
    case "list": return renderList(lines, atom, depth);
    case "table": return renderTable(lines, atom);
    default: return el("p", {}, ...renderInline(lines.map((line) => line.trimStart()).join("\n"), atom));
  }
}

function renderBlocks(lines, atom, depth) {
  if (depth > MOST_DEPTH) return [el("p", {}, lines.join("\n"))];
  return split(lines).map((block) => render(block, atom, depth));
}

export function renderMarkdown(text, atom = () => null) {
  return renderBlocks(text.replace(/\r\n?/g, "\n").replaceAll("\t", "    ").split("\n"), atom, 0);
}

// A text that grows: blocks that have not changed stay the nodes they are, with what is selected in them.
export class GrowingMarkdown {
  constructor(root) {
    this.root = root;
    this.blocks = [];
  }

  update(text, atom) {
    const blocks = split(text.replace(/\r\n?/g, "\n").replaceAll("\t", "    ").split("\n"));
    const keys = blocks.map((block) => `${block.kind}\n${block.lines.join("\n")}`);
    let same = 0;
    while (same < keys.length && keys[same] === this.blocks[same]) same++;
    while (this.root.children.length > same) this.root.lastElementChild.remove();
    for (const block of blocks.slice(same)) this.root.append(render(block, atom, 0));
    this.blocks = keys;
  }
}
