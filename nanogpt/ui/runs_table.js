// The table of all runs: draw(root, {columns: [{key, label, number, falls}], rows: [{name, actions, cells}], least, most}).
//
// A cell is [text, value to sort by]; null sorts last. `falls` sorts a column from its largest value first. Rows and their
// actions come from the server; the order and the selection are kept here. It triggers `select` with {action, name}, and
// `submit` with {names} to compare. Drawn again, it keeps the focus and waits for an open menu to be closed; a menu closes
// when the focus leaves it, too.
function draw(root, data) {
  const open = root.querySelector(".runs-menu:popover-open");
  if (open) {
    open.addEventListener("toggle", () => draw(root, data), { once: true });
    return;
  }
  const LABELS = { open: "Open run", rename: "Rename run …", export: "Export run", delete: "Delete run …" };
  const html = (tag, properties, ...children) => {
    const node = Object.assign(document.createElement(tag), properties);
    node.append(...children);
    return node;
  };
  const view = root.__runs || (root.__runs = { sort: null, down: false, chosen: new Set() });
  const { columns = [], rows = [], least = 2, most = 5 } = data || {};
  const known = new Set(rows.filter(({ actions }) => actions.includes("compare")).map(({ name }) => name));
  view.chosen = new Set([...view.chosen].filter((name) => known.has(name)));

  const compare = html("button", { type: "button", className: "runs-compare", id: "runs-compare", textContent: "Compare runs" });
  const count = html("span", { className: "runs-count" });
  count.setAttribute("role", "status");
  const clear = html("button", { type: "button", className: "runs-clear", textContent: "Clear selection" });
  const bar = html("div", { className: "runs-bar" }, compare, count, clear);
  const menu = html("div", { className: "runs-menu", popover: "auto", tabIndex: -1 }); // Safari doesn't focus a button that is clicked
  menu.setAttribute("role", "menu");
  let opener = null; // the button whose menu it is
  menu.addEventListener("beforetoggle", ({ newState }) => opener.setAttribute("aria-expanded", String(newState === "open")));
  menu.addEventListener("focusout", ({ relatedTarget }) => { if (!menu.contains(relatedTarget)) menu.togglePopover(false); });
  const head = html("tr"), body = html("tbody");
  const table = html("table", {}, html("thead", {}, head), body);
  table.setAttribute("aria-label", "All runs");
  const frame = html("div", { className: "runs-frame", tabIndex: 0 }, table);
  frame.setAttribute("role", "region");
  frame.setAttribute("aria-label", "All runs");

  head.append(html("td", {}));
  for (const column of columns) {
    const button = html("button", { type: "button", textContent: column.label });
    const cell = html("th", { scope: "col", className: column.number ? "runs-number" : "" }, button);
    button.addEventListener("click", () => {
      view.down = view.sort === column.key ? !view.down : Boolean(column.falls);
      view.sort = column.key;
      order();
    });
    cell.dataset.key = column.key;
    head.append(cell);
  }
  head.append(html("td", {}));
  const lines = rows.map((row) => [row, lineOf(row)]);
  compare.addEventListener("click", () => trigger("submit", { names: rows.map(({ name }) => name).filter((name) => view.chosen.has(name)) }));
  clear.addEventListener("click", () => { view.chosen.clear(); tick(); });
  menu.addEventListener("keydown", (event) => {
    const way = { ArrowDown: 1, ArrowUp: -1 }[event.key], items = [...menu.children];
    if (!way) return;
    event.preventDefault();
    items[(items.indexOf(document.activeElement) + way + items.length) % items.length].focus();
  });
  const { line: where, at } = focused();
  const left = root.querySelector(".runs-frame")?.scrollLeft;
  root.replaceChildren(...(rows.length ? [bar, frame, menu] : [html("p", { className: "runs-none", textContent: "No runs yet. Train a model, or import one." })]));
  order();
  tick();
  frame.scrollLeft = left ?? 0;
  stops(root.querySelector(where))[at]?.focus({ preventScroll: true });

  function stops(line) {
    return [...(line?.querySelectorAll("input, button") ?? [])];
  }

  function focused() { // the selector of the line that has the focus, and where in it
    const line = root.contains(document.activeElement) ? document.activeElement.closest("tr, .runs-bar") : null;
    const name = line?.dataset.name, other = line?.matches("tr") ? "thead tr" : ".runs-bar";
    return { line: name ? `tr[data-name="${name}"]` : other, at: stops(line).indexOf(document.activeElement) };
  }

  function lineOf({ name, actions, cells }) {
    const check = html("input", { type: "checkbox", disabled: !known.has(name) });
    check.setAttribute("aria-label", `Compare ${name}`);
    check.addEventListener("change", () => { view.chosen[check.checked ? "add" : "delete"](name); tick(); });
    const line = html("tr", {}, html("td", { className: "runs-check" }, check));
    for (const column of columns) {
      const [said, value, state] = cells[column.key];
      const text = column.key === "when" && value ? local(value) : said;
      if (column.key === "name") {
        const open = html("button", { type: "button", className: "runs-open", textContent: text, title: `Open ${name} in the Train tab` });
        open.addEventListener("click", () => trigger("select", { action: "open", name }));
        line.append(html("th", { scope: "row" }, open));
      } else {
        const cell = html("td", { className: column.number ? "runs-number" : "", textContent: text });
        if (state) cell.dataset.state = state;
        line.append(cell);
      }
    }
    const more = html("button", { type: "button", className: "runs-more", textContent: "⋯" });
    more.setAttribute("aria-label", `Actions for ${name}`);
    more.setAttribute("aria-haspopup", "menu");
    more.setAttribute("aria-expanded", "false");
    more.addEventListener("click", () => openMenu(more, name, actions));
    line.append(html("td", { className: "runs-check" }, more));
    line.dataset.name = name;
    return line;
  }

  function local(time) { // in the time zone of this browser, as 2026-01-31 23:59
    const at = new Date(time), two = (n) => String(n).padStart(2, "0");
    if (Number.isNaN(at.getTime())) return time;
    return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${two(at.getMinutes())}`;
  }

  function openMenu(button, name, actions) {
    menu.replaceChildren(...Object.keys(LABELS).filter((action) => actions.includes(action)).map((action) => {
      const item = html("button", { type: "button", textContent: LABELS[action] });
      item.setAttribute("role", "menuitem");
      item.dataset.action = action;
      item.addEventListener("click", () => {
        menu.hidePopover();
        trigger("select", { action, name });
      });
      return item;
    }));
    menu.setAttribute("aria-label", `Actions for ${name}`);
    opener = button;
    menu.showPopover();
    const at = button.getBoundingClientRect(), below = at.bottom + menu.offsetHeight + 8 < innerHeight;
    menu.style.left = `${Math.max(8, at.right - menu.offsetWidth)}px`;
    menu.style.top = `${below ? at.bottom + 4 : at.top - menu.offsetHeight - 4}px`;
    menu.firstElementChild.focus();
  }

  function order() { // rows of equal value stay newest first
    const value = ([{ cells }]) => cells[view.sort][1];
    const missing = (x) => x === null || x === "";
    const sorted = view.sort === null ? lines : [...lines].sort((one, other) => {
      const [a, b] = [value(one), value(other)];
      if (missing(a) || missing(b)) return Number(missing(a)) - Number(missing(b));
      const way = typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b;
      return view.down ? -way : way;
    });
    body.replaceChildren(...sorted.map(([, line]) => line));
    for (const cell of head.querySelectorAll("th")) {
      const mine = cell.dataset.key === view.sort;
      cell.setAttribute("aria-sort", mine ? (view.down ? "descending" : "ascending") : "none");
    }
  }

  function tick() {
    const full = view.chosen.size >= most;
    for (const [{ name }, line] of lines) {
      const check = line.querySelector("input");
      check.checked = view.chosen.has(name);
      check.disabled = !known.has(name) || (full && !check.checked);
      line.classList.toggle("runs-chosen", check.checked);
    }
    compare.disabled = view.chosen.size < least;
    clear.hidden = !view.chosen.size;
    const selected = `${view.chosen.size} selected${full ? ", the most that fit into one plot" : ""}`;
    count.textContent = view.chosen.size ? selected : "Select two to five runs to compare them.";
  }
}
