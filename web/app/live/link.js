// A connection to a session: frames up, frames down, and why it ended.
//
// A WebSocket where one gets through, SSE and POST where a proxy stops it. Neither reconnects by
// itself: whoever holds a link joins again over a new one.

import { CrdtType, MessageType, encode } from "./frames.js";

/** Close codes, as docs/protocol.md has them. */
export const Close = {
  malformed: 4400,
  token: 4401,
  full: 4403,
  noSession: 4404,
  tooSlow: 4408,
  otherEpoch: 4409,
  ended: 4410,
  tooLarge: 4413,
  tooFast: 4429,
  /** Ours: nothing answered, or the line went dead. */
  lost: 1006,
};

/**
 * @typedef {object} Handlers
 * @property {() => void} onOpen
 * @property {(frame: Uint8Array) => void} onFrame
 * @property {(code: number) => void} onClose exactly once, unless `close` was called
 */

/**
 * @typedef {object} Link
 * @property {(frame: Uint8Array) => void} send
 * @property {() => void} close
 */

/** @typedef {{id: string, token: string, origin: string}} Where */

const PING_MS = 15_000;
const ANSWER_MS = 10_000;

/** @param {Where} where @param {Handlers} handlers @returns {Link} */
export function webSocketLink({ id, token, origin }, handlers) {
  const url = `${origin.replace(/^http/, "ws")}/api/sessions/${id}/ws`;
  let over = false;
  let heard = Date.now();
  let asked = 0;
  /** @type {WebSocket} */
  let socket;
  const end = (/** @type {number} */ code) => {
    if (over) return;
    over = true;
    clearInterval(timer);
    try { socket.close(); } catch { /* it is closed */ }
    handlers.onClose(code);
  };
  const timer = setInterval(() => {
    if (socket.readyState !== WebSocket.OPEN) return;
    if (asked > heard && Date.now() - asked > ANSWER_MS) end(Close.lost);
    else if (asked <= heard && Date.now() - heard > PING_MS) {
      asked = Date.now();
      socket.send("ping");
    }
  }, 2_500);
  try {
    // A protocol's name has no `=` (RFC 6455, 4.1): the padding of base64 stays away.
    socket = new WebSocket(url, ["loro.v1", `bearer.${token.replace(/=+$/, "")}`]);
  } catch {
    queueMicrotask(() => end(Close.lost));
    return { send: () => {}, close: () => { over = true; clearInterval(timer); } };
  }
  socket.binaryType = "arraybuffer";
  socket.onopen = () => { if (!over) handlers.onOpen(); };
  socket.onmessage = ({ data }) => {
    heard = Date.now();
    if (!over && data instanceof ArrayBuffer) handlers.onFrame(new Uint8Array(data));
  };
  socket.onclose = ({ code }) => end(code);
  return {
    send: (frame) => {
      if (socket.readyState === WebSocket.OPEN) socket.send(/** @type {any} */ (frame));
    },
    close: () => {
      over = true;
      clearInterval(timer);
      socket.close(1000);
    },
  };
}

/** @param {string} id */
const goodbye = (id) => [CrdtType.LoroEphemeralStore, CrdtType.LoroEphemeralStorePersisted,
  CrdtType.Loro].map((crdt) => encode({ type: MessageType.Leave, crdt, roomId: id }));

/** What an HTTP status means as a close code. @param {number} status */
const codeOf = (status) => (
  [400, 401, 403, 404, 408, 409, 410, 413, 429].includes(status) ? 4000 + status : Close.lost
);

/** @param {Where} where @param {Handlers} handlers @returns {Link} */
export function eventsLink({ id, token, origin }, handlers) {
  const drawn = crypto.getRandomValues(new Uint8Array(16));
  const client = Array.from(drawn, (byte) => byte.toString(16).padStart(2, "0")).join("");
  const headers = { Authorization: `Bearer ${token}` };
  const abort = new AbortController();
  let over = false;
  const end = (/** @type {number} */ code) => {
    if (over) return;
    over = true;
    abort.abort();
    handlers.onClose(code);
  };

  (async () => {
    const response = await fetch(`${origin}/api/sessions/${id}/events?client=${client}`, {
      headers: { ...headers, Accept: "text/event-stream" },
      signal: abort.signal,
      cache: "no-store",
    });
    if (!response.ok || !response.body) return end(codeOf(response.status));
    handlers.onOpen();
    for await (const { event, data } of events(response.body)) {
      if (over) return undefined;
      if (event === "close") return end(closeCode(data));
      if (data) handlers.onFrame(fromBase64(data));
    }
    return end(Close.lost);
  })().catch(() => end(Close.lost));

  /** @type {Uint8Array[]} */
  let waiting = [];
  let posting = false;
  const post = async () => {
    if (posting) return;
    posting = true;
    try {
      while (waiting.length > 0 && !over) {
        const body = withLengths(waiting);
        waiting = [];
        const response = await fetch(`${origin}/api/sessions/${id}/frames?client=${client}`, {
          method: "POST",
          headers: { ...headers, "Content-Type": "application/octet-stream" },
          body: /** @type {any} */ (body),
          signal: abort.signal,
        });
        if (!response.ok) end(codeOf(response.status));
      }
    } catch {
      end(Close.lost);
    } finally {
      posting = false;
    }
  };
  return {
    send: (frame) => {
      waiting.push(frame);
      void post();
    },
    close: () => {
      over = true;
      abort.abort();
      // The server waits for a stream that was cut; who leaves says so, even while the page goes.
      const body = withLengths(goodbye(id));
      void fetch(`${origin}/api/sessions/${id}/frames?client=${client}`, {
        method: "POST",
        headers: { ...headers, "Content-Type": "application/octet-stream" },
        body: /** @type {any} */ (body),
        keepalive: true,
      }).catch(() => {});
    },
  };
}

/** @param {string} data */
function closeCode(data) {
  try {
    const said = JSON.parse(data);
    return Number(said.code ?? said) || Close.lost;
  } catch {
    return Close.lost;
  }
}

/** @param {Uint8Array[]} frames */
export function withLengths(frames) {
  const out = new Uint8Array(frames.reduce((sum, frame) => sum + 4 + frame.length, 0));
  const view = new DataView(out.buffer);
  let at = 0;
  for (const frame of frames) {
    view.setUint32(at, frame.length);
    out.set(frame, at + 4);
    at += 4 + frame.length;
  }
  return out;
}

/** @param {string} text */
function fromBase64(text) {
  const binary = atob(text);
  const out = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i += 1) out[i] = binary.charCodeAt(i);
  return out;
}

/**
 * Server-sent events of a body. (EventSource cannot send a token.)
 * @param {ReadableStream<Uint8Array>} body
 * @returns {AsyncGenerator<{event: string, data: string, id: string}>}
 */
export async function* events(body) {
  const decoder = new TextDecoder();
  const reader = body.getReader();
  let rest = "";
  let [event, id] = ["message", ""];
  /** @type {string[]} */
  let data = [];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      rest += decoder.decode(value, { stream: true });
      const lines = rest.split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop() ?? "";
      for (const line of lines) {
        if (line === "") {
          if (data.length > 0) yield { event, data: data.join("\n"), id };
          event = "message";
          data = [];
          continue;
        }
        const colon = line.indexOf(":");
        if (colon === 0) continue;
        const name = colon < 0 ? line : line.slice(0, colon);
        const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
        if (name === "event") event = value;
        else if (name === "data") data.push(value);
        else if (name === "id") id = value;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** For how long a browser whose WebSockets do not get through goes straight to events. */
const REMEMBER_MS = 5 * 60_000;
let eventsUntil = 0;
/** One got through: a later one that does not means that the server is away. */
let socketsWork = false;

/**
 * Whichever gets through.
 * @param {Where} where
 * @param {Handlers} handlers
 * @returns {Link}
 */
export function link(where, handlers) {
  if (Date.now() < eventsUntil) return eventsLink(where, handlers);
  let opened = false;
  let closed = false;
  /** @type {Link} */
  let now = webSocketLink(where, {
    onOpen: () => { opened = socketsWork = true; handlers.onOpen(); },
    onFrame: handlers.onFrame,
    onClose: (code) => {
      if (closed) return;
      if (opened || socketsWork) return handlers.onClose(code);
      now = eventsLink(where, {
        ...handlers,
        onOpen: () => { eventsUntil = Date.now() + REMEMBER_MS; handlers.onOpen(); },
      });
      return undefined;
    },
  });
  return {
    send: (frame) => now.send(frame),
    close: () => { closed = true; now.close(); },
  };
}
