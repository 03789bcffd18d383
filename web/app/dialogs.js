// Which of the dialogs that any key can open is open.

import { signal } from "../vendor/preact.js";

/** @type {import("../vendor/preact.js").Signal<"palette" | "keys" | null>} */
export const dialog = signal(null);
/** Whether the tree is shown where it does not fit beside the note. */
export const drawer = signal(false);
