// A text colored by surprise: draw(root, {tokens: [text, …], bits: [number, …], ranks: [number, …], at, words}).
//
// `at` is the selected token; the place after the last one can be selected, too. It is one tab stop: the arrow keys move
// within it. It triggers `select` with {at, text} once the keys rest.
function draw(root, data) {
  const { tokens = [], bits = [], ranks = [], at = 0, words = "" } = data || {};
  const html = (tag, className, text = "") => Object.assign(document.createElement(tag), { className, textContent: text });
  const box = html("div", "characters");
  box.tabIndex = 0;
  box.dir = "auto";
  box.setAttribute("role", "listbox");
  box.setAttribute("aria-label", "Text colored by surprise. Move with the arrow keys.");
  const spans = [...tokens, ""].map((token, i) => {
    const span = html("span", "character", token === "\n" ? "↵\n" : token);
    span.setAttribute("role", "option");
    if (i === tokens.length) span.classList.add("character-end");
    else if (token === "\n") span.classList.add("character-break");
    span.style.setProperty("--surprise", `${Math.min(bits[i] || 0, 8) * 8}%`);
    return span;
  });
  box.append(...spans);
  const about = html("p", "characters-words", words);
  root.replaceChildren(...(tokens.length ? [box, scale(), about] : []));
  let now = -1, timer;
  mark(Math.min(at, tokens.length));

  box.addEventListener("click", (event) => {
    const span = event.target.closest(".character");
    if (span) choose(spans.indexOf(span));
  });
  box.addEventListener("keydown", (event) => {
    const to = { ArrowRight: now + 1, ArrowLeft: now - 1, Home: 0, End: tokens.length, ArrowDown: beyond(1), ArrowUp: beyond(-1) }[event.key];
    if (to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    choose(Math.max(0, Math.min(tokens.length, to)));
  });

  // The token in the next line, or the one before, that is nearest to the selected one.
  function beyond(way) {
    const here = spans[now].getBoundingClientRect(), middle = (box) => box.left + box.width / 2;
    let line = null, best = now;
    for (let i = now + way; i >= 0 && i < spans.length; i += way) {
      const there = spans[i].getBoundingClientRect();
      if (Math.abs(there.top - here.top) < 4) continue;
      if (line === null) line = there.top;
      if (Math.abs(there.top - line) >= 4) break;
      const nearer = Math.abs(middle(there) - middle(here)) < Math.abs(middle(spans[best].getBoundingClientRect()) - middle(here));
      if (best === now || nearer) best = i;
    }
    return best;
  }
  function choose(i) {
    mark(i);
    clearTimeout(timer);
    timer = setTimeout(() => trigger("select", { at: i, text: tokens.join("") }), 120);
  }
  function mark(i) {
    if (now >= 0) { spans[now].removeAttribute("aria-selected"); spans[now].removeAttribute("id"); }
    now = i;
    spans[i].id = "character-selected";
    spans[i].setAttribute("aria-selected", "true");
    const name = { "\n": "line break", " ": "space" }[tokens[i]] || tokens[i];
    spans[i].setAttribute("aria-label", i < tokens.length ? `${name}, ${bits[i]} bits, choice ${ranks[i]}` : "end of the text");
    box.setAttribute("aria-activedescendant", "character-selected");
    const { top, bottom } = spans[i].getBoundingClientRect(), frame = box.getBoundingClientRect();
    if (top < frame.top) box.scrollTop -= frame.top - top + 8;
    else if (bottom > frame.bottom) box.scrollTop += bottom - frame.bottom + 8;
  }
  // What the colors mean.
  function scale() {
    const legend = html("div", "characters-scale");
    legend.setAttribute("aria-hidden", "true");
    legend.append(html("span", "", "expected"));
    for (let i = 0; i <= 8; i += 2) {
      const cell = html("i", "", String(i));
      cell.style.setProperty("--surprise", `${i * 8}%`);
      legend.append(cell);
    }
    legend.append(html("span", "", "bits: a surprise"));
    return legend;
  }
}
