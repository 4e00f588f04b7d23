// LangChain's client for OpenAI's API.
import { AIMessage, HumanMessage, SystemMessage } from "@langchain/core/messages";
import { ChatOpenAI } from "@langchain/openai";
import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "zod";
import * as server from "./server.mjs";

const { model } = server;
function chat(settings = {}) {
  const { apiKey = server.key, ...others } = settings;
  return new ChatOpenAI({ model, apiKey, maxRetries: 0, configuration: { baseURL: server.baseURL }, ...others });
}
const client = chat();

function turn({ pictures, question }) {
  const images = pictures.map((base64) => ({ type: "image_url", image_url: { url: server.pngUrl(base64) } }));
  return new HumanMessage({ content: [...images, { type: "text", text: question }] });
}

test("a picture", async () => {
  const message = await client.invoke([turn(server.square)]);
  assert.equal(message.content, server.square.answer);
  assert.equal(message.response_metadata.finish_reason, "stop");
  const { input_tokens: read, output_tokens: written, total_tokens: total } = message.usage_metadata;
  assert.ok(read > 100 && written > 0);
  assert.equal(total, read + written);
});

test("two pictures", async () => {
  assert.equal((await client.invoke([turn(server.both)])).content, server.both.answer);
});

test("a picture as LangChain's own kind of block", async () => {
  const image = { type: "image", source_type: "base64", mime_type: "image/png", data: server.square.base64 };
  const message = new HumanMessage({ content: [image, { type: "text", text: server.square.question }] });
  assert.equal((await client.invoke([message])).content, server.square.answer);
});

test("several turns, the first answer handed back as it came", async () => {
  const history = [new SystemMessage("Be brief."), turn(server.star)];
  const answer = await client.invoke(history);
  assert.equal(answer.content, server.star.answer);
  assert.ok(answer instanceof AIMessage);
  const second = await client.invoke([...history, answer, new HumanMessage(server.circles.question)]);
  assert.equal(second.content, server.circles.answer);
});

test("a stream", async () => {
  const whole = await client.invoke([turn(server.landscape)]);
  let sum;
  for await (const chunk of await client.stream([turn(server.landscape)])) sum = sum ? sum.concat(chunk) : chunk;
  assert.equal(sum.content, server.landscape.answer);
  for (const name of ["input_tokens", "output_tokens", "total_tokens"])
    assert.equal(sum.usage_metadata[name], whole.usage_metadata[name]);
});

test("a batch", async () => {
  const answers = await client.batch([[turn(server.square)], [turn(server.star)], [turn(server.redShape)]]);
  assert.deepEqual(answers.map(({ content }) => content),
    [server.square.answer, server.star.answer, server.redShape.answer]);
});

test("stop, maxTokens, logprobs", async () => {
  const stopped = await chat({ stop: [", a red"] }).invoke([turn(server.landscape)]);
  assert.equal(stopped.content, server.landscape.answer.split(", a red")[0]);
  const cut = await chat({ maxTokens: 3 }).invoke([turn(server.landscape)]);
  assert.equal(cut.response_metadata.finish_reason, "length");
  const sure = await chat({ logprobs: true, topLogprobs: 2 }).invoke([turn(server.landscape)]);
  assert.equal(sure.response_metadata.logprobs.content.map(({ token }) => token).join(""), server.landscape.answer);
});

test("n", async () => {
  const three = chat({ n: 3, temperature: 1, modelKwargs: { seed: 3 }, maxTokens: 8 });
  const { generations } = await three.generate([["Describe yourself."]]);
  assert.equal(generations[0].length, 3);
});

test("structured output", async () => {
  const schema = z.object({ count: z.number().int().min(0).max(9) });
  const right = { count: Number(server.stars.answer) };
  for (const options of [{ method: "jsonSchema" }, { method: "jsonSchema", strict: true, name: "stars" }])
    assert.deepEqual(await client.withStructuredOutput(schema, options).invoke([turn(server.stars)]), right);
  const { parsed, raw } = await client.withStructuredOutput(schema, { includeRaw: true }).invoke([turn(server.stars)]);
  assert.deepEqual(parsed, right);
  assert.equal(raw.response_metadata.finish_reason, "stop");
});

test("errors", async () => {
  const bad = (settings, message, status, code) =>
    server.refused(chat(settings).invoke([message]), Error, { status, code });
  const hello = new HumanMessage("Hello");
  await bad({ model: "gpt-9" }, hello, 404, "model_not_found");
  await server.refused(chat({ model: "gpt-9" }).stream([hello]), Error, { status: 404, code: "model_not_found" });
  await bad({ apiKey: "wrong" }, hello, 401, "invalid_api_key");
  await bad({}, turn({ pictures: [server.noPicture], question: "What is it?" }), 400, "invalid_image");
  await bad({}, turn({ pictures: [server.hugePicture()], question: "What is it?" }), 413, "request_too_large");
  await bad({}, new HumanMessage(server.longText), 413, "request_too_large");
  const tools = [{ type: "function", function: { name: "f", parameters: { type: "object", properties: {} } } }];
  await server.refused(client.bindTools(tools).invoke([hello]), Error, { status: 400, code: "unsupported_value" });
});

const endless = () => chat({ maxTokens: server.endlessTokens, modelKwargs: server.endless });

test("a stream left in the middle", () => server.expectLetGo(async () => {
  let chunks = 0;
  for await (const chunk of await endless().stream([turn(server.landscape)]))
    if (chunk.content && ++chunks === 5) break;
}));

test("a whole answer aborted", () => server.expectLetGo(async () => {
  await assert.rejects(endless().invoke([turn(server.landscape)], { signal: server.abortOnceRunning() }));
}));
