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
        if get("id"): self.ids[get("id")] += 1
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


def page_problems(folder: Path) -> tuple[list[str], list[tuple[str, str, bool]]]:
    "What is wrong with the pages in `folder`, and every formula on them."
    pages = {path.name: Seen(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.html"))}
    problems: list[str] = []
    formulas: list[tuple[str, str, bool]] = []
    for name, page in pages.items():
        problems += [f"{name}: anchor #{anchor} is used {n} times" for anchor, n in page.ids.items() if n > 1]
        for link in dict.fromkeys(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc: continue
            path, anchor = unquote(parts.path), unquote(parts.fragment)
            path = path.removeprefix("./")
            if path.startswith(LATER) and not (folder / path.split("/")[0]).exists():
                wanted = re.search(r"path=([\w.-]+\.ipynb)", parts.query)
                if wanted and not (folder / "notebooks" / wanted[1]).exists(): problems.append(f"{name}: {link}: there is no such notebook")
                continue
            if path and not (folder / path).exists(): problems.append(f"{name}: link to {link}, which is not there")
            elif anchor and (target := pages.get(path or name)) and anchor not in target.ids:
                problems.append(f"{name}: link to {link}: there is no such anchor")
        for source, alt in page.pictures:
            if not source.startswith("data:") and not urlsplit(source).scheme and not (folder / unquote(source)).exists():
                problems.append(f"{name}: picture {source} is missing")
            if not (alt or "").strip() and "favicon" not in source: problems.append(f"{name}: picture {source} has no text alternative")
        for address in page.loads:
            if urlsplit(address).netloc: problems.append(f"{name}: loads {address} from another host")
        if not page.levels or page.levels.count(1) != 1: problems.append(f"{name}: has {page.levels.count(1)} first-level headings")
        for above, level in zip(page.levels, page.levels[1:]):
            if level > above + 1: problems.append(f"{name}: a heading skips from level {above} to {level}")
        if raw := RAW_TEX.search(" ".join(page.words)): problems.append(f"{name}: raw TeX on the page: {raw[0]!r}")
        if "??" in " ".join(page.words) and "?@fig" in " ".join(page.words): problems.append(f"{name}: an unresolved reference")
        if reference := re.search(r"[?@]fig-[\w-]+", " ".join(page.words)): problems.append(f"{name}: unresolved reference {reference[0]}")
        formulas += [(name, tex, display) for tex, display in page.formulas]
    return problems, formulas


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
        if not args.site: site.build(built)
        found, formulas = page_problems(built)
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
