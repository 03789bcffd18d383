// Names of notes, and the tree they make. No DOM.

/**
 * @typedef {object} Note
 * @property {string} path
 * @property {string} note
 * @property {string} version
 * @property {"note" | "asset"} kind
 * @property {number} bytes
 * @property {number} changed_ms
 * @property {number} conflicts
 */

/** @param {string} path */
export const baseName = (path) => path.slice(path.lastIndexOf("/") + 1);
/** @param {string} path */
export const folderOf = (path) => (path.includes("/") ? path.slice(0, path.lastIndexOf("/")) : "");
/** The name as a person says it. @param {string} path */
export const title = (path) => baseName(path).replace(/\.md$/i, "");
/** @param {string} path */
export const isNote = (path) => /\.md$/i.test(path);
/** @param {string} path */
export const isPicture = (path) => /\.(png|jpe?g|gif|webp|avif|svg|bmp|ico)$/i.test(path);

/** @param {string} a @param {string} b */
export const byName = (a, b) => collator.compare(a, b) || (a < b ? -1 : a > b ? 1 : 0);
const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

/**
 * @typedef {{name: string, path: string, folders: Map<string, Folder>, notes: Note[],
 *   count: number}} Folder
 */

/** @param {Iterable<Note>} notes @returns {Folder} */
export function treeOf(notes) {
  const root = folder("", "");
  for (const note of notes) {
    let here = root;
    here.count += 1;
    const parts = note.path.split("/");
    parts.pop();
    let path = "";
    for (const part of parts) {
      path = path ? `${path}/${part}` : part;
      let next = here.folders.get(part);
      if (!next) {
        next = folder(part, path);
        here.folders.set(part, next);
      }
      next.count += 1;
      here = next;
    }
    here.notes.push(note);
  }
  return root;
}

/** @param {string} name @param {string} path @returns {Folder} */
const folder = (name, path) => ({ name, path, folders: new Map(), notes: [], count: 0 });

/**
 * @typedef {{depth: number, path: string, name: string, folder: boolean, open: boolean,
 *   note: Note | null}} Row
 */

/** What is to be seen of a tree, from top to bottom. @param {Folder} tree @param {Set<string>} open */
export function rowsOf(tree, open) {
  /** @type {Row[]} */
  const rows = [];
  const walk = (/** @type {Folder} */ here, /** @type {number} */ depth) => {
    for (const one of [...here.folders.values()].sort((a, b) => byName(a.name, b.name))) {
      const isOpen = open.has(one.path);
      rows.push({ depth, path: one.path, name: one.name, folder: true, open: isOpen, note: null });
      if (isOpen) walk(one, depth + 1);
    }
    for (const note of [...here.notes].sort((a, b) => byName(a.path, b.path))) {
      const name = note.kind === "note" ? title(note.path) : baseName(note.path);
      rows.push({ depth, path: note.path, name, folder: false, open: false, note });
    }
  };
  walk(tree, 0);
  return rows;
}

/** What abbreviates anything has at most so many letters. */
const ABBREVIATION_MAX = 24;

/**
 * How well typed letters fit a path: higher is better, -1 not at all. What stands there as it was
 * typed is before what abbreviates it, the file's own name before its folders.
 * @param {string} typed
 * @param {string} path
 */
export function fit(typed, path) {
  const have = path.toLowerCase();
  const letters = typed.toLowerCase().trim();
  const want = letters.replace(/\s+/g, "");
  if (want === "") return 0;
  const nameAt = have.lastIndexOf("/") + 1;
  const inName = have.indexOf(letters, nameAt);
  if (inName >= 0) return 1000 - (inName - nameAt) * 5 - (have.length - nameAt);
  const inPath = have.indexOf(letters);
  if (inPath >= 0) return 500 - inPath - have.length / 20;
  // Several words, each somewhere: `2018 ch04`.
  const words = letters.split(/\s+/).map((word) => have.lastIndexOf(word));
  if (words.length > 1 && words.every((at) => at >= 0)) {
    return 200 + 20 * words.filter((at) => at >= nameAt).length - have.length / 20;
  }
  const own = abbreviates(want, have.slice(nameAt));
  const score = own < 0 ? abbreviates(want, have) : own + 3 * want.length;
  return score < 0 ? -1 : score - have.length / 20;
}

/**
 * Letters as an abbreviation: in order, and of each word that has any, its first (`mtg nts` for
 * Meeting notes). Others stand about by chance. The best score of all ways; -1 where there is none.
 * @param {string} want @param {string} have
 */
function abbreviates(want, have) {
  if (want.length > ABBREVIATION_MAX) return -1;
  let from = -1;
  for (const letter of want) {
    from = have.indexOf(letter, from + 1);
    if (from < 0) return -1;
  }
  const isWord = (/** @type {number} */ at) => at >= 0 && !" /_.-\t".includes(have[at]);
  /** @type {number[]} */
  const starts = [];
  for (let at = 0; at < have.length; at += 1) if (isWord(at) && !isWord(at - 1)) starts.push(at);
  /** What the letters from `n` on are worth after one at `at`. @type {Map<number, number>} */
  const known = new Map();
  const best = (/** @type {number} */ n, /** @type {number} */ at) => {
    if (n === want.length) return 0;
    const key = n * (have.length + 1) + at + 1;
    let most = known.get(key);
    if (most !== undefined) return most;
    most = -1;
    const take = (/** @type {number} */ here, /** @type {number} */ worth) => {
      const rest = best(n + 1, here);
      if (rest >= 0) most = Math.max(/** @type {number} */ (most), rest + 1 + worth);
    };
    // On in the word, or another word from its first letter on.
    for (let here = at + 1; n > 0 && here < have.length && isWord(here); here += 1) {
      if (have[here] === want[n]) take(here, here === at + 1 ? 3 : 0);
    }
    for (const here of starts) if (here > at && have[here] === want[n]) take(here, 6);
    known.set(key, most);
    return most;
  };
  return best(0, -1);
}

/**
 * Where a wiki link leads: the exact path, else the path's end, else the name; of several the
 * shortest. Upper and lower case are one.
 */
export class Names {
  /** @param {Iterable<Note>} notes */
  constructor(notes) {
    /** @type {Map<string, string[]>} */
    this.byName = new Map();
    for (const { path } of notes) {
      const name = baseName(path).toLowerCase();
      for (const key of name.endsWith(".md") ? [name, name.slice(0, -3)] : [name]) {
        const there = this.byName.get(key);
        if (there) there.push(path);
        else this.byName.set(key, [path]);
      }
    }
  }

  /** @param {string} target @param {string} from the path of the note the link is in */
  find(target, from) {
    const wanted = resolved(target, "").toLowerCase();
    const candidates = this.byName.get(baseName(wanted)) ?? [];
    const fits = candidates.filter((path) => {
      const have = path.toLowerCase();
      return [have, have.replace(/\.md$/, "")].some((one) => (
        one === wanted || one.endsWith(`/${wanted}`)));
    });
    const here = folderOf(from);
    fits.sort((a, b) => Number(folderOf(b) === here) - Number(folderOf(a) === here)
      || a.length - b.length || byName(a, b));
    return fits[0] ?? null;
  }
}

/** A relative path, seen from a folder, without `.` and `..`. @param {string} path @param {string} from */
export function resolved(path, from) {
  const parts = path.startsWith("/") ? [] : from.split("/").filter(Boolean);
  for (const part of path.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "." && part !== "") parts.push(part);
  }
  return parts.join("/");
}
