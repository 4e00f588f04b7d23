// Starts the program as a server with the small model, runs the checks of every client against it, and stops it:
//   node run.mjs PROGRAM [CHECKS...]        all checks, or those named: openai, ollama, ...
// Exit code 1 when a check fails, or when the server does not end as it should.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { run } from "node:test";
import { fileURLToPath } from "node:url";
import { inspect } from "node:util";

// The server has /v1/embeddings and /api/embed. Until it does, their checks are not run, and it is checked that they
// are not there: whoever adds them turns this on.
const kEmbeddings = true;

const kChecks = ["openai", "openai_responses", "anthropic", "ai_sdk", "ollama", "langchain"];
if (kEmbeddings) kChecks.push("embeddings");

const kKey = "key-of-the-checks";
const kModel = fileURLToPath(new URL("../../models/nano", import.meta.url));
const kStartMs = 60_000, kCheckMs = 120_000, kEndMs = 15_000;

function fail(message) {
  console.error(`clients: ${message}`);
  process.exitCode = 1;
}

function later(ms, what) {
  return new Promise((_, reject) => setTimeout(() => reject(new Error(what)), ms).unref());
}

// Resolves with the server's address once it answers. What it prints is kept, to be shown if something fails.
async function start(program, log) {
  // 1 MiB and eight answers at a time, so that requests can be too large, and too many.
  const limits = ["--parallel", "2", "--max-queue", "6", "--max-body", "1"];
  const server = spawn(program, ["serve", "-m", kModel, "--port", "0", ...limits],
    { env: { ...process.env, VL2_API_KEY: kKey }, stdio: ["ignore", "inherit", "pipe"] });
  const ready = new Promise((resolve, reject) => {
    server.once("error", reject);
    server.once("exit", (code) => reject(new Error(`the server ended with ${code} before it was ready`)));
    server.stderr.setEncoding("utf8").on("data", (text) => {
      log.text += text;
      const [, url] = log.text.match(/(http:\/\/\S+)\/v1,/) ?? [];
      if (url && log.text.includes("ready")) resolve(url);
    });
  });
  try {
    return { server, url: await Promise.race([ready, later(kStartMs, "the server was not ready in time")]) };
  } catch (error) {
    server.kill("SIGKILL");
    throw error;
  }
}

async function stop(server) {
  server.removeAllListeners("exit");
  if (server.exitCode === null && server.signalCode === null) {
    const ended = once(server, "exit");
    server.kill("SIGTERM");
    await Promise.race([ended, later(kEndMs, "the server did not end in time")]).catch((error) => {
      server.kill("SIGKILL");
      throw error;
    });
  }
  const how = server.exitCode ?? server.signalCode;
  if (how !== 0) throw new Error(`the server ended with ${how}, expected 0`);
}

// One process after the other: what a check reads in /metrics is its own doing.
async function check(name) {
  const start = Date.now();
  let passed = 0;
  const failures = [];
  const file = fileURLToPath(new URL(`${name}.mjs`, import.meta.url));
  for await (const { type, data } of run({ files: [file], timeout: kCheckMs })) {
    if (type === "test:pass") ++passed;
    if (type === "test:fail") failures.push(`${data.name}: ${inspect(data.details.error.cause ?? data.details.error)}`);
    if (type === "test:stderr") process.stderr.write(data.message);
  }
  if (passed + failures.length === 0) failures.push("there was nothing to check");
  console.log(`${name}: ${passed} passed, ${failures.length} failed, ${((Date.now() - start) / 1000).toFixed(1)} s`);
  for (const failure of failures) fail(`${name}, ${failure}`);
}

async function checkEmbeddingsAreAbsent(url) {
  for (const route of ["/v1/embeddings", "/api/embed"]) {
    const headers = { authorization: `Bearer ${kKey}`, "content-type": "application/json" };
    const { status } = await fetch(url + route, { method: "POST", headers, body: "{}" });
    if (status !== 404) fail(`${route} answers ${status}: it is there, so kEmbeddings in run.mjs must be true`);
  }
}

const [program, ...named] = process.argv.slice(2);
const log = { text: "" };
try {
  for (const name of named)
    if (!kChecks.includes(name)) throw new Error(`no checks "${name}"; there are ${kChecks.join(", ")}`);
  const { server, url } = await start(program, log);
  Object.assign(process.env, { VL2_URL: url, VL2_KEY: kKey, NO_PROXY: "127.0.0.1" });
  try {
    if (!kEmbeddings) await checkEmbeddingsAreAbsent(url);
    for (const name of named.length > 0 ? named : kChecks) await check(name);
  } finally {
    await stop(server);
  }
} catch (error) {
  fail(error.message);
}
// Of its log, what is no line of a request that went well.
const said = log.text.split("\n").filter((line) => !/"status":[24]\d\d,/.test(line)).join("\n");
if (process.exitCode && said) console.error(`what the server said:\n${said}`);
if (!process.exitCode) console.log("clients: all as expected");
