// A ruler of losses: draw(root, {marks: [{label, loss, bits, knows, kind}, …], words: [sentence, …]}).
//
// The marks come sorted, highest loss first. `kind` is "model", "counted" or "adaptive", or two of them. The ruler is one
// tab stop: the arrow keys go from mark to mark, and what each knows is shown below. For screen readers the ruler is a
// slider: they pass its keys on, and read its value. A table says the same.
function draw(root, data) {
  const NS = "http://www.w3.org/2000/svg", LEFT = 14, ROW = 22, TOP = 34;
  const { marks = [], words = [] } = data || {};
  const html = (tag, className, text = "") => Object.assign(document.createElement(tag), { className, textContent: text });
  const make = (tag, attributes, text) => {
    const node = document.createElementNS(NS, tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const view = root.__ruler || (root.__ruler = build());
  const chosen = view.marks[view.at]?.label, at = marks.findIndex(({ label }) => label === chosen);
  view.at = at < 0 ? null : at; // drawn again, it stays at the mark that was chosen
  view.marks = marks;
  const text = words.join(" ");
  if (view.words.textContent !== text) view.words.textContent = text;
  view.more.hidden = !marks.length;
  view.svg.style.display = marks.length ? "" : "none";
  table();
  paint();

  function build() {
    const made = { at: null, marks: [], width: 0 };
    made.words = html("p", "ruler-words");
    made.words.setAttribute("role", "status");
    made.svg = make("svg", { role: "slider", tabindex: "0", class: "ruler", "aria-orientation": "vertical", "aria-valuemin": 0 });
    made.told = html("p", "ruler-told");
    made.more = html("details", "ruler-more");
    made.table = html("table", "ruler-table");
    const frame = html("div", "ruler-frame"); // on a narrow page, it scrolls sideways
    frame.tabIndex = 0;
    frame.setAttribute("role", "region");
    frame.setAttribute("aria-label", "Losses as a table");
    frame.append(made.table);
    made.more.append(html("summary", "", "As a table"), frame);
    root.replaceChildren(made.words, made.svg, made.told, made.more);
    root.__ruler = made;
    made.svg.addEventListener("keydown", (event) => {
      const way = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
      const to = { Home: 0, End: made.marks.length - 1 }[event.key] ?? (way && (made.at === null ? 0 : made.at + way));
      if (to === undefined || !made.marks.length) return;
      event.preventDefault();
      choose(Math.min(made.marks.length - 1, Math.max(0, to)));
    });
    made.svg.addEventListener("click", (event) => {
      const row = event.target.closest("[data-row]");
      if (row) choose(Number(row.dataset.row));
    });
    new ResizeObserver(() => { if (root.clientWidth !== made.width) paint(); }).observe(root);
    return made;
  }
  function choose(i) {
    view.at = i;
    paint();
  }
  function sentence({ label, loss, bits, knows, kind }) {
    const more = kind === "adaptive" ? ", and keeps learning as it reads" : "";
    return `${label} ${knows}${more}: ${loss.toFixed(3)} nats, ${bits.toFixed(2)} bits per character.`;
  }
  function paint() { // each mark has a row: its name at its loss, and a thin line up to the axis
    const width = view.width = Math.max(260, root.clientWidth), height = TOP + ROW * view.marks.length + 30;
    const told = view.at === null ? (view.marks.length ? "Choose a mark to read what it knows." : "") : sentence(view.marks[view.at]);
    if (view.told.textContent !== told) view.told.textContent = told;
    if (!view.marks.length) return;
    const most = Math.max(...view.marks.map(({ loss }) => loss)) * 1.04;
    const x = (loss) => LEFT + (loss / most) * (width - 2 * LEFT);
    const name = ({ label, loss }) => `${label} ${loss.toFixed(2)}`;
    view.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    view.svg.setAttribute("height", height);
    view.svg.setAttribute("aria-label", "Losses in nats per character: " + view.marks.map(name).join(", ") + ". Arrow keys read what each knows.");
    view.svg.setAttribute("aria-valuemax", view.marks.length);
    view.svg.setAttribute("aria-valuenow", view.at === null ? 0 : view.at + 1);
    view.svg.setAttribute("aria-valuetext", view.at === null ? "no mark chosen" : told);
    const bottom = height - 26;
    const parts = [make("line", { x1: LEFT, x2: width - LEFT, y1: TOP - 8, y2: TOP - 8, class: "ruler-axis" }),
      make("line", { x1: LEFT, x2: width - LEFT, y1: bottom, y2: bottom, class: "ruler-axis" })];
    const scale = (unit, at, dy, title) => { // nats above, bits below
      for (let t = 0; t * unit <= most; t++) {
        parts.push(make("line", { x1: x(t * unit), x2: x(t * unit), y1: at - 3, y2: at + 3, class: "ruler-axis" }));
        const last = (t + 1) * unit > most;
        parts.push(make("text", { x: x(t * unit), y: at + dy, "text-anchor": t ? "middle" : "start", class: "ruler-unit" }, t || last ? String(t) : title));
      }
    };
    scale(1, TOP - 8, -8, "nats");
    scale(Math.LN2, bottom, 18, "bits");
    view.marks.forEach((one, i) => {
      const row = TOP + ROW * i + 14, left = x(one.loss), room = 7 * name(one).length;
      const flip = left + room + 8 > width && left > width / 2; // the name stands where there is room for it, or more room
      const fits = Math.floor(((flip ? left : width - left) - 11) / (one.kind.includes("model") ? 7.3 : 6.6)); // characters; bold ones are wider
      const text = name(one).length > fits ? `${one.label.slice(0, Math.max(1, fits - 6))}… ${one.loss.toFixed(2)}` : name(one);
      const g = make("g", { class: "ruler-mark " + one.kind.split(" ").map((kind) => "ruler-" + kind).join(" "), "data-row": i });
      if (i === view.at) g.classList.add("ruler-chosen");
      g.append(make("rect", { x: 0, y: row - 14, width, height: ROW, class: "ruler-row" }));
      g.append(make("line", { x1: left, x2: left, y1: TOP - 8, y2: row - 4, class: "ruler-drop" }));
      g.append(make("circle", { cx: left, cy: row - 4, r: one.kind.includes("model") ? 5.5 : 4 }));
      g.append(make("text", { x: flip ? left - 9 : left + 9, y: row, "text-anchor": flip ? "end" : "start" }, text));
      parts.push(g);
    });
    view.svg.replaceChildren(...parts);
  }
  function table() {
    const row = (cells, tag) => {
      const line = html("tr", "");
      line.append(...cells.map((cell) => html(tag, "", cell)));
      return line;
    };
    const head = html("thead", ""), body = html("tbody", "");
    head.append(row(["", "Nats per character", "Bits per character", "What it knows", "Still learning while it reads"], "th"));
    body.append(...marks.map((one) =>
      row([one.label, one.loss.toFixed(4), one.bits.toFixed(3), one.knows, one.kind.includes("adaptive") ? "yes" : "no"], "td")));
    view.table.replaceChildren(head, body);
  }
}
