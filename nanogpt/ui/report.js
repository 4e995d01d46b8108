// The report on a text: draw(root, {title, facts: [[label, value], …], notes: [{kind, text}, …], preview, places}).
// Each of the places is the first that a clean-up changes: {label, before, old, old_after, new, new_after}.
function draw(root, data) {
  const add = (parent, tag, className, text) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    parent.append(node);
    return node;
  };
  const box = document.createElement("div");
  box.className = "report";
  if (data) {
    add(box, "h3", "", data.title);
    const list = add(box, "dl", "report-facts");
    for (const [label, value] of data.facts) {
      const pair = add(list, "div");
      add(pair, "dt", "", label);
      add(pair, "dd", "", value);
    }
    for (const note of data.notes) add(box, "p", "note note-" + note.kind, note.text);
    if (data.preview) {
      add(box, "h4", "", "Preview");
      const text = add(box, "pre", "report-preview", data.preview);
      text.tabIndex = 0;
      text.dir = "auto";
    }
    if (data.places?.length) {
      add(box, "h4", "", "Where each clean-up first applies");
      for (const place of data.places) {
        add(box, "p", "report-place", place.label);
        const rows = add(box, "dl", "report-place");
        for (const [name, kind, tag] of [["Before", "old", "del"], ["After", "new", "ins"]]) {
          add(rows, "dt", "", name);
          const row = add(rows, "dd", "", place.before);
          row.dir = "auto";
          if (place[kind]) add(row, tag, "", place[kind]);
          row.append(place[kind + "_after"]);
        }
      }
    }
  }
  root.replaceChildren(box);
}
