// What happens in the vault, as it happens.

import { html, useEffect, useState } from "../../vendor/preact.js";
import { place, shownName } from "../actions.js";
import { at, get, query } from "../api.js";
import { route, to } from "../route.js";
import { changes } from "../store.js";
import { Problem, Time, Waiting, useTitle } from "../ui.js";
import { authors, deed } from "./history.js";
import { sittings, when } from "../sittings.js";
import { Bar, Written, writtenNow } from "./vault.js";

/** @typedef {import("../store.js").Revision} Revision */

const PAGE = 50;
const day = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });

export function Activity() {
  const { vault: name } = route.value;
  useTitle("Activity");
  const [list, setList] = useState(/** @type {Revision[] | null} */ (null));
  const [next, setNext] = useState(/** @type {string | null} */ (null));
  const [error, setError] = useState(/** @type {any} */ (null));
  useEffect(() => {
    const abort = new AbortController();
    get(`${at("history", name)}${query({ limit: PAGE })}`, { signal: abort.signal }).then((page) => {
      setError(null);
      setList((was) => {
        const known = new Set(was?.map(({ version }) => version));
        const fresh = page.revisions.filter((/** @type {Revision} */ one) => !known.has(one.version));
        // More than a page came meanwhile: begin anew rather than leave a hole.
        if (!was || fresh.length === page.revisions.length) {
          setNext(page.next);
          return page.revisions;
        }
        return [...fresh, ...was];
      });
    }, (problem) => { if (!abort.signal.aborted) setError(problem); });
    return () => abort.abort();
  }, [name, changes.value]);
  const older = async () => {
    try {
      const page = await get(`${at("history", name)}${query({ limit: PAGE, after: next })}`);
      setList([...list ?? [], ...page.revisions]);
      setNext(page.next);
    } catch (problem) {
      setError(problem);
    }
  };
  const now = writtenNow();
  let last = "";
  return html`<${Bar} title=${html`<h1>Activity</h1>`} />
    <div class="column">
      ${now.length > 0 && html`<section><h2>Now</h2><ul class="lines">${now.map((one) => html`<li key=${one.id}>
        <${Written} session=${one} /></li>`)}</ul></section>`}
      ${error && html`<${Problem} error=${error} />`}
      ${!list ? !error && html`<${Waiting} />` : list.length === 0 ? html`<p class="empty">Nothing happened yet.</p>`
      : html`<div aria-live="polite" aria-relevant="additions">${sittings(list).map((sitting) => {
        const [one] = sitting;
        const ms = when(one);
        const today = day.format(ms);
        const header = today === last ? null : html`<h2 class="day">${today}</h2>`;
        last = today;
        const path = one.path ?? one.from ?? "";
        return html`${header}<ul class="lines"><li key=${one.version}>
          <a href=${path ? to.history(name, path) : to.list(name, "deleted")}>
            <strong>${path ? shownName(path) : "A note"}</strong>
            <small>${authors(sitting)} ${deed(one)}${one.device?.name ? ` on ${one.device.name}` : ""} ${place(path) && `· ${place(path)}`}</small>
            <${Time} ms=${ms} /></a></li></ul>`;
      })}</div>`}
      ${next && html`<p><button onClick=${older}>Older</button></p>`}
    </div>`;
}
