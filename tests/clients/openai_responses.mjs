// OpenAI's client: the Responses API.
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";
import { zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import * as server from "./server.mjs";

const { model } = server;
const client = new OpenAI({ baseURL: server.baseURL, apiKey: server.key, maxRetries: 0 });

function ask({ url, question }, history = []) {
  const parts = history.length > 0 ? [] : [{ type: "input_image", image_url: url, detail: "auto" }];
  return { model, input: [...history, { role: "user", content: [...parts, { type: "input_text", text: question }] }] };
}

test("a picture", async () => {
  const response = await client.responses.create(ask(server.square));
  assert.equal(response.output_text, server.square.answer);
  assert.equal(response.status, "completed");
  assert.equal(response.error, null);
  assert.ok(response.usage.input_tokens > 100);
  assert.equal(response.usage.total_tokens, response.usage.input_tokens + response.usage.output_tokens);
});

test("a text with instructions", async () => {
  const request = { model, input: "Describe yourself." };
  const bare = await client.responses.create(request);
  const told = await client.responses.create({ ...request, instructions: "Be brief." });
  assert.equal(told.instructions, "Be brief.");
  assert.ok(told.usage.input_tokens > bare.usage.input_tokens);
  const counted = await client.responses.inputTokens.count({ ...request, instructions: "Be brief." });
  assert.equal(counted.input_tokens, told.usage.input_tokens);
});

test("several turns, the first answer handed back as it came", async () => {
  const first = ask(server.star);
  const response = await client.responses.create(first);
  assert.equal(response.output_text, server.star.answer);
  const second = await client.responses.create(ask(server.circles, [...first.input, ...response.output]));
  assert.equal(second.output_text, server.circles.answer);
  assert.ok(second.usage.input_tokens_details.cached_tokens > 0);
});

test("a stream", async () => {
  let text = "", last;
  const numbers = [];
  for await (const event of await client.responses.create({ ...ask(server.landscape), stream: true })) {
    numbers.push(event.sequence_number);
    if (event.type === "response.output_text.delta") text += event.delta;
    last = event;
  }
  assert.equal(text, server.landscape.answer);
  assert.equal(last.type, "response.completed");
  assert.equal(last.response.output[0].content[0].text, text);
  assert.deepEqual(numbers, numbers.map((_, i) => i));
});

test("a stream, by the helper", async () => {
  const stream = client.responses.stream(ask(server.landscape));
  let text = "";
  stream.on("response.output_text.delta", ({ delta }) => { text += delta; });
  const response = await stream.finalResponse();
  assert.equal(text, server.landscape.answer);
  assert.equal(response.output_text, text);
  assert.ok(response.usage.output_tokens > 0);
});

test("a length", async () => {
  const response = await client.responses.create({ ...ask(server.landscape), max_output_tokens: 3 });
  assert.equal(response.status, "incomplete");
  assert.equal(response.incomplete_details.reason, "max_output_tokens");
  assert.equal(response.usage.output_tokens, 3);
  const streamed = await client.responses.stream({ ...ask(server.landscape), max_output_tokens: 3 }).finalResponse();
  assert.equal(streamed.status, "incomplete");
});

test("structured output", async () => {
  const schema = z.object({ count: z.number().int().min(0).max(9) });
  const request = { ...ask(server.stars), text: { format: zodTextFormat(schema, "stars") } };
  const response = await client.responses.parse(request);
  assert.deepEqual(response.output_parsed, { count: Number(server.stars.answer) });
  assert.deepEqual((await client.responses.stream(request).finalResponse()).output_parsed, response.output_parsed);
});

test("errors", async () => {
  const bad = (request, kind, properties) => server.refused(client.responses.create(request), kind, properties);
  await bad({ model: "gpt-9", input: "Hello" }, OpenAI.NotFoundError, { code: "model_not_found" });
  await bad(ask({ url: server.pngUrl(server.noPicture), question: "What is it?" }), OpenAI.BadRequestError,
    { code: "invalid_image" });
  await bad({ model, input: "Hello", previous_response_id: "resp_1" }, OpenAI.BadRequestError,
    { code: "unsupported_value", param: "previous_response_id" });
  await bad({ model, input: "Hello", tools: [{ type: "function", name: "f", parameters: {}, strict: true }] },
    OpenAI.BadRequestError, { code: "unsupported_value", param: "tools" });
  await bad({ model, input: server.longText }, OpenAI.APIError, { status: 413, code: "request_too_large" });
});

test("a stream left in the middle", () => server.expectLetGo(async () => {
  let deltas = 0;
  const request = { ...ask(server.landscape), ...server.endless, max_output_tokens: server.endlessTokens };
  for await (const event of await client.responses.create({ ...request, stream: true }))
    if (event.type === "response.output_text.delta" && ++deltas === 5) break;
}));
