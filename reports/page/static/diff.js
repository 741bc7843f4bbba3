// Word-level differences of two texts: the longest common subsequence of their words.

const WORD = /(?:(?![\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}])[\p{L}\p{N}\p{M}_'\u2019])+|[^\s]/gu;
const MOST = 16e6; // cells of the table; two answers of 4,000 words

/** Words of a text, each with the place where it begins. Scripts without spaces are cut into letters. */
function wordsOf(text) {
  return [...text.matchAll(WORD)].map((match) => ({ word: match[0], start: match.index }));
}

/** Which words of each text the other one shares: [booleans, booleans]; null where both texts are too long to compare. */
function compareWords(left, right) {
  const [a, b] = [left, right].map((words) => words.map(({ word }) => word));
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head += 1;
  let [i, j] = [a.length, b.length];
  for (; i > head && j > head && a[i - 1] === b[j - 1]; i -= 1) j -= 1;
  // A common beginning and end need no table, which grows with the product of the lengths.
  if ((i - head) * (j - head) > MOST) return null;
  const middle = common(a.slice(head, i), b.slice(head, j));
  return [a, b].map((words, side) => words.map((_, at) => middle[side][at - head] !== false));
}

/** For each of two sequences, which elements belong to their longest common subsequence. */
function common(a, b) {
  const width = b.length + 1;
  const best = new Uint16Array((a.length + 1) * width); // of the rest of a from i and of b from j
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      const [next, below, right] = [(i + 1) * width + j + 1, (i + 1) * width + j, i * width + j + 1];
      best[i * width + j] = a[i] === b[j] ? best[next] + 1 : Math.max(best[below], best[right]);
    }
  }
  const shared = [new Array(a.length).fill(false), new Array(b.length).fill(false)];
  for (let i = 0, j = 0; i < a.length && j < b.length;) {
    if (a[i] === b[j]) shared[0][i++] = shared[1][j++] = true;
    else if (best[(i + 1) * width + j] >= best[i * width + j + 1]) i += 1;
    else j += 1;
  }
  return shared;
}

/** A text cut into [piece, whether it differs]; neighbouring words that differ make one piece. */
function pieces(text, words, same) {
  const cut = [];
  let place = 0;
  words.forEach(({ word, start }, index) => {
    if (same[index]) return;
    const joined = index > 0 && !same[index - 1]; // the space between two words that differ is marked with them
    if (!joined && start > place) cut.push([text.slice(place, start), false]);
    const end = start + word.length;
    if (joined) cut[cut.length - 1][0] += text.slice(place, end);
    else cut.push([text.slice(start, end), true]);
    place = end;
  });
  if (place < text.length) cut.push([text.slice(place), false]);
  return cut;
}
