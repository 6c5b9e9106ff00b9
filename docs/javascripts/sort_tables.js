"use strict";

// A click on the head of a column sorts its table, and a second one the other way round: numbers by
// their value, cells without a number last. A block, as scripts of a page share their names.
{
  const valueOf = (cell) => {
    const text = cell.textContent.trim();
    const number = parseFloat(text);
    return Number.isNaN(number) ? text : number;
  };

  const compare = (a, b, sign) => {
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return sign * (typeof a === "number" ? a - b : a.localeCompare(b));
  };

  const sort = (body, column, sign) => {
    const keyed = [...body.rows].map((row) => ({ key: valueOf(row.cells[column]), row }));
    keyed.sort((a, b) => compare(a.key, b.key, sign));
    body.append(...keyed.map(({ row }) => row));
  };

  const makeSortable = (table) => {
    const heads = [...table.tHead.rows[0].cells].filter((head) => head.textContent.trim());
    for (const head of heads) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const isAscending = head.getAttribute("aria-sort") !== "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", isAscending ? "ascending" : "descending");
        sort(table.tBodies[0], head.cellIndex, isAscending ? 1 : -1);
      });
    }
  };

  // Two rows need no order, and pictures have none.
  const isList = (table) => table.tBodies[0].rows.length > 2 && !table.querySelector("img");

  [...document.querySelectorAll("article table:not([class])")].filter(isList).forEach(makeSortable);
}
