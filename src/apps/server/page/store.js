// What survives a reload: the conversation of this tab, in IndexedDB, and the settings. All of it may be missing.
import { newId } from "./dom.js";

const MOST_PICTURE_BYTES = 48 << 20, MOST_TEXT = 1 << 20; // of a conversation; older turns give way
const MOST_TABS = 4, LONGEST_MS = 24 * 3600 * 1000;       // conversations of tabs that are gone

function tabId() {
  try {
    const known = sessionStorage.getItem("vl2.tab");
    if (known) return known;
    const id = newId();
    sessionStorage.setItem("vl2.tab", id);
    return id;
  } catch {
    return null;
  }
}

function promised(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

let opened = null;
function database() {
  opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open("vl2", 1);
    request.onupgradeneeded = () => request.result.createObjectStore("conversations", { keyPath: "id" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  return opened;
}

async function conversations(mode) {
  return (await database()).transaction("conversations", mode).objectStore("conversations");
}

// The latest turns that fit, beginning with one of the user's.
function bounded(turns) {
  let bytes = 0, text = 0, first = turns.length;
  for (let i = turns.length - 1; i >= 0; --i) {
    bytes += (turns[i].pictures ?? []).reduce((sum, picture) => sum + picture.blob.size, 0);
    text += turns[i].text.length;
    if (bytes > MOST_PICTURE_BYTES || text > MOST_TEXT) break;
    if (turns[i].role === "user") first = i;
  }
  return turns.slice(first);
}

// Plain data: blobs are stored as they are, addresses of blobs mean nothing later.
function plainTurn(turn) {
  const pictures = turn.pictures?.map(({ id, name, blob }) => ({ id, name, blob }));
  const { role, text, mode, state, finish, loop, grounding, pictureId, usage, timings, failure } = turn;
  return { role, text, mode, state, finish, loop, grounding, pictureId, usage, timings, failure, pictures };
}

export async function saveConversation(turns) {
  const id = tabId();
  if (!id) return;
  try {
    const kept = bounded(turns);
    const store = await conversations("readwrite");
    if (kept.length === 0) await promised(store.delete(id));
    else await promised(store.put({ id, saved: Date.now(), cut: kept.length < turns.length, turns: kept.map(plainTurn) }));
  } catch (error) {
    console.warn("vl2: the conversation was not kept", error);
  }
}

// { turns, cut } as they were saved, or null. Those of other tabs are thrown away when they are old or many.
export async function loadConversation() {
  const id = tabId();
  if (!id) return null;
  try {
    const all = await promised((await conversations("readonly")).getAll());
    const others = all.filter((one) => one.id !== id).sort((a, b) => b.saved - a.saved);
    const gone = others.filter((one, i) => i >= MOST_TABS || Date.now() - one.saved > LONGEST_MS);
    if (gone.length > 0) {
      const store = await conversations("readwrite");
      for (const one of gone) store.delete(one.id);
    }
    return all.find((one) => one.id === id) ?? null;
  } catch {
    return null;
  }
}

export function loadSetting(name, fallback) {
  try {
    return JSON.parse(localStorage.getItem(`vl2.${name}`)) ?? fallback;
  } catch {
    return fallback;
  }
}

export function saveSetting(name, value) {
  try {
    localStorage.setItem(`vl2.${name}`, JSON.stringify(value));
  } catch { /* it holds until the page is left */ }
}
