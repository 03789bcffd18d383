// Who is signed in: the token, and whose it is.
//
// The token lies in localStorage, never in an address: one that came in the fragment is taken out
// of it before anything else runs.

import { signal } from "../vendor/preact.js";

/**
 * @typedef {{access: "read" | "write", create: boolean, vaults: string[] | null,
 *   folders: string[] | null, expires_ms: number | null}} Rights
 * @typedef {{user: string, email: string | null, device: string, device_name: string | null,
 *   rights: Rights}} Me
 */

const TOKEN = "crucible.token";
const DEVICE = "crucible.device";

/** @type {import("../vendor/preact.js").Signal<string | null>} */
export const token = signal(read(TOKEN));
/** @type {import("../vendor/preact.js").Signal<Me | null>} */
export const me = signal(null);
/** The token is no longer good; what is open stays open, so that nothing typed is lost. */
export const signedOut = signal(false);
/** A pairing code from the address, for the sign-in form. */
export const offeredCode = signal("");

/** @param {string} key */
function read(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

/** @param {string} key @param {string | null} value */
function write(key, value) {
  try {
    if (value === null) localStorage.removeItem(key);
    else localStorage.setItem(key, value);
  } catch {
    // A browser that keeps nothing: signed in for as long as the page is open.
  }
}

/** @param {string} value */
export function signIn(value) {
  token.value = value;
  signedOut.value = false;
  write(TOKEN, value);
}

export function signOut() {
  token.value = null;
  me.value = null;
  signedOut.value = false;
  write(TOKEN, null);
}

/** Takes `#token=…` and `#pair=…` out of the address. @returns {boolean} whether there was one */
export function takeFromAddress() {
  const match = /^#(token|pair)=([^&]+)(?:&to=(.*))?$/.exec(location.hash);
  if (!match) return false;
  let way = "/";
  try {
    way = decodeURIComponent(match[3] ?? "/");
  } catch { /* the beginning will do */ }
  const at = `${location.pathname}${location.search}#${way.startsWith("/v/") ? way : "/"}`;
  history.replaceState(null, "", at);
  let value = match[2];
  try {
    value = decodeURIComponent(value);
  } catch { /* as it is */ }
  if (match[1] === "token") {
    offeredCode.value = "";
    signIn(value.trim());
  } else {
    offeredCode.value = value.trim().slice(0, 40);
  }
  return true;
}

/** What this browser is to the server: 32 random bytes, drawn once. */
export function deviceId() {
  const known = read(DEVICE);
  if (known && /^[0-9a-f]{64}$/.test(known)) return known;
  const drawn = crypto.getRandomValues(new Uint8Array(32));
  const id = Array.from(drawn, (byte) => byte.toString(16).padStart(2, "0")).join("");
  write(DEVICE, id);
  return id;
}

/** What this browser calls itself, until somebody says otherwise. */
export function deviceName() {
  const agent = navigator.userAgent;
  const browser = [["Edg/", "Edge"], ["Firefox/", "Firefox"], ["Chrom", "Chrome"],
    ["Safari/", "Safari"]].find(([mark]) => agent.includes(mark))?.[1] ?? "Browser";
  const system = [["Android", "Android"], ["iPhone", "iPhone"], ["iPad", "iPad"],
    ["Windows", "Windows"], ["Mac OS", "Mac"], ["Linux", "Linux"]]
    .find(([mark]) => agent.includes(mark))?.[1];
  return system ? `${browser} on ${system}` : browser;
}

/** What others see of somebody. @param {{email?: string | null, user?: string} | null} who */
export function nameOf(who) {
  return who?.email?.split("@")[0] || who?.user?.slice(0, 8) || "somebody";
}
