// OpenAI's client: chat completions, completions, models. Its Responses are in openai_responses.mjs.
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import * as server from "./server.mjs";

const { model } = server;
const client = new OpenAI({ baseURL: server.baseURL, apiKey: server.key, maxRetries: 0 });

function ask(example, history = []) {
  const pictures = history.length > 0 ? [] : example.pictures;
  const parts = pictures.map((base64) => ({ type: "image_url", image_url: { url: server.pngUrl(base64) } }));
  const turn = { role: "user", content: [...parts, { type: "text", text: example.question }] };
  return { model, messages: [...history, turn] };
}
const text = (question) => ({ model, messages: [{ role: "user", content: question }] });
const create = (request, options) => client.chat.completions.create(request, options);

test("models", async () => {
  const models = await client.models.list();
  assert.deepEqual(models.data.map(({ id }) => id), [model]);
  assert.equal((await client.models.retrieve(model)).id, model);
  await server.refused(client.models.retrieve("gpt-9"), OpenAI.NotFoundError, { status: 404, code: "model_not_found" });
});

test("a picture", async () => {
  const { choices: [choice], usage } = await create(ask(server.square));
  assert.equal(choice.message.content, server.square.answer);
  assert.equal(choice.finish_reason, "stop");
  assert.equal(choice.logprobs, null);
  assert.ok(usage.prompt_tokens_details.image_tokens > 0);
  assert.ok(usage.prompt_tokens > usage.prompt_tokens_details.image_tokens);
  assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
});

test("two pictures", async () => {
  assert.equal((await create(ask(server.both))).choices[0].message.content, server.both.answer);
});

test("several turns", async () => {
  const first = ask(server.star);
  const { message } = (await create(first)).choices[0];
  assert.equal(message.content, server.star.answer);
  const second = await create(ask(server.circles, [...first.messages, message]));
  assert.equal(second.choices[0].message.content, server.circles.answer);
  assert.ok(second.usage.prompt_tokens_details.cached_tokens > 0);
});

test("system and developer messages", async () => {
  const bare = (await create(text("Hello"))).usage.prompt_tokens;
  for (const role of ["system", "developer"]) {
    const request = text("Hello");
    request.messages.unshift({ role, content: "Be brief." });
    assert.ok((await create(request)).usage.prompt_tokens > bare);
  }
});

test("a stream", async () => {
  const whole = await create(ask(server.landscape));
  assert.equal(whole.choices[0].message.content, server.landscape.answer);
  let content = "", usage, reason;
  const ids = new Set();
  let deltas = 0;
  const request = { ...ask(server.landscape), stream: true, stream_options: { include_usage: true } };
  for await (const chunk of await create(request)) {
    ids.add(chunk.id);
    const [choice] = chunk.choices;
    if (choice?.delta.content) ++deltas;
    content += choice?.delta.content ?? "";
    reason = choice?.finish_reason ?? reason;
    usage = chunk.usage ?? usage;
  }
  assert.equal(content, server.landscape.answer);
  assert.ok(deltas > 5);
  assert.equal(ids.size, 1);
  assert.equal(reason, "stop");
  assert.equal(usage.completion_tokens, whole.usage.completion_tokens);
  assert.equal(usage.prompt_tokens, whole.usage.prompt_tokens);
});

test("a stream, by the helper", async () => {
  const stream = client.chat.completions.stream({ ...ask(server.landscape), stream_options: { include_usage: true } });
  let content = "";
  stream.on("content", (delta) => { content += delta; });
  const last = await stream.finalChatCompletion();
  assert.equal(content, server.landscape.answer);
  assert.equal(last.choices[0].message.content, content);
  assert.ok(last.usage.total_tokens > 0);
});

test("n, seed", async () => {
  const request = { ...text("Describe yourself."), temperature: 1, seed: 3, max_completion_tokens: 8 };
  const three = await create({ ...request, n: 3 });
  assert.deepEqual(three.choices.map(({ index }) => index), [0, 1, 2]);
  const texts = three.choices.map(({ message }) => message.content);
  assert.ok(new Set(texts).size > 1);
  assert.equal((await create(request)).choices[0].message.content, texts[0]);
  assert.deepEqual((await create({ ...request, n: 3 })).choices.map(({ message }) => message.content), texts);
  const streamed = ["", "", ""];
  for await (const { choices: [choice] } of await create({ ...request, n: 3, stream: true }))
    streamed[choice.index] += choice.delta.content ?? "";
  assert.deepEqual(streamed, texts);
});

test("logprobs", async () => {
  const request = { ...ask(server.landscape), logprobs: true, top_logprobs: 3 };
  const [choice] = (await create(request)).choices;
  const entries = choice.logprobs.content;
  assert.equal(entries.map(({ token }) => token).join(""), server.landscape.answer);
  for (const { token, logprob, bytes, top_logprobs: top } of entries) {
    assert.equal(Buffer.from(bytes).toString(), token);
    assert.equal(top.length, 3);
    assert.equal(top[0].token, token);  // greedy: the likeliest
    assert.equal(top[0].logprob, logprob);
    assert.ok(logprob <= 0 && top[1].logprob <= logprob);
  }
  const streamed = await client.chat.completions.stream(request).finalChatCompletion();
  assert.deepEqual(streamed.choices[0].logprobs.content.map(({ token }) => token), entries.map(({ token }) => token));
});

test("stop, max_tokens", async () => {
  const stopped = (await create({ ...ask(server.landscape), stop: [", a red", "never"] })).choices[0];
  assert.equal(stopped.message.content, server.landscape.answer.split(", a red")[0]);
  assert.equal(stopped.finish_reason, "stop");
  const cut = await create({ ...ask(server.landscape), max_completion_tokens: 3 });
  assert.equal(cut.choices[0].finish_reason, "length");
  assert.equal(cut.usage.completion_tokens, 3);
  assert.ok(server.landscape.answer.startsWith(cut.choices[0].message.content));
});

test("boxes", async () => {
  const ring = server.example("7-three-in-a-row.png", "<|ref|>the pink ring<|/ref|>");
  const [choice] = (await create(ask(ring))).choices;
  assert.match(choice.message.content, /<\|det\|>\[\[\d+, \d+, \d+, \d+\]\]<\|\/det\|>$/);
  assert.equal(choice.grounding[0].label, "the pink ring");
  const [x1, y1, x2, y2] = choice.grounding[0].box_px;
  assert.ok(x1 < x2 && y1 < y2);
});

test("structured output", async () => {
  const schema = z.object({ count: z.number().int().min(0).max(9), sure: z.boolean().nullable() });
  const request = { ...ask(server.stars), response_format: zodResponseFormat(schema, "stars") };
  const { message } = (await client.chat.completions.parse(request)).choices[0];
  assert.equal(message.parsed.count, Number(server.stars.answer));
  const streamed = await client.chat.completions.stream(request).finalChatCompletion();
  assert.deepEqual(streamed.choices[0].message.parsed, message.parsed);
  const anything = { ...ask(server.stars), response_format: { type: "json_object" }, max_tokens: 300 };
  const any = (await create(anything)).choices[0];
  assert.match(any.message.content, /^\s*\{/);
  if (any.finish_reason === "stop") JSON.parse(any.message.content);  // the small model may not come to an end
});

test("structured output with references and lists", async () => {
  const box = z.array(z.number().int().min(0).max(99)).length(4);
  const shape = z.object({ kind: z.enum(["circle", "square", "star"]), box });
  const schema = z.object({ main: shape, others: z.array(shape).min(1).max(2) });
  const request = { ...ask(server.landscape), response_format: zodResponseFormat(schema, "shapes"), max_tokens: 500 };
  const { message } = (await client.chat.completions.parse(request)).choices[0];
  assert.deepEqual(schema.parse(message.parsed), message.parsed);
});

test("choices and patterns, which are additions", async () => {
  const answer = async (example, format) =>
    (await create({ ...ask(example), response_format: format })).choices[0].message.content;
  const choices = { type: "choices", choices: ["red", "yellow", "blue"] };
  assert.equal(await answer(server.square, choices), server.square.answer);
  assert.equal(await answer(server.stars, { type: "regex", pattern: "[0-9]" }), server.stars.answer);
});

test("completions", async () => {
  const request = { model, prompt: "a red", max_tokens: 4, ...server.endless };
  const whole = await client.completions.create(request);
  assert.equal(whole.object, "text_completion");
  assert.equal(whole.usage.completion_tokens, 4);
  let content = "";
  const stream = await client.completions.create({ ...request, stream: true });
  for await (const { choices: [choice] } of stream) content += choice.text;
  assert.equal(content, whole.choices[0].text);
});

test("errors", async () => {
  const withPicture = (url) => ask({ pictures: [], question: "What is it?" }, [
    { role: "user", content: [{ type: "image_url", image_url: { url } }] }]);
  const tools = [{ type: "function", function: { name: "f", parameters: { type: "object", properties: {} } } }];
  const bad = (request, properties) => server.refused(create(request), OpenAI.BadRequestError,
    { status: 400, type: "invalid_request_error", requestID: /./, ...properties });
  await bad(withPicture(server.pngUrl(server.noPicture)), { code: "invalid_image" });
  await bad({ ...text("Hello"), tools }, { code: "unsupported_value", param: "tools" });
  await bad({ ...text("Hello"), temperature: 3 }, { param: "temperature" });
  await bad(text("word ".repeat(9000)), { code: "context_length_exceeded" });
  await server.refused(create({ ...text("Hello"), model: "gpt-9" }), OpenAI.NotFoundError,
    { status: 404, code: "model_not_found", param: "model" });
  await server.refused(create(withPicture("https://example.org/a.png")), OpenAI.PermissionDeniedError,
    { status: 403, code: "media_domain_not_allowed" });
  await server.refused(create(withPicture(server.pngUrl(server.hugePicture()))), OpenAI.APIError,
    { status: 413, code: "request_too_large" });
  await server.refused(create(text(server.longText)), OpenAI.APIError, { status: 413, code: "request_too_large" });
  const stranger = new OpenAI({ baseURL: server.baseURL, apiKey: "wrong", maxRetries: 0 });
  await server.refused(stranger.models.list(), OpenAI.AuthenticationError, { status: 401, code: "invalid_api_key" });
  await server.refused(create({ ...text("Hello"), stream: true, model: "gpt-9" }), OpenAI.NotFoundError,
    { status: 404 });
});

const endless = { ...ask(server.landscape), ...server.endless, max_tokens: server.endlessTokens };

test("a stream left in the middle", () => server.expectLetGo(async () => {
  let chunks = 0;
  for await (const chunk of await create({ ...endless, stream: true }))
    if (chunk.choices[0].delta.content && ++chunks === 5) break;
}));

test("a stream aborted by the helper", () => server.expectLetGo(async () => {
  const stream = client.chat.completions.stream(endless);
  stream.once("content", () => stream.abort());
  await server.refused(stream.finalChatCompletion(), OpenAI.APIUserAbortError, {});
}));

test("a whole answer aborted", () => server.expectLetGo(async () => {
  await server.refused(create(endless, { signal: server.abortOnceRunning() }), OpenAI.APIUserAbortError, {});
}));

test("a full queue, and the client's own retries", () => server.expectLetGo(async () => {
  // run.mjs lets the server have eight answers at a time, made and waiting.
  const stream = await create({ ...endless, n: 8, temperature: 1, stream: true });
  const chunks = stream[Symbol.asyncIterator]();
  await chunks.next();
  await assert.rejects(create(text("Hello")), (error) => {
    assert.ok(error instanceof OpenAI.RateLimitError, String(error));
    assert.equal(error.code, "queue_full");
    assert.ok(Number(error.headers.get("retry-after")) > 0);
    return true;
  });
  const patient = new OpenAI({ baseURL: server.baseURL, apiKey: server.key, maxRetries: 3 });
  const retried = patient.chat.completions.create(ask(server.square));
  setTimeout(() => stream.controller.abort(), 200);
  assert.equal((await retried).choices[0].message.content, server.square.answer);
}, 8));
