// The report on a text: draw(root, {title, facts: [[label, value], …], notes: [{kind, text}, …], preview, places}).
// Each of the places is the first that a clean-up changes: {label, before, old, old_after, new, new_after}. Screen readers
// announce the title, the first fact and the notes, but not of the first report, which comes with the page.
function draw(root, data) {
  const { area, say } = aloud(root);
  const add = (parent, tag, className, text) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    parent.append(node);
    return node;
  };
  const report = document.createElement("div");
  report.className = "report";
  if (data) {
    add(report, "h3", "", data.title);
    const list = add(report, "dl", "report-facts");
    for (const [label, value] of data.facts) {
      const pair = add(list, "div");
      add(pair, "dt", "", label);
      add(pair, "dd", "", value);
    }
    for (const note of data.notes) add(report, "p", "note note-" + note.kind, note.text);
    if (data.preview) {
      add(report, "h4", "", "Preview");
      const text = add(report, "pre", "report-preview", data.preview);
      text.tabIndex = 0;
      text.dir = "auto";
      text.setAttribute("role", "region");
      text.setAttribute("aria-label", "Preview");
    }
    if (data.places?.length) {
      add(report, "h4", "", "Where each clean-up first applies");
      for (const place of data.places) {
        add(report, "p", "report-place", place.label);
        const rows = add(report, "dl", "report-place");
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
  area.replaceChildren(report);
  if (data && root.__reported) {
    const said = [data.title, ...data.facts.slice(0, 1).map((fact) => fact.join(": ")), ...data.notes.map(({ text }) => text)];
    say(said.map((one) => (/[.!?]$/.test(one) ? one : one + ".")).join(" "));
  }
  root.__reported = Boolean(data);
}
