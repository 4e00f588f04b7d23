// Sizes, themes, access by keyboard and by name. Screenshots for whoever wants to look.
import assert from "node:assert/strict";
import { answer, ask, attach, mockAnswer, open } from "./harness.mjs";

const PHONE = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true };
const MOST_BYTES = 150_000;

async function tour(page, t, prefix) {
  await open(page, t.open);
  await t.shot(`${prefix}-empty`);
  await attach(page, "7-three-in-a-row");
  await ask(page, "What is in the picture?", "ground");
  await answer(page);
  await attach(page, "9-first-of-two");
  await page.waitForSelector(".tray img");
  await page.fill("#composer textarea", "What is the number of squares in the first picture?");
  await t.shot(`${prefix}-chat`);
}

const fits = (page) => page.evaluate(() => document.documentElement.scrollWidth <= innerWidth && document.querySelector("#scroll").scrollWidth <= document.querySelector("#scroll").clientWidth);

// Contrast of two colours as WCAG defines it.
function contrast(a, b) {
  const light = (text) => {
    const [r, g, b_] = /(\d+), (\d+), (\d+)/.exec(text).slice(1).map((n) => {
      const c = n / 255;
      return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b_;
  };
  const [x, y] = [light(a), light(b)].sort((one, two) => two - one);
  return (x + 0.05) / (y + 0.05);
}

async function readable(page) {
  const [paper, ink, soft] = await page.evaluate(() => [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color, getComputedStyle(document.querySelector(".usage")).color]);
  assert.ok(contrast(paper, ink) > 10, `${paper} ${ink}`);
  assert.ok(contrast(paper, soft) > 4.5, `${paper} ${soft}`);
  return paper;
}

export const tests = [
  { name: "on a desk", async body(page, t) {
    await tour(page, t, "desktop");
    assert.ok(await fits(page));
  } },

  { name: "on a phone, nothing is wider than the screen and everything is reachable", options: PHONE, async body(page, t) {
    await tour(page, t, "phone");
    assert.ok(await fits(page));
    for (const selector of [".send", ".attach", "#open-settings", "#theme", "#new"]) {
      const box = await page.locator(selector).boundingBox();
      assert.ok(box.x >= 0 && box.x + box.width <= 360 && box.y >= 0 && box.y + box.height <= 740, selector);
    }
    await page.click(".user .thumb");
    await page.waitForSelector("#plan dl");
    await t.shot("phone-plan");
    assert.ok(await fits(page));
    await page.click("#plan .close");
    await page.click("#open-settings");
    await t.shot("phone-settings");
    assert.ok(await page.locator("#settings").evaluate((node) => node.scrollWidth <= node.clientWidth));
    await page.click("#settings .close");
    await page.click("#new");
    await mockAnswer(page, `| ${"a column with words | ".repeat(12)}\n|${"---|".repeat(12)}\n| ${"x | ".repeat(12)}\n\n${"long".repeat(80)}\n\n$$${"x+".repeat(60)}x$$`);
    await ask(page, "w".repeat(300));
    await answer(page);
    assert.ok(await fits(page), "wide tables, words and formulas scroll by themselves");
  } },

  { name: "dark where the system is dark, or when it is chosen", options: { colorScheme: "dark" }, async body(page, t) {
    await tour(page, t, "dark");
    const dark = await readable(page);
    assert.equal(dark, "rgb(23, 22, 20)");
    await page.click("#theme"); // light
    await page.waitForTimeout(200);
    assert.equal(await readable(page), "rgb(250, 249, 247)");
    await page.reload();
    assert.equal(await page.evaluate(() => getComputedStyle(document.body).backgroundColor), "rgb(250, 249, 247)");
    await page.click("#theme"); // dark
    assert.match(await page.locator("#theme").getAttribute("aria-label"), /dark/);
    assert.equal(await page.evaluate(() => getComputedStyle(document.body).backgroundColor), dark);
  } },

  { name: "every control has a name and shows that it has the focus", async body(page, t) {
    await open(page, t.open);
    await attach(page, "7-three-in-a-row");
    await ask(page, "the pink ring", "locate");
    await answer(page);
    const nameless = await page.evaluate(() => [...document.querySelectorAll("button, input:not([hidden]), textarea, select")]
      .filter((node) => !(node.getAttribute("aria-label") || node.innerText?.trim() || node.labels?.[0]?.innerText.trim() || node.closest("label")?.innerText.trim()))
      .map((node) => node.outerHTML));
    assert.deepEqual(nameless, []);
    const reached = new Set();
    await page.locator("#composer textarea").focus();
    for (let i = 0; i < 30; ++i) {
      await page.keyboard.press("Tab");
      reached.add(await page.evaluate(() => {
        const node = document.activeElement;
        const style = getComputedStyle(node.closest(".modes label") ?? node);
        return `${node.id || node.className || node.name}: ${style.outlineStyle !== "none" || node.matches("textarea, body") ? "seen" : "NOT SEEN"}`;
      }));
    }
    const all = [...reached].join("\n");
    assert.ok(!all.includes("NOT SEEN"), all);
    for (const part of ["box c0", "thumb", "new", "theme", "attach"]) assert.ok(all.includes(part), `${part} in\n${all}`);
  } },

  { name: "the page is small, whole from this server, and kept by the browser", async body(page, t) {
    const replies = [];
    page.on("response", (response) => replies.push(response));
    await open(page, t.open);
    await page.waitForLoadState("networkidle");
    const parts = replies.filter((reply) => reply.url().includes("/page/") || reply.url() === `${t.open}/`);
    assert.ok(parts.length > 20);
    let bytes = 0;
    for (const reply of parts) bytes += (await reply.body()).length;
    console.log(`        ${parts.length} files, ${bytes} bytes`);
    assert.ok(bytes < MOST_BYTES, `${bytes} bytes`);
    assert.ok(replies.every((reply) => new URL(reply.url()).origin === t.open));
    replies.length = 0;
    await page.reload();
    await page.waitForSelector("#model[data-state=ready]");
    const again = replies.filter((reply) => reply.url().includes("/page/"));
    assert.ok(again.every((reply) => [200, 304].includes(reply.status())));
  } },
];
