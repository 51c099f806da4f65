// Spread the work done once, fits and on request the training of maps, over the samples served.
const forms = [...document.querySelectorAll("[data-amortise]")];
const costs = [...document.querySelectorAll("td[data-sample]")].map((cell) => ({
  cell,
  table: cell.closest("table"),
  value: cell.querySelector(".value"),
  marginal: cell.querySelector(".value").textContent,
  sort: cell.dataset.sort,
}));

for (const form of forms) {
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", (event) => {
    // Whoever sets the number or the map wants to see what it does.
    if (event.target.name !== "mode") form.elements.mode.value = "amortised";
    const n = Math.max(1, Math.floor(Number(form.elements.n.value)) || 1);
    const withMap = Boolean(form.elements.map && form.elements.map.checked);
    for (const other of forms) {
      other.elements.mode.value = form.elements.mode.value;
      if (other.elements.map) other.elements.map.checked = withMap;
      if (other !== form) other.elements.n.value = n;
      other.classList.toggle("amortised", form.elements.mode.value === "amortised");
    }
    if (form.elements.mode.value === "amortised") amortise(n, withMap);
    else costs.forEach(restore);
  });
}

function restore({ cell, value, marginal, sort }) {
  value.textContent = marginal;
  if (sort === undefined) delete cell.dataset.sort;
  else cell.dataset.sort = sort;
  cell.classList.remove("spread");
}

function amortise(n, withMap) {
  const once = (cell) => Number(cell.dataset.fit) + (withMap ? Number(cell.dataset.map) : 0);
  const perSample = ({ cell }) => Number(cell.dataset.sample) + once(cell) / n;
  const cheapest = new Map();
  for (const cost of costs) {
    if (cost.cell.dataset.relative !== "contestant" || !(perSample(cost) > 0)) continue;
    cheapest.set(cost.table, Math.min(perSample(cost), cheapest.get(cost.table) ?? Infinity));
  }
  for (const cost of costs) {
    restore(cost);
    const relative = cost.cell.dataset.relative !== undefined;
    if (!relative && once(cost.cell) === 0) continue;
    const shown = perSample(cost) / (relative ? cheapest.get(cost.table) ?? NaN : 1);
    if (!Number.isFinite(shown)) continue;
    cost.value.textContent = short(shown);
    cost.cell.dataset.sort = shown;
    cost.cell.classList.add("spread");
  }
}

// As in reports/text/numbers.py: three significant digits, but every digit before the point.
function short(x) {
  const digits = x >= 100 ? { maximumFractionDigits: 0 } : { maximumSignificantDigits: 3 };
  return x.toLocaleString("en", digits);
}
