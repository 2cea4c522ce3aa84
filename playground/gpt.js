// The GPT of chapter 16 in JavaScript. It reads the file that `nn_train --text` has written, and computes the same logits,
// for one place after another: keys and values of the places before are kept.

// Arrays and settings of a model.safetensors: eight bytes for the length of the header, the header in JSON, the numbers.
export function read(buffer) {
  const length = Number(new DataView(buffer).getBigUint64(0, true)), begin = 8 + length;
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  const about = JSON.parse(header.__metadata__.nn_from_scratch), arrays = {};
  delete header.__metadata__;
  for (const [name, { data_offsets: [from, to] }] of Object.entries(header)) {
    arrays[name] = new Float32Array(buffer.slice(begin + from, begin + to));
  }
  const letters = new Uint32Array(Uint8Array.from(atob(about.state["tokenizer._letters"].data), (c) => c.charCodeAt(0)).buffer);
  return { arrays, settings: about.model.settings, letters: [...letters].map((code) => String.fromCodePoint(code)) };
}

const add = (a, b) => a.map((value, i) => value + b[i]);
const dot = (a, b, at = 0) => a.reduce((sum, value, i) => sum + value * b[at + i], 0);

// W x + b, where W stands row by row, as PyTorch has it.
const linear = (x, w, b) => Array.from({ length: w.length / x.length }, (_, row) => dot(x, w, row * x.length) + (b ? b[row] : 0));

function layerNorm(x, weight, bias) {
  const mean = x.reduce((sum, value) => sum + value) / x.length;
  const spread = Math.sqrt(x.reduce((sum, value) => sum + (value - mean) ** 2, 0) / x.length + 1e-5);
  return x.map((value, i) => ((value - mean) / spread) * weight[i] + bias[i]);
}

const gelu = (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));

// Rotary positions: numbers i and i + half of a head are a pair, turned by the place times a rate of their own.
function turned(x, place) {
  const half = x.length / 2, y = [...x];
  for (let i = 0; i < half; i++) {
    const angle = place * 10000 ** (-i / half), cos = Math.cos(angle), sin = Math.sin(angle);
    y[i] = x[i] * cos - x[i + half] * sin;
    y[i + half] = x[i + half] * cos + x[i] * sin;
  }
  return y;
}

export function softmax(z, temperature = 1) {
  const top = Math.max(...z), e = z.map((value) => Math.exp((value - top) / temperature));
  const total = e.reduce((sum, value) => sum + value);
  return e.map((value) => value / total);
}

// Goes through the tokens; gives the logits after the last one, and how much each head of each block took from each place.
export function ask({ arrays, settings }, tokens) {
  const table = arrays["embedding.weight"], d = arrays["norm.weight"].length, { heads } = settings, size = d / heads;
  const cache = [];
  let logits, looks;
  tokens.forEach((token, place) => {
    let x = [...table.subarray(token * d, (token + 1) * d)];
    looks = [];
    for (let block = 0; `blocks.${block}.norm1.weight` in arrays; block++) {
      const its = (name) => arrays[`blocks.${block}.${name}`];
      const normed = (x, n) => layerNorm(x, its(`norm${n}.weight`), its(`norm${n}.bias`));
      const layer = (x, name) => linear(x, its(`${name}.weight`), its(`${name}.bias`));
      const h = linear(normed(x, 1), its("self_attn.in_proj_weight"), its("self_attn.in_proj_bias"));
      const answers = [];
      looks.push([]);
      for (let head = 0; head < heads; head++) {
        const [q, k, v] = [0, 1, 2].map((which) => h.slice(which * d + head * size, which * d + (head + 1) * size));
        const kept = ((cache[block] ??= [])[head] ??= { keys: [], values: [] });
        kept.keys.push(turned(k, place));
        kept.values.push(v);
        const asked = turned(q, place), p = softmax(kept.keys.map((key) => dot(asked, key) / Math.sqrt(size)));
        looks[block].push(p);
        for (let i = 0; i < size; i++) answers.push(p.reduce((sum, share, s) => sum + share * kept.values[s][i], 0));
      }
      x = add(x, layer(answers, "self_attn.out_proj"));
      x = add(x, layer(layer(normed(x, 2), "linear1").map(gelu), "linear2"));
    }
    logits = linear(layerNorm(x, arrays["norm.weight"], arrays["norm.bias"]), table);
  });
  return { logits, looks };
}

// The shares to draw from: the k likeliest, at this temperature; at 0 the likeliest alone.
export function shares(logits, temperature, k) {
  const order = [...logits.keys()].sort((a, b) => logits[b] - logits[a]).slice(0, temperature ? k : 1);
  const p = softmax(order.map((i) => logits[i]), temperature || 1), all = logits.map(() => 0);
  order.forEach((i, place) => { all[i] = p[place]; });
  return all;
}

export function drawn(p) {
  let at = Math.random();
  return p.findIndex((share) => (at -= share) < 0 && share > 0);
}
