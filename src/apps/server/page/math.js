// LaTeX formulas to MathML: fractions, scripts, roots, Greek, sums, matrices, what answers about pictures hold.
//
// A formula with anything unknown in it is shown as its source, whole: half a formula would be another one.
import { ACCENTS, BIG, FUNCTIONS, INTEGRALS, LETTERS, OPERATORS, SPACES, STYLES, UNDER_ACCENTS, WITH_BOUNDS, styled } from "./math_symbols.js";

const MATHML = "http://www.w3.org/1998/Math/MathML";
const MOST_DEPTH = 40, MOST_CHARACTERS = 4000;

function m(tag, attributes = {}, ...children) {
  const node = document.createElementNS(MATHML, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const row = (nodes) => (nodes.length === 1 ? nodes[0] : m("mrow", {}, ...nodes));
const operator = (text, attributes = {}) => m("mo", attributes, text);
const space = (width) => m("mspace", { width });

function tokens(source) {
  const found = source.match(/\\(?:[A-Za-z]+\*?|[\s\S])|[0-9]+(?:[.,][0-9]+)*|\s+|[\s\S]/gu) ?? [];
  return found.filter((token) => !/^\s+$/.test(token));
}

// Braces of \text{...} and names of environments: their characters are no tokens of mathematics.
const FENCES = { matrix: ["", ""], smallmatrix: ["", ""], pmatrix: ["(", ")"], bmatrix: ["[", "]"], Bmatrix: ["{", "}"],
  vmatrix: ["|", "|"], Vmatrix: ["‖", "‖"], cases: ["{", ""], array: ["", ""], aligned: ["", ""], align: ["", ""], split: ["", ""],
  gathered: ["", ""], gather: ["", ""], equation: ["", ""], eqnarray: ["", ""], alignedat: ["", ""] };
const ALIGNED = new Set(["aligned", "align", "split", "eqnarray", "alignedat"]);

class Parser {
  constructor(source, display) {
    // Texts keep their spaces, so they are taken out before the split, in order.
    this.texts = [];
    const kept = source.replace(/\\(?:text|textrm|textnormal|mbox|textit|textbf)\s*\{([^{}]*)\}/g, (_, text) => {
      this.texts.push(text);
      return "\uE002";
    });
    this.tokens = tokens(kept);
    this.at = 0;
    this.depth = 0;
    this.display = display;
  }

  peek() { return this.tokens[this.at]; }
  next() { return this.tokens[this.at++]; }
  take(token) {
    if (this.peek() !== token) return false;
    this.at++;
    return true;
  }
  expect(token) {
    if (!this.take(token)) throw new Error(`expected ${token}`);
  }
  done() { return this.at >= this.tokens.length; }

  // Up to, and not with, one of the ends.
  list(...ends) {
    if (++this.depth > MOST_DEPTH) throw new Error("too deep");
    const nodes = [];
    while (!this.done() && !ends.includes(this.peek())) {
      const node = this.scripted();
      if (node) nodes.push(node);
    }
    this.depth--;
    return nodes;
  }

  group() {
    if (!this.take("{")) {
      const node = this.atom();
      if (!node) throw new Error("an argument is missing");
      return node;
    }
    const nodes = this.list("}");
    this.expect("}");
    return nodes.length === 1 ? nodes[0] : m("mrow", {}, ...nodes);
  }

  raw() {
    this.expect("{");
    let text = "";
    while (!this.done() && this.peek() !== "}") text += this.peek() === "\uE002" ? (this.next(), this.texts.shift()) : this.next();
    this.expect("}");
    return text;
  }

  scripted() {
    const bare = this.peek() === "^" || this.peek() === "_";
    const base = bare ? m("mrow") : this.atom();
    if (!base) return null;
    let sub = null, sup = null, primes = "";
    let above = base.bounds && this.display;
    while (true) {
      if (this.take("\\limits")) above = true;
      else if (this.take("\\nolimits")) above = false;
      else if (this.take("'")) primes += "′";
      else if (!sub && this.take("_")) sub = this.group();
      else if (!sup && this.take("^")) sup = this.group();
      else break;
    }
    if (primes) sup = sup ? m("mrow", {}, operator(primes), sup) : operator(primes);
    if (!sub && !sup) return base;
    const [both, under, over] = above ? ["munderover", "munder", "mover"] : ["msubsup", "msub", "msup"];
    if (sub && sup) return m(both, {}, base, sub, sup);
    return sub ? m(under, {}, base, sub) : m(over, {}, base, sup);
  }

  atom() {
    const token = this.next();
    if (token === undefined) throw new Error("it ends too early");
    if (token === "{") {
      this.at--;
      return this.group();
    }
    if (token === "}" || token === "&" || token === "^" || token === "_") throw new Error(`${token} is out of place`);
    if (token === "\uE002") return m("mtext", {}, this.texts.shift().replaceAll(" ", "\u00A0"));
    if (token === "~") return space(SPACES.get("~"));
    if (token.length > 1 && token[0] === "\\") return this.command(token.slice(1));
    if (/^[0-9]/.test(token)) return m("mn", {}, token);
    if (/^\p{L}/u.test(token)) return m("mi", {}, token);
    if (token === "-") return operator("−");
    if (token === "|") return operator("|", { stretchy: "false" });
    if ("()[]".includes(token)) return operator(token, { stretchy: "false" });
    if (token === "*") return operator("∗");
    return operator(token);
  }

  command(name) {
    if (LETTERS.has(name)) return m("mi", /^[A-Z]/.test(name) ? { mathvariant: "normal" } : {}, LETTERS.get(name));
    if (OPERATORS.has(name)) return operator(OPERATORS.get(name), /vert|^\||floor|ceil|angle|[{}]/i.test(name) ? { stretchy: "false" } : {});
    if (BIG.has(name)) return this.bounded(operator(BIG.get(name), this.display ? { largeop: "true", movablelimits: "false" } : {}));
    if (INTEGRALS.has(name)) return operator(INTEGRALS.get(name), this.display ? { largeop: "true" } : {});
    if (FUNCTIONS.has(name)) return this.named(name);
    if (SPACES.has(name)) return space(SPACES.get(name));
    if (ACCENTS.has(name)) return m("mover", { accent: "true" }, this.group(), operator(ACCENTS.get(name), { stretchy: String(/wide|over/.test(name)) }));
    if (UNDER_ACCENTS.has(name)) return this.bounded(m("munder", {}, this.group(), operator(UNDER_ACCENTS.get(name), { stretchy: "true" })));
    if (STYLES.has(name)) return this.restyled(this.group(), STYLES.get(name));
    if (/^[Bb]igg?[lrm]?$/.test(name)) return operator(this.delimiter(), { stretchy: "true", minsize: name.length > 3 && name.includes("gg") ? "2em" : "1.4em" });
    switch (name) {
      case "frac": case "dfrac": case "tfrac": case "cfrac": return m("mfrac", {}, this.group(), this.group());
      case "binom": return m("mrow", {}, operator("("), m("mfrac", { linethickness: "0" }, this.group(), this.group()), operator(")"));
      case "sqrt": return this.root();
      case "mathrm": case "rm": case "mathit": case "mathnormal": return this.upright(this.group());
      case "operatorname": case "operatorname*": return this.named(this.raw());
      case "left": return this.fenced();
      case "begin": return this.environment(this.raw());
      case "overset": case "stackrel": {
        const over = this.group();
        return m("mover", {}, this.group(), over);
      }
      case "underset": {
        const under = this.group();
        return m("munder", {}, this.group(), under);
      }
      case "xrightarrow": return m("mover", {}, operator("→", { stretchy: "true" }), this.group());
      case "not": return operator({ "=": "≠", "\\in": "∉", "<": "≮", ">": "≯" }[this.next()] ?? this.unknown(name));
      case "pmod": return m("mrow", {}, space("1em"), operator("("), m("mi", {}, "mod"), space("0.3em"), this.group(), operator(")"));
      case "bmod": return operator("mod");
      case "boxed": return m("mrow", { class: "boxed" }, this.group());
      case "tag": return m("mtext", {}, `\u2003(${this.raw()})`);
      case "label": this.raw(); return null;
      case "displaystyle": case "textstyle": case "nonumber": case "notag": case "hline": case "middle": return null;
      default: return this.unknown(name);
    }
  }

  unknown(name) { throw new Error(`unknown: \\${name}`); }
  bounded(node) {
    node.bounds = true;
    return node;
  }

  named(name) {
    const shown = { limsup: "lim sup", liminf: "lim inf", argmax: "arg max", argmin: "arg min" }[name] ?? name;
    const node = m("mrow", {}, m("mi", { mathvariant: "normal" }, shown), operator("\u2061", { lspace: "0", rspace: "0.17em" }));
    if (!WITH_BOUNDS.has(name)) return node;
    return this.bounded(node);
  }

  root() {
    if (!this.take("[")) return m("msqrt", {}, this.group());
    const degree = row(this.list("]"));
    this.expect("]");
    return m("mroot", {}, this.group(), degree);
  }

  // Letters of their own make a word: \mathrm{kg}.
  upright(node) {
    const text = node.textContent;
    const word = [...node.querySelectorAll("*")].every((inner) => inner.localName === "mi") && text.length > 0;
    if (node.localName !== "mi" && !(word && node.localName === "mrow")) return node;
    return m("mi", { mathvariant: "normal" }, text);
  }

  restyled(node, style) {
    for (const one of [node, ...node.querySelectorAll("*")])
      if (["mi", "mn"].includes(one.localName)) {
        one.textContent = styled(one.textContent, style);
        one.setAttribute("mathvariant", "normal");
      }
    return node;
  }

  delimiter() {
    const token = this.next();
    if (token === undefined) throw new Error("a delimiter is missing");
    if (token === ".") return "";
    if (token[0] !== "\\") return token;
    return OPERATORS.get(token.slice(1)) ?? this.unknown(token);
  }

  fenced() {
    const open = this.delimiter();
    const inner = this.list("\\right");
    this.expect("\\right");
    return this.fence(open, inner, this.delimiter());
  }

  fence(open, inner, close) {
    const fence = (text, form) => (text ? [operator(text, { fence: "true", stretchy: "true", form })] : []);
    return m("mrow", {}, ...fence(open, "prefix"), ...inner, ...fence(close, "postfix"));
  }

  environment(name) {
    const kind = name.replace("*", "");
    const fences = FENCES[kind];
    if (!fences) throw new Error(`unknown environment ${name}`);
    let align = null;
    if (kind === "array") align = this.raw().replace(/[^lcr]/g, "");
    if (kind === "alignedat") this.raw();
    const rows = this.rows();
    this.expect("\\end");
    if (this.raw() !== name) throw new Error("environments do not match");
    return this.fence(fences[0], [this.table(rows, kind, align)], fences[1]);
  }

  rows() {
    const rows = [[]];
    while (true) {
      rows.at(-1).push(this.list("&", "\\\\", "\\end"));
      if (this.take("&")) continue;
      if (!this.take("\\\\")) return rows;
      if (this.done() || this.peek() === "\\end") return rows;
      rows.push([]);
    }
  }

  table(rows, kind, align) {
    const side = (i) => {
      if (kind === "cases") return "left";
      if (align) return { l: "left", r: "right" }[align[i]] ?? "center";
      return ALIGNED.has(kind) ? (i % 2 ? "left" : "right") : "center";
    };
    const cells = (one) => one.map((nodes, i) => m("mtd", { class: `to-${side(i)}` }, ...nodes));
    return m("mtable", { class: ALIGNED.has(kind) ? "aligned" : "matrix" }, ...rows.map((one) => m("mtr", {}, ...cells(one))));
  }

  // A formula may have rows without an environment.
  formula() {
    const rows = this.rows();
    if (!this.done()) throw new Error(`${this.peek()} is out of place`);
    if (rows.length === 1 && rows[0].length === 1) return row(rows[0][0]);
    return this.table(rows, "aligned", null);
  }
}

// A <math> element, or null for what is not understood.
export function renderMath(source, display) {
  if (source.length > MOST_CHARACTERS || source.trim() === "") return null;
  try {
    const math = m("math", display ? { display: "block" } : {}, new Parser(source, display).formula());
    math.setAttribute("aria-label", source.trim());
    return math;
  } catch {
    return null;
  }
}
