// The vault that is open: its notes, kept in step with the server while the page is.

import { computed, signal } from "../vendor/preact.js";
import { all, at, follow, get } from "./api.js";
import { Names, treeOf } from "./paths.js";
import { me, token } from "./session.js";

/** @typedef {import("./paths.js").Note} Note */
/**
 * @typedef {{id: string, vault: string, path: string, people: {user: string, device: string,
 *   name: string}[]}} Live
 * @typedef {{version: string, note: string, op: string, path: string | null,
 *   from: string | null, kind: "note" | "asset" | null, bytes: number | null,
 *   stamp: {ms: number}, author: string, parents: string[],
 *   user: {id: string, email: string | null} | null,
 *   device: {id: string, name: string | null} | null,
 *   with: {user: {id: string, email: string | null}, device: {name: string | null}}[], session: string | null,
 *   received_ms: number | null,
 *   seq: number}} Revision
 */

/** Changes at once that are cheaper asked for one by one than the whole list again. */
const REVISIONS = 200;

/** @type {import("../vendor/preact.js").Signal<{id: string, name: string,
 *   access: "read" | "write", owner: boolean, created_ms: number} | null>} */
export const vault = signal(null);
/** @type {import("../vendor/preact.js").Signal<Map<string, Note>>} */
export const notes = signal(new Map());
/** @type {import("../vendor/preact.js").Signal<Error | null>} */
export const problem = signal(null);
export const loading = signal(false);
/** Open conflicts of the vault. */
export const conflicts = signal(0);
/** @type {import("../vendor/preact.js").Signal<Live[]>} */
export const live = signal([]);
/** Whether the server is heard. */
export const heard = signal(true);
/** Why the server lets this browser into the vault no more. @type {import("../vendor/preact.js").Signal<Error | null>} */
export const refused = signal(null);
/** Counts up with each change of the vault. */
export const changes = signal(0);

export const tree = computed(() => treeOf(notes.value.values()));
const paths = computed(() => [...notes.value.keys()].join("\n"));
/** Another one only when a path is: what links lead to stays drawn while notes are edited. */
export const names = computed(() => {
  void paths.value;
  return new Names(notes.peek().values());
});
/** Who is in a session besides this browser. @param {Live | undefined} session */
export const others = (session) => (
  (session?.people ?? []).filter(({ device }) => device !== me.value?.device));
/** Who else writes in the note at a path. @param {string} path */
export const writing = (path) => others(live.value.find((one) => one.path === path));
export const mayWrite = computed(() => vault.value?.access === "write");

let name = "";
let known = 0;
/** @type {AbortController | null} */
let open = null;
/** @type {string | null} */
let openedWith = null;

/** Opens a vault, unless it is. @param {string} wanted */
export function openVault(wanted) {
  // Who signed in anew is heard with the new token alone.
  if (name === wanted && open && openedWith === token.value) return;
  closeVault();
  name = wanted;
  openedWith = token.value;
  open = new AbortController();
  const { signal: until } = open;
  loading.value = true;
  void load(until);
  void follow(at("sync", wanted, "events"), until, (event) => {
    if (event === "root") soon(until);
  }, (up) => {
    heard.value = up;
    if (up && vault.value) soon(until);
    else if (up && !loading.value) void load(until);
  }, (error) => { refused.value = error; });
  void follow("/api/sessions/events", until, () => void loadLive(until),
    (up) => { if (up) void loadLive(until); });
}

if (typeof addEventListener === "function") {
  // The browser knows sooner than a line that is silent.
  addEventListener("offline", () => { if (open) heard.value = false; });
  addEventListener("online", () => { if (open) soon(open.signal); });
}

export function closeVault() {
  open?.abort();
  open = null;
  name = "";
  known = 0;
  vault.value = null;
  notes.value = new Map();
  problem.value = null;
  conflicts.value = 0;
  live.value = [];
  heard.value = true;
  refused.value = null;
}

/** @param {AbortSignal} until */
async function load(until) {
  try {
    const [about, list] = await Promise.all([
      get(at("vaults", name), { signal: until }),
      all(`${at("notes", name)}?limit=1000`, "notes", until),
    ]);
    if (until.aborted) return;
    vault.value = about;
    known = list.first?.seq ?? 0;
    notes.value = new Map(list.items.map((/** @type {Note} */ note) => [note.path, note]));
    problem.value = null;
    void loadConflicts(until);
    void loadLive(until);
  } catch (error) {
    if (!until.aborted && !vault.value) problem.value = /** @type {Error} */ (error);
  } finally {
    if (!until.aborted) loading.value = false;
  }
}

let looks = 0;

/** @param {AbortSignal} until */
async function loadConflicts(until) {
  looks += 1;
  const look = looks;
  try {
    const { first, items } = await all(at("conflicts", name), "conflicts", until);
    // An earlier answer that comes later is the older one.
    if (!first || until.aborted || look !== looks) return;
    conflicts.value = items.length;
    /** @type {Map<string, number>} */
    const counts = new Map();
    for (const { note } of items) counts.set(note, (counts.get(note) ?? 0) + 1);
    notes.value = withConflicts(notes.value, counts);
  } catch { /* the count stays */ }
}

/**
 * The list with the conflicts that are open now; the same list when it says so already.
 * @param {Map<string, Note>} before
 * @param {Map<string, number>} counts by note
 */
export function withConflicts(before, counts) {
  let differs = false;
  const after = new Map([...before].map(([path, note]) => {
    const conflicts = counts.get(note.note) ?? 0;
    if (conflicts === note.conflicts) return [path, note];
    differs = true;
    return [path, { ...note, conflicts }];
  }));
  return differs ? after : before;
}

/** @param {AbortSignal} until */
async function loadLive(until) {
  try {
    const { sessions } = await get("/api/sessions", { signal: until });
    if (!until.aborted) {
      live.value = sessions.filter((/** @type {Live} */ one) => one.vault === name);
    }
  } catch { /* a server without live sessions */ }
}

let asked = false;
let running = false;

/** @param {AbortSignal} until */
function soon(until) {
  if (asked) return;
  asked = true;
  setTimeout(async () => {
    if (running) {
      asked = false;
      soon(until);
      return;
    }
    asked = false;
    running = true;
    try {
      if (vault.value && !until.aborted) await catchUp(until);
    } finally {
      running = false;
    }
  }, 150);
}

/** Brings in what changed since the last look. @param {AbortSignal} until */
async function catchUp(until) {
  /** @type {Revision[]} */
  let revisions;
  try {
    ({ revisions } = await get(`${at("history", name)}?limit=${REVISIONS}`, { signal: until }));
    heard.value = true;
  } catch {
    return undefined;
  }
  if (until.aborted || !token.value) return undefined;
  const fresh = revisions.filter(({ seq }) => seq > known);
  if (fresh.length === 0) return void loadConflicts(until);
  const next = fresh.length < REVISIONS ? withRevisions(notes.value, fresh) : null;
  if (next) {
    known = Math.max(...fresh.map(({ seq }) => seq));
    notes.value = next;
  } else {
    await load(until);
  }
  changes.value += 1;
  return void loadConflicts(until);
}

/**
 * The list with revisions carried out; null when that is not plain.
 * @param {Map<string, Note>} before
 * @param {Revision[]} fresh newest first
 * @returns {Map<string, Note> | null}
 */
export function withRevisions(before, fresh) {
  const byId = new Map([...before.values()].map((note) => [note.note, note]));
  const seen = new Set();
  for (const one of fresh) {
    if (seen.has(one.note)) continue;
    seen.add(one.note);
    const was = byId.get(one.note);
    if (one.path === null) {
      byId.delete(one.note);
      continue;
    }
    byId.set(one.note, {
      path: one.path,
      note: one.note,
      version: one.version,
      kind: one.kind ?? was?.kind ?? "note",
      bytes: one.bytes ?? was?.bytes ?? 0,
      changed_ms: one.received_ms ?? one.stamp.ms,
      conflicts: was?.conflicts ?? 0,
    });
  }
  const after = new Map([...byId.values()].map((note) => [note.path, note]));
  return after.size === byId.size ? after : null;
}

/** Looks again at once, after a change of one's own. */
export function refresh() {
  if (open) soon(open.signal);
}
