// The AI SDK with its provider for whatever is compatible with OpenAI's API.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import {
  APICallError, NoObjectGeneratedError, Output, RetryError, generateObject, generateText, jsonSchema, streamObject,
  streamText, tool,
} from "ai";
import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "zod";
import * as server from "./server.mjs";

// `settings` beside the provider's: structured outputs are off unless one says that the server has them.
function provider(settings = {}) {
  return createOpenAICompatible({
    name: "vl2",
    baseURL: server.baseURL,
    apiKey: server.key,
    includeUsage: true,
    supportsStructuredOutputs: true,
    ...settings,
  });
}
const vl2 = provider();
const model = vl2(server.model);

function turn({ pictures, question }) {
  const images = pictures.map((base64) => ({ type: "image", image: Buffer.from(base64, "base64") }));
  return { role: "user", content: [...images, { type: "text", text: question }] };
}
const ask = (example) => ({ model, maxRetries: 0, messages: [turn(example)] });
const hello = { model, maxRetries: 0, prompt: "Hello" };

test("a picture", async () => {
  const { text, finishReason, usage } = await generateText(ask(server.square));
  assert.equal(text, server.square.answer);
  assert.equal(finishReason, "stop");
  assert.ok(usage.inputTokens > 100 && usage.outputTokens > 0);
  assert.equal(usage.totalTokens, usage.inputTokens + usage.outputTokens);
});

test("two pictures", async () => {
  assert.equal((await generateText(ask(server.both))).text, server.both.answer);
});

test("several turns, the first answer handed back as it came", async () => {
  const first = ask(server.star);
  const { text, response } = await generateText({ ...first, system: "Be brief." });
  assert.equal(text, server.star.answer);
  const messages = [...first.messages, ...response.messages, { role: "user", content: server.circles.question }];
  assert.equal((await generateText({ ...first, messages })).text, server.circles.answer);
});

test("a stream", async () => {
  const whole = await generateText(ask(server.landscape));
  const result = streamText(ask(server.landscape));
  let text = "";
  for await (const delta of result.textStream) text += delta;
  assert.equal(text, server.landscape.answer);
  assert.equal(await result.finishReason, "stop");
  const usage = await result.usage;
  assert.equal(usage.inputTokens, whole.usage.inputTokens);
  assert.equal(usage.outputTokens, whole.usage.outputTokens);
});

test("maxOutputTokens, stopSequences, seed", async () => {
  const cut = await generateText({ ...ask(server.landscape), maxOutputTokens: 3 });
  assert.equal(cut.finishReason, "length");
  assert.equal(cut.usage.outputTokens, 3);
  const stopped = await generateText({ ...ask(server.landscape), stopSequences: [", a red"] });
  assert.equal(stopped.text, server.landscape.answer.split(", a red")[0]);
  const texts = [];
  const drawn = { ...hello, temperature: 1, maxOutputTokens: 20, providerOptions: { vl2: server.endless } };
  for (const seed of [5, 5, 6, 7]) texts.push((await generateText({ ...drawn, seed })).text);
  assert.equal(texts[0], texts[1]);
  assert.ok(new Set(texts).size > 1);
});

test("structured output", async () => {
  const schema = z.object({ count: z.number().int().min(0).max(9) });
  const right = { count: Number(server.stars.answer) };
  assert.deepEqual((await generateObject({ ...ask(server.stars), schema })).object, right);
  const { output } = await generateText({ ...ask(server.stars), output: Output.object({ schema }) });
  assert.deepEqual(output, right);
  const streamed = streamObject({ ...ask(server.stars), schema });
  for await (const part of streamed.partialObjectStream) assert.equal(typeof part, "object");
  assert.deepEqual(await streamed.object, right);
});

test("structured output of one of several texts", async () => {
  const request = { ...ask(server.purpleShape), output: "enum", enum: ["circle", "square", "star"] };
  const { object } = await generateObject(request);
  assert.equal(object, server.purpleShape.answer);
});

test("JSON without a schema: what it asks for when nobody says that the server has schemas", async () => {
  globalThis.AI_SDK_LOG_WARNINGS = false;  // it would say so
  const bare = provider({ supportsStructuredOutputs: false })(server.model);
  const request = { ...ask(server.stars), model: bare, maxOutputTokens: 100 };
  const written = generateObject({ ...request, schema: jsonSchema({ type: "object" }) }).then(
    ({ object }) => JSON.stringify(object),
    (error) => {  // the small model may not come to an end
      assert.ok(NoObjectGeneratedError.isInstance(error), String(error));
      assert.equal(error.finishReason, "length");
      return error.text;
    });
  assert.match(await written, /^\s*\{/);
});

test("errors", async () => {
  const bad = (request, statusCode, code) => assert.rejects(generateText(request), (error) => {
    assert.ok(APICallError.isInstance(error), String(error));
    assert.equal(error.statusCode, statusCode);
    assert.equal(error.isRetryable, false);
    assert.equal(error.data.error.code, code);
    return true;
  });
  await bad({ ...hello, model: vl2("gpt-9") }, 404, "model_not_found");
  await bad({ ...hello, model: provider({ apiKey: "wrong" })(server.model) }, 401, "invalid_api_key");
  await bad(ask({ pictures: [server.noPicture], question: "What is it?" }), 400, "invalid_image");
  await bad(ask({ pictures: [server.hugePicture()], question: "What is it?" }), 413, "request_too_large");
  await bad({ ...hello, prompt: server.longText }, 413, "request_too_large");
  const tools = { f: tool({ inputSchema: z.object({}), execute: () => "" }) };
  await bad({ ...hello, tools }, 400, "unsupported_value");
  const errors = [];
  const stream = streamText({ ...hello, model: vl2("gpt-9"), onError: ({ error }) => errors.push(error) });
  await stream.consumeStream();
  assert.equal(errors[0].statusCode, 404);
});

test("the client's own retries stop at what cannot help", async () => {
  await assert.rejects(generateText({ ...hello, maxRetries: 2, model: vl2("gpt-9") }),
    (error) => !RetryError.isInstance(error));
});

const endless = {
  ...ask(server.landscape), maxOutputTokens: server.endlessTokens, providerOptions: { vl2: server.endless },
};

test("a stream aborted in the middle", () => server.expectLetGo(async () => {
  const controller = new AbortController();
  let aborted = 0, deltas = 0;
  const stream = streamText({ ...endless, abortSignal: controller.signal, onAbort: () => { ++aborted; } });
  for await (const _ of stream.textStream) if (++deltas === 5) controller.abort();
  assert.equal(aborted, 1);
}));

test("a whole answer aborted", () => server.expectLetGo(async () => {
  await assert.rejects(generateText({ ...endless, abortSignal: server.abortOnceRunning() }), { name: "AbortError" });
}));
