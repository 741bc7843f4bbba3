// One question: its text, two answers side by side with their differences, and what each judge said of them.

const FEW = 0.15; // texts that share fewer words are not marked: everything would be
const LONG = 600; // characters of a judge's reply that are shown without a click

/** The whole view. sides: two of {title, answer, judgments, requests, note, lost, command}; answer: [turns, finished, tokens, meta, thinking] or null. */
function questionView(index, question, record, sides, marked) {
  const [id, category] = question;
  const view = [make("h3", {}, category ? `${id} (${category})` : id)];
  const turns = Math.max(record.turns.length, ...sides.map((side) => (side.answer ? side.answer[0].length : 0)));
  for (let turn = 0; turn < turns; turn += 1) {
    if (turns > 1) view.push(make("h4", {}, `Turn ${turn + 1}`));
    if (record.turns[turn] !== undefined) view.push(make("div", { class: "text asked", dir: "auto" }, record.turns[turn]));
    view.push(...answerPair(sides, turn, marked));
  }
  view.push(make("h4", {}, "Verdicts"));
  const judges = [...new Set(sides.flatMap((side) => side.judgments.map(([judge]) => judge)))].sort((a, b) => a - b);
  const columns = sides.map((side) => verdicts(index, side, judges));
  const lines = Math.max(...columns.map((column) => column.childElementCount));
  for (const column of columns) column.style.gridRow = `span ${lines}`; // one judge, one line: see .aligned
  view.push(make("div", { class: "pair aligned" }, columns));
  const beside = [[index.baseline, record.baseline], ["Reference", record.reference]];
  for (const [name, texts] of beside) if (texts.length) view.push(folded(name, texts));
  return view;
}

/** Two answers to one turn, with words that only one of them has marked. */
function answerPair(sides, turn, marked) {
  const texts = sides.map((side) => {
    const text = side.answer ? side.answer[0][turn] : undefined;
    return text === undefined ? null : visible(text);
  });
  const words = texts.map((text) => (text === null ? [] : wordsOf(text)));
  const both = marked && texts[0] !== null && texts[1] !== null;
  const same = both ? compareWords(...words) : null;
  const share = same ? same.flat().filter(Boolean).length / (same.flat().length || 1) : 0;
  const notes = [];
  if (both && same === null) notes.push("These answers are too long to compare word by word.");
  if (both && texts[0] === texts[1]) notes.push("The two answers are the same.");
  else if (same && share < FEW) {
    notes.push(`The two answers share few words (${Math.round(100 * share)}%), so differences are not marked.`);
  }
  const use = same && share >= FEW ? same : [null, null];
  const columns = sides.map((side, place) =>
    answerColumn(side, turn, texts[place], use[place] && pieces(texts[place], words[place], use[place]), place));
  return [...notes.map((note) => make("p", { class: "faint" }, note)), make("div", { class: "pair" }, columns)];
}

function answerColumn(side, turn, text, cut, place) {
  const name = make("h5", {}, side.title);
  if (text === null) return make("div", {}, name, make("p", { class: "warning" }, side.note || "no answer"));
  const [, finished, tokens, , thinking] = side.answer;
  const facts = [`${text.length.toLocaleString("en")} characters`];
  if (tokens[turn] !== undefined) facts.push(`${tokens[turn].toLocaleString("en")} tokens`);
  const body = make("div", { class: "text", dir: "auto" });
  const only = place === 0 ? "left" : "right";
  if (!text) body.append(make("span", { class: "faint" }, "(an empty answer)"));
  for (const [piece, differs] of cut || [[text, false]]) {
    body.append(differs ? make("mark", { class: only }, piece) : document.createTextNode(piece));
  }
  const cutShort = finished[turn] === false ? make("span", { class: "badge" }, "cut at the token limit") : null;
  const thought = thinking && thinking[turn] ? thoughts(thinking[turn]) : null;
  return make("div", {}, name, make("p", { class: "facts" }, facts.join(", "), " ", cutShort), thought, body);
}

/** What all judges said of one side: a block per judge, the same judges in the same order on both sides. */
function verdicts(index, side, judges) {
  const column = make("div", {}, make("h5", {}, side.title));
  if (side.lost) column.append(make("p", { class: "warning" }, side.lost));
  else if (!side.judgments.length) column.append(make("p", { class: "faint" }, side.note || "not judged"));
  for (const judge of side.judgments.length ? judges : []) {
    const judged = side.judgments.find(([number]) => number === judge);
    const block = make("div", {}, make("h6", {}, index.judges[judge]));
    if (!judged) block.append(make("p", { class: "faint" }, "has not judged these answers"));
    else if (!judged[1].length) block.append(make("p", { class: "warning" }, "no judgment of this question"));
    for (const judgment of judged ? judged[1] : []) block.append(verdict(judgment, side.requests));
    column.append(block);
  }
  const reported = side.answer ? Object.entries(side.answer[3] || {}) : [];
  if (reported.length) column.append(folded("What the answering harness reported", [JSON.stringify(side.answer[3], null, 1)]));
  if (side.command) column.append(folded("Where this comes from: files, checkpoint, exact requests", [side.command]));
  return column;
}

function verdict([part, repeat, value, reason, flags, reply, model, meta, thinking, key], requests) {
  const head = make("p", { class: "verdict" }, make("span", { class: "part" }, repeat ? `${part}, repeat ${repeat + 1}` : part), " ");
  if (value === null) head.append(make("strong", { class: "badge" }, `not scored: ${reason || "no reason given"}`));
  else head.append(make("strong", {}, shown(value)));
  const facts = [...flags, ...Object.entries(meta || {}).map(([key, fact]) => `${key}: ${typeof fact === "string" ? fact : JSON.stringify(fact)}`)];
  if (model) facts.unshift(model);
  if (key) facts.push(`request ${key}\u2026`);
  const box = make("div", { class: "judgment" }, head);
  if (facts.length) box.append(make("p", { class: "facts" }, facts.join("; ")));
  const request = key && requests[`${part} ${repeat}`];
  if (request) box.append(folded("Request", [request]));
  const ledger = document.body.dataset.ledger; // distilbench view can look into it
  if (key && ledger) box.append(make("p", { class: "facts" }, make("a", { href: ledger + key }, "exact request and reply")));
  if (thinking) box.append(thoughts(thinking));
  if (reply.length > LONG) box.append(folded(`Reply, ${reply.length.toLocaleString("en")} characters`, [reply]));
  else if (reply) box.append(make("div", { class: "text reply", dir: "auto" }, reply));
  return box;
}

/** Thinking that was set apart: no judge and no parser has read it. */
function thoughts(text) {
  return folded(`Thinking, set apart: ${text.length.toLocaleString("en")} characters`, [text]);
}

function folded(name, texts) {
  const numbered = texts.map((text, place) =>
    make("div", { class: "text", dir: "auto" }, texts.length > 1 ? `${place + 1}. ${text}` : text));
  return make("details", {}, make("summary", {}, name), numbered);
}
