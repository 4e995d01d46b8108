// A text shaded by a unit: draw(root, {tokens, values, name, words, strongest: [{before, here, after, value}, …], selected, note}).
//
// `values` are from 0 to 1. The text is one tab stop with arrow keys. A stretch is selected with the mouse, or with Shift and
// the arrow keys; the button then triggers `select` with {start, end}, the places of its first token and of the one after it.
// Drawn again, the same text stays at the place where you are, and what you select before the answer comes stays selected.
function draw(root, data) {
  const { tokens = [], values = [], name = "", words = "", strongest = [], selected = null, note = "" } = data || {};
  const view = root.__units || (root.__units = { text: "", now: 0, anchor: null, range: null, sent: null });
  const text = JSON.stringify(tokens);
  if (view.text !== text) Object.assign(view, { text, now: 0, anchor: null, range: null, sent: null });
  if (!view.sent || view.range === view.sent) Object.assign(view, { range: selected, anchor: null });
  view.sent = null;
  const { area, say } = aloud(root);
  if (!tokens.length) return area.replaceChildren();
  const html = (tag, className, text = "") => Object.assign(document.createElement(tag), { className, textContent: text });
  const said = html("p", "characters-words units-words", words), here = html("p", "expected-hint");
  here.setAttribute("role", "status");
  const box = html("div", "characters units-text"), find = html("button", "units-find", "Find the unit of the selection");
  find.type = "button";
  box.addEventListener("keydown", (event) => { // before the cells move
    if (event.key.startsWith("Arrow")) view.anchor = event.shiftKey ? view.anchor ?? view.now : null;
  });
  const { cells, mark } = textCells(box, tokens, {
    label: `Text shaded by ${name}. Move with the arrow keys, select with Shift.`,
    name: (i) => `${spoken(tokens[i])}, ${Math.round(100 * values[i])}% of the largest`,
    chosen: (i) => {
      view.now = i;
      if (view.anchor !== null) choose(Math.min(view.anchor, i), Math.max(view.anchor, i));
      else if (window.getSelection().isCollapsed && i < tokens.length) here.textContent = `At “${visible(tokens[i])}”: ${Math.round(100 * values[i])}% of the largest value in this text.`;
    },
  });
  cells.forEach((cell, i) => cell.style.setProperty("--strength", `${Math.round(65 * (values[i] || 0))}%`));
  document.addEventListener("selectionchange", selecting); // the pointer may be released outside the box
  find.addEventListener("click", () => {
    view.sent = view.range;
    trigger("select", { start: view.range[0], end: view.range[1] });
  });
  const list = html("ol", "units-strongest");
  for (const { before, here: at, after } of strongest) {
    const item = html("li", "");
    item.append(before.replaceAll("\n", "↵"), html("mark", "", visible(at)), after.replaceAll("\n", "↵"));
    list.append(item);
  }
  const parts = [said, box, ...(note ? [html("p", "expected-hint", note)] : []), here, find];
  if (strongest.length) parts.push(html("p", "attention-title", "Its strongest places:"), list);
  const focused = root.contains(document.activeElement) && document.activeElement.className;
  area.replaceChildren(...parts);
  say(words);
  mark(view.now);
  paint();
  if (focused) (find.className === focused && !find.disabled ? find : box).focus({ preventScroll: true });

  function selecting() {
    if (!box.isConnected) return document.removeEventListener("selectionchange", selecting);
    const selection = window.getSelection();
    if (selection.isCollapsed || !box.contains(selection.anchorNode)) return;
    const marked = selection.getRangeAt(0), isIn = ({ firstChild: text }) => [0, 1].every((at) => !marked.comparePoint(text, at));
    const places = tokens.map((_, i) => i).filter((i) => isIn(cells[i]));
    view.anchor = null;
    choose(places[0], places[places.length - 1] + 1);
  }
  function choose(start, end) {
    view.range = end > start ? [start, end] : null;
    here.textContent = view.range ? `${end - start} character${end - start > 1 ? "s" : ""} selected.` : "";
    paint();
  }
  function paint() {
    const [start, end] = view.range || [0, 0];
    find.disabled = !view.range;
    cells.forEach((cell, i) => cell.classList.toggle("units-chosen", i >= start && i < end));
  }
}
