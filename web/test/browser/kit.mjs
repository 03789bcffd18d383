// The real binary on a folder of its own, and browsers that look at it.
//
// CRU names the binary, CHROMIUM the browser. PAGE=here shows the page as it lies in web/, over that
// of the binary: for a look without building one. Nothing here waits for a time: everything waits for
// what is to be seen, and gives up after a minute.

import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";

const CRU = process.env.CRU ?? "cru";
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const PAGE = process.env.PAGE === "here" ? new URL("../../", import.meta.url) : null;
const PATIENCE_MS = Number(process.env.PATIENCE_MS ?? 60_000);
const FLAGS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];

/** Asks until it is true, and says what it last was. @template T @param {() => T | Promise<T>} ask */
export async function until(ask, wanted = Boolean, what = "") {
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    const last = await ask();
    if (wanted(last)) return last;
    if (Date.now() > end) throw new Error(`${what || "never"}: ${JSON.stringify(last)}`);
    await new Promise((go) => setTimeout(go, 25));
  }
}

/** A folder served by `cru up`, with a home of its own. */
export class World {
  /** @param {Record<string, string>} files */
  constructor(files) {
    this.root = mkdtempSync(join(tmpdir(), "cru-page-"));
    this.folder = join(this.root, "vault");
    for (const [path, text] of Object.entries(files)) this.write(path, text);
    this.port = 0;
    this.log = "";
    this.devices = 0;
    this.child = null;
  }

  env(home = "home") {
    const folder = join(this.root, home);
    mkdirSync(folder, { recursive: true });
    const { PATH } = process.env;
    return { PATH, HOME: folder, NO_COLOR: "1", LANG: "C.UTF-8" };
  }

  /** Starts the server, on the port it had. */
  async up() {
    this.log = "";
    const listen = `127.0.0.1:${this.port}`;
    const child = spawn(CRU, ["up", this.folder, "--listen", listen], {
      env: this.env(), stdio: ["ignore", "pipe", "pipe"],
    });
    this.child = child;
    for (const pipe of [child.stdout, child.stderr]) {
      pipe.on("data", (/** @type {Buffer} */ data) => { this.log += data; });
    }
    child.on("error", (error) => { this.log += error; });
    await until(() => {
      if (child.exitCode !== null) throw new Error(`cru up ended: ${this.log}`);
      return this.log;
    }, (log) => /next device:/.test(log), "cru up");
    this.address = /in a browser: (\S+)/.exec(this.log)?.[1] ?? "";
    this.joinLine = /cru join (\S+)/.exec(this.log)?.[1] ?? "";
    this.port = Number(new URL(this.address).port);
    return this;
  }

  get origin() { return `http://127.0.0.1:${this.port}`; }

  /** Ends the server as a power cut would. */
  async kill() {
    const { child } = this;
    const ended = new Promise((go) => child?.on("exit", go));
    child?.kill("SIGKILL");
    await ended;
  }

  async end() {
    if (this.child && this.child.exitCode === null && this.child.signalCode === null) {
      const ended = new Promise((go) => this.child?.on("exit", go));
      this.child.kill("SIGTERM");
      await ended;
    }
    rmSync(this.root, { recursive: true, force: true, maxRetries: 5 });
  }

  /** Runs a command to its end. @param {string[]} args */
  run(args, { home = "home", input = "", codes = [0] } = {}) {
    const done = spawnSync(CRU, args, {
      env: this.env(home), cwd: this.root, input, encoding: "utf8",
    });
    if (!codes.includes(done.status ?? -1)) throw new Error(`cru ${args.join(" ")}: ${done.stdout}${done.stderr}`);
    return done.stdout;
  }

  /** A pairing code for one more device. @param {string[]} options */
  invite(...options) {
    const link = JSON.parse(this.run(["-C", this.folder, "invite", "--json", ...options])).link;
    return link.split("#")[1];
  }

  /** @param {string} path */
  read(path, folder = this.folder) {
    return readFileSync(join(folder, path), "utf8");
  }

  /** As editors do: another file, and its name. @param {string} path @param {string} text */
  write(path, text, folder = this.folder) {
    const to = join(folder, path);
    mkdirSync(dirname(to), { recursive: true });
    const from = `${to}.tmp~`;
    writeFileSync(from, text);
    renameSync(from, to);
  }

  /** @param {string} path @param {(text: string) => boolean} wanted */
  onDisk(path, wanted, folder = this.folder) {
    const read = () => {
      try { return this.read(path, folder); } catch { return null; }
    };
    return until(read, (text) => text !== null && wanted(text), `${path} on disk`);
  }
}

let browser = null;

export async function chrome() {
  browser ??= await chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
  return browser;
}

export async function closeChrome() {
  await browser?.close();
  browser = null;
}

/** A browser of somebody's, signed in. @param {World} world */
export async function person(world, { code = "", ...look } = {}) {
  const context = await (await chrome()).newContext({
    viewport: { width: 1100, height: 750 }, reducedMotion: "reduce", ...look,
  });
  context.setDefaultTimeout(PATIENCE_MS);
  if (PAGE) {
    await context.route(/\/page\/[0-9a-f]+\//, (route) => {
      const name = new URL(route.request().url()).pathname.split("/").slice(3).join("/");
      return route.fulfill({ path: fileURLToPath(new URL(name, PAGE)) });
    });
  }
  const page = await context.newPage();
  await page.goto(`${world.origin}/#pair=${code || world.invite()}`);
  await page.getByRole("button", { name: "Sign in" }).click();
  // Who has one vault is led into it: going elsewhere before that would be taken back.
  await page.getByLabel("Vault pages").waitFor({ state: "attached" });
  return page;
}

const way = (/** @type {string} */ path) => path.split("/").map(encodeURIComponent).join("/");

/** @param {World} world @param {any} page @param {string} path */
export async function look(world, page, path, view = "n") {
  await page.goto(`${world.origin}/#/v/vault/${view}/${way(path)}`);
}

/** Opens the note for writing and waits until it is live. */
export async function edit(world, page, path) {
  await look(world, page, path);
  await page.locator(".bar").getByRole("button", { name: /^(Edit|Join|Watch live)$/ }).click();
  await state(page, (said) => said === "Saved" || said === "Read only");
}

/** What the page says of the session. */
export const state = (page, wanted) => until(
  async () => {
    const said = page.locator(".bar .state");
    return (await said.count()) > 0 ? (await said.first().textContent()) ?? "" : "";
  }, wanted, "the page says");

export const saved = (page) => state(page, (said) => said === "Saved");

/** The text in the editor. */
export const textIn = (page) => page.locator(".cm-content").evaluate((content) => (
  Array.from(content.querySelectorAll(".cm-line"), (line) => (
    Array.from(line.childNodes, (node) => (
      /** @type {any} */ (node).classList?.contains("caret") ? "" : node.textContent)).join("")
  )).join("\n")));

/** Puts the cursor at the beginning or the end of the text. */
export async function cursor(page, key) {
  await page.locator(".cm-content").focus();
  await page.keyboard.press(key === "start" ? "Control+Home" : "Control+End");
}

/**
 * A test in a world of its own, which says what the server said when it fails.
 * @param {Record<string, string>} files @param {(world: World) => Promise<void>} told
 */
export const story = (files, told) => async () => {
  const world = await new World(files).up();
  try {
    await told(world);
  } catch (error) {
    throw Object.assign(error, { message: `${error.message}\nthe server said:\n${world.log}` });
  } finally {
    await world.end();
  }
};
