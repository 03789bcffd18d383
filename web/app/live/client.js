// One editor's side of a live session: the document, what is on its way, and what is saved.
//
// Invariants: "saved" is said only when the server has every edit on disk (its Ack, or the
// version it names at a join); whatever it does not have yet lies in the journal; a document of
// one epoch never takes bytes of another, only texts are carried over (`rebase.js`).
//
// No DOM in here: the link, the journal and the clock are handed in.

import { Cursor, EphemeralStore, LoroDoc, VersionVector } from "../../vendor/loro.js";
import { Assembler, CrdtType, MessageType, encode, updateFrames } from "./frames.js";
import { CONTAINER } from "./binding.js";
import { Keeper, orphans } from "./journal.js";
import { Close } from "./link.js";
import { rebase } from "./rebase.js";

/** @typedef {import("./frames.js").Message} Message */
/** @typedef {import("./journal.js").Draft} Draft */
/** @typedef {import("./journal.js").Shelf} Shelf */
/** @typedef {import("./link.js").Link} Link */
/** @typedef {import("./link.js").Handlers} Handlers */
/** @typedef {import("../../vendor/loro.js").PeerID} PeerID */

/** Keystrokes of this long travel as one update. */
const BATCH_MS = 40;
/** Presence vanishes after 30 s at the others; said again well before. */
const PRESENCE_MS = 10_000;
const TYPING_MS = 2_000;
const BACKOFF_MS = { first: 200, most: 8_000 };
/** Edits (counters: one a character) in one update; the server takes 1 MiB. */
const SPAN_MAX = 150_000;
/** Above this a draft is written once a second at most: each holds the text twice. */
const LARGE_TEXT = 200_000;
const LARGE_TEXT_MS = 1_000;
/** An update that has no Ack for this long: the server is not heard. */
const ACK_MS = 5_000;

export const GONE = "The note is gone; your text is kept here";
const NO_LONGER = "You may read this note, but no longer write in it.";
/** What the server takes this soon need not be written down: most of what is typed. */
const KEEP_MS = 60;

/**
 * @typedef {{name: string, color: number, anchor?: Uint8Array, head?: Uint8Array,
 *   typing: boolean}} PresenceValue
 * @typedef {{peer: string, name: string, color: number, anchor: number | null,
 *   head: number | null, typing: boolean}} Presence
 * @typedef {{type: string, [key: string]: any}} ControlEvent
 */

/**
 * What the page shows of a session.
 * @typedef {object} State
 * @property {"opening" | "live" | "offline" | "stopped"} phase
 * @property {"read" | "write"} role
 * @property {boolean} unsaved whether there are edits no server has on disk
 * @property {boolean} kept whether the browser keeps those edits
 * @property {boolean} full whether more people are in the session than the server lets in
 * @property {boolean} silent whether an update has waited long for its Ack
 * @property {string} [why] why the server could not store what it was last sent
 * @property {{kind: "signed-out" | "denied" | "gone" | "refused", message: string} | null} problem
 */

/**
 * @typedef {object} Options
 * @property {string} id of this editor, for its drafts
 * @property {string} user
 * @property {string} note
 * @property {string} vault
 * @property {string} path where the note is; it may move, the note stays what it is
 * @property {() => Promise<{id: string, epoch: string, note?: string, path?: string}>} open opens
 *   or finds the session of `note`, and says of which note at which path it is; its errors have
 *   `status` (0: no answer) and `message`
 * @property {() => {base: string, text: string} | null} [early] what was typed before there was a
 *   document, and the text it was typed into
 * @property {(id: string, handlers: Handlers) => Link} connect
 * @property {Shelf} shelf
 * @property {(run: () => void) => void} frame runs it before the next picture
 * @property {(state: State) => void} onState
 * @property {(doc: LoroDoc) => void} onDoc a document to show; later ones replace it
 * @property {(people: Presence[]) => void} onPresence
 * @property {(event: ControlEvent) => void} onControl
 */

export class LiveClient {
  /** @param {Options} options */
  constructor(options) {
    this.options = options;
    /** @type {LoroDoc | null} */
    this.doc = null;
    /** @type {string | null} */
    this.epoch = null;
    this.name = "";
    /** @type {State} */
    this.state = { phase: "opening", role: "read", unsaved: false, kept: true, full: false,
      silent: false, problem: null };

    /** @type {string | null} */
    this.session = null;
    /** @type {Link | null} */
    this.link = null;
    this.joined = false;
    this.opening = false;
    this.assembler = new Assembler();
    this.tries = 0;
    /** Join as if nothing was known: the document here is of no use to the server's. */
    this.fresh = false;

    /** Own edits by peer: the names this editor wrote in, up to where they were sent and saved. */
    /** @type {Map<PeerID, {sent: number, saved: number}>} */
    this.own = new Map();
    /** @type {Map<string, Map<PeerID, number>>} */
    this.pending = new Map();
    /** @type {{extra: any, target: VersionVector | null, doc: LoroDoc} | null} */
    this.arriving = null;
    /** @type {Uint8Array[]} */
    this.incoming = [];
    this.incomingAsked = false;
    /** The text without own unsaved edits, for the journal; null: to be found anew. */
    /** @type {string | null} */
    this.base = null;
    /** @type {Draft[]} */
    this.adopted = [];
    this.keeper = new Keeper(options.shelf, () => this.set({ kept: false }));
    this.keptAt = 0;

    /** Names by peer, as the server gives them: what a presence says of itself is not believed. */
    /** @type {Map<string, string>} */
    this.names = new Map();
    /** @type {EphemeralStore<Record<string, any>> | null} */
    this.store = null;
    /** @type {{anchor: number, head: number} | null} */
    this.selection = null;
    this.typedAt = 0;

    /** @type {Map<string, ReturnType<typeof setTimeout>>} */
    this.timers = new Map();
    this.stopped = false;
  }

  // ---- what the editor calls ----

  async start() {
    const { shelf, user, note } = this.options;
    this.adopted = await orphans(shelf, user, note).catch(() => []);
    if (this.adopted.length > 0) this.set({ unsaved: true });
    await this.reach();
  }

  /**
   * Own edits went into the text.
   * @param {boolean} now more is coming; what is there makes an update of its own
   */
  edited(now) {
    this.typedAt = Date.now();
    this.set({ unsaved: true });
    if (now) this.flush();
    else this.later("flush", BATCH_MS, () => this.flush());
  }

  /** @param {number} anchor @param {number} head */
  select(anchor, head) {
    this.selection = { anchor, head };
    this.later("presence", BATCH_MS, () => this.sayPresence());
  }

  /** The line is back, they say: no need to wait. */
  retryNow() {
    if (this.state.phase !== "offline" || this.stopped) return;
    this.tries = 0;
    this.cancel("retry");
    void this.reach();
  }

  /** The browser says that there is no network: nothing is waited for. */
  lineLost() {
    if (this.state.phase !== "live" || this.stopped) return;
    this.dropLink();
    this.retry();
  }

  /** Everything typed goes out, and into the journal; the page is about to go. */
  leaving() {
    this.flush();
    if (this.state.unsaved) void this.keeper.keep(() => this.draft());
  }

  /** What is unsaved here is somewhere else now: nothing of it is kept. */
  async forget() {
    this.stop();
    await this.keeper.running;
    await this.options.shelf.remove(this.options.id);
  }

  stop() {
    if (this.stopped) return;
    this.leaving();
    this.stopped = true;
    for (const timer of this.timers.values()) clearTimeout(timer);
    this.timers.clear();
    this.dropLink();
  }

  // ---- the line ----

  async reach() {
    if (this.stopped || this.link || this.opening) return;
    if (!this.session) {
      this.opening = true;
      try {
        const answer = await this.options.open();
        if (this.stopped) return undefined;
        // Text of one note is never written into another one, whatever its path.
        if (answer.note && answer.note !== this.options.note) return this.fail("gone", GONE);
        this.session = answer.id;
        if (answer.path) this.moved(answer.path);
      } catch (error) {
        return this.openFailed(error);
      } finally {
        this.opening = false;
      }
    }
    if (this.stopped || this.link) return undefined;
    this.assembler = new Assembler();
    const link = this.options.connect(this.session, {
      onOpen: () => this.join(),
      onFrame: (frame) => { if (this.link === link) this.take(frame); },
      onClose: (code) => { if (this.link === link) this.closed(code); },
    });
    this.link = link;
    return undefined;
  }

  /** @param {string} path */
  moved(path) {
    if (path === this.options.path) return;
    this.options.path = path;
    this.options.onControl({ type: "moved", path });
  }

  /** @param {any} error */
  openFailed(error) {
    const status = error?.status ?? 0;
    if (status === 401) return this.fail("signed-out", error.message);
    if (status === 403) return this.fail("denied", [error.message, error.hint].filter(Boolean).join(" "));
    if (status === 404) return this.fail("gone", GONE);
    if (status === 0) this.set({ why: "" });
    if (status >= 400 && status < 500 && status !== 408 && status !== 429) {
      return this.fail("refused", error.message);
    }
    return this.retry();
  }

  /** @param {number} code */
  closed(code) {
    const was = this.joined;
    this.dropLink();
    // The token, or only this vault: asked for the session, the server says which.
    if (code === Close.token) this.session = null;
    if (code === Close.full) {
      this.set({ full: true });
      this.tries = Math.max(this.tries, 4);
    }
    if (code === Close.tooLarge) {
      return this.fail("refused", "An edit is larger than the server takes in one piece.");
    }
    if ([Close.noSession, Close.ended, Close.otherEpoch].includes(code) || !was) {
      this.session = null;
    }
    if (code === Close.malformed) this.fresh = true;
    return this.retry();
  }

  dropLink() {
    this.link?.close();
    this.link = null;
    this.joined = false;
    this.arriving = null;
    this.incoming = [];
    this.store?.destroy();
    this.store = null;
    this.cancel("again");
    this.cancel("silent");
    this.set({ silent: false });
    this.options.onPresence([]);
  }

  retry() {
    if (this.stopped) return;
    this.set({ phase: "offline" });
    const most = Math.min(BACKOFF_MS.first * 2 ** this.tries, BACKOFF_MS.most);
    this.tries += 1;
    this.later("retry", most * (0.6 + 0.4 * Math.random()), () => void this.reach());
  }

  /** @param {"signed-out" | "denied" | "gone" | "refused"} kind @param {string} message */
  fail(kind, message) {
    this.dropLink();
    this.set({ phase: "stopped", problem: { kind, message } });
    if (this.state.unsaved) void this.keeper.keep(() => this.draft());
  }

  /** @param {Message} message */
  send(message) {
    this.link?.send(encode(message));
  }

  get room() {
    return this.session ?? "";
  }

  join() {
    if (this.fresh) this.epochForgotten();
    const version = this.doc && !this.fresh ? this.doc.oplogVersion().encode() : new Uint8Array();
    const auth = new Uint8Array();
    const roomId = this.room;
    const head = /** @type {const} */ ({ type: MessageType.JoinRequest, roomId, auth });
    this.send({ ...head, crdt: CrdtType.Loro, version });
    this.send({ ...head, crdt: CrdtType.LoroEphemeralStore, version: new Uint8Array() });
    this.send({ ...head, crdt: CrdtType.LoroEphemeralStorePersisted, version: new Uint8Array() });
  }

  // ---- what comes ----

  /** @param {Uint8Array} frame */
  take(frame) {
    let message;
    try {
      message = this.assembler.take(frame);
    } catch {
      this.closed(Close.malformed);
      return;
    }
    if (!message) return;
    this.cancel("silent");
    this.set({ silent: false });
    if (this.pending.size > 0) this.listen();
    switch (message.crdt) {
      case CrdtType.Loro: return this.takeDocument(message);
      case CrdtType.LoroEphemeralStore: return this.takePresence(message);
      case CrdtType.LoroEphemeralStorePersisted: return this.takeControl(message);
      default: return undefined;
    }
  }

  /** @param {Message} message */
  takeDocument(message) {
    switch (message.type) {
      case MessageType.JoinResponseOk: return this.accepted(message);
      case MessageType.JoinError:
        this.dropLink();
        if (message.code === 2) return this.fail("signed-out", message.message);
        if (message.code === 1) {
          this.fresh = true;
          return this.retry();
        }
        return this.fail("refused", message.message);
      case MessageType.DocUpdate: return this.updates(message.updates);
      case MessageType.Ack: return this.acknowledged(message.refId, message.status);
      case MessageType.RoomError:
        // Evicted over something we sent: our document is not the server's any more.
        if (message.code === 2) this.fresh = true;
        this.dropLink();
        return this.retry();
      default: return undefined;
    }
  }

  /** @param {import("../../vendor/loro-protocol.js").JoinResponseOk} message */
  accepted(message) {
    let extra;
    try {
      extra = JSON.parse(new TextDecoder().decode(message.extra));
    } catch {
      return this.fail("refused", "The server answered in a way this page does not understand.");
    }
    if (this.doc && !this.fresh && this.epoch !== extra.epoch) {
      // It answered a version of another document with what that lacks: of no use, ask anew.
      this.fresh = true;
      this.dropLink();
      this.set({ phase: "offline" });
      return void this.reach();
    }
    this.joined = true;
    this.set({ full: false });
    this.tries = 0;
    this.name = extra.name ?? "";
    const known = this.doc && !this.fresh ? this.doc : null;
    const target = message.version.length > 0 ? VersionVector.decode(message.version) : null;
    this.set({ role: extra.role ?? message.permission });
    if (known && target) this.serverHas(target);
    this.arriving = { extra, target, doc: known ?? new LoroDoc() };
    return this.settle();
  }

  /**
   * At a join the server names what it has; all of that is on its disk.
   * @param {VersionVector} version
   */
  serverHas(version) {
    this.pending.clear();
    for (const [peer, at] of this.own) {
      at.saved = version.get(peer) ?? 0;
      at.sent = at.saved;
    }
  }

  /** @param {Uint8Array[]} updates */
  updates(updates) {
    this.incoming.push(...updates.filter((update) => update.length > 0));
    if (this.arriving) return this.settle();
    if (this.incomingAsked || this.incoming.length === 0) return undefined;
    this.incomingAsked = true;
    return this.options.frame(() => {
      this.incomingAsked = false;
      if (!this.arriving) this.importAll();
    });
  }

  importAll() {
    if (!this.doc || this.incoming.length === 0 || this.stopped) return;
    // Own keystrokes become a batch of their own before foreign ones come between.
    this.flush();
    const batch = this.incoming;
    this.incoming = [];
    if (this.state.unsaved) this.base = null;
    if (!this.importInto(this.doc, batch)) return;
    this.showPresence();
    if (this.state.unsaved) this.keepSoon();
  }

  /**
   * @param {LoroDoc} doc
   * @param {Uint8Array[]} batch
   * @returns {boolean} whether they could be taken; if not, a new join is under way
   */
  importInto(doc, batch) {
    try {
      const status = batch.length === 1 ? doc.import(batch[0]) : doc.importBatch(batch);
      if (!status.pending || status.pending.size === 0) return true;
      // Something between is missing. Said by version, the server sends what is.
    } catch {
      this.fresh = true;
    }
    this.dropLink();
    this.retry();
    return false;
  }

  /** Whether all that the join promised is here; if so, the session is open. */
  settle() {
    const arriving = this.arriving;
    if (!arriving) return undefined;
    const { doc, target, extra } = arriving;
    if (this.incoming.length > 0) {
      const batch = this.incoming;
      this.incoming = [];
      if (doc === this.doc) {
        this.flush();
        this.base = null;
      }
      if (!this.importInto(doc, batch)) return undefined;
    }
    if (target) {
      const compared = doc.oplogVersion().compare(target);
      if (compared === undefined || compared < 0) return undefined;
    }
    this.arriving = null;
    if (doc !== this.doc) this.replace(doc, extra.epoch);
    else this.newPeer(doc);
    this.fresh = false;
    if (this.state.role !== "write" && this.hasEdits()) return this.fail("denied", NO_LONGER);
    this.set({ phase: "live", problem: null });
    this.adopt();
    this.sendUnsent();
    this.openPresence();
    this.settled();
    if (this.state.unsaved) this.keepSoon();
    return undefined;
  }

  /**
   * A document made anew takes the place of the one here, whose unsaved edits are carried over.
   * @param {LoroDoc} doc
   * @param {string} epoch
   */
  replace(doc, epoch) {
    const old = this.doc;
    const unsaved = old && this.hasUnsaved();
    const early = old || this.state.role !== "write" ? null : this.options.early?.() ?? null;
    const mine = old && unsaved ? old.getText(CONTAINER).toString() : early?.text ?? "";
    const base = old && unsaved ? this.baseText() : early?.base ?? "";
    this.own.clear();
    this.pending.clear();
    this.base = null;
    this.doc = doc;
    this.epoch = epoch;
    this.newPeer(doc);
    if (unsaved || base !== mine) this.carryOver(base, mine);
    this.options.onDoc(doc);
  }

  /** @param {string} base @param {string} mine */
  carryOver(base, mine) {
    if (!this.doc) return;
    const text = this.doc.getText(CONTAINER);
    this.base ??= text.toString();
    for (const { from, to, insert } of rebase(base, mine, text.toString()).reverse()) {
      if (to > from) text.delete(from, to - from);
      if (insert) text.insert(from, insert);
    }
    this.doc.commit();
  }

  /** Every connection writes in a name of its own: two of one name would be one writer. */
  newPeer(/** @type {LoroDoc} */ doc) {
    const drawn = new DataView(crypto.getRandomValues(new Uint8Array(8)).buffer);
    // The upper half is the server's.
    doc.setPeerId(drawn.getBigUint64(0) >> 1n);
    this.own.set(doc.peerIdStr, { sent: 0, saved: 0 });
    // Of names that have nothing on its way any more, nothing is to be known.
    for (const [peer, at] of this.own) {
      if (peer !== doc.peerIdStr && this.endOf(peer) <= at.saved) this.own.delete(peer);
    }
  }

  /** Takes over what an earlier page could not send. */
  adopt() {
    if (!this.doc || this.state.role !== "write") return;
    const drafts = this.adopted;
    this.adopted = [];
    if (drafts.length === 0) return;
    for (const draft of drafts) {
      if (draft.epoch === this.epoch && this.takeDraft(draft)) continue;
      this.flush();
      this.base = null;
      this.carryOver(draft.base, draft.text);
      this.options.onDoc(this.doc);
    }
    // Ours is on the shelf before theirs goes.
    void this.keeper.keep(() => this.draft()).then(async () => {
      for (const { id } of drafts) {
        if (id !== this.options.id) await this.options.shelf.remove(id).catch(() => {});
      }
    });
  }

  /** @param {Draft} draft */
  takeDraft(draft) {
    const doc = /** @type {LoroDoc} */ (this.doc);
    const server = doc.oplogVersion();
    try {
      const status = doc.import(draft.updates);
      if (status.pending && status.pending.size > 0) return false;
    } catch {
      return false;
    }
    for (const peer of draft.peers) {
      const has = server.get(/** @type {PeerID} */ (peer)) ?? 0;
      this.own.set(/** @type {PeerID} */ (peer), { sent: has, saved: has });
    }
    this.base = null;
    return true;
  }

  // ---- what goes ----

  /** @param {PeerID} peer */
  endOf(peer) {
    return this.doc?.oplogVersion().get(peer) ?? 0;
  }

  flush() {
    this.cancel("flush");
    if (!this.doc) return;
    this.doc.commit();
    if (this.joined && !this.arriving) this.sendUnsent();
    this.settled();
    if (this.state.unsaved) this.keepSoon();
  }

  sendUnsent() {
    if (!this.doc || !this.joined || this.arriving) return;
    if (this.state.role !== "write") return;
    /** @type {{peer: PeerID, from: number, to: number}[]} */
    const spans = [];
    const version = this.doc.oplogVersion();
    for (const [peer, at] of this.own) {
      const end = version.get(peer) ?? 0;
      for (let from = at.sent; from < end; from += SPAN_MAX) {
        spans.push({ peer, from, to: Math.min(from + SPAN_MAX, end) });
      }
    }
    // Small ones travel together: what one peer wrote may rest on what another one did.
    /** @type {typeof spans} */
    let together = [];
    let size = 0;
    for (const span of spans) {
      if (size + span.to - span.from > SPAN_MAX) {
        this.sendSpans(together);
        together = [];
        size = 0;
      }
      together.push(span);
      size += span.to - span.from;
    }
    this.sendSpans(together);
  }

  /** @param {{peer: PeerID, from: number, to: number}[]} spans */
  sendSpans(spans) {
    if (spans.length === 0 || !this.doc) return;
    const update = this.doc.export({
      mode: "updates-in-range",
      spans: spans.map(({ peer, from, to }) => ({ id: { peer, counter: from }, len: to - from })),
    });
    const { batchId, frames } = updateFrames(CrdtType.Loro, this.room, update);
    this.pending.set(batchId, new Map(spans.map(({ peer, to }) => [peer, to])));
    for (const { peer, to } of spans) {
      const at = this.own.get(peer);
      if (at) at.sent = to;
    }
    for (const frame of frames) this.link?.send(frame);
    this.listen();
  }

  /** An Ack comes soon, or it is said that the server is not heard. */
  listen() {
    this.later("silent", ACK_MS, () => {
      if (this.pending.size > 0) this.set({ silent: true });
    });
  }

  /** @param {string} batchId @param {number} status */
  acknowledged(batchId, status) {
    const batch = this.pending.get(batchId);
    if (!batch) return undefined;
    if (status === 0) {
      this.set({ why: "" });
      this.pending.delete(batchId);
      for (const [peer, to] of batch) {
        const at = this.own.get(peer);
        if (at) at.saved = Math.max(at.saved, to);
      }
      return this.settled();
    }
    switch (status) {
      case 3:
        if (this.state.role !== "write") return this.fail("denied", NO_LONGER);
        // We may write, yet not in this name: somebody took it. Carry the text over to another.
        this.fresh = true;
        this.dropLink();
        return this.retry();
      case 5:
        return this.fail("refused", "The note would be longer than the server takes.");
      case 6:
      case 7:
        // Too fast, or pieces that came too late: join again in a moment and send it then.
        this.dropLink();
        this.tries = Math.max(this.tries, 2);
        return this.retry();
      default:
        // It cannot read what was written here: carry the text over to a document it gives out.
        this.fresh = true;
        this.dropLink();
        return this.retry();
    }
  }

  hasUnsaved() {
    return this.adopted.length > 0 || this.hasEdits();
  }

  /** Whether there are edits in the document here that no server has. */
  hasEdits() {
    if (!this.doc) return false;
    this.doc.commit();
    const version = this.doc.oplogVersion();
    for (const [peer, at] of this.own) if ((version.get(peer) ?? 0) > at.saved) return true;
    return false;
  }

  /** Says so when everything is saved. */
  settled() {
    const unsaved = this.hasUnsaved();
    this.set({ unsaved });
    if (unsaved) return;
    this.base = null;
    if (this.keeper.there !== null || this.keeper.running) {
      void this.keeper.keep(() => (this.state.unsaved ? this.draft() : null));
    }
  }

  keepSoon() {
    const length = this.doc?.getText(CONTAINER).length ?? 0;
    const soonest = this.state.phase === "live" ? KEEP_MS : 0;
    const wait = length > LARGE_TEXT ? this.keptAt + LARGE_TEXT_MS - Date.now() : 0;
    this.later("keep", Math.max(wait, soonest), () => {
      this.keptAt = Date.now();
      void this.keeper.keep(() => (this.state.unsaved ? this.draft() : null));
    });
  }

  /** The text without own edits that are not saved. */
  baseText() {
    if (this.base !== null) return this.base;
    const doc = /** @type {LoroDoc} */ (this.doc);
    doc.commit();
    const version = doc.oplogVersion();
    for (const [peer, { saved }] of this.own) {
      if (saved === 0) version.remove(peer);
      else version.setEnd({ peer, counter: saved });
    }
    const fork = doc.forkAt(doc.vvToFrontiers(version));
    this.base = fork.getText(CONTAINER).toString();
    fork.free();
    return this.base;
  }

  /** @returns {Draft | null} */
  draft() {
    if (!this.doc || !this.epoch || !this.hasUnsaved()) return null;
    const version = this.doc.oplogVersion();
    const unsaved = [...this.own].filter(([peer, at]) => (version.get(peer) ?? 0) > at.saved);
    const updates = this.doc.export({
      mode: "updates-in-range",
      spans: unsaved.map(([peer, { saved }]) => (
        { id: { peer, counter: saved }, len: (version.get(peer) ?? 0) - saved })),
    });
    const { id, user, note, vault, path } = this.options;
    return {
      id, user, note, vault, path, updates,
      epoch: this.epoch,
      base: this.baseText(),
      text: this.doc.getText(CONTAINER).toString(),
      peers: unsaved.map(([peer]) => peer),
      at_ms: Date.now(),
    };
  }

  /** Before a join as if nothing was known, what the old document was is written down. */
  epochForgotten() {
    if (this.doc && this.hasUnsaved()) void this.keeper.keep(() => this.draft());
  }

  // ---- who is here ----

  openPresence() {
    this.store?.destroy();
    this.store = new EphemeralStore(30_000);
    this.store.subscribe(() => this.showPresence());
    this.store.subscribeLocalUpdates((bytes) => {
      const { frames } = updateFrames(CrdtType.LoroEphemeralStore, this.room, bytes);
      for (const frame of frames) this.link?.send(frame);
    });
    for (const update of this.presenceEarly.splice(0)) this.store.apply(update);
    this.sayPresence();
  }

  /** @type {Uint8Array[]} */
  presenceEarly = [];

  /** @param {Message} message */
  takePresence(message) {
    if (message.type !== MessageType.DocUpdate) return;
    for (const update of message.updates) {
      try {
        if (this.store) this.store.apply(update);
        else this.presenceEarly.push(update);
      } catch {
        // Somebody's caret is not worth a line.
      }
    }
  }

  sayPresence() {
    if (this.store && this.doc && this.joined) {
      const text = this.doc.getText(CONTAINER);
      const at = (/** @type {number} */ pos) => text.getCursor(Math.min(pos, text.length))?.encode();
      const typing = Date.now() - this.typedAt < TYPING_MS;
      const { selection } = this;
      this.store.set(this.doc.peerIdStr, {
        name: this.name,
        color: hue(this.name),
        typing,
        ...(selection && { anchor: at(selection.anchor), head: at(selection.head) }),
      });
    }
    this.later("again", PRESENCE_MS, () => this.sayPresence());
  }

  showPresence() {
    const { store, doc } = this;
    if (!store || !doc) return;
    const position = (/** @type {unknown} */ cursor) => {
      if (!(cursor instanceof Uint8Array)) return null;
      try {
        return doc.getCursorPos(Cursor.decode(cursor))?.offset ?? null;
      } catch {
        return null;
      }
    };
    /** @type {Presence[]} */
    const people = [];
    for (const [peer, value] of Object.entries(store.getAllStates())) {
      if (peer === doc.peerIdStr || !value || typeof value !== "object") continue;
      people.push({
        peer,
        name: this.names.get(peer) ?? "Somebody",
        color: Number.isFinite(value.color) ? Math.abs(Math.trunc(value.color)) % 360 : 0,
        anchor: position(value.anchor),
        head: position(value.head),
        typing: value.typing === true,
      });
    }
    this.options.onPresence(people);
  }

  /** @param {Message} message */
  takeControl(message) {
    if (message.type !== MessageType.DocUpdate) return;
    for (const update of message.updates) {
      let event;
      try {
        event = JSON.parse(new TextDecoder().decode(update));
      } catch {
        continue;
      }
      if (event?.type === "role") {
        this.set({ role: event.role });
        // What was sent while one might is acknowledged in a moment; the rest never is.
        if (event.role !== "write") {
          this.later("denied", BACKOFF_MS.first, () => {
            if (this.state.role !== "write" && this.hasEdits()) this.fail("denied", NO_LONGER);
          });
        }
      }
      if (event?.type === "gone") this.session = null;
      if (event?.type === "unsaved" && typeof event.why === "string") this.set({ why: event.why });
      if (event?.type === "saved") this.set({ why: "" });
      if (event?.type === "people" && Array.isArray(event.people)) {
        this.names = labels(event.people, this.name, this.doc?.peerIdStr ?? "");
        this.showPresence();
      }
      if (event?.type === "moved" && typeof event.path === "string") {
        this.moved(event.path);
        continue;
      }
      if (event && typeof event.type === "string") this.options.onControl(event);
    }
  }

  // ---- small things ----

  /** @param {Partial<State>} change */
  set(change) {
    const next = { ...this.state, ...change };
    const same = /** @type {(keyof State)[]} */ (Object.keys(change))
      .every((key) => this.state[key] === next[key]);
    if (same) return;
    this.state = next;
    this.options.onState(next);
  }

  /** @param {string} name @param {number} ms @param {() => void} run */
  later(name, ms, run) {
    if (this.timers.has(name) || this.stopped) return;
    this.timers.set(name, setTimeout(() => {
      this.timers.delete(name);
      run();
    }, ms));
  }

  /** @param {string} name */
  cancel(name) {
    clearTimeout(this.timers.get(name));
    this.timers.delete(name);
  }
}

/**
 * What to call whom, by peer. Two of one name are told apart, and nobody is called like oneself.
 * @param {any[]} people as the server tells them
 * @param {string} own one's own name
 * @param {string} peer one's own peer
 * @returns {Map<string, string>}
 */
export function labels(people, own, peer) {
  /** @type {Map<string, string>} */
  const byPeer = new Map();
  // The server may have added the device to one's own name; who has it without is another device.
  const taken = new Set([own, own.split(",")[0]]);
  for (const one of people) {
    const peers = Array.isArray(one?.peers) ? one.peers.map(String) : [];
    if (peers.length === 0 || peers.includes(peer)) continue;
    const plain = String(one.name ?? "").slice(0, 80) || "Somebody";
    const device = typeof one.device_name === "string" ? one.device_name.slice(0, 80) : "";
    let name = plain;
    if (taken.has(name) && device && !plain.includes(device)) name = `${plain}, ${device}`;
    for (let n = 2; taken.has(name); n += 1) name = `${plain} (${n})`;
    taken.add(name);
    for (const each of peers) byPeer.set(each, name);
  }
  return byPeer;
}

/** A colour (hue in degrees) for a name: the same on every page. @param {string} name */
export function hue(name) {
  let sum = 7;
  for (const char of name) sum = (sum * 31 + (char.codePointAt(0) ?? 0)) >>> 0;
  // Twelve that can be told apart.
  return (sum % 12) * 30;
}
