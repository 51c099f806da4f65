// A picture in large: a dialog that Escape closes; arrows lead along the row and down the column.
const dialog = document.createElement("dialog");
dialog.className = "enlarged";
dialog.setAttribute("aria-label", "A sample in large");
const large = document.createElement("img");
const said = document.createElement("p");
said.setAttribute("aria-live", "polite");
const close = document.createElement("button");
close.type = "button";
close.textContent = "Close";
close.addEventListener("click", () => dialog.close());
dialog.append(large, said, close);

let opened = null;

function show(button) {
  opened = button;
  const picture = button.querySelector("img");
  const method = button.closest("tr").querySelector("th").textContent.trim();
  large.src = picture.src;
  large.alt = picture.alt;
  said.textContent = `${method}, ${picture.alt}`;
  if (!dialog.open) dialog.showModal();
}

// Rows and columns of the table of pictures; what is not there leaves the picture as it is.
function beside(button, down, right) {
  const cell = button.closest("td");
  const row = cell.parentElement;
  const rows = [...row.closest("table").rows];
  const next = rows[rows.indexOf(row) + down];
  return next && next.cells[cell.cellIndex + right] && next.cells[cell.cellIndex + right].querySelector(".zoom");
}

const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

if (document.querySelector(".zoom")) {
  document.body.append(dialog);
  document.addEventListener("click", (event) => {
    const button = event.target.closest(".zoom");
    if (button) show(button);
    else if (event.target === dialog) dialog.close();
  });
  dialog.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    const next = step && beside(opened, ...step);
    if (!step) return;
    event.preventDefault();
    if (next) show(next);
  });
  // Where the reader had come to, not where the first picture was.
  dialog.addEventListener("close", () => opened.focus());
}
