// Large figures side by side: draw(root, [{label, value, note}, …]). Their size never depends on what they say.
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
  tiles.forEach(({ label, value, note }, i) => [label, value, note].forEach((text, k) => {
    const part = root.__tiles[i][k];
    if (part.textContent !== text) part.textContent = text;
  }));
}
