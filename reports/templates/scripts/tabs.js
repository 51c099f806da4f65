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
