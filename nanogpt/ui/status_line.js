// A sentence and, where there is one, how far the work is: draw(root, {text, state, share}).
function draw(root, data) {
  let view = root.__line;
  if (!view) {
    view = root.__line = { text: document.createElement("span"), bar: document.createElement("progress"), box: document.createElement("div") };
    view.box.className = "status-line";
    view.text.setAttribute("role", "status");
    view.bar.max = 1;
    view.bar.setAttribute("aria-label", "how far the run is");
    view.box.append(view.text, view.bar);
    root.replaceChildren(view.box);
  }
  const { text = "", state = "", share = null } = data || {};
  view.box.dataset.state = state;
  if (view.text.textContent !== text) view.text.textContent = text;
  view.bar.hidden = share === null;
  if (share !== null) view.bar.value = share;
}
