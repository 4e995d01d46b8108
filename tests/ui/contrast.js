// Return the visible texts whose contrast to their background is below WCAG AA: 4.5:1, or 3:1 if large.
() => {
  const parse = (css) => {
    const numbers = css.match(/[\d.]+/g).map(Number);
    const scale = css.startsWith("color(") ? 255 : 1; // color(srgb 0.1 0.2 0.3 / 0.5)
    return [...numbers.slice(0, 3).map((value) => value * scale), numbers[3] ?? 1];
  };
  const over = (top, below) => [...[0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])), 1];
  const linear = (value) => (value <= 10.31475 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = (color) => 0.2126 * linear(color[0]) + 0.7152 * linear(color[1]) + 0.0722 * linear(color[2]);
  function background(node) {
    const layers = [];
    for (let at = node; at; at = at.parentElement) {
      layers.push(parse(getComputedStyle(at).backgroundColor));
      if (layers[layers.length - 1][3] === 1) break;
    }
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  }
  const found = [];
  for (const node of document.querySelectorAll("body *")) {
    const text = [...node.childNodes].filter((child) => child.nodeType === Node.TEXT_NODE).map((child) => child.textContent).join("").trim();
    const typed = node.matches("textarea, input:not([type=radio], [type=checkbox], [type=range])") ? node.value : "";
    if (!(text || typed) || !node.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    if (node.closest("[disabled], [aria-disabled=true]") || node.getBoundingClientRect().width < 2) continue;
    const style = getComputedStyle(node), drawn = node.closest("svg"), written = drawn ? style.fill : style.color;
    if (drawn && !(node.matches("text, tspan") && written.includes("("))) continue; // "none", or a pattern
    const below = background(node), color = over(parse(written), below);
    const [dark, light] = [luminance(color), luminance(below)].sort((a, b) => a - b);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const ratio = (light + 0.05) / (dark + 0.05);
    if (ratio < (large ? 3 : 4.5)) found.push(`${ratio.toFixed(2)}: ${(text || typed).slice(0, 60)}`);
  }
  return found;
}
