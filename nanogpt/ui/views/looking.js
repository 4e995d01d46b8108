// Where a head looks from a place of a text: looking(tokens, shares) returns {share(i, j), shade(cells, i), most(i)}.
//
// `shares` are T x T numbers to 255, the square root of each share of its attention. `shade` shades the cells by how much it
// looks at each from place i, and `most` says in words at which three it looks most.
function looking(tokens, shares) {
  const T = tokens.length;
  const share = (i, j) => (j <= i ? (shares[i * T + j] / 255) ** 2 : 0); // nothing looks at what comes later
  const row = (i) => tokens.map((_, j) => share(i, j));
  return {
    share,
    shade(cells, i) {
      const from = row(i), most = Math.max(...from, 0.15); // an even spread stays pale
      cells.forEach((cell, j) => cell.style.setProperty("--strength", `${j < T ? Math.round(70 * Math.sqrt(from[j] / most)) : 0}%`));
    },
    most(i) {
      const best = row(i).map((value, j) => [value, j]).sort((a, b) => b[0] - a[0]).slice(0, 3);
      return best.map(([value, j]) => `“${visible(tokens[j])}” ${i - j ? `${i - j} back` : "itself"} ${Math.round(100 * value)}%`).join(", ");
    },
  };
}
