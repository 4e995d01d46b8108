// Samples side by side: draw(root, {columns: [{name, prompt, text, said, state}, …]}). The prompt is marked in each.
function draw(root, data) {
  const columns = (data || {}).columns || [];
  const names = JSON.stringify(columns.map(({ name }) => name));
  let view = root.__columns;
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
      return { column, text, said };
    });
    root.replaceChildren(box);
    view = root.__columns = { names, parts };
  }
  columns.forEach(({ prompt, text, said, state }, i) => {
    const part = view.parts[i];
    const mark = document.createElement("mark");
    mark.textContent = prompt;
    part.text.replaceChildren(...(prompt ? [mark, text] : [text]));
    if (part.said.textContent !== said) part.said.textContent = said;
    part.said.hidden = !said;
    part.text.hidden = !prompt && !text;
    part.column.dataset.state = state;
  });
}
