// Edits that no server has taken yet, kept in the browser.
//
// One draft for each open editor, under (user, note, epoch). Invariants: a draft is there before
// its edits can be lost, and goes only when the server has them on disk; a draft of a tab that
// lives is left to that tab.

/**
 * @typedef {object} Draft
 * @property {string} id of the editor that wrote it
 * @property {string} user
 * @property {string} note id of the note; it survives a rename
 * @property {string} vault
 * @property {string} path where the note was
 * @property {string} epoch of the document the edits belong to
 * @property {string} base the text without these edits
 * @property {string} text the text with them
 * @property {Uint8Array} updates the edits, for a document of the same epoch
 * @property {string[]} peers in whose names the edits are
 * @property {number} at_ms when it was written
 */

/**
 * Where drafts lie. IndexedDB in the browser, a Map in tests.
 * @typedef {object} Shelf
 * @property {(draft: Draft) => Promise<void>} put
 * @property {(id: string) => Promise<void>} remove
 * @property {() => Promise<Draft[]>} all
 * @property {(draft: Draft) => Promise<boolean>} tended whether a tab that lives looks after it
 */

const NAME = "crucible";
const TABLE = "drafts";

/** @template T @param {IDBRequest<T>} request @returns {Promise<T>} */
const done = (request) => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});

/** @returns {Shelf} */
export function browserShelf() {
  /** @type {Promise<IDBDatabase> | null} */
  let opened = null;
  const table = async (/** @type {IDBTransactionMode} */ mode) => {
    if (!opened) {
      const request = indexedDB.open(NAME, 1);
      request.onupgradeneeded = () => request.result.createObjectStore(TABLE, { keyPath: "id" });
      opened = done(request);
      opened.catch(() => { opened = null; });
    }
    return (await opened).transaction(TABLE, mode).objectStore(TABLE);
  };
  return {
    put: async (draft) => { await done((await table("readwrite")).put(draft)); },
    remove: async (id) => { await done((await table("readwrite")).delete(id)); },
    all: async () => done(/** @type {IDBRequest<Draft[]>} */ ((await table("readonly")).getAll())),
    tended: isOfALivingTab,
  };
}

/** @returns {Shelf} */
export function memoryShelf() {
  /** @type {Map<string, Draft>} */
  const drafts = new Map();
  return {
    put: async (draft) => { drafts.set(draft.id, structuredClone(draft)); },
    remove: async (id) => { drafts.delete(id); },
    all: async () => [...drafts.values()],
    tended: async () => false,
  };
}

/** How long a tab that lives has to say so, where the browser has no locks to tell. */
const ANSWER_MS = 1_000;

const lockOf = (/** @type {string} */ id) => `crucible draft ${id}`;

/** Tabs of this browser ask each other here; over plain HTTP there are no locks. */
const newChannel = () => new BroadcastChannel("crucible drafts");

/** Told on the window where an editor of this page has let its drafts go. */
export const LET_GO = "drafts";

/**
 * Says, as long as this page lives, that drafts under `id` are in good hands.
 * @param {string} id
 * @returns {() => void} lets go
 */
export function hold(id) {
  const locks = globalThis.navigator?.locks;
  if (!locks) {
    const channel = newChannel();
    channel.onmessage = ({ data }) => {
      if (data?.ask === id) channel.postMessage({ alive: id });
    };
    return () => channel.close();
  }
  let release = () => {};
  locks.request(lockOf(id), () => new Promise((resolve) => { release = () => resolve(null); }))
    .catch(() => {});
  return () => release();
}

/** @param {Draft} draft */
async function isOfALivingTab(draft) {
  const locks = globalThis.navigator?.locks;
  if (locks) return locks.request(lockOf(draft.id), { ifAvailable: true }, (lock) => lock === null);
  const channel = newChannel();
  try {
    return await new Promise((resolve) => {
      setTimeout(() => resolve(false), ANSWER_MS);
      channel.onmessage = ({ data }) => { if (data?.alive === draft.id) resolve(true); };
      channel.postMessage({ ask: draft.id });
    });
  } finally {
    channel.close();
  }
}

/**
 * Drafts of somebody that no tab looks after.
 * @param {Shelf} shelf
 * @param {string} user
 * @returns {Promise<Draft[]>}
 */
export async function unattended(shelf, user) {
  const all = (await shelf.all()).filter((draft) => draft.user === user);
  const lives = await Promise.all(all.map((draft) => shelf.tended(draft)));
  return all.filter((_, at) => !lives[at]).sort((a, b) => a.at_ms - b.at_ms);
}

/**
 * Those of one note.
 * @param {Shelf} shelf
 * @param {string} user
 * @param {string} note
 * @returns {Promise<Draft[]>}
 */
export const orphans = async (shelf, user, note) => (
  (await unattended(shelf, user)).filter((draft) => draft.note === note));

/**
 * Writes the newest draft of one editor; while a write is under way, later ones replace each
 * other, so a slow disk is never behind by more than one.
 */
export class Keeper {
  /**
   * @param {Shelf} shelf
   * @param {(error: unknown) => void} onError the browser keeps nothing (private window, full disk)
   */
  constructor(shelf, onError) {
    this.shelf = shelf;
    this.onError = onError;
    /** @type {(() => Draft | null) | null} */
    this.next = null;
    /** @type {Promise<void> | null} */
    this.running = null;
    /** @type {string | null} */
    this.there = null;
  }

  /**
   * @param {() => Draft | null} make gives the draft as it is when its turn comes; null: all saved
   * @returns {Promise<void>} until what is asked for now is written
   */
  keep(make) {
    this.next = make;
    this.running ??= this.run().finally(() => { this.running = null; });
    return this.running;
  }

  async run() {
    // The edit that asked for this is still being made.
    await null;
    while (this.next) {
      const draft = this.next();
      this.next = null;
      try {
        if (draft) {
          await this.shelf.put(draft);
          this.there = draft.id;
        } else if (this.there !== null) {
          await this.shelf.remove(this.there);
          this.there = null;
        }
      } catch (error) {
        this.onError(error);
      }
    }
  }
}
