"use strict";

// Sort rows within their group when a heading is clicked; unknown values always go last.
for (const table of document.querySelectorAll("table[data-sortable]")) {
  table.setAttribute("data-ready", "");
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  heads.forEach((head, column) => head.addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") === "descending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    for (const body of table.tBodies) sortRows(body, column, up ? 1 : -1);
  }));
}

function sortRows(body, column, sign) {
  const rows = [...body.rows].filter((row) => !row.classList.contains("group"));
  const key = (row) => row.cells[column].dataset.sort;
  rows.sort((a, b) => {
    const [x, y] = [key(a), key(b)];
    if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
    const gap = Number(x) - Number(y);
    return sign * (Number.isNaN(gap) ? x.localeCompare(y) : gap);
  });
  body.append(...rows);
}

// One budget's gallery at a time; without this script all are shown.
for (const tabs of document.querySelectorAll(".tabs")) {
  const panels = [...tabs.querySelectorAll(".tab")];
  if (panels.length < 2) continue;
  const bar = document.createElement("div");
  bar.className = "tabbar";
  const show = (chosen) => panels.forEach((panel, i) => {
    panel.hidden = panel !== chosen;
    bar.children[i].setAttribute("aria-pressed", String(panel === chosen));
  });
  for (const panel of panels) {
    const button = document.createElement("button");
    button.textContent = panel.dataset.tab;
    button.addEventListener("click", () => show(panel));
    bar.append(button);
  }
  tabs.prepend(bar);
  show(panels[panels.length - 1]);
}

// Spread the work of a fit over the images that are served.
const form = document.querySelector("[data-amortise]");
if (form) {
  const cells = [...document.querySelectorAll("td[data-fit]")];
  const marginal = cells.map((cell) => cell.querySelector(".value").textContent);
  const update = () => {
    const amortised = form.elements.mode.value === "amortised";
    const n = Math.max(1, Number(form.elements.n.value) || 1);
    cells.forEach((cell, i) => {
      const total = Number(cell.dataset.sample) + Number(cell.dataset.fit) / n;
      const text = total.toLocaleString("en", { maximumSignificantDigits: 4 });
      cell.querySelector(".value").textContent = amortised ? text : marginal[i];
      cell.dataset.sort = amortised ? total : Number(cell.dataset.sample);
    });
  };
  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
}
