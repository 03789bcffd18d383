// Whether bytes are text, and which.

/** What no text has; tabs, ends of lines and pages, and colours of a terminal are in some. */
// eslint-disable-next-line no-control-regex
const CONTROLS = /[\u0000-\u0008\u000e-\u001a\u001c-\u001f]/;

/**
 * The text that bytes are: UTF-8, or UTF-16 that says so; null for anything else.
 * @param {Uint8Array<ArrayBuffer>} bytes @param {boolean} cut whether there are more, and the last letter may be in half
 */
export function asText(bytes, cut) {
  const mark = bytes[0] << 8 | bytes[1];
  const encoding = mark === 0xfffe ? "utf-16le" : mark === 0xfeff ? "utf-16be" : "utf-8";
  try {
    const text = new TextDecoder(encoding, { fatal: true }).decode(bytes, { stream: cut });
    return CONTROLS.test(text) ? null : text;
  } catch {
    return null;
  }
}
