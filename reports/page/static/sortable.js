// Tables: a click on a heading sorts (largest first for numbers, then turned round), a field above filters the rows.

function startGrid(grid) {
  const body = grid.querySelector("tbody");
  const original = [...body.rows];
  const heads = [...grid.querySelectorAll("thead tr:last-child > *")];
  const [filter, reset] = ["filter", "reset"].map((name) => grid.querySelector(`[data-${name}]`));

  function place(rows, sorted, direction) {
    body.append(...rows);
    for (const head of heads) head.removeAttribute("aria-sort");
    if (sorted) sorted.setAttribute("aria-sort", direction);
    reset.hidden = !sorted;
  }

  heads.forEach((head, column) => {
    const button = make("button", { type: "button" });
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const [first, other] = head.dataset.numeric === "yes" ? ["descending", "ascending"] : ["ascending", "descending"];
      const direction = head.getAttribute("aria-sort") === first ? other : first;
      place(sortedRows([...body.rows], column, direction), head, direction);
    });
  });
  filter.addEventListener("input", () => {
    for (const row of body.rows) row.hidden = !matches(row.textContent, filter.value);
  });
  reset.addEventListener("click", () => {
    place(original, null);
    heads[0].querySelector("button").focus(); // the focused button is gone
  });
}

function sortedRows(rows, column, direction) {
  const value = (row) => {
    const text = row.cells[column].dataset.sort;
    return text && Number.isFinite(Number(text)) ? Number(text) : text;
  };
  return ordered(rows, value, direction === "ascending" ? 1 : -1);
}
