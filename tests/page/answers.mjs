// What answers look like: Markdown, tables, formulas, the examples of an empty page.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { answer, ask, examples, mockAnswer, open } from "./harness.mjs";

// The HTML of a Markdown text, rendered by the page's own module.
const rendered = (page, text) => page.evaluate(async (markdown) => {
  const { renderMarkdown } = await import("/page/markdown.js");
  const root = document.createElement("div");
  root.append(...renderMarkdown(markdown));
  return root.innerHTML;
}, text);

const mathOf = (page, source, display = false) => page.evaluate(async ([tex, block]) => {
  const { renderMath } = await import("/page/math.js");
  const node = renderMath(tex, block);
  node?.removeAttribute("aria-label");
  return node && node.innerHTML.replaceAll(' xmlns="http://www.w3.org/1998/Math/MathML"', "");
}, [source, display]);

const MARKDOWN = [
  ["# A *title* #", "<h3>A <em>title</em></h3>"],
  ["one\ntwo", "<p>one<br>two</p>"],
  ["a **b _c_** ~~d~~ `e*f*`", "<p>a <strong>b <em>c</em></strong> <del>d</del> <code>e*f*</code></p>"],
  ["snake_case_name and 2 * 3 * 4", "<p>snake_case_name and 2 * 3 * 4</p>"],
  ["\\*plain\\*", "<p>*plain*</p>"],
  ["- a\n- b\n  - c\n\n1. x\n2. y", "<ul><li>a</li><li>b<ul><li>c</li></ul></li></ul><ol><li>x</li><li>y</li></ol>"],
  ["3. c\n4. d", '<ol start="3"><li>c</li><li>d</li></ol>'],
  ["- [x] done", "<ul><li>☑ done</li></ul>"],
  ["> quoted\n> - too", "<blockquote><p>quoted</p><ul><li>too</li></ul></blockquote>"],
  ["---", "<hr>"],
  ["```c\nint x < 3;\n```\nafter", '<pre tabindex="0" data-language="c"><code>int x &lt; 3;</code></pre><p>after</p>'],
  ["```\nnot closed", '<pre tabindex="0"><code>not closed</code></pre>'],
  ["| a | b |\n|---|--:|\n| 1 | 2 |\n| 3 |", '<div class="scroll" tabindex="0"><table><thead><tr><th class="to-left">a</th><th class="to-right">b</th></tr></thead><tbody>' +
    '<tr><td class="to-left">1</td><td class="to-right">2</td></tr><tr><td class="to-left">3</td><td class="to-right"></td></tr></tbody></table></div>'],
  ["a | b, no table", "<p>a | b, no table</p>"],
  ["[x](https://example.org/a_(b))", '<p><a href="https://example.org/a_(b)" target="_blank" rel="noopener noreferrer nofollow">x</a></p>'],
  ["see https://example.org/x.", '<p>see <a href="https://example.org/x" target="_blank" rel="noopener noreferrer nofollow">https://example.org/x</a>.</p>'],
  ["$5 and $6, or $ 7 $", "<p>$5 and $6, or $ 7 $</p>"],
  ["a<br>b <i>c</i>", "<p>a<br>b &lt;i&gt;c&lt;/i&gt;</p>"],
];

const FORMULAS = [
  ["x^2", "<msup><mi>x</mi><mn>2</mn></msup>"],
  ["a_{ij}^{n-1}", "<msubsup><mi>a</mi><mrow><mi>i</mi><mi>j</mi></mrow><mrow><mi>n</mi><mo>−</mo><mn>1</mn></mrow></msubsup>"],
  ["\\frac{1}{2}", "<mfrac><mn>1</mn><mn>2</mn></mfrac>"],
  ["\\sqrt[3]{x}", "<mroot><mi>x</mi><mn>3</mn></mroot>"],
  ["\\alpha\\le\\Omega", '<mrow><mi>α</mi><mo>≤</mo><mi mathvariant="normal">Ω</mi></mrow>'],
  ["f'", "<msup><mi>f</mi><mo>′</mo></msup>"],
  ["\\mathbb{R}", '<mi mathvariant="normal">ℝ</mi>'],
  ["\\text{if } x", "<mrow><mtext>if\u00A0</mtext><mi>x</mi></mrow>".replace("\u00A0", "&nbsp;")],
  ["\\mathrm{kg}", '<mi mathvariant="normal">kg</mi>'],
];

export const tests = [
  { name: "Markdown becomes nodes", async body(page, t) {
    await open(page, t.open);
    for (const [source, html] of MARKDOWN) assert.equal(await rendered(page, source), html, source);
  } },

  { name: "formulas become MathML, what is unknown stays as it was written", async body(page, t) {
    await open(page, t.open);
    for (const [source, html] of FORMULAS) assert.equal(await mathOf(page, source), html, source);
    assert.match(await mathOf(page, "\\sum_{i=1}^{n} i", true), /^<mrow><munderover><mo [^>]*>∑<\/mo>/);
    assert.match(await mathOf(page, "\\sum_{i=1}^{n} i", false), /^<mrow><msubsup><mo>∑<\/mo>/);
    assert.match(await mathOf(page, "\\begin{pmatrix} a & b \\\\ c & d \\end{pmatrix}"), /^<mrow><mo [^>]*>\(<\/mo><mtable class="matrix">(<mtr>(<mtd [^>]*><mi>.<\/mi><\/mtd>){2}<\/mtr>){2}<\/mtable><mo/);
    assert.match(await mathOf(page, "f(x) = \\begin{cases} 1 & x > 0 \\\\ 0 & \\text{else} \\end{cases}"), /<mo [^>]*>{<\/mo>.*<mtext>else<\/mtext>/);
    assert.match(await mathOf(page, "\\left( \\frac{a}{b} \\right)^2"), /^<msup><mrow><mo .*<mfrac>/);
    assert.match(await mathOf(page, "\\begin{aligned} x &= 1 \\\\ y &= 2 \\end{aligned}", true), /<mtable class="aligned">/);
    for (const bad of ["\\unknown{x}", "x^", "\\frac{1}", "{x", "x}", "\\begin{evil}\\end{evil}", "\\left( x", "a & b \\end", "{".repeat(500), "\\sqrt".repeat(3000)])
      assert.equal(await mathOf(page, bad), null, bad);
    assert.equal(await rendered(page, "see $\\unknown{x}$."), '<p>see <code class="tex" title="A formula that is not understood, as it was written">$\\unknown{x}$</code>.</p>');
    assert.match(await rendered(page, "$$\nx = 1\n$$"), /^<div class="formula scroll"><math /);
    assert.match(await rendered(page, "so \\(x\\) and \\[y\\]"), /^<p>so <math [^>]*><mi>x<\/mi><\/math> and <math display="block"/);
  } },

  { name: "an answer with everything in it", async body(page, t) {
    await mockAnswer(page, ["## What the receipt says", "", "The **total** is the sum of the items:", "", "$$\\text{total} = \\sum_{i=1}^{3} n_i\\,p_i = 13.20$$", "",
      "| item | number | price |", "|:--|--:|--:|", "| coffee | 2 | 3.10 |", "| cake | 1 | 4.50 |", "| water | 1 | 2.50 |", "",
      "1. The tax is $\\frac{19}{119}$ of it.", "2. Paid by `card`.", "", "> Thank you for your visit.", "",
      "$$A = \\begin{pmatrix} 1 & \\alpha \\\\ 0 & \\sqrt{2} \\end{pmatrix}, \\qquad \\int_0^\\infty e^{-x^2}\\,dx = \\frac{\\sqrt{\\pi}}{2}$$"].join("\n"));
    await open(page, t.open);
    await ask(page, "Read the receipt.");
    await answer(page);
    assert.equal(await page.locator(".answer table td").count(), 9);
    assert.equal(await page.locator(".answer math").count(), 3);
    assert.equal(await page.locator(".answer .tex").count(), 0);
    await t.shot("markdown");
  } },

  { name: "long hostile texts are rendered in no time", async body(page, t) {
    await open(page, t.open);
    const took = await page.evaluate(async () => {
      const { renderMarkdown } = await import("/page/markdown.js");
      const { parseGrounding } = await import("/page/grounding.js");
      const times = {};
      for (const piece of ["*", "*a ", "**a _b ", "`", "``a ", "[", "[a](", "![", "$", "$a ", "$$", "\\(", "> ", "- ", "  - a\n", "|", "| a |\n|--|\n", "#", "# ", "#  #", "~~a ", "h", "http://",
        "https://a.b/(", "<", "<br", " ", "\n", "\\", "_a_", "1. a\n", "> > > - ", "<|ref|>", "<|det|>[[", "<|ref|>a<|/ref|><|det|>[[1,2,3,4]]<|/det|>", "[[[[", "\uE000", "\uE0001\uE001"]) {
        const text = piece.repeat(Math.ceil(12000 / piece.length));
        // The best of three: whoever shares the machine may stop any one of them.
        times[piece] = Infinity;
        for (let i = 0; i < 3 && times[piece] >= 1500; ++i) {
          const start = performance.now();
          renderMarkdown(text, () => document.createTextNode("x"));
          parseGrounding(text);
          times[piece] = Math.min(times[piece], performance.now() - start);
        }
      }
      return times;
    });
    for (const [piece, ms] of Object.entries(took)) assert.ok(ms < 1500, `${JSON.stringify(piece)}: ${ms} ms`);
  } },

  { name: "the examples of an empty page are answered as the repository says", async body(page, t) {
    await open(page, t.open);
    const table = JSON.parse(readFileSync(`${examples}examples.json`, "utf8"));
    const offered = await page.evaluate(async () => {
      const { EXAMPLES } = await import("/page/examples.js");
      const { withMode } = await import("/page/grounding.js");
      return EXAMPLES.map((one) => ({ pictures: one.pictures.map((name) => `${name}.png`), question: withMode(one.text, one.mode) }));
    });
    assert.ok(offered.length >= 4);
    assert.match(await page.locator("#welcome-model").innerText(), /^nano answers/);
    for (const [i, { pictures, question }] of offered.entries()) {
      const entry = table.find(({ images }) => String(images) === String(pictures));
      const expected = entry.qa.find((one) => one.question === question).answer;
      await page.locator(".card").nth(i).click();
      await answer(page);
      await page.click(".answer [aria-label^='Show what the model wrote']");
      // Pieces of prompts that came before change no answer, but pixels of another build's kernels may move a box by one.
      const plain = (text) => text.replace(/\d+/g, (n) => (question.includes("<|") ? "N" : n));
      assert.equal(plain(await page.locator(".answer .raw").innerText()), plain(expected));
      await page.click("#new");
    }
  } },
];
