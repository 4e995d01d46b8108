// Samples side by side: draw(root, {columns: [{name, prompt, text, said, state}, …], follow}). The prompt is marked in each.
// `state` is "writing" while more is to come. After data with `stopped`, nothing is: a last piece that still arrives shows
// as stopped, too, or not at all if it is of other columns. Data in which `stopped` is false ends that.
// With `follow`, the page follows the column that grows, until you scroll.
function draw(root, data) {
  const { columns: all = [], follow = false, stopped = root.__stopped } = data || {};
  const names = JSON.stringify(all.map(({ name }) => name));
  let view = root.__columns;
  if (stopped && data.stopped === undefined && view && view.names !== names) return;
  root.__stopped = stopped;
  const columns = all.map((one) => (stopped && one.state === "writing" ? { ...one, state: "stopped" } : one));
  if (!view || view.names !== names) {
    const made = (tag, className) => Object.assign(document.createElement(tag), { className });
    const box = made("div", "side-by-side");
    const parts = columns.map(({ name }, i) => {
      const column = made("section", "side");
      const title = made("h4", `plot-key plot-run-${i}`);
      const text = made("p", "side-text");
      const said = made("p", "side-said");
      title.textContent = name;
      column.setAttribute("aria-label", `Sample from ${name}`);
      text.dir = "auto";
      text.tabIndex = 0;
      said.setAttribute("role", "status");
      column.append(title, said, text);
      box.append(column);
      return { column, text, said, written: "" };
    });
    root.replaceChildren(box);
    view = root.__columns = { names, parts };
  }
  const page = follow && (root.__page ||= inView());
  const grew = columns.findLastIndex(({ text }, i) => text !== view.parts[i].written);
  const before = view.parts[0]?.written;
  if (page && grew >= 0 && !(before && columns[0].text.startsWith(before))) page.again(); // another text than before
  columns.forEach(({ prompt, text, said, state }, i) => {
    const part = view.parts[i];
    part.written = text;
    const mark = document.createElement("mark");
    mark.textContent = prompt;
    part.text.replaceChildren(...(prompt ? [mark, text] : [text]));
    if (part.said.textContent !== said) part.said.textContent = said;
    part.text.hidden = !prompt && !text;
    part.column.dataset.state = state;
  });
  if (page && grew >= 0) page.follow(view.parts[grew].column);
}
