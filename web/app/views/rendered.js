// The text of a note as it is read.

import {
  html, useEffect, useLayoutEffect, useRef, useState,
} from "../../vendor/preact.js";
import { blobUrl, download } from "../files.js";
import { clearFound, markFound } from "../found.js";
import { frontmatter, render, slug } from "../markdown.js";
import { go, route, to } from "../route.js";
import { names, notes } from "../store.js";
import { differInBoxes, isDone, placeIn } from "../tasks.js";
import { useAgain } from "../ui.js";

/** The boxes of a drawn note, in the order of its text. @param {HTMLElement | null} target */
const boxesIn = (target) => (/** @type {HTMLInputElement[]} */ (
  [...target?.querySelectorAll("input.box") ?? []])).sort((a, b) => placeOf(a) - placeOf(b));
/** Where in the text a box stands. @param {HTMLElement} box */
const placeOf = (box) => Number(box.dataset.at);

/**
 * @param {{path: string, text: string, onTick: ((at: number, done: boolean) => void) | null}} props
 *   `onTick` is for who may write
 */
export function Rendered({ path, text, onTick }) {
  const { vault: name, params } = route.value;
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const { fields } = frontmatter(text);
  const heading = params.get("h");
  const place = heading ? `h-${slug(heading)}` : params.get("at");
  const [missing, setMissing] = useState(/** @type {any} */ (null));
  const [turn, setTurn] = useState(0);
  useAgain(missing, () => { setMissing(null); setTurn((was) => was + 1); });

  // Where only tasks were ticked, what is drawn stays: its pictures, and the place one is at.
  const drawn = useRef({ text: "", boxes: /** @type {number[]} */ ([]) });
  const same = differInBoxes(drawn.current.text, text, drawn.current.boxes);
  const base = same ? drawn.current.text : text;
  useLayoutEffect(() => {
    const target = box.current;
    if (!target) return undefined;
    const at = boxesIn(target).find((one) => one === document.activeElement);
    const there = at ? placeIn(drawn.current.text, base, placeOf(at)) : null;
    const find = (/** @type {string} */ wanted) => names.value.find(wanted, path);
    target.replaceChildren(render(base, { vault: name, path, find }));
    const boxes = boxesIn(target);
    drawn.current = { text: base, boxes: boxes.map(placeOf) };
    boxes.find((one) => placeOf(one) === there)?.focus({ preventScroll: true });
    const abort = new AbortController();
    for (const image of target.querySelectorAll("img.asset")) {
      void show(/** @type {HTMLImageElement} */ (image), name, abort.signal, setMissing);
    }
    return () => {
      abort.abort();
      for (const image of target.querySelectorAll("img.asset")) {
        if (image instanceof HTMLImageElement && image.src) URL.revokeObjectURL(image.src);
      }
    };
  }, [base, path, names.value, turn]);
  useLayoutEffect(() => {
    for (const one of boxesIn(box.current)) {
      one.checked = isDone(text, placeOf(one)) ?? false;
      one.disabled = !onTick;
    }
  });
  const within = (/** @type {string} */ id) => (/** @type {HTMLElement | null | undefined} */ (
    box.current?.querySelector(`#${CSS.escape(id)}`)));
  // Once: what others write meanwhile takes nobody back to where they came in.
  const reached = useRef("");
  const found = params.get("find");
  useEffect(() => {
    if (!box.current) return undefined;
    const marked = found ? markFound(box.current, found.split(" ")) : null;
    const goal = `${path} ${place ?? ""} ${found ?? ""}`;
    const heading = place ? within(place) : null;
    if ((heading || marked) && reached.current !== goal) {
      reached.current = goal;
      if (heading) heading.scrollIntoView();
      else if (marked) toMiddle(marked);
    }
    return found ? clearFound : undefined;
  }, [place, found, base, path, names.value, turn]);

  const click = (/** @type {MouseEvent} */ event) => {
    const link = /** @type {Element} */ (event.target).closest?.("a[data-path], a[data-to]");
    if (!link) return;
    const place = link.getAttribute("data-to");
    if (place) {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      const there = within(place);
      there?.scrollIntoView({ block: "center" });
      there?.focus({ preventScroll: true });
      return;
    }
    event.preventDefault();
    const target = link.getAttribute("data-path") ?? "";
    if (notes.value.get(target)?.kind === "asset") go(to.note(name, target));
    else void download(name, target);
  };
  const change = (/** @type {Event} */ event) => {
    const at = /** @type {HTMLInputElement} */ (event.target);
    onTick?.(placeOf(at), at.checked);
  };
  return html`
    ${fields.length > 0 && html`<table class="frontmatter"><caption class="away">Properties</caption><tbody>
      ${fields.map(({ key, values }) => html`<tr><th scope="row">${key}</th>
        <td>${values.length > 1 || /^(tags|aliases)$/i.test(key)
          ? values.map((value) => html`<span class="tag">${value}</span>`) : values[0] ?? ""}</td></tr>`)}
      </tbody></table>`}
    <article class="markdown" ref=${box} onClick=${click} onChange=${change}></article>`;
}

/** Words may stand far down in one paragraph. @param {Range} range */
function toMiddle(range) {
  const element = range.startContainer.parentElement;
  element?.scrollIntoView({ block: "center" });
  const { top, height } = range.getBoundingClientRect();
  let frame = element?.parentElement;
  while (frame && !/auto|scroll/.test(getComputedStyle(frame).overflowY)) frame = frame.parentElement;
  const by = top + height / 2 - innerHeight / 2;
  if (Math.abs(by) > innerHeight / 3) frame?.scrollBy(0, by);
}

/**
 * @param {HTMLImageElement} image
 * @param {string} name
 * @param {AbortSignal} signal
 * @param {(error: any) => void} onMissing it may be there another time
 */
async function show(image, name, signal, onMissing) {
  const wanted = image.dataset.path ?? "";
  const path = notes.value.has(wanted) ? wanted : names.value.find(wanted, "") ?? wanted;
  try {
    const url = await blobUrl(name, path, signal);
    if (signal.aborted) URL.revokeObjectURL(url);
    else image.src = url;
  } catch (error) {
    if (signal.aborted) return;
    const words = document.createElement("span");
    words.className = "no-image";
    const { status, message } = /** @type {{status?: number, message?: string}} */ (error);
    words.textContent = status === 404 ? `Picture not found: ${wanted}` : `${wanted}: ${message}`;
    image.replaceWith(words);
    if (status === 0 || (status ?? 0) >= 500) onMissing(error);
  }
}
