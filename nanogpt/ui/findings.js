// What the run doctor found: draw(root, [{says, do}, …]). Nothing is drawn while there is nothing to say.
function draw(root, data) {
  const html = (tag, className, text = "") => Object.assign(document.createElement(tag), { className, textContent: text });
  if (!root.__list) {
    root.__list = html("ul", "findings");
    root.__list.setAttribute("aria-label", "Run doctor");
    root.replaceChildren(root.__list);
  }
  const text = JSON.stringify(data || []);
  if (root.__list.dataset.found === text) return; // screen readers would announce it again
  root.__list.dataset.found = text;
  root.__list.replaceChildren(...(data || []).map(({ says, do: advice }) => {
    const line = html("li", "finding");
    line.append(html("span", "", says), " ", html("b", "", advice));
    return line;
  }));
}
