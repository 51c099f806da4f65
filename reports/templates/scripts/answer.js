// The first screen: one problem and one budget at a time, and any two rows against each other.
for (const picker of document.querySelectorAll("[data-picker]")) {
  const problems = [...picker.querySelectorAll(".problem")];
  if (!problems.length) continue;
  const bar = document.createElement("div");
  bar.className = "bar";
  const problem = choice("Task and reward", problems.map((one) => one.dataset.problem));
  const budgets = document.createElement("span");
  if (problems.length > 1) bar.append(problem.label);
  bar.append(budgets);
  picker.prepend(bar);

  const show = (index, panel) => {
    problems.forEach((one, i) => { one.hidden = i !== index; });
    problem.select.value = String(index);
    const panels = [...problems[index].querySelectorAll(".panel")];
    const chosen = panel ?? panels[panels.length - 1];
    panels.forEach((one) => { one.hidden = one !== chosen; });
    const budget = choice(`Budget per ${problems[index].dataset.noun}`, panels.map((one) => one.dataset.budget));
    budget.select.value = String(panels.indexOf(chosen));
    budget.select.addEventListener("change", () => show(index, panels[Number(budget.select.value)]));
    budgets.replaceChildren(...(panels.length > 1 ? [budget.label] : []));
    if (!chosen.dataset.ready) addPairs(chosen);
  };
  problem.select.addEventListener("change", () => show(Number(problem.select.value)));
  const follow = () => {
    const found = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const panel = found && found.closest(".panel");
    if (panel && picker.contains(panel)) show(problems.indexOf(panel.closest(".problem")), panel);
  };
  show(0);
  follow();
  window.addEventListener("hashchange", follow);
}

function choice(name, texts) {
  const label = document.createElement("label");
  const select = document.createElement("select");
  texts.forEach((text, i) => select.append(new Option(text, String(i))));
  label.append(`${name}: `, select);
  return { label, select };
}

function addPairs(panel) {
  panel.dataset.ready = "yes";
  const ask = panel.querySelector(".ask");
  const data = JSON.parse(panel.querySelector(".pairs").textContent);
  const found = data.filter((one) => one.names.length > 1);
  if (!ask || !found.length) return;
  const told = document.createElement("span");
  told.setAttribute("aria-live", "polite");
  const metric = choice("In", found.map((one) => one.metric));
  const names = found[0].names;
  const [one, other] = ["compare", "with"].map((word) => choice(word, names));
  const best = names.indexOf(panel.dataset.best);
  one.select.value = String(Math.max(best, 0));
  other.select.value = best === 0 ? "1" : "0";
  const say = () => {
    const pairs = found[Number(metric.select.value)];
    told.textContent = pairText(pairs, names[one.select.value], names[other.select.value]);
  };
  for (const { select } of [metric, one, other]) select.addEventListener("change", say);
  ask.append(metric.label, " ", one.label, " ", other.label, document.createElement("br"), told);
  ask.hidden = false;
  say();
}

function pairText({ names, rows }, a, b) {
  const [i, j] = [names.indexOf(a), names.indexOf(b)];
  if (a === b) return "One row cannot be compared with itself.";
  const row = rows.find((r) => (r[0] === i && r[1] === j) || (r[0] === j && r[1] === i));
  if (!row) return "One of them has no value of this metric here.";
  const [, , mean, half, p, count] = row;
  const signed = row[0] === i ? mean : -mean;
  const gap = `${a} less ${b}: ${signed > 0 ? "+" : ""}${small(signed)}`;
  if (half === null || p === null) return `${gap}, and no test: one seed without errors, or a single fit.`;
  const luck = "this pair alone would differ, but of so many pairs one may do so by luck";
  const alone = Math.abs(mean) > half ? `${luck}, so that ` : "";
  const verdict = p < 0.05 ? "clearly different" : `${alone}these seeds cannot tell them apart`;
  const shown = p < 0.001 ? "< 0.001" : `= ${p.toFixed(3)}`;
  return `${gap} ± ${small(half)}, p ${shown} (adjusted over all pairs; the interval is of this one alone; ${count} repetitions): ${verdict}.`;
}

function small(x) {
  return x.toLocaleString("en", { maximumSignificantDigits: 3 }).replace("-", "−");
}

// A link into a folded chapter opens it; on paper everything is open and no table is cut.
function reveal() {
  const found = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!found) return;
  const inside = found.querySelector(":scope > details.chapter");
  for (let at = inside ?? found; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  found.scrollIntoView();
}
window.addEventListener("hashchange", reveal);
reveal();

const PAPER = 1030; // CSS pixels between the margins of A4 landscape
window.addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details:not([open])")) {
    folded.open = true;
    folded.dataset.folded = "yes";
  }
  for (const table of document.querySelectorAll(".scroll > table")) {
    table.style.zoom = String(Math.min(1, PAPER / table.scrollWidth));
  }
});
window.addEventListener("afterprint", () => {
  for (const folded of document.querySelectorAll("details[data-folded]")) folded.open = false;
  for (const table of document.querySelectorAll(".scroll > table")) table.style.zoom = "";
});
