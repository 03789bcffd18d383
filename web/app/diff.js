// How two texts differ, by words.
//
// Lines first, then words inside the lines that changed: fast for whole notes, readable for a
// person. Invariants: hunks are in order, do not touch each other, never split a code point, and
// replacing them in `a` gives exactly `b`.

/**
 * Replace `a[fromA, toA)` by `b[fromB, toB)`; offsets are UTF-16 code units.
 * @typedef {{fromA: number, toA: number, fromB: number, toB: number}} Hunk
 */

/** Above this many differences the middle is taken as replaced: the search is quadratic in them. */
const DIFFERENCES_MAX = 1200;

const WORDS =
  /\n|[^\S\n]+|[\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\p{sc=Hangul}]|[\p{L}\p{M}\p{N}_]+|[^\s]/gu;

/** @param {string} text @returns {string[]} */
export const words = (text) => text.match(WORDS) ?? [];
/** @param {string} text */
const lines = (text) => text.match(/[^\n]*\n|[^\n]+$/g) ?? [];

/**
 * @param {string} a
 * @param {string} b
 * @returns {Hunk[]}
 */
export function diff(a, b) {
  if (a === b) return [];
  /** @type {Hunk[]} */
  const out = [];
  for (const hunk of ofTokens(lines(a), lines(b))) {
    const fine = ofTokens(
      words(a.slice(hunk.fromA, hunk.toA)),
      words(b.slice(hunk.fromB, hunk.toB)),
    );
    for (const one of fine) {
      out.push({
        fromA: one.fromA + hunk.fromA,
        toA: one.toA + hunk.fromA,
        fromB: one.fromB + hunk.fromB,
        toB: one.toB + hunk.fromB,
      });
    }
  }
  return out;
}

/**
 * The same with the letters that both ends of a hunk share cut off: what a cursor should not jump
 * over when the change is carried out.
 * @param {string} a
 * @param {string} b
 * @returns {Hunk[]}
 */
export function tightDiff(a, b) {
  return diff(a, b).map((hunk) => {
    let { fromA, toA, fromB, toB } = hunk;
    while (fromA < toA && fromB < toB && a.charCodeAt(fromA) === b.charCodeAt(fromB)) {
      fromA += 1;
      fromB += 1;
    }
    if (inPair(a, fromA) || inPair(b, fromB)) {
      fromA -= 1;
      fromB -= 1;
    }
    while (toA > fromA && toB > fromB && a.charCodeAt(toA - 1) === b.charCodeAt(toB - 1)) {
      toA -= 1;
      toB -= 1;
    }
    if (inPair(a, toA) || inPair(b, toB)) {
      toA += 1;
      toB += 1;
    }
    return { fromA, toA, fromB, toB };
  });
}

/**
 * Whether `at` lies between the two halves of one code point.
 * @param {string} text
 * @param {number} at
 */
function inPair(text, at) {
  const before = text.charCodeAt(at - 1);
  const after = text.charCodeAt(at);
  return before >= 0xd800 && before < 0xdc00 && after >= 0xdc00 && after < 0xe000;
}

/**
 * Myers' greedy search over tokens.
 * @param {string[]} a
 * @param {string[]} b
 * @returns {Hunk[]} in code units
 */
function ofTokens(a, b) {
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start += 1;
  let endA = a.length;
  let endB = b.length;
  while (endA > start && endB > start && a[endA - 1] === b[endB - 1]) {
    endA -= 1;
    endB -= 1;
  }
  const pairs = matches(a, b, start, endA, endB);
  pairs.push([endA, endB]);

  /** @type {Hunk[]} */
  const hunks = [];
  let [i, j] = [start, start];
  let offA = a.slice(0, start).join("").length;
  let offB = offA;
  for (const [x, y] of pairs) {
    const lenA = a.slice(i, x).join("").length;
    const lenB = b.slice(j, y).join("").length;
    if (lenA > 0 || lenB > 0) {
      const last = hunks.at(-1);
      if (last && last.toA === offA && last.toB === offB) {
        last.toA += lenA;
        last.toB += lenB;
      } else {
        hunks.push({ fromA: offA, toA: offA + lenA, fromB: offB, toB: offB + lenB });
      }
    }
    const same = x < endA ? a[x].length : 0;
    offA += lenA + same;
    offB += lenB + same;
    [i, j] = [x + 1, y + 1];
  }
  return hunks;
}

/**
 * Which tokens stay, as pairs of indices in order.
 * @param {string[]} a
 * @param {string[]} b
 * @param {number} start
 * @param {number} endA
 * @param {number} endB
 * @returns {[number, number][]}
 */
function matches(a, b, start, endA, endB) {
  const n = endA - start;
  const m = endB - start;
  if (n === 0 || m === 0) return [];
  const most = Math.min(n + m, DIFFERENCES_MAX);
  const reach = new Int32Array(2 * most + 3);
  const middle = most + 1;
  /** @type {Int32Array[]} */
  const trace = [];
  for (let d = 0; d <= most; d += 1) {
    trace.push(reach.slice(middle - d - 1, middle + d + 2));
    for (let k = -d; k <= d; k += 2) {
      const down = k === -d || (k !== d && reach[middle + k - 1] < reach[middle + k + 1]);
      let x = down ? reach[middle + k + 1] : reach[middle + k - 1] + 1;
      let y = x - k;
      while (x < n && y < m && a[start + x] === b[start + y]) {
        x += 1;
        y += 1;
      }
      reach[middle + k] = x;
      if (x >= n && y >= m) return walkBack(trace, n, m, start);
    }
  }
  return [];
}

/**
 * @param {Int32Array[]} trace
 * @param {number} x
 * @param {number} y
 * @param {number} start
 */
function walkBack(trace, x, y, start) {
  /** @type {[number, number][]} */
  const pairs = [];
  for (let d = trace.length - 1; d >= 0; d -= 1) {
    const reach = trace[d];
    const at = (/** @type {number} */ k) => reach[k + d + 1];
    const k = x - y;
    const down = k === -d || (k !== d && at(k - 1) < at(k + 1));
    const fromK = down ? k + 1 : k - 1;
    const fromX = d === 0 ? 0 : at(fromK);
    const fromY = d === 0 ? 0 : fromX - fromK;
    while (x > fromX && y > fromY) {
      x -= 1;
      y -= 1;
      pairs.push([start + x, start + y]);
    }
    x = fromX;
    y = fromY;
  }
  return pairs.reverse();
}
