// Packed data of the page, and small helpers. Text from models reaches the page through textContent alone.

const LATEST = 24; // unpacked values that stay in memory
const unpacked = new Map();

/** The value that reports.page.widgets.pack packed under this id. Rejects where it is missing or damaged. */
function load(id) {
  if (!unpacked.has(id)) {
    const value = read(id);
    value.catch(() => unpacked.delete(id)); // a later try reads again
    unpacked.set(id, value);
    if (unpacked.size > LATEST) unpacked.delete(unpacked.keys().next().value);
  }
  return unpacked.get(id);
}

/** The element with this id once all of it is there: the page is used while its last megabytes are still being read. */
async function arrived(id) {
  for (;;) {
    const element = document.getElementById(id);
    if (document.readyState !== "loading" || (element && element.nextElementSibling)) return element;
    await new Promise((later) => { setTimeout(later, 10); });
  }
}

async function read(id) {
  const element = await arrived(id);
  if (!element) throw new Error(`this page has no data ${id}`);
  if (typeof DecompressionStream === "undefined") {
    throw new Error("this browser cannot unpack compressed data (Chrome 80, Firefox 113, Safari 16.4 or later can)");
  }
  const bytes = Uint8Array.from(atob(element.textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

/** Text with what cannot be seen spelled out, as reports.page.widgets.visible does. */
function visible(text) {
  return String(text)
    .replace(/\r\n/g, "\n")
    .replace(/(?![\n\t\u200c\u200d])[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/gu, (char) =>
      `\u27e6U+${char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}\u27e7`);
}

/** A new element with attributes and children; strings among the children become text, in their visible form. */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value);
  }
  for (const child of children.flat()) {
    if (child === null || child === undefined) continue;
    element.append(child instanceof Node ? child : document.createTextNode(visible(child)));
  }
  return element;
}

/** Whether a text has every word of a search. */
function matches(text, search) {
  return search.toLowerCase().split(/\s+/).every((word) => text.toLowerCase().includes(word));
}

/** Items by a key, smallest first (sign -1: largest); those without one stay last, equal ones keep their order. */
function ordered(items, key, sign) {
  const compare = (left, right) => {
    if (typeof left === "number" && typeof right === "number") return left - right;
    return String(left).localeCompare(String(right), "en", { numeric: true });
  };
  const missing = (value) => value === null || value === undefined;
  const keyed = items.map((item) => [key(item), item]);
  keyed.sort(([left], [right]) =>
    missing(left) || missing(right) ? missing(left) - missing(right) : sign * compare(left, right));
  return keyed.map(([, item]) => item);
}

/** A number to three digits; a dash where there is none. */
function shown(value) {
  if (value === null || value === undefined) return "\u2013";
  return String(Number(Number(value).toPrecision(3)));
}

/** A number for a column of them: two decimals at most. */
function rounded(value) {
  if (value === null || value === undefined) return "\u2013";
  const text = Number(value).toFixed(2);
  return String(Object.is(Number(text), -0) ? 0 : Number(text));
}
