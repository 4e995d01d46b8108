// What a run wrote at one of its steps, and its milestones:
// draw(root, {texts: [{step, text}, …], at, prompt, milestones: [{step, at, says}, …], curve: [[step, loss], …], note}); `at`
// counts from 1. The milestones are numbered on the curve of the training loss, over the steps on a log scale.
//
// The milestones are one tab stop with arrow keys. Choosing one sets `at` and triggers the event "input". The curve is drawn
// again when its room changes.
function draw(root, data) {
  const { texts = [], at = 0, prompt = "", milestones = [], curve = [], note = "" } = data || {};
  if (!texts.length) return root.replaceChildren();
  const html = (tag, className, content = "") => Object.assign(document.createElement(tag), { className, textContent: content });
  const now = Math.max(1, Math.min(texts.length, at || texts.length)), { step, text } = texts[now - 1];
  const focused = root.contains(document.activeElement) && document.activeElement.className;
  const number = (value) => value.toLocaleString("en");

  const title = html("p", "timemachine-title", step ? `After ${number(step)} step${step === 1 ? "" : "s"}, the model writes:` : "Before training, the model writes:");
  const box = html("div", "characters timemachine-text");
  box.dir = "auto";
  box.tabIndex = 0;
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", `The text at step ${number(step)}`);
  box.append(html("b", "", prompt), text);
  const shown = [title, box];

  if (milestones.length) {
    const list = html("div", "timemachine-list");
    list.setAttribute("role", "listbox");
    list.setAttribute("aria-label", "Milestones. Choose one to go there");
    list.tabIndex = 0;
    const chosen = milestones.findIndex((one) => one.at + 1 === now && one.says === root.__milestone);
    milestones.forEach((one, i) => {
      const option = html("div", "timemachine-option");
      option.setAttribute("role", "option");
      option.id = `milestone-${i}`;
      option.setAttribute("aria-selected", String(i === chosen));
      option.dataset.reached = String(one.at + 1 <= now);
      option.append(html("b", "timemachine-number", String(i + 1)), html("span", "", `${one.says}${/[.”]$/.test(one.says) ? "" : ","} at step ${number(one.step)}`));
      option.addEventListener("click", () => choose(i));
      list.append(option);
    });
    if (chosen >= 0) list.setAttribute("aria-activedescendant", `milestone-${chosen}`);
    list.addEventListener("keydown", (event) => {
      const to = { ArrowDown: chosen + 1, ArrowUp: Math.max(0, chosen - 1), Home: 0, End: milestones.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      choose(Math.min(milestones.length - 1, to));
    });
    shown.push(html("p", "timemachine-title", "Milestones"), ...(curve.length > 1 ? [picture()] : []), list);
  }
  if (note) shown.push(html("p", "timemachine-note", note));
  root.replaceChildren(...shown);
  if (focused) root.querySelector(`[class="${focused}"]`)?.focus();
  root.__fit = () => {
    const shown = root.querySelector(".timemachine-curve");
    if (shown && root.clientWidth && shown.viewBox.baseVal.width !== room()) shown.replaceWith(picture());
  };
  if (!root.__fits) (root.__fits = new ResizeObserver(() => root.__fit())).observe(root);

  function room() {
    return Math.min(720, Math.max(260, root.clientWidth));
  }
  function picture() {
    const NS = "http://www.w3.org/2000/svg", WIDTH = room(), HEIGHT = 150, LEFT = 34, BOTTOM = 34;
    const make = (tag, attributes, content = "") => {
      const node = document.createElementNS(NS, tag);
      for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
      node.textContent = content;
      return node;
    };
    const losses = curve.map(([, loss]) => loss), high = Math.max(...losses), low = Math.min(...losses);
    const most = Math.max(curve[curve.length - 1][0], texts[texts.length - 1].step), log = (of) => Math.log10(of + 1);
    const x = (of) => LEFT + (log(of) / log(most || 1)) * (WIDTH - LEFT - 14);
    const y = (loss) => 14 + ((high - loss) / (high - low || 1)) * (HEIGHT - BOTTOM - 24);
    const lossAt = (of) => { // between the logged steps, along the line
      const next = curve.findIndex(([at]) => at >= of), [b, after] = curve[next < 0 ? curve.length - 1 : next];
      const [a, before] = curve[Math.max(0, next - 1)];
      return b > a && of < b ? before + ((after - before) * (log(of) - log(a))) / (log(b) - log(a)) : after;
    };
    const svg = make("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT, class: "timemachine-curve", role: "img" });
    const passed = milestones.map(({ says, step: of }) => `${says} at step ${number(of)}`).join("; ");
    svg.setAttribute("aria-label", `Training loss from ${losses[0].toFixed(2)} to ${losses[losses.length - 1].toFixed(2)}. ${passed}.`);
    for (const of of [0, 1, 10, 100, 1000, 10000, 100000].filter((one) => one <= most)) {
      svg.append(make("line", { x1: x(of), x2: x(of), y1: 10, y2: HEIGHT - BOTTOM, class: "timemachine-grid" }));
      svg.append(make("text", { x: x(of), y: HEIGHT - 18, "text-anchor": "middle" }, number(of)));
    }
    svg.append(make("text", { x: WIDTH / 2, y: HEIGHT - 3, "text-anchor": "middle" }, "step (log scale)"));
    for (const loss of [high, low]) svg.append(make("text", { x: LEFT - 6, y: y(loss) + 4, "text-anchor": "end" }, loss.toFixed(1)));
    svg.append(make("path", { d: "M" + curve.map(([of, loss]) => `${x(of).toFixed(1)},${y(loss).toFixed(1)}`).join("L"), class: "timemachine-line" }));
    svg.append(make("line", { x1: x(step), x2: x(step), y1: 10, y2: HEIGHT - BOTTOM, class: "timemachine-now" }));
    milestones.forEach((one, i) => { // those of the same step stand on top of each other
      const same = milestones.slice(0, i).filter((other) => other.step === one.step).length;
      const dot = make("g", { transform: `translate(${x(one.step).toFixed(1)},${(y(lossAt(one.step)) - 18 * same).toFixed(1)})`, class: "timemachine-dot" });
      dot.append(make("circle", { r: 8 }), make("text", { y: 4, "text-anchor": "middle" }, String(i + 1)));
      dot.addEventListener("click", () => choose(i));
      svg.append(dot);
    });
    return svg;
  }
  function choose(i) {
    root.__milestone = milestones[i].says;
    props.value = { ...data, at: milestones[i].at + 1 };
    draw(root, props.value);
    trigger("input");
  }
}
