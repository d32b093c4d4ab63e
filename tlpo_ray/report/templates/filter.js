"use strict";
const filter = document.querySelector(".filter");
const sections = [...document.querySelectorAll(".filtered")];
let language = "";

function show(section) {
  const items = [...section.querySelectorAll(".item")];
  const fitting = items.filter((item) => language === "" || item.dataset.language === language);
  const shown = new Set(section.dataset.open ? fitting : fitting.slice(0, Number(section.dataset.first)));
  section.hidden = fitting.length === 0;
  for (const item of items) item.hidden = !shown.has(item);
  const more = section.querySelector(".more");
  more.hidden = shown.size === fitting.length;
  more.firstElementChild.textContent = `show all ${fitting.length}`;
}

for (const section of sections) {
  section.querySelector(".more").addEventListener("click", () => {
    section.dataset.open = "yes";
    show(section);
  });
  show(section);
}

if (filter) {
  const names = new Intl.DisplayNames(["en"], { type: "language", fallback: "code" });
  for (const button of filter.querySelectorAll("button")) {
    const code = button.dataset.language;
    // A detector may call its language anything; only well-formed codes have names.
    if (/^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$/.test(code)) button.textContent = names.of(code);
    button.addEventListener("click", () => {
      language = code;
      for (const other of filter.querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === button));
      sections.forEach(show);
    });
  }
  filter.hidden = false;
}
