// Writing in a note, together with whoever else does.

import { html, useEffect, useRef, useState } from "../../vendor/preact.js";
import { saveAsNew } from "../actions.js";
import { ApiError, all, at, post } from "../api.js";
import { title } from "../paths.js";
import { drawer } from "../dialogs.js";
import { instead, noteMoved, route, to } from "../route.js";
import { me, nameOf, signedOut, token } from "../session.js";
import { Icon, Problem, catchKeys, caughtKeys, copy, letGo, say, types } from "../ui.js";
import { words } from "../live/words.js";
import { Name } from "./note.js";
import { Bar } from "./vault.js";

/** @typedef {import("../live/client.js").State} State */
/** @typedef {import("../live/client.js").Presence} Presence */
/** @typedef {import("../live/screen.js").Screen} Screen */

/** How long leaving waits for what was typed last to be saved. */
const LEAVE_MS = 2_000;

/**
 * Opens the session of a note, whatever its path is now. A server that knows sessions by path
 * alone is asked first where the note is.
 * @param {string} vault @param {string} note
 * @returns {Promise<{id: string, epoch: string, note?: string, path?: string}>}
 */
async function openSession(vault, note) {
  try {
    return await post(at("sessions"), { vault, note });
  } catch (error) {
    if (![400, 422].includes(/** @type {any} */ (error)?.status)) throw error;
  }
  const { items } = await all(`${at("notes", vault)}?limit=1000`, "notes");
  const path = items.find((one) => one.note === note)?.path;
  if (!path) throw new ApiError(404, "not_found", "There is no such note any more.");
  return { note, path, ...await post(at("sessions"), { vault, path }) };
}

/**
 * The note is the one that was loaded, whatever its path becomes.
 * @param {{path: string, loaded: any, line: number | null, mayWrite: boolean,
 *   onDone: (text: string | null) => void}} props
 */
export function Editor({ path, loaded, line, mayWrite, onDone }) {
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const screen = useRef(/** @type {Screen | null} */ (null));
  const [state, setState] = useState(/** @type {State} */ (
    { phase: "opening", role: "read", unsaved: false, kept: true, full: false, silent: false, problem: null }));
  const [people, setPeople] = useState(/** @type {Presence[]} */ ([]));
  const [followed, setFollowed] = useState("");
  const [broken, setBroken] = useState(/** @type {any} */ (null));
  const { vault: name } = route.value;

  const done = useRef(onDone);
  done.current = onDone;

  useEffect(() => {
    let gone = false;
    if (!types(document.activeElement) && !document.querySelector("dialog[open]")) catchKeys();
    /** @type {Screen | null} */
    let made = null;
    (async () => {
      // The editor and the CRDT are large, and who only reads needs neither.
      const { openScreen } = await import("../live/screen.js");
      if (gone || !box.current) return;
      made = await openScreen(box.current, {
        user: me.value?.user ?? "", note: loaded.note, vault: name, path, text: loaded.text,
        origin: location.origin,
        token: () => token.value ?? "",
        line,
        mayWrite,
        typed: caughtKeys,
        open: () => openSession(name, loaded.note),
        onState: (now) => {
          setState(now);
          if (now.problem?.kind === "signed-out") signedOut.value = true;
        },
        onPresence: setPeople,
        onFollow: setFollowed,
        onLeave: () => void leave(),
        onControl: (event) => {
          if (event.type === "outside") {
            say(`${event.by || "Somebody"} changed the note${event.device ? ` on ${event.device}` : ""}.`);
          }
          if (event.type === "moved" && typeof event.path === "string") {
            say(`The note is now called ${title(event.path)}.`);
            noteMoved(name, event.path);
            instead(to.edit(name, event.path));
          }
        },
      });
      if (gone) made.close();
      else screen.current = made;
    })().catch((error) => { if (!gone) setBroken(error); });
    return () => {
      gone = true;
      letGo();
      made?.close();
      screen.current = null;
    };
  }, []);

  const leaving = useRef(false);
  const leave = async () => {
    if (leaving.current) return;
    leaving.current = true;
    const { current } = screen;
    const text = current?.text() ?? null;
    await current?.saved(LEAVE_MS);
    done.current(isGone.current ? null : text);
  };
  const isGone = useRef(false);
  isGone.current = state.problem?.kind === "gone";

  useEffect(() => {
    const keys = (/** @type {KeyboardEvent} */ event) => {
      if (event.key !== "Escape" || event.defaultPrevented || drawer.value
        || document.querySelector("dialog[open]")) return;
      event.preventDefault();
      void leave();
    };
    addEventListener("keydown", keys);
    return () => removeEventListener("keydown", keys);
  }, []);

  const saveElsewhere = async () => {
    const { current } = screen;
    const here = location.hash;
    if (!current || !await saveAsNew(path, current.text())) return;
    await current.forget();
    // Another note has the name now: this editor is of the one that is gone.
    if (location.hash === here) done.current(null);
  };

  const copyText = async () => {
    await copy(screen.current?.text() ?? loaded.text);
    say("The text is copied.");
  };
  const kind = state.problem ? "bad" : state.phase === "offline" ? "warn"
    : state.unsaved ? "busy" : state.phase === "live" ? "good" : "";
  const said = words(state);
  return html`
    <${Bar} title=${html`<${Name} path=${path} />`}>
      <ul class="people" aria-label="Writing here">
        ${people.map((one) => html`<li key=${one.peer}><button class=${`person${followed === one.peer ? " followed" : ""}${one.typing ? " typing" : ""}`}
            style=${`--hue: ${one.color}`} aria-pressed=${followed === one.peer}
            title=${followed === one.peer ? `Stop following ${one.name}` : `Follow ${one.name}`}
            onClick=${() => screen.current?.follow(followed === one.peer ? "" : one.peer)}>
          <span aria-hidden="true">${initials(one.name)}</span><span class="away">${one.name}</span></button></li>`)}
      </ul>
      <span class=${`state ${kind}`} role="status" aria-live="polite">${said}</span>
      ${state.problem && html`<button onClick=${copyText}>Copy the text</button>`}
      ${isGone.current && mayWrite && html`<button onClick=${saveElsewhere}>Save as a new note</button>`}
      <button class="main" onClick=${leave} title="Stop writing (Esc)"><${Icon} name="check" /><span>Done</span></button>
    <//>
    ${broken && html`<div class="column"><${Problem} error=${broken} /></div>`}
    ${followed && html`<p class="following" role="status">Following ${people.find((one) => one.peer === followed)?.name ?? ""}.
      Type or press Esc to stop.</p>`}
    <div class="editor" ref=${box} data-as=${nameOf(me.value)}></div>`;
}

/** @param {string} name */
const initials = (name) => {
  // The device is behind a comma.
  const parts = name.split(",")[0].trim().split(/[\s._-]+/).filter(Boolean);
  const letters = parts.slice(0, 2).map((part) => [...part][0]).join("");
  return letters.toUpperCase() || "?";
};
