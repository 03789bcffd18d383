// Words that were searched for, in a note as it is drawn: marked, and where they stand together.

/** The name of the marks in the style sheet. */
const MARKS = "found";
/** What is looked at as one place. */
const BLOCKS = "p, li, h1, h2, h3, h4, h5, h6, td, th, pre";
/** Marks are for the eye: a note full of one word needs no more of them. */
const MARKS_MAX = 2_000;

/**
 * Marks the words wherever they stand; the note itself is not changed.
 * @param {HTMLElement} root
 * @param {string[]} words
 * @returns {Element | null} the first place that has the most of them
 */
export function markFound(root, words) {
  clearFound();
  const wanted = [...new Set(words.map((word) => word.toLowerCase()).filter(Boolean))];
  /** @type {Range[]} */
  const ranges = [];
  /** @type {Map<Element, Set<string>>} */
  const places = new Map();
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const text = (node.textContent ?? "").toLowerCase();
    // Where lower case is longer than what it was made of, places in it are none in the note.
    if (text.length !== node.textContent?.length) continue;
    for (const word of wanted) {
      for (let at = text.indexOf(word); at >= 0; at = text.indexOf(word, at + word.length)) {
        const place = node.parentElement?.closest(BLOCKS) ?? node.parentElement ?? root;
        places.set(place, (places.get(place) ?? new Set()).add(word));
        if (ranges.length === MARKS_MAX) break;
        const range = document.createRange();
        range.setStart(node, at);
        range.setEnd(node, at + word.length);
        ranges.push(range);
      }
    }
  }
  // A browser without such marks shows the place alone.
  if ("highlights" in CSS) CSS.highlights.set(MARKS, new Highlight(...ranges));
  /** @type {Element | null} */
  let best = null;
  for (const [place, there] of places) {
    if (!best || there.size > (places.get(best)?.size ?? 0)) best = place;
  }
  return best;
}

export function clearFound() {
  if ("highlights" in CSS) CSS.highlights.delete(MARKS);
}
