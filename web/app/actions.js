// What can be done to notes from more than one place.

import { at, post } from "./api.js";
import { baseName, folderOf, isNote, title } from "./paths.js";
import { go, to } from "./route.js";
import { effect } from "../vendor/preact.js";
import { notes, refresh, vault, writing } from "./store.js";
import { ask, catchKeys, letGo, say, sayError } from "./ui.js";

/** For how long somebody who deleted a note wants to know that it came back. */
const BACK_MS = 5 * 60_000;

/** What keeps a text from being the path of a note; null when nothing does. @param {string} path */
export function wrongPath(path) {
  const parts = path.split("/");
  if (path.startsWith("/") || parts.some((part) => part === "" || part === "." || part === "..")) {
    return "A name between two / is missing, or is only dots.";
  }
  // eslint-disable-next-line no-control-regex
  if (/[\u0000-\u001f\u007f\u2028\u2029]/.test(path)) return "There is a control character in it.";
  if (parts.some((part) => new TextEncoder().encode(part).length > 255)) return "It is too long.";
  if (parts.some((part) => /^\.(git|crucible)([. ]*$|:)/i.test(part))) {
    return "Names of this kind are not synced.";
  }
  return null;
}

/** @param {string} path */
const withEnd = (path) => (isNote(path) ? path : `${path}.md`);

/** @param {string} path @param {string} [except] */
function taken(path, except) {
  const wrong = wrongPath(path);
  if (wrong) return wrong;
  const full = withEnd(path);
  return full !== except && notes.value.has(full) ? "There is a note of this name already." : null;
}

const name = () => vault.value?.name ?? "";

/** @param {string} [folder] */
export async function newNote(folder = "") {
  const path = await ask({
    title: "New note",
    label: "Name, with folders before it if you like",
    value: folder ? `${folder}/` : "",
    ok: "Create",
    check: (value) => taken(value),
  });
  if (path) await createNote(withEnd(path));
}

/** @param {string} path @param {string} [text] @returns {Promise<boolean>} whether it is made */
export async function createNote(path, text = "") {
  catchKeys();
  try {
    const vaultName = name();
    await post(at("notes", vaultName, "changes"), { op: "create", path, text });
    refresh();
    go(to.edit(vaultName, path));
    return true;
  } catch (error) {
    letGo();
    sayError(error);
    return false;
  }
}

/** A text whose note is gone, as a new one. @param {string} was its path @param {string} text */
export async function saveAsNew(was, text) {
  const path = await ask({
    title: "Save as a new note",
    label: "Name, with folders before it if you like",
    value: notes.value.has(was) ? was.replace(/(\.md)?$/i, " (kept).md") : was,
    ok: "Save",
    check: (value) => taken(value),
  });
  return path ? createNote(withEnd(path), text) : false;
}

/** @param {string} path @param {string} version */
export async function renameNote(path, version) {
  const wanted = await ask({
    title: "Rename or move",
    label: "New name, with its folders",
    value: path,
    ok: "Rename",
    check: (value) => (withEnd(value) === path ? "This is its name now." : taken(value, path)),
  });
  if (!wanted) return;
  const target = withEnd(wanted);
  try {
    const vaultName = name();
    await post(at("notes", vaultName, "changes"), { op: "move", path, to: target, base: version });
    refresh();
    go(to.note(vaultName, target));
    say(`Renamed to ${title(target)}.`);
  } catch (error) {
    sayError(error);
  }
}

/** @param {string} path @param {string} version */
export async function deleteNote(path, version) {
  const here = [...new Set(writing(path).map((one) => one.name))].join(", ");
  const yes = await ask({
    title: `Delete ${title(path)}?`,
    text: `${here ? `${here} is writing in it: who writes on in the next moments brings it back. ` : ""}It goes from every device. It stays in “Deleted notes”, from where it can be restored.`,
    ok: "Delete",
    danger: true,
  });
  if (!yes) return;
  const vaultName = name();
  const note = notes.value.get(path)?.note;
  try {
    await post(at("notes", vaultName, "changes"), { op: "delete", path, base: version });
    const forget = note ? sayWhenBack(note, path, version, here) : () => {};
    refresh();
    go(to.vault(vaultName));
    say(`${title(path)} is deleted.`, {
      label: "Undo",
      run: () => { forget(); return restore(version, `${title(path)} is back.`, path); },
    });
  } catch (error) {
    sayError(error);
  }
}

/**
 * Who deleted a note is told when somebody who was writing in it brings it back.
 * @param {string} note
 * @param {string} path
 * @param {string} version the one that was deleted
 * @param {string} here who was writing in it
 * @returns {() => void} forgets it
 */
function sayWhenBack(note, path, version, here) {
  let forget = () => {};
  const timer = setTimeout(() => forget(), BACK_MS);
  const end = effect(() => {
    const back = [...notes.value.values()].find((one) => one.note === note);
    if (!back || back.version === version) return;
    const who = [...new Set(writing(back.path).map((one) => one.name))].join(", ") || here;
    queueMicrotask(forget);
    say(who ? `${title(path)} was kept: ${who} is writing in it.`
      : `${title(path)} was kept: somebody changed it meanwhile.`);
  });
  forget = () => { clearTimeout(timer); end(); };
  return forget;
}

/**
 * Makes an old version the newest.
 * @param {string} version
 * @param {string} words what to say when it is done
 * @param {string} [path] where to go then
 * @param {string} [before] the version it replaces, for undo
 */
export async function restore(version, words, path, before) {
  const vaultName = name();
  try {
    const { version: made } = await post(at("history", vaultName, "restore"), { version });
    refresh();
    if (path) go(to.note(vaultName, path));
    say(words, before ? {
      label: "Undo", run: () => restore(before, "Undone.", undefined, made),
    } : undefined);
    return true;
  } catch (error) {
    sayError(error);
    return false;
  }
}

/** A path as it is shown where space is short. @param {string} path */
export const place = (path) => {
  const folder = folderOf(path);
  return folder ? `${folder}/` : "";
};

/** @param {string} path */
export const shownName = (path) => (isNote(path) ? title(path) : baseName(path));
