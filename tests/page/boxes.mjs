// Boxes: where they are drawn, how they are picked, how they arrive.
import assert from "node:assert/strict";
import { answer, ask, attach, example, extent, mockAnswer, open } from "./harness.mjs";

const isPink = ([r, g, b]) => r > 225 && g > 90 && g < 175 && b > 160 && b < 225;
const near = (a, b, by) => Math.abs(a - b) <= by;
const sameColour = (a, b) => a.every((value, i) => near(value, b[i], 40));

function overlap(a, b) {
  const wide = Math.min(a.x2, b.x2) - Math.max(a.x1, b.x1), high = Math.min(a.y2, b.y2) - Math.max(a.y1, b.y1);
  const area = (box) => (box.x2 - box.x1) * (box.y2 - box.y1);
  const both = Math.max(0, wide) * Math.max(0, high);
  return both / (area(a) + area(b) - both);
}

export const tests = [
  { name: "the box is drawn where the ring is", async body(page, t) {
    await open(page, t.open);
    await attach(page, "7-three-in-a-row");
    await ask(page, "the pink ring", "locate");
    assert.match(await answer(page), /the pink ring/);
    // Where the ring is, from the picture's own pixels; the model has no say in it.
    const ring = extent(await t.pixels(example("7-three-in-a-row").buffer), isPink);
    await page.mouse.move(5, 5);
    await page.waitForTimeout(300);
    const frame = page.locator(".frame"), box = page.locator(".box");
    assert.equal(await box.count(), 1);
    const colour = await box.evaluate((node) => {
      const [, r, g, b] = /(\d+), (\d+), (\d+)/.exec(getComputedStyle(node).borderTopColor);
      return [r, g, b].map(Number);
    });
    const seen = await t.pixels(await frame.screenshot());
    const scale = seen.width / 308;
    const expected = { x1: ring.x1 * scale, y1: ring.y1 * scale, x2: (ring.x2 + 1) * scale, y2: (ring.y2 + 1) * scale };
    // The line of the box, looked for along the ring's middle: outwards from its edge, at most 6 % of a side away.
    const middle = { x: (expected.x1 + expected.x2) / 2, y: (expected.y1 + expected.y2) / 2 };
    const reach = 0.06 * (expected.x2 - expected.x1) + 3;
    const line = (at) => {
      for (let d = 0; d <= reach; d += 0.5) for (const sign of [1, -1]) if (sameColour(seen.at(...at(sign * d)), colour)) return sign * d;
      return null;
    };
    const found = { x1: line((d) => [expected.x1 + d, middle.y]), x2: line((d) => [expected.x2 + d, middle.y]),
      y1: line((d) => [middle.x, expected.y1 + d]), y2: line((d) => [middle.x, expected.y2 + d]) };
    for (const [side, d] of Object.entries(found)) assert.notEqual(d, null, `no line of the box at ${side}`);
    const drawn = Object.fromEntries(Object.keys(expected).map((side) => [side, expected[side] + found[side]]));
    assert.ok(overlap(expected, drawn) > 0.85, `overlap ${overlap(expected, drawn)}`);
    assert.ok(!sameColour(seen.at(middle.x, middle.y), colour), "a box is no filled area");
  } },

  { name: "labels, scores and pixels come from the reply", async body(page, t) {
    await open(page, t.open);
    await attach(page, "7-three-in-a-row");
    let body = "", sent = null;
    await page.route("**/v1/chat/completions", async (route) => {
      sent = route.request().postDataJSON();
      const response = await route.fetch();
      body = await response.text();
      await route.fulfill({ response, body });
    });
    await ask(page, "What is in the picture?", "ground");
    assert.equal((await answer(page)).replace(/\s+/g, " "), "a yellow circle, a pink ring and a green triangle");
    const all = [...body.matchAll(/"grounding":(\[.*?\}\])/g)];  // each as it closes, at the end all of them
    const grounding = JSON.parse(all.at(-1)[1]);
    assert.equal(grounding.length, 3);
    const entries = await page.locator(".found button").allInnerTexts();
    for (const [i, { label, box_px, score }] of grounding.entries()) {
      assert.ok(entries[i].includes(label) && entries[i].includes(`${Math.round(score * 100)} %`), entries[i]);
      assert.ok(entries[i].includes(`${Math.round(box_px[0])}, ${Math.round(box_px[1])}`), entries[i]);
    }
    assert.deepEqual(sent.messages[0].content[1], { type: "text", text: "<|grounding|>What is in the picture?" });
    assert.deepEqual(sent.response_format, { type: "grounding" });
    assert.equal(sent.temperature, undefined);
  } },

  { name: "a box and its entry pick each other", async body(page, t) {
    await open(page, t.open);
    await attach(page, "7-three-in-a-row");
    await ask(page, "What is in the picture?", "ground");
    await answer(page);
    const entry = page.locator(".found button").nth(1), box = page.locator(".box").nth(1);
    await entry.click();
    assert.equal(await box.getAttribute("aria-pressed"), "true");
    assert.equal(await page.locator(".box.selected").count(), 1);
    assert.match(await page.locator(".ref.selected").innerText(), /pink ring/);
    await page.locator(".box").nth(2).click();
    assert.match(await page.locator(".found button.selected").innerText(), /green triangle/);
    await page.locator(".ref").nth(0).click();
    assert.match(await page.locator(".found button.selected").innerText(), /yellow circle/);
    await page.locator(".box").nth(0).focus();
    await page.keyboard.press("Enter"); // by keyboard: picked once more, as one box
    assert.equal(await page.locator(".box.selected").count(), 1);
    await page.locator(".frame img").click({ position: { x: 5, y: 5 } });
    assert.equal(await page.locator(".box.selected").count(), 0);
  } },

  { name: "boxes appear while the answer is still coming", async body(page, t) {
    // A stream that stops in the middle, by a server of the page's own: fulfill() can only send whole bodies.
    await page.addInitScript(() => {
      const real = window.fetch;
      window.fetch = (url, options) => {
        if (!String(url).includes("chat/completions")) return real(url, options);
        const stream = new ReadableStream({ start(controller) {
          window.say = (text) => controller.enqueue(new TextEncoder().encode(`data: ${JSON.stringify({ choices: [{ index: 0, delta: { content: text } }] })}\n\n`));
          window.finish = () => { controller.enqueue(new TextEncoder().encode("data: [DONE]\n\n")); controller.close(); };
        } });
        return Promise.resolve(new Response(stream, { headers: { "Content-Type": "text/event-stream" } }));
      };
    });
    await open(page, t.open);
    await attach(page, "7-three-in-a-row");
    await ask(page, "shapes", "locate");
    await page.waitForFunction(() => window.say);
    const boxes = async (n) => page.waitForFunction((many) => document.querySelectorAll(".box").length === many, n);
    await page.evaluate(() => window.say("two <|ref|>shapes<|/ref|><|det|>[[0, 0, 300, 30"));
    await page.waitForFunction(() => document.querySelector(".answer .body").innerText.includes("two shapes"));
    await boxes(0);
    await page.evaluate(() => window.say("0], "));
    await boxes(1);
    await page.evaluate(() => window.say("[400, 0, 999, 999]]<|/d"));
    await boxes(2);
    assert.equal((await page.locator(".answer .body").innerText()).trim(), "two shapes", "no half tag is shown");
    await page.evaluate(() => { window.say("et|>."); window.finish(); });
    assert.equal((await answer(page)).trim(), "two shapes.");
    const rect = await page.locator(".box").nth(1).evaluate((node) => [node.style.left, node.style.width].map(Number.parseFloat));
    assert.ok(Math.abs(rect[0] - 40.04) < 0.1 && Math.abs(rect[1] - 59.96) < 0.1, String(rect));
  } },

  { name: "boxes are about the last picture", async body(page, t) {
    await mockAnswer(page, "<|ref|>x<|/ref|><|det|>[[0, 0, 500, 500]]<|/det|>");
    await open(page, t.open);
    await attach(page, "9-first-of-two", "9-second-of-two");
    await ask(page, "x", "locate");
    await answer(page);
    assert.equal(await page.locator(".frame img").getAttribute("alt"), "9-second-of-two.png");
  } },
];
