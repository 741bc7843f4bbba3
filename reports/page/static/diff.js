// Word-level differences of two texts: the longest common subsequence of their words.

const WORD = /(?:(?![\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}])[\p{L}\p{N}\p{M}_'\u2019])+|[^\s]/gu;
const MOST = 16e6; // cells of the table; two answers of 4,000 words

/** Words of a text, each with the place where it begins. Scripts without spaces are cut into letters. */
function wordsOf(text) {
  return [...text.matchAll(WORD)].map((match) => ({ word: match[0], start: match.index }));
}

/**
 * Which words of each text the other one shares: {left, right: boolean per word, share: 0..1}, or null where both
 * texts are too long to compare.
 */
function compareWords(left, right) {
  const numbers = new Map();
  const coded = [left, right].map((words) =>
    Int32Array.from(words, ({ word }) => {
      if (!numbers.has(word)) numbers.set(word, numbers.size);
      return numbers.get(word);
    }));
  const [a, b] = coded;
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head += 1;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail += 1;
  const middleA = a.subarray(head, a.length - tail);
  const middleB = b.subarray(head, b.length - tail);
  if (middleA.length * middleB.length > MOST) return null;
  const same = { left: new Array(a.length).fill(true), right: new Array(b.length).fill(true) };
  const [keptA, keptB] = common(middleA, middleB);
  keptA.forEach((kept, place) => { same.left[head + place] = kept; });
  keptB.forEach((kept, place) => { same.right[head + place] = kept; });
  const kept = same.left.filter(Boolean).length;
  const all = a.length + b.length;
  return { left: same.left, right: same.right, share: all ? (2 * kept) / all : 1 };
}

/** For each of two sequences, which elements belong to their longest common subsequence. */
function common(a, b) {
  const width = b.length + 1;
  const best = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      best[i * width + j] = a[i] === b[j]
        ? best[(i + 1) * width + j + 1] + 1
        : Math.max(best[(i + 1) * width + j], best[i * width + j + 1]);
    }
  }
  const keptA = new Array(a.length).fill(false);
  const keptB = new Array(b.length).fill(false);
  for (let i = 0, j = 0; i < a.length && j < b.length;) {
    if (a[i] === b[j]) {
      keptA[i] = true;
      keptB[j] = true;
      i += 1;
      j += 1;
    } else if (best[(i + 1) * width + j] >= best[i * width + j + 1]) i += 1;
    else j += 1;
  }
  return [keptA, keptB];
}

/** A text cut into [piece, whether it differs]; neighbouring words that differ make one piece. */
function pieces(text, words, same) {
  const cut = [];
  let place = 0;
  for (let index = 0; index < words.length;) {
    if (same[index]) {
      index += 1;
      continue;
    }
    const start = words[index].start;
    while (index < words.length && !same[index]) index += 1;
    const last = words[index - 1];
    const end = last.start + last.word.length;
    if (start > place) cut.push([text.slice(place, start), false]);
    cut.push([text.slice(start, end), true]);
    place = end;
  }
  if (place < text.length) cut.push([text.slice(place), false]);
  return cut;
}
