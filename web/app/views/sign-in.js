// Signing in: with a pairing code from a device that is in, or with a token.

import { html, useEffect, useRef, useState } from "../../vendor/preact.js";
import { get, post } from "../api.js";
import { deviceId, deviceName, me, nameOf, offeredCode, signIn, signOut, token } from "../session.js";
import { Problem, useTitle } from "../ui.js";

/** A code as people write it: `7k2m 9qxb`, or the end of a join line. @param {string} text */
function codeIn(text) {
  const last = text.trim().split("#").at(-1) ?? "";
  const letters = last.replace(/[^0-9a-z]/gi, "").toUpperCase();
  return letters.length === 8 ? `${letters.slice(0, 4)}-${letters.slice(4)}` : last.trim();
}

export function SignIn() {
  useTitle("Sign in");
  const [withToken, setWithToken] = useState(false);
  const [secret, setSecret] = useState(offeredCode.value);
  const [device, setDevice] = useState(deviceName());
  const [problem, setProblem] = useState(/** @type {any} */ (null));
  const [busy, setBusy] = useState(false);

  const submit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    setBusy(true);
    setProblem(null);
    try {
      if (withToken) {
        me.value = await get("/api/auth/whoami", { as: secret.trim() });
        signIn(secret.trim());
        offeredCode.value = "";
      } else {
        const answer = await post("/api/auth/pair", {
          code: codeIn(secret), device: deviceId(), name: device.trim() || deviceName(),
        });
        me.value = null;
        signIn(answer.token);
        offeredCode.value = "";
      }
    } catch (error) {
      setProblem(error);
    } finally {
      setBusy(false);
    }
  };
  // A code can come later as well, pasted into the address of an open page.
  const offered = offeredCode.value;
  useEffect(() => {
    if (!offered) return;
    setWithToken(false);
    setSecret(offered);
    setProblem(null);
  }, [offered]);
  // Staying is only offered to who is in: a token of another server, or a dead one, is none.
  const [known, setKnown] = useState(/** @type {import("../session.js").Me | null} */ (null));
  useEffect(() => {
    setKnown(null);
    if (!offered || !token.value) return undefined;
    let gone = false;
    get("/api/auth/whoami").then((who) => { if (!gone) setKnown(who); }, () => {});
    return () => { gone = true; };
  }, [offered]);
  const form = useRef(/** @type {HTMLFormElement | null} */ (null));
  const ready = offered !== "" && !withToken && secret === offered;
  const wasReady = useRef(false);
  useEffect(() => {
    // Who changes the offered code stays in its field.
    if (wasReady.current && !ready && !withToken) return;
    wasReady.current = ready;
    /** @type {HTMLElement | null | undefined} */ (form.current?.querySelector(
      ready ? "button.main" : "input"))?.focus();
  }, [ready, withToken, known]);
  const keep = () => { offeredCode.value = ""; };

  return html`<main class="alone sign-in">
    <form onSubmit=${submit} ref=${form}>
      <img src="/icon.svg" alt="" width="44" height="44" />
      <h1>Crucible</h1>
      ${withToken ? html`
        <p>Paste a token of yours. It stays in this browser.</p>
        <label class="field"><span>Token</span>
          <input type="password" value=${secret} autocomplete="off" spellcheck=${false} required
            onInput=${(/** @type {any} */ e) => setSecret(e.target.value)} /></label>`
      : html`
        <p>On a device that is in already, run <code>cru invite</code> (or open “Devices” in this page
          there), and type the code it shows. It works once, for ten minutes.</p>
        <label class="field"><span>Pairing code</span>
          <input class="code" value=${secret} placeholder="7K2M-9QXB" autocomplete="one-time-code"
            autocapitalize="characters" spellcheck=${false} required
            onInput=${(/** @type {any} */ e) => setSecret(e.target.value)} /></label>
        <label class="field"><span>What this device is called</span>
          <input value=${device} maxlength="60"
            onInput=${(/** @type {any} */ e) => setDevice(e.target.value)} /></label>`}
      ${problem && html`<${Problem} error=${problem} />`}
      ${known && html`<button type="button" class="main" onClick=${keep}>Stay signed in as ${nameOf(known)}</button>`}
      <button class=${known ? "" : "main"} disabled=${busy || !secret.trim()}>${busy ? "Signing in…" : "Sign in"}</button>
      <button type="button" class="plain" onClick=${() => { setWithToken(!withToken); setSecret(""); setProblem(null); }}>
        ${withToken ? "Use a pairing code instead" : "Use a token instead"}</button>
    </form>
  </main>`;
}

/** Forgets the token here; the device stays listed until it is revoked. */
export function leave() {
  signOut();
  location.hash = "#/";
}
