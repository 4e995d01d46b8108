// A model as a picture: draw(root, {boxes: [{name, does, shape, parameters, operations, code, in_block}, …], n_layer,
// parameters, input, code: {name: {text, first}}, words}). Choosing a box shows the lines of code that do it.
function draw(root, data) {
  if (!data) return root.replaceChildren();
  const { boxes, n_layer, parameters, input, code, words } = data;
  const html = (tag, className, text = "") => Object.assign(document.createElement(tag), { className, textContent: text });
  const flow = html("div", "architecture-flow"), side = html("div", "architecture-code");
  side.setAttribute("role", "region");
  side.setAttribute("aria-label", "Code of the chosen part");
  side.tabIndex = 0;
  const arrow = (shape) => {
    const line = html("p", "architecture-arrow", shape);
    line.setAttribute("aria-label", `shape ${shape}`);
    return line;
  };
  const buttons = [];
  flow.append(arrow(input));
  let block = null;
  boxes.forEach((box, i) => {
    if (box.in_block && !block) {
      block = html("div", "architecture-block");
      block.append(html("p", "architecture-times", `block, ${n_layer} ${n_layer === 1 ? "time" : "times"}`));
      flow.append(block);
    }
    if (!box.in_block) block = null;
    const times = box.in_block ? n_layer : 1, share = (times * box.parameters) / Math.max(1, parameters);
    const button = html("button", "architecture-box");
    button.type = "button";
    button.tabIndex = i ? -1 : 0;
    const bar = html("span", "architecture-share"), fill = html("i", "");
    fill.style.width = `${100 * share}%`;
    bar.append(fill);
    const count = box.parameters ? `${box.parameters.toLocaleString("en")} parameters${times > 1 ? ` × ${times}` : ""}, ${(100 * share).toFixed(0)}%` : "no parameters";
    button.append(html("b", "", box.name), html("span", "architecture-count", count), html("span", "architecture-does", box.does), bar);
    button.addEventListener("click", () => choose(i));
    buttons.push(button);
    (block || flow).append(button, ...(box.in_block && /attention|Feed/.test(box.name) ? [html("p", "architecture-adds", "+ what came in (residual)")] : []));
    if (!box.in_block || i === boxes.length - 1 || !boxes[i + 1].in_block) flow.append(arrow(box.shape));
  });
  flow.setAttribute("role", "group");
  flow.setAttribute("aria-label", "Parts of the model, in order. Move with the arrow keys.");
  flow.addEventListener("keydown", (event) => {
    const way = { ArrowDown: 1, ArrowUp: -1 }[event.key], i = buttons.indexOf(document.activeElement);
    if (!way || i < 0 || !buttons[i + way]) return;
    event.preventDefault();
    buttons[i].tabIndex = -1;
    buttons[i + way].tabIndex = 0;
    buttons[i + way].focus();
  });
  const parts = html("div", "architecture-parts");
  parts.append(flow, side);
  root.replaceChildren(html("p", "architecture-words", words), parts);
  choose(Math.max(0, boxes.findIndex((box) => box.name === (root.__chosen || "Multi-head attention"))), false);

  function choose(i, show = true) {
    root.__chosen = boxes[i].name;
    buttons.forEach((button, j) => button.setAttribute("aria-pressed", String(i === j)));
    const { text, first } = code[boxes[i].code], lines = text.trimEnd().split("\n");
    const list = html("pre", "architecture-lines");
    lines.forEach((line, j) => {
      const number = html("i", "", String(first + j).padStart(4));
      list.append(number, `  ${line}\n`);
    });
    side.replaceChildren(html("p", "architecture-where", `nanogpt/${boxes[i].code.split(".")[0]}.py, from line ${first}`), list);
    if (show && side.getBoundingClientRect().top > innerHeight) side.scrollIntoView({ block: "nearest" });
  }
}
