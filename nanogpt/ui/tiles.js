// Large figures side by side: draw(root, [{label, value, note, title, left}, …]). Their size never depends on what they say.
// A tile with `left` counts down these seconds until the next data come.
function draw(root, data) {
  const tiles = data || [];
  if (!root.__tiles || root.__tiles.length !== tiles.length) {
    const html = (tag, className) => Object.assign(document.createElement(tag), { className });
    const list = html("dl", "tiles");
    root.__tiles = tiles.map(() => {
      const tile = html("div", "tile"), parts = [html("dt", ""), html("dd", "tile-value"), html("dd", "tile-note")];
      tile.append(...parts);
      list.append(tile);
      return parts;
    });
    root.replaceChildren(list);
  }
  const write = (part, text) => {
    if (part.textContent !== text) part.textContent = text;
  };
  const clock = (seconds) => { // 0:07, 3:25 or 1:02:03
    const two = (n) => String(n).padStart(2, "0");
    const [hour, minute, second] = [seconds / 3600, (seconds / 60) % 60, seconds % 60].map(Math.floor);
    return hour ? `${hour}:${two(minute)}:${two(second)}` : `${minute}:${two(second)}`;
  };
  const countDown = (part, until) => {
    const rest = Math.max(0, until - performance.now()) / 1000;
    write(part, clock(Math.ceil(rest)));
    if (rest > 0 && root.isConnected) root.__countdown = setTimeout(countDown, 1000 * (rest % 1) + 1, part, until);
  };
  clearTimeout(root.__countdown);
  tiles.forEach(({ label, value, note, title = "", left = null }, i) => {
    root.__tiles[i][0].parentNode.title = title;
    [label, value, note].forEach((text, k) => write(root.__tiles[i][k], text));
    if (left !== null) countDown(root.__tiles[i][1], performance.now() + 1000 * left);
  });
}
