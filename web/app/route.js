// Where one is, in the fragment: the server needs to know nothing of it.
//
//   #/                       the vaults            #/devices
//   #/v/VAULT                a vault               #/v/VAULT/{conflicts[/ID]|deleted|activity}
//   #/v/VAULT/n/PATH         a note (`?edit`, `?h=HEADING`, `?at=ID`, `?find=WORDS`)
//   #/v/VAULT/h/PATH         its history

import { effect, signal } from "../vendor/preact.js";

/**
 * @typedef {object} Route
 * @property {"vaults" | "devices" | "home" | "note" | "history" | "conflicts" | "deleted"
 *   | "activity" | "nowhere"} view
 * @property {string} vault
 * @property {string} path of a note, or the id of a conflict
 * @property {URLSearchParams} params
 */

/** @param {string} part */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** @param {string} fragment @returns {Route} */
export function parse(fragment) {
  const [way, search = ""] = fragment.replace(/^#?\/?/, "").split("?", 2);
  const params = new URLSearchParams(search);
  const parts = way.split("/").filter(Boolean).map(decoded);
  /** @type {(view: Route["view"], vault?: string, path?: string) => Route} */
  const to = (view, vault = "", path = "") => ({ view, vault, path, params });
  if (parts.length === 0) return to("vaults");
  if (parts[0] === "devices" && parts.length === 1) return to("devices");
  if (parts[0] !== "v" || parts.length < 2) return to("nowhere");
  const [, vault, kind, ...rest] = parts;
  switch (kind) {
    case undefined: return to("home", vault);
    case "n": return rest.length > 0 ? to("note", vault, rest.join("/")) : to("home", vault);
    case "h": return rest.length > 0 ? to("history", vault, rest.join("/")) : to("home", vault);
    case "conflicts": return to("conflicts", vault, rest[0] ?? "");
    case "deleted": return to("deleted", vault);
    case "activity": return to("activity", vault);
    default: return to("nowhere");
  }
}

export const route = signal(parse(location.hash));
addEventListener("hashchange", () => { route.value = parse(location.hash); });

/** Where one was in a vault last: pages without one lead back to it. */
export const lastPlace = signal("");
effect(() => { if (route.value.vault) lastPlace.value = location.hash; });

/** @param {string} path */
const way = (path) => path.split("/").map(encodeURIComponent).join("/");

let shown = { vault: "", path: "", key: 0 };

/** The same for as long as one note is shown, also while its path changes. @param {string} vault @param {string} path */
export function keyOfNote(vault, path) {
  if (shown.vault !== vault || shown.path !== path) shown = { vault, path, key: shown.key + 1 };
  return `note ${shown.key}`;
}

/** The note that is shown has another path now. @param {string} vault @param {string} path */
export function noteMoved(vault, path) {
  shown = { ...shown, vault, path };
}

/** Addresses. */
export const to = {
  vaults: () => "#/",
  devices: () => "#/devices",
  /** @param {string} vault */
  vault: (vault) => `#/v/${encodeURIComponent(vault)}`,
  /** @param {string} vault @param {string} path @param {string} [heading] */
  note: (vault, path, heading) => `#/v/${encodeURIComponent(vault)}/n/${way(path)}${
    heading ? `?h=${encodeURIComponent(heading)}` : ""}`,
  /** A place in a note, by its id in the page. @param {string} vault @param {string} path @param {string} id */
  place: (vault, path, id) => `${to.note(vault, path)}?at=${encodeURIComponent(id)}`,
  /** Where words stand in a note. @param {string} vault @param {string} path @param {string[]} words */
  found: (vault, path, words) => `${to.note(vault, path)}?find=${encodeURIComponent(words.join(" "))}`,
  /** @param {string} vault @param {string} path */
  edit: (vault, path) => `#/v/${encodeURIComponent(vault)}/n/${way(path)}?edit`,
  /** @param {string} vault @param {string} path */
  history: (vault, path) => `#/v/${encodeURIComponent(vault)}/h/${way(path)}`,
  /** @param {string} vault @param {"conflicts" | "deleted" | "activity"} view @param {string} [id] */
  list: (vault, view, id) => `#/v/${encodeURIComponent(vault)}/${view}${id ? `/${id}` : ""}`,
};

/** @param {string} address */
export function go(address) {
  if (location.hash === address) return;
  location.hash = address;
  // At once, not with the event: what follows a click sees where it leads.
  route.value = parse(location.hash);
}

/** The same without a step back to here. @param {string} address */
export function instead(address) {
  history.replaceState(null, "", address);
  route.value = parse(location.hash);
}
