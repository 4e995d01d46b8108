// A message, with an optional progress bar and link: draw(root, {text, state, share, link, spoken}).
// Screen readers announce the message, or where it changes each second, `spoken` in its place. There is a region for either
// from the start: what comes together with its region isn't announced.
function draw(root, data) {
  let view = root.__line;
  if (!view) {
    const made = (name) => document.createElement(name);
    view = root.__line = { text: made("span"), spoken: made("span"), link: made("a"), bar: made("progress"), box: made("div") };
    view.box.className = "status-line";
    view.text.setAttribute("role", "status");
    view.spoken.className = "spoken";
    view.spoken.setAttribute("role", "status");
    view.bar.max = 1;
    view.bar.setAttribute("aria-label", "progress");
    Object.assign(view.link, { target: "_blank", rel: "noopener", textContent: "Open it" });
    view.box.append(view.text, view.spoken, view.link, view.bar);
    root.replaceChildren(view.box);
  }
  const { text = "", state = "", share = null, link = "", spoken = null } = data || {};
  view.box.dataset.state = state;
  if (spoken !== null) view.text.removeAttribute("role"); // from now on, only the hidden text is announced
  const announced = view.text.hasAttribute("role") ? "" : spoken ?? text;
  if (view.spoken.textContent !== announced) view.spoken.textContent = announced;
  if (view.text.textContent !== text) view.text.textContent = text;
  view.link.hidden = !/^https?:[/][/]/.test(link);
  if (!view.link.hidden) view.link.href = link;
  view.bar.hidden = share === null;
  if (share !== null) view.bar.value = share;
}
