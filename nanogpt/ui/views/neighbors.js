// Characters and their neighbors: draw(root, {tokens, near: [[{token, cosine}, …], …], unmoved, maps: [{step, points, share}, …],
// at, words}). `unmoved` says of which characters the neighbors mean nothing.
//
// The characters are one tab stop with arrow keys; the selected one is joined to its neighbors on the map. With several maps,
// a slider goes through the steps of the training. All of it stays in the browser.
function draw(root, data) {
  const { tokens = [], near = [], unmoved = [], maps = [], at = 0, words = "" } = data || {};
  if (!tokens.length) return root.replaceChildren();
  const NS = "http://www.w3.org/2000/svg", SIZE = 460, EDGE = 18;
  const html = (tag, className, text = "") => Object.assign(document.createElement(tag), { className, textContent: text });
  const make = (tag, attributes, text = "") => {
    const node = document.createElementNS(NS, tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.textContent = text;
    return node;
  };
  let now = Math.min(at, tokens.length - 1), map = maps.length - 1;

  const box = html("div", "characters neighbors-text"), title = html("p", "attention-title"), list = html("ol", "guessing-bars");
  title.setAttribute("role", "status");
  const { mark } = textCells(box, tokens, {
    label: "Characters. Move with the arrow keys.",
    name: (i) => spoken(tokens[i]),
    chosen: (i) => { if (i < tokens.length) { now = i; paint(); } },
  });
  const left = html("div", ""), right = html("div", ""), parts = html("div", "neighbors-parts");
  left.append(box, title, list);
  const svg = make("svg", { viewBox: `0 0 ${SIZE} ${SIZE}`, class: "neighbors-map", role: "img" });
  const step = html("label", "neighbors-step"), slider = html("input", ""), said = html("span", "");
  Object.assign(slider, { type: "range", min: 0, max: maps.length - 1, step: 1, value: map });
  slider.setAttribute("aria-label", "Step of the training");
  slider.addEventListener("input", () => { map = Number(slider.value); paint(); });
  step.append(slider, said);
  right.append(svg, ...(maps.length > 1 ? [step] : []), html("p", "expected-hint", words));
  parts.append(left, right);
  root.replaceChildren(parts);
  mark(now);
  paint();

  function paint() {
    const { points, step: of } = maps[map], close = near[now];
    title.replaceChildren("Nearest to ", html("b", "", `“${visible(tokens[now])}”`), " (1 is the same direction)", unmoved[now] ? ", no more alike than by chance:" : ":");
    list.replaceChildren(...tokenBars(close.map(({ token, cosine }) => ({ token, p: cosine })), ({ p }) => p.toFixed(2)).children);
    const most = Math.max(1e-9, ...points.flat().map(Math.abs));
    const place = ([x, y]) => [SIZE / 2 + (x / most) * (SIZE / 2 - EDGE), SIZE / 2 - (y / most) * (SIZE / 2 - EDGE)];
    const [x, y] = place(points[now]), names = new Set(close.map(({ token }) => token));
    const shapes = [];
    tokens.forEach((token, i) => {
      if (!names.has(token)) return;
      const [u, v] = place(points[i]);
      shapes.push(make("line", { x1: x, y1: y, x2: u, y2: v, class: "neighbors-line" }));
    });
    tokens.forEach((token, i) => {
      const [u, v] = place(points[i]), kind = i === now ? "neighbors-now" : names.has(token) ? "neighbors-near" : "neighbors-far";
      const letter = make("text", { x: u, y: v + 5, "text-anchor": "middle", class: kind }, visible(token));
      letter.addEventListener("click", () => { now = i; mark(i); paint(); });
      shapes.push(letter);
    });
    svg.replaceChildren(...shapes);
    svg.setAttribute("aria-label", `Map of the characters at step ${of}. The list of neighbors says the same in words.`);
    said.textContent = `step ${of.toLocaleString("en")}`;
    slider.setAttribute("aria-valuetext", said.textContent);
  }
}
