// The loss plot: draw(root, {max_iters, train: [[step, loss], …], val: […]}) keeps one <svg> in `root` up to date.
// The scale and the smoothing are chosen here and not sent to the server. The pointer and the arrow keys show the values
// at the nearest step, and the keys also have screen readers announce them.
function draw(root, data) {
  const NS = "http://www.w3.org/2000/svg";
  const make = (tag, attributes, text) => {
    const node = document.createElementNS(NS, tag);
    for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    return node;
  };
  let view = root.__plot;
  if (!view) {
    view = root.__plot = { log: false, smooth: 0, at: null };
    const bar = document.createElement("div");
    bar.className = "plot-bar";
    const legend = document.createElement("span");
    legend.className = "plot-legend";
    for (const [name, label] of [["train", "training loss"], ["val", "validation loss"]]) {
      const key = document.createElement("span");
      key.className = "plot-key plot-" + name;
      key.textContent = label;
      legend.append(key);
    }
    const field = (text, input) => {
      const label = document.createElement("label");
      label.append(text + " ", input);
      return label;
    };
    const log = Object.assign(document.createElement("input"), { type: "checkbox" });
    const smooth = Object.assign(document.createElement("input"), { type: "range", min: 0, max: 0.95, step: 0.05, value: 0 });
    log.addEventListener("change", () => { view.log = log.checked; paint(); });
    smooth.addEventListener("input", () => { view.smooth = Number(smooth.value); paint(); });
    bar.append(legend, field("log scale", log), field("smooth training", smooth));
    view.svg = make("svg", { role: "img", tabindex: "0", class: "plot" });
    view.svg.addEventListener("pointermove", (event) => {
      const box = view.svg.getBoundingClientRect();
      view.at = view.toStep(event.clientX - box.left);
      paint();
    });
    view.svg.addEventListener("pointerleave", () => { view.at = null; paint(); });
    view.svg.addEventListener("keydown", (event) => {
      const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!way || !view.steps.length) return;
      event.preventDefault();
      const now = view.at === null ? view.steps.length - 1 : view.steps.indexOf(nearest(view.at));
      view.at = view.steps[Math.min(view.steps.length - 1, Math.max(0, now + way))];
      paint();
      view.said.textContent = words(view.at);
    });
    view.svg.addEventListener("blur", () => { view.at = null; view.said.textContent = ""; paint(); });
    view.said = Object.assign(document.createElement("div"), { className: "plot-said" });
    view.said.setAttribute("aria-live", "polite");
    root.replaceChildren(bar, view.svg, view.said);
    new ResizeObserver(() => paint()).observe(root);
  }
  view.data = data || { max_iters: 1, train: [], val: [] };
  paint();

  function nearest(step) {
    return view.steps.reduce((a, b) => (Math.abs(b - step) < Math.abs(a - step) ? b : a));
  }
  function words(step) {
    const said = [["training loss", view.data.train], ["validation loss", view.data.val]]
      .map(([label, points]) => [label, points.find(([s]) => s === step)])
      .filter(([, found]) => found)
      .map(([label, found]) => `${label} ${found[1].toFixed(4)}`);
    return [`Step ${step.toLocaleString("en")}`, ...said].join(", ") + ".";
  }
  function smoothed(points) {
    let mean = null; // an exponential moving average, as in most training dashboards
    return points.map(([x, y]) => [x, (mean = mean === null ? y : view.smooth * mean + (1 - view.smooth) * y)]);
  }
  function ticks(low, high, count) {
    const rough = (high - low) / count || 1;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
    const found = [];
    for (let t = Math.ceil(low / step) * step; t <= high + step / 1e6; t += step) found.push(Number(t.toPrecision(12)));
    return found;
  }
  function paint() {
    const { train: raw, val, max_iters } = view.data;
    const train = view.smooth ? smoothed(raw) : raw;
    view.steps = [...new Set([...raw, ...val].map(([x]) => x))].sort((a, b) => a - b);
    const width = Math.max(260, root.clientWidth), height = 280;
    const left = 46, right = 28, top = 10, bottom = 42;
    const losses = [...train, ...val].map(([, y]) => y);
    let low = losses.length ? Math.min(...losses) : 0, high = losses.length ? Math.max(...losses) : 4;
    const pad = Math.max((high - low) * 0.06, 0.02);
    low = Math.max(low - pad, view.log ? low * 0.95 : 0);
    high += pad;
    const scale = view.log ? Math.log : (y) => y;
    const x = (step) => left + (step / Math.max(1, max_iters)) * (width - left - right);
    const y = (loss) => top + ((scale(high) - scale(loss)) / (scale(high) - scale(low) || 1)) * (height - top - bottom);
    view.toStep = (px) => ((px - left) / (width - left - right)) * max_iters;
    const parts = [];
    for (const t of ticks(low, high, 5)) {
      parts.push(make("line", { x1: left, x2: width - right, y1: y(t), y2: y(t), class: "plot-grid" }));
      parts.push(make("text", { x: left - 8, y: y(t) + 4, "text-anchor": "end" }, String(t)));
    }
    for (const t of ticks(0, max_iters, width < 500 ? 3 : 6)) {
      parts.push(make("text", { x: x(t), y: height - 24, "text-anchor": "middle" }, t.toLocaleString("en")));
    }
    parts.push(make("text", { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle", class: "plot-axis" }, "step"));
    const path = (points) => "M" + points.map(([a, b]) => x(a).toFixed(1) + "," + y(b).toFixed(1)).join("L");
    if (train.length) parts.push(make("path", { d: path(train), class: "plot-line plot-train" }));
    if (val.length) parts.push(make("path", { d: path(val), class: "plot-line plot-val" }));
    for (const [a, b] of val) parts.push(make("circle", { cx: x(a), cy: y(b), r: 2.5, class: "plot-dot" }));
    if (!losses.length) {
      const middle = { x: (left + width - right) / 2, y: height / 2, "text-anchor": "middle", class: "plot-axis" };
      parts.push(make("text", middle, "The loss appears here once a run has begun."));
    } else if (view.at !== null) {
      parts.push(...hover(nearest(view.at), x, y, width, top, height - bottom, raw, val));
    }
    const last = (points) => (points.length ? points[points.length - 1][1].toFixed(4) : "none yet");
    view.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    view.svg.setAttribute("height", height);
    view.svg.setAttribute("aria-label", `Loss over steps. Latest training loss ${last(raw)}, validation loss ${last(val)}.`);
    view.svg.dataset.points = raw.length;
    view.svg.dataset.step = view.steps.length ? view.steps[view.steps.length - 1] : "";
    view.svg.replaceChildren(...parts);
  }
  function hover(step, x, y, width, top, bottom, train, val) {
    const at = (points) => points.find(([s]) => s === step);
    const lines = [["step " + step.toLocaleString("en"), ""]];
    const parts = [make("line", { x1: x(step), x2: x(step), y1: top, y2: bottom, class: "plot-cursor" })];
    for (const [name, found, label] of [["train", at(train), "training"], ["val", at(val), "validation"]]) {
      if (!found) continue;
      parts.push(make("circle", { cx: x(step), cy: y(found[1]), r: 4, class: "plot-mark plot-" + name }));
      lines.push([`${label} ${found[1].toFixed(4)}`, `${(found[1] / Math.LN2).toFixed(3)} bits`]);
    }
    const wide = 200, flip = x(step) + wide + 16 > width;
    const box = make("g", { transform: `translate(${flip ? x(step) - wide - 10 : x(step) + 10},${top + 4})`, class: "plot-tip" });
    box.append(make("rect", { width: wide, height: 12 + 18 * lines.length, rx: 6 }));
    lines.forEach(([a, b], i) => {
      box.append(make("text", { x: 10, y: 20 + 18 * i }, a));
      box.append(make("text", { x: wide - 10, y: 20 + 18 * i, "text-anchor": "end" }, b));
    });
    return [...parts, box];
  }
}
