// A file that is no note.

import { html, useEffect } from "../../vendor/preact.js";
import { blobUrl, download } from "../files.js";
import { baseName, isPicture } from "../paths.js";
import { route, to } from "../route.js";
import { Icon, Problem, Time, size, useLoaded } from "../ui.js";
import { Name } from "./note.js";
import { Bar } from "./vault.js";

/** @param {{note: import("../paths.js").Note}} props */
export function File({ note }) {
  const { vault: name } = route.value;
  const picture = isPicture(note.path);
  const [url, error] = useLoaded(
    async (signal) => (picture ? blobUrl(name, note.path, signal) : null), [note.version]);
  useEffect(() => () => { if (url) URL.revokeObjectURL(url); }, [url]);
  return html`<${Bar} title=${html`<${Name} path=${note.path} />`}>
      <button class="main" onClick=${() => void download(name, note.path)}>Download</button>
      <a class="button" href=${to.history(name, note.path)}><${Icon} name="clock" /><span class="only-wide">History</span></a>
    <//>
    <div class="column">
      ${error && html`<${Problem} error=${error} />`}
      ${url && html`<img class="picture" src=${url} alt=${baseName(note.path)} />`}
      <p class="hint">${size(note.bytes)}, changed <${Time} ms=${note.changed_ms} /></p>
    </div>`;
}
