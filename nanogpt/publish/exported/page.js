// The page around the model: fields in, text out. All that is not ours, such as the prompt, goes in as text only.
"use strict";

const SLICE = 14; // milliseconds of work before the page may draw and answer
const part = (id) => document.getElementById(id);
const about = JSON.parse(part("about").textContent);
const chars = [...about.chars];
let gpt = null;
let current = null; // the text being written; null once it has ended or was stopped

// The weights, each tensor in a script element of its own that no browser runs.
function load() {
  const w = {};
  for (const element of document.querySelectorAll("script[data-tensor]")) {
    w[element.dataset.tensor] = unpack(element.textContent);
    element.remove(); // or it would stay in memory twice
  }
  return new GPT(about.config, w);
}

async function begin() {
  const mine = (current = {});
  const prompt = encode(part("prompt").value, chars, about.lookalikes);
  const start = prompt.ids.length ? prompt.ids : [Math.max(0, chars.indexOf("\n"))]; // else as after a line break
  const settings = { temperature: number("temperature"), length: number("length"), seed: number("seed") };
  part("note").textContent = prompt.note;
  part("given").textContent = prompt.text;
  part("written").textContent = "";
  const text = part("written").appendChild(document.createTextNode(""));
  busy(true);
  const began = performance.now();
  const writing = write(gpt, start, settings);
  let count = 0, done = false;
  while (!done && current === mine) {
    const pieces = [], until = performance.now() + SLICE;
    while (!done && performance.now() < until) {
      const step = writing.next();
      done = step.done;
      if (!done && step.value !== null) pieces.push(chars[step.value]);
    }
    count += pieces.length;
    text.appendData(pieces.join(""));
    await breath();
  }
  if (current !== null && current !== mine) return; // another text has begun meanwhile
  const speed = count / (performance.now() - began) * 1000;
  part("status").textContent = `${said(count)} characters${done ? "" : ", then stopped"}; ${said(speed)} a second.`;
  busy(false);
}

// Buttons and the line below the text, while it is being written and afterwards.
function busy(now) {
  if (!now) current = null;
  else part("status").textContent = "Writing …";
  part("text").setAttribute("aria-busy", now);
  part("go").textContent = now ? "Stop" : "Write";
  part("go").classList.toggle("stop", now);
}

// A field's number, brought into its range and written back.
function number(id) {
  const input = part(id), typed = Number.isFinite(input.valueAsNumber) ? input.valueAsNumber : Number(input.defaultValue);
  const value = Math.min(Number(input.max), Math.max(Number(input.min), typed));
  input.value = input.step === "1" ? Math.round(value) : value;
  return Number(input.value);
}

const said = (value) => Math.round(value).toLocaleString("en");

// Let the page draw and answer. Not by a timer, which a page in the background gets once a second.
const channel = new MessageChannel();
const breath = () => new Promise((go) => {
  channel.port1.onmessage = go;
  channel.port2.postMessage(null);
});

async function copy() {
  const text = part("text").textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch { // a browser that does not let a file do that
    getSelection().selectAllChildren(part("text"));
    document.execCommand("copy");
    getSelection().removeAllRanges();
  }
  part("status").textContent = "Copied.";
}

function wire() {
  part("settings").addEventListener("submit", (event) => {
    event.preventDefault();
    if (current) current = null;
    else begin();
  });
  part("another").addEventListener("click", () => {
    const seed = part("seed");
    seed.value = number("seed") < Number(seed.max) ? number("seed") + 1 : 0;
    begin();
  });
  part("copy").addEventListener("click", copy);
  const show = () => (part("degree").value = part("temperature").valueAsNumber.toFixed(1));
  part("temperature").addEventListener("input", show);
  part("prompt").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) begin();
  });
  for (const button of document.querySelectorAll("button")) button.disabled = false;
  show(); // a browser may have kept what was chosen before
}

addEventListener("DOMContentLoaded", async () => {
  await new Promise((drawn) => setTimeout(drawn, 30)); // the page first: a large model takes a moment to unpack
  gpt = load();
  wire();
  begin();
});
