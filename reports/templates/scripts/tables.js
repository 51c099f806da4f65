// Tables: sort by a heading (mouse or keyboard), filter, hide groups of columns, download.
const unhidden = (row) => [...row.cells].filter((cell) => !cell.hidden);

// A folded chapter is got ready when it is unfolded, so that a page of many opens at once.
for (const chapter of document.querySelectorAll("details.chapter")) {
  chapter.addEventListener("toggle", () => chapter.querySelectorAll("table[data-sortable]").forEach(ready), { once: true });
}
document.querySelectorAll("section > table[data-sortable], section > .scroll > table[data-sortable]").forEach(ready);

function ready(table) {
  table.setAttribute("data-ready", "");
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sortBy(table, heads, column));
  });
  addTools(table, heads);
}

// The first click shows the best first: low values where low is better, words from a to z.
function sortBy(table, heads, column) {
  const head = heads[column];
  const first = head.dataset.better === "lower" || head.classList.contains("words") ? 1 : -1;
  const now = { ascending: 1, descending: -1 }[head.getAttribute("aria-sort")];
  const sign = now === undefined ? first : -now;
  heads.forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
  for (const body of table.tBodies) sortRows(body, column, sign);
}

// Within a group; unknown values always go last.
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

function addTools(table, heads) {
  const bar = document.createElement("div");
  bar.className = "tools";
  const count = [...table.tBodies].reduce((sum, body) => sum + body.rows.length, 0);
  if (count > 8) bar.append(filterBox(table));
  bar.append(...columnBoxes(table, heads));
  bar.append(download(table, "CSV", asCsv), download(table, "LaTeX", asLatex));
  const hint = document.createElement("span");
  hint.className = "hint";
  hint.textContent = "more columns to the right →";
  bar.append(hint);
  const region = table.closest(".scroll");
  const look = () => { hint.hidden = region.scrollLeft + region.clientWidth > region.scrollWidth - 4; };
  region.addEventListener("scroll", look, { passive: true });
  // They look once at the start too; to ask for a width here would lay the page out for every table.
  new ResizeObserver(look).observe(region);
  new ResizeObserver(look).observe(table);
  region.before(bar);
}

function filterBox(table) {
  const box = document.createElement("input");
  box.type = "search";
  box.placeholder = "filter rows";
  box.setAttribute("aria-label", "Filter the rows of this table");
  box.addEventListener("input", () => {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of table.querySelectorAll("tbody tr:not(.group)")) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
  });
  return box;
}

// One box for every heading over headings; what is hidden is not downloaded either.
function columnBoxes(table, heads) {
  const names = [...new Set(heads.map((head) => head.dataset.over).filter(Boolean))];
  if (names.length < 2 || heads.length < 9) return [];
  return names.map((name) => {
    const label = document.createElement("label");
    const box = document.createElement("input");
    box.type = "checkbox";
    box.checked = !heads.some((head) => head.dataset.over === name && "folded" in head.dataset);
    if (!box.checked) showColumns(table, heads, name, false);
    label.append(box, name);
    box.addEventListener("change", () => showColumns(table, heads, name, box.checked));
    return label;
  });
}

function showColumns(table, heads, name, shown) {
  const columns = heads.flatMap((head, i) => (head.dataset.over === name ? [i] : []));
  for (const row of [heads[0].parentElement, ...table.querySelectorAll("tbody tr:not(.group)")]) {
    for (const i of columns) row.cells[i].hidden = !shown;
  }
  for (const over of table.querySelectorAll(".overs .over")) {
    if (over.textContent === name) over.hidden = !shown;
  }
  const span = heads.filter((head) => !head.hidden).length;
  for (const group of table.querySelectorAll("tr.group th")) group.colSpan = span;
}

function download(table, kind, form) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = kind;
  button.setAttribute("aria-label", `Download this table as ${kind}`);
  button.addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([form(cellTexts(table))], { type: "text/plain" }));
    link.download = `${table.className || "table"}.${kind === "CSV" ? "csv" : "tex"}`;
    link.click();
    URL.revokeObjectURL(link.href);
  });
  return button;
}

// Rows of texts; the heading of a group of rows becomes a column.
function cellTexts(table) {
  const words = (cell) => cell.textContent.replace(/\s+/g, " ").trim();
  const heads = unhidden(table.tHead.rows[table.tHead.rows.length - 1]).map(words);
  const grouped = table.querySelector("tr.group") !== null;
  const rows = [...table.tBodies].flatMap((body) => {
    const title = body.querySelector("tr.group");
    const own = [...body.rows].filter((row) => !row.classList.contains("group") && !row.hidden);
    return own.map((row) => [...(grouped ? [title ? words(title) : ""] : []), ...unhidden(row).map(words)]);
  });
  return [[...(grouped ? ["group"] : []), ...heads], ...rows];
}

// A text that a spreadsheet would take for a formula is written as text.
function asCsv(rows) {
  const quoted = (text) => {
    const safe = /^[=+@\t\r]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text;
    return `"${safe.replaceAll('"', '""')}"`;
  };
  return rows.map((row) => row.map(quoted).join(",")).join("\r\n") + "\r\n";
}

function asLatex(rows) {
  const special = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}",
    "±": "$\\pm$", "−": "$-$", "×": "$\\times$", "↑": "$\\uparrow$", "↓": "$\\downarrow$", "†": "$\\dagger$" };
  const safe = (text) => text.replace(/[\\~^±−×↑↓†&%$#_{}]/g, (c) => special[c] ?? `\\${c}`);
  const lines = rows.map((row) => `${row.map(safe).join(" & ")} \\\\`);
  const body = [lines[0], "\\midrule", ...lines.slice(1)].join("\n");
  return `\\begin{tabular}{${"l".repeat(rows[0].length)}}\n\\toprule\n${body}\n\\bottomrule\n\\end{tabular}\n`;
}
