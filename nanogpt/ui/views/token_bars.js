// A list of tokens with a bar for each: tokenBars([{token, p}, …], value, right). `value(row)` is what stands behind the bar,
// by default the percentage; `right` is the token to mark.
function tokenBars(rows, value = ({ p }) => `${(100 * p).toFixed(1)}%`, right) {
  const html = (tag, className, text = "") => Object.assign(document.createElement(tag), { className, textContent: text });
  const list = html("ol", "guessing-bars");
  for (const row of rows) {
    const line = html("li", row.token === right ? "guessing-bar guessing-right" : "guessing-bar");
    const bar = html("i", ""), frame = html("span", "expected-shares");
    bar.style.width = `${100 * Math.max(0, row.p)}%`;
    frame.append(bar);
    line.append(html("code", "", visible(row.token)), frame, html("span", "expected-percent", value(row)));
    list.append(line);
  }
  return list;
}
