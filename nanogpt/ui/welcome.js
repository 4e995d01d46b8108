// A finished run, replayed once: draw(root, {name, val, train, samples}). A point is [step, loss], a sample [step, text].
//
// The curve draws itself while the samples go from noise to words. The button pauses that and continues it, the slider goes to
// any sample; with reduced motion, nothing moves until you press Replay.
function draw(root, data) {
  if (!data || !data.samples || !data.samples.length || root.__replay) return;
  root.__replay = true;
  const NS = "http://www.w3.org/2000/svg", HEIGHT = 110;
  const SECONDS = 9, FRAMES = 20, EARLY = 3; // frames per second: as smooth as typing, at a third of the work
  const html = (tag, properties) => Object.assign(document.createElement(tag), properties);
  const make = (tag, attributes) => {
    const node = document.createElementNS(NS, tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    return node;
  };
  const { name, val, train, samples } = data;
  const end = samples[samples.length - 1][0] || 1, last = samples.length - 1;
  const units = samples.length + EARLY; // of time: one per sample, and EARLY more for the first, which is noise
  const losses = [...val, ...train].map(([, loss]) => loss);
  const low = Math.log(Math.min(...losses)), high = Math.log(Math.max(...losses));
  let width = 0, painted = end; // the plot's width, and the step that it is drawn up to
  let unit = units, timer = null; // how far it is replayed; the next frame, null at rest
  const x = (step) => 8 + (step / end) * (width - 16);
  const y = (loss) => 8 + ((high - Math.log(loss)) / (high - low || 1)) * (HEIGHT - 16);

  const box = html("figure", { className: "replay" });
  const caption = html("figcaption", { className: "replay-caption" });
  const svg = make("svg", { role: "img", class: "replay-plot", height: HEIGHT });
  svg.setAttribute("aria-label", `Loss of the model ${name} while it trained, falling from ${val[0][1].toFixed(2)} to ${val[val.length - 1][1].toFixed(2)}.`);
  const lines = [["train", train], ["val", val]].map(([kind, points]) => [make("path", { class: "plot-line plot-" + kind }), points]);
  const dot = make("circle", { r: 4, class: "plot-dot" });
  const scale = make("text", { y: 14, "text-anchor": "end", class: "replay-scale" });
  scale.textContent = "loss, log scale";
  svg.append(...lines.map(([path]) => path), dot, scale);
  const text = html("pre", { className: "replay-text", tabIndex: 0 });
  text.setAttribute("role", "region");
  text.setAttribute("aria-label", "Sample from the model at this step");
  const controls = html("div", { className: "replay-controls" });
  const slider = html("input", { type: "range", min: 1, max: samples.length, step: 1 });
  slider.setAttribute("aria-label", "Step of the sample");
  const button = html("button", { type: "button" });
  controls.append(slider, button);
  box.append(caption, svg, text, controls);
  root.replaceChildren(box);

  function paint(step) { // the curves up to a step
    painted = step;
    for (const [path, points] of lines) {
      const seen = points.filter(([at]) => at <= step);
      path.setAttribute("d", seen.length ? "M" + seen.map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`).join("L") : "");
    }
    const newest = newestOf(val, step);
    dot.setAttribute("cx", x(newest[0]));
    dot.setAttribute("cy", y(newest[1]));
  }
  function newestOf(points, step) {
    return points.filter(([at]) => at <= step).pop() || points[0];
  }
  function show(step, sample, characters) {
    paint(step);
    const words = [["", `step ${samples[sample][0].toLocaleString("en")}`], ["val", `validation loss ${newestOf(val, step)[1].toFixed(2)}`]];
    if (train.some(([at]) => at <= step)) words.push(["train", `training loss ${newestOf(train, step)[1].toFixed(2)}`]);
    caption.replaceChildren(...words.map(([kind, textContent]) => html("span", { className: kind && "replay-key replay-" + kind, textContent })));
    text.textContent = samples[sample][1].slice(0, characters);
    slider.value = sample + 1;
    slider.setAttribute("aria-valuetext", `step ${samples[sample][0]}`);
  }
  function rest(sample) { // at a sample, from where the button continues
    unit = sample === last ? units : sample && sample + EARLY;
    show(samples[sample][0], sample);
    pause();
  }
  function play() {
    if (unit === units) unit = 0;
    let before = performance.now();
    const frame = () => {
      if (!root.isConnected) return;
      const now = performance.now();
      unit = Math.min(units, unit + (units * (now - before)) / (1000 * SECONDS));
      before = now;
      const sample = Math.min(last, Math.max(0, Math.floor(unit - EARLY)));
      const part = sample ? unit - EARLY - sample : unit / (EARLY + 1); // of this sample's time, in which it types itself
      const [from, to] = [samples[sample][0], (samples[sample + 1] || [end])[0]];
      show(from + part * (to - from), sample, unit === units ? undefined : Math.ceil(part * samples[sample][1].length));
      timer = unit < units ? setTimeout(frame, 1000 / FRAMES) : null;
      label();
    };
    frame();
  }
  function pause() {
    clearTimeout(timer);
    timer = null;
    label();
  }
  function label() { // the button, by what it does
    const does = timer !== null ? "Pause" : unit > 0 && unit < units ? "Continue" : "Replay";
    if (button.textContent !== does) button.textContent = does;
  }
  function fit() { // again when the page is turned, or when the tab is chosen after the first drawing
    const wide = Math.max(260, root.clientWidth - 34);
    if (wide === width || (width && !root.clientWidth)) return;
    width = wide;
    svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    scale.setAttribute("x", width - 8);
    paint(painted);
  }
  slider.addEventListener("input", () => rest(Number(slider.value) - 1));
  button.addEventListener("click", () => (timer === null ? play() : pause()));
  new ResizeObserver(fit).observe(root);
  fit();
  rest(last);
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  const seen = new IntersectionObserver(([entry]) => {
    if (!entry.isIntersecting) return;
    seen.disconnect();
    if (timer === null) play();
  });
  seen.observe(root);
}
