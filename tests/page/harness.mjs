// A browser, a page for each test, and what tests of several files need.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

export const examples = fileURLToPath(new URL("../../examples/", import.meta.url));
export const example = (name) => ({ name: `${name}.png`, mimeType: "image/png", buffer: readFileSync(`${examples}${name}.png`) });
const LONGEST_WAIT = 60_000; // an answer of a sanitizer's build takes its time

export class Harness {
  static async open(places) {
    const harness = new Harness();
    Object.assign(harness, places); // open, locked: addresses of servers; folder: of screenshots
    harness.browser = await chromium.launch({ executablePath: process.env.VL2_CHROMIUM, args: ["--no-sandbox"] });
    return harness;
  }

  // Runs the body with a page of its own; whatever the page's console calls an error is one, unless it is expected.
  async run({ name, body, options = {} }) {
    const context = await this.browser.newContext({ viewport: { width: 1180, height: 860 }, ...options });
    context.setDefaultTimeout(LONGEST_WAIT);
    const page = await context.newPage();
    const errors = [], expected = [];
    page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
    page.on("pageerror", (error) => errors.push(String(error.stack ?? error)));
    page.on("dialog", (dialog) => {
      errors.push(`a dialog: ${dialog.message()}`);
      dialog.dismiss();
    });
    try {
      await body(page, Object.assign(Object.create(this), { context, expect: (pattern) => expected.push(pattern), shot: (file) => this.shoot(page, file) }));
      const unexpected = errors.filter((text) => !expected.some((pattern) => pattern.test(text)));
      assert.deepEqual(unexpected, [], "errors in the console");
    } catch (error) {
      await page.screenshot({ path: `${this.folder}/failed-${name.replace(/\W+/g, "-")}.png` }).catch(() => {});
      throw error;
    } finally {
      await context.close();
    }
  }

  async shoot(page, file) {
    await page.waitForTimeout(350); // transitions
    await page.screenshot({ path: `${this.folder}/${file}.png` });
  }

  // The pixels of a picture file: at(x, y) gives [r, g, b].
  async pixels(png) {
    const page = await this.browser.newPage();
    const { width, height, text } = await page.evaluate(async (base64) => {
      const bitmap = await createImageBitmap(await (await fetch(`data:image/png;base64,${base64}`)).blob());
      const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
      const draw = canvas.getContext("2d");
      draw.drawImage(bitmap, 0, 0);
      // As one text: a list of so many numbers takes a minute to come over.
      let bytes = "";
      for (const value of draw.getImageData(0, 0, bitmap.width, bitmap.height).data) bytes += String.fromCharCode(value);
      return { width: bitmap.width, height: bitmap.height, text: btoa(bytes) };
    }, png.toString("base64"));
    await page.close();
    const data = [...Buffer.from(text, "base64")];
    return { width, height, at: (x, y) => data.slice(4 * (Math.round(y) * width + Math.round(x)), 4 * (Math.round(y) * width + Math.round(x)) + 3) };
  }
}

// The smallest box around the pixels that the test accepts: { x1, y1, x2, y2 }, ends included.
export function extent(pixels, accepts) {
  const box = { x1: Infinity, y1: Infinity, x2: -1, y2: -1 };
  for (let y = 0; y < pixels.height; ++y)
    for (let x = 0; x < pixels.width; ++x) {
      if (!accepts(pixels.at(x, y))) continue;
      Object.assign(box, { x1: Math.min(box.x1, x), y1: Math.min(box.y1, y), x2: Math.max(box.x2, x), y2: Math.max(box.y2, y) });
    }
  return box;
}

export const attach = (page, ...names) => page.setInputFiles("#composer input[type=file]", names.map(example));

export async function open(page, url) {
  await page.goto(url);
  await page.waitForSelector("#model[data-state=ready]");
}

export async function ask(page, text, mode = "ask") {
  await page.check(`#composer input[value=${mode}]`, { force: true });
  await page.fill("#composer textarea", text);
  await page.press("#composer textarea", "Enter");
}

// The text of the last answer, once it is whole.
export async function answer(page) {
  await page.waitForSelector(".turn:last-child.answer:not(.streaming)");
  return page.locator(".answer .body").last().innerText();
}

// A server-sent stream that says `text`, in pieces of a few characters.
export function streamOf(text, last = {}) {
  const chunk = (delta, more = {}) => `data: ${JSON.stringify({ id: "chatcmpl-1", object: "chat.completion.chunk", model: "nano",
    choices: [{ index: 0, delta, finish_reason: null, ...more }] })}\n\n`;
  const pieces = text.match(/[\s\S]{1,7}/gu) ?? [];
  return chunk({ role: "assistant", content: "" }) + pieces.map((piece) => chunk({ content: piece })).join("") + chunk({}, { finish_reason: "stop", ...last }) + "data: [DONE]\n\n";
}

export async function mockAnswer(page, text, last) {
  await page.route("**/v1/chat/completions", (route) => route.fulfill({ contentType: "text/event-stream", body: streamOf(text, last) }));
}

// The server's own answer, but one that goes on for thousands of tokens.
export async function endlessAnswer(page) {
  await page.route("**/v1/chat/completions", (route) => {
    const body = { ...route.request().postDataJSON(), ignore_eos: true, detect_loops: false, max_tokens: 3500 };
    route.continue({ postData: JSON.stringify(body) });
  });
  // A small model writes faster than a busy browser clicks: its words come through a narrow line.
  const line = await page.context().newCDPSession(page);
  await line.send("Network.emulateNetworkConditions",
    { offline: false, latency: 0, downloadThroughput: 60_000, uploadThroughput: -1 });
}
