// The page's own loro, started from its file instead of over HTTP.

import { readFileSync } from "node:fs";

import start from "../vendor/loro.js";

await start({ module_or_path: readFileSync(new URL("../vendor/loro_wasm_bg.wasm", import.meta.url)) });

export * from "../vendor/loro.js";
