// The live editor on the page: CodeMirror, the shared text, and the connection, put together.

import {
  Annotation, Compartment, EditorState, EditorView, HighlightStyle, defaultKeymap, drawSelection,
  dropCursor, highlightSelectionMatches, highlightSpecialChars, history, historyKeymap, keymap,
  markdown, markdownKeymap, markdownLanguage, search, searchKeymap, syntaxHighlighting, Text, tags,
} from "../../vendor/codemirror.js";
import start from "../../vendor/loro.js";
import { Binding, bound, clean, remote } from "./binding.js";
import { carets, setCarets } from "./carets.js";
import { LiveClient } from "./client.js";
import { LET_GO, browserShelf, hold } from "./journal.js";
import { beginning, lines } from "./lines.js";
import { link } from "./link.js";
import { toggled } from "./marks.js";

/** @typedef {import("./client.js").State} State */
/** @typedef {import("./client.js").Presence} Presence */
/** @typedef {import("./client.js").ControlEvent} ControlEvent */

/**
 * @typedef {object} Options
 * @property {string} user
 * @property {string} note
 * @property {string} vault
 * @property {string} path
 * @property {string} text shown at once, until the document is here
 * @property {number | null} line where reading left off, counted from 0; null is the beginning
 * @property {boolean} mayWrite whether the server is expected to take edits
 * @property {() => string | null} typed what was typed while this was being opened; null when the
 *   keys are somewhere else
 * @property {string} origin
 * @property {() => string} token
 * @property {() => Promise<{id: string, epoch: string, note?: string, path?: string}>} open
 * @property {(state: State) => void} onState
 * @property {(people: Presence[]) => void} onPresence
 * @property {(peer: string) => void} onFollow
 * @property {() => void} onLeave
 * @property {(event: ControlEvent) => void} onControl
 */

/**
 * @typedef {object} Screen
 * @property {() => string} text
 * @property {(peer: string) => void} follow nobody when empty
 * @property {(ms: number) => Promise<void>} saved until it is, or so long
 * @property {() => Promise<void>} forget the edits kept here; they are somewhere else now
 * @property {() => void} close
 */

const style = HighlightStyle.define([
  { tag: tags.heading1, class: "md-h1" },
  { tag: tags.heading2, class: "md-h2" },
  { tag: tags.heading, class: "md-h" },
  { tag: tags.strong, class: "md-strong" },
  { tag: tags.emphasis, class: "md-em" },
  { tag: tags.strikethrough, class: "md-del" },
  { tag: [tags.link, tags.url], class: "md-link" },
  { tag: [tags.monospace, tags.literal], class: "md-code" },
  { tag: tags.quote, class: "md-quote" },
  { tag: [tags.processingInstruction, tags.meta, tags.contentSeparator], class: "md-mark" },
]);

/** @param {string} mark */
const around = (mark) => (/** @type {EditorView} */ view) => {
  if (view.state.readOnly) return false;
  view.dispatch({ ...toggled(view.state, mark), scrollIntoView: true });
  return true;
};

/** Runs it before the next picture; a hidden page gets none, so it does not wait for one. */
const frame = (/** @type {() => void} */ run) => {
  if (document.hidden) setTimeout(run, 50);
  else requestAnimationFrame(run);
};

const byFollowing = Annotation.define();

/** How long what was typed last may take to be saved once its editor is closed. */
const FINISH_MS = 10_000;

/** @type {Promise<unknown> | null} */
let started = null;

/**
 * @param {HTMLElement} parent
 * @param {Options} options
 * @returns {Promise<Screen>}
 */
export async function openScreen(parent, options) {
  const writable = new Compartment();
  const id = Array.from(crypto.getRandomValues(new Uint8Array(12)),
    (byte) => byte.toString(16).padStart(2, "0")).join("");
  /** @type {Binding | null} */
  let binding = null;
  /** @type {LiveClient | null} */
  let client = null;
  /** @type {Presence[]} */
  let people = [];
  let followed = "";
  let closed = false;
  let forgotten = false;
  let { path } = options;
  const base = clean(options.text);
  const doc = Text.of(base.split("\n"));
  const from = options.line === null ? beginning(doc)
    : doc.line(Math.min(options.line + 1, doc.lines)).from;

  const view = new EditorView({
    parent,
    state: EditorState.create({
      doc,
      selection: { anchor: from },
      extensions: [
        bound((editor) => {
          binding = new Binding(editor, (now) => client?.edited(now));
          return binding;
        }),
        history(),
        writable.of([EditorState.readOnly.of(!options.mayWrite)]),
        carets,
        drawSelection(),
        dropCursor(),
        highlightSpecialChars(),
        highlightSelectionMatches(),
        search({ top: true }),
        EditorView.lineWrapping,
        EditorView.perLineTextDirection.of(true),
        lines,
        markdown({ base: markdownLanguage }),
        syntaxHighlighting(style),
        EditorView.contentAttributes.of(() => ({
          "aria-label": `Text of ${path}`, spellcheck: "true", autocapitalize: "sentences",
        })),
        keymap.of([
          { key: "Mod-b", run: around("**") },
          { key: "Mod-i", run: around("*") },
          ...markdownKeymap, ...searchKeymap, ...historyKeymap, ...defaultKeymap,
          { key: "Escape", run: () => {
            if (followed) follow("");
            else options.onLeave();
            return true;
          } },
        ]),
        EditorView.updateListener.of((update) => {
          const own = update.transactions.some((one) => (
            !one.annotation(remote) && !one.annotation(byFollowing)));
          if (own && followed && (update.docChanged || update.selectionSet)) follow("");
          if (update.selectionSet || update.docChanged || update.focusChanged) {
            const { anchor, head } = update.state.selection.main;
            client?.select(anchor, head);
          }
        }),
      ],
    }),
  });

  if (options.line !== null) {
    view.dispatch({ effects: EditorView.scrollIntoView(from, { y: "start", yMargin: 80 }) });
  }

  /** @param {string} peer */
  function follow(peer) {
    followed = peer;
    options.onFollow(peer);
    look();
  }

  function look() {
    const head = people.find((one) => one.peer === followed)?.head;
    if (head === undefined || head === null) return;
    view.dispatch({
      effects: EditorView.scrollIntoView(Math.min(head, view.state.doc.length), { y: "center" }),
      annotations: byFollowing.of(true),
    });
  }

  const typed = options.typed();
  if (typed !== null) view.focus();
  if (typed && options.mayWrite) {
    view.dispatch({ ...view.state.replaceSelection(clean(typed)), userEvent: "input.type" });
  }
  // What is typed before the document is there; `client` takes it over with the document.
  const early = () => {
    const text = clean(view.state.doc.toString());
    return client?.doc || text === base ? null : { base, text };
  };
  const keepEarly = async () => {
    const typedEarly = early();
    if (!typedEarly || forgotten) return;
    const { user, note, vault } = options;
    await browserShelf().put({
      id, user, note, vault, path, epoch: "", ...typedEarly, updates: new Uint8Array(), peers: [],
      at_ms: Date.now(),
    });
  };

  started ??= start();
  try {
    await started;
  } catch (error) {
    started = null;
    throw error;
  }
  const release = hold(id);
  let may = options.mayWrite;
  client = new LiveClient({
    id,
    user: options.user,
    note: options.note,
    vault: options.vault,
    path,
    shelf: browserShelf(),
    frame,
    early,
    open: options.open,
    connect: (session, handlers) => link(
      { id: session, token: options.token(), origin: options.origin }, handlers),
    onState: (state) => {
      if (closed) return;
      // Offline one goes on writing; what was never writable, or is the server's no more, not.
      const now = state.phase === "opening" ? options.mayWrite
        : state.role === "write" && (state.phase === "live" || state.phase === "offline");
      if (now !== may) {
        may = now;
        view.dispatch({ effects: writable.reconfigure([EditorState.readOnly.of(!now)]) });
        if (now && !view.hasFocus && document.activeElement === document.body) view.focus();
      }
      options.onState(state);
    },
    onDoc: (doc) => { if (!closed) binding?.setDoc(doc); },
    onPresence: (list) => {
      if (closed) return;
      people = list;
      view.dispatch({ effects: setCarets.of(list) });
      options.onPresence(list);
      if (followed && !list.some(({ peer }) => peer === followed)) follow("");
      else look();
    },
    onControl: (event) => {
      if (closed) return;
      if (event.type === "moved") path = event.path;
      options.onControl(event);
    },
  });
  const { anchor, head } = view.state.selection.main;
  client.select(anchor, head);
  await client.start();

  const back = () => client?.retryNow();
  const lost = () => client?.lineLost();
  const away = () => client?.leaving();
  const gone = (/** @type {PageTransitionEvent} */ event) => {
    away();
    if (!event.persisted) void keepEarly().catch(() => {});
  };
  const hidden = () => { if (document.hidden) away(); };
  addEventListener("online", back);
  addEventListener("offline", lost);
  addEventListener("pagehide", gone);
  document.addEventListener("visibilitychange", hidden);

  const isOnItsWay = () => client !== null && (client.state.phase === "live" ? client.state.unsaved
    : client.state.phase === "opening" && early() !== null);
  const saved = async (/** @type {number} */ ms) => {
    client?.flush();
    const until = Date.now() + ms;
    while (isOnItsWay() && Date.now() < until) {
      await new Promise((resolve) => { setTimeout(resolve, 20); });
    }
  };
  /** The editor is gone from the page; what was typed last in it is on its way yet. */
  const finish = async () => {
    if (!forgotten) await saved(FINISH_MS);
    removeEventListener("online", back);
    removeEventListener("offline", lost);
    removeEventListener("pagehide", gone);
    document.removeEventListener("visibilitychange", hidden);
    client?.stop();
    await keepEarly().catch(() => {});
    await client?.keeper.running;
    release();
    dispatchEvent(new Event(LET_GO));
  };

  return {
    text: () => view.state.doc.toString(),
    follow,
    saved,
    forget: async () => {
      forgotten = true;
      await client?.forget();
    },
    close: () => {
      if (closed) return;
      closed = true;
      view.destroy();
      void finish();
    },
  };
}
