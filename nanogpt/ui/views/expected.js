// What was expected at a place of a text: draw(root, {before, own, found, bars: [{token, p, drawn}, …], seen, at}).
//
// Each bar shows the model's own probability `p` and, below it, the one it has when sampling (`drawn`). The bars are one
// tab stop with arrow keys; choosing one triggers `select` with {token}: continue with it.
function draw(root, data) {
  const { area, say } = aloud(root);
  if (!data || !data.bars) return area.replaceChildren();
  const { before = "", own = "", found = "", bars, seen = "", at = 0 } = data;
  const html = (tag, className, text = "") => Object.assign(document.createElement(tag), { className, textContent: text });
  const percent = (p) => (p > 0 && p < 0.001 ? "< 0.1%" : `${(100 * p).toFixed(1)}%`);
  const title = html("p", "expected-title");
  const place = html("b", "", before.replaceAll("\n", "↵"));
  title.append(...(at ? ["After “", place, "” the model expected:"] : ["At the beginning the model expected:"]));
  const list = html("div", "expected-bars");
  list.setAttribute("role", "group");
  list.setAttribute("aria-label", "Continue with");
  const buttons = bars.map(({ token, p, drawn }, i) => {
    const button = html("button", "expected-bar");
    button.type = "button";
    button.tabIndex = i ? -1 : 0;
    button.title = `Continue with ${spoken(token)}`;
    button.setAttribute("aria-label", `${spoken(token)}: ${percent(p)}, when sampling ${percent(drawn)}${token === own ? ", as in the text" : ""}`);
    if (token === own) button.classList.add("expected-own");
    const bar = html("span", "expected-shares"), model = html("i", "expected-model"), sampled = html("i", "expected-drawn");
    model.style.width = `${100 * p}%`;
    sampled.style.width = `${100 * drawn}%`;
    bar.append(model, sampled);
    button.append(html("code", "", visible(token)), bar, html("span", "expected-percent", percent(p)));
    button.addEventListener("click", () => trigger("select", { token }));
    return button;
  });
  list.append(...buttons);
  list.addEventListener("keydown", (event) => {
    const way = { ArrowDown: 1, ArrowUp: -1 }[event.key], i = buttons.indexOf(document.activeElement);
    if (!way || i < 0) return;
    event.preventDefault();
    stop(buttons[(i + way + buttons.length) % buttons.length]).focus();
  });
  const stop = (at) => {
    for (const button of buttons) button.tabIndex = button === at ? 0 : -1;
    return at;
  };
  const hint = html("p", "expected-hint", `Upper bar: the model's probability. Lower bar: with the settings below. ${bars.some(({ token }) => token === own) ? "Outlined: what the text has. " : ""}Click one to add that character and go on.`);
  const said = [found, seen].filter(Boolean);
  const focused = [...root.querySelectorAll(".expected-bar")].indexOf(document.activeElement);
  area.replaceChildren(title, list, hint, ...said.map((text) => html("p", "expected-seen", text)));
  say(said.join(" "));
  if (focused >= 0) stop(buttons[Math.min(focused, buttons.length - 1)]).focus({ preventScroll: true });
}
