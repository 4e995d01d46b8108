// A text of cells, one per token, of which one is selected: textCells(box, tokens, {label, name, chosen, enter}).
//
// It is one tab stop; the arrow keys move within it, up and down by line. The place after the last token can be selected,
// too. `name(i)` is what screen readers say of a cell; `chosen(i)` is called when another one is selected, or, with `enter`,
// only when one is clicked or Enter or Space is pressed on it.
function textCells(box, tokens, { label, name, chosen, enter = false }) {
  box.classList.add("cells");
  box.tabIndex = 0;
  box.dir = "auto";
  box.setAttribute("role", "listbox");
  box.setAttribute("aria-label", label);
  const id = `cell-${Math.random().toString(36).slice(2)}`;
  const cells = [...tokens, null].map((token) => {
    const cell = document.createElement("span");
    cell.className = token === null ? "cell cell-end" : token === "\n" ? "cell cell-break" : "cell";
    cell.textContent = token === null ? "" : token === "\n" ? "↵\n" : token;
    cell.setAttribute("role", "option");
    return cell;
  });
  box.replaceChildren(...cells);
  let now = -1;
  box.addEventListener("click", (event) => {
    const cell = event.target.closest(".cell");
    if (cell) choose(cells.indexOf(cell));
  });
  box.addEventListener("keydown", (event) => {
    if (enter && (event.key === "Enter" || event.key === " ")) {
      event.preventDefault();
      return choose(now);
    }
    const to = { ArrowRight: now + 1, ArrowLeft: now - 1, Home: 0, End: tokens.length, ArrowDown: beyond(1), ArrowUp: beyond(-1) }[event.key];
    if (to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    (enter ? mark : choose)(Math.max(0, Math.min(tokens.length, to)));
  });
  return { cells, mark };

  // The cell in the next line, or the one before, that is nearest to the selected one.
  function beyond(way) {
    const here = cells[now].getBoundingClientRect(), middle = (box) => box.left + box.width / 2;
    let line = null, best = now;
    for (let i = now + way; i >= 0 && i < cells.length; i += way) {
      const there = cells[i].getBoundingClientRect();
      if (Math.abs(there.top - here.top) < 4) continue;
      if (line === null) line = there.top;
      if (Math.abs(there.top - line) >= 4) break;
      const nearer = Math.abs(middle(there) - middle(here)) < Math.abs(middle(cells[best].getBoundingClientRect()) - middle(here));
      if (best === now || nearer) best = i;
    }
    return best;
  }
  function choose(i) {
    mark(i);
    chosen(i);
  }
  function mark(i) {
    if (now >= 0) { cells[now].removeAttribute("aria-selected"); cells[now].removeAttribute("id"); }
    now = i;
    cells[i].id = id;
    cells[i].setAttribute("aria-selected", "true");
    cells[i].setAttribute("aria-label", i < tokens.length ? name(i) : "end of the text");
    box.setAttribute("aria-activedescendant", id);
    const { top, bottom } = cells[i].getBoundingClientRect(), frame = box.getBoundingClientRect();
    if (top < frame.top) box.scrollTop -= frame.top - top + 8;
    else if (bottom > frame.bottom) box.scrollTop += bottom - frame.bottom + 8;
  }
}
