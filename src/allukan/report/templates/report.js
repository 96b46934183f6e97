"use strict";
// Without this script the page holds all the same: it sorts and filters the table, enlarges cases and moves through slices.
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const table = document.getElementById("cases");
const body = table.tBodies[0];
const columns = all("th", table).map((cell) => cell.textContent);

// What a cell is sorted by: its number, with or without a unit, or its text; what has none comes last.
const key = (row, column) => {
  const text = row.cells[column].textContent.replace(/ (pixels?|mm|ml|voxels)$/, "");
  return text === "–" ? Infinity : text !== "" && !isNaN(text) ? Number(text) : text.toLowerCase();
};
const compare = (a, b) =>
  typeof a !== typeof b ? (typeof a === "number" ? -1 : 1) : typeof a === "number" ? a - b || 0 : a.localeCompare(b, "en", { numeric: true });

const sort = (column, heading) => {
  const up = heading.getAttribute("aria-sort") !== "ascending";
  all("th", table).forEach((other) => other.removeAttribute("aria-sort"));
  heading.setAttribute("aria-sort", up ? "ascending" : "descending");
  body.append(...[...body.rows].sort((a, b) => compare(key(a, column), key(b, column)) * (up ? 1 : -1)));
};
all("th", table).forEach((heading, column) => {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = heading.textContent;
  button.addEventListener("click", () => sort(column, heading));
  heading.replaceChildren(button);
});
all("th", table)[columns.indexOf("Dice")].setAttribute("aria-sort", "ascending"); // as the page was written

// Rows that fit stay, and so do the pictures of their cases.
const form = document.querySelector("form[data-for=cases]");
const filter = () => {
  const wanted = Object.fromEntries(new FormData(form));
  const at = (row, name) => row.cells[columns.indexOf(name)].textContent;
  const fits = (row) =>
    at(row, "case").toLowerCase().includes(wanted.name.toLowerCase()) &&
    [["status", "outcome"], ["run", "run"], ["class", "class"]].every(([field, name]) => !wanted[field] || at(row, name) === wanted[field]) &&
    !(Number(at(row, "Dice")) > Number(wanted.most || 1));
  const shown = new Set();
  for (const row of body.rows) {
    row.hidden = !fits(row);
    if (!row.hidden) shown.add(row.querySelector("a")?.hash);
  }
  all("article.case").forEach((card) => (card.hidden = !shown.has("#" + card.id)));
  form.querySelector("output").textContent = `${all("tr:not([hidden])", body).length} of ${body.rows.length}`;
};
form.addEventListener("input", filter);
filter();

// A case in large: from a dot, the table or its picture; arrow keys go on, the slices have their own.
const dialog = document.querySelector("dialog");
const cards = () => all("article.case:not([hidden])");
let current = "";
const open = (card) => {
  current = card.id;
  const copy = card.cloneNode(true);
  copy.removeAttribute("id");
  dialog.querySelector(".content").replaceChildren(copy);
  if (!dialog.open) dialog.showModal();
};
const go = (step) => {
  const known = cards();
  const place = known.findIndex((card) => card.id === current) + step;
  if (known[place]) open(known[place]);
};
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-go]");
  if (button) return button.dataset.go === "0" ? dialog.close() : go(Number(button.dataset.go));
  if (event.target === dialog) return dialog.close();
  const hash = event.target.closest("a")?.getAttribute("href") || event.target.closest("article.case > figure")?.parentElement.id;
  const card = hash && !event.target.closest(".slider, dialog") && document.getElementById(hash.replace("#", ""));
  if (card?.matches("article.case")) {
    event.preventDefault();
    open(card);
  }
});
dialog.addEventListener("keydown", (event) => {
  if (event.target.matches("input")) return;
  if (event.key === "ArrowRight") go(1);
  if (event.key === "ArrowLeft") go(-1);
});

document.addEventListener("input", (event) => {
  if (!event.target.matches(".slider input")) return;
  all("svg", event.target.closest(".plane")).forEach((slice, place) => slice.toggleAttribute("hidden", place !== Number(event.target.value)));
});

// The name of a case at once, below its chart: the title of a mark takes a second to appear.
const tip = (event) => {
  const mark = event.target.closest("[data-tip]");
  const chart = event.target.closest("figure.chart");
  if (chart) chart.querySelector(".tip").textContent = mark ? mark.querySelector("title").textContent : "";
};
document.addEventListener("pointerover", tip);
