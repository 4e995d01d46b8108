// What takes the time in gpt.js: products with a matrix, and attention. `plainMath` works everywhere; `simdMath` has the
// same functions in WebAssembly (math.wat), several times as fast, and keeps all numbers in WebAssembly's memory.
"use strict";

const padded = (n) => Math.ceil(n / 32) * 32; // the number of columns that WebAssembly computes at once

// Return a matrix as 32-bit floats.
function floats(weight, rows) {
  if (!weight.scales) return weight;
  const n = weight.length / rows, numbers = new Float32Array(weight.length);
  for (let row = 0, i = 0; row < rows; row++) {
    for (const scale = weight.scales[row], end = i + n; i < end; i++) numbers[i] = weight[i] * scale;
  }
  return numbers;
}

const plainMath = {
  // Return arrays of zeros by name, given their lengths by name.
  arrays: (lengths) => Object.fromEntries(Object.entries(lengths).map(([name, n]) => [name, new Float32Array(n)])),

  // Return a linear layer. The weight is (rows, n), row by row; the bias is (rows,) or undefined. A weight of 8-bit numbers
  // has a scale for each row.
  layer: (weight, bias, rows) => ({ weight: floats(weight, rows), bias, rows, n: weight.length / rows }),

  // out[t] = weight @ x[t] + bias for each row t from `from` to before `to`. out is (T, rows), and x is (T, n). Four rows
  // of the weight at a time, so that each number of x is loaded once for all four.
  linear(out, { weight, bias, rows, n }, x, from, to) {
    for (let t = from; t < to; t++) {
      const i = t * rows, j = t * n, fours = rows - (rows % 4);
      for (let row = 0; row < rows; row++) out[i + row] = bias ? bias[row] : 0;
      for (let row = 0; row < fours; row += 4) {
        const k0 = row * n, k1 = k0 + n, k2 = k1 + n, k3 = k2 + n;
        let a = 0, b = 0, c = 0, d = 0;
        for (let k = 0; k < n; k++) {
          const v = x[j + k];
          a += weight[k0 + k] * v;
          b += weight[k1 + k] * v;
          c += weight[k2 + k] * v;
          d += weight[k3 + k] * v;
        }
        out[i + row] += a;
        out[i + row + 1] += b;
        out[i + row + 2] += c;
        out[i + row + 3] += d;
      }
      for (let row = fours; row < rows; row++) {
        let a = 0;
        for (let k = 0; k < n; k++) a += weight[row * n + k] * x[j + k];
        out[i + row] += a;
      }
    }
  },

  // Self-attention of the character in row t with the first `length` of the cache, head by head. The result is in row t
  // of `gathered`.
  attend({ config, qkv, wei, gathered, places }, { keys, values }, t, length) {
    const { n_embd: C, n_head } = config, hs = C / n_head;
    for (let head = 0; head < n_head; head++) {
      const q = t * 3 * C + head * hs, out = t * C + head * hs;
      let most = -Infinity, sum = 0;
      wei.fill(0, 0, length);
      for (let i = 0; i < hs; i++) { // affinity of the query with each key so far
        const a = qkv[q + i] / Math.sqrt(hs), k = (head * hs + i) * places;
        for (let s = 0; s < length; s++) wei[s] += a * keys[k + s];
      }
      for (let s = 0; s < length; s++) most = Math.max(most, wei[s]);
      for (let s = 0; s < length; s++) sum += wei[s] = Math.exp(wei[s] - most);
      gathered.fill(0, out, out + hs);
      for (let s = 0; s < length; s++) { // weighted sum of the values
        const share = wei[s] / sum, v = (head * places + s) * padded(hs);
        for (let i = 0; i < hs; i++) gathered[out + i] += share * values[v + i];
      }
    }
  },

  // Turn the queries and keys in row t by the angles of their place in the text, and normalize them, if the model does so.
  turn({ config, qkv, cos, sin }, t, place) {
    const { n_embd: C, n_head, rotary, qk_norm } = config, hs = C / n_head, half = hs / 2, angles = place * half;
    for (let z = t * 3 * C; z < t * 3 * C + 2 * C; z += hs) {
      if (rotary) { // rotate pairs of numbers
        for (let i = 0; i < half; i++) {
          const c = cos[angles + i], s = sin[angles + i], a = qkv[z + i], b = qkv[z + half + i];
          qkv[z + i] = a * c + b * s;
          qkv[z + half + i] = b * c - a * s;
        }
      }
      if (qk_norm) this.rmsNorm(qkv, qkv, z, hs);
    }
  },

  // Divide n numbers, from `start` on, by their root mean square.
  rmsNorm(out, x, start, n) {
    let square = 0;
    for (let i = start; i < start + n; i++) square += x[i] * x[i];
    const scale = 1 / Math.sqrt(square / n + 1e-6);
    for (let i = start; i < start + n; i++) out[i] = x[i] * scale;
  },

  add(x, y, from, to) {
    for (let i = from; i < to; i++) x[i] += y[i];
  },

  relu(x, squared, from, to) {
    for (let i = from; i < to; i++) {
      const a = Math.max(0, x[i]);
      x[i] = squared ? a * a : a;
    }
  },
};

// Return the functions of plainMath in WebAssembly, from the bytes of math.wasm. Raise an error where WebAssembly or its
// SIMD is missing or forbidden. `arrays` must come after all layers, because a memory that grows moves its arrays.
async function simdMath(bytes) {
  const memory = new WebAssembly.Memory({ initial: 1 });
  const { instance } = await WebAssembly.instantiate(bytes, { page: { memory } });
  const { linear, linear8, attend, turn, rmsNorm, add, relu } = instance.exports;
  let used = 256; // bytes; the module has the first 256 to itself
  let rounded = 0, roundedScales = 0, widest = 0; // where "linear8" rounds CHUNK rows of up to `widest` numbers
  const place = (n) => { // the address of n new numbers
    const at = used;
    used += padded(n) * 4;
    if (used > memory.buffer.byteLength) memory.grow(Math.ceil((used - memory.buffer.byteLength) / 65536));
    return at;
  };
  const view = (at, n) => new Float32Array(memory.buffer, at, n);
  const layer8 = (weight, rows, n) => {
    const at = place((padded(rows) * n) / 4), scalesAt = place(rows);
    const panels = new Int8Array(memory.buffer, at, padded(rows) * n);
    for (let row = 0; row < rows; row++) { // a panel has 8 rows, transposed to (n / 2, 8, 2)
      const first = (row - (row % 8)) * n + (row % 8) * 2;
      for (let k = 0; k < n; k++) panels[first + (k >> 1) * 16 + (k & 1)] = weight[row * n + k];
    }
    view(scalesAt, rows).set(weight.scales);
    widest = Math.max(widest, n);
    return { at, scalesAt, rows, n };
  };
  return {
    arrays(lengths) {
      [rounded, roundedScales] = [place((CHUNK * widest) / 2), place(CHUNK)];
      const all = Object.entries(lengths).map(([name, n]) => [name, place(n), n]);
      return Object.fromEntries(all.map(([name, at, n]) => [name, view(at, n)]));
    },
    layer(weight, bias, rows) {
      const n = weight.length / rows, biasAt = place(rows);
      if (bias) view(biasAt, rows).set(bias);
      if (weight.scales && n % 4 === 0) return { ...layer8(weight, rows, n), biasAt };
      const at = place(padded(rows) * n), panels = view(at, padded(rows) * n), numbers = floats(weight, rows);
      for (let row = 0; row < rows; row++) {
        const first = (row - (row % 8)) * n + (row % 8); // a panel has 8 rows, transposed to (n, 8)
        for (let k = 0; k < n; k++) panels[first + k * 8] = numbers[row * n + k];
      }
      return { at, biasAt, rows, n };
    },
    linear(out, { at, biasAt, scalesAt, rows, n }, x, from, to) {
      const toOut = out.byteOffset + 4 * from * rows, fromX = x.byteOffset + 4 * from * n;
      if (scalesAt === undefined) return linear(toOut, at, biasAt, fromX, to - from, n, rows);
      const most = Math.min(32767, Math.floor(2 ** 31 / (128 * n)));
      linear8(toOut, at, scalesAt, biasAt, fromX, rounded, roundedScales, most, to - from, n, rows);
    },
    attend({ config, qkv, wei, gathered, places }, { keys, values }, t, length) {
      const { n_embd: C, n_head } = config, out = gathered.byteOffset + 4 * t * C, q = qkv.byteOffset + 4 * t * 3 * C;
      attend(out, q, keys.byteOffset, values.byteOffset, wei.byteOffset, n_head, C / n_head, places, length);
    },
    turn(gpt, t, place) {
      const { config: { n_embd: C, n_head, rotary, qk_norm }, qkv, cos, sin } = gpt, hs = C / n_head;
      if (hs % 8) return plainMath.turn(gpt, t, place);
      const angles = 4 * place * (hs / 2), at = (table) => (rotary ? table.byteOffset + angles : 0);
      turn(qkv.byteOffset + 4 * t * 3 * C, 2 * n_head, hs, at(cos), at(sin), qk_norm);
    },
    rmsNorm(out, x, start, n) {
      if (n % 4) plainMath.rmsNorm(out, x, start, n);
      else rmsNorm(out.byteOffset + 4 * start, x.byteOffset + 4 * start, n);
    },
    add: (x, y, from, to) => add(x.byteOffset + 4 * from, y.byteOffset + 4 * from, to - from),
    relu: (x, squared, from, to) => relu(x.byteOffset + 4 * from, to - from, squared),
  };
}
