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

/**
 * How well typed letters fit a path: higher is better, -1 not at all. All letters in order;
 * runs, beginnings of words and the file's own name count more.
 * @param {string} typed
 * @param {string} path
 */
export function fit(typed, path) {
  const want = typed.toLowerCase().replace(/\s+/g, "");
  if (want === "") return 0;
  const have = path.toLowerCase();
  const nameAt = have.lastIndexOf("/") + 1;
  const direct = have.indexOf(typed.toLowerCase().trim(), nameAt);
  if (direct >= 0) return 1000 - (direct - nameAt) * 5 - (have.length - nameAt);
  let [at, score, run] = [0, 0, 0];
  for (const letter of want) {
    const found = have.indexOf(letter, at);
    if (found < 0) return -1;
    run = found === at ? run + 1 : 0;
    const starts = found === 0 || /[\s/_.-]/.test(have[found - 1]);
    score += 1 + run * 3 + (starts ? 6 : 0) + (found >= nameAt ? 2 : 0);
    at = found + 1;
  }
  return score - have.length / 20;
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
