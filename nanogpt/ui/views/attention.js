// Where the heads look: draw(root, {tokens, at, heads: [{key, name, says, cost, small}, …], size, head, matrix, words, note}).
//
// `small` is a picture of a head's attention, `size` x `size` bytes in base64; `matrix` is the whole attention of `head`,
// T x T bytes, the square root of each share so that small ones can be seen. The text is shaded by the row of the selected
// character. The heads are one tab stop with arrow keys; choosing one sets `head` and `at` and triggers `input`. Until the
// answer is drawn, the keys go on from the head that was chosen, and the answer leaves the text at the place where you are.
function draw(root, data) {
  const { tokens = [], at = 0, heads = [], size = 0, head = "", matrix = "", words = "", note = "" } = data || {};
  const view = root.__attention || (root.__attention = { text: "", wanted: "", now: 0 });
  const text = JSON.stringify(tokens);
  if (view.text !== text) Object.assign(view, { text, wanted: "", now: at });
  const { area, say } = aloud(root);
  if (!tokens.length) return area.replaceChildren();
  const html = (tag, className, text = "") => Object.assign(document.createElement(tag), { className, textContent: text });
  const bytes = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const T = tokens.length, shares = bytes(matrix), look = looking(tokens, shares);
  const shown = heads.find(({ key }) => key === head) || heads[0];
  view.now = Math.min(view.now, T - 1);
  if (view.wanted === shown.key) view.wanted = ""; // its answer

  const title = html("p", "attention-title"), said = html("p", "attention-said");
  title.append(html("b", "", shown.name), `: ${shown.says}`);
  const box = html("div", "characters attention-text");
  const { cells, mark } = textCells(box, tokens, {
    label: "Text shaded by attention. Move with the arrow keys.",
    name: (i) => `${spoken(tokens[i])}, ${Math.round(100 * look.share(view.now, i))}%`,
    chosen: (i) => shade(Math.min(i, T - 1)),
  });
  const list = html("div", "attention-heads");
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", heads.some(({ cost }) => cost) ? "Heads, the most important first" : "Heads");
  list.tabIndex = 0;
  const options = heads.map(({ key, name, says, cost, small }) => {
    const option = html("div", "attention-head"), canvas = html("canvas", "");
    option.setAttribute("role", "option");
    option.id = `attention-${key.replaceAll(".", "-")}`;
    paint(canvas, bytes(small), size);
    option.append(canvas, html("b", "", name), html("span", "", says), html("i", "", cost));
    option.addEventListener("click", () => choose(key));
    return option;
  });
  list.append(...options);
  list.addEventListener("keydown", (event) => {
    const way = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key], next = heads[selected() + way];
    if (!next) return;
    event.preventDefault();
    choose(next.key);
  });
  const whole = html("details", "attention-whole"), summary = html("summary", "", "The whole matrix of this head"), canvas = html("canvas", "");
  whole.open = Boolean(root.__open);
  whole.addEventListener("toggle", () => { root.__open = whole.open; });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `Attention of ${shown.name}: ${shown.says}. Each row is a character, each column a place it looks at.`);
  paint(canvas, shares, T);
  whole.append(summary, canvas);
  const parts = html("div", "attention-parts"), left = html("div", "attention-left");
  left.append(title, box, ...(note ? [html("p", "expected-hint", note)] : []), said, whole);
  parts.append(left, list);
  const focused = [".attention-heads", ".attention-text", "summary"].find((one) => root.querySelector(`${one}:focus`));
  area.replaceChildren(parts, html("p", "characters-words", words));
  select();
  if (focused) root.querySelector(focused).focus({ preventScroll: true });
  mark(view.now);
  shade(view.now);

  function selected() { // in the list: the head that was chosen, also before its answer is there
    return heads.indexOf(heads.find(({ key }) => key === view.wanted) || shown);
  }
  function select() {
    const option = options[selected()];
    for (const one of options) one.setAttribute("aria-selected", String(one === option));
    list.setAttribute("aria-activedescendant", option.id);
    list.scrollTop = Math.max(0, option.offsetTop - list.clientHeight / 2);
  }
  function choose(key) {
    view.wanted = key;
    select();
    props.value = { ...props.value, head: key, at: view.now };
    trigger("input");
  }
  function shade(i) {
    view.now = i;
    look.shade(cells, i);
    said.textContent = `From the marked character it looks most at ${look.most(i)}.`;
    say(said.textContent);
  }
  function paint(canvas, values, n) {
    canvas.width = canvas.height = n;
    const context = canvas.getContext("2d"), image = context.createImageData(n, n);
    const color = getComputedStyle(root).getPropertyValue("--color-accent").trim();
    context.fillStyle = color || "#3b82f6";
    context.fillRect(0, 0, 1, 1);
    const [r, g, b] = context.getImageData(0, 0, 1, 1).data;
    for (let i = 0; i < n * n; i++) image.data.set([r, g, b, values[i]], 4 * i);
    context.putImageData(image, 0, 0);
  }
}
