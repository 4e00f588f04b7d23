// Requests to the server this page came from. Addresses are relative, so that a proxy may put it below any path.

const KEY = "vl2.key";

export const apiKey = {
  get() {
    try {
      return sessionStorage.getItem(KEY) ?? "";
    } catch {
      return "";
    }
  },
  set(key) {
    try {
      key ? sessionStorage.setItem(KEY, key) : sessionStorage.removeItem(KEY);
    } catch { /* it holds until the page is left */ }
  },
};

export class ApiFailure extends Error {
  constructor(message, { status = 0, code = null, retryAfter = 0 } = {}) {
    super(message);
    this.status = status; // 0: no reply came, or it broke off
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

async function request(path, { body, signal } = {}) {
  const headers = {};
  if (apiKey.get()) headers.Authorization = `Bearer ${apiKey.get()}`;
  if (body) headers["Content-Type"] = "application/json";
  let reply;
  try {
    reply = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiFailure("The server does not answer. Is it still running?");
  }
  if (!reply.ok) throw await failureOf(reply);
  return reply;
}

async function failureOf(reply) {
  let error = {};
  try {
    error = (await reply.json()).error ?? {};
  } catch { /* a proxy's page */ }
  const message = typeof error.message === "string" ? error.message : `The server answered with status ${reply.status}.`;
  return new ApiFailure(message, { status: reply.status, code: error.code ?? null, retryAfter: Number(reply.headers.get("retry-after")) || 0 });
}

export async function health() {
  return (await request("health")).json();
}

export async function firstModel() {
  return (await (await request("v1/models")).json()).data[0];
}

export async function planPictures(urls, signal) {
  return (await request("v1/images/plan", { body: { images: urls }, signal })).json();
}

// Data of server-sent events, one by one.
async function* eventsOf(reply) {
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  try {
    while (true) {
      const { done, value } = await reader.read();
      if (done) return;
      buffer += value.replaceAll("\r", "");
      let end;
      while ((end = buffer.indexOf("\n\n")) >= 0) {
        const lines = buffer.slice(0, end).split("\n").filter((line) => line.startsWith("data:"));
        buffer = buffer.slice(end + 2);
        if (lines.length > 0) yield lines.map((line) => line.slice(5).trimStart()).join("\n");
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

// Calls onChunk with every chunk of the answer. ApiFailure when it is not whole; AbortError when the signal came.
export async function streamChat(body, signal, onChunk) {
  const reply = await request("v1/chat/completions", { body: { ...body, stream: true, stream_options: { include_usage: true } }, signal });
  try {
    for await (const data of eventsOf(reply)) {
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ApiFailure(String(chunk.error.message ?? "The answer failed on the way."), { code: chunk.error.code ?? null });
      onChunk(chunk);
    }
  } catch (error) {
    if (error instanceof ApiFailure || error.name === "AbortError") throw error;
    throw new ApiFailure("The connection broke before the answer was whole.");
  }
  throw new ApiFailure("The connection ended before the answer did.");
}
