// One's devices, and how another one gets in.

import qrcode from "../../vendor/qrcode.js";
import { html, useEffect, useMemo, useState } from "../../vendor/preact.js";
import { all, at, post, remove } from "../api.js";
import { me } from "../session.js";
import {
  Dialog, Problem, Time, Waiting, ask, copy, say, sayError, useLoaded,
} from "../ui.js";
import { Plain } from "./vaults.js";

export function Devices() {
  const [list, error, again] = useLoaded(
    async (signal) => (await all("/api/auth/devices", "devices", signal)).items, []);
  const [inviting, setInviting] = useState(false);
  const revoke = async (/** @type {any} */ device) => {
    const yes = await ask({
      title: `Revoke ${device.name}?`,
      text: device.this ? "This is the browser you are using: you will be signed out at once."
        : "It is signed out at once. What it has on its disk stays there.",
      ok: "Revoke",
      danger: true,
    });
    if (!yes) return;
    try {
      await remove(at("auth", "devices", device.id));
      say(`${device.name} is revoked.`);
      again();
    } catch (problem) {
      sayError(problem);
    }
  };
  const current = (list ?? []).filter((one) => !one.revoked_ms)
    .sort((a, b) => Number(b.this) - Number(a.this) || (b.seen_ms ?? 0) - (a.seen_ms ?? 0));
  const gone = (list ?? []).filter((one) => one.revoked_ms);
  return html`<${Plain} title="Devices">
    <p class="hint">${me.value?.email ? `Signed in as ${me.value.email}. ` : ""}Each device has a token of its own and is revoked alone.</p>
    <p><button class="main" onClick=${() => setInviting(true)}>Invite a device</button></p>
    ${error && html`<${Problem} error=${error} again=${again} />`}
    ${!list && !error && html`<${Waiting} />`}
    ${list && html`<ul class="lines with-buttons">${current.map((one) => html`<li key=${one.id}>
      <div><strong>${one.name}</strong>${one.this && html` <span class="tag">this one</span>`}
        <small>${reach(one)} · seen <${Time} ms=${one.seen_ms} />, added <${Time} ms=${one.created_ms} /></small></div>
      ${revocable(one) && html`<button onClick=${() => void revoke(one)}>Revoke</button>`}</li>`)}</ul>`}
    ${gone.length > 0 && html`<details><summary>Revoked (${gone.length})</summary><ul class="lines">${gone.map((one) => html`
      <li key=${one.id}><div><strong>${one.name}</strong><small>revoked <${Time} ms=${one.revoked_ms} /></small></div></li>`)}</ul></details>`}
    ${inviting && html`<${Dialog} label="Invite a device" onClose=${() => setInviting(false)}>
      <${Invite} onClose=${() => { setInviting(false); again(); }} /><//>`}
  <//>`;
}

/** Whether this device may sign that one out: if that one can do nothing that this one cannot. @param {any} device */
function revocable(device) {
  const own = me.value?.rights;
  if (device.this || !own) return true;
  const within = (/** @type {string[] | null} */ a, /** @type {string[] | null} */ b, /** @type {(x: string, y: string) => boolean} */ is) => (
    b === null || (a !== null && a.every((x) => b.some((y) => is(x, y)))));
  return (device.tokens ?? []).filter((/** @type {any} */ one) => !one.revoked_ms)
    .every((/** @type {{rights: import("../session.js").Rights}} */ { rights }) => (
      (own.access === "write" || rights.access === "read") && (own.create || !rights.create)
      && within(rights.vaults, own.vaults, (x, y) => x.toLowerCase() === y.toLowerCase())
      && within(rights.folders, own.folders, (x, y) => x === y || x.startsWith(`${y}/`))));
}

/** What a device may do. @param {any} device */
function reach(device) {
  const token = device.tokens?.find((/** @type {any} */ one) => !one.revoked_ms);
  if (!token) return "no token";
  const { rights } = token;
  const where = rights.vaults ? rights.vaults.join(", ") : "all your vaults";
  return `${rights.access === "read" ? "reads" : "reads and writes"} ${where}${
    rights.folders ? `, below ${rights.folders.join(", ")}` : ""}`;
}

/** @param {{onClose: () => void}} props */
function Invite({ onClose }) {
  const [vaults] = useLoaded(async (signal) => (await all("/api/vaults", "vaults", signal)).items, []);
  const [vault, setVault] = useState("");
  const [access, setAccess] = useState(me.value?.rights.access === "read" ? "read" : "write");
  const [made, setMade] = useState(/** @type {any} */ (null));
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(/** @type {any} */ (null));
  const invite = async (/** @type {Event} */ event) => {
    event.preventDefault();
    setBusy(true);
    try {
      const known = await tokens();
      const answer = await post(at("auth", "invite"), { ...(vault && { vault }), access });
      setMade({ ...answer, known, vault: vault || vaults?.[0]?.name || "VAULT" });
    } catch (problem) {
      setError(problem);
    } finally {
      setBusy(false);
    }
  };
  if (made) return html`<${Invitation} made=${made} onClose=${onClose} />`;
  return html`<form onSubmit=${invite}>
    <h2>Invite a device</h2>
    <p>The new device will be yours, and may do what you choose here.</p>
    <label class="field"><span>Reaches</span>
      <select value=${vault} onChange=${(/** @type {any} */ e) => setVault(e.target.value)}>
        <option value="">all that this device reaches</option>
        ${(vaults ?? []).map((one) => html`<option value=${one.name}>only ${one.name}</option>`)}
      </select></label>
    <label class="field"><span>May</span>
      <select value=${access} onChange=${(/** @type {any} */ e) => setAccess(e.target.value)}>
        <option value="write" disabled=${me.value?.rights.access === "read"}>read and write</option>
        <option value="read">only read</option>
      </select></label>
    ${error && html`<${Problem} error=${error} />`}
    <div class="buttons"><button type="button" onClick=${onClose}>Cancel</button>
      <button class="main" disabled=${busy}>Show the code</button></div>
  </form>`;
}

/** How often it is asked whether somebody used the code. */
const LOOK_MS = 2_000;

/** Tokens that are good, with the names of their devices. @returns {Promise<Map<string, string>>} */
const tokens = async () => new Map((await all("/api/auth/devices", "devices")).items.flatMap(
  (device) => device.tokens.filter((/** @type {any} */ one) => !one.revoked_ms)
    .map((/** @type {any} */ one) => [one.id, device.name])));

/** An address that only this machine knows by that name. @param {string} host */
const isHere = (host) => /^(127\.|localhost$|localhost:|\[?::1)/.test(host);

/** @param {{made: any, onClose: () => void}} props */
function Invitation({ made, onClose }) {
  const base = (made.url_for_others ?? location.origin).replace(/\/$/, "");
  const line = `cru join ${base}/${made.vault}#${made.code}`;
  const address = `${base}/#pair=${made.code}`;
  const [left, setLeft] = useState(made.expires_ms - Date.now());
  const [joined, setJoined] = useState("");
  useEffect(() => {
    const timer = setInterval(() => setLeft(made.expires_ms - Date.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  useEffect(() => {
    if (joined) return undefined;
    const timer = setInterval(async () => {
      const now = await tokens().catch(() => null);
      const fresh = now && [...now].find(([id]) => !made.known.has(id));
      if (fresh) setJoined(fresh[1]);
    }, LOOK_MS);
    return () => clearInterval(timer);
  }, [joined]);
  const copied = (/** @type {string} */ text, /** @type {string} */ what) => async () => {
    await copy(text);
    say(`${what} is copied.`);
  };
  if (joined) return html`
    <h2>A device joined</h2>
    <p class="joined" role="status"><span class="dot live"></span>${joined} is in. The code is used up.</p>
    <div class="buttons"><button class="main" onClick=${onClose}>Done</button></div>`;
  const over = left <= 0;
  return html`
    <h2>Invite a device</h2>
    <div class=${over ? "invitation over" : "invitation"}>
      <${Code} text=${address} />
      <div>
        <p>On a phone or in another browser, scan this or open <span class="url">${base}</span>. The code is</p>
        <p class="big-code" aria-label="Pairing code">${made.code}</p>
        <p class="hint" role="timer">${over ? "The code is over. Ask for a new one."
          : `Works once, for ${Math.floor(left / 60_000)}:${String(Math.floor(left / 1000) % 60).padStart(2, "0")} more`}</p>
      </div>
    </div>
    <p>In a terminal, to get the notes as files:</p>
    <pre class="line">${line}</pre>
    ${isHere(String(made.listens_on ?? "")) ? html`<p class="notice">This server listens on ${made.listens_on}: only this machine reaches it.
      Start it with an address of your network to let others in.</p>`
    : isHere(new URL(base).hostname) && html`<p class="notice">This address works on this machine alone. Open this page
      under the machine's name or address in your network, and invite from there.</p>`}
    <div class="buttons">
      <button onClick=${copied(address, "The address")}>Copy address</button>
      <button onClick=${copied(line, "The line")}>Copy line</button>
      <button class="main" onClick=${onClose}>Done</button>
    </div>`;
}

/** A QR code as one path. @param {{text: string}} props */
function Code({ text }) {
  const [path, side] = useMemo(() => {
    const code = qrcode(0, "M");
    code.addData(text);
    code.make();
    const count = code.getModuleCount();
    let d = "";
    for (let y = 0; y < count; y += 1) {
      for (let x = 0; x < count; x += 1) if (code.isDark(y, x)) d += `M${x + 4} ${y + 4}h1v1h-1z`;
    }
    return /** @type {[string, number]} */ ([d, count + 8]);
  }, [text]);
  return html`<svg class="qr" viewBox=${`0 0 ${side} ${side}`} role="img" aria-label="QR code of the address" shape-rendering="crispEdges">
    <rect width=${side} height=${side} fill="#fff" /><path d=${path} fill="#000" /></svg>`;
}
