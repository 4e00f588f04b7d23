// Ollama's client: chat, generate, and what it asks about models.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Ollama } from "ollama";
import { z } from "zod";
import * as server from "./server.mjs";

const { model } = server;
const connect = (key) => new Ollama({ host: server.root, headers: { authorization: `Bearer ${key}` } });
const client = connect(server.key);
const turn = ({ pictures, question }) => ({ role: "user", content: question, images: pictures });
const ask = (example) => ({ model, messages: [turn(example)] });
const hello = { model, messages: [{ role: "user", content: "Hello" }] };

test("models", async () => {
  const { models } = await client.list();
  assert.deepEqual(models.map(({ name }) => name), [`${model}:latest`]);
  const shown = await client.show({ model: models[0].name });
  assert.deepEqual(shown.capabilities.filter((one) => one !== "embedding"), ["completion", "vision"]);
  assert.equal((await client.ps()).models[0].name, `${model}:latest`);
  assert.match((await client.version()).version, /^\d+\.\d+\.\d+/);
});

test("a picture", async () => {
  const reply = await client.chat(ask(server.square));
  assert.deepEqual(reply.message, { role: "assistant", content: server.square.answer });
  assert.equal(reply.done, true);
  assert.equal(reply.done_reason, "stop");
  assert.ok(reply.prompt_eval_count > 100 && reply.eval_count > 0);
  assert.ok(reply.total_duration > 0);
});

test("a picture as bytes", async () => {
  const bytes = Uint8Array.from(Buffer.from(server.square.base64, "base64"));
  const messages = [{ role: "user", content: server.square.question, images: [bytes] }];
  assert.equal((await client.chat({ model: `${model}:latest`, messages })).message.content, server.square.answer);
});

test("two pictures", async () => {
  assert.equal((await client.chat(ask(server.both))).message.content, server.both.answer);
});

test("several turns, the first answer handed back as it came", async () => {
  const first = ask(server.star);
  const { message } = await client.chat(first);
  assert.equal(message.content, server.star.answer);
  const messages = [...first.messages, message, { role: "user", content: server.circles.question }];
  assert.equal((await client.chat({ model, messages })).message.content, server.circles.answer);
});

test("a stream", async () => {
  const whole = await client.chat(ask(server.landscape));
  let content = "", last, lines = 0;
  for await (const part of await client.chat({ ...ask(server.landscape), stream: true })) {
    content += part.message.content;
    last = part;
    ++lines;
  }
  assert.equal(content, server.landscape.answer);
  assert.equal(content, whole.message.content);
  assert.ok(lines > 5);
  assert.equal(last.done, true);
  assert.equal(last.eval_count, whole.eval_count);
  assert.equal(last.prompt_eval_count, whole.prompt_eval_count);
});

test("generate", async () => {
  const request = { model, prompt: server.landscape.question, images: server.landscape.pictures };
  assert.equal((await client.generate(request)).response, server.landscape.answer);
  let content = "";
  for await (const part of await client.generate({ ...request, stream: true })) content += part.response;
  assert.equal(content, server.landscape.answer);
});

test("options", async () => {
  const cut = await client.chat({ ...ask(server.landscape), options: { num_predict: 3 } });
  assert.equal(cut.done_reason, "length");
  assert.equal(cut.eval_count, 3);
  const stopped = await client.chat({ ...ask(server.landscape), options: { stop: [", a red"], num_ctx: 2048 } });
  assert.equal(stopped.message.content, server.landscape.answer.split(", a red")[0]);
  const texts = [];
  const drawn = { temperature: 1, num_predict: 20, ...server.endless };
  for (const seed of [5, 5, 6, 7])
    texts.push((await client.chat({ ...hello, options: { seed, ...drawn } })).message.content);
  assert.equal(texts[0], texts[1]);
  assert.ok(new Set(texts).size > 1);
});

test("structured output", async () => {
  const schema = z.object({ count: z.number().int().min(0).max(9) });
  const reply = await client.chat({ ...ask(server.stars), format: z.toJSONSchema(schema) });
  assert.deepEqual(schema.parse(JSON.parse(reply.message.content)), { count: Number(server.stars.answer) });
  const any = await client.chat({ ...ask(server.stars), format: "json", options: { num_predict: 300 } });
  assert.match(any.message.content, /^\s*\{/);
  if (any.done_reason === "stop") JSON.parse(any.message.content);  // the small model may not come to an end
});

test("errors", async () => {
  // It has one class for all, whose name is not exported.
  const expectError = (promise, status, message) =>
    server.refused(promise, Error, { name: "ResponseError", status_code: status, message });
  const bad = (request, status, message) => expectError(client.chat(request), status, message);
  await bad({ ...hello, model: "llama9" }, 404, /llama9/);
  await bad({ ...hello, model: "llama9", stream: true }, 404, /llama9/);
  await bad(ask({ pictures: [server.noPicture], question: "What is it?" }), 400, /images\[0\]/);
  await bad(ask({ pictures: [server.hugePicture()], question: "What is it?" }), 413, /pixels/);
  await bad({ ...hello, messages: [{ role: "user", content: server.longText }] }, 413, /^the body has/);
  const tools = [{ type: "function", function: { name: "f", parameters: { type: "object" } } }];
  await bad({ ...hello, tools }, 400, /tools/);
  await bad({ ...hello, think: true }, 400, /think/);
  await expectError(client.pull({ model: "llama9" }), 404, /llama9/);
  await expectError(connect("wrong").chat(hello), 401, /key/);
});

const endless = {
  ...ask(server.landscape), stream: true, options: { ...server.endless, num_predict: server.endlessTokens },
};

test("a stream aborted in the middle", () => server.expectLetGo(async () => {
  const stream = await client.chat(endless);
  let parts = 0;
  const read = async () => { for await (const _ of stream) if (++parts === 5) stream.abort(); };
  await server.refused(read(), Error, { name: "AbortError" });
}));

test("all streams of a client aborted", () => server.expectLetGo(async () => {
  const other = connect(server.key);
  const stream = await other.chat(endless);
  setTimeout(() => other.abort(), 200);
  await server.refused((async () => { for await (const _ of stream); })(), Error, { name: "AbortError" });
}));
