// Anthropic's client: messages.
import Anthropic from "@anthropic-ai/sdk";
import { zodOutputFormat } from "@anthropic-ai/sdk/helpers/zod";
import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "zod";
import * as server from "./server.mjs";

const { model } = server;
// It puts /v1 in front of its routes by itself.
const client = new Anthropic({ baseURL: server.root, apiKey: server.key, maxRetries: 0 });

function ask({ pictures, question }, history = []) {
  const parts = (history.length > 0 ? [] : pictures).map((data) => (
    { type: "image", source: { type: "base64", media_type: "image/png", data } }));
  const turn = { role: "user", content: [...parts, { type: "text", text: question }] };
  return { model, max_tokens: 200, messages: [...history, turn] };
}
const text = (content) => ({ model, max_tokens: 200, messages: [{ role: "user", content }] });
const create = (request, options) => client.messages.create(request, options);

test("models", async () => {
  const ids = [];
  for await (const one of client.models.list()) ids.push([one.id, one.type, one.display_name]);
  assert.deepEqual(ids, [[model, "model", model]]);
  const one = await client.models.retrieve(model);
  assert.equal(one.id, model);
  assert.ok(Date.parse(one.created_at) > 0);
});

test("a picture", async () => {
  const message = await create(ask(server.square));
  assert.deepEqual(message.content, [{ type: "text", text: server.square.answer }]);
  assert.equal(message.stop_reason, "end_turn");
  assert.equal(message.role, "assistant");
  assert.equal(message.model, model);
  assert.ok(message.usage.input_tokens > 100 && message.usage.output_tokens > 0);
});

test("two pictures", async () => {
  assert.equal((await create(ask(server.both))).content[0].text, server.both.answer);
});

test("several turns, the first answer handed back as it came", async () => {
  const first = ask(server.star);
  const { role, content } = await create(first);
  assert.equal(content[0].text, server.star.answer);
  const second = await create(ask(server.circles, [...first.messages, { role, content }]));
  assert.equal(second.content[0].text, server.circles.answer);
});

test("tokens are counted as they are used", async () => {
  const request = { ...ask(server.square), system: "Be brief." };
  const { max_tokens: _, ...counted } = request;
  const { input_tokens: tokens } = await client.messages.countTokens(counted);
  assert.equal(tokens, (await create(request)).usage.input_tokens);
  assert.ok(tokens > (await client.messages.countTokens({ model, messages: request.messages })).input_tokens);
});

test("a stream", async () => {
  let content = "", reason, usage;
  for await (const event of await create({ ...ask(server.landscape), stream: true })) {
    if (event.type === "content_block_delta") content += event.delta.text;
    if (event.type === "message_delta") ({ delta: { stop_reason: reason }, usage } = event);
  }
  assert.equal(content, server.landscape.answer);
  assert.equal(reason, "end_turn");
  assert.ok(usage.output_tokens > 5);
});

test("a stream, by the helper", async () => {
  const whole = await create(ask(server.landscape));
  const stream = client.messages.stream(ask(server.landscape));
  let content = "";
  stream.on("text", (delta) => { content += delta; });
  const message = await stream.finalMessage();
  assert.equal(content, server.landscape.answer);
  assert.deepEqual(message.content, [{ type: "text", text: content }]);
  assert.deepEqual(message.usage, whole.usage);
});

test("stop_sequences, max_tokens", async () => {
  const stopped = await create({ ...ask(server.landscape), stop_sequences: [", a red"] });
  assert.equal(stopped.stop_reason, "stop_sequence");
  assert.equal(stopped.stop_sequence, ", a red");
  assert.equal(stopped.content[0].text, server.landscape.answer.split(", a red")[0]);
  const cut = await create({ ...ask(server.landscape), max_tokens: 3 });
  assert.equal(cut.stop_reason, "max_tokens");
  assert.equal(cut.usage.output_tokens, 3);
});

test("a seed, which is an addition", async () => {
  const request = { ...text("Describe yourself."), temperature: 1, ...server.endless, max_tokens: 20 };
  const texts = [];
  for (const seed of [5, 5, 6, 7]) texts.push((await create({ ...request, seed })).content[0].text);
  assert.equal(texts[0], texts[1]);
  assert.ok(new Set(texts).size > 1);
});

test("structured output", async () => {
  const schema = z.object({ shape: z.enum(["circle", "square", "star", "triangle"]) });
  const request = { ...ask(server.purpleShape), output_config: { format: zodOutputFormat(schema) } };
  const message = await client.messages.parse(request);
  assert.deepEqual(message.parsed_output, { shape: server.purpleShape.answer });
  assert.deepEqual((await client.messages.stream(request).finalMessage()).parsed_output, message.parsed_output);
});

test("errors", async () => {
  const bad = (request, kind, status, type) => server.refused(create(request), kind, { status, type, requestID: /./ });
  const tools = [{ name: "f", input_schema: { type: "object" } }];
  const withPicture = (base64) => ask({ pictures: [base64], question: "What is it?" });
  await bad(withPicture(server.noPicture), Anthropic.BadRequestError, 400, "invalid_request_error");
  await bad({ ...text("Hello"), tools }, Anthropic.BadRequestError, 400, "invalid_request_error");
  await bad({ ...text("Hello"), thinking: { type: "enabled", budget_tokens: 1024 } }, Anthropic.BadRequestError, 400,
    "invalid_request_error");
  await bad({ ...text("Hello"), model: "claude-9" }, Anthropic.NotFoundError, 404, "not_found_error");
  await bad({ ...text("Hello"), model: "claude-9", stream: true }, Anthropic.NotFoundError, 404, "not_found_error");
  await bad(withPicture(server.hugePicture()), Anthropic.APIError, 413, "request_too_large");
  await bad(text(server.longText), Anthropic.APIError, 413, "request_too_large");
  const url = { type: "image", source: { type: "url", url: "https://example.org/a.png" } };
  await bad(text([url]), Anthropic.PermissionDeniedError, 403, "permission_error");
  await server.refused(client.models.retrieve("claude-9"), Anthropic.NotFoundError, { type: "not_found_error" });
  await server.refused(client.messages.batches.retrieve("batch"), Anthropic.NotFoundError, { type: "not_found_error" });
  const stranger = new Anthropic({ baseURL: server.root, apiKey: "wrong", maxRetries: 0 });
  await server.refused(stranger.messages.create(text("Hello")), Anthropic.AuthenticationError,
    { status: 401, type: "authentication_error" });
});

const endless = { ...ask(server.landscape), ...server.endless, max_tokens: server.endlessTokens };

test("a stream left in the middle", () => server.expectLetGo(async () => {
  let deltas = 0;
  for await (const event of await create({ ...endless, stream: true }))
    if (event.type === "content_block_delta" && ++deltas === 5) break;
}));

test("a stream aborted by the helper", () => server.expectLetGo(async () => {
  const stream = client.messages.stream(endless);
  stream.once("text", () => stream.abort());
  await server.refused(stream.finalMessage(), Anthropic.APIUserAbortError, {});
}));

test("a whole answer aborted", () => server.expectLetGo(async () => {
  await server.refused(create(endless, { signal: server.abortOnceRunning() }), Anthropic.APIUserAbortError, {});
}));
