// The bytes of files: to show and to keep.

import { at, bytes, query } from "./api.js";
import { baseName } from "./paths.js";
import { asText } from "./text.js";
import { sayError } from "./ui.js";

/** @type {Record<string, string>} */
const KINDS = {
  png: "image/png", jpg: "image/jpeg", jpeg: "image/jpeg", gif: "image/gif", webp: "image/webp",
  avif: "image/avif", svg: "image/svg+xml", bmp: "image/bmp", ico: "image/x-icon",
};

/** Where the server has a file. @param {string} vault @param {string} path */
const way = (vault, path) => `${at("notes", vault, "file")}${query({ path })}`;

/** A file as something an `img` takes. @param {string} vault @param {string} path @param {AbortSignal} [signal] */
export async function blobUrl(vault, path, signal) {
  const blob = await bytes(way(vault, path), signal);
  const end = path.slice(path.lastIndexOf(".") + 1).toLowerCase();
  return URL.createObjectURL(new Blob([blob], { type: KINDS[end] ?? "application/octet-stream" }));
}

/** So much of a file is shown. */
export const SHOWN_BYTES = 256_000;

/**
 * How a file begins, where it is text; else null.
 * @param {string} vault @param {string} path @param {AbortSignal} signal
 */
export async function textOf(vault, path, signal) {
  const blob = await bytes(way(vault, path), signal, SHOWN_BYTES);
  return asText(new Uint8Array(await blob.arrayBuffer()), blob.size >= SHOWN_BYTES);
}

/** @param {string} vault @param {string} path */
export async function download(vault, path) {
  try {
    const blob = await bytes(way(vault, path));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = baseName(path);
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  } catch (error) {
    sayError(error);
  }
}
