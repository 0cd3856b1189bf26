// The reviewer: a person accepts, corrects or rejects each suggested label, with the keyboard.
// A page of `sama review` posts each decision; a report keeps them in the browser, and downloads
// them as `reviewed.csv`, whose lines it was given but for the right label.
(() => {
  const AHEAD = 3; // examples that are fetched before they are shown

  const element = (tag, properties, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };
  const count = (n) => n.toLocaleString("en");

  const reviewer = (root, data, { keep, shown, active, changed }) => {
    const part = (name) => root.querySelector(`[data-part="${name}"]`);
    const { items, classes } = data;
    const place = new Map(items.map((item, i) => [item.row, i]));
    const decided = new Map(data.decided); // row → class, the last decided last
    const history = data.decided.map(([row]) => [row, undefined]); // row, its class before
    let at = 0;
    let finished = false;

    // What is shown of which example.
    const given = part("given");
    const show = part("show");
    const ofClass = (item) => given.value === "" || item.given === Number(given.value);
    const matches = (item) => ofClass(item) &&
      (show.value === "all" || decided.has(item.row) === (show.value === "decided"));
    const next = (from, step = 1, wanted = matches) => {
      for (let i = from; i >= 0 && i < items.length; i += step) if (wanted(items[i])) return i;
      return -1;
    };

    const say = (words) => { part("said").textContent = words; };
    const meaning = (item, label) => {
      if (label === item.given) return "kept";
      return label === item.suggested ? "accepted" : "corrected";
    };

    const drawCounts = () => {
      const within = items.filter(ofClass);
      const done = within.filter((item) => decided.has(item.row));
      const of = { accepted: 0, corrected: 0, kept: 0 };
      for (const item of done) of[meaning(item, decided.get(item.row))] += 1;
      part("count").textContent = `${count(done.length)} of ${count(within.length)} decided`;
      part("tally").textContent = done.length
        ? Object.entries(of).filter(([, n]) => n).map(([word, n]) => `${count(n)} ${word}`).join(", ")
        : "";
      part("progress").max = Math.max(within.length, 1);
      part("progress").value = done.length;
      root.querySelector('[data-do="undo"]').disabled = !history.length;
      changed(decided);
    };

    const fact = (name, value, more) => element("div", more ?? {},
      element("dt", { textContent: name }), element("dd", {}, element("bdi", { textContent: value })));

    const drawExhibit = async (item) => {
      const box = part("content");
      const late = setTimeout(() => { box.replaceChildren(); }, 150); // no flicker
      let made;
      try {
        made = await shown(item);
      } catch (error) {
        made = [element("p", { className: "text muted", textContent: error.message })];
      }
      clearTimeout(late);
      if (finished || items[at] !== item) return;
      box.replaceChildren(...made);
      box.scrollTop = 0;
    };

    const draw = () => {
      const item = items[at];
      part("case").hidden = finished;
      part("done").hidden = !finished;
      drawCounts();
      if (finished) {
        const left = items.filter((one) => !decided.has(one.row)).length;
        part("done-words").textContent = left ? "Nothing left with this filter." : "All decided.";
        part("done-next").textContent = left
          ? `${count(left)} undecided with others: choose “any label” and “undecided” above.`
          : data.next ?? "";
        return;
      }
      const label = decided.get(item.row);
      part("title").textContent = `${count(at + 1)} of ${count(items.length)}`;
      part("verdict").hidden = label === undefined;
      if (label !== undefined) {
        part("verdict").textContent = `${meaning(item, label)}: ${classes[label]}`;
        part("verdict").dataset.meaning = meaning(item, label);
      }
      for (const name of ["suggested", "suggested-tag"]) part(name).textContent = classes[item.suggested];
      for (const name of ["kept", "given-tag"]) part(name).textContent = classes[item.given];
      const press = (name, on) => {
        root.querySelector(`[data-do="${name}"]`).setAttribute("aria-pressed", String(on));
      };
      press("accept", label === item.suggested);
      press("reject", label === item.given);
      for (const button of buttons) {
        const own = Number(button.dataset.label);
        button.setAttribute("aria-pressed", String(own === label));
        button.classList.toggle("other", own !== item.given && own !== item.suggested);
      }
      for (const button of root.querySelectorAll(".answer, .class")) button.disabled = item.cells === null;
      part("facts").replaceChildren(...[
        item.wrong !== null && fact(data.wrong, item.wrong.toFixed(3)),
        item.value !== null && fact(data.measure, item.value.toFixed(2)),
        item.loss !== null && fact("loss", item.loss.toFixed(2)),
        fact("row", item.row),
        item.name && fact("id", item.name, { className: "named" }),
      ].filter(Boolean));
      drawExhibit(item);
      for (let i = at, n = 0; n < AHEAD; n += 1) {
        i = next(i + 1);
        if (i < 0) break;
        shown(items[i]).catch(() => {}); // said when it is its turn
      }
    };

    const go = (i) => {
      finished = i < 0;
      if (!finished) at = i;
      draw();
    };
    const told = (item) => `Given ${classes[item.given]}, suggested ${classes[item.suggested]}.`;

    // Decisions: shown at once, kept one after the other; what could not be kept is taken back.
    let line = Promise.resolve();
    let kept = new Map(decided);
    let round = 0;
    const set = (row, label) => {
      decided.delete(row);
      if (label !== undefined) decided.set(row, label);
      const own = round;
      line = line.then(async () => {
        if (own !== round) return;
        try {
          await keep(row, label, decided);
          kept.delete(row);
          if (label !== undefined) kept.set(row, label);
          part("trouble").hidden = true;
        } catch (error) {
          round += 1;
          decided.clear();
          for (const [r, l] of kept) decided.set(r, l);
          history.splice(0, history.length, ...[...kept].map(([r]) => [r, undefined]));
          part("trouble").textContent = `Not saved: ${error.message}`;
          part("trouble").hidden = false;
          go(place.get(row));
        }
      });
    };

    const decide = (label) => {
      const item = items[at];
      if (finished || item.cells === null) return;
      history.push([item.row, decided.get(item.row)]);
      set(item.row, label);
      const after = next(at + 1);
      const to = after < 0 && show.value === "open" ? next(0) : after;
      say(`${meaning(item, label)}: ${classes[label]}. ${to < 0 ? "" : told(items[to])}`);
      go(to);
    };
    const undo = () => {
      const last = history.pop();
      if (!last) return;
      set(...last);
      say("Undone.");
      go(place.get(last[0]));
    };
    const step = (by) => {
      const to = finished ? (by < 0 ? items.length - 1 : -1) : next(at + by, by);
      const end = by > 0 ? "That was the last." : "That was the first.";
      if (to < 0 && !finished && (by < 0 || next(0) >= 0)) { say(end); return; }
      go(to);
      if (to >= 0) say(told(items[to]));
    };

    // Classes, each with a key while there are digits; a digit that names a class is its key.
    const digits = classes.length <= 10 && classes.every((name) => /^\d$/.test(name));
    const keyOf = (i) => {
      if (digits) return classes[i];
      return i < 9 ? String(i + 1) : (i === 9 && classes.length === 10 ? "0" : "");
    };
    const buttons = classes.map((name, i) => {
      const button = element("button", { type: "button", className: "class" });
      if (keyOf(i)) button.setAttribute("aria-keyshortcuts", keyOf(i));
      if (keyOf(i) && !digits) {
        button.append(element("kbd", { textContent: keyOf(i), ariaHidden: "true" }));
      }
      button.append(element("bdi", { textContent: name }));
      button.dataset.label = i;
      button.addEventListener("click", () => decide(i));
      return button;
    });
    part("classes").append(...buttons);
    const byKey = new Map(classes.map((_, i) => [keyOf(i), i]));
    part("digit-range").textContent = digits ? "0 – 9"
      : classes.length === 10 ? "1 – 9, 0" : `1 – ${Math.min(9, classes.length)}`;

    const many = classes.length > 10;
    const find = part("find");
    part("find-label").hidden = part("slash").hidden = !many;
    const narrow = () => {
      const words = find.value.trim().toLowerCase();
      let first = true;
      for (const [i, button] of buttons.entries()) {
        button.hidden = !classes[i].toLowerCase().includes(words);
        button.classList.toggle("first", words !== "" && first && !button.hidden);
        first = first && button.hidden;
      }
    };
    const leave = () => { find.value = ""; narrow(); find.blur(); };
    find.addEventListener("input", narrow);
    find.addEventListener("keydown", (event) => {
      if (event.isComposing) return;
      if (event.key === "Escape") { event.preventDefault(); event.stopPropagation(); leave(); }
      const first = buttons.find((button) => !button.hidden);
      if (event.key === "Enter" && find.value.trim() && first && !event.repeat) {
        leave();
        decide(Number(first.dataset.label));
      }
    });

    for (const i of [...new Set(items.map((item) => item.given))].sort((a, b) => a - b)) {
      given.append(element("option", { value: String(i), textContent: classes[i] }));
    }
    const refilter = () => { go(next(0)); };
    given.addEventListener("change", refilter);
    show.addEventListener("change", refilter);

    const help = part("help");
    const actions = {
      accept: () => decide(items[at].suggested),
      reject: () => decide(items[at].given),
      next: () => step(1),
      back: () => step(-1),
      undo,
      help: () => help.showModal(),
      "close-help": () => help.close(),
    };
    for (const button of root.querySelectorAll("[data-do]")) {
      button.addEventListener("click", actions[button.dataset.do]);
    }
    const keys = {
      a: "accept", r: "reject", u: "undo", "?": "help",
      j: "next", arrowright: "next", k: "back", arrowleft: "back",
    };
    document.addEventListener("keydown", (event) => {
      if (!active() || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
      if (help.open || event.target.closest("input, select")) return;
      const action = keys[event.key.toLowerCase()];
      const label = byKey.get(event.key);
      if (event.key === "/" && many) find.focus();
      else if (action) { if (!event.repeat || action === "next" || action === "back") actions[action](); }
      else if (label !== undefined && event.key) { if (!event.repeat) decide(label); }
      else return;
      event.preventDefault();
    });

    go(next(0));
  };

  const paragraphs = (texts, columns) => texts.flatMap((text, i) => [
    ...(columns.length > 1 ? [element("p", { className: "muted column", textContent: columns[i] })] : []),
    element("p", { className: "text", dir: "auto", textContent: text }),
  ]);
  const note = (words) => element("p", { className: "muted", textContent: words });
  const picture = (src, item) => {
    const image = element("img", { alt: `training image ${item.name || `in row ${item.row}`}` });
    return new Promise((resolve, reject) => {
      image.addEventListener("load", () => {
        image.classList.toggle("tiny", Math.max(image.naturalWidth, image.naturalHeight) <= 96);
        resolve([image]);
      });
      image.addEventListener("error", () => reject(new Error("The image is not there any more; skip it.")));
      image.src = src;
    });
  };
  const once = (make) => { // each example's content, as long as it is likely to be shown again
    const made = new Map();
    return (item) => {
      if (!made.has(item.row)) {
        made.set(item.row, make(item));
        made.get(item.row).catch(() => made.delete(item.row));
        if (made.size > 50) made.delete(made.keys().next().value);
      }
      return made.get(item.row);
    };
  };

  // A page of `sama review`.
  const ask = async (address, options) => {
    let answer;
    try {
      answer = await fetch(address, options);
    } catch {
      throw new Error("sama review has ended; start it again, and open the address that it names.");
    }
    if (!answer.ok) throw new Error(await answer.text());
    return answer;
  };
  const posted = (root, data) => reviewer(root, data, {
    keep: (row, label) => ask("decide", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ row, label: label ?? null }),
    }),
    shown: once(async (item) => {
      if (data.images) return picture(`image/${item.row}`, item);
      const { texts, cut } = await (await ask(`text/${item.row}`)).json();
      return [...paragraphs(texts, data.columns), ...(cut ? [note("The text goes on.")] : [])];
    }),
    active: () => true,
    changed: () => {},
  });

  const plain = (cell) => // of CSV
    cell.startsWith('"') ? cell.slice(1, -1).replaceAll('""', '"') : cell;

  // A report: kept in this browser's store, or, where it has none, until the page is closed.
  const downloaded = (root, data) => {
    const dialog = document.getElementById("review-dialog");
    const downloads = document.querySelectorAll(".download");
    const known = new Map(data.items.map((item) => [item.row, item]));
    let decided = new Map();
    let stored = true;
    try {
      const found = JSON.parse(localStorage.getItem(data.key) ?? "[]");
      data.decided = found.filter(([row, label]) => known.get(row)?.cells && label in data.classes);
    } catch { /* not allowed here, or not ours */ }
    const save = () => {
      const rows = [...decided].map(([row, label]) => {
        const item = known.get(row);
        return item.before + [...item.cells, data.cells[label]].join(",") + item.after;
      });
      const link = element("a", {
        href: URL.createObjectURL(new Blob([data.header, ...rows], { type: "text/csv" })),
        download: "reviewed.csv",
      });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    };
    for (const button of downloads) button.addEventListener("click", save);
    reviewer(root, data, {
      keep: async (row, label, all) => {
        try { localStorage.setItem(data.key, JSON.stringify([...all])); } catch { stored = false; }
      },
      shown: once(async (item) => {
        const image = document.querySelector(`#suspects [data-row="${item.row}"] img`);
        if (image) return picture(image.src, item);
        const made = paragraphs(item.texts ?? (item.cells ?? []).map(plain), data.columns);
        if (item.cells === null) {
          made.push(note(item.cut
            ? "This text is too long for a page: sama review DIR takes it."
            : "The image is not stored in this run."));
        }
        return made;
      }),
      active: () => dialog.open,
      changed: (all) => {
        decided = all;
        for (const card of document.querySelectorAll("#suspects .example")) {
          const label = all.get(Number(card.dataset.row));
          if (label === undefined) delete card.dataset.decided;
          else card.dataset.decided = data.classes[label];
        }
        for (const button of downloads) button.disabled = !all.size;
        document.getElementById("review-kept").textContent = all.size
          ? `${count(all.size)} decided${stored ? ", kept in this browser" : ""}`
          : "";
      },
    });
    document.getElementById("to-review").hidden = false;
    document.getElementById("review-open").addEventListener("click", () => dialog.showModal());
    document.getElementById("review-close").addEventListener("click", () => dialog.close());
    addEventListener("beforeunload", (event) => { if (!stored && decided.size) event.preventDefault(); });
  };

  document.addEventListener("DOMContentLoaded", () => {
    const data = document.getElementById("review-data");
    if (!data) return;
    const told = JSON.parse(data.textContent);
    (told.key ? downloaded : posted)(document.getElementById("reviewer"), told);
  });
})();
