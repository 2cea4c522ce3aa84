// The page of letters: what is typed goes through the model, and what it says is shown.
import { ask, drawn, read, shares } from "./gpt.js";

const by = (id) => document.getElementById(id);
const shown = (letter) => (letter === "\n" ? "⏎" : letter);
const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;
let model;

// The tokens of a text behind the end of a line; letters that the model has never seen are left out.
function tokensOf(text) {
  const known = [...text.toLowerCase()].filter((letter) => letter !== "\n" && model.letters.includes(letter));
  const tokens = ["\n", ...known].map((letter) => model.letters.indexOf(letter));
  return { tokens: tokens.slice(-model.settings.context), unknown: [...new Set(text.toLowerCase())].filter((c) => !model.letters.includes(c)) };
}

const choices = () => ({ temperature: Number(by("temperature").value), k: Number(by("k").value) });
const sharesAfter = (text) => {
  const { logits, looks } = ask(model, tokensOf(text).tokens), { temperature, k } = choices();
  return { p: shares(logits, temperature, k), looks };
};

function showBars(p) {
  const bars = by("bars"), top = Math.max(...p);
  bars.replaceChildren(...p.map((share, i) => {
    const bar = document.createElement("div"), fill = document.createElement("i"), name = document.createElement("b");
    fill.style.height = `${(100 * share) / top}%`;
    name.textContent = shown(model.letters[i]);
    bar.title = `${shown(model.letters[i])} ${percent(share)}`;
    bar.append(fill, name);
    return bar;
  }));
  const best = [...p.keys()].filter((i) => p[i] > 0).sort((a, b) => p[b] - p[a]).slice(0, 5);
  const words = best.map((i) => `${shown(model.letters[i])} ${percent(p[i])}`).join(", ");
  bars.setAttribute("aria-label", `Shares of the next letter. The likeliest: ${words}`);
  by("said").textContent = `The likeliest: ${words}.`;
}

function showLooks(looks, tokens) {
  const table = document.createElement("table"), head = table.createTHead().insertRow();
  const cell = (row, kind, text) => {
    const made = document.createElement(kind);
    made.textContent = text;
    row.append(made);
    return made;
  };
  cell(head, "th", "");
  for (const token of tokens) cell(head, "th", shown(model.letters[token])).scope = "col";
  looks.forEach((heads, block) => heads.forEach((p, h) => {
    const row = table.insertRow();
    cell(row, "th", `block ${block + 1}, head ${h + 1}`).scope = "row";
    for (const share of p) {
      const made = cell(row, "td", Math.round(100 * share));
      made.style.background = `color-mix(in srgb, var(--class1) ${Math.round(60 * share)}%, transparent)`;
    }
  }));
  by("looks").replaceChildren(table);
}

function show() {
  const { tokens, unknown } = tokensOf(by("text").value), { temperature, k } = choices(), { p, looks } = sharesAfter(by("text").value);
  by("told-temperature").textContent = temperature.toFixed(1);
  by("told-k").textContent = k;
  by("status").textContent = unknown.length ? `It knows the letters a to z alone, and leaves out ${unknown.join(" ")}.` : "";
  showBars(p);
  showLooks(looks, tokens);
}

// A letter behind a text, drawn; "\n" at the end of the name, or where there is no room.
const next = (text) => (text.length >= model.settings.context - 1 ? "\n" : model.letters[drawn(sharesAfter(text).p)]);

function written(text) {
  for (let letter = next(text); letter !== "\n"; letter = next(text)) text += letter;
  return text;
}

async function start() {
  document.querySelector("main").hidden = false;
  try {
    const answer = await fetch("names.safetensors");
    if (!answer.ok) throw new Error(`names.safetensors: ${answer.status}`);
    model = read(await answer.arrayBuffer());
  } catch (error) {
    by("status").textContent = `The model could not be read: ${error.message}`;
    by("status").classList.add("error");
    return;
  }
  for (const control of document.querySelectorAll("main :disabled")) control.disabled = false;
  by("controls").addEventListener("input", show);
  by("controls").addEventListener("submit", (event) => event.preventDefault());
  by("more").addEventListener("click", () => {
    const letter = next(by("text").value);
    if (letter !== "\n") by("text").value += letter;
    show();
    if (letter === "\n") by("status").textContent = "It has drawn ⏎: the name ends here.";
  });
  by("write").addEventListener("click", () => {
    by("names").textContent = Array.from({ length: 10 }, () => written(by("text").value)).join("  ");
  });
  show();
}

start();
