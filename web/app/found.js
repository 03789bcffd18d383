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
 * @returns {Range | null} the first word of the place that has the most of them
 */
export function markFound(root, words) {
  clearFound();
  const wanted = [...new Set(words.map(lower).filter(Boolean))];
  /** @type {Range[]} */
  const ranges = [];
  /** @type {Map<Element, {words: Set<string>, first: Range}>} */
  const places = new Map();
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node && ranges.length < MARKS_MAX; node = walker.nextNode()) {
    const text = lower(node.textContent ?? "");
    for (const word of wanted) {
      for (let at = text.indexOf(word); at >= 0; at = text.indexOf(word, at + word.length)) {
        if (isLetter(text, at - 1) || isLetter(text, at + word.length)) continue;
        const range = document.createRange();
        range.setStart(node, at);
        range.setEnd(node, at + word.length);
        ranges.push(range);
        const place = node.parentElement?.closest(BLOCKS) ?? root;
        const there = places.get(place) ?? { words: new Set(), first: range };
        there.words.add(word);
        places.set(place, there);
      }
    }
  }
  // A browser without such marks shows the place alone.
  if ("highlights" in CSS) CSS.highlights.set(MARKS, new Highlight(...ranges));
  let [best, most] = [/** @type {Range | null} */ (null), 0];
  for (const { words: there, first } of places.values()) {
    if (there.size > most) [best, most] = [first, there.size];
  }
  return best;
}

/** In lower case, each letter where it was. @param {string} text */
function lower(text) {
  const all = text.toLowerCase();
  return all.length === text.length ? all
    : Array.from({ length: text.length }, (_, at) => {
      const one = text[at].toLowerCase();
      return one.length === 1 ? one : text[at];
    }).join("");
}

/** Search knows whole words. @param {string} text @param {number} at */
const isLetter = (text, at) => at >= 0 && at < text.length && /[\p{L}\p{N}\p{M}]/u.test(text[at]);

export function clearFound() {
  if ("highlights" in CSS) CSS.highlights.delete(MARKS);
}
