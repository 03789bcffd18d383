// Makes the vendored files of the page from the packages in package-lock.json, and SOURCES.md.
// `npm ci && node build.mjs` gives the same bytes everywhere; `node build.mjs --check` only says
// whether what lies here is that. Run it when a version in package.json changed.
//
// One file for everything that must be there once: two copies of @codemirror/state, or of preact,
// do not know each other's objects.

import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const lock = JSON.parse(readFileSync(join(here, "package-lock.json"), "utf8"));

/** What each file exports, and the packages whose sources it is made of are found by esbuild. */
const FILES = {
  "codemirror.js": `
    export * from "@codemirror/state";
    export * from "@codemirror/view";
    export { history, historyKeymap, defaultKeymap, indentWithTab, undo, redo, undoDepth,
      redoDepth, isolateHistory } from "@codemirror/commands";
    export { syntaxHighlighting, HighlightStyle, indentUnit } from "@codemirror/language";
    export { search, searchKeymap, highlightSelectionMatches } from "@codemirror/search";
    export { markdown, markdownLanguage, markdownKeymap } from "@codemirror/lang-markdown";
    export { tags } from "@lezer/highlight";`,
  "preact.js": `
    export { render, h, Fragment, createContext } from "preact";
    export { useState, useEffect, useLayoutEffect, useRef, useMemo, useCallback, useContext }
      from "preact/hooks";
    export { signal, computed, effect, batch, untracked, useSignal, useComputed,
      useSignalEffect } from "@preact/signals";
    export { html } from "htm/preact";`,
  "loro.js": `export * from "loro-crdt/web"; export { default } from "loro-crdt/web";`,
  "loro-protocol.js": `
    export { encode, decode, tryDecode, MessageType, CrdtType, UpdateStatusCode, JoinErrorCode,
      RoomErrorCode, MAX_MESSAGE_SIZE, bytesToHex, hexToBytes } from "loro-protocol";`,
  "markdown-it.js": `
    export { default } from "markdown-it";
    export { default as footnotes } from "markdown-it-footnote";`,
  "dompurify.js": `export { default } from "dompurify";`,
  "qrcode.js": `export { default } from "qrcode-generator";`,
};
const COPIES = { "loro_wasm_bg.wasm": "loro-crdt/web/loro_wasm_bg.wasm" };

const packageOf = (path) => path.match(/node_modules\/((?:@[^/]+\/)?[^/]+)\//g)?.at(-1)
  ?.slice("node_modules/".length, -1);

async function made(name, contents) {
  const result = await build({
    stdin: { contents, resolveDir: here, sourcefile: name },
    bundle: true,
    format: "esm",
    platform: "browser",
    target: "es2022",
    minify: true,
    legalComments: "none",
    charset: "utf8",
    metafile: true,
    write: false,
    logLevel: "error",
  });
  const packages = new Set(Object.entries(Object.values(result.metafile.outputs)[0].inputs)
    .filter(([, input]) => input.bytesInOutput > 0)
    .map(([path]) => packageOf(path))
    .filter(Boolean));
  const bytes = Buffer.from(result.outputFiles[0].contents);
  return { bytes, packages: [...packages].sort() };
}

const results = new Map();
for (const [name, contents] of Object.entries(FILES)) results.set(name, await made(name, contents));
for (const [name, from] of Object.entries(COPIES)) {
  const bytes = readFileSync(join(here, "node_modules", from));
  results.set(name, { bytes, packages: [packageOf(`node_modules/${from}`)] });
}

const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");
const all = [...new Set([...results.values()].flatMap((one) => one.packages))].sort();
const licences = all.map((name) => {
  const about = JSON.parse(readFileSync(join(here, "node_modules", name, "package.json"), "utf8"));
  const locked = lock.packages[`node_modules/${name}`];
  if (locked?.version !== about.version) {
    throw new Error(`${name} ${about.version} is installed, but ${locked?.version} is locked: npm ci`);
  }
  return `| ${name} | ${about.version} | ${about.license} |`;
});
const sources = `# What lies here, and from where

Made by \`build.mjs\` from the packages of \`package-lock.json\` (public npm registry); not edited by hand.
The licences' texts are in \`LICENSES.txt\`.

| file | bytes | sha256 | made of |
|---|---|---|---|
${[...results].map(([name, { bytes, packages }]) =>
    `| ${name} | ${bytes.length} | \`${sha256(bytes)}\` | ${packages.join(", ")} |`).join("\n")}

| package | version | licence |
|---|---|---|
${licences.join("\n")}
`;
results.set("SOURCES.md", { bytes: Buffer.from(sources), packages: [] });

/** The licence a package ships; what ships none has its SPDX name in SOURCES.md. */
function licenceText(name) {
  for (const file of ["LICENSE", "LICENSE.md", "LICENSE.txt", "LICENSE-MIT", "license"]) {
    try {
      return readFileSync(join(here, "node_modules", name, file), "utf8").trim();
    } catch { /* the next name */ }
  }
  return "(the package ships no text; see its SPDX name in SOURCES.md)";
}
const texts = all.map((name) => `## ${name}\n\n${licenceText(name)}\n`).join("\n");
results.set("LICENSES.txt", { bytes: Buffer.from(texts), packages: [] });

let stale = 0;
for (const [name, { bytes }] of results) {
  const path = join(here, name);
  if (process.argv.includes("--check")) {
    let there;
    try { there = readFileSync(path); } catch { there = undefined; }
    if (!there?.equals(bytes)) {
      console.error(`vendor/${name} is not what build.mjs makes: run npm ci && node build.mjs`);
      stale += 1;
    }
  } else {
    writeFileSync(path, bytes);
    console.log(`${name}  ${bytes.length} bytes`);
  }
}
process.exit(stale ? 1 : 0);
