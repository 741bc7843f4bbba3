// The question browser: which benchmark, which two answers, which questions; what is chosen stands in the address.

const BASELINE = -1; // a side that is no row under a seed: the answer that models are compared with

class Browser {
  constructor(root) {
    this.root = root;
    this.section = root.closest("section").id;
    this.by = (id) => root.querySelector(`#q-${id}`);
    this.list = this.by("list");
    this.index = null;
    this.number = 0;
    this.order = []; // places of the questions in the list
    this.chosen = -1; // place of the question that is shown
    this.turn = 0; // counts requests, so that a late answer does not overwrite a newer one
  }

  start() {
    this.root.hidden = false;
    this.listen();
    window.addEventListener("hashchange", () => {
      if (location.hash.includes("benchmark=")) this.follow(); // a link of a cell names no question
    });
    this.follow();
  }

  /** Show what the address names, or the first question of the first benchmark. */
  async follow() {
    const address = new URLSearchParams(location.hash.slice(1));
    const name = visible(address.get("benchmark") || "");
    const options = [...this.by("shelf").options];
    // Two sets of questions of one benchmark are told apart by their hashes, which a cell's link does not know.
    const chosen = options.find((option) => option.textContent === name)
      || options.find((option) => name && option.textContent.startsWith(`${name} (`));
    if (chosen) this.by("shelf").value = chosen.value;
    await this.open(address);
    if (address.has("benchmark")) this.root.closest("section").scrollIntoView();
  }

  listen() {
    this.root.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
    this.by("shelf").addEventListener("change", () => this.open(new URLSearchParams()));
    for (const name of ["a", "b", "measure", "show", "category"]) {
      this.by(name).addEventListener("change", () => this.refresh());
    }
    this.by("order").addEventListener("change", () => {
      this.chosen = -1; // in a new order people want to see what comes first
      this.refresh();
    });
    this.by("search").addEventListener("input", () => this.refresh());
    this.list.addEventListener("click", (event) => {
      const option = event.target.closest("[role=option]");
      if (option) this.choose(Number(option.dataset.place));
    });
    this.by("previous").addEventListener("click", () => this.move(this.at() - 1));
    this.by("next").addEventListener("click", () => this.move(this.at() + 1));
    this.by("marked").addEventListener("change", () => this.choose(this.chosen));
    this.list.addEventListener("keydown", (event) => this.key(event));
  }

  /** Read a benchmark's index and fill every control from it. */
  async open(address) {
    this.number = Number(this.by("shelf").value);
    const turn = ++this.turn;
    this.by("detail").setAttribute("aria-busy", "true"); // until the question of the new index is drawn
    let index;
    try {
      index = await load(`${this.section}-index-${this.number}`);
    } catch (error) {
      this.fail(error);
      return;
    }
    if (turn !== this.turn) return;
    this.index = index;
    this.by("problem").hidden = !index.problem;
    this.by("problem").textContent = index.problem ? `The questions' texts are not shown: ${visible(index.problem)}` : "";
    this.by("reading").hidden = !index.reading.length;
    this.by("reading").textContent = visible(index.reading.join(" "));
    this.fillSides(address);
    fill(this.by("measure"), index.measures.map((measure, place) => [place, measure.title]));
    const measure = index.measures.findIndex(({ title }) => title === address.get("measure"));
    if (measure >= 0) this.by("measure").value = measure;
    const categories = [...new Set(index.questions.map((question) => question[1]))].sort();
    fill(this.by("category"), [["", "all"], ...categories.filter(Boolean).map((name) => [`=${name}`, name])]);
    this.by("category").closest("label").hidden = categories.length < 2;
    for (const name of ["show", "order"]) this.by(name).selectedIndex = 0;
    this.by("search").value = "";
    this.chosen = index.questions.findIndex((question) => question[0] === address.get("question"));
    await this.refresh();
  }

  fillSides(address) {
    const { sides } = this.index;
    const titles = sides.map(([title]) => title);
    const place = (title) => titles.indexOf(title);
    const several = (title) => place(title) !== titles.lastIndexOf(title);
    const options = sides.map(([title, seed], number) => [number, several(title) ? `${title}, seed ${seed}` : title]);
    if (this.index.baseline) options.push([BASELINE, this.index.baseline]);
    const gone = this.index.unavailable.map(([title, why]) => [`!${title}`, `${title} (${why})`, true]);
    const rows = [...new Set(titles)];
    // at first the second row (the untrained student, where there is one) against the last one
    const usual = rows.length > 1 ? [place(rows[1]), place(rows.at(-1))] : [0, (options.at(-1) || [""])[0]];
    ["a", "b"].forEach((side, number) => {
      fill(this.by(side), [...options, ...gone]);
      const wanted = visible(address.get(side) || "");
      const named = options.filter(([, name]) => [name, name.replace(/, seed \d+$/, "")].some((title) => visible(title) === wanted));
      const option = named.find(([, name]) => visible(name) === wanted) || named[0];
      this.by(side).value = option ? option[0] : usual[number];
    });
    // A cell's link names one side: the other one is another row.
    const other = usual.find((side) => String(side) !== this.by("a").value);
    if (!address.has("b") && other !== undefined && this.by("a").value === this.by("b").value) this.by("b").value = other;
  }

  side(name) {
    return Number(this.by(name).value);
  }

  selectedText(name) {
    return this.by(name).selectedOptions[0].textContent;
  }

  values(side) {
    const measure = this.index.measures[Number(this.by("measure").value)];
    return side < 0 || !measure ? null : measure.values[side];
  }

  /** Make the list again from the controls, and show the chosen question, or the first that is left. */
  async refresh() {
    const { index } = this;
    const [a, b] = [this.side("a"), this.side("b")];
    const [left, right] = [this.values(a), this.values(b)];
    const at = (values, place) => (values ? values[place] : null);
    const difference = (place) => {
      const [leftValue, rightValue] = [at(left, place), at(right, place)];
      return leftValue === null || rightValue === null ? null : leftValue - rightValue;
    };
    const [search, category] = ["search", "category"].map((name) => this.by(name).value);
    const shown = {
      all: () => true,
      a: (place) => difference(place) > 0, // false without a difference, as below
      b: (place) => difference(place) < 0,
      same: (place) => difference(place) === 0,
      unscored: (place) => [a, b].some((side) => side >= 0 && index.unscored[side][place] > 0),
    }[this.by("show").value];
    const passes = (place) => {
      const [id, group, text] = index.questions[place];
      return shown(place) && (!category || category === `=${group}`) && matches(`${id} ${group} ${text}`, search);
    };
    const [key, sign] = {
      given: [() => 0, 1],
      "a-b": [difference, -1],
      "b-a": [difference, 1],
      a: [(place) => at(left, place), 1],
      b: [(place) => at(right, place), 1],
    }[this.by("order").value];
    this.order = ordered([...index.questions.keys()].filter(passes), key, sign);
    this.drawList(left, right);
    if (!this.order.includes(this.chosen)) this.chosen = this.order.length ? this.order[0] : -1;
    await this.choose(this.chosen);
  }

  drawList(left, right) {
    const rows = this.order.map((place) => {
      const [id, , text] = this.index.questions[place];
      const numbers = [left, right].map((values) => (values ? rounded(values[place]) : "\u2013")).join(" | ");
      return make("li", { role: "option", id: `q-option-${place}`, "data-place": place, "aria-selected": "false" },
        make("span", { class: "snippet", dir: "auto" }, text || id), make("span", { class: "numbers" }, numbers));
    });
    this.list.replaceChildren(...rows);
    this.by("count").textContent = `${this.order.length} of ${this.index.questions.length} questions; numbers: left | right`;
  }

  /** Show one question. */
  async choose(place) {
    const before = this.list.querySelector("[aria-selected=true]");
    if (before) before.setAttribute("aria-selected", "false");
    this.chosen = place;
    const detail = this.by("detail");
    const at = this.at();
    this.by("previous").disabled = at <= 0;
    this.by("next").disabled = at < 0 || at === this.order.length - 1;
    this.by("place").textContent = at < 0 ? "" : `${at + 1} of ${this.order.length}`;
    if (place < 0) {
      this.list.removeAttribute("aria-activedescendant");
      detail.replaceChildren(make("p", {}, "No question is left: loosen the filters."));
      detail.setAttribute("aria-busy", "false");
      return;
    }
    const option = this.list.querySelector(`#q-option-${place}`);
    option.setAttribute("aria-selected", "true");
    this.list.setAttribute("aria-activedescendant", option.id);
    reveal(this.list, option);
    await this.drawQuestion(place);
  }

  async drawQuestion(place) {
    const { index, number } = this;
    const turn = ++this.turn;
    const detail = this.by("detail");
    detail.setAttribute("aria-busy", "true");
    let block = index.starts.length - 1;
    while (index.starts[block] > place) block -= 1;
    let record;
    try {
      record = (await load(`${this.section}-block-${number}-${block}`))[place - index.starts[block]];
    } catch (error) {
      this.fail(error);
      return;
    }
    if (turn !== this.turn) return;
    const sides = ["a", "b"].map((name) => this.content(name, record));
    const marked = this.by("marked").checked;
    detail.replaceChildren(...questionView(index, index.questions[place], record, sides, marked));
    detail.setAttribute("aria-busy", "false");
    this.remember(index.questions[place][0]);
  }

  /** What questionView wants to know of one side. */
  content(name, record) {
    const side = this.side(name);
    if (side < 0) {
      const answer = record.baseline.length ? [record.baseline, [], [], {}] : null;
      return { title: this.index.baseline, answer, judgments: [], requests: {}, note: "not judged itself", lost: "", command: "" };
    }
    const [note, lost] = this.index.lost[side];
    const command = `${this.index.commands[side]} '${this.index.questions[this.chosen][0].replaceAll("'", "'\\''")}'`;
    const [answer, judgments] = [record.answers[side], record.judgments[side]];
    // Texts that stand on the page already are only named in a request.
    const texts = { turns: record.turns, baseline: record.baseline, answers: answer ? answer[0] : [] };
    const whole = (pieces) => pieces.map((piece) => (typeof piece === "string" ? piece : texts[piece[0]][piece[1]])).join("");
    const requests = Object.fromEntries(Object.entries(record.requests[side]).map(([part, pieces]) => [part, whole(pieces)]));
    return { title: this.selectedText(name), answer, judgments, requests, note, lost, command };
  }

  /** Place of the chosen question in the list. */
  at() {
    return this.order.indexOf(this.chosen);
  }

  move(to) {
    if (this.order.length) this.choose(this.order[Math.max(0, Math.min(this.order.length - 1, to))]);
  }

  key(event) {
    const at = this.at();
    const moves = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: this.order.length - 1, PageDown: at + 10, PageUp: at - 10 };
    if (!(event.key in moves)) return;
    event.preventDefault(); // else the page scrolls
    this.move(moves[event.key]);
  }

  /** What is shown, in the address: it can be copied and opened again. */
  remember(question) {
    const state = { benchmark: this.selectedText("shelf"), question, a: this.selectedText("a"), b: this.selectedText("b") };
    if (this.touched) history.replaceState(null, "", `#${new URLSearchParams(state)}`);
    this.touched = true; // the first question was nobody's choice
  }

  fail(error) {
    this.by("detail").setAttribute("aria-busy", "false");
    this.by("detail").replaceChildren(make("p", { class: "warning" }, `This cannot be shown: ${error.message}`));
  }
}

/** Options of a select: [value, title, whether it cannot be chosen]. */
function fill(select, options) {
  select.replaceChildren(...options.map(([value, title, off]) => make("option", { value, disabled: Boolean(off) }, title)));
}

/** Scroll a list so that one of its options can be seen, without moving the page. */
function reveal(list, option) {
  const [top, bottom] = [option.offsetTop, option.offsetTop + option.offsetHeight - list.clientHeight];
  list.scrollTop = Math.min(top, Math.max(bottom, list.scrollTop));
}

// What is done when the page opens. This stands before the data: nothing waits for megabytes that are not looked at.
for (const tools of document.querySelectorAll("[data-grid] [data-needs-script]")) tools.hidden = false;
document.querySelectorAll("[data-grid]").forEach(startGrid);
startScrolls(document);
startTips(document.querySelectorAll(".tip"));
for (const button of document.querySelectorAll("button[data-source]")) button.addEventListener("click", () => saveFile(button));
const root = document.getElementById("browser");
if (root) new Browser(root).start();
