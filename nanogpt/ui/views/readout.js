// What could be predicted after each block: draw(root, {tokens, at, depths, losses, names, likeliest, bits, words, note}).
//
// `likeliest[depth][place]` are pairs of a token's number in `names` and its percentage, `bits[depth][place]` what the text's
// own token costs there. The text is one tab stop and the depths another, both with arrow keys: the text chooses a place, the
// depths color the text. Without tokens, only the losses are drawn, as they come in.
function draw(root, data) {
  const { tokens = [], at = 0, depths = [], losses = [], names = [], likeliest = [], bits = [], words = "", note = "" } = data || {};
  const { area, say } = aloud(root);
  const html = (tag, className, text = "") => Object.assign(document.createElement(tag), { className, textContent: text });
  const WIDTH = 320, LEFT = 24, STEP = (WIDTH - 2 * LEFT) / Math.max(1, depths.length - 1), LABEL = 29; // of the curve
  const said = html("p", "characters-words readout-words", words);
  say(words);
  if (!tokens.length) return area.replaceChildren(...(depths.length ? [curve(), said] : []));

  let depth = Math.min(root.__depth ?? depths.length - 1, depths.length - 1), place = Math.min(at, tokens.length);
  const box = html("div", "characters readout-text"), title = html("p", "attention-title"), here = html("p", "attention-title");
  here.setAttribute("role", "status");
  const { cells, mark } = textCells(box, tokens, {
    label: "Text, colored by the surprise of the chosen read-out. Move with the arrow keys.",
    name: (i) => `${spoken(tokens[i])}, ${bits[depth][i]} bits`,
    chosen: (i) => { place = i; fill(); },
  });
  const list = html("div", "readout-depths");
  list.setAttribute("role", "listbox");
  list.tabIndex = 0;
  const rows = depths.map((name, i) => {
    const row = html("div", "readout-depth"), guesses = html("span", "readout-guesses");
    row.setAttribute("role", "option");
    row.id = `readout-${i}`;
    row.append(html("b", "", name), guesses, html("i", "", losses[i] === undefined ? "" : losses[i].toFixed(2)));
    row.addEventListener("click", () => choose(i));
    list.append(row);
    return { row, guesses };
  });
  list.addEventListener("keydown", (event) => {
    const to = { ArrowDown: depth + 1, ArrowUp: depth - 1, Home: 0, End: depths.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    choose(Math.max(0, Math.min(depths.length - 1, to)));
  });
  const left = html("div", "readout-left"), right = html("div", "readout-right"), parts = html("div", "readout-parts");
  left.append(title, box, ...(note ? [html("p", "expected-hint", note)] : []));
  right.append(here, list, html("p", "expected-hint", "Right: the loss on held-out text, in nats per character. Outlined: what the text has."), curve());
  parts.append(left, right);
  area.replaceChildren(said, parts);
  mark(place);
  choose(depth);

  function choose(i) {
    depth = root.__depth = i;
    title.replaceChildren("Colored by the surprise after: ", html("b", "", depths[i].toLowerCase()));
    cells.forEach((cell, k) => cell.style.setProperty("--strength", `${k < tokens.length ? Math.min(bits[depth][k], 8) * 8 : 0}%`));
    rows.forEach(({ row }, k) => row.setAttribute("aria-selected", String(k === i)));
    list.setAttribute("aria-activedescendant", `readout-${i}`);
    for (const dot of root.querySelectorAll("circle")) dot.classList.toggle("readout-now", Number(dot.dataset.depth) === i);
    label(root, i);
    fill();
  }
  function fill() {
    const before = tokens.slice(Math.max(0, place - 12), place).join("").replaceAll("\n", "↵");
    here.replaceChildren(...(place ? ["After “", html("b", "", before), "”, the guesses:"] : ["At the beginning, the guesses:"]));
    list.setAttribute("aria-label", `Guesses after each block for what follows ${before || "the beginning"}`);
    rows.forEach(({ row, guesses }, d) => {
      const five = likeliest[d][place];
      guesses.replaceChildren(...five.map(([number, percent]) => {
        const guess = html("span", names[number] === tokens[place] ? "readout-guess readout-right-one" : "readout-guess");
        guess.style.setProperty("--strength", `${Math.round(0.7 * percent)}%`);
        guess.append(html("code", "", visible(names[number])), html("small", "", percent < 1 ? "<1" : String(Math.round(percent))));
        return guess;
      }));
      const heard = five.map(([number, percent]) => `${spoken(names[number])} ${Math.round(percent)} percent`).join(", ");
      row.setAttribute("aria-label", `${depths[d]}: ${heard}; loss ${losses[d]}`);
    });
  }
  function label(svg, chosen) { // where not every loss has room: those of the chosen read-out, the last and the first
    const last = losses.length - 1, fits = (i, ...others) => others.every((other) => Math.abs(i - other) * STEP >= LABEL);
    for (const text of svg.querySelectorAll(".readout-loss")) {
      const i = Number(text.dataset.depth);
      const shown = STEP >= LABEL || i === chosen || (i === last && fits(i, chosen)) || (i === 0 && fits(i, chosen, last));
      text.style.display = shown ? "" : "none";
    }
  }
  function curve() {
    const NS = "http://www.w3.org/2000/svg", HEIGHT = 110, every = Math.ceil(16 / STEP);
    const make = (tag, attributes, text = "") => {
      const node = document.createElementNS(NS, tag);
      for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
      node.textContent = text;
      return node;
    };
    const svg = make("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "readout-curve", role: "img" });
    svg.setAttribute("aria-label", `Loss after each block: ${losses.map((loss, i) => `${depths[i]} ${loss.toFixed(2)}`).join(", ")}.`);
    const most = Math.max(...losses, 1), least = Math.min(...losses, most - 0.5);
    const x = (i) => LEFT + i * STEP, y = (loss) => 26 + ((most - loss) / (most - least)) * (HEIGHT - 56);
    if (losses.length > 1) svg.append(make("path", { class: "readout-line", d: "M" + losses.map((loss, i) => `${x(i)},${y(loss)}`).join("L") }));
    losses.forEach((loss, i) => svg.append(
      make("circle", { cx: x(i), cy: y(loss), r: 4, "data-depth": i }),
      make("text", { x: x(i), y: y(loss) - 9, "text-anchor": "middle", class: "readout-loss", "data-depth": i }, loss.toFixed(2)),
    ));
    label(svg, losses.length - 1);
    depths.forEach((name, i) => i % every === 0 && svg.append(make("text", { x: x(i), y: HEIGHT - 6, "text-anchor": "middle", class: "readout-unit" }, i ? String(i) : "emb.")));
    return svg;
  }
}
