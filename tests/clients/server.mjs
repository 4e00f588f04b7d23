// What the checks of all clients share: the server they ask, pictures with questions it answers rightly, and what it
// says of itself. run.mjs starts the server and sets the variables.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { crc32, deflateSync } from "node:zlib";

export const root = process.env.VL2_URL;
export const key = process.env.VL2_KEY;
export const baseURL = `${root}/v1`;
export const model = "nano";

const folder = new URL("../../examples/", import.meta.url);
const table = JSON.parse(readFileSync(new URL("examples.json", folder), "utf8"));

export function pngUrl(base64) {
  return `data:image/png;base64,${base64}`;
}

// A picture of examples/ with one of its questions and the answer nano gives.
export function example(picture, question) {
  const row = table.find(({ images }) => images.join(" ") === [picture].flat().join(" "));
  const { answer } = row.qa.find((pair) => pair.question === question);
  const pictures = row.images.map((name) => readFileSync(new URL(name, folder)).toString("base64"));
  return { question, answer, pictures, base64: pictures[0], url: pngUrl(pictures[0]) };
}

export const square = example("5-wide.png", "What colour is the square?");
export const stars = example("5-wide.png", "How many stars are in the picture?");
export const landscape = example("6-small-landscape.png", "Describe the picture.");
export const star = example("6-small-landscape.png", "What color is the star?");
export const circles = example("6-small-landscape.png", "How many circles are in the picture?");
export const redShape = example("4-four-shapes.png", "Which shape is red?");
export const purpleShape = example("3-shapes.png", "What shape is purple?");
export const both = example(["9-first-of-two.png", "9-second-of-two.png"],
  "Which of the two pictures has a pink square?");

// What no reader takes for a picture.
export const noPicture = Buffer.from("These bytes are no picture of any kind.").toString("base64");

// A PNG that says it has 400 million pixels, more than the 100 a request may have. Nobody gets to decode it.
export function hugePicture() {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(20000, 0);
  header.writeUInt32BE(20000, 4);
  header[8] = 8;  // grey
  const chunks = [["IHDR", header], ["IDAT", deflateSync(Buffer.alloc(100))], ["IEND", Buffer.alloc(0)]];
  const chunk = ([type, data]) => {
    const typed = Buffer.concat([Buffer.from(type), data]);
    const length = Buffer.alloc(4), sum = Buffer.alloc(4);
    length.writeUInt32BE(data.length);
    sum.writeUInt32BE(crc32(typed));
    return Buffer.concat([length, typed, sum]);
  };
  return Buffer.concat([Buffer.from("\x89PNG\r\n\x1a\n", "latin1"), ...chunks.map(chunk)]).toString("base64");
}

// More than the 1 MiB that run.mjs lets a request have.
export const longText = "many words ".repeat(200_000);

// An answer that goes on until somebody stops it or the context is full: seconds, if nobody does.
export const endless = { ignore_eos: true };
export const endlessTokens = 3000;

export async function metric(name) {
  const reply = await fetch(`${root}/metrics`, { headers: { authorization: `Bearer ${key}` } });
  assert.equal(reply.status, 200);
  const line = (await reply.text()).split("\n").find((one) => one.startsWith(`vl2_${name} `));
  assert.ok(line, `/metrics says nothing of ${name}`);
  return Number(line.split(" ")[1]);
}

// `giveUp` asks for an endless answer and leaves it in the middle. The server must notice, stop making it, and have
// room for the next one long before it would have been complete.
export async function expectLetGo(giveUp, answers = 1) {
  const cancelled = await metric("answers_cancelled_total");
  const generated = await metric("generated_tokens_total");
  await giveUp();
  const left = Date.now();
  while ((await metric("requests_running")) > 0 || (await metric("answers_cancelled_total")) === cancelled) {
    assert.ok(Date.now() - left < 60_000, "the answer is still being made");
    await sleep(10);
  }
  assert.equal(await metric("answers_cancelled_total"), cancelled + answers);
  const made = await metric("generated_tokens_total");
  assert.ok(made - generated < endlessTokens, "the answer was made to its end");
  await sleep(50);
  assert.equal(await metric("generated_tokens_total"), made);
}

// Aborts what is asked next as soon as the server makes an answer.
export function abortOnceRunning() {
  const controller = new AbortController();
  (async () => {
    while ((await metric("requests_running")) === 0) await sleep(5);
    controller.abort();
  })();
  return controller.signal;
}

// Rejects as `kind` of a client's errors, with these properties.
export async function refused(promise, kind, properties) {
  await assert.rejects(promise, (error) => {
    assert.ok(error instanceof kind, `${error?.constructor?.name}, not ${kind.name}: ${error}`);
    for (const [name, value] of Object.entries(properties)) {
      if (value instanceof RegExp) assert.match(String(error[name]), value);
      else assert.deepEqual(error[name], value, `${name} of ${error}`);
    }
    return true;
  });
}
