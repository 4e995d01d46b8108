// Facts that most people don't need, closed at first: draw(root, [[label, value], …]).
function draw(root, data) {
  const html = (tag, properties) => Object.assign(document.createElement(tag), properties);
  if (!root.__details) {
    const box = html("details", { className: "details" });
    root.__details = html("dl");
    box.append(html("summary", { textContent: "Details" }), root.__details);
    root.replaceChildren(box);
  }
  const facts = (data || []).map(([label, value]) => {
    const one = html("div", { className: value.length > 80 ? "details-long" : "" });
    one.append(html("dt", { textContent: label }), html("dd", { textContent: value }));
    return one;
  });
  root.__details.replaceChildren(...facts);
}
