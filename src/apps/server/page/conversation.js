// The turns of a conversation, and the request they become.
//
// A turn of the user: { role, text, mode, pictures }. Of the model: { role, text, state, ... }, state being "streaming",
// "done", "stopped" or "failed".
import { withMode } from "./grounding.js";
import { dataUrl } from "./pictures.js";

export const userTurn = (text, mode, pictures) => ({ role: "user", text, mode, pictures });
export const answerTurn = () => ({ role: "assistant", text: "", state: "streaming" });

// What the model is told: a question whose answer failed without a word is left out, or it would be asked twice.
export function sentTurns(turns) {
  return turns.filter((turn, i) => {
    const answer = turn.role === "assistant" ? turn : turns[i + 1];
    const failed = answer?.role === "assistant" && answer.state === "failed" && answer.text === "";
    return !failed && (turn.role === "user" || turn.text !== "");
  });
}

export const picturesOf = (turns) => sentTurns(turns).flatMap((turn) => turn.pictures ?? []);

async function messageOf(turn) {
  const text = withMode(turn.text, turn.mode);
  if (turn.role === "assistant" || turn.pictures.length === 0) return { role: turn.role, content: text };
  const parts = await Promise.all(turn.pictures.map(async (one) => ({ type: "image_url", image_url: { url: await dataUrl(one) } })));
  return { role: "user", content: [...parts, { type: "text", text }] };
}

// The body of a request for the answer to the last of `turns`. `settings`: of settings.js.
export async function requestOf(turns, settings, model) {
  const messages = await Promise.all(sentTurns(turns).map(messageOf));
  if (settings.system.trim()) messages.unshift({ role: "system", content: settings.system });
  const locating = turns.at(-1).mode !== "ask";
  const body = { model, messages, max_tokens: settings.maxTokens, detect_loops: settings.detectLoops };
  // The official examples sample for conversations and are greedy where boxes are asked for.
  if (!locating && settings.temperature > 0) {
    body.temperature = settings.temperature;
    body.top_p = settings.topP;
    if (settings.seed !== null) body.seed = settings.seed;
  }
  if (!locating && settings.repetitionPenalty !== 1) body.repetition_penalty = settings.repetitionPenalty;
  if (locating) body.response_format = { type: "grounding" };
  return body;
}
