// What a page can do beyond being read: switch its colours, copy code, be searched. Nothing here is needed for reading.
"use strict";
const root = document.documentElement;
const dark = matchMedia("(prefers-color-scheme: dark)");

// light and dark
const button = document.querySelector(".theme");
const isDark = () => (root.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
function label() {
  button.textContent = isDark() ? "Light" : "Dark";
  button.setAttribute("aria-label", `Switch to the ${isDark() ? "light" : "dark"} theme`);
}
button.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  try { localStorage.setItem("theme", root.dataset.theme); } catch { /* the choice lasts for this page */ }
  label();
});
dark.addEventListener("change", label);
label();
button.hidden = false;

// on a narrow page the list of chapters starts folded
if (matchMedia("(max-width: 56rem)").matches) document.querySelector(".sidebar details").open = false;
addEventListener("beforeprint", () => document.querySelectorAll("article details").forEach((part) => { part.open = true; }));

// a link into a folded part opens it
function reveal() {
  let target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
}
addEventListener("hashchange", reveal);
reveal();

// copy
for (const block of document.querySelectorAll("article div.sourceCode")) {
  if (!navigator.clipboard) break;
  const copy = document.createElement("button");
  copy.className = "copy";
  copy.type = "button";
  copy.textContent = "Copy";
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(block.querySelector("code").innerText);
    copy.textContent = "Copied";
    setTimeout(() => { copy.textContent = "Copy"; }, 1500);
  });
  block.append(copy);
}

// where one is
const entries = new Map([...document.querySelectorAll(".toc a")].map((a) => [decodeURIComponent(a.hash.slice(1)), a]));
if (entries.size && "IntersectionObserver" in window) {
  const headings = [...document.querySelectorAll("article :is(h2, h3)")].filter((h) => entries.has(h.id));
  const mark = () => {
    let now = null;
    for (const heading of headings) if (heading.getBoundingClientRect().top < 120) now = heading;
    for (const [id, a] of entries) a.classList.toggle("now", id === now?.id);
  };
  new IntersectionObserver(mark, { rootMargin: "-110px 0px -60% 0px" }).observe(document.querySelector("article"));
  const watch = new IntersectionObserver(mark, { rootMargin: "-110px 0px -60% 0px" });
  headings.forEach((heading) => watch.observe(heading));
}

// search: the index is a script beside the page, fetched when the box is first used
const form = document.querySelector(".search"), box = form.elements.q, found = document.getElementById("found");
form.hidden = false;
let loading = null;
const load = () => loading ??= new Promise((done, failed) => {
  const script = document.createElement("script");
  Object.assign(script, { src: "search.js", onload: done, onerror: failed });
  document.head.append(script);
});
const escape = (text) => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
function excerpt(text, words) {
  const at = Math.max(0, text.toLowerCase().indexOf(words[0]) - 60);
  const pattern = new RegExp(`(${words.map((w) => escape(w).replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|")})`, "gi");
  return (at ? "… " : "") + escape(text.slice(at, at + 150)).replace(pattern, "<mark>$1</mark>");
}
async function search() {
  const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
  found.hidden = !words.length;
  if (!words.length) return;
  await load();
  const hits = [];
  for (const entry of window.searchIndex) {
    const head = `${entry.p} ${entry.h}`.toLowerCase(), text = entry.t.toLowerCase();
    if (!words.every((word) => head.includes(word) || text.includes(word))) continue;
    const exact = entry.h.toLowerCase().replace(/\s*#$/, "") === words.join(" ");
    hits.push([exact ? 9 : words.filter((word) => head.includes(word)).length * 2 + (entry.h ? 0 : .5), entry]);
  }
  hits.sort((a, b) => b[0] - a[0]);
  found.innerHTML = hits.slice(0, 12).map(([, e]) =>
    `<li><a href="${e.u}">${escape(e.h || e.p)} <small>${e.h ? escape(e.p) + ": " : ""}${excerpt(e.t, words)}</small></a></li>`).join("")
    || '<li class="none">Nothing found.</li>';
}
box.addEventListener("focus", () => { load().catch(() => {}); }, { once: true });
box.addEventListener("input", search);
form.addEventListener("submit", (event) => { event.preventDefault(); found.querySelector("a")?.click(); });
addEventListener("keydown", (event) => {
  if (event.key === "/" && !/INPUT|TEXTAREA/.test(document.activeElement.tagName)) { event.preventDefault(); box.focus(); }
  if (event.key === "Escape") { found.hidden = true; }
  if ((event.key === "ArrowDown" || event.key === "ArrowUp") && form.contains(document.activeElement) && !found.hidden) {
    const links = [box, ...found.querySelectorAll("a")], at = links.indexOf(document.activeElement);
    links[(at + (event.key === "ArrowDown" ? 1 : links.length - 1)) % links.length].focus();
    event.preventDefault();
  }
});
addEventListener("click", (event) => { if (!form.contains(event.target)) found.hidden = true; });
