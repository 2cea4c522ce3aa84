"""Checks the documentation site without Quarto: pages, links, figures, mathematics, headings, citations.

    python tools/check_site.py                   builds the preview in a temporary folder and checks it
    python tools/check_site.py --site DIR        checks the site in DIR (that of Quarto, say) as it is
    python tools/check_site.py --need-katex      fails where KaTeX cannot run, instead of saying that it was left out

Needs the extra `site`. Formulas are parsed by KaTeX, through node: from the folder that KATEX names, or fetched by npm.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import preview_site as site

KATEX = "katex@0.16.22"
PARSE = """
const katex = require(process.argv[2]);
const formulas = JSON.parse(require("fs").readFileSync(0, "utf8"));
const wrong = [];
for (const [where, tex, displayMode] of formulas) {
  try { katex.renderToString(tex, {displayMode, throwOnError: true, strict: "ignore", output: "mathml"}); }
  catch (error) { wrong.push([where, tex, error.message]); }
}
console.log(JSON.stringify(wrong));
"""


# ---------------------------------------------------------------- the notebooks

def pages_listed(listed: list[str], there: list[str]) -> list[str]:
    "_quarto.yml lists exactly the pages there are, each once."
    problems = [f"_quarto.yml lists {file}, which does not exist" for file in listed if file not in there]
    problems += [f"_quarto.yml does not list {file}" for file in there if file not in listed]
    return problems + [f"_quarto.yml lists {file} more than once" for file, n in Counter(listed).items() if n > 1]


def headings(text: str) -> list[tuple[int, str]]:
    text = re.sub(r"^(```|~~~).*?^\1[^\S\n]*$", "", text, flags=re.M | re.S)
    return [(len(marks), title) for marks, title in re.findall(r"^(#{1,6}) +(.*?) *$", text, flags=re.M)]


def heading_problems(file: str, found: list[tuple[int, str]]) -> list[str]:
    "One title, at the top; below it no level is skipped."
    if not found or found[0][0] != 1: return [f"{file}: does not begin with a title ('# …')"]
    problems = [f"{file}: a second title, '# {title}'" for level, title in found[1:] if level == 1]
    for (above, _), (level, title) in zip(found, found[1:]):
        if level > above + 1: problems.append(f"{file}: heading '{title}' skips a level, from {above} to {level}")
    return problems


def figure_problems(file: str, notebook: dict) -> list[str]:
    "A cell that shows a figure has a label, a caption and an alternative of its own; `@fig-` refers to a label that is there."
    problems, labels, text = [], [], []
    for cell in notebook["cells"]:
        source = site.text_of(cell["source"])
        if cell["cell_type"] == "markdown": text.append(source)
        if cell["cell_type"] != "code": continue
        drawn = any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))
        try: opts = site.options(source)
        except Exception as error:
            problems.append(f"{file}: options that are not YAML ({error}) in the cell\n{source[:200]}")
            continue
        if not drawn or "hide" in opts or opts.get("include") is False: continue
        name = opts.get("label") or f"the figure of the cell that begins '{site.code_of(source)[:50]}'"
        for option, what in ("label", "label"), ("fig-cap", "caption"), ("fig-alt", "text alternative"):
            if not str(opts.get(option, "")).strip(): problems.append(f"{file}: {name} has no {what} ({option})")
        if opts.get("label"):
            if not str(opts["label"]).startswith("fig-"): problems.append(f"{file}: label {opts['label']} does not begin with fig-")
            labels.append(opts["label"])
        if opts.get("fig-cap") and opts.get("fig-cap") == opts.get("fig-alt"):
            problems.append(f"{file}: {name}: the alternative repeats the caption; say what is seen")
    problems += [f"{file}: label {label} is used {n} times" for label, n in Counter(labels).items() if n > 1]
    whole = "\n".join(text)
    problems += [f"{file}: @{name} refers to no figure" for name in re.findall(r"@(fig-[\w-]+)", whole) if name not in labels]
    problems += [f"{file}: picture {target} has no text alternative" for target in re.findall(r"!\[\s*\]\(([^)]+)\)", whole)]
    for film in re.findall(r"[\w-]+\.gif", whole):
        rule = f'img[src$="{film}"]' in (site.NBS / "site.css").read_text(encoding="utf-8")
        if not rule or not (site.NBS / film).with_suffix(".png").exists():
            problems.append(f"{file}: {film} has no still (tools/make_assets.py) or no rule for prefers-reduced-motion in nbs/site.css")
    return problems


def output_problems(file: str, notebook: dict) -> list[str]:
    "No output is HTML or an error."
    problems = []
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            where = site.text_of(cell["source"])[:60].replace("\n", " ")
            if output["output_type"] == "error": problems.append(f"{file}: a saved error, {output.get('ename')}, in '{where}'")
            if "text/html" in output.get("data", {}): problems.append(f"{file}: an output of text/html in '{where}'")
    return problems


def citation_problems(file: str, text: str, entries: dict[str, tuple[list[str], str]]) -> list[str]:
    "Each [@key] is in the bibliography, and so is each '(Polyak, 1964)' and each 'Smith (2017)'."
    problems = [f"{file}: citation @{key} is not in references.bib" for group in re.findall(r"\[([^\]]*@[^\]]*)\](?!\()", text)
                for key in re.findall(r"(?<![\w.])@([\w:-]+)", group) if key not in entries and not key.startswith("fig-")]
    for pattern in site.CITED:
        problems += [f"{file}: '{match[0]}' is not in references.bib" for match in re.finditer(pattern, text)
                     if not site.cited(match, entries)]
    return problems


def raw_mark_problems(file: str, markdown: str) -> list[str]:
    "What only the site would understand stands raw in JupyterLab: fences of colons, attributes of headings."
    lines: list[str] = []
    site.outside_code(markdown, lambda piece: lines.extend(piece.split("\n")) or piece)
    marks = (line for line in lines if re.match(r":::|#.*\{[#.]", line))
    return [f"{file}: JupyterLab shows the marks of '{line[:60]}' raw" for line in marks]


def notebook_problems() -> list[str]:
    there = [path.name for kind in ("*.ipynb", "*.qmd") for path in sorted(site.NBS.glob(kind)) if path.name != "404.qmd"]
    problems = pages_listed(site.listed(), there)
    entries = site.bibliography((site.NBS / "references.bib").read_text(encoding="utf-8"))
    for path in sorted(site.NBS.glob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        markdown = "\n\n".join(site.text_of(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
        everything = "\n\n".join(site.text_of(cell["source"]) for cell in notebook["cells"])
        problems += heading_problems(path.name, headings(markdown)) + figure_problems(path.name, notebook)
        problems += output_problems(path.name, notebook) + citation_problems(path.name, everything, entries)
        problems += raw_mark_problems(path.name, markdown)
    return problems


# ---------------------------------------------------------------- what is handed to Quarto

def handed_problems(folder: Path) -> list[str]:
    "The notebooks in `folder`, prepared for Quarto, hold what it needs: whole lines, fences on lines of their own, a caption a picture."
    problems = []
    for path in sorted(folder.glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        for cell in cells:
            source, text = cell["source"], site.text_of(cell["source"])
            where = f"{path.name}, for Quarto: the cell that begins '{text[:50]}'".replace("\n", " ")
            if not isinstance(source, list):
                problems.append(f"{where} is one string: Quarto would join its lines; write a list")
            elif any(not line.endswith("\n") for line in source[:-1]) or any("\n" in line[:-1] for line in source):
                problems.append(f"{where}: its lines do not each end where they end")
            if cell["cell_type"] == "markdown": problems += [f"{where}: {problem}" for problem in fence_problems(text)]
            pictures = sum("image/png" in output.get("data", {}) for output in cell.get("outputs", []))
            opts = site.options(text) if cell["cell_type"] == "code" else {}
            if pictures > 1 and opts.get("label") and "fig-subcap" not in opts:
                problems.append(f"{where} shows {pictures} pictures under one label: give fig-subcap, or a cell each")
            if opts.get("code-summary") == "Exported source": problems.append(f"{where} does not say which file it goes to")
        titles = [cell for cell in cells if cell["cell_type"] == "raw" and site.text_of(cell["source"]).startswith("---")]
        if len(titles) != 1: problems.append(f"{path.name}, for Quarto: {len(titles)} cells with its title, not one")
    return problems


def fence_problems(text: str) -> list[str]:
    "Each fence of colons stands on a line of its own, after an empty line or at the top, and is closed."
    problems, depth, lines = [], 0, []
    site.outside_code(text, lambda piece: lines.extend(piece.split("\n")) or piece)
    for line in lines:
        if ":::" not in line: continue
        if not re.match(r"\s*:{3,}(\s*\{[^}]*\}|\s*[\w-]+)?\s*$", line): problems.append(f"a fence within a line: '{line[:60]}'")
        else: depth += 1 if re.search(r":{3,}\s*[\w{]", line) else -1
    if depth: problems.append("a fence (:::) that is not closed" if depth > 0 else "a fence (:::) closes what was not opened")
    return problems


# ---------------------------------------------------------------- the pages

class Seen(HTMLParser):
    "What a page holds: anchors, links, pictures, what it loads, headings, formulas, and its text outside code."

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.ids: Counter = Counter()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.pictures: list[tuple[str, str | None]] = []
        self.levels: list[int] = []
        self.formulas: list[tuple[str, bool]] = []
        self.words: list[str] = []
        self.stack: list[str] = []
        self.display = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        get = dict(attrs).get
        if get("id") and tag not in ("link", "script", "style"): self.ids[get("id")] += 1  # Quarto gives its light and dark themes one id
        if tag == "a" and get("href") is not None: self.links.append(get("href"))
        if tag == "img": self.pictures.append((get("src", ""), get("alt")))
        if tag in ("img", "script", "iframe", "source", "video", "audio", "embed") and get("src"): self.loads.append(get("src"))
        if tag == "link" and get("href") and get("rel") not in ("canonical", "prev", "next", "alternate"): self.loads.append(get("href"))
        if re.fullmatch("h[1-6]", tag): self.levels.append(int(tag[1]))
        if tag == "math": self.display = get("display") == "block"
        if tag not in ("img", "link", "meta", "br", "hr", "input", "source", "wbr", "col"): self.stack.append(tag)

    def handle_endtag(self, tag):
        while self.stack and self.stack.pop() != tag: pass

    def handle_data(self, data):
        inside = set(self.stack)
        if "annotation" in inside: self.formulas.append((data, self.display))
        elif not inside & {"pre", "code", "script", "style", "math"}: self.words.append(data)


RAW_TEX = re.compile(r"\$\$|\\(?:frac|sum|partial|nabla|theta|eta|left|right|begin|text|hat|cdot"
                     r"|le|ge|in|to|times|sqrt|log|exp|mathbf|top)\b"
                     r"|(?<![\w$])\$[^$\s][^$\n]{0,80}[\\^_=][^$\n]{0,80}\$")
LATER = ("lite/", "playground/")  # built beside the site, by tools of their own


def target(page: str, path: str, base: str) -> str:
    "The file in the site that a link on a page leads to: 'playground/x.html' and '../y.html' give 'y.html'."
    if path.startswith("/"): return path.removeprefix(base).lstrip("/")
    return os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page


def link_problem(folder: Path, pages: dict[str, Seen], name: str, link: str, base: str) -> str:
    "What is wrong with a link on the page `name`, or ''."
    parts = urlsplit(link)
    if parts.scheme or parts.netloc: return ""
    path, anchor = target(name, unquote(parts.path), base), unquote(parts.fragment)
    if path.startswith(LATER) and path not in pages:
        wanted = re.search(r"path=([\w.-]+\.ipynb)", parts.query)
        missing = wanted and not (folder / "notebooks" / wanted[1]).exists()
        return f"{link}: there is no such notebook" if missing else ""
    if path not in pages and not (folder / path).exists(): return f"link to {link}, which is not there"
    there = pages.get(path)
    return f"link to {link}: there is no such anchor" if anchor and there and anchor not in there.ids else ""


def read_pages(folder: Path, playground: Path = site.ROOT / "playground") -> dict[str, Seen]:
    "Every page of the site by name, and the playground's, which is made beside it."
    files = {path.name: path for path in sorted(folder.glob("*.html"))}
    files |= {f"playground/{path.name}": path for path in sorted(playground.glob("*.html"))}
    return {name: Seen(path.read_text(encoding="utf-8")) for name, path in files.items()}


def page_problems(folder: Path, pages: dict[str, Seen] | None = None) -> tuple[list[str], list[tuple[str, str, bool]]]:
    "What is wrong with the pages in `folder`, and every formula on them."
    pages = read_pages(folder) if pages is None else pages
    base = site.settings().get("doc_baseurl", "")
    problems: list[str] = []
    formulas: list[tuple[str, str, bool]] = []
    for name, page in pages.items():
        problems += [f"{name}: anchor #{anchor} is used {n} times" for anchor, n in page.ids.items() if n > 1]
        links = (link_problem(folder, pages, name, link, base) for link in dict.fromkeys(page.links))
        problems += [f"{name}: {problem}" for problem in links if problem]
        for source, alt in page.pictures:
            there = source.startswith("data:") or urlsplit(source).scheme or (folder / target(name, unquote(source), base)).exists()
            if not there: problems.append(f"{name}: picture {source} is missing")
            if not (alt or "").strip() and "favicon" not in source: problems.append(f"{name}: picture {source} has no text alternative")
        for address in page.loads:
            if urlsplit(address).netloc: problems.append(f"{name}: loads {address} from another host")
        if not page.levels or page.levels.count(1) != 1: problems.append(f"{name}: has {page.levels.count(1)} first-level headings")
        for above, level in zip(page.levels, page.levels[1:]):
            if level > above + 1: problems.append(f"{name}: a heading skips from level {above} to {level}")
        words = " ".join(page.words)
        if raw := RAW_TEX.search(words): problems.append(f"{name}: raw TeX on the page: {raw[0]!r}")
        if fence := re.search(r":::.{0,30}", words): problems.append(f"{name}: a raw fence on the page: {fence[0]!r}")
        if mark := re.search(r"\{#[\w.<>-]+.{0,30}", words): problems.append(f"{name}: a raw attribute on the page: {mark[0]!r}")
        if "Exported source" in words: problems.append(f"{name}: 'Exported source' in place of the file's name")
        if reference := re.search(r"[?@]fig-[\w-]+", words): problems.append(f"{name}: unresolved reference {reference[0]}")
        formulas += [(name, tex, display) for tex, display in page.formulas]
    return problems, formulas


def whole_problems(folder: Path) -> list[str]:
    "What is wrong with the site as a whole: folds, cards, ways past the navigation, the search, the list for language models."
    texts = {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.html"))}
    problems = []
    for name, text in texts.items():
        if re.search(r'<details[^>]*class="code-fold"[^>]*>\s*<summary>(?:Solution|Prediction)', text):
            problems.append(f"{name}: a closed solution folds its code alone, and its output stands open below it")
        cards = re.findall(r'<meta (?:property|name)="(?:og|twitter):image" content="([^"]*)"', text)
        problems += [f"{name}: its card is {card}, not social_card.png" for card in cards if not card.endswith("social_card.png")]
        if not re.search(r'<a class="skip"', text): problems.append(f"{name}: no link leads past the navigation")
    return problems + search_problems(folder) + llms_problems(folder, set(texts) - {"404.html"})


def search_problems(folder: Path) -> list[str]:
    "The search (Quarto's search.json, the preview's search.js) shows of a formula what is seen, and not its TeX behind it."
    found = [path.read_text(encoding="utf-8") for path in (folder / "search.json", folder / "search.js") if path.exists()]
    if not found: return ["the site has no search"]
    text = json.dumps(json.loads(re.sub(r"^window\.searchIndex = |;\s*$", "", found[0])), ensure_ascii=False)
    twice = re.search(r"[^\x00-\x7f](?:\\\\)[a-z]{2,}", text)
    return [f"the search holds a formula twice: {twice[0]!r}"] if twice else []


def llms_problems(folder: Path, pages: set[str]) -> list[str]:
    "llms.txt lists each page, and no other."
    path = folder / "llms.txt"
    if not path.exists(): return ["the site has no llms.txt"]
    listed = re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8"))
    there = {re.sub(r"\.llms\.md$|\.html$", "", address.rsplit("/", 1)[-1]) for address in listed}
    problems = [f"llms.txt does not list {name}" for name in sorted(pages) if Path(name).stem not in there]
    gone = (address for address in listed if not urlsplit(address).netloc and not (folder / address).exists())
    return problems + [f"llms.txt lists {address}, which is not there" for address in gone]


def katex_problems(formulas: list[tuple[str, str, bool]], fetch: bool = True) -> tuple[list[str], str]:
    "The formulas that KaTeX cannot parse; and, where it cannot run, the reason. With `fetch`, npm may bring it."
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node: return [], "node is not on the path"
    with tempfile.TemporaryDirectory() as folder:
        katex = os.environ.get("KATEX", "")
        if not katex:
            if not fetch: return [], "KATEX names no folder with KaTeX"
            if not npm: return [], "npm is not on the path, and KATEX names no folder with KaTeX"
            command = [npm, "install", "--silent", "--no-audit", "--no-fund", "--fetch-retries=1", "--prefix", folder, KATEX]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode: return [], f"npm could not install {KATEX}: {done.stderr.strip()[-200:]}"
            katex = f"{folder}/node_modules/katex"
        script = Path(folder) / "parse.js"
        script.write_text(PARSE, encoding="utf-8")
        done = subprocess.run([node, str(script), katex], input=json.dumps(formulas), capture_output=True, text=True)
        if done.returncode: return [], f"KaTeX does not run: {done.stderr.strip()[-300:]}"
    return [f"{where}: KaTeX cannot parse ${tex}$: {message}" for where, tex, message in json.loads(done.stdout)], ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--site", type=Path, help="a built site to check, instead of building the preview")
    parser.add_argument("--need-katex", action="store_true", help="fail where KaTeX cannot run")
    args = parser.parse_args()
    problems = notebook_problems()
    with tempfile.TemporaryDirectory() as folder:
        built = args.site or Path(folder) / "site"
        if not args.site:
            site.build(built, work=Path(folder) / "work")
            problems += handed_problems(Path(folder) / "work" / "_proc")
        found, formulas = page_problems(built)
        found += whole_problems(built)
        pages = len(list(built.glob("*.html")))
    wrong, reason = katex_problems(formulas) if formulas else ([], "the pages hold no TeX to parse")
    problems += found + wrong
    if reason:
        if args.need_katex: problems.append(f"formulas were not parsed: {reason}")
        else: print(f"formulas were not parsed by KaTeX: {reason}")
    for problem in problems: print(problem)
    print(f"{pages} pages, {len(formulas)} formulas, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__": sys.exit(main())
