// What the page at /docs can do besides being read. It works without.
"use strict";

document.getElementById("base").textContent = location.origin;

const filter = document.getElementById("filter");
filter.hidden = false;
filter.addEventListener("input", () => {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (text) => words.every((word) => text.toLowerCase().includes(word));
  for (const section of document.querySelectorAll("nav section")) {
    let shown = 0;
    for (const item of section.querySelectorAll("li")) {
      const id = item.querySelector("a").hash.slice(1);
      const target = document.getElementById(id);
      item.hidden = !fits(`${item.textContent} ${target.querySelector(".lead").textContent}`);
      target.hidden = item.hidden;
      shown += item.hidden ? 0 : 1;
    }
    section.hidden = words.length > 0 && shown === 0;
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== filter) {
    event.preventDefault();
    filter.focus();
  }
});

if (navigator.clipboard) {
  for (const block of document.querySelectorAll("pre")) {
    const button = document.createElement("button");
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(block.querySelector("code").textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    block.append(button);
  }
}
