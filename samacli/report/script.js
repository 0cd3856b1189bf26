"use strict";
(() => {
  const root = document.documentElement;
  const themes = ["auto", "light", "dark"];
  const stored = () => { try { return localStorage.getItem("sama-theme"); } catch { return null; } };
  const store = (theme) => { try { localStorage.setItem("sama-theme", theme); } catch { /* not allowed here */ } };
  let theme = themes.includes(stored()) ? stored() : "auto";
  const show = () => {
    if (theme === "auto") delete root.dataset.theme; else root.dataset.theme = theme;
  };
  show(); // before anything is drawn

  const STEP = 12;
  const filtered = (section) => {
    const form = section.querySelector("form");
    if (!form) return;
    const more = section.querySelector(".more");
    const output = form.querySelector("output");
    const items = [...section.querySelectorAll(".example")].map((node) => ({
      node, text: node.textContent.toLowerCase(),
    }));
    let limit = STEP;
    const update = () => {
      const { search, given, suggested } = form.elements;
      const words = (search ? search.value : "").toLowerCase().split(/\s+/).filter(Boolean);
      const found = items.filter(({ node, text }) =>
        (!given.value || node.dataset.given === given.value) &&
        (!suggested.value || node.dataset.suggested === suggested.value) &&
        words.every((word) => text.includes(word)));
      const shown = new Set(found.slice(0, limit));
      for (const item of items) item.node.hidden = !shown.has(item);
      output.textContent = `${shown.size} of ${found.length}`;
      more.hidden = shown.size === found.length;
    };
    form.addEventListener("input", () => { limit = STEP; update(); });
    form.addEventListener("submit", (event) => event.preventDefault());
    more.addEventListener("click", () => { limit += 4 * STEP; update(); });
    form.hidden = false;
    update();
  };

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const name = () => { button.querySelector("span").textContent = theme; };
    button.hidden = false;
    name();
    button.addEventListener("click", () => {
      theme = themes[(themes.indexOf(theme) + 1) % themes.length];
      store(theme);
      show();
      name();
    });
    for (const section of document.querySelectorAll(".examples")) filtered(section);
    const folder = decodeURIComponent(location.pathname).replace(/\/[^/]*$/, "");
    if (location.protocol === "file:" && /^[\w./-]+$/.test(folder)) { // no quoting needed
      for (const code of document.querySelectorAll("#use pre code, #repeat > pre code")) {
        code.textContent = code.textContent.replaceAll("DIR/", () => `${folder}/`);
      }
    }
  });
})();
