// Embeddings by OpenAI's client, the AI SDK and Ollama's client.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { cosineSimilarity, embed, embedMany } from "ai";
import assert from "node:assert/strict";
import { test } from "node:test";
import { Ollama } from "ollama";
import OpenAI from "openai";
import * as server from "./server.mjs";

const { model } = server;
const openai = new OpenAI({ baseURL: server.baseURL, apiKey: server.key, maxRetries: 0 });
const vl2 = createOpenAICompatible({ name: "vl2", baseURL: server.baseURL, apiKey: server.key });
const ollama = new Ollama({ host: server.root, headers: { authorization: `Bearer ${server.key}` } });
const texts = ["a red square", "a yellow circle and a blue star"];

const { model_info: info } = await ollama.show({ model });
const size = info["deepseek_vl_v2.embedding_length"];

// `expected` may have been written with fewer digits.
function expectSame(vector, expected) {
  assert.equal(vector.length, size);
  assert.equal(expected.length, size);
  vector.forEach((value, i) => assert.ok(Math.abs(value - expected[i]) < 1e-5, `${value} and ${expected[i]} at ${i}`));
}

test("openai asks for base64 by itself, and for numbers when it is told", async () => {
  const packed = await openai.embeddings.create({ model, input: texts });
  const plain = await openai.embeddings.create({ model, input: texts, encoding_format: "float" });
  assert.deepEqual(packed.data.map(({ index }) => index), [0, 1]);
  for (const i of [0, 1]) {
    expectSame(packed.data[i].embedding, plain.data[i].embedding);
    const length = Math.hypot(...packed.data[i].embedding);
    assert.ok(Math.abs(length - 1) < 1e-3, `length ${length}`);
  }
  assert.ok(cosineSimilarity(packed.data[0].embedding, packed.data[1].embedding) < 0.9999);
  assert.ok(packed.usage.prompt_tokens > 0);
  assert.equal(packed.usage.total_tokens, packed.usage.prompt_tokens);
  const one = await openai.embeddings.create({ model, input: texts[1] });
  expectSame(one.data[0].embedding, packed.data[1].embedding);
});

test("openai: a picture, which is an addition", async () => {
  const content = (base64) => ({ content: [{ type: "image_url", image_url: { url: server.pngUrl(base64) } }] });
  const input = [server.square.base64, server.star.base64].map(content);
  const { data } = await openai.embeddings.create({ model, input });
  assert.equal(data.length, 2);
  assert.ok(cosineSimilarity(data[0].embedding, data[1].embedding) < 0.9999);
});

test("the AI SDK", async () => {
  const { data } = await openai.embeddings.create({ model, input: texts });
  const { embeddings, usage } = await embedMany({ model: vl2.embeddingModel(model), values: texts });
  assert.equal(embeddings.length, 2);
  embeddings.forEach((vector, i) => expectSame(vector, data[i].embedding));
  assert.ok(usage.tokens > 0);
  const { embedding } = await embed({ model: vl2.embeddingModel(model), value: texts[0] });
  expectSame(embedding, data[0].embedding);
});

test("ollama", async () => {
  const { data } = await openai.embeddings.create({ model, input: texts });
  const { embeddings, prompt_eval_count: count } = await ollama.embed({ model, input: texts });
  assert.equal(embeddings.length, 2);
  embeddings.forEach((vector, i) => expectSame(vector, data[i].embedding));
  assert.ok(count > 0);
  expectSame((await ollama.embed({ model, input: texts[0] })).embeddings[0], data[0].embedding);
});

test("errors", async () => {
  const bad = (request, kind, properties) => server.refused(openai.embeddings.create(request), kind, properties);
  await bad({ model: "gpt-9", input: "a" }, OpenAI.NotFoundError, { code: "model_not_found" });
  await bad({ model, input: "a", dimensions: size - 1 }, OpenAI.BadRequestError,
    { code: "unsupported_value", param: "dimensions" });
  await bad({ model, input: [] }, OpenAI.BadRequestError, { status: 400 });
  await bad({ model, input: "word ".repeat(9000) }, OpenAI.BadRequestError, { code: "context_length_exceeded" });
  await server.refused(ollama.embed({ model: "llama9", input: "a" }), Error,
    { name: "ResponseError", status_code: 404, message: /llama9/ });
});
