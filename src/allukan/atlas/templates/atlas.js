"use strict";
const cards = [...document.querySelectorAll(".card")];
const dialog = document.querySelector("dialog"), large = dialog.querySelector(".large");
let shown = 0;

function enlarge(number) {
  shown = (number + cards.length) % cards.length;
  large.className = "large " + cards[shown].className.match(/b\d/)[0];
  large.replaceChildren(...[...cards[shown].children].map((part) => part.cloneNode(true)));
  if (!dialog.open) dialog.showModal();
}

cards.forEach((card, number) => card.addEventListener("click", () => enlarge(number)));
dialog.querySelector(".close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener("close", () => cards[shown].focus());
dialog.addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (step) enlarge(shown + step);
});

const slider = document.getElementById("epoch");
if (slider) {
  const course = JSON.parse(document.getElementById("course").textContent);
  const output = document.querySelector("output");
  const curves = cards.map((card) => card.querySelector(".phi"));
  const kept = curves.map((curve) => curve.getAttribute("d"));
  const parts = document.querySelectorAll(".card .base, .card .spline, .card .band");
  slider.addEventListener("input", () => {
    const at = Number(slider.value), last = at === course.epochs.length, bend = course.bends[at];
    output.textContent = last ? "the model that was kept" : `${course.epochs[at]}${bend === null ? "" : `, median bend ${bend.toFixed(3)}`}; the figures stay those of the model that was kept`;
    parts.forEach((part) => { part.style.visibility = last ? "" : "hidden"; });
    curves.forEach((curve, number) => {
      const values = course.curves[cards[number].dataset.layer];
      if (values) curve.setAttribute("d", last ? kept[number] : "M" + values[at].map((y, i) => `${(i * 200) / (values[at].length - 1)} ${y / 10}`).join("L"));
    });
  });
}
