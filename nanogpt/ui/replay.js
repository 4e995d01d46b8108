// A finished run, replayed once: draw(root, {name, val, train, samples}). A point is [step, loss], a sample [step, text].
//
// The curve draws itself while the samples go from noise to words. The slider goes back to any sample; with reduced motion
// only the end is shown.
function draw(root, data) {
  if (!data || !data.samples || !data.samples.length || root.__replay) return;
  root.__replay = true;
  const NS = "http://www.w3.org/2000/svg", WIDTH = Math.max(260, root.clientWidth - 34), HEIGHT = 110, SECONDS = 9;
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
  svg.append(...lines.map(([path]) => path), dot);
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
    caption.textContent = `step ${samples[sample][0].toLocaleString("en")} · validation loss ${newest[1].toFixed(2)}`;
    text.textContent = samples[sample][1].slice(0, characters);
    slider.value = sample + 1;
    slider.setAttribute("aria-valuetext", `step ${samples[sample][0]}`);
  }
  const rest = (sample) => show(samples[sample][0], sample);
  let playing = 0;
  function play() {
    const began = performance.now(), mine = ++playing;
    const frame = (now) => {
      if (mine !== playing || !root.isConnected) return;
      const share = Math.min(1, (now - began) / (1000 * SECONDS));
      const sample = samples.reduce((newest, [step], i) => (step <= share * end ? i : newest), 0);
      const [from, to] = [samples[sample][0], sample + 1 < samples.length ? samples[sample + 1][0] : end + 1];
      const typed = Math.max(share, (share * end - from) / (to - from)); // each sample types itself until the next
      show(share * end, sample, share === 1 ? undefined : Math.ceil(typed * samples[sample][1].length));
      if (share < 1) requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
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
