// A message, with an optional progress bar and link: draw(root, {text, state, share, link}).
function draw(root, data) {
  let view = root.__line;
  if (!view) {
    const made = (name) => document.createElement(name);
    view = root.__line = { text: made("span"), link: made("a"), bar: made("progress"), box: made("div") };
    view.box.className = "status-line";
    view.text.setAttribute("role", "status");
    view.bar.max = 1;
    view.bar.setAttribute("aria-label", "how far the run is");
    Object.assign(view.link, { target: "_blank", rel: "noopener", textContent: "Open it" });
    view.box.append(view.text, view.link, view.bar);
    root.replaceChildren(view.box);
  }
  const { text = "", state = "", share = null, link = "" } = data || {};
  view.box.dataset.state = state;
  if (view.text.textContent !== text) view.text.textContent = text;
  view.link.hidden = !/^https?:[/][/]/.test(link);
  if (!view.link.hidden) view.link.href = link;
  view.bar.hidden = share === null;
  if (share !== null) view.bar.value = share;
}
