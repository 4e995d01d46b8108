// Where the heads look: draw(root, {tokens, at, heads: [{key, name, says, cost, small}, …], size, head, matrix, words, note}).
//
// `small` is a picture of a head's attention, `size` x `size` bytes in base64; `matrix` is the whole attention of `head`,
// T x T bytes, the square root of each share so that small ones can be seen. The text is shaded by the row of the selected
// character. The heads are one tab stop with arrow keys; choosing one sets `head` and `at` and triggers `input`.
function draw(root, data) {
  const { tokens = [], at = 0, heads = [], size = 0, head = "", matrix = "", words = "", note = "" } = data || {};
  if (!tokens.length) return root.replaceChildren();
  const html = (tag, className, text = "") => Object.assign(document.createElement(tag), { className, textContent: text });
  const bytes = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const T = tokens.length, shares = bytes(matrix), look = looking(tokens, shares);
  const shown = heads.find(({ key }) => key === head) || heads[0];
  let now = Math.min(at, T - 1);

  const title = html("p", "attention-title"), said = html("p", "attention-said");
  title.append(html("b", "", shown.name), `: ${shown.says}`);
  said.setAttribute("role", "status");
  const box = html("div", "characters attention-text");
  const { cells, mark } = textCells(box, tokens, {
    label: "Text shaded by attention. Move with the arrow keys.",
    name: (i) => `${spoken(tokens[i])}, ${Math.round(100 * look.share(now, i))}%`,
    chosen: (i) => shade(Math.min(i, T - 1)),
  });
  const list = html("div", "attention-heads");
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", heads.some(({ cost }) => cost) ? "Heads, the most important first" : "Heads");
  list.tabIndex = 0;
  const options = heads.map(({ key, name, says, cost, small }) => {
    const option = html("div", "attention-head"), canvas = html("canvas", "");
    option.setAttribute("role", "option");
    option.setAttribute("aria-selected", String(key === shown.key));
    option.id = `attention-${key.replaceAll(".", "-")}`;
    paint(canvas, bytes(small), size);
    option.append(canvas, html("b", "", name), html("span", "", says), html("i", "", cost));
    option.addEventListener("click", () => choose(key));
    return option;
  });
  list.setAttribute("aria-activedescendant", `attention-${shown.key.replaceAll(".", "-")}`);
  list.append(...options);
  list.addEventListener("keydown", (event) => {
    const i = heads.indexOf(shown) + ({ ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key] || 0);
    if (heads[i] === shown || !heads[i]) return;
    event.preventDefault();
    choose(heads[i].key);
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
  const refocus = root.contains(document.activeElement) && document.activeElement.classList.contains("attention-heads");
  root.replaceChildren(parts, html("p", "characters-words", words));
  const chosen = options[heads.indexOf(shown)];
  list.scrollTop = Math.max(0, chosen.offsetTop - list.clientHeight / 2);
  if (refocus) list.focus({ preventScroll: true });
  mark(now);
  shade(now);

  function choose(key) {
    props.value = { ...props.value, head: key, at: now };
    trigger("input");
  }
  function shade(i) {
    now = i;
    look.shade(cells, i);
    said.textContent = `From the marked character it looks most at ${look.most(i)}.`;
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
