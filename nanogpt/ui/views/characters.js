// A text colored by surprise: draw(root, {tokens: [text, …], bits: [number, …], ranks: [number, …], at, words}).
//
// `at` is the selected token, or the number of tokens for the place after the last one. Selecting another one sets it and
// triggers `input`, once the keys rest.
function draw(root, data) {
  const { tokens = [], bits = [], ranks = [], at = 0, words = "" } = data || {};
  const html = (tag, className, text = "") => Object.assign(document.createElement(tag), { className, textContent: text });
  const box = html("div", "characters");
  let timer;
  const { cells, mark } = textCells(box, tokens, {
    label: "Text colored by surprise. Move with the arrow keys.",
    name: (i) => `${spoken(tokens[i])}, ${bits[i]} bits${ranks[i] ? `, choice ${ranks[i]}` : ""}`,
    chosen: (i) => {
      clearTimeout(timer);
      timer = setTimeout(() => { props.value = { ...props.value, at: i }; trigger("input"); }, 120);
    },
  });
  const strength = (of) => `${Math.min(of || 0, 8) * 8}%`;
  cells.forEach((cell, i) => cell.style.setProperty("--strength", strength(bits[i])));
  const scale = html("div", "characters-scale");
  scale.setAttribute("aria-hidden", "true");
  const steps = [0, 2, 4, 6, 8].map((of) => {
    const step = html("i", "", String(of));
    step.style.setProperty("--strength", strength(of));
    return step;
  });
  scale.append(html("span", "", "expected"), ...steps, html("span", "", "surprising (bits)"));
  root.replaceChildren(...(tokens.length ? [box, scale, html("p", "characters-words", words)] : []));
  if (tokens.length) mark(Math.min(at, tokens.length));
}
