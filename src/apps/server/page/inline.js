// The inside of a paragraph: emphasis, code, links, formulas, labels of located things. Text nodes for everything else,
// tags of HTML included.
import { el } from "./dom.js";
import { MARK, MARK_END } from "./grounding.js";
import { renderMath } from "./math.js";

const MOST_DEPTH = 6, LONGEST_LINK = 2000;
const PUNCTUATION = /[!-/:-@[-`{-~]/;
const SPECIAL = /[\\`*_~$[!<\nh\uE000]/;
const isSpace = (c) => c === undefined || /\s/.test(c);
const isWord = (c) => c !== undefined && /[\p{L}\p{N}_]/u.test(c);

export function mathNode(source, display, original) {
  return renderMath(source, display) ?? el("code", { class: "tex", title: "A formula that is not understood, as it was written" }, original);
}

// Only what leads to a page: no javascript:, no data:.
function safeUrl(text) {
  try {
    const url = new URL(text);
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

const link = (href, ...children) => el("a", { href, target: "_blank", rel: "noopener noreferrer nofollow" }, ...children);

class Inline {
  constructor(text, atom, depth) {
    this.text = text;
    this.atom = atom;
    this.depth = depth;
    this.nodes = [];
    this.plain = "";
    this.absent = new Set(); // closers that were looked for and are nowhere behind
  }

  push(node) {
    if (this.plain) this.nodes.push(document.createTextNode(this.plain));
    this.plain = "";
    if (node) this.nodes.push(node);
  }

  inner(text) { return renderInline(text, this.atom, this.depth + 1); }

  find(closer, from, accepts = () => true) {
    if (this.absent.has(closer)) return -1;
    for (let at = this.text.indexOf(closer, from); at >= 0; at = this.text.indexOf(closer, at + 1)) if (accepts(at)) return at;
    this.absent.add(closer);
    return -1;
  }

  run() {
    let i = 0;
    while (i < this.text.length) {
      const step = SPECIAL.test(this.text[i]) ? this.special(i) : 0;
      if (step > 0) {
        i += step;
        continue;
      }
      this.plain += this.text[i++];
    }
    this.push(null);
    return this.nodes;
  }

  // How many characters were taken; 0: this is plain text.
  special(i) {
    const { text } = this;
    switch (text[i]) {
      case "\\": return this.escape(i);
      case "`": return this.code(i);
      case "$": return this.dollars(i);
      case "*": case "_": return this.emphasis(i);
      case "~": return text.startsWith("~~", i) ? this.around(i, "~~", "del") : 0;
      case "[": return this.link(i);
      case "!": return text[i + 1] === "[" ? this.picture(i) : 0;
      case "<": return this.lineBreakTag(i);
      case "h": return this.bareUrl(i);
      case "\n":
        this.plain = this.plain.replace(/ +$/, "");
        this.push(el("br"));
        return 1;
      case MARK: {
        const end = this.find(MARK_END, i);
        if (end < 0) return 0;
        this.push(this.atom(Number(text.slice(i + 1, end))));
        return end + 1 - i;
      }
      default: return 0;
    }
  }

  escape(i) {
    const next = this.text[i + 1];
    if (next === "(" || next === "[") {
      const closer = next === "(" ? "\\)" : "\\]";
      const end = this.find(closer, i + 2);
      if (end > 0) return this.formula(i, end, 2, next === "[");
    }
    if (next === "\n") {
      this.push(el("br"));
      return 2;
    }
    if (next === undefined || !PUNCTUATION.test(next)) return 0;
    this.plain += next;
    return 2;
  }

  formula(i, end, fence, display) {
    const original = this.text.slice(i, end + fence);
    this.push(mathNode(this.text.slice(i + fence, end), display, original));
    return original.length;
  }

  dollars(i) {
    const { text } = this;
    if (text[i + 1] === "$") {
      const end = this.find("$$", i + 2);
      return end > i + 2 ? this.formula(i, end, 2, true) : 0;
    }
    if (isSpace(text[i + 1])) return 0;
    // Prices are no formulas: "$5 and $6" has a space before the second one, or a digit behind it.
    const end = this.find("$", i + 1, (at) => at > i + 1 && !isSpace(text[at - 1]) && text[at - 1] !== "\\" && !/\d/.test(text[at + 1] ?? ""));
    return end > 0 && !text.slice(i, end).includes("\n\n") ? this.formula(i, end, 1, false) : 0;
  }

  code(i) {
    const fence = /^`+/.exec(this.text.slice(i, i + 40))[0];
    const end = this.find(fence, i + fence.length, (at) => this.text[at - 1] !== "`" && this.text[at + fence.length] !== "`");
    if (end < 0) {
      this.plain += fence;
      return fence.length;
    }
    this.push(el("code", {}, this.text.slice(i + fence.length, end).replace(/^ (.+) $/s, "$1")));
    return end + fence.length - i;
  }

  emphasis(i) {
    const c = this.text[i], twice = this.text[i + 1] === c;
    if (c === "_" && isWord(this.text[i - 1])) return 0;
    if (twice) {
      const step = this.around(i, c + c, "strong");
      if (step > 0) return step;
      this.plain += c + c;
      return 2;
    }
    return this.around(i, c, "em");
  }

  around(i, fence, tag) {
    const { text } = this, from = i + fence.length;
    if (this.depth >= MOST_DEPTH || isSpace(text[from])) return 0;
    const single = fence.length === 1;
    const end = this.find(fence, from + 1, (at) => !isSpace(text[at - 1]) && (!single || (text[at - 1] !== fence && text[at + 1] !== fence)) &&
      (fence[0] !== "_" || !isWord(text[at + fence.length])));
    if (end <= from) return 0;
    this.push(el(tag, {}, ...this.inner(text.slice(from, end))));
    return end + fence.length - i;
  }

  // [label](url "title")
  parts(i) {
    const near = this.text.slice(i, i + LONGEST_LINK);
    return /^\[((?:[^[\]\\\n]|\\.)*)\]\(\s*<?([^\s()<>]*(?:\([^\s()<>]*\)[^\s()<>]*)*)>?(?:\s+"[^"\n]*")?\s*\)/.exec(near);
  }

  link(i) {
    const found = this.depth < MOST_DEPTH ? this.parts(i) : null;
    const href = found && safeUrl(found[2]);
    if (!href) return 0;
    this.push(link(href, ...this.inner(found[1])));
    return found[0].length;
  }

  // Pictures of other places are not loaded: that would tell them who reads this.
  picture(i) {
    const found = this.parts(i + 1);
    const href = found && safeUrl(found[2]);
    if (!href) return 0;
    this.push(link(href, found[1] || found[2]));
    return found[0].length + 1;
  }

  lineBreakTag(i) {
    const found = /^<br\s?\/?>/i.exec(this.text.slice(i, i + 7));
    if (!found) return 0;
    this.push(el("br"));
    return found[0].length;
  }

  bareUrl(i) {
    if (isWord(this.text[i - 1])) return 0;
    const found = /^https?:\/\/[^\s<>"'\uE000]+[^\s<>"'.,;:!?)\]*_\uE000]/.exec(this.text.slice(i, i + LONGEST_LINK));
    const href = found && safeUrl(found[0]);
    if (!href) return 0;
    this.push(link(href, found[0]));
    return found[0].length;
  }
}

// Nodes. `atom(i)`: the node for label i of the text.
export function renderInline(text, atom, depth = 0) {
  return new Inline(text, atom, depth).run();
}
