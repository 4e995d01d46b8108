// A finished run, replayed once: draw(root, {name, val, train, samples}). A point is [step, loss], a sample [step, text].
//
// The curve draws itself while the samples go from noise to words. The slider goes back to any sample; with reduced motion
// only the end is shown.
function draw(root, data) {
  if (!data || !data.samples || !data.samples.length || root.__replay) return;
  root.__replay = true;
  const NS = "http://www.w3.org/2000/svg", WIDTH = Math.max(260, root.clientWidth - 34), HEIGHT = 110;
  const SECONDS = 9, FRAMES = 20, EARLY = 3; // frames per second: as smooth as typing, at a third of the work
  const html = (tag, properties) => Object.assign(document.createElement(tag), properties);
  const make = (tag, attributes) => {
    const node = document.createElementNS(NS, tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    return node;
  };
  const { name, val, train, samples } = data;
  const end = samples[samples.length - 1][0] || 1;
  const losses = [...val, ...train].map(([, loss]) => loss);
  const low = Math.log(Math.min(...losses)), high = Math.log(Math.max(...losses));
  const x = (step) => 8 + (step / end) * (WIDTH - 16);
  const y = (loss) => 8 + ((high - Math.log(loss)) / (high - low || 1)) * (HEIGHT - 16);

  const box = html("figure", { className: "replay" });
  const caption = html("figcaption", { className: "replay-caption" });
  const svg = make("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", class: "replay-plot" });
  svg.setAttribute("aria-label", `Loss of the model ${name} while it trained, falling from ${val[0][1].toFixed(2)} to ${val[val.length - 1][1].toFixed(2)}.`);
  const lines = [["train", train], ["val", val]].map(([kind, points]) => [make("path", { class: "plot-line plot-" + kind }), points]);
  const dot = make("circle", { r: 4, class: "plot-dot" });
  const scale = make("text", { x: WIDTH - 8, y: 14, "text-anchor": "end", class: "replay-scale" });
  scale.textContent = "loss, log scale";
  svg.append(...lines.map(([path]) => path), dot, scale);
  const text = html("pre", { className: "replay-text", tabIndex: 0 });
  text.setAttribute("role", "region");
  text.setAttribute("aria-label", "Sample from the model at this step");
  const controls = html("div", { className: "replay-controls" });
  const slider = html("input", { type: "range", min: 1, max: samples.length, step: 1, value: samples.length });
  slider.setAttribute("aria-label", "Step of the sample");
  const again = html("button", { type: "button", textContent: "Replay" });
  controls.append(slider, again);
  box.append(caption, svg, text, controls);
  root.replaceChildren(box);

  function show(step, sample, characters) {
    for (const [path, points] of lines) {
      const seen = points.filter(([at]) => at <= step);
      path.setAttribute("d", seen.length ? "M" + seen.map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`).join("L") : "");
    }
    const newest = val.filter(([at]) => at <= step).pop() || val[0];
    dot.setAttribute("cx", x(newest[0]));
    dot.setAttribute("cy", y(newest[1]));
    const words = [["", `step ${samples[sample][0].toLocaleString("en")}`], ["val", `validation loss ${newest[1].toFixed(2)}`]];
    const trained = train.filter(([at]) => at <= step).pop();
    if (trained) words.push(["train", `training loss ${trained[1].toFixed(2)}`]);
    caption.replaceChildren(...words.map(([kind, textContent]) => html("span", { className: kind && "replay-key replay-" + kind, textContent })));
    text.textContent = samples[sample][1].slice(0, characters);
    slider.value = sample + 1;
    slider.setAttribute("aria-valuetext", `step ${samples[sample][0]}`);
  }
  const rest = (sample) => show(samples[sample][0], sample);
  let playing = 0;
  function play() {
    const began = performance.now(), mine = ++playing;
    const frame = () => {
      if (mine !== playing || !root.isConnected) return;
      const share = Math.min(1, (performance.now() - began) / (1000 * SECONDS));
      const unit = share * (samples.length + EARLY); // one per sample, and EARLY more for the first, which is noise
      const sample = Math.min(samples.length - 1, Math.max(0, Math.floor(unit - EARLY)));
      const part = sample ? unit - EARLY - sample : unit / (EARLY + 1); // of this sample's time, in which it types itself
      const [from, to] = [samples[sample][0], (samples[sample + 1] || [end])[0]];
      show(from + part * (to - from), sample, share === 1 ? undefined : Math.ceil(part * samples[sample][1].length));
      if (share < 1) setTimeout(frame, 1000 / FRAMES);
    };
    frame();
  }
  slider.addEventListener("input", () => { playing++; rest(Number(slider.value) - 1); });
  again.addEventListener("click", play);
  rest(samples.length - 1);
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  const seen = new IntersectionObserver(([entry]) => {
    if (!entry.isIntersecting) return;
    seen.disconnect();
    play();
  });
  seen.observe(root);
}
