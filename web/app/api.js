// The server's endpoints. What goes wrong is an `ApiError` whose message a person can read.

import { events } from "./live/link.js";
import { signedOut, token } from "./session.js";

export class ApiError extends Error {
  /**
   * @param {number} status 0 when nothing answered
   * @param {string} code
   * @param {string} message
   * @param {string} [hint]
   */
  constructor(status, code, message, hint) {
    super(message);
    this.status = status;
    this.code = code;
    this.hint = hint;
  }
}

/**
 * @param {string} method
 * @param {string} path
 * @param {{body?: unknown, signal?: AbortSignal, accept?: string, as?: string, first?: number}} [options]
 *   `as`: a token other than the one signed in with; `first`: so many bytes are enough
 * @returns {Promise<Response>}
 */
async function ask(method, path, { body, signal, accept, as, first } = {}) {
  /** @type {Record<string, string>} */
  const headers = { Accept: accept ?? "application/json" };
  const used = as ?? token.value;
  if (used) headers.Authorization = `Bearer ${used}`;
  if (first !== undefined) headers.Range = `bytes=0-${first - 1}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store", credentials: "omit",
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, "no_answer", "The server does not answer.",
      "Is it running, and are you on its network?");
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => null);
  const error = new ApiError(response.status, String(said?.code ?? "unknown"),
    sentence(said?.message ?? `The server answered ${response.status}.`),
    said?.hint && sentence(String(said.hint)));
  if (response.status === 401 && used && used === token.value) signedOut.value = true;
  throw error;
}

/** @param {string} text */
const sentence = (text) => {
  // A name or a command stays as it is spelled.
  const first = /^[a-z]+(?=[\s,:;])/.test(text) ? text.charAt(0).toUpperCase() + text.slice(1) : text;
  return /[.!?]$/.test(first) ? first : `${first}.`;
};

/**
 * @param {string} path
 * @param {{signal?: AbortSignal, as?: string}} [options]
 * @returns {Promise<any>}
 */
export const get = async (path, options) => (await ask("GET", path, options)).json();

/**
 * @param {string} path
 * @param {unknown} [body]
 * @returns {Promise<any>}
 */
export async function post(path, body = {}) {
  const response = await ask("POST", path, { body });
  const text = await response.text();
  return text ? JSON.parse(text) : null;
}

/** @param {string} path */
export const remove = async (path) => { await ask("DELETE", path); };

/** @param {string} path @param {AbortSignal} [signal] @param {number} [first] so many are enough */
export const bytes = async (path, signal, first) => (
  await ask("GET", path, { signal, accept: "*/*", first })).blob();

/** @param {string} path @param {AbortSignal} [signal] */
export const text = async (path, signal) => (await ask("GET", path, { signal, accept: "*/*" }))
  .text();

/** A path of the API with its parts made safe. @param {...string} parts */
export const at = (...parts) => `/api/${parts.map(encodeURIComponent).join("/")}`;

/** @param {Record<string, string | number | null | undefined>} values */
export function query(values) {
  const known = Object.entries(values).filter(([, value]) => value !== null && value !== undefined);
  return known.length === 0 ? ""
    : `?${known.map(([k, v]) => `${k}=${encodeURIComponent(String(v))}`).join("&")}`;
}

/** All pages of a list. @param {string} path @param {string} field @param {AbortSignal} [signal] */
export async function all(path, field, signal) {
  /** @type {any[]} */
  const items = [];
  /** @type {any} */
  let first = null;
  let after = "";
  do {
    const joint = path.includes("?") ? "&" : "?";
    const page = await get(after ? `${path}${joint}after=${encodeURIComponent(after)}` : path,
      { signal });
    first ??= page;
    items.push(...page[field]);
    after = page.next ?? "";
  } while (after);
  return { first, items };
}

/**
 * Server-sent events, for as long as `signal` allows, over every cut of the line.
 * @param {string} path
 * @param {AbortSignal} signal
 * @param {(event: string, data: any) => void} onEvent
 * @param {(up: boolean) => void} [onLine]
 * @param {(error: ApiError) => void} [onRefused] it is over; nothing is tried any more
 */
export async function follow(path, signal, onEvent, onLine = () => {}, onRefused = () => {}) {
  let wait = 500;
  while (!signal.aborted && token.value) {
    try {
      const response = await ask("GET", path, { signal, accept: "text/event-stream" });
      if (response.body) {
        wait = 500;
        onLine(true);
        for await (const { event, data } of events(response.body)) {
          if (signal.aborted) return undefined;
          onEvent(event, safely(data));
        }
      }
    } catch (error) {
      if (signal.aborted) return undefined;
      if (error instanceof ApiError && [401, 403, 404].includes(error.status)) return onRefused(error);
    }
    onLine(false);
    const pause = wait * (0.7 + 0.6 * Math.random());
    await new Promise((resolve) => { setTimeout(resolve, pause); });
    wait = Math.min(wait * 2, 15_000);
  }
  return undefined;
}

/** @param {string} data */
function safely(data) {
  try {
    return JSON.parse(data);
  } catch {
    return null;
  }
}
