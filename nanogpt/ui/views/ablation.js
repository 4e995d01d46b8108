// The parts of a model: draw(root, {model, n_layer, n_head, rises: {key: nats}, names: {key: text}, off: [key, …], said, spoken}).
//
// One row per block; each cell is a switch, colored by how much the loss rises without the part. The grid is one tab
// stop with arrow keys. Switching sets `off`, the keys of all parts that are off, and triggers `input`. While the grid
// fills, `off` is empty, and what you have switched stays as it is and is written there; screen readers announce `spoken`
// instead of `said`.
function draw(root, data) {
  const { model = "", n_layer = 0, n_head = 0, rises = {}, names = {}, off = [], said = "", spoken = said } = data || {};
  const html = (tag, className, text = "") => Object.assign(document.createElement(tag), { className, textContent: text });
  const signed = (rise) => (rise === undefined ? "…" : Math.abs(rise) < 0.005 ? "0" : (rise > 0 ? "+" : "−") + Math.abs(rise).toFixed(2));
  const size = `${n_layer} ${n_head} ${model}`;
  let view = root.__switches;
  if (!view || view.size !== size) {
    const box = html("div", "switches-frame"), table = html("table", "switches");
    table.setAttribute("aria-label", "Parts of the model. Move with the arrow keys, switch off with Enter.");
    const head = html("tr");
    const columns = [...Array.from({ length: n_head }, (_, i) => `head ${i + 1}`), "attention", "feed-forward"];
    head.append(html("td"), ...columns.map((name) => Object.assign(html("th", "", name), { scope: "col" })));
    const grid = [], cells = new Map(), body = html("tbody");
    for (let block = 0; block < n_layer; block++) {
      const keys = [...Array.from({ length: n_head }, (_, i) => `${block}.head.${i}`), `${block}.attention`, `${block}.mlp`];
      const line = html("tr");
      line.append(Object.assign(html("th", "", `block ${block + 1}`), { scope: "row" }));
      grid.push(keys.map((key) => {
        const button = html("button", "switch"), cell = html("td");
        button.type = "button";
        button.dataset.key = key;
        button.tabIndex = -1;
        button.addEventListener("click", () => toggle(key));
        cell.append(button);
        line.append(cell);
        cells.set(key, button);
        return button;
      }));
      body.append(line);
    }
    const top = html("thead");
    top.append(head);
    table.append(top, body);
    table.addEventListener("keydown", (event) => {
      const [down, right] = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] }[event.key] || [0, 0];
      const row = grid.findIndex((line) => line.includes(document.activeElement));
      if (!(down || right) || row < 0) return;
      event.preventDefault();
      const column = grid[row].indexOf(document.activeElement);
      stop(grid[row + down]?.[column + right] || grid[row][column]).focus();
    });
    const reset = html("button", "switches-reset", "Switch all on"), words = html("p", "switches-words"), aloud = html("p", "spoken");
    reset.type = "button";
    reset.addEventListener("click", () => { view.off.clear(); changed(); });
    aloud.setAttribute("role", "status");
    box.append(table);
    root.replaceChildren(...(n_layer ? [box, reset, words, aloud] : []));
    view = root.__switches = { size, cells, grid, reset, words, aloud, off: new Set() };
    if (n_layer) stop(grid[0][0]);
  }
  view.names = names;
  view.rises = rises;
  if (off.length) view.off = new Set(off);
  else if (view.off.size) props.value = { ...props.value, off: [...view.off] }; // or a waiting event would be sent without
  for (const [node, text] of [[view.words, said], [view.aloud, spoken]]) if (node.textContent !== text) node.textContent = text;
  paint();

  function stop(button) {
    for (const other of view.cells.values()) other.tabIndex = other === button ? 0 : -1;
    return button;
  }
  function toggle(key) {
    stop(view.cells.get(key));
    view.off.has(key) ? view.off.delete(key) : view.off.add(key);
    changed();
  }
  function changed() {
    paint();
    props.value = { ...props.value, off: [...view.off] }; // an event that waits is sent with the newest value
    trigger("input");
  }
  function paint() {
    const most = Math.max(0.5, ...Object.values(view.rises));
    for (const [key, button] of view.cells) {
      const rise = view.rises[key], isOff = view.off.has(key);
      button.textContent = isOff ? "off" : signed(rise);
      button.setAttribute("aria-pressed", String(isOff));
      button.setAttribute("aria-label", `${view.names[key]}${rise === undefined ? "" : `: ${signed(rise)} nats without it`}`);
      button.title = rise === undefined ? view.names[key] || "" : `${view.names[key]}: the loss changes by ${rise.toFixed(3)} nats without it`;
      button.style.setProperty("--worth", `${Math.round(75 * Math.sqrt(Math.max(0, rise || 0) / most))}%`);
    }
    view.reset.disabled = !view.off.size;
  }
}
