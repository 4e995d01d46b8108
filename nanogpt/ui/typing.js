// A sample from the model: draw(root, {name, step, text, fresh}). A fresh one, just written, types itself; any other one,
// and with reduced motion every one, is shown at once.
function draw(root, data) {
  const html = (tag, properties) => Object.assign(document.createElement(tag), properties);
  let view = root.__typing;
  if (!view) {
    view = root.__typing = { label: html("div", { className: "typing-label" }), box: html("div", { className: "typing-text", dir: "auto", tabIndex: 0 }) };
    view.box.setAttribute("role", "region");
    root.replaceChildren(view.label, view.box);
  }
  const { name = "", step = null, text = "", fresh = false } = data || {};
  const key = JSON.stringify([name, step, text]);
  if (view.key === key) return;
  view.key = key;
  const label = step === null ? "Sample" : `Sample at step ${step.toLocaleString("en")}`;
  view.label.textContent = label;
  view.box.setAttribute("aria-label", label);
  view.box.dataset.empty = String(step === null);
  view.box.scrollTop = 0;
  const show = (characters) => {
    view.box.textContent = step === null ? "Samples of what the model writes appear here while it trains." : text.slice(0, characters);
  };
  if (!fresh || matchMedia("(prefers-reduced-motion: reduce)").matches) {
    view.box.dataset.state = "done";
    show();
    return;
  }
  view.box.dataset.state = "typing";
  const began = performance.now(), seconds = Math.min(2, text.length / 150);
  const frame = () => {
    if (view.key !== key || !root.isConnected) return;
    const share = Math.min(1, (performance.now() - began) / (1000 * seconds || 1));
    show(Math.ceil(share * text.length));
    if (share < 1) setTimeout(frame, 50); // 20 times per second are as smooth as typing, at a third of the work
    else view.box.dataset.state = "done";
  };
  setTimeout(frame); // not at once: a box that is only being built isn't on the page yet
}
