// The page starts here: which view is shown, and the keys that work everywhere.

import { effect, html, render, signal, useEffect } from "../vendor/preact.js";
import { get } from "./api.js";
import { newNote } from "./actions.js";
import { Keys } from "./views/keys.js";
import { Palette } from "./views/palette.js";
import { Devices } from "./views/devices.js";
import { SignIn } from "./views/sign-in.js";
import { Vaults } from "./views/vaults.js";
import { Vault } from "./views/vault.js";
import { keyOfNote, parse, route } from "./route.js";
import { me, offeredCode, signOut, signedOut, takeFromAddress, token } from "./session.js";
import { closeVault, mayWrite, openVault } from "./store.js";
import { Dialog, Problem, Questions, Toasts, Waiting, dismiss, types, useAgain } from "./ui.js";
import { dialog } from "./dialogs.js";

takeFromAddress();
addEventListener("hashchange", () => {
  if (takeFromAddress()) route.value = parse(location.hash);
});
route.value = parse(location.hash);

/** @type {import("../vendor/preact.js").Signal<any>} */
const unknown = signal(null);

async function whoAmI() {
  try {
    me.value = await get("/api/auth/whoami");
    unknown.value = null;
  } catch (error) {
    if (!signedOut.value) unknown.value = error;
  }
}

effect(() => {
  if (token.value && !offeredCode.value) void whoAmI();
});

effect(() => {
  const { view, vault } = route.value;
  if (!token.value || !me.value) return;
  if (vault) openVault(vault);
  else if (view === "vaults") closeVault();
});

addEventListener("keydown", (event) => {
  const inVault = Boolean(route.value.vault) && Boolean(me.value);
  const command = event.ctrlKey || event.metaKey;
  if (command && !event.shiftKey && !event.altKey && event.key.toLowerCase() === "p" && inVault) {
    event.preventDefault();
    dialog.value = "palette";
    return;
  }
  // Where somebody writes, or is about to, single keys are letters wherever the focus is.
  const writing = route.value.view === "note" && route.value.params.has("edit");
  if (command || event.altKey || writing || types(event.target)
    || document.querySelector("dialog[open]")) return;
  if (event.key === "?") dialog.value = "keys";
  else if (event.key === "/" && inVault) dialog.value = "palette";
  else if (event.key === "n" && inVault && mayWrite.value) void newNote();
  else return;
  event.preventDefault();
});

function SignedOut() {
  return html`<div class="banner" role="alert">
    <span>You were signed out. What is open stays, and edits that were not saved are kept in this browser.</span>
    <button onClick=${signOut}>Sign in again</button>
  </div>`;
}

function View() {
  const { view, vault } = route.value;
  if (view === "devices") return html`<${Devices} />`;
  if (vault) return html`<${Vault} key=${vault} />`;
  return html`<${Vaults} />`;
}

function App() {
  const now = dialog.value;
  useAgain(token.value && !me.value ? unknown.value : null, () => void whoAmI());
  const close = () => { dialog.value = null; };
  // Somewhere else, that is; a note that is renamed meanwhile is still here.
  const { view, vault, path } = route.value;
  const here = view === "note" ? keyOfNote(vault, path) : `${view} ${path}`;
  useEffect(() => { close(); dismiss(); }, [here]);
  if (!token.value || offeredCode.value || (signedOut.value && !me.value)) {
    return html`<${SignIn} /><${Toasts} />`;
  }
  if (!me.value) {
    return html`<main class="alone">${unknown.value
      ? html`<${Problem} error=${unknown.value} again=${whoAmI} />` : html`<${Waiting} />`}</main>`;
  }
  return html`
    ${signedOut.value && html`<${SignedOut} />`}
    <${View} />
    ${now === "palette" && html`<${Dialog} label="Open a note" kind="palette" onClose=${close}>
      <${Palette} onClose=${close} /><//>`}
    ${now === "keys" && html`<${Dialog} label="Keys" onClose=${close}><${Keys} onClose=${close} /><//>`}
    <${Questions} />
    <${Toasts} />`;
}

const root = document.getElementById("app");
if (root) render(html`<${App} />`, root);
