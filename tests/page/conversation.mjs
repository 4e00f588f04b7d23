// The conversation: stop, again, edit, reload, keys, errors.
import assert from "node:assert/strict";
import { answer, ask, attach, endlessAnswer, mockAnswer, open } from "./harness.mjs";

const turns = (page) => page.locator(".turn").count();
const bodies = (page) => page.locator(".answer .body").allInnerTexts();

export const tests = [
  { name: "a long answer is stopped in the middle, by button and by Escape", async body(page, t) {
    await endlessAnswer(page);
    await open(page, t.open);
    for (const stop of [() => page.click(".send.stop"), () => page.keyboard.press("Escape")]) {
      await ask(page, "Describe yourself.");
      await page.waitForFunction(() => [...document.querySelectorAll(".answer.streaming .body")].at(-1)?.innerText.length > 40);
      await stop();
      await page.waitForSelector(".turn:last-child.answer:not(.streaming)");
      assert.match(await page.locator(".answer .notes").last().innerText(), /Stopped/);
      assert.ok((await bodies(page)).at(-1).length > 40, "what came is kept");
    }
    // The server has let go of both.
    await page.waitForFunction(async () => /vl2_requests_running 0\b|vl2_running[^\n]* 0\b/.test(await (await fetch("metrics")).text()));
    await page.unroute("**/v1/chat/completions");
    await page.click("#new");
    await ask(page, "Describe yourself.");
    assert.ok((await answer(page)).length > 0);
  } },

  { name: "an answer is made again, and what came after it is gone", async body(page, t) {
    await open(page, t.open);
    await attach(page, "7-three-in-a-row");
    await ask(page, "How many shapes are there?");
    await answer(page);
    await ask(page, "What colour is the ring?");
    assert.equal(await answer(page), "pink");
    assert.equal(await turns(page), 4);
    const request = page.waitForRequest("**/v1/chat/completions");
    await page.locator(".answer [aria-label='Answer again']").first().click();
    assert.equal((await request).postDataJSON().messages.length, 1);
    assert.equal(await answer(page), "3");
    assert.equal(await turns(page), 2);
  } },

  { name: "a message is edited and asked again, its picture kept", async body(page, t) {
    await open(page, t.open);
    await attach(page, "7-three-in-a-row");
    await ask(page, "How many shapes are there?");
    assert.equal(await answer(page), "3");
    await page.locator(".user").hover();
    await page.click("[aria-label='Edit and ask again']");
    await page.fill(".bubble textarea", "never mind");
    await page.keyboard.press("Escape");
    assert.equal(await page.locator(".bubble .text").innerText(), "How many shapes are there?");
    await page.click("[aria-label='Edit and ask again']");
    await page.fill(".bubble textarea", "What colour is the ring?");
    await page.press(".bubble textarea", "Enter");
    await page.waitForFunction(() => document.querySelector(".answer .body").innerText === "pink");
    assert.equal(await turns(page), 2);
    assert.equal(await page.locator(".user .thumb img").evaluate((image) => image.naturalWidth), 308);
  } },

  { name: "a reload keeps the conversation, a new one is empty", async body(page, t) {
    await open(page, t.open);
    await attach(page, "7-three-in-a-row");
    await ask(page, "the pink ring", "locate");
    await answer(page);
    const before = await page.locator(".found").innerText();
    await page.reload();
    await page.waitForSelector(".box");
    assert.equal(await turns(page), 2);
    assert.equal(await page.locator(".found").innerText(), before);
    assert.equal(await page.locator(".user .thumb img").evaluate((image) => image.decode().then(() => image.naturalWidth)), 308);
    await page.waitForSelector("#model[data-state=ready]");
    await ask(page, "What colour is the ring?");
    assert.equal(await answer(page), "pink", "the picture is sent after a reload, too");
    // Another tab has a conversation of its own.
    const other = await t.context.newPage();
    await open(other, t.open);
    assert.equal(await turns(other), 0);
    await other.close();
    await page.click("#new");
    assert.equal(await turns(page), 0);
    await page.waitForTimeout(200);
    await page.reload();
    await page.waitForSelector("#model[data-state=ready]");
    await page.waitForTimeout(200);
    assert.equal(await turns(page), 0);
    assert.ok(await page.locator("#welcome").isVisible());
  } },

  { name: "Enter sends, Shift and Enter break the line", async body(page, t) {
    await mockAnswer(page, "fine");
    await open(page, t.open);
    await page.locator("#composer textarea").focus();
    await page.keyboard.type("one");
    await page.keyboard.press("Shift+Enter");
    await page.keyboard.type("two");
    const request = page.waitForRequest("**/v1/chat/completions");
    await page.keyboard.press("Enter");
    assert.equal((await request).postDataJSON().messages[0].content, "one\ntwo");
    assert.equal(await page.inputValue("#composer textarea"), "");
    await answer(page);
    assert.equal(await page.locator(".bubble .text").innerText(), "one\ntwo");
  } },

  { name: "an answer is copied as it was written", options: { permissions: ["clipboard-read", "clipboard-write"] }, async body(page, t) {
    await mockAnswer(page, "a **bold** <|ref|>ring<|/ref|>");
    await open(page, t.open);
    await ask(page, "Hello");
    await answer(page);
    await page.click(".answer [aria-label=Copy]");
    await page.waitForSelector(".answer .done");
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), "a **bold** <|ref|>ring<|/ref|>");
  } },

  { name: "settings say what they are and reach the request", async body(page, t) {
    await mockAnswer(page, "fine");
    await open(page, t.open);
    const sent = async () => {
      const request = page.waitForRequest("**/v1/chat/completions");
      await ask(page, "Hello");
      const body = (await request).postDataJSON();
      await answer(page);
      return body;
    };
    const first = await sent();
    assert.equal(first.temperature, undefined, "greedy, as the server's default is");
    await page.click("#open-settings");
    assert.match(await page.locator("#settings").innerText(), /server's default/);
    await page.selectOption("[name=preset]", "demo");
    assert.match(await page.locator("#settings .note").innerText(), /0\.4.*0\.9.*1\.1/);
    await page.fill("[name=system]", "Be brief.");
    await t.shot("settings");
    await page.keyboard.press("Escape");
    const second = await sent();
    assert.deepEqual([second.temperature, second.top_p, second.repetition_penalty], [0.4, 0.9, 1.1]);
    assert.deepEqual(second.messages[0], { role: "system", content: "Be brief." });
    await page.reload();
    await page.waitForSelector("#model[data-state=ready]");
    await page.click("#open-settings");
    assert.equal(await page.inputValue("[name=preset]"), "demo");
    await page.fill("[name=temperature]", "9");
    assert.ok(await page.locator("[name=temperature]").getAttribute("aria-invalid") !== null);
    await page.fill("[name=temperature]", "0.7");
    assert.equal(await page.inputValue("[name=preset]"), "custom");
    await page.keyboard.press("Escape");
    assert.equal((await sent()).temperature, 0.7);
  } },

  { name: "a failure is told where it happened, and can be tried again", async body(page, t) {
    t.expect(/Failed to load resource/);
    await open(page, t.open);
    await page.route("**/v1/chat/completions", (route) => route.fulfill({ status: 429, contentType: "application/json",
      body: JSON.stringify({ error: { message: "8 answers are being made", type: "rate_limit_error", param: null, code: "queue_full" } }) }));
    await ask(page, "Describe yourself.");
    await page.waitForSelector(".answer .problem");
    assert.match(await page.locator(".answer .problem").innerText(), /8 answers are being made/);
    await t.shot("failure");
    await page.unroute("**/v1/chat/completions");
    await page.click(".answer .problem button");
    assert.ok((await answer(page)).length > 0);
    assert.equal(await page.locator(".problem:visible").count(), 0);
    // A question too long, for real.
    await ask(page, "word ".repeat(9000));
    await page.waitForSelector(".answer .problem");
    assert.match(await page.locator(".answer .problem").innerText(), /maximum context length.*Start a new conversation/s);
    const request = page.waitForRequest("**/v1/chat/completions");
    await ask(page, "Are you there?");
    const messages = (await request).postDataJSON().messages.map((message) => message.content);
    assert.ok(!messages.some((text) => text.startsWith("word word")), "what failed is not asked twice");
    await answer(page);
  } },

  { name: "a stream that breaks keeps what has come", async body(page, t) {
    await page.route("**/v1/chat/completions", (route) => route.fulfill({ contentType: "text/event-stream",
      body: `data: ${JSON.stringify({ choices: [{ index: 0, delta: { content: "Half of it" } }] })}\n\n` +
        `data: ${JSON.stringify({ error: { message: "out of memory", type: "server_error", param: null, code: null } })}\n\n` }));
    await open(page, t.open);
    await ask(page, "Hello");
    await page.waitForSelector(".answer .problem");
    assert.equal((await bodies(page))[0], "Half of it");
    assert.match(await page.locator(".answer .problem").innerText(), /out of memory/);
  } },

  { name: "a server with keys asks for one", async body(page, t) {
    t.expect(/status of 401/);
    await page.goto(t.locked);
    await page.waitForSelector("#key:visible");
    await page.fill("#key input", "wrong");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.querySelector("#key .problem").textContent.includes("does not know"));
    await t.shot("key");
    await page.fill("#key input", "secret-of-the-test");
    await page.keyboard.press("Enter");
    await page.waitForSelector("#model[data-state=ready]");
    assert.ok(await page.locator("#key").isHidden());
    await attach(page, "6-small-landscape");
    await ask(page, "What color is the star?");
    assert.equal(await answer(page), "orange");
    await page.click(".user .thumb");
    await page.waitForSelector("#plan dl");
    assert.ok(!(await page.evaluate(() => JSON.stringify(localStorage))).includes("secret"), "kept for this tab alone");
  } },
];
