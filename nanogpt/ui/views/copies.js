// Copied stretches of a text: draw(root, {text, spans: [{start, length, times, line, before, after}, …], words}).
//
// The spans are marked in the text and listed, the longest first. The list is one tab stop with arrow keys; the selected
// span is shown as it stands in the training text. `start` and `length` count code points.
function draw(root, data) {
  const { area, say } = aloud(root);
  if (!data || data.text === undefined) return area.replaceChildren();
  const { text, spans = [], words = "" } = data;
  const html = (tag, className, content = "") => Object.assign(document.createElement(tag), { className, textContent: content });
  const characters = Array.from(text);
  const piece = (start, end) => characters.slice(start, end).join("");
  const verdict = html("p", "copies-words", words);
  say(words);
  const box = html("div", "characters copies-text");
  box.dir = "auto";
  box.tabIndex = 0;
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", "The text, with copied stretches marked");
  const marks = new Map();
  let end = 0;
  for (const span of [...spans].sort((a, b) => a.start - b.start)) {
    const from = Math.max(end, span.start), until = span.start + span.length;
    box.append(piece(end, from));
    const mark = html("mark", "copied", piece(from, until));
    mark.addEventListener("click", () => choose(spans.indexOf(span)));
    marks.set(span, mark);
    box.append(mark);
    end = until;
  }
  box.append(piece(end));
  const list = html("div", "copies-list"), shown = html("div", "copies-source");
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "Copied stretches, the longest first");
  list.tabIndex = 0;
  const options = spans.map((span, i) => {
    const option = html("div", "copies-option");
    option.setAttribute("role", "option");
    option.id = `copied-${i}`;
    const times = span.times === 1 ? "once" : span.times >= 1000 ? "1,000 times or more" : `${span.times} times`;
    option.append(html("b", "", `${span.length} characters`), html("span", "", `${times} in the training text`));
    option.append(html("code", "", piece(span.start, span.start + span.length).replaceAll("\n", "↵")));
    option.addEventListener("click", () => choose(i));
    return option;
  });
  list.append(...options);
  let now = -1;
  list.addEventListener("keydown", (event) => {
    const to = { ArrowDown: now + 1, ArrowUp: now - 1, Home: 0, End: spans.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    choose(Math.max(0, Math.min(spans.length - 1, to)));
  });
  shown.setAttribute("role", "status");
  area.replaceChildren(verdict, ...(spans.length ? [box, list, shown] : [box]));
  if (spans.length) choose(0, false);

  function choose(i, scroll = true) {
    now = i;
    const span = spans[i];
    options.forEach((option, j) => option.setAttribute("aria-selected", String(i === j)));
    for (const [one, mark] of marks) mark.classList.toggle("copied-now", one === span);
    list.setAttribute("aria-activedescendant", `copied-${i}`);
    const frame = (scrolled, node) => { // scroll within the box, never the page
      if (node.offsetTop < scrolled.scrollTop) scrolled.scrollTop = node.offsetTop;
      else if (node.offsetTop + node.offsetHeight > scrolled.scrollTop + scrolled.clientHeight) scrolled.scrollTop = node.offsetTop + node.offsetHeight - scrolled.clientHeight;
    };
    if (scroll) { frame(list, options[i]); frame(box, marks.get(span)); }
    const there = html("p", "copies-context");
    there.dir = "auto";
    there.append(`…${span.before}`, html("mark", "copied copied-now", piece(span.start, span.start + span.length)), `${span.after}…`);
    shown.replaceChildren(html("p", "copies-where", span.line ? `Line ${span.line.toLocaleString("en")} of the training text:` : "In the training text:"), there);
  }
}
