// Whatever a model writes is text: nothing of it is run, loaded or followed by itself.
import assert from "node:assert/strict";
import { answer, ask, attach, mockAnswer, open } from "./harness.mjs";

const SCRIPT = "<img src=x onerror=\"window.hacked=1\"><script>window.hacked=1</script><svg onload=window.hacked=1><iframe srcdoc='<script>parent.hacked=1</script>'>";
const OUTPUTS = [
  SCRIPT,
  `# ${SCRIPT}\n\n- ${SCRIPT}\n\n> ${SCRIPT}\n\n| ${SCRIPT} | b |\n|---|---|\n| ${SCRIPT} | c |`,
  `\`\`\`${SCRIPT}\n${SCRIPT}\n\`\`\``,
  `$\\text{${SCRIPT}}$ $$\\href{javascript:window.hacked=1}{x}$$ \\(${SCRIPT}\\)`,
  "[click](javascript:window.hacked=1) [data](data:text/html,<script>parent.hacked=1</script>) [v](vbscript:x) <javascript:window.hacked=1>",
  "![x](https://example.org/track.png) ![y](javascript:window.hacked=1) ![z](//example.org/a.png)",
  `<|ref|>${SCRIPT}<|/ref|><|det|>[[0, 0, 500, 500]]<|/det|>`,
  "<|ref|>\" onclick=\"window.hacked=1<|/ref|><|det|>[[1, 1, 9, 9], [1e999, 2, 3, 4], [\"a\", 2, 3, 4], [9999, -5, 3, 4]]<|/det|>",
  "<|ref|>a<|/ref|><|det|>[[__import__('os').system('x'), 0, 1, 2]]<|/det|> \uE0000\uE001 \uE00099\uE001",
  "x".repeat(30_000),
  "\u202Egnp.exe\u202C \u0000 \uFFFF \uD800",
];

export const tests = [
  { name: "hostile answers and labels are text", async body(page, t) {
    const outside = [];
    page.on("request", (request) => {
      const url = new URL(request.url());
      if (!["blob:", "data:"].includes(url.protocol) && url.origin !== new URL(t.open).origin) outside.push(request.url());
    });
    await open(page, t.open);
    for (const text of OUTPUTS) {
      const label = /<\|ref\|>(.*?)<\|\/ref\|>/s.exec(text)?.[1] ?? SCRIPT;
      await mockAnswer(page, text, { grounding: [{ label, image_index: 0, box_norm: [0, 0, 500, 500], score: "<b>" }] });
      await attach(page, "7-three-in-a-row");
      await ask(page, SCRIPT, "ask");
      await answer(page);
      await page.waitForTimeout(30);
      assert.equal(await page.evaluate(() => window.hacked), undefined, text.slice(0, 80));
      const found = await page.locator("#log :is(script, iframe, object, embed, link, style, form, [onclick], [onerror], [onload])").count();
      assert.equal(found, 0, text.slice(0, 80));
      for (const href of await page.locator("#log a").evaluateAll((links) => links.map((one) => one.protocol))) assert.match(href, /^(https?|mailto):$/);
      for (const source of await page.locator("#log img").evaluateAll((images) => images.map((one) => one.src))) assert.match(source, /^blob:/);
      await page.click("#new");
      await page.unroute("**/v1/chat/completions");
    }
    assert.deepEqual(outside, [], "nothing was asked of other machines");
  } },

  { name: "boxes that make no sense are left out or bounded", async body(page, t) {
    await mockAnswer(page, OUTPUTS[7]);
    await open(page, t.open);
    await attach(page, "7-three-in-a-row");
    await ask(page, "x");
    await answer(page);
    const boxes = await page.locator(".box").evaluateAll((nodes) => nodes.map((node) => ["left", "top", "width", "height"].map((side) => Number.parseFloat(node.style[side]))));
    assert.equal(boxes.length, 2);
    for (const [left, top, width, height] of boxes) assert.ok(left >= 0 && top >= 0 && left + width <= 100.01 && top + height <= 100.01);
  } },

  { name: "the markup is read as the server reads it", async body(page, t) {
    await open(page, t.open);
    const cases = [
      ["plain", "plain", []],
      ["<|ref|>a<|/ref|> <|det|>[[1,2,3,4],[5,6,7,8]]<|/det|>", "a", [[[1, 2, 3, 4], [5, 6, 7, 8]]]],
      ["<|ref|>a<|/ref|>", "a", []],
      ["<|det|>[[4, 3, 2, 1]]<|/det|>", "", [[[2, 1, 4, 3]]]],
      ["<|ref|>a<|/ref|><|det|>[[1,2,3,4],[5,6", "a", [[[1, 2, 3, 4]]]],
      ["<|ref|>a<|det|>[[[1.4,2,3,4,]]]<|/det|> b", "a b", [[[1, 2, 3, 4]]]],
      ["<|ref|>a<|/ref|><|det|>[[1,2,3]]<|/det|>", "a", []],
      ["<|ref|>a<|/ref|><|det|>[[012,2,3,4]]<|/det|>", "a", []],
      ["<|det|>words<|grounding|>x", "wordsx", []],
      ["a <| b <|x|>", "a <| b <|x|>", []],
    ];
    for (const [source, text, boxes] of cases) {
      const got = await page.evaluate(async (answerText) => {
        const { parseGrounding } = await import("/page/grounding.js");
        const { text: marked, objects } = parseGrounding(answerText);
        return { text: marked.replace(/\uE000(\d+)\uE001/g, (_, i) => objects[i].label), boxes: objects.map((one) => one.boxes) };
      }, source);
      assert.deepEqual(got, { text, boxes }, source);
    }
  } },

  { name: "scripts of others are refused by the policy", async body(page, t) {
    t.expect(/Content.Security.Policy|TrustedHTML|TrustedScript|violates/i);
    await open(page, t.open);
    const results = await page.evaluate(async () => {
      const found = {};
      try {
        document.body.innerHTML += "<p>";
        found.html = "written";
      } catch { found.html = "refused"; }
      const script = document.createElement("script");
      try {
        script.text = "window.inline = 1";
      } catch { /* trusted types */ }
      document.head.append(script);
      found.inline = window.inline ?? "refused";
      found.fetch = await fetch("http://127.0.0.1:9/").then(() => "asked", (error) => error.name);
      return found;
    });
    assert.deepEqual([results.html, results.inline], ["refused", "refused"]);
  } },
];
