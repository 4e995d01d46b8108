// The model of nanogpt/model.py in plain JavaScript, with the same names: a character in, logits for the next one out.
// Keys and values are cached, so that each new character costs one forward pass.
"use strict";

// ---- the model -------------------------------------------------------------------------------------------------------

class GPT {
  // config: block_size, n_layer, n_head, n_embd, vocab_size, rope_theta, and the features of layout.py.
  // w: name -> Float32Array. Matrices are (out, in), row by row, as in torch. Biases are used if w has them.
  constructor(config, w) {
    const { n_layer, n_embd: C, block_size: T } = config;
    const part = (name) => ({ weight: w[`${name}.weight`], bias: w[`${name}.bias`] });
    const block = (i) => ({
      ln1: part(`blocks.${i}.ln1`), qkv: part(`blocks.${i}.sa.qkv`), proj: part(`blocks.${i}.sa.proj`),
      ln2: part(`blocks.${i}.ln2`), up: part(`blocks.${i}.ffwd.net.0`), down: part(`blocks.${i}.ffwd.net.2`),
      keys: new Float32Array(T * C), // (T, C), the key-value cache; all heads side by side
      values: new Float32Array(T * C), // (T, C)
    });
    this.config = config;
    this.embeddings = part("token_embedding_table"); // (vocab_size, C)
    this.positions = part("position_embedding_table"); // (T, C); not with rotary positions
    this.blocks = Array.from({ length: n_layer }, (_, i) => block(i));
    this.ln_f = part("ln_f");
    this.lm_head = part("lm_head");
    this.length = 0; // characters read so far
    this.x = new Float32Array(C); // the residual stream
    this.h = new Float32Array(C); // x, normalized
    this.qkv = new Float32Array(3 * C);
    this.wei = new Float32Array(T);
    this.gathered = new Float32Array(C);
    this.hidden = new Float32Array(4 * C);
    this.added = new Float32Array(C);
    this.logits = new Float32Array(config.vocab_size);
    if (config.rotary) this.turns = rotaryTable(T, C / config.n_head, config.rope_theta);
  }

  // Clear the cache.
  restart() {
    this.length = 0;
  }

  // Process the next character, which must still fit in the context.
  read(token) {
    const { x, h, qkv, gathered, hidden, added } = this, C = x.length, t = this.length++;
    const { rotary, plain_norms, relu_squared } = this.config;
    for (let i = 0; i < C; i++) x[i] = this.embeddings.weight[token * C + i];
    if (!rotary) for (let i = 0; i < C; i++) x[i] += this.positions.weight[t * C + i];
    if (plain_norms) rmsNorm(x, x, 0, C);
    for (const block of this.blocks) {
      this.norm(h, x, block.ln1);
      linear(qkv, block.qkv, h);
      this.attend(block, t); // communication …
      linear(added, block.proj, gathered);
      add(x, added);
      this.norm(h, x, block.ln2);
      linear(hidden, block.up, h); // … followed by computation
      for (let i = 0; i < hidden.length; i++) {
        const a = Math.max(0, hidden[i]);
        hidden[i] = relu_squared ? a * a : a;
      }
      linear(added, block.down, hidden);
      add(x, added);
    }
  }

  // Return the logits for the next character: (vocab_size,).
  scores() {
    this.norm(this.h, this.x, this.ln_f);
    linear(this.logits, this.lm_head, this.h);
    return this.logits;
  }

  norm(out, x, part) {
    if (this.config.plain_norms) rmsNorm(out, x, 0, x.length);
    else layerNorm(out, x, part);
  }

  // Self-attention for the character at position t, head by head. The result is in this.gathered.
  attend({ keys, values }, t) {
    const { qkv, wei, gathered } = this, C = gathered.length, { n_head, rotary, qk_norm } = this.config, hs = C / n_head;
    for (let z = 0; z < 2 * C; z += hs) { // queries, then keys
      if (rotary) this.rotate(qkv, z, hs, t);
      if (qk_norm) rmsNorm(qkv, qkv, z, hs);
    }
    keys.set(qkv.subarray(C, 2 * C), t * C);
    values.set(qkv.subarray(2 * C), t * C);
    gathered.fill(0);
    for (let head = 0; head < C; head += hs) {
      let most = -Infinity, sum = 0;
      for (let s = 0; s <= t; s++) { // affinity of the query with each key so far
        let a = 0;
        for (let i = head, k = s * C + head; i < head + hs; i++, k++) a += qkv[i] * keys[k];
        wei[s] = a / Math.sqrt(hs);
        most = Math.max(most, wei[s]);
      }
      for (let s = 0; s <= t; s++) sum += wei[s] = Math.exp(wei[s] - most);
      for (let s = 0; s <= t; s++) { // weighted sum of the values
        const share = wei[s] / sum;
        for (let i = head, k = s * C + head; i < head + hs; i++, k++) gathered[i] += share * values[k];
      }
    }
  }

  // Rotary positions: rotate pairs of numbers by an angle that grows with the position.
  rotate(z, start, hs, t) {
    const half = hs / 2, { cos: coses, sin: sines } = this.turns;
    for (let i = 0; i < half; i++) {
      const cos = coses[t * half + i], sin = sines[t * half + i], a = z[start + i], b = z[start + half + i];
      z[start + i] = a * cos + b * sin;
      z[start + half + i] = b * cos - a * sin;
    }
  }
}

// Return cos and sin of the rotary angles at each position: two of (T, hs / 2).
function rotaryTable(T, hs, theta) {
  const half = hs / 2;
  const angles = Float32Array.from({ length: T * half }, (_, k) => Math.floor(k / half) * theta ** (-(k % half) / half));
  return { cos: angles.map(Math.cos), sin: angles.map(Math.sin) };
}

// out = weight @ x + bias, four rows at a time, so that each number of x is loaded once for all four.
function linear(out, { weight, bias }, x) {
  const n = x.length, rows = out.length - (out.length % 4);
  for (let i = 0; i < rows; i += 4) {
    const k0 = i * n, k1 = k0 + n, k2 = k1 + n, k3 = k2 + n;
    let a = 0, b = 0, c = 0, d = 0;
    for (let j = 0; j < n; j++) {
      const v = x[j];
      a += weight[k0 + j] * v;
      b += weight[k1 + j] * v;
      c += weight[k2 + j] * v;
      d += weight[k3 + j] * v;
    }
    out[i] = a;
    out[i + 1] = b;
    out[i + 2] = c;
    out[i + 3] = d;
  }
  for (let i = rows; i < out.length; i++) {
    let a = 0;
    for (let j = 0; j < n; j++) a += weight[i * n + j] * x[j];
    out[i] = a;
  }
  if (bias) add(out, bias);
}

function add(x, y) {
  for (let i = 0; i < x.length; i++) x[i] += y[i];
}

function layerNorm(out, x, { weight, bias }) {
  const n = x.length;
  let mean = 0, variance = 0;
  for (let i = 0; i < n; i++) mean += x[i] / n;
  for (let i = 0; i < n; i++) variance += (x[i] - mean) ** 2 / n;
  const scale = 1 / Math.sqrt(variance + 1e-5);
  for (let i = 0; i < n; i++) out[i] = (x[i] - mean) * scale * weight[i] + bias[i];
}

// Divide n numbers, from `start` on, by their root mean square.
function rmsNorm(out, x, start, n) {
  let square = 0;
  for (let i = start; i < start + n; i++) square += x[i] * x[i];
  const scale = 1 / Math.sqrt(square / n + 1e-6);
  for (let i = start; i < start + n; i++) out[i] = x[i] * scale;
}

// ---- sampling --------------------------------------------------------------------------------------------------------

// Continue a text: ids in, new ids out, one at a time. Yield null after each character that was only read, so that the
// caller can keep the page responsive.
function* write(gpt, ids, { length, temperature, seed }) {
  const text = [...ids], window = gpt.config.block_size, uniform = random(seed);
  let fresh = text.slice(-window); // what the model hasn't read yet
  gpt.restart();
  for (let n = 0; n < length; n++) {
    if (gpt.length + fresh.length > window) { // the context is full: continue from its second half
      fresh = text.slice(-Math.floor(window / 2));
      gpt.restart();
    }
    for (const id of fresh) {
      gpt.read(id);
      yield null;
    }
    const next = pick(gpt.scores(), temperature, uniform());
    text.push(next);
    fresh = [next];
    yield next;
  }
}

// Draw the next id from softmax(logits / temperature); temperature 0 takes the most likely one. u is uniform in [0, 1).
function pick(logits, temperature, u) {
  const most = logits.reduce((a, b) => Math.max(a, b));
  if (temperature === 0) return logits.indexOf(most);
  const p = Array.from(logits, (score) => Math.exp((score - most) / temperature));
  let left = u * p.reduce((a, b) => a + b);
  const found = p.findIndex((share) => (left -= share) < 0);
  return found < 0 ? p.length - 1 : found;
}

// Return a generator of uniform numbers in [0, 1), reproducible from the seed: a counter whose bits are mixed as in
// SplitMix (Steele et al., 2014), with MurmurHash3's finalizer.
function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x9e3779b9) >>> 0;
    let bits = state;
    bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
    bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
    return ((bits ^ (bits >>> 16)) >>> 0) / 2 ** 32;
  };
}

// ---- characters ------------------------------------------------------------------------------------------------------

// Encode a text as ids. A character that is not in the alphabet becomes a similar one, or is skipped; `note` says
// which, or is empty.
function encode(text, chars, lookalikes) {
  const stoi = new Map(chars.map((ch, i) => [ch, i]));
  const replaced = new Map();
  for (const ch of text) if (!stoi.has(ch) && !replaced.has(ch)) replaced.set(ch, nearest(ch, stoi, lookalikes));
  const fitted = [...text].map((ch) => replaced.get(ch) ?? ch).join("");
  const swaps = [...replaced].filter(([, to]) => to).map(([ch, to]) => `${shown(ch)} → ${shown(to)}`);
  const drops = [...replaced].filter(([, to]) => !to).map(([ch]) => shown(ch));
  const done = [];
  if (swaps.length) done.push(`replaced ${swaps.join(", ")}`);
  if (drops.length) done.push(`skipped ${drops.join(" ")}`);
  const note = done.length ? `Not in this model's alphabet: ${done.join("; ")}.` : "";
  return { ids: [...fitted].map((ch) => stoi.get(ch)), text: fitted, note };
}

// Return a known character that differs only in case, look or accent, or "" if there is none.
function nearest(ch, stoi, lookalikes) {
  const swapcase = (s) => [...s].map((c) => (c === c.toUpperCase() ? c.toLowerCase() : c.toUpperCase())).join("");
  const bare = ch.normalize("NFKD").replace(/\p{Mn}/gu, "");
  const swapped = [...swapcase(ch)].length === 1 ? swapcase(ch) : ch.toUpperCase().toLowerCase(); // ß becomes ss
  const guesses = [swapped, lookalikes[ch] ?? "", ch.normalize("NFKC"), bare, swapcase(bare)];
  return guesses.find((guess) => guess && [...guess].every((c) => stoi.has(c))) ?? "";
}

// Return a character for use in a message: itself if it is visible, otherwise its name.
function shown(ch) {
  if (/^[\p{L}\p{M}\p{N}\p{P}\p{S}]/u.test(ch)) return ch;
  const names = { "\n": "newline", "\t": "tab", " ": "space", "\r": "carriage return" };
  return names[ch] ?? `U+${ch.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
}

// Decode the weights: four base64 letters per number, which are the upper 24 bits of a 32-bit float.
function unpack(letters) {
  const value = new Uint8Array(128);
  [..."ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"].forEach((ch, i) => {
    value[ch.charCodeAt(0)] = i;
  });
  const bits = new Uint32Array(letters.length / 4);
  const six = (k) => value[letters.charCodeAt(k)];
  for (let i = 0, k = 0; i < bits.length; i++, k += 4) {
    bits[i] = (six(k) << 26) | (six(k + 1) << 20) | (six(k + 2) << 14) | (six(k + 3) << 8);
  }
  return new Float32Array(bits.buffer);
}
