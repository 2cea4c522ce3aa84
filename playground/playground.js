// The page: reads the choices, asks the worker for steps, and draws what comes back. Everything that is computed is computed in session.py.

const $ = (id) => document.getElementById(id);
const SIDE = 40, REACH = 2.4; // as in session.py
const still = matchMedia("(prefers-reduced-motion: reduce)");
const MOST_UNITS = 8;

let worker = null, ready = false, busy = false, training = false, pending = null, run = 0;
let view = null, points = null, sizes = [], history = [], drawn = [];

// ---------------------------------------------------------------- the choices

const unitInputs = () => [...$("units").querySelectorAll("input")];

function layUnits(before = unitInputs().map((input) => input.value)) {
  const row = document.createElement("div");
  for (let i = 0; i < Number($("layers").value); i++) {
    const input = Object.assign(document.createElement("input"), { type: "number", min: 1, max: MOST_UNITS, value: before[i] ?? 4 });
    input.setAttribute("aria-label", `Units in hidden layer ${i + 1}`);
    row.append(input);
  }
  $("units").querySelector("div")?.remove();
  $("units").append(row);
  $("units").hidden = !row.children.length;
}

const within = (input, low, high) => {
  const value = Math.min(high, Math.max(low, Math.round(Number(input.value)) || 0));
  input.value = value;
  return value;
};

const choices = () => ({
  data: $("data").value, noise: Number($("noise").value), activation: $("activation").value, seed: within($("seed"), 0, 999),
  sizes: unitInputs().map((input) => within(input, 1, MOST_UNITS)),
  optimizer: $("optimizer").value, lr: Number($("lr").value), decay: Number($("decay").value), batch: Number($("batch").value),
});

// ---------------------------------------------------------------- the address holds the choices, so that a page can be shared

const SELECTS = ["data", "noise", "activation", "optimizer", "lr", "decay", "batch"];
const USUAL = { noise: { moons: "0.15", circles: "0.1", spiral: "0.05", xor: "0.1" }, lr: { sgd: "1", momentum: "0.1", rmsprop: "0.01", adam: "0.01" } };
const lines = () => document.querySelector("input[name=lines]:checked").value;

function address() {
  const words = new URLSearchParams(SELECTS.map((id) => [id, $(id).value]));
  words.set("layers", choices().sizes.join(","));
  words.set("seed", $("seed").value);
  words.set("lines", lines());
  return `?${words}`.replaceAll("%2C", ",");
}

function preset(query) { // what the address does not name is as usual; what no choice has is left alone
  const words = new URLSearchParams(query);
  const set = (id, value) => { if ([...$(id).options].some((option) => option.value === value)) $(id).value = value; };
  for (const id of ["data", "activation", "optimizer", "decay", "batch"]) if (words.has(id)) set(id, words.get(id));
  for (const [id, by] of [["noise", "data"], ["lr", "optimizer"]]) set(id, words.get(id) ?? USUAL[id][$(by).value]);
  if (words.has("seed")) $("seed").value = words.get("seed");
  if (words.has("layers")) {
    const sizes = words.get("layers").split(",").filter(Boolean).slice(0, 4);
    $("layers").value = sizes.length;
    layUnits(sizes);
  }
  const shown = document.querySelector(`input[name=lines][value="${CSS.escape(words.get("lines") ?? "")}"]`);
  if (shown) shown.checked = true;
}

const remember = () => window.history.replaceState(null, "", address());

function code({ data, noise, sizes, activation, optimizer, lr, decay, batch, seed }) {
  const toy = `${data}(300, ${noise}`, more = decay ? `, weight_decay=${decay}` : "";
  const rule = { sgd: `SGD(lr=${lr}${more})`, momentum: `SGD(lr=${lr}, momentum=0.9${more})`, rmsprop: `RMSprop(lr=${lr}${more})`,
    adam: decay ? `AdamW(lr=${lr}${more})` : `Adam(lr=${lr})` }[optimizer];
  return `import nn_from_scratch as nn

x, y = nn.${toy}, rng=${seed})
y = y[:, None].astype("float32")  # one logit: is it class 1?
train, valid = nn.train_valid_split(x, y, valid=1/3, rng=${seed})
standardize = nn.Standardize(train[0])
train, valid = (standardize(train[0]), train[1]), (standardize(valid[0]), valid[1])

model = nn.mlp([${[2, ...sizes, 1].join(", ")}], nn.${activation}, rng=${seed})
optimizer = nn.${rule}
loss_and_gradient = nn.value_and_grad(lambda model, x, y: nn.binary_cross_entropy(model(x), y))

for x, y in nn.batches(*train, ${batch}, rng=${seed}):  # once through the data; the playground goes on
    loss, gradient = loss_and_gradient(model, x, y)
    optimizer.update(model, gradient)
`;
}

// ---------------------------------------------------------------- talking to the worker

function ask(message) {
  if (!ready) return;
  if (busy) { // one thing at a time; what was asked last counts, and a fresh start more than a change
    if (!(pending?.type === "start" && message.type !== "start")) pending = message;
    return;
  }
  busy = true;
  worker.postMessage({ run, ...message });
}

function restart() {
  run += 1;
  if (!ready) { sizes = choices().sizes; draw(); return; }
  training = false;
  showButtons();
  ask({ type: "start", run, ...choices() });
}

function more() { // the worker takes as many steps as fit before the next picture
  ask({ type: "run", steps: 100000, milliseconds: still.matches ? 1000 : 30 });
}

function load() {
  $("load").disabled = true;
  $("progress").hidden = false;
  tell("Starting …");
  worker = new Worker("worker.js", { type: "module" });
  worker.onmessage = ({ data }) => received(data);
  worker.onerror = () => failed("the worker could not be started");
  worker.postMessage({ type: "load" });
}

function failed(text) {
  worker?.terminate();
  worker = null;
  ready = busy = training = false;
  $("start").hidden = false;
  $("load").disabled = false;
  $("progress").hidden = true;
  showButtons();
  tell(`Python could not be started (${text}). Is there a connection? Press the button to try again.`, true);
}

function received(message) {
  if (message.type === "loading") {
    $("progress").value = message.stage;
    tell(message.text);
  } else if (message.type === "ready") {
    ready = true;
    $("progress").value = 5;
    $("start").hidden = true;
    showButtons();
    $("train").focus();
    ask({ type: "start", run, ...choices() });
  } else if (message.type === "error") {
    if (message.reply === "load") failed(message.text);
    else { busy = training = false; showButtons(); tell(message.text, true); }
  } else {
    busy = false;
    if (message.run === run) {
      show(message);
      if (!training && message.reply === "run" && !view.diverged) rest();
    }
    if (pending) { const next = pending; pending = null; ask(next); }
    else if (training) requestAnimationFrame(() => training && more());
  }
}

function show({ reply, view: fresh }) {
  view = fresh;
  view.weights = floats(view.weights);
  view.grads = floats(view.grads);
  view.pictures = new Int8Array(view.pictures.slice().buffer);
  if (reply === "start") {
    points = floats(view.points);
    sizes = choices().sizes;
    history = [];
    tell("Ready. Press Train, or take one step.");
  }
  if (history.at(-1)?.[0] !== view.steps) history.push([view.steps, view.trainLoss, view.validLoss]);
  if (history.length > 2000) history = history.filter((_, i) => i % 2 === 0 || i === history.length - 1);
  if (view.diverged) {
    training = false;
    showButtons();
    tell("The loss is no longer a number: the steps are too large. Choose a smaller learning rate and press Reset.", true);
  }
  draw();
}

const floats = (bytes) => new Float32Array(bytes.slice().buffer);

// ---------------------------------------------------------------- text

function tell(text, error = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", error);
}

const short = (x) => !Number.isFinite(x) ? "not a number" : x === 0 ? "0" : Math.abs(x) >= 0.001 && Math.abs(x) < 1000 ? x.toPrecision(3) : x.toExponential(1);

function showButtons() {
  for (const id of ["train", "step", "reset"]) $(id).disabled = !ready;
  $("train").textContent = training ? "Pause" : "Train";
}

function summary() {
  return `After ${view.steps} step${view.steps === 1 ? "" : "s"}: training loss ${short(view.trainLoss)}, validation loss ${short(view.validLoss)}, `
    + `${Math.round(100 * view.accuracy)}% of the validation points right.`;
}

function rest() { // once the steps that are under way are done
  if (busy) return;
  draw();
  tell(`Paused. ${summary()}`);
}

function showNumbers() {
  $("steps").textContent = view.steps.toLocaleString("en");
  $("train-loss").textContent = short(view.trainLoss);
  $("valid-loss").textContent = short(view.validLoss);
  $("accuracy").textContent = `${Math.round(100 * view.accuracy)}%`;
  if (!training) { // a reader of the screen hears of it when the training rests
    $("boundary").setAttribute("aria-label", `The decision boundary on ${$("data").selectedOptions[0].text}. ${summary()}`);
    $("loss").setAttribute("aria-label", `The loss over ${view.steps} steps, from ${short(history[0][1])} to ${short(view.trainLoss)} `
      + `on the training points and ${short(view.validLoss)} on the validation points.`);
    if ($("numbers").open) showTables();
  }
}

function showTables() {
  if (!view) return;
  const make = (tag, text) => Object.assign(document.createElement(tag), { textContent: text ?? "" });
  const tables = layers().map(({ inputs, outputs, w, b }, i) => {
    const table = make("table");
    table.append(make("caption", `Layer ${i + 1}: weight (gradient)`));
    const head = table.insertRow();
    head.append(make("th", "to unit"));
    for (let k = 0; k < inputs; k++) head.append(make("th", `from ${source(i, k)}`));
    head.append(make("th", "bias"));
    for (let j = 0; j < outputs; j++) {
      const row = table.insertRow();
      row.append(make("th", i === sizes.length ? "output" : `${j + 1}`));
      for (let k = 0; k < inputs; k++) row.append(make("td", `${short(view.weights[w + k * outputs + j])} (${short(view.grads[w + k * outputs + j])})`));
      row.append(make("td", `${short(view.weights[b + j])} (${short(view.grads[b + j])})`));
    }
    return table;
  });
  $("tables").replaceChildren(...tables);
}

const source = (layer, k) => layer === 0 ? ["x₁", "x₂"][k] : `unit ${k + 1}`;

// where the weights of each layer stand in the one vector of all parameters: weight (inputs, outputs) row by row, then bias
function layers() {
  const widths = [2, ...sizes, 1], all = [];
  for (let i = 0, at = 0; i + 1 < widths.length; i++) {
    const [inputs, outputs] = [widths[i], widths[i + 1]];
    all.push({ inputs, outputs, w: at, b: at + inputs * outputs });
    at += (inputs + 1) * outputs;
  }
  return all;
}

// ---------------------------------------------------------------- pictures

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const rgb = (hex) => [1, 3, 5].map((i) => parseInt((hex.length === 4 ? [...hex].map((c, i) => i ? c + c : c).join("") : hex).slice(i, i + 2), 16));

let palette = null;
function colours() {
  const names = ["--paper", "--ink", "--soft", "--line", "--panel", "--class0", "--class1", "--edge-of-mark"];
  palette = Object.fromEntries(names.map((name) => [name.slice(2), colour(name)]));
  const [paper, low, high] = [palette.paper, palette.class0, palette.class1].map(rgb);
  const ramp = (strength) => Array.from({ length: 255 }, (_, i) => { // from -127 to 127
    const value = (i - 127) / 127, end = value < 0 ? low : high, share = strength * Math.abs(value);
    return paper.map((p, c) => Math.round(p + (end[c] - p) * share));
  });
  palette.full = ramp(0.85);
  palette.pale = ramp(0.45); // behind the points
}

function sheet(canvas) { // a cleared canvas in the page's own pixels
  const { width, height } = canvas.getBoundingClientRect(), scale = devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const g = canvas.getContext("2d");
  g.setTransform(scale, 0, 0, scale, 0, 0);
  g.clearRect(0, 0, width, height);
  g.font = "13px system-ui, sans-serif";
  return { g, width, height };
}

const tile = Object.assign(document.createElement("canvas"), { width: SIDE, height: SIDE });
function picture(g, number, x, y, size, ramp = palette.full) { // the unit's answers on the plane
  const c = tile.getContext("2d"), image = c.createImageData(SIDE, SIDE);
  for (let i = 0; i < SIDE * SIDE; i++) {
    image.data.set(ramp[view.pictures[number * SIDE * SIDE + i] + 127], 4 * i);
    image.data[4 * i + 3] = 255;
  }
  c.putImageData(image, 0, 0);
  g.drawImage(tile, x, y, size, size);
}

function drawNetwork() {
  const { g, width, height } = sheet($("net"));
  const widths = [2, ...sizes, 1], tallest = Math.max(...widths);
  const size = Math.min(44, (height - 40) / tallest - 6, (width - 20) / widths.length * 0.55);
  const x = (i) => 6 + size / 2 + i * (width - 12 - size) / (widths.length - 1);
  const y = (i, j) => 24 + (height - 24) * (j + 0.5) / widths[i];
  const shown = document.querySelector("input[name=lines]:checked").value;
  const values = view?.[shown];
  let most = 0;
  drawn = [];
  for (const [i, layer] of layers().entries()) {
    for (let k = 0; k < layer.inputs; k++) for (let j = 0; j < layer.outputs; j++) {
      const at = layer.w + k * layer.outputs + j;
      most = Math.max(most, Math.abs(values?.[at] ?? 0));
      drawn.push({ i, k, j, at, from: [x(i) + size / 2, y(i, k)], to: [x(i + 1) - size / 2, y(i + 1, j)] });
    }
  }
  for (const { at, from, to } of drawn) {
    const value = values ? values[at] / (most || 1) : 0;
    g.beginPath();
    g.moveTo(...from);
    g.bezierCurveTo(from[0] + 0.4 * (to[0] - from[0]), from[1], to[0] - 0.4 * (to[0] - from[0]), to[1], ...to);
    g.strokeStyle = !values ? palette.line : value < 0 ? palette.class0 : palette.class1;
    g.lineWidth = values ? 0.4 + 5 * Math.abs(value) : 0.6;
    g.setLineDash(value < 0 ? [6, 4] : []);
    g.stroke();
  }
  g.setLineDash([]);
  g.textAlign = "center";
  let number = 0;
  for (const [i, count] of widths.entries()) {
    for (let j = 0; j < count; j++) {
      const left = x(i) - size / 2, top = y(i, j) - size / 2;
      g.fillStyle = palette.panel;
      g.fillRect(left, top, size, size);
      if (i === 0) {
        g.fillStyle = palette.ink;
        g.fillText(["x₁", "x₂"][j], x(0), y(0, j) + 4);
      } else if (view && view.pictures.length >= (number + 1) * SIDE * SIDE) picture(g, number++, left, top, size);
      g.strokeStyle = palette.ink;
      g.lineWidth = 1;
      g.strokeRect(left, top, size, size);
    }
    g.fillStyle = palette.soft;
    const name = i === 0 ? "input" : i === widths.length - 1 ? "output" : width > 360 ? `hidden ${i}` : i;
    const room = g.measureText(name).width / 2;
    g.fillText(name, Math.min(width - room, Math.max(room, x(i))), 13);
  }
  const kind = shown === "weights" ? "weight" : "gradient";
  $("net").dataset.note = values ? `The thickest line is a ${kind} of ${short(most)}; the dashed ones are negative. Point at a line to read it.` : "";
  if (values) $("edge").textContent = $("net").dataset.note;
}

function drawBoundary() {
  const { g, width, height } = sheet($("boundary"));
  if (!view) {
    g.fillStyle = palette.soft;
    g.textAlign = "center";
    g.fillText("Nothing yet: press the button above.", width / 2, height / 2);
    return;
  }
  g.imageSmoothingEnabled = true;
  picture(g, sizes.reduce((a, b) => a + b, 0), 0, 0, width, palette.pale);
  for (let i = 0; i < points.length; i += 4) {
    const [x, y, label, trains] = points.subarray(i, i + 4);
    const at = [(x / REACH + 1) * width / 2, (1 - y / REACH) * height / 2], r = trains ? 4 : 2.2;
    g.beginPath();
    if (label) g.rect(at[0] - r * 0.9, at[1] - r * 0.9, 1.8 * r, 1.8 * r);
    else g.arc(...at, r, 0, 7);
    g.fillStyle = label ? palette.class1 : palette.class0;
    g.fill();
    g.strokeStyle = palette["edge-of-mark"];
    g.lineWidth = 1;
    g.stroke();
  }
}

function drawLoss() {
  const { g, width, height } = sheet($("loss"));
  const left = 40, right = 8, top = 8, bottom = 22;
  const finite = history.filter((row) => Number.isFinite(row[1]) && Number.isFinite(row[2]));
  const last = Math.max(1, finite.at(-1)?.[0] ?? 1);
  // the height that nearly all of the curve fits under: one leap must not flatten the rest
  const sorted = finite.flatMap(([, a, b]) => [a, b]).sort((a, b) => a - b);
  const most = Math.max(0.05, 1.05 * Math.min(sorted.at(-1) ?? 0.7, 4 * (sorted[Math.floor(sorted.length / 2)] ?? 0.7)));
  const at = (step, loss) => [left + (width - left - right) * step / last, top + (height - top - bottom) * (1 - Math.min(loss, most) / most)];
  g.strokeStyle = palette.line;
  g.strokeRect(left, top, width - left - right, height - top - bottom);
  g.fillStyle = palette.soft;
  g.textAlign = "right";
  g.fillText(most.toPrecision(2), left - 5, top + 10);
  g.fillText("0", left - 5, height - bottom);
  g.fillText(`${last.toLocaleString("en")} steps`, width - right, height - 6);
  g.textAlign = "left";
  g.fillText("loss", 4, height / 2);
  if (!finite.length) return;
  for (const [column, name, dash] of [[1, "class1", []], [2, "class0", [5, 3]]]) {
    g.beginPath();
    for (const row of finite) g.lineTo(...at(row[0], row[column]));
    g.strokeStyle = palette[name];
    g.lineWidth = 2;
    g.setLineDash(dash);
    g.stroke();
  }
  for (const [row, name, dash, text] of [[0, "class1", [], "training"], [1, "class0", [5, 3], "validation"]]) {
    const y = top + 16 + 18 * row;
    g.setLineDash(dash);
    g.strokeStyle = palette[name];
    g.beginPath();
    g.moveTo(width - 118, y - 4);
    g.lineTo(width - 90, y - 4);
    g.stroke();
    g.fillStyle = palette.ink;
    g.fillText(text, width - 84, y);
  }
  g.setLineDash([]);
}

function draw() {
  $("code").textContent = code(choices());
  drawNetwork();
  drawBoundary();
  drawLoss();
  if (view) showNumbers();
}

// ---------------------------------------------------------------- what the reader does

$("load").onclick = load;
$("step").onclick = () => { training = false; showButtons(); ask({ type: "run", steps: 1, milliseconds: 1000 }); };
$("reset").onclick = restart;
$("train").onclick = () => {
  training = !training;
  showButtons();
  if (training) { tell("Training …"); more(); } else rest();
};
$("controls").onsubmit = (event) => event.preventDefault();
function anew() { remember(); restart(); }
function goOn() { // with other steps, from where it is
  remember();
  $("code").textContent = code(choices());
  if (view?.diverged) restart();
  else ask({ type: "change", ...choices() });
}
for (const id of ["noise", "activation", "seed", "units"]) $(id).onchange = anew;
$("data").onchange = () => { $("noise").value = USUAL.noise[$("data").value]; anew(); };
$("layers").onchange = () => { layUnits(); anew(); };
for (const id of ["lr", "decay", "batch"]) $(id).onchange = goOn;
$("optimizer").onchange = () => {
  $("lr").value = USUAL.lr[$("optimizer").value];
  if (!training && ready) tell(`The learning rate is ${$("lr").value} now, a usual one for this optimizer.`);
  goOn();
};
for (const radio of document.querySelectorAll("input[name=lines]")) radio.onchange = () => { remember(); draw(); };
for (const link of document.querySelectorAll('a[href^="?"]')) link.onclick = (event) => {
  event.preventDefault();
  preset(link.search);
  anew();
  document.getElementById("bench").scrollIntoView({ behavior: still.matches ? "auto" : "smooth" });
};
$("share").onclick = async () => {
  remember();
  try { await navigator.clipboard.writeText(location.href); $("share").textContent = "copied"; }
  catch { $("share").textContent = "it stands above, in the address bar"; }
};
$("numbers").ontoggle = showTables;

$("net").onpointermove = ({ offsetX, offsetY }) => {
  if (!view) return;
  const away = ({ from, to }) => { // from the line between the two ends
    const [dx, dy] = [to[0] - from[0], to[1] - from[1]];
    const t = Math.min(1, Math.max(0, ((offsetX - from[0]) * dx + (offsetY - from[1]) * dy) / (dx * dx + dy * dy)));
    const s = t * t * (3 - 2 * t); // the curve leaves and arrives level
    return Math.hypot(offsetX - from[0] - t * dx, offsetY - from[1] - s * dy);
  };
  const nearest = drawn.reduce((best, edge) => away(edge) < away(best) ? edge : best, drawn[0]);
  if (away(nearest) > 10) { $("edge").textContent = $("net").dataset.note; return; }
  const { i, k, j, at } = nearest;
  $("edge").textContent = `Layer ${i + 1}, ${source(i, k)} to ${i === sizes.length ? "the output" : `unit ${j + 1}`}: `
    + `weight ${short(view.weights[at])}, gradient ${short(view.grads[at])}.`;
};
$("net").onpointerleave = () => { if (view) $("edge").textContent = $("net").dataset.note; };

document.addEventListener("visibilitychange", () => { if (document.hidden && training) $("train").click(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { colours(); draw(); });
new ResizeObserver(() => draw()).observe($("bench"));

document.querySelector("main").hidden = false;
if (!window.Worker || !window.WebAssembly) {
  $("load").disabled = true;
  tell("This browser has no WebAssembly, so Python cannot run in it.", true);
}
colours();
layUnits();
preset(location.search);
sizes = choices().sizes;
draw();
