// A table with a heading per column and per row, or a sentence in its place: draw(root, {head, rows, said}).
function draw(root, data) {
  const { head = [], rows = [], said = "" } = data || {};
  const add = (parent, tag, text) => {
    const node = document.createElement(tag);
    if (text !== undefined) node.textContent = text;
    parent.append(node);
    return node;
  };
  const box = root.__table ||= Object.assign(document.createElement("div"), { className: "plain-table" });
  const region = { tabindex: 0, role: "region", "aria-label": `${head[0]} table` }; // on a narrow page, it scrolls sideways
  for (const [name, value] of Object.entries(region)) rows.length ? box.setAttribute(name, value) : box.removeAttribute(name);
  box.replaceChildren();
  if (said) add(box, "p", said);
  if (rows.length) {
    const table = add(box, "table");
    const first = add(add(table, "thead"), "tr");
    for (const text of head) add(first, "th", text).scope = "col";
    const body = add(table, "tbody");
    for (const [name, ...values] of rows) {
      const line = add(body, "tr");
      add(line, "th", name).scope = "row";
      for (const value of values) add(line, "td", value);
    }
  }
  if (!box.parentNode) root.replaceChildren(box);
}
