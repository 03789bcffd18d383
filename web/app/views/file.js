// A file that is no note.

import { html, useEffect } from "../../vendor/preact.js";
import { SHOWN_BYTES, blobUrl, download, textOf } from "../files.js";
import { baseName, isPicture } from "../paths.js";
import { route, to } from "../route.js";
import { Icon, Problem, Time, size, useLoaded } from "../ui.js";
import { Name } from "./note.js";
import { Bar } from "./vault.js";

/** @param {{note: import("../paths.js").Note}} props */
export function File({ note }) {
  const { vault: name } = route.value;
  const [shown, error, again] = useLoaded(async (signal) => {
    if (isPicture(note.path)) return { url: await blobUrl(name, note.path, signal) };
    return { text: note.bytes === 0 ? "" : await textOf(name, note.path, signal) };
  }, [note.version, note.path]);
  const { url, text } = shown ?? {};
  useEffect(() => () => { if (url) URL.revokeObjectURL(url); }, [url]);
  return html`<${Bar} title=${html`<${Name} path=${note.path} />`}>
      <button class="main" onClick=${() => void download(name, note.path)}>Download</button>
      <a class="button" href=${to.history(name, note.path)}><${Icon} name="clock" /><span class="only-wide">History</span></a>
    <//>
    <div class="column">
      ${error && html`<${Problem} error=${error} again=${again} />`}
      ${url && html`<img class="picture" src=${url} alt=${baseName(note.path)} />`}
      ${text && html`<pre class="plain-text">${text}</pre>`}
      ${text && note.bytes > SHOWN_BYTES && html`<p class="notice">This is how it begins.
        <button class="plain" onClick=${() => void download(name, note.path)}>Download all of it</button></p>`}
      ${text === "" && html`<p class="empty">There is nothing in it.</p>`}
      <p class="hint">${size(note.bytes)}, changed <${Time} ms=${note.changed_ms} /></p>
    </div>`;
}
