// A slider through the steps of all samples: draw(root, {steps, at, label}); `at` counts from 1. Moving it sets `at` and triggers
// the event "input".
function draw(root, data) {
  const { steps = [], at = 0, label = "Earlier samples" } = data || {};
  let view = root.__scrubber;
  if (!view) {
    const html = (tag, properties) => Object.assign(document.createElement(tag), properties);
    view = root.__scrubber = { box: html("div", { className: "scrubber" }), said: html("span"), held: false };
    view.slider = html("input", { type: "range", min: 1, step: 1 });
    view.box.append(view.slider, view.said);
    root.replaceChildren(view.box);
    view.slider.addEventListener("pointerdown", () => { view.held = true; });
    for (const end of ["pointerup", "pointercancel"]) view.slider.addEventListener(end, () => { view.held = false; });
    view.slider.addEventListener("input", () => {
      say();
      props.value = { steps: view.steps, at: Number(view.slider.value), label: view.slider.ariaLabel };
      trigger("input");
    });
  }
  view.steps = steps;
  view.slider.setAttribute("aria-label", label);
  view.slider.max = Math.max(2, steps.length);
  view.box.dataset.empty = String(steps.length < 2); // hidden, but it keeps its place
  if (!view.held) view.slider.value = at || steps.length;
  say();

  function say() {
    const step = view.steps[Number(view.slider.value) - 1] ?? 0, last = view.steps[view.steps.length - 1] ?? 0;
    const newest = Number(view.slider.value) === view.steps.length;
    view.said.textContent = newest ? "newest" : `${step.toLocaleString("en")} of ${last.toLocaleString("en")}`;
    view.slider.setAttribute("aria-valuetext", `step ${step.toLocaleString("en")}${newest ? ", the newest" : ""}`);
  }
}
