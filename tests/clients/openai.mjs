// OpenAI's own client against a server that runs: node openai.mjs BASE_URL PICTURE
//
// Expects the small model. Exit code 1 at the first thing that is not as it should be.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import OpenAI from "openai";

const [baseURL, picture] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const url = "data:image/png;base64," + readFileSync(picture).toString("base64");
const models = await client.models.list();
const model = models.data[0].id;
assert.equal((await client.models.retrieve(model)).id, model);

const messages = [{
  role: "user",
  content: [{ type: "image_url", image_url: { url } }, { type: "text", text: "Describe the picture." }],
}];

const whole = await client.chat.completions.create({ model, messages });
assert.equal(whole.choices[0].finish_reason, "stop");
assert.ok(whole.choices[0].message.content.length > 0);
assert.ok(whole.usage.prompt_tokens_details.image_tokens > 0);

const stream = client.chat.completions.stream({ model, messages, stream_options: { include_usage: true } });
let text = "";
stream.on("content", (delta) => { text += delta; });
const last = await stream.finalChatCompletion();
assert.equal(text, whole.choices[0].message.content);
assert.equal(last.choices[0].message.content, text);
assert.deepEqual(last.usage, whole.usage);

const several = await client.chat.completions.create({
  model, messages, n: 2, temperature: 1, seed: 3, max_completion_tokens: 5, logprobs: true, top_logprobs: 2,
});
assert.equal(several.choices.length, 2);
assert.equal(several.choices[0].logprobs.content[0].top_logprobs.length, 2);

const completion = await client.completions.create({ model, prompt: "a red", max_tokens: 3 });
assert.equal(completion.object, "text_completion");

async function refused(request, kind, code) {
  await assert.rejects(request, (error) => {
    assert.ok(error instanceof kind, String(error));
    assert.equal(error.code, code);
    return true;
  });
}
await refused(client.chat.completions.create({ model: "other", messages }), OpenAI.NotFoundError, "model_not_found");
await refused(client.chat.completions.create({ model, messages, tools: [{ type: "function", function: { name: "f" } }] }),
  OpenAI.BadRequestError, "unsupported_value");
await refused(client.chat.completions.create({
  model, messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: "https://example.org/a.png" } }] }],
}), OpenAI.PermissionDeniedError, "media_domain_not_allowed");

const long = await client.chat.completions.create({
  model, messages, stream: true, max_tokens: 3000, ignore_eos: true,
});
let chunks = 0;
for await (const chunk of long) if (chunk.choices[0].delta.content && ++chunks === 5) break;  // closes the connection
const metrics = await (await fetch(new URL("/metrics", baseURL))).text();
assert.match(metrics, /vl2_requests_total\{route="\/chat\/completions",status="200"\}/);
console.log("openai: all as expected");
