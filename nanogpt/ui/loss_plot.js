// The loss plot: draw(root, {name, axis, end, train, val, waiting}) keeps one <svg> in `root` up to date. To compare runs,
// `lines`, [{label, points}, …], takes the place of `train` and `val`: the validation loss of each.
//
// A point is [x, loss, step]; x is the step, the seconds or the epochs, and `axis` says which. `end` is the end of the x
// axis. `baselines`, [{label, loss}, …], are losses to compare with: each that is within the range of the losses gets a
// thin line. `passed` is a sentence about them below the plot, which screen readers announce while `live`; `warning`, one of
// a comparison, takes its place.
// The scale and the smoothing are chosen here and not sent to the server. The pointer and the arrow keys show
// the losses at the nearest point. For screen readers the plot is a slider: they pass its keys on, and read its value.
function draw(root, data) {
  const NS = "http://www.w3.org/2000/svg", HEIGHT = 300, TOP = 26, BOTTOM = 40, LEFT = 46;
  const NOTE = "Dotted lines: what simpler models and compressors reach on the same text. The Loss view under Understand explains each.";
  const AXES = { step: ["step", "steps"], seconds: ["training time", "time"], epochs: ["epochs", "epochs"] };
  const make = (tag, attributes, text) => {
    const node = document.createElementNS(NS, tag);
    for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const view = root.__plot || (root.__plot = build());
  view.data = data || {};
  view.lines = linesOf(view.data);
  paint();

  function linesOf({ train = [], val = [], lines }) { // [{kind, label, points, long}, …]; `long` is the legend's label
    if (lines) return lines.map(({ label, points }, i) => ({ kind: `run-${i}`, label, points, long: label }));
    return [["train", "training", train], ["val", "validation", val]]
      .map(([kind, label, points]) => ({ kind, label, points, long: label + " loss" }));
  }

  function build() {
    const made = { log: false, smooth: 0, at: null };
    const html = (tag, properties) => Object.assign(document.createElement(tag), properties);
    const bar = html("div", { className: "plot-bar" });
    const legend = made.legend = html("span", { className: "plot-legend" });
    const smooth = html("input", { type: "range", min: 0, max: 0.95, step: 0.05, value: 0 });
    const smoothing = html("label");
    smoothing.append("Smoothing ", smooth);
    const log = html("button", { type: "button", textContent: "Log scale" });
    log.setAttribute("aria-pressed", "false");
    const save = (kind) => html("button", { type: "button", textContent: kind, title: "Download the plot as " + kind });
    const [svg, png] = ["SVG", "PNG"].map(save);
    const tools = html("span", { className: "plot-tools" }); // on one line, together
    tools.append(smoothing, log, svg, png);
    bar.append(legend, tools);
    made.svg = make("svg", { role: "slider", tabindex: "0", class: "plot", xmlns: NS });
    made.passed = html("p", { className: "plot-passed" });
    made.note = html("p", { className: "plot-note", textContent: NOTE });
    root.replaceChildren(bar, made.svg, made.passed, made.note);
    root.__plot = made;
    smooth.addEventListener("input", () => { made.smooth = Number(smooth.value); paint(); });
    log.addEventListener("click", () => {
      made.log = !made.log;
      log.setAttribute("aria-pressed", String(made.log));
      paint();
    });
    svg.addEventListener("click", () => download("svg", new Blob([standalone().text], { type: "image/svg+xml" })));
    png.addEventListener("click", savePng);
    made.svg.addEventListener("pointermove", (event) => {
      made.at = made.fromPixel(event.clientX - made.svg.getBoundingClientRect().left);
      paint();
    });
    made.svg.addEventListener("pointerleave", () => { made.at = null; paint(); });
    made.svg.addEventListener("keydown", (event) => {
      const way = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key], end = made.all.length - 1;
      if (end < 0 || !(way || ["Home", "End"].includes(event.key))) return;
      event.preventDefault();
      const now = made.at === null ? end : made.all.indexOf(nearest(made.all, made.at)[0]);
      made.at = made.all[{ Home: 0, End: end }[event.key] ?? Math.min(end, Math.max(0, now + way))];
      paint();
    });
    made.svg.addEventListener("blur", () => { made.at = null; paint(); });
    new ResizeObserver(() => paint()).observe(root);
    return made;
  }

  // ---- numbers ----------------------------------------------------------------------------------------------------
  function nearest(points, x) { // [point or x, ...] -> [the nearest one]
    const place = (one) => (Array.isArray(one) ? one[0] : one);
    return points.length ? [points.reduce((a, b) => (Math.abs(place(b) - x) < Math.abs(place(a) - x) ? b : a))] : [];
  }
  function last(points) {
    return points.length ? points[points.length - 1] : null;
  }
  function at(x) { // the nearest point of each line, or none where a line has not come that far
    return view.lines.map(({ kind, long }) => [kind, long, nearest(view.points[kind], x)[0]])
      .filter(([, , point]) => point && Math.abs(point[0] - x) <= Math.max(view.end / 12, view.data.axis === "epochs" ? 0 : 1));
  }
  function words(x) {
    const found = at(x);
    const losses = found.map(([, label, point]) => `${label} ${point[1].toFixed(4)}`);
    return [`Step ${Math.max(...found.map(([, , point]) => point[2])).toLocaleString("en")}`, ...losses].join(", ") + ".";
  }
  function smoothed(points) { // an exponential moving average without the bias towards its start, as in Adam
    let mean = 0, weight = 0;
    return points.map(([x, y, step]) => {
      mean = view.smooth * mean + (1 - view.smooth) * y;
      weight = view.smooth * weight + (1 - view.smooth);
      return [x, mean / weight, step];
    });
  }
  function ticks(low, high, count) {
    const rough = (high - low) / count || 1;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
    const found = [];
    for (let t = Math.ceil(low / step) * step; t <= high + step / 1e6; t += step) found.push(Number(t.toPrecision(12)));
    return found;
  }
  function timeTicks(end, count) {
    const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400];
    const step = steps.find((s) => end / s <= count) || 86400;
    const found = [];
    for (let t = 0; t <= end + 1e-6; t += step) found.push(t);
    return found;
  }
  function clock(seconds) {
    const whole = Math.round(seconds); // first, or 59.6 would be 0:60
    const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
    const two = (n) => String(n).padStart(2, "0");
    return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
  }

  // ---- drawing ----------------------------------------------------------------------------------------------------
  function paint() {
    const { axis = "step", end = 1, waiting = "", baselines = [], passed = "", warning = "", live = false } = view.data;
    const below = passed || warning;
    view.note.hidden = !baselines.length;
    view.passed.hidden = !baselines.length && !below;
    view.passed.setAttribute("aria-live", live ? "polite" : "off");
    if (view.passed.textContent !== below) view.passed.textContent = below;
    const shown = ({ kind, points }) => (view.smooth && kind !== "val" ? smoothed(points) : points); // val is smooth enough
    view.points = Object.fromEntries(view.lines.map((line) => [line.kind, shown(line)]));
    view.end = end;
    const every = view.lines.flatMap(({ points }) => points);
    view.all = [...new Set(every.map(([x]) => x))].sort((a, b) => a - b);
    paintLegend();
    const width = Math.max(260, root.clientWidth), right = 58;
    const losses = Object.values(view.points).flat().map(([, y]) => y);
    view.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    view.svg.setAttribute("height", HEIGHT);
    view.svg.setAttribute("aria-label", `Loss over ${AXES[axis][1]}`);
    paintValue();
    view.svg.dataset.points = view.lines.length ? view.lines[0].points.length : 0;
    view.svg.dataset.step = Math.max(0, ...every.map(([, , step]) => step)) || (losses.length ? 0 : "");
    view.fromPixel = (px) => ((px - LEFT) / (width - LEFT - right)) * end;
    if (!losses.length) { // nothing is drawn that was not measured
      const middle = { x: width / 2, y: HEIGHT / 2, "text-anchor": "middle", class: "plot-axis" };
      view.svg.replaceChildren(make("text", middle, waiting));
      view.note.style.visibility = "hidden"; // it keeps its place
      return;
    }
    let low = Math.min(...losses), high = Math.max(...losses);
    const pad = Math.max((high - low) * 0.06, 0.02);
    low = Math.max(low - pad, view.log ? low * 0.95 : 0);
    high += pad;
    const scale = view.log ? Math.log : (y) => y;
    const x = (value) => LEFT + (value / Math.max(end, 1e-9)) * (width - LEFT - right);
    const y = (loss) => TOP + ((scale(high) - scale(loss)) / (scale(high) - scale(low) || 1)) * (HEIGHT - TOP - BOTTOM);
    const parts = [make("text", { x: 2, y: 12, class: "plot-axis" }, "loss (nats per character)")];
    for (const t of ticks(low, high, 5)) {
      parts.push(make("line", { x1: LEFT, x2: width - right, y1: y(t), y2: y(t), class: "plot-grid" }));
      parts.push(make("text", { x: LEFT - 8, y: y(t) + 4, "text-anchor": "end" }, String(t)));
    }
    const many = width < 500 ? 3 : 6;
    for (const t of axis === "seconds" ? timeTicks(end, many) : ticks(0, end, many)) {
      parts.push(make("text", { x: x(t), y: HEIGHT - 22, "text-anchor": "middle" }, axis === "seconds" ? clock(t) : t.toLocaleString("en")));
    }
    const label = AXES[axis][0];
    parts.push(make("text", { x: (LEFT + width - right) / 2, y: HEIGHT - 4, "text-anchor": "middle", class: "plot-axis" }, label));
    const within = baselines.filter(({ loss }) => loss > low && loss < high);
    view.note.style.visibility = within.length ? "" : "hidden";
    for (const { loss } of within) {
      parts.push(make("line", { x1: LEFT, x2: width - right, y1: y(loss), y2: y(loss), class: "plot-baseline" }));
    }
    for (const { kind } of view.lines) {
      const points = view.points[kind];
      const path = "M" + points.map(([a, b]) => x(a).toFixed(1) + "," + y(b).toFixed(1)).join("L");
      if (points.length) parts.push(make("path", { d: path, class: "plot-line plot-" + kind }));
    }
    const val = view.points.val || [];
    for (const [a, b] of val) parts.push(make("circle", { cx: x(a), cy: y(b), r: 2.5, class: "plot-dot" }));
    const newest = ends(x, y);
    parts.push(...names(within, y, width - right, newest));
    if (view.at === null) parts.push(...newest, ...best(x, y, val, newest));
    else parts.push(...hover(x, y, width));
    view.svg.replaceChildren(...parts);
  }
  function latest() {
    return `Latest ${view.lines.map(({ long, points }) => `${long} ${last(points)?.[1].toFixed(4) ?? "none yet"}`).join(", ")}.`;
  }
  function paintValue() { // what screen readers read; while it has the focus, they would announce each new point
    if (view.at === null && document.activeElement === view.svg) return;
    const isAt = view.at !== null && at(view.at).length > 0;
    const now = (isAt ? nearest(view.all, view.at)[0] : last(view.all)) ?? 0;
    const value = { min: 0, max: Math.max(view.end, now), now, text: isAt ? words(view.at) : latest() };
    for (const [key, of] of Object.entries(value)) view.svg.setAttribute("aria-value" + key, of);
  }
  function paintLegend() { // again only if other runs are compared
    const names = JSON.stringify(view.lines.map(({ long }) => long));
    if (view.legend.dataset.names === names) return;
    view.legend.dataset.names = names;
    view.legend.replaceChildren(...view.lines.map(({ kind, long }) =>
      Object.assign(document.createElement("span"), { className: "plot-key plot-" + kind, textContent: long })));
  }
  function ends(x, y) { // the newest losses, next to the ends of their lines, and apart from each other
    const found = view.lines.map(({ kind }) => [kind, last(view.points[kind])]).filter(([, point]) => point)
      .sort(([, a], [, b]) => y(a[1]) - y(b[1]));
    const heights = found.map(([, point]) => y(point[1]) + 4);
    for (let i = 1; i < heights.length; i++) heights[i] = Math.max(heights[i], heights[i - 1] + 15);
    for (let i = heights.length - 1, most = HEIGHT - BOTTOM + 4; i >= 0; i--, most = heights[i + 1] - 15) {
      heights[i] = Math.min(heights[i], most);
    }
    return found.map(([name, point], i) =>
      make("text", { x: x(point[0]) + 11, y: heights[i], class: "plot-end plot-" + name }, point[1].toFixed(3)));
  }
  function names(baselines, y, right, newest) { // at the ends of their lines; moved up where another text stands
    const taken = newest.filter((text) => Number(text.getAttribute("x")) + 40 > right).map((text) => Number(text.getAttribute("y")));
    const parts = [];
    for (const { label, loss } of [...baselines].sort((a, b) => a.loss - b.loss)) {
      let height = y(loss) + 4;
      for (let moved = true; moved; ) {
        const other = taken.find((one) => Math.abs(one - height) < 12.5);
        moved = other !== undefined;
        if (moved) height = other - 13;
      }
      if (height < TOP - 4) break; // no room is left above
      taken.push(height);
      parts.push(make("path", { d: `M${right},${y(loss).toFixed(1)}l5,${(height - 4 - y(loss)).toFixed(1)}`, class: "plot-baseline" }));
      parts.push(make("text", { x: right + 7, y: height, class: "plot-baseline-name" }, label));
    }
    return parts;
  }
  function best(x, y, val, newest) { // the evaluation whose weights are kept, unless it is the newest, whose loss is shown already
    if (val.length < 2) return [];
    const lowest = val.reduce((a, b) => (b[1] < a[1] ? b : a));
    const ring = make("circle", { cx: x(lowest[0]), cy: y(lowest[1]), r: 5.5, class: "plot-best" });
    if (lowest === val[val.length - 1]) return [ring];
    const others = newest.map((text) => ["x", "y"].map((key) => Number(text.getAttribute(key)))); // they begin there
    const below = y(lowest[1]) + 20, at = below > HEIGHT - BOTTOM ? y(lowest[1]) - 12 : below; // not among the times
    const near = others.some(([left, height]) => Math.abs(left + 20 - x(lowest[0])) < 62 && Math.abs(height - at) < 14);
    const where = { x: x(lowest[0]) - (near ? 36 : 0), y: at, "text-anchor": "middle", class: "plot-end plot-val" };
    return [ring, make("text", where, "best " + lowest[1].toFixed(3))];
  }
  function hover(x, y, width) {
    const found = at(view.at);
    if (!found.length) return [];
    const [when, , step] = found.map(([, , point]) => point).reduce((a, b) => (b[2] > a[2] ? b : a));
    const value = nearest(view.all, view.at)[0], place = x(value);
    const runs = view.data.lines; // they need not be at the same step
    const heading = { seconds: clock(runs ? value : when), epochs: value.toFixed(1) + " epochs" }[view.data.axis] || "";
    const wide = Math.min(runs ? 290 : 200, width - 4); // of the box, which has room for so many letters
    const steps = "step " + step.toLocaleString("en");
    const lines = [runs && heading ? [heading, ""] : [steps, heading]];
    const parts = [make("line", { x1: place, x2: place, y1: TOP, y2: HEIGHT - BOTTOM, class: "plot-cursor" })];
    for (const [name, label, point] of found) {
      parts.push(make("circle", { cx: x(point[0]), cy: y(point[1]), r: 4, class: "plot-mark plot-" + name }));
      lines.push([`${label.replace(/ loss$/, "").slice(0, (wide - 122) / 7)} ${point[1].toFixed(4)}`, `${(point[1] / Math.LN2).toFixed(3)} bits`]);
    }
    const flip = place + wide + 16 > width;
    const left = Math.max(2, flip ? place - wide - 10 : place + 10); // on a phone, neither side has room
    const box = make("g", { transform: `translate(${left},${TOP + 4})`, class: "plot-tip" });
    box.append(make("rect", { width: wide, height: 12 + 18 * lines.length, rx: 6 }));
    lines.forEach(([a, b], i) => {
      box.append(make("text", { x: 10, y: 20 + 18 * i }, a));
      box.append(make("text", { x: wide - 10, y: 20 + 18 * i, "text-anchor": "end" }, b));
    });
    return [...parts, box];
  }

  // ---- downloads --------------------------------------------------------------------------------------------------
  function standalone() { // the picture with its colors inside, on the background of the page
    const copy = view.svg.cloneNode(true);
    const background = getComputedStyle(document.body).backgroundColor;
    const shown = [view.svg, ...view.svg.querySelectorAll("*")];
    [copy, ...copy.querySelectorAll("*")].forEach((node, i) => {
      const style = getComputedStyle(shown[i]);
      const kept = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linejoin", "paint-order", "font-size", "font-weight", "font-family"];
      node.setAttribute("style", kept.map((key) => `${key}:${style.getPropertyValue(key)}`).join(";"));
    });
    const { width, height } = view.svg.viewBox.baseVal, head = heading(width), top = head.bottom;
    copy.append(...head.parts);
    copy.setAttribute("role", "img"); // it can't be operated any more
    copy.setAttribute("aria-label", `${copy.getAttribute("aria-label")}. ${latest()}`);
    for (const name of ["tabindex", ...["min", "max", "now", "text"].map((key) => "aria-value" + key)]) copy.removeAttribute(name);
    copy.setAttribute("viewBox", `0 ${-top} ${width} ${height + top}`);
    copy.setAttribute("width", width);
    copy.setAttribute("height", height + top);
    copy.prepend(make("rect", { y: -top, width, height: height + top, style: `fill:${background}` }));
    return { text: new XMLSerializer().serializeToString(copy), width, height: height + top };
  }
  function heading(width) { // above the picture: the run's name, and each line's key, in as many rows as they take
    const { font, color } = (({ fontFamily, color }) => ({ font: fontFamily, color }))(getComputedStyle(view.legend));
    const pen = document.createElement("canvas").getContext("2d");
    const parts = [], style = (weight) => `fill:${color};font:${weight} 12px ${font}`;
    pen.font = `12px ${font}`;
    let x = 2, y = 0;
    for (const key of view.legend.children) {
      const wide = 24 + pen.measureText(key.textContent).width;
      if (x > 2 && x + wide > width) [x, y] = [2, y + 18];
      const color = getComputedStyle(key, "::before").backgroundColor;
      parts.push(make("rect", { x, y: y - 5.5, width: 16, height: 3, rx: 1.5, style: `fill:${color}` }));
      parts.push(make("text", { x: x + 22, y, style: style(400) }, key.textContent));
      x += wide + 14;
    }
    const rows = y + 18, name = view.data.lines ? "Validation loss" : view.data.name || "";
    const box = make("g", { transform: `translate(0,${-rows + 8})` });
    box.append(...parts);
    return { parts: [make("text", { x: 2, y: -rows - 12, style: style(600) }, name), box], bottom: rows + 30 };
  }
  function download(ending, blob) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${view.data.name || "loss"}-loss.${ending}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }
  function savePng() {
    const picture = new Image(), { text, width, height } = standalone();
    picture.onload = () => {
      const canvas = Object.assign(document.createElement("canvas"), { width: 2 * width, height: 2 * height });
      canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
      canvas.toBlob((blob) => download("png", blob), "image/png");
    };
    picture.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(text);
  }
}
