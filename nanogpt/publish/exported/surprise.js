// The text colored by how much each of its characters surprised the model, and what the model expected in their places.
// Colors and words are those of the app's view (characters.py, characters.js and expected.js in nanogpt/ui/views).
"use strict";

const LONGEST = 2000; // characters
let coloring = null; // the text being read; null once it is colored or another one has begun
let known = null; // the text that was read last: {text, tokens, places}

const colorful = () => part("surprise").getAttribute("aria-pressed") === "true";
const html = (tag, className, text = "") => Object.assign(document.createElement(tag), { className, textContent: text });
const visible = (token) => ({ "\n": "↵", " ": "␣", "\t": "⇥" })[token] ?? token;
const spoken = (token) => ({ "\n": "line break", " ": "space", "\t": "tab" })[token] ?? token;
const percent = (p) => (p < 0.001 ? "< 0.1%" : `${(100 * p).toFixed(1)}%`);
const quoted = (text) => `“${text.replaceAll("\n", "↵")}”`;

// Show the text without colors.
function uncolor() {
  if (coloring) part("status").textContent = outcome;
  coloring = null;
  swap(false);
}

// Show the colored text and what explains it (true), or the plain one.
function swap(colored) {
  part("text").hidden = colored;
  part("colored").hidden = part("explained").hidden = !colored;
}

// Read the text and show it with colors.
async function color() {
  const mine = (coloring = {}), text = part("text").textContent;
  if (known?.text !== text && text) {
    part("status").textContent = "Reading the text …";
    const tokens = [...text].slice(0, LONGEST), stoi = new Map(chars.map((ch, i) => [ch, i]));
    const reading = judge(gpt, tokens.map((token) => stoi.get(token)), before);
    let step = { done: false };
    while (!step.done) {
      const until = performance.now() + SLICE;
      while (!step.done && performance.now() < until) step = reading.next();
      await redraw();
      if (coloring !== mine) return;
    }
    part("status").textContent = outcome;
    known = { text, tokens, places: step.value };
  }
  coloring = null;
  if (text) showColored(known.tokens, known.places, known.tokens.join("").length < text.length);
}

// Show the tokens of a text, which may have been cut, with what the model expected at each place.
function showColored(tokens, places, cut) {
  const box = html("div", "text"), details = html("div", "expected");
  details.setAttribute("role", "status");
  const choose = (i) => details.replaceChildren(...expected(tokens, places, i));
  const { cells, mark } = textCells(box, tokens, {
    label: "Text colored by surprise. Move with the arrow keys.",
    name: (i) => cost(tokens[i], places[i]),
    chosen: choose,
  });
  const tint = (element, bits) => element.style.setProperty("--strength", `${Math.min(bits, 8) * 8}%`);
  tokens.forEach((_, i) => tint(cells[i], places[i].bits));
  const scale = html("p", "scale");
  scale.setAttribute("aria-hidden", "true");
  scale.append("expected", ...[0, 2, 4, 6, 8].map((bits) => {
    const step = html("i", "", bits);
    tint(step, bits);
    return step;
  }), "surprising (bits)");
  const start = cut ? `Only the first ${said(LONGEST)} characters are shown. ` : "";
  part("colored").replaceChildren(box);
  part("explained").replaceChildren(scale, html("p", "quiet", start + summary(tokens, places)), details);
  swap(true);
  mark(0);
  choose(0);
}

const cost = (token, { bits, rank }) => `${spoken(token)}, ${bits.toFixed(2)} bits${rank ? `, choice ${rank}` : ""}`;

// Say what the colors show: the mean, and the three characters that cost most.
function summary(tokens, places) {
  const all = [...tokens.keys()], mean = all.reduce((sum, i) => sum + places[i].bits, 0) / tokens.length;
  const worst = all.sort((a, b) => places[b].bits - places[a].bits).slice(0, 3).filter((i) => i);
  const named = worst.map((i) => `${quoted(visible(tokens[i]))} after ${quoted(tokens.slice(Math.max(0, i - 12), i).join(""))}`);
  const least = named.length ? ` Least expected: ${named.join("; ")}.` : "";
  return `${said(tokens.length)} characters, ${mean.toFixed(2)} bits each on average.${least}`;
}

// Return what the model expected at place i: a title and the likeliest characters with bars.
function expected(tokens, places, i) {
  const own = tokens[i], title = html("p", ""), list = html("ol", "");
  const context = html("b", "", tokens.slice(Math.max(0, i - 24), i).join("").replaceAll("\n", "↵"));
  title.append(...(i ? ["After “", context, "” the model expected:"] : ["At the beginning the model expected:"]));
  for (const [id, p] of places[i].likeliest) {
    const item = html("li", chars[id] === own ? "own" : ""), bar = html("i", "");
    const shape = html("code", "", visible(chars[id]));
    shape.setAttribute("aria-hidden", "true");
    bar.style.width = `${100 * p}%`;
    const frame = html("span", "");
    frame.append(bar);
    item.append(shape, html("span", "spoken", spoken(chars[id])), frame, html("span", "percent", percent(p)));
    if (chars[id] === own) item.append(html("span", "spoken", "as in the text"));
    list.append(item);
  }
  return [...(own === undefined ? [] : [html("p", "cost", cost(own, places[i]))]), title, list];
}
