// The model of nanogpt/model.py in plain JavaScript, with the same names: a character in, logits for the next one out.
// Keys and values are cached, so that each new character costs one forward pass. What takes the time is in math.js.
"use strict";

// ---- the model -------------------------------------------------------------------------------------------------------

const CHUNK = 16; // characters read together: each matrix is then fetched from memory once for all of them

class GPT {
  // config: block_size, n_layer, n_head, n_embd, vocab_size, rope_theta, and the features of layout.py.
  // w: name -> Float32Array, or undefined for a bias that the model doesn't have. Matrices are (out, in), as in torch.
  // math: plainMath or simdMath.
  constructor(config, w, math = plainMath) {
    const { n_layer, n_embd: C, n_head, block_size, vocab_size } = config, hs = C / n_head;
    const part = (name) => ({ weight: w(`${name}.weight`), bias: w(`${name}.bias`) });
    const layer = (name, rows) => math.layer(w(`${name}.weight`), w(`${name}.bias`), rows);
    const block = (i) => ({
      ln1: part(`blocks.${i}.ln1`), qkv: layer(`blocks.${i}.sa.qkv`, 3 * C), proj: layer(`blocks.${i}.sa.proj`, C),
      ln2: part(`blocks.${i}.ln2`), up: layer(`blocks.${i}.ffwd.net.0`, 4 * C), down: layer(`blocks.${i}.ffwd.net.2`, C),
    });
    this.config = config;
    this.math = math;
    this.embeddings = part("token_embedding_table"); // (vocab_size, C)
    this.positions = part("position_embedding_table"); // (block_size, C); not with rotary positions
    this.blocks = Array.from({ length: n_layer }, (_, i) => block(i));
    this.ln_f = part("ln_f");
    this.lm_head = layer("lm_head", vocab_size);
    this.length = 0; // characters read so far
    this.T = 0; // characters read by the last call of `read`
    this.places = padded(block_size); // in the key-value cache
    Object.assign(this, math.arrays({
      x: CHUNK * C, // (T, C), the residual stream
      h: CHUNK * C, // (T, C), x normalized
      qkv: CHUNK * 3 * C, // (T, 3 C)
      wei: this.places + 4,
      gathered: CHUNK * C, // (T, C)
      hidden: CHUNK * 4 * C, // (T, 4 C)
      added: CHUNK * C, // (T, C)
      logits: CHUNK * vocab_size, // (T, vocab_size)
      keys: n_layer * C * this.places, // (n_layer, C, places), the key-value cache; heads side by side
      values: n_layer * n_head * this.places * padded(hs), // (n_layer, n_head, places, hs), each row padded
      cos: config.rotary ? (block_size * hs) / 2 : 0, // (block_size, hs / 2), of the rotary angles
      sin: config.rotary ? (block_size * hs) / 2 : 0,
    }));
    for (const [i, block] of this.blocks.entries()) {
      const share = (cache) => cache.subarray((i * cache.length) / n_layer, ((i + 1) * cache.length) / n_layer);
      Object.assign(block, { keys: share(this.keys), values: share(this.values) });
    }
    for (let k = 0; k < this.cos.length; k++) {
      const angle = Math.floor(k / (hs / 2)) * config.rope_theta ** (-(k % (hs / 2)) / (hs / 2));
      this.cos[k] = Math.cos(Math.fround(angle));
      this.sin[k] = Math.sin(Math.fround(angle));
    }
  }

  // Clear the cache.
  restart() {
    this.length = 0;
  }

  // Process the next T characters, at most CHUNK, which must still fit in the context. Afterwards `scores` has the logits
  // that follow the last of them or, with `all`, those that follow each.
  read(tokens, all = false) {
    const { math, x, h, qkv, gathered, hidden, added } = this, C = this.config.n_embd, T = tokens.length;
    tokens.forEach((token, t) => this.embed(token, t));
    for (const block of this.blocks) {
      // in the last block, the earlier characters only matter for their keys and values
      const from = all || block !== this.blocks.at(-1) ? 0 : T - 1;
      this.norm(h, x, block.ln1, 0, T);
      math.linear(qkv, block.qkv, h, 0, T);
      for (let t = 0; t < T; t++) this.remember(block, t);
      for (let t = from; t < T; t++) math.attend(this, block, t, this.length + t + 1); // communication …
      math.linear(added, block.proj, gathered, from, T);
      math.add(x, added, from * C, T * C);
      this.norm(h, x, block.ln2, from, T);
      math.linear(hidden, block.up, h, from, T); // … followed by computation
      math.relu(hidden, this.config.relu_squared, from * 4 * C, T * 4 * C);
      math.linear(added, block.down, hidden, from, T);
      math.add(x, added, from * C, T * C);
    }
    this.length += T;
    this.T = T;
  }

  // Return the logits of the character that follows the one in row t, by default the last: (vocab_size,).
  scores(t = this.T - 1) {
    const V = this.config.vocab_size;
    this.norm(this.h, this.x, this.ln_f, t, t + 1);
    this.math.linear(this.logits, this.lm_head, this.h, t, t + 1);
    return this.logits.subarray(t * V, (t + 1) * V);
  }

  // Write the embedding of a character to row t of x.
  embed(token, t) {
    const { x, embeddings, positions, length } = this, { n_embd: C, rotary, plain_norms } = this.config, at = t * C;
    for (let i = 0; i < C; i++) x[at + i] = embeddings.weight[token * C + i];
    if (!rotary) for (let i = 0; i < C; i++) x[at + i] += positions.weight[(length + t) * C + i];
    if (plain_norms) this.math.rmsNorm(x, x, at, C);
  }

  // Normalize the rows of x from `from` to before `to`.
  norm(out, x, part, from, to) {
    const C = this.config.n_embd;
    for (let at = from * C; at < to * C; at += C) {
      if (this.config.plain_norms) this.math.rmsNorm(out, x, at, C);
      else layerNorm(out, x, part, at, C);
    }
  }

  // Add the key and the value of the character in row t to the cache.
  remember({ keys, values }, t) {
    const { qkv, places } = this, { n_embd: C, n_head } = this.config, hs = C / n_head, place = this.length + t;
    const k = t * 3 * C + C, v = k + C;
    this.math.turn(this, t, place);
    for (let i = 0; i < C; i++) keys[i * places + place] = qkv[k + i];
    for (let head = 0; head < n_head; head++) {
      const from = v + head * hs, to = (head * places + place) * padded(hs);
      for (let i = 0; i < hs; i++) values[to + i] = qkv[from + i];
    }
  }
}

// Normalize n numbers, from `start` on.
function layerNorm(out, x, { weight, bias }, start, n) {
  let sum = 0, squares = 0;
  for (let i = start; i < start + n; i++) sum += x[i];
  const mean = sum / n;
  for (let i = start; i < start + n; i++) squares += (x[i] - mean) ** 2;
  const scale = 1 / Math.sqrt(squares / n + 1e-5);
  for (let i = 0; i < n; i++) out[start + i] = (x[start + i] - mean) * scale * weight[i] + bias[i];
}

// ---- sampling --------------------------------------------------------------------------------------------------------

// Continue a text: ids in, new ids out, one at a time. Yield null after each part that was read, so that the caller
// can keep the page responsive.
function* write(gpt, ids, { length, temperature, seed }) {
  const text = [...ids], window = gpt.config.block_size, uniform = random(seed);
  let fresh = text.slice(-window); // what the model hasn't read yet
  gpt.restart();
  for (let n = 0; n < length; n++) {
    if (gpt.length + fresh.length > window) { // the context is full: continue from its second half
      fresh = text.slice(-Math.floor(window / 2));
      gpt.restart();
    }
    for (let i = 0; i < fresh.length; i += CHUNK) {
      gpt.read(fresh.slice(i, i + CHUNK));
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
  const n = logits.length, p = new Float64Array(n);
  let most = -Infinity, sum = 0;
  for (let i = 0; i < n; i++) most = Math.max(most, logits[i]);
  if (temperature === 0) return logits.indexOf(most);
  for (let i = 0; i < n; i++) sum += p[i] = Math.exp((logits[i] - most) / temperature);
  let left = u * sum;
  for (let i = 0; i < n; i++) if ((left -= p[i]) < 0) return i;
  return n - 1;
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

// ---- reading ---------------------------------------------------------------------------------------------------------

const BARS = 5; // likeliest characters that are shown

// Read a text of N ids as explain/characters.py does. Return what the model expected at each of N + 1 places, the last of
// them after the text: bits and rank of the character there, and the likeliest as [id, probability]. `before` is the id
// that precedes the text. Yield null after each place, so that the caller can keep the page responsive.
function* judge(gpt, ids, before) {
  const sequence = [before, ...ids], window = gpt.config.block_size, half = Math.max(1, Math.floor(window / 2));
  const places = [];
  while (places.length < sequence.length) { // place i is predicted from sequence[start .. i]
    const i = places.length, start = i < window ? 0 : (Math.floor((i - window) / half) + 1) * half;
    const end = Math.min(start + window, sequence.length);
    gpt.restart();
    for (let at = start; at < end; at += CHUNK) {
      const part = sequence.slice(at, Math.min(at + CHUNK, end));
      gpt.read(part, true);
      for (let t = Math.max(0, i - at); t < part.length; t++) {
        places.push(judged(gpt.scores(t), ids[at + t]));
        yield null;
      }
    }
  }
  return places;
}

// Return bits and rank of an id, which may be undefined, and the likeliest ids with their probabilities.
function judged(logits, id) {
  const most = logits.reduce((a, b) => Math.max(a, b));
  const sum = logits.reduce((total, score) => total + Math.exp(score - most), 0);
  const p = (i) => Math.exp(logits[i] - most) / sum;
  const order = []; // the likeliest ids, found in one pass: sorting a large alphabet takes longer than the model does
  for (let i = 0; i < logits.length; i++) {
    if (order.length === BARS && logits[i] <= logits[order.at(-1)]) continue;
    let at = order.length;
    while (at > 0 && logits[i] > logits[order[at - 1]]) at--;
    order.splice(at, 0, i);
    if (order.length > BARS) order.pop();
  }
  const above = logits.reduce((count, score) => count + (score > logits[id]), 0);
  const rank = logits.filter((score) => score === logits[id]).length > 1 ? 0 : 1 + above; // 0 if it shares its place
  return { bits: -Math.log2(p(id)), rank, likeliest: order.map((i) => [i, p(i)]) };
}

// ---- characters ------------------------------------------------------------------------------------------------------

const NAMED = 10; // changed characters, at most, that a message names: a prompt may have thousands

// Encode a text as ids. A character that is not in the alphabet becomes a similar one, or is skipped; `note` says
// which, or is empty. Letters and their accents are composed first if more are known then.
function encode(text, chars, lookalikes) {
  const stoi = new Map(chars.map((ch, i) => [ch, i]));
  const unknown = (text) => [...text].filter((ch) => !stoi.has(ch)).length;
  const composed = text.normalize("NFC");
  if (unknown(composed) < unknown(text)) text = composed;
  const replaced = new Map();
  for (const ch of text) if (!stoi.has(ch) && !replaced.has(ch)) replaced.set(ch, nearest(ch, stoi, lookalikes));
  const fitted = [...text].map((ch) => replaced.get(ch) ?? ch).join("");
  const swaps = [...replaced].filter(([, to]) => to).map(([ch, to]) => `${shown(ch)} → ${shown(to)}`);
  const drops = [...replaced].filter(([, to]) => !to).map(([ch]) => shown(ch));
  const done = [];
  if (swaps.length) done.push(`replaced ${first(swaps, ", ")}`);
  if (drops.length) done.push(`skipped ${first(drops, " ")}`);
  const note = done.length ? `Not in this model's alphabet: ${done.join("; ")}.` : "";
  return { ids: [...fitted].map((ch) => stoi.get(ch)), text: fitted, note };
}

// Return the first NAMED words, and how many there are more.
function first(words, between) {
  const more = words.length - NAMED;
  return words.slice(0, NAMED).join(between) + (more > 0 ? ` and ${more.toLocaleString("en")} more` : "");
}

// Return a known character that differs only in case, look or accent, or "" if there is none.
function nearest(ch, stoi, lookalikes) {
  const swapcase = (s) => [...s].map((c) => (c === c.toUpperCase() ? c.toLowerCase() : c.toUpperCase())).join("");
  const decomposed = ch.normalize("NFKD");
  const bare = decomposed.replace(/\p{Mn}/gu, "");
  const swapped = [...swapcase(ch)].length === 1 ? swapcase(ch) : ch.toUpperCase().toLowerCase(); // ß becomes ss
  const guesses = [swapped, lookalikes[ch] ?? "", ch.normalize("NFKC"), decomposed, bare, swapcase(bare)];
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

// Decode base64 as bytes.
function bytes(letters) {
  const text = atob(letters), decoded = new Uint8Array(text.length);
  for (let i = 0; i < decoded.length; i++) decoded[i] = text.charCodeAt(i);
  return decoded;
}
