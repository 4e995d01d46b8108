// What there is to do in each step of the tour: tourSteps(html)[key](area, lesson, {heard, ask, train, stop, button, complete}).
//
// Each fills its area and returns what to do with a message of the server. `heard` are the last messages, by what was wanted.
// `complete()` says that the step was done.
function tourSteps(html) {
  const NS = "http://www.w3.org/2000/svg";
  const status = (className = "tour-said") => {
    const made = html("div", className);
    made.setAttribute("role", "status");
    return made;
  };
  const telling = () => { // a message; screen readers announce `spoken` instead of one that counts
    const said = html("div", "tour-said"), aloud = status("spoken");
    const tell = (doing, spoken = doing) => {
      said.textContent = doing;
      if (aloud.textContent !== spoken) aloud.textContent = spoken;
    };
    return { tell, nodes: [said, aloud] };
  };
  const texts = (columns) => { // [[name, text], …] side by side
    const box = html("div", "tour-texts");
    for (const [name, text] of columns) {
      const column = html("section", "side"), piece = html("p", "side-text", text);
      piece.tabIndex = 0;
      piece.dir = "auto";
      column.setAttribute("aria-label", name);
      column.append(html("h4", "", name), piece);
      box.append(column);
    }
    return box;
  };
  const curves = (lines, what) => { // [{name, points: [[x, y], …]}, …], drawn from 0
    const WIDTH = 420, HEIGHT = 150, LEFT = 30, RIGHT = 12, TOP = 12, BOTTOM = 22;
    const make = (tag, attributes, text = "") => {
      const node = document.createElementNS(NS, tag);
      for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
      node.textContent = text;
      return node;
    };
    const every = lines.flatMap(({ points }) => points), most = Math.max(1, ...every.map(([, y]) => y)), end = Math.max(1, ...every.map(([x]) => x));
    const x = (step) => LEFT + (step / end) * (WIDTH - LEFT - RIGHT), y = (loss) => TOP + (1 - loss / most) * (HEIGHT - TOP - BOTTOM);
    const svg = make("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "tour-curves", role: "img" });
    const last = ({ name, points }) => `${name} ${points.length ? points[points.length - 1][1].toFixed(2) : "none yet"}`;
    svg.setAttribute("aria-label", `${what}. Latest: ${lines.map(last).join(", ")}.`);
    for (let t = 0; t <= most; t++) svg.append(make("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(t), y2: y(t), class: "tour-grid" }), make("text", { x: LEFT - 6, y: y(t) + 4, "text-anchor": "end" }, String(t)));
    svg.append(make("text", { x: WIDTH - RIGHT, y: HEIGHT - 6, "text-anchor": "end" }, `step ${end}`));
    lines.forEach(({ points }, i) => points.length && svg.append(make("path", { class: `tour-line tour-line-${i}`, d: "M" + points.map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`).join("L") })));
    const legend = html("p", "tour-legend");
    lines.forEach((line, i) => legend.append(html("span", `tour-key tour-key-${i}`, last(line))));
    const box = html("figure", "tour-figure");
    box.append(svg, legend);
    return box;
  };
  const text = (area, tokens, label, name, chosen, note = "") => { // of which you choose places; those chosen are counted
    const box = html("div", "characters tour-text"), places = new Set(), said = status();
    const { cells, mark } = textCells(box, tokens, {
      label: `${label} Move with the arrow keys, choose with Enter.`, name, enter: true,
      chosen: (i) => {
        if (i >= tokens.length) return;
        places.add(i);
        chosen(i, places, said);
      },
    });
    area.append(box, ...(note ? [html("p", "expected-hint", note)] : []), said);
    mark(0);
    return cells;
  };

  return {
    numbers(area, { word }, { ask, button, complete }) {
      const label = html("label", "tour-label", "Word "), field = html("input", "tour-field"), said = status();
      Object.assign(field, { value: word, maxLength: 30, autocomplete: "off", spellcheck: false });
      const send = () => ask({ want: "numbers", text: field.value });
      field.addEventListener("keydown", (event) => { if (event.key === "Enter") send(); });
      label.append(field);
      const row = html("div", "tour-row");
      row.append(label, button("Encode", send));
      area.append(row, said);
      return ({ want, tokens }) => {
        if (want !== "numbers") return;
        const list = html("div", "tour-ids");
        for (const [token, id] of tokens) {
          const cell = html("span", "tour-id");
          cell.append(html("code", "", visible(token)), html("small", "", String(id)));
          list.append(cell);
        }
        said.replaceChildren(tokens.length ? list : html("p", "", "The model knows none of these characters."));
        if (tokens.length) complete();
      };
    },

    next(area, { tokens, likeliest, note }, { complete }) {
      text(area, tokens, "Choose a place to see what the model expected there.", (i) => spoken(tokens[i]), (i, places, said) => {
        const before = tokens.slice(Math.max(0, i - 14), i).join("").replaceAll("\n", "↵");
        const title = html("p", "", before ? `After “${before}” the model expected:` : "At the beginning the model expected:");
        said.replaceChildren(title, tokenBars(likeliest[i]), html("p", "", `The text has ${visible(tokens[i])}.`));
        if (places.size >= 3) complete();
      }, note);
    },

    surprise(area, { tokens, bits, note }, { complete }) {
      const most = bits.indexOf(Math.max(...bits));
      let shown = false;
      const cells = text(area, tokens, "Find the greatest surprise.", (i) => (shown ? `${spoken(tokens[i])}, ${bits[i]} bits` : spoken(tokens[i])), (i, places, said) => {
        const found = i === most;
        if (found || places.size >= 3) reveal();
        said.replaceChildren(html("p", "", `“${visible(tokens[i])}” cost ${bits[i].toFixed(1)} bits.${found ? " That is the most in this text." : shown ? ` The most is “${visible(tokens[most])}” with ${bits[most].toFixed(1)}.` : ""}`));
        if (shown) complete();
      }, note);
      function reveal() {
        shown = true;
        cells.forEach((cell, i) => cell.style.setProperty("--strength", `${Math.min(bits[i] || 0, 8) * 8}%`));
      }
    },

    alike(area, { near }, { complete }) {
      text(area, near.map(({ token }) => token), "Choose a character to see its neighbors.", (i) => spoken(near[i].token), (i, places, said) => {
        const rows = near[i].near.map(({ token, cosine }) => ({ token, p: cosine }));
        said.replaceChildren(html("p", "", `Most like “${visible(near[i].token)}”, of at most 1:`), tokenBars(rows, ({ p }) => p.toFixed(2)));
        if (places.size >= 2) complete();
      });
    },

    attention(area, { tokens, head, note }, { complete }) {
      const { shade, most } = looking(tokens, head.shares);
      const cells = text(area, tokens, "Choose a character to see where the head looks from there.", (i) => spoken(tokens[i]), (i, places, said) => {
        shade(cells, i);
        said.replaceChildren(html("p", "", `From “${visible(tokens[i])}” it looks most at ${most(i)}.`));
        if (places.size >= 3) complete();
      }, note);
    },

    mask(area, lesson, { heard, train, stop, button, complete }) {
      const row = html("div", "tour-row"), { tell, nodes } = telling(), shown = html("div", "");
      row.append(button("Train both", () => train("mask")), button("Stop", stop));
      area.append(row, ...nodes, shown);
      const hear = ({ want, events = [], doing = "", spoken, words = "" }) => {
        if (want !== "mask") return;
        tell(doing, spoken);
        const line = (name, key) => ({ name, points: events.map((event) => [event.step, event[key].held_out]) });
        shown.replaceChildren(...(events.length ? [curves([line("With the mask", "with"), line("Without it", "without")], "Loss on held-out text while both train")] : []));
        const last = events[events.length - 1];
        if (!words) return;
        const breaks = (sample) => sample.replace(/\n{3,}/g, (run) => "↵".repeat(run.length)); // or much of it would be invisible
        shown.append(texts([["The model with the mask writes", breaks(last.with.sample)], ["The model without it writes", breaks(last.without.sample)]]));
        complete();
      };
      if (heard.mask) hear(heard.mask);
      return hear;
    },

    parts(area, lesson, { heard, ask, button, complete }) {
      const row = html("div", "tour-row"), said = status(), shown = html("div", "");
      const names = { attention: "attention", mlp: "feed-forward" };
      for (const [kind, name] of Object.entries(names)) row.append(button(`Switch all ${name} off`, () => ask({ want: "parts", kind })));
      area.append(row, said, shown);
      const hear = ({ want, kind, texts: both, losses, on }) => {
        if (want !== "parts") return;
        shown.replaceChildren(texts([["With all parts", both[0]], [`Without ${names[kind]}`, both[1]]]));
        said.textContent = losses ? `Loss on ${on}: ${losses[0].toFixed(2)} with all parts, ${losses[1].toFixed(2)} without ${names[kind]}.` : "Writing …";
        if (losses) complete();
      };
      if (heard.parts) hear(heard.parts);
      return hear;
    },

    training(area, lesson, { heard, train, button, complete }) {
      const row = html("div", "tour-row"), { tell, nodes } = telling(), shown = html("div", ""), code = html("pre", "tour-code");
      let taken = 0, wanted = 0;
      const step = (count) => {
        wanted += count;
        if (ready()) advance();
        else train("adamw");
      };
      const ready = () => heard.adamw?.weights;
      for (const count of [1, 10, 100]) row.append(button(count === 1 ? "1 step" : `${count} steps`, () => step(count)));
      code.tabIndex = 0;
      code.setAttribute("role", "region");
      code.setAttribute("aria-label", "The training step in PyTorch, with the numbers of the last one");
      area.append(row, code, ...nodes, shown);
      write();
      return ({ want, doing = "" }) => {
        if (want !== "adamw" || !wanted) return; // step 9 asks for the same
        if (ready()) advance();
        else tell(doing.startsWith("AdamW") ? "Training a tiny model …" : doing); // step 9 has SGD, too
      };
      function advance() {
        const { adamw } = heard.adamw;
        taken = Math.min(adamw.length - 1, taken + wanted); // the first loss is that before any step
        wanted = 0;
        write();
        tell(`After ${taken} step${taken === 1 ? "" : "s"}: loss ${adamw[taken].toFixed(2)}, at the beginning ${adamw[0].toFixed(2)}.`);
        shown.replaceChildren(curves([{ name: "Loss of each batch", points: adamw.slice(0, taken + 1).map((loss, i) => [i, loss]) }], "Loss while it trains"));
        if (taken >= 100) complete();
      }
      function write() {
        const path = ready() && taken ? heard.adamw.weights[0].path[taken - 1] : null, loss = path ? heard.adamw.adamw[taken - 1] : null;
        const lines = [
          ["logits, loss = model(xb, yb)", loss === null ? "" : `loss ${loss.toFixed(4)}`],
          ["optimizer.zero_grad(set_to_none=True)", ""],
          ["loss.backward()", path ? `gradient of one weight ${path[0].toFixed(5)}` : ""],
          ["optimizer.step()", path ? `that weight ${(path[1] - path[2]).toFixed(5)} → ${path[1].toFixed(5)}` : ""],
        ];
        code.replaceChildren(...lines.flatMap(([line, note]) => [line, ...(note ? [html("i", "", `  # ${note}`)] : []), "\n"]));
      }
    },

    adamw(area, lesson, { heard, train, stop, button, complete }) {
      const row = html("div", "tour-row"), { tell, nodes } = telling(), shown = html("div", "");
      let which = 0;
      const begin = () => {
        heard.both = true;
        if (heard.adamw?.weights) return hear({ ...heard.adamw, doing: "Both are already trained. These are their losses." });
        train("adamw");
      };
      row.append(button("Train with both", begin), button("Stop", stop));
      area.append(row, ...nodes, shown);
      const hear = (message) => {
        const { want, adamw = [], sgd = [], rate, weights, doing = "", spoken } = message;
        if (want !== "adamw" || !heard.both) return; // step 8 trains both, too, but shows only one
        tell(doing, spoken);
        const line = (name, losses) => ({ name, points: losses.map((loss, i) => [i, loss]) });
        if (!adamw.length) return;
        shown.replaceChildren(curves([line("AdamW", adamw), line(rate ? `SGD, learning rate ${rate}` : "SGD", sgd)], "Loss while it trains"));
        if (!weights) return;
        shown.append(...follow(weights));
        complete();
      };
      if (heard.both && heard.adamw) hear(heard.adamw);
      return hear;

      function follow(weights) {
        const box = html("fieldset", "tour-question"), frame = html("div", "tour-frame");
        frame.tabIndex = 0; // on a narrow page, it scrolls sideways
        frame.setAttribute("role", "region");
        frame.setAttribute("aria-label", "Steps of the weight");
        box.append(html("legend", "", "Follow a weight"));
        weights.map(({ character }, i) => `${"AB"[i]}: embedding of “${visible(character)}”`).forEach((name, i) => {
          const label = html("label", "tour-choice"), radio = html("input", "");
          Object.assign(radio, { type: "radio", name: "tour-weight", checked: i === which });
          radio.addEventListener("change", () => { which = i; frame.replaceChildren(table(weights[i].steps)); });
          label.append(radio, html("span", "", name));
          box.append(label);
        });
        frame.replaceChildren(table(weights[which].steps));
        return [box, frame];
      }
      function table(steps) {
        const made = html("table", "tour-table"), head = html("tr", ""), body = html("tbody", ""), top = html("thead", "");
        for (const name of ["step", "gradient", "m", "v", "update"]) head.append(Object.assign(html("th", "", name), { scope: "col" }));
        steps.slice(0, 6).forEach(({ g, m, v, update }, i) => {
          const line = html("tr", "");
          line.append(Object.assign(html("th", "", String(i + 1)), { scope: "row" }), ...[g, m, v, update].map((value) => html("td", "", value.toExponential(1))));
          body.append(line);
        });
        top.append(head);
        made.append(top, body);
        return made;
      }
    },

    dice(area, { temperatures }, { heard, ask, button, complete }) {
      const box = html("fieldset", "tour-question"), said = status(), shown = html("div", ""), tried = new Set();
      box.append(html("legend", "", "Temperature"));
      let temperature = temperatures[0];
      for (const one of temperatures) {
        const label = html("label", "tour-choice"), radio = html("input", "");
        Object.assign(radio, { type: "radio", name: "tour-temperature", checked: one === temperature });
        radio.addEventListener("change", () => { temperature = one; });
        label.append(radio, html("span", "", String(one)));
        box.append(label);
      }
      const row = html("div", "tour-row");
      row.append(button("Write twice", () => { said.textContent = "Writing …"; ask({ want: "dice", temperature }); }));
      area.append(box, row, said, shown);
      return ({ want, temperature: at, texts: both }) => {
        if (want !== "dice") return;
        tried.add(at);
        said.textContent = both[0] === both[1] ? `Temperature ${at}: both texts are the same.` : `Temperature ${at}: the texts differ.`;
        shown.replaceChildren(texts([["Seed 1", both[0]], ["Seed 2", both[1]]]));
        if (tried.has(0) && tried.size >= 3) complete();
      };
    },
  };
}
