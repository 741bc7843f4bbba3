// Tables: a click on a heading sorts (largest first for numbers, then turned round).

function startGrid(grid) {
  const table = grid.querySelector("table");
  const body = table.tBodies[0];
  const original = [...body.rows];
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  const reset = grid.querySelector("[data-reset]");

  function place(rows, sorted, direction) {
    body.append(...rows);
    for (const head of heads) head.removeAttribute("aria-sort");
    if (sorted) sorted.setAttribute("aria-sort", direction);
    grid.classList.toggle("sorted", Boolean(sorted));
    reset.hidden = !sorted;
  }

  heads.forEach((head, column) => {
    const button = make("button", { type: "button" });
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const first = head.dataset.numeric === "yes" ? "descending" : "ascending";
      const other = first === "descending" ? "ascending" : "descending";
      const direction = head.getAttribute("aria-sort") === first ? other : first;
      place(sortedRows([...body.rows], column, direction), head, direction);
    });
  });
  reset.addEventListener("click", () => {
    place(original, null);
    heads[0].querySelector("button").focus();
  });
}

/** Rows by one column; those without a value stay last, equal ones keep their order. */
function sortedRows(rows, column, direction) {
  const sign = direction === "ascending" ? 1 : -1;
  const value = (row) => {
    const text = row.cells[column].dataset.sort;
    if (text === undefined) return null;
    return text.trim() !== "" && Number.isFinite(Number(text)) ? Number(text) : text;
  };
  const compare = (left, right) => {
    if (typeof left === "number" && typeof right === "number") return left - right;
    return String(left).localeCompare(String(right), "en", { numeric: true });
  };
  return rows
    .map((row) => [value(row), row])
    .sort(([left], [right]) => {
      if (left === null || right === null) return (left === null) - (right === null);
      return sign * compare(left, right);
    })
    .map(([, row]) => row);
}
