// The form around the model. Whatever comes from users, such as the prompt, is inserted as plain text.
"use strict";

const SLICE = 32; // milliseconds to work before letting the page redraw and respond; a redraw costs as much as ten characters
const part = (id) => document.getElementById(id);
const about = JSON.parse(part("about").textContent);
const chars = [...about.chars];
const before = Math.max(0, chars.indexOf("\n")); // what precedes a text: a newline
let gpt = null;
let current = null; // the text being generated; null once it is finished or stopped
let outcome = ""; // what the status line says of the last text

// Load the model. Each tensor is in its own script element, of a type that browsers don't run. The elements stay in the
// page, because some browsers save a page as it is then, not as it was loaded.
async function load() {
  const w = (name) => {
    const element = document.querySelector(`script[data-tensor="${name}"]`);
    if (!element) return undefined;
    const letters = element.textContent, { scales } = element.dataset;
    return scales ? Object.assign(new Int8Array(bytes(letters).buffer), { scales: unpack(scales) }) : unpack(letters);
  };
  return new GPT(about.config, w, await fastestMath());
}

// Return the math in WebAssembly, or in JavaScript if the browser is too old for it or the page is served without
// permission for it.
async function fastestMath() {
  try {
    return await simdMath(bytes(part("wasm").textContent));
  } catch {
    return plainMath;
  }
}

// Generate a text with the form's settings, until it is finished, stopped or replaced by another.
async function begin() {
  const mine = (current = {});
  const prompt = encode(part("prompt").value, chars, about.lookalikes);
  const start = prompt.ids.length ? prompt.ids : [before];
  const settings = { temperature: number("temperature"), length: number("length"), seed: number("seed") };
  part("note").textContent = prompt.note;
  part("given").textContent = prompt.text;
  part("written").textContent = "";
  uncolor();
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
    await redraw();
  }
  if (current !== null && current !== mine) return; // another text has been started in the meantime
  const speed = count / (performance.now() - began) * 1000;
  outcome = `${done ? "" : "Stopped after "}${said(count)} characters (${said(speed)} per second).`;
  part("status").textContent = outcome;
  busy(false);
  if (colorful()) color();
}

// Set the buttons and the status line for generating (true) or idle (false).
function busy(now) {
  if (!now) current = null;
  else part("status").textContent = "Generating …";
  part("text").setAttribute("aria-busy", now);
  part("go").textContent = now ? "Stop" : "Generate";
  part("go").classList.toggle("stop", now);
}

// Read a field's number, clamp it to its range, and write it back.
function number(id) {
  const input = part(id), typed = Number.isFinite(input.valueAsNumber) ? input.valueAsNumber : Number(input.defaultValue);
  const value = Math.min(Number(input.max), Math.max(Number(input.min), typed));
  input.value = input.step === "1" ? Math.round(value) : value;
  return Number(input.value);
}

const said = (value) => Math.round(value).toLocaleString("en");

// Let the page redraw and respond. A timer would not do: background pages run theirs only once per second.
const channel = new MessageChannel();
const redraw = () => new Promise((go) => {
  channel.port1.onmessage = go;
  channel.port2.postMessage(null);
});

// Copy the text to the clipboard.
async function copy() {
  const text = part("text"), hidden = text.hidden;
  let copied = true;
  try {
    await navigator.clipboard.writeText(text.textContent);
  } catch { // some browsers don't allow this for a local file
    text.hidden = false; // only what is visible can be selected
    getSelection().selectAllChildren(text);
    copied = document.execCommand("copy");
    getSelection().removeAllRanges();
    text.hidden = hidden;
  }
  part("status").textContent = copied ? "Copied." : "Your browser didn't copy the text. Select it and copy it by hand.";
}

// Connect the form to the functions above, and enable the buttons.
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
  part("surprise").addEventListener("click", () => {
    part("surprise").setAttribute("aria-pressed", !colorful());
    if (!colorful()) uncolor();
    else if (!current) color(); // a text that is still being written is colored at its end
  });
  const show = () => (part("degree").value = part("temperature").valueAsNumber.toFixed(1));
  part("temperature").addEventListener("input", show);
  part("prompt").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) begin();
  });
  for (const button of document.querySelectorAll("button")) button.disabled = false;
  show(); // browsers may restore an earlier value
}

addEventListener("DOMContentLoaded", async () => {
  if (!part("end")) return; // the file was cut off; complete.js says so
  await new Promise((drawn) => setTimeout(drawn, 30)); // show the page first; unpacking a large model takes a moment
  try {
    gpt = await load();
  } catch (error) {
    if (!(error instanceof RangeError)) {
      incomplete();
      throw error;
    }
    part("status").textContent = // a RangeError is what browsers raise for too little memory
      "There isn't enough free memory for this model. Close other tabs and reload the page.";
    return;
  }
  removeEventListener("error", incomplete);
  wire();
  begin();
});
