"""Builds the whole documentation site from the notebooks, without Quarto and without a network.

    python tools/preview_site.py               into _site/; open _site/index.html
    python tools/preview_site.py --serve       and serve it on http://127.0.0.1:8000
    python tools/preview_site.py --quarto      render the same pages with Quarto instead, into _docs/
    python tools/preview_site.py --lite        with the chapters and the playground that run in the browser beside it
    python tools/preview_site.py --out DIR     into DIR

Needs the extra `site`. The order, parts and names of the pages are those of _quarto.yml. nbdev processes the notebooks
in a temporary copy; then names in backticks are linked to where they are documented and each chapter gets its links "open" and,
with --lite (extra `lite`), "run"; then pandoc turns each page into HTML, with mathematics as MathML. Nothing on a page comes
from another host.
"""

from __future__ import annotations

import argparse
import base64
import configparser
import functools
import html
import http.server
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml
from postrender import mathml

ROOT = Path(__file__).resolve().parent.parent
NBS, ASSETS = ROOT / "nbs", ROOT / "tools" / "site"
READER = "markdown+emoji-example_lists"
AS_IS = "{{noresolveinput=1}}"  # Quarto takes a link that ends in .ipynb for one of its pages, and warns
RUN = f"[Run this page in your browser (fetches Python, about 25 MB)](lite/lab/index.html?path={{file}}){AS_IS}\n"
OPEN = f"[Open the notebook](notebooks/{{file}}){AS_IS}\n"
PLAY = "[Play with a network](playground/index.html)\n"  # that page says what it fetches before it does
NOISY = "data=moons&noise=0.35&layers=8,8&optimizer=adam&lr=0.03"
PLAYS = {  # the chapters' own states of the playground, and what is to be seen there
    "01_forward.ipynb": ("Play: three units on circles", "data=circles&layers=3&optimizer=adam"),
    "03_backprop.ipynb": ("Play: the gradient of each weight on XOR", "data=xor&layers=4&optimizer=sgd&lines=grads"),
    "04_optim.ipynb": ("Play: two moons with momentum", "data=moons&layers=4,4&optimizer=momentum"),
    "05_training.ipynb": ("Play: noisy moons, learnt by heart in some thousand steps", NOISY),
    "08_diagnosis.ipynb": ("Play: a learning rate too large", "data=moons&layers=8,8&optimizer=sgd&lr=10"),
    "09_regularisation.ipynb": ("Play: the same moons with weight decay", NOISY + "&decay=0.1"),
    "15_attention.ipynb": ("Play: where a small GPT looks as you type", "letters.html"),
    "16_gpt.ipynb": ("Play: the next letter, with a temperature to turn", "letters.html"),
}
READ = "[Read the first chapter](01_forward.ipynb)\n[Train a network of your own](#the-code-of-the-chapters-is-a-library)\n"

PROCESS = """
import dataclasses
import importlib
import sys
from pathlib import Path

import fastcore.docments
import nbdev.processors
from export import parameters
from nbdev.quarto import refresh_quarto_yml
from nbdev.serve import proc_nbs

plain = fastcore.docments.docments

def docments(s, full=False, **kwargs):  # the fields of a dataclass, also inherited ones, as the package's docstring explains them
    found = plain(s, full=full, **kwargs)
    if full and dataclasses.is_dataclass(s) and isinstance(s, type):
        modules = (module for name, module in list(sys.modules.items()) if name.startswith("nn_from_scratch."))
        ours = next((vars(module)[s.__name__] for module in modules if s.__name__ in vars(module)), s)
        for name, what in parameters(ours.__doc__ or "").items():
            if name in found: found[name]["docment"] = what
    return found

fastcore.docments.docments = docments

def needed(cell):  # only what show_doc needs is run: what is exported, and imports that stand by themselves
    if cell.cell_type != "code" or "eval:" in cell.directives_: return False
    if cell.directives_.keys() & {"export", "exports", "exporti"}: return True
    try: kinds = [type(step).__name__ for step in cell.parsed_() or ()]
    except SyntaxError: return False
    shows = any(step.startswith("show_doc(") for step in cell.source.splitlines())
    return bool(kinds) and (shows or all(kind.startswith("Import") for kind in kinds))

nbdev.processors._do_eval = needed
for path in Path("nn_from_scratch").rglob("*.py"):
    if not path.stem.startswith("_"): importlib.import_module(".".join(path.with_suffix("").parts))

if __name__ == "__main__":
    refresh_quarto_yml()
    proc_nbs(force=True, n_workers=2)
"""


def settings() -> dict[str, str]:
    config = configparser.ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini", encoding="utf-8")
    return dict(config["DEFAULT"])


def quarto_yml() -> dict:
    return yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf-8"))


def contents() -> list[tuple[str, list[tuple[str, str]]]]:
    "The sidebar of _quarto.yml: (part, [(name, file)]); pages outside a part stand in a part without a name."
    parts: list[tuple[str, list[tuple[str, str]]]] = []
    for item in quarto_yml()["website"]["sidebar"]["contents"]:
        if isinstance(item, str): item = {"text": Path(item).stem, "href": item}
        if "section" in item:
            pages = [entry if isinstance(entry, dict) else {"text": Path(entry).stem, "href": entry} for entry in item["contents"]]
            parts.append((item["section"], [(page["text"], page["href"]) for page in pages]))
        else:
            if not parts or parts[-1][0]: parts.append(("", []))
            parts[-1][1].append((item["text"], item["href"]))
    return parts


def listed() -> list[str]:
    "The files of the pages, in order."
    return [file for _, pages in contents() for _, file in pages]


def address(file: str) -> str:
    "The page made from a notebook: 04_optim.ipynb becomes optim.html, as nbdev names it."
    return re.sub(r"^\d+[a-z]?_", "", Path(file).stem) + ".html"


# ---------------------------------------------------------------- the notebooks, processed

def processed(copy: Path) -> Path:
    "The folder of the notebooks as nbdev prepares them for a site, made in the folder `copy`."
    for name in "settings.ini", "setup.py", "README.md", "LICENSE", "_quarto.yml": shutil.copy2(ROOT / name, copy)
    skip = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "nbdev.yml", "sidebar.yml")
    for name in "nbs", "nn_from_scratch": shutil.copytree(ROOT / name, copy / name, ignore=skip)
    (copy / "tools").mkdir()
    shutil.copy2(ROOT / "tools" / "postrender.py", copy / "tools")  # which Quarto runs from there
    (copy / "process.py").write_text(PROCESS, encoding="utf-8")
    env = os.environ | {"PYTHONPATH": f"{copy}{os.pathsep}{ROOT / 'tools'}", "MPLBACKEND": "Agg", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "process.py"], cwd=copy, env=env, capture_output=True, text=True)
    if done.returncode: raise SystemExit(f"nbdev could not process the notebooks:\n{done.stdout}{done.stderr}")
    return copy / "_proc"


def options(source: str) -> dict:
    "The `#|` options at the top of a cell."
    lines = [line[2:].strip() for line in source.splitlines() if line.startswith("#|")]
    return {key: value for line in lines for key, value in (yaml.safe_load(line) if ":" in line else {line: True}).items()}


def folded(cell: dict, opts: dict) -> str:
    "The summary of a cell that is folded with all it shows, or ''. nbs/filter.lua decides likewise for Quarto."
    summary = opts.get("code-summary", "")
    if opts.get("fold"): return opts["fold"] if isinstance(opts["fold"], str) else summary or "Solution"
    if cell["metadata"].get("jupyter", {}).get("outputs_hidden"): return summary or "Output"
    return summary if opts.get("code-fold") is True and summary in ("Solution", "Prediction") else ""


def code_of(source: str) -> str:
    return "\n".join(line for line in source.splitlines() if not line.startswith("#|")).strip("\n")


def text_of(value) -> str:
    return value if isinstance(value, str) else "".join(value)


def is_reference(cell: dict) -> bool:
    "Whether the cell shows what show_doc made."
    return cell["cell_type"] == "code" and text_of(cell["source"]).rstrip().split("\n")[-1].startswith("show_doc(")


def as_asked(text: str, name: str) -> str:
    "What show_doc made, under the name it was asked for; the sections of a docstring as lists, without its example, whose cell follows."
    if made := re.search(r"(?m)^### .*locals.*?(\w+)$", text):
        text = text.replace(made[0], f"### {name}").replace(f"def {made[1]}(", f"def {name}(")
    text = re.sub(r"\n\nExample:\n(?: {4}.*\n?|\n)*\Z", "", text)
    def section(match: re.Match) -> str:
        items = re.sub(r"\n {8,}", " ", match[2]).strip().splitlines()
        return f"\n**{match[1]}**\n\n" + "\n".join("- " + re.sub(r"^(\*{0,2}\w+): ", r"`\1`: ", item.strip()) for item in items) + "\n"
    return re.sub(r"\n(Parameters|Returns):\n((?: {4}.*(?:\n|\Z))+)", section, text)


def own_references(file: str, cells: list[dict]) -> list[dict]:
    """The cells without what nbdev adds of itself: below each helper that is exported and has no show_doc, its name once more as a
    heading. What a chapter documents stands in its section "Reference", under the name it is asked for by: `number`, where the
    function that made it left `plain.<locals>.demand`."""
    for cell in filter(is_reference, cells):
        asked = re.search(r"show_doc\((?:\w+\.)*(\w+)[^\n]*$", text_of(cell["source"]).rstrip())
        for output in cell.get("outputs", []):
            if asked and "text/markdown" in output.get("data", {}):
                output["data"]["text/markdown"] = as_asked(text_of(output["data"]["text/markdown"]), asked[1])
    notebook = json.loads((NBS / file).read_text(encoding="utf-8"))
    written = {line for cell in notebook["cells"] for line in text_of(cell["source"]).splitlines()}
    def added(cell: dict) -> bool: return is_reference(cell) and text_of(cell["source"]).rstrip().split("\n")[-1] not in written
    return [cell for cell in cells if not added(cell)]


def slug(heading: str) -> str:
    "The anchor that pandoc makes of a heading."
    text = re.sub(r"[`*$\\]|\{[^}]*\}\s*$", "", heading).strip()
    text = "".join(c for c in text.lower().replace(" ", "-") if c.isalnum() or c in "-_.")
    return re.sub(r"^[^a-zα-ω]+", "", text)


def outside_code(text: str, change) -> str:
    "`text` with `change` made to everything but its fenced code blocks."
    pieces = re.split(r"(^(?:```|~~~).*?^(?:```|~~~)[^\S\n]*$)", text, flags=re.M | re.S)
    return "".join(piece if piece.startswith(("```", "~~~")) else change(piece) for piece in pieces)


def documented(notebooks: dict[str, dict]) -> dict[str, str]:
    "Where each public name is documented: {'Adam': 'optim.html#adam', ...}."
    names: dict[str, str] = {}
    for file, notebook in notebooks.items():
        for cell in filter(is_reference, notebook["cells"]):
            for heading in re.findall(r"^### (.+?)\s*$", reference_text(cell), flags=re.M):
                name = heading.replace("\\", "")
                at = f"{address(file)}#{name.lower()}"  # as nbdev has it, but `linear` and `Linear` are two
                names.setdefault(name, f"{address(file)}#{name}" if at in names.values() else at)
    return names


def reference_text(cell: dict) -> str:
    return "\n\n".join(text_of(output["data"]["text/markdown"]) for output in cell["outputs"] if "text/markdown" in output.get("data", {}))


def linked(text: str, names: dict[str, str], page: str) -> str:
    "Markdown with each documented name in backticks linked to its documentation, but not within a link or a heading."
    def link(match: re.Match) -> str:
        name = match[2].removesuffix("()").removeprefix("nn.")
        if match[1] or name not in names: return match[0]
        target = names[name]
        return f"[`{match[2]}`]({target.removeprefix(page)})"
    def line(text: str) -> str:
        if text.startswith(("#", "<", "| PyTorch", "| JAX", "| Keras")): return text  # their `fit` is not ours
        return re.sub(r"(!?\[[^\]]*\]\([^)]*\)|``.*?``|\$[^$]+\$)|`([^`\n]+)`", lambda m: m[0] if m[1] else link(m), text)
    return outside_code(text, lambda piece: "\n".join(map(line, piece.split("\n"))))


NAME, YEAR = r"([A-ZÀ-Þ][\w’'-]+)", r"((?:18|19|20)\d\d)"
OTHERS = rf"((?:, {NAME})*,? and {NAME}| et al\.| and others)?"
CITED = (rf"(?:(?<=\()|(?<=; )){NAME}{OTHERS}, {YEAR}(?=[);,])",  # (Polyak, 1964) and (Cybenko, 1989; Hornik et al., 1989)
         rf"\b{NAME}{OTHERS} \({YEAR}\)")  # Polyak (1964)


def bibliography(text: str) -> dict[str, tuple[list[str], str]]:
    "Of each entry of a BibTeX file, its key, the authors' surnames, and the year."
    entries = {}
    for key, body in re.findall(r"@\w+\{([^,\s]+),(.*?)\n\}", text, flags=re.S):
        author = re.search(r"author\s*=\s*\{(.*)\}", body)
        year = re.search(r"year\s*=\s*\{(\d+)\}", body)
        if author and year: entries[key] = [name.partition(",")[0].strip("{} ") for name in author[1].split(" and ")], year[1]
    return entries


def cited(match: re.Match, entries: dict[str, tuple[list[str], str]]) -> str:
    "The key of what a mention like '(He et al., 2015)' means, or ''."
    surnames, year = {match[1], *re.findall(NAME, match[2] or "")}, match[match.re.groups]
    fits = ((key, authors) for key, (authors, when) in entries.items() if when == year and surnames <= set(authors))
    return next((key for key, authors in fits if authors[0] == match[1] or not match[2]), "")  # of several names the first is the first


def with_sources(text: str, entries: dict[str, tuple[list[str], str]]) -> str:
    "Markdown in which each mention of a source leads to it."
    def link(match: re.Match) -> str:
        key = cited(match, entries)
        if not key: return match[0]
        if not match[0].endswith(")"): return f"[{match[0]}](sources.qmd#ref-{key})"
        return f"{match[0][:-6]}([{match[match.re.groups]}](sources.qmd#ref-{key}))"
    def line(text: str) -> str:
        if text.startswith("#"): return text
        for pattern in CITED: text = re.sub(rf"(?<!\[)(?:{pattern})(?!\]\()", link, text)
        return text
    return outside_code(text, lambda piece: "\n".join(map(line, piece.split("\n"))))


EXPORTED = '#| code-fold: show\n#| code-summary: "Exported source"\n'  # what nbdev makes of `#| exports`


def modules_of(file: str) -> dict[str, str]:
    "For each cell of a notebook that is exported: the file of the package that it goes to."
    cells = json.loads((NBS / file).read_text(encoding="utf-8"))["cells"]
    sources = [(cell.get("id"), text_of(cell["source"])) for cell in cells if cell["cell_type"] == "code"]
    own = next((found[1] for _, source in sources if (found := re.search(r"^#\|\s*default_exp\s+([\w.]+)", source, flags=re.M))), "")
    directives = ((key, re.search(r"^#\|\s*exports?(?:[ \t]+([\w.]+))?[ \t]*$", source, flags=re.M)) for key, source in sources)
    return {key: f"{settings()['lib_path']}/{(found[1] or own).replace('.', '/')}.py" for key, found in directives if found}


def launch(file: str, lite: bool) -> str:
    "The line of links under a page's title."
    from build_lite import LEFT_OUT
    if file == "index.ipynb": links = READ + (PLAY if lite else "")
    else:
        words, state = PLAYS.get(file, ("", ""))
        page = state if state.endswith(".html") else f"index.html?{state}"
        play = f"[{words}](playground/{page})\n" if lite and file in PLAYS else ""
        links = (RUN if lite and Path(file).stem not in LEFT_OUT else "") + play + OPEN
    return "::: {.launch}\n" + links.format(file=file) + ":::"


def prepare(folder: Path, lite: bool = False) -> dict[str, dict]:
    "Adds to the processed notebooks in `folder` what both engines show, saves them, and returns them by name."
    notebooks = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.ipynb"))}
    for file, notebook in notebooks.items(): notebook["cells"] = own_references(file, notebook["cells"])
    names, own = documented(notebooks), settings()
    entries = bibliography((NBS / "references.bib").read_text(encoding="utf-8"))
    host = re.escape(own.get("doc_host", "") + own.get("doc_baseurl", "")) if own.get("doc_host") else None
    for file, notebook in notebooks.items():
        page, modules = address(file), modules_of(file)
        own_names = {name: at.partition("#")[2] for name, at in names.items() if at.startswith(page + "#")}
        anchors = set(own_names.values())
        methods = {name.rpartition(".")[2] for name in own_names if "." in name}  # on this page `fit` may be a method of that name
        here = {name: at for name, at in names.items() if name not in methods}
        for cell in notebook["cells"]:
            if cell["cell_type"] == "markdown":
                text = text_of(cell["source"])
                if host: text = re.sub(rf"\]\({host}/([\w.-]+\.html)", r"](\1", text)
                # a section with the name of something documented below leaves that anchor to it
                text = outside_code(text, lambda piece, a=anchors: re.sub(
                    r"^(#+ .*?)[ \t]*$", lambda m: f"{m[1]} {{#{slug(m[1].lstrip('# '))}-section}}"
                    if slug(m[1].lstrip("# ")) in a and "{#" not in m[1] else m[1], piece, flags=re.M))
                cell["source"] = with_sources(linked(text, here, page), entries)
            elif is_reference(cell):
                for output in cell["outputs"]:
                    if "text/markdown" not in output.get("data", {}): continue
                    def heading(match: re.Match, own=own_names) -> str:
                        name = match[1].replace("\\", "")
                        shown = name.replace("_", r"\_")  # or `__call__` would be strong, and take the anchor with it
                        return f"### {shown} {{#{own.get(name, slug(name) + '-again')} .api}}"
                    text = re.sub(r"^### (.+?)[ \t]*$", heading, text_of(output["data"]["text/markdown"]), flags=re.M)
                    output["data"]["text/markdown"] = with_sources(linked(text, here, page), entries)
            elif (source := text_of(cell["source"])).startswith(EXPORTED) and cell.get("id") in modules:
                cell["source"] = f"#| exported: {modules[cell['id']]}\n" + source.removeprefix(EXPORTED)
        at = next((i for i, cell in enumerate(notebook["cells"]) if cell["cell_type"] != "raw"), 0)
        notebook["cells"].insert(at, {"cell_type": "markdown", "id": "launch", "metadata": {}, "source": launch(file, lite)})
        for cell in notebook["cells"]:  # Quarto joins the lines of a list, and splits a single string without keeping its line ends
            cell["source"] = text_of(cell["source"]).splitlines(keepends=True)
        (folder / file).write_text(json.dumps(notebook, ensure_ascii=False, indent=1), encoding="utf-8")
    return notebooks


# ---------------------------------------------------------------- a notebook as pandoc's Markdown

def raw(text: str) -> str:
    return f"\n```{{=html}}\n{text}\n```\n"


def fenced(code: str, language: str) -> str:
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall(r"`{3,}", code))])
    return f"\n{fence}{{.{language}}}\n{code}\n{fence}\n"


def png_size(data: bytes) -> tuple[int, int]:
    return struct.unpack(">II", data[16:24])


class Page:
    "A page on its way from a notebook (or a .qmd file) to HTML."

    def __init__(self, file: str, source: Path, out: Path, notebook: dict | None = None):
        self.file, self.address, self.out = file, address(file), out
        self.meta: dict = {}
        self.figures: dict[str, int] = {}
        if notebook is None:
            _, front, body = source.read_text(encoding="utf-8").split("---\n", 2)
            self.meta, self.markdown = yaml.safe_load(front), body
        else:
            self.markdown = "\n\n".join(self.cell(cell) for cell in notebook["cells"])
        self.markdown = re.sub(r"@(fig-[\w-]+)", self.figure_link, self.markdown)

    def figure_link(self, match: re.Match) -> str:
        return f"[Figure {self.figures[match[1]]}](#{match[1]})" if match[1] in self.figures else match[0]

    def cell(self, cell: dict) -> str:
        source = text_of(cell["source"])
        if cell["cell_type"] == "raw":
            self.meta |= yaml.safe_load(source.strip().strip("-")) or {}
            return ""
        if cell["cell_type"] == "markdown": return "" if source.startswith("<!-- WARNING") else source
        opts = options(source)
        if opts.get("include") is False: return ""
        if is_reference(cell): return "\n\n".join(["::: {.reference}", re.sub(r"\A---\n", "", reference_text(cell)), ":::"])
        parts, code, fold = [], code_of(source), folded(cell, opts)
        if code and opts.get("echo") is not False:
            block, summary = fenced(code, "python"), opts.get("code-summary", "Code")
            if "exported" in opts:
                block = raw(f'<div class="exported"><div class="from">{opts["exported"]}</div>') + block + raw("</div>")
            elif opts.get("code-fold") and not fold:
                shown = " open" if opts["code-fold"] == "show" else ""
                block = raw(f'<details class="fold"{shown}><summary>{html.escape(summary)}</summary>') + block + raw("</details>")
            parts.append(block)
        if opts.get("output") is not False: parts += [self.output(output, opts) for output in cell.get("outputs", [])]
        if fold and parts: parts = [raw(f'<details class="fold"><summary>{html.escape(fold)}</summary>'), *parts, raw("</details>")]
        return "\n".join(parts)

    def output(self, output: dict, opts: dict) -> str:
        if output["output_type"] == "stream": return self.printed(text_of(output["text"]))
        if output["output_type"] == "error": return self.printed("\n".join(output["traceback"]))
        data = output.get("data", {})
        if "image/png" in data: return self.figure(base64.b64decode(data["image/png"]), opts)
        if "text/markdown" in data: return f"\n::: {{.shown}}\n{text_of(data['text/markdown'])}\n:::\n"
        return self.printed(text_of(data.get("text/plain", "")))

    def printed(self, text: str) -> str:
        if not text.strip(): return ""
        text = html.escape(text.rstrip()).replace("```", "&#96;``")
        return raw(f'<pre class="printed" tabindex="0">{text}</pre>')

    def figure(self, image: bytes, opts: dict) -> str:
        label = opts.get("label", f"fig-{len(self.figures) + 1}")
        while label in self.figures: label += "-2"
        number = self.figures[label] = len(self.figures) + 1
        name = f"figures/{Path(self.address).stem}-{label.removeprefix('fig-')}.png"
        (self.out / name).parent.mkdir(parents=True, exist_ok=True)
        (self.out / name).write_bytes(image)
        width, height = png_size(image)
        alt = html.escape(opts.get("fig-alt", ""))
        top = f'<figure id="{label}"><img src="{name}" alt="{alt}" width="{width}" height="{height}">\n<figcaption>'
        return raw(top) + f"\n[Figure {number}.]{{.number}} {opts.get('fig-cap', '')}\n" + raw("</figcaption></figure>")

    @property
    def title(self) -> str: return str(self.meta.get("title", Path(self.file).stem))

    @property
    def subtitle(self) -> str: return str(self.meta.get("description", ""))


# ---------------------------------------------------------------- colours and type

def tokens(path: Path) -> dict[str, str]:
    "The SCSS variables that a theme sets: {'paper': '#fff', …}."
    return dict(re.findall(r"\$([\w-]+):\s*([^;]+?)(?:\s*!default)?;", path.read_text(encoding="utf-8")))


def style() -> str:
    "The preview's stylesheet, in the colours and the type of Quarto's themes, nbs/site.scss and nbs/site-dark.scss."
    light, dark = tokens(NBS / "site.scss"), tokens(NBS / "site-dark.scss")
    sheet = (ASSETS / "style.css").read_text(encoding="utf-8")
    values = {"light": light, "dark": light | dark}
    def block(match: re.Match) -> str:
        theme, names = match[1], match[2].split()
        return " ".join(f"--{name}: {values[theme][name]};" for name in names)
    return re.sub(r"/\* (light|dark): ([\w ]+) \*/", block, sheet)


# ---------------------------------------------------------------- HTML

def pandoc(markdown: str, *args: str, to: str = "html5", meta: dict | None = None) -> str:
    import pypandoc
    with tempfile.TemporaryDirectory() as folder:
        extra = list(args)
        if meta:
            (Path(folder) / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
            extra.append(f"--metadata-file={folder}/meta.json")
        return pypandoc.convert_text(markdown, to, format=READER, extra_args=["--wrap=none", *extra])


def body_and_toc(page: Page) -> tuple[str, str]:
    "The page's HTML, and its table of contents."
    with tempfile.TemporaryDirectory() as folder:
        template = Path(folder) / "template.html"
        template.write_text("$table-of-contents$\n<!--body-->\n$body$", encoding="utf-8")
        meta = {"link-citations": True, "reference-section-title": "", "pagetitle": page.title}
        if "nocite" in page.meta: meta["nocite"] = page.meta["nocite"]
        args = ["--mathml", "--standalone", f"--template={template}", "--toc", "--toc-depth=3", "--syntax-highlighting=pygments"]
        if "nocite" in page.meta or re.search(r"\[[^\]]*@\w", page.markdown):
            args += ["--citeproc", f"--bibliography={NBS / 'references.bib'}"]
        toc, _, body = pandoc(page.markdown, *args, meta=meta).partition("<!--body-->")
    return finish(body), toc.strip() if page.meta.get("toc", True) else ""


def finish(body: str) -> str:
    "What pandoc leaves to do: links to pages, tables that scroll, blocks that the keyboard can scroll, anchors on headings."
    def link(match: re.Match) -> str:
        path, hash_, anchor = match[2].partition("#")
        if re.match(r"[a-z]+:|/", path) or "/" in path: return match[0]
        if path.endswith((".ipynb", ".qmd")): path = address(path)
        return f'{match[1]}{path}{hash_}{anchor}"'
    body = re.sub(r'(<a [^>]*?href=")([^"]*)"', link, body)
    body = body.replace("<table", '<div class="wide" tabindex="0" role="region" aria-label="table"><table')
    body = body.replace("</table>", "</table></div>")
    body = re.sub(r'<pre\s+class="sourceCode', '<pre tabindex="0" class="sourceCode', body)
    body = re.sub(r"<pre><code>", '<pre tabindex="0"><code>', body)
    body = re.sub(r' (id="cb\d+(?:-\d+)?"|aria-hidden="true" tabindex="-1")', "", body)
    body = re.sub(r'<a href="#cb[\d-]+"></a>', "", body)
    body = mathml(body)
    body = re.sub(r"<table.*?</tr>", lambda m: m[0].replace("<table", '<table class="many"', 1) if m[0].count("<th") > 4 else m[0],
                  body, flags=re.S)  # <thead> and four columns or more
    body = re.sub(r'(<math display="block".*?</math>)', r'<span class="display" tabindex="0">\1</span>', body, flags=re.S)
    return re.sub(r'<h([23])([^>]*?)id="([^"]+)"([^>]*)>(.*?)</h\1>',
                  r'<h\1\2id="\3"\4>\5 <a class="anchor" href="#\3" aria-label="link to this section">#</a></h\1>', body, flags=re.S)


def plain(fragment: str) -> str:
    fragment = re.sub(r"<annotation.*?</annotation>|<a class=\"anchor\".*?</a>", "", fragment, flags=re.S)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", fragment))).strip()


def sections(page: Page, body: str, name: str) -> list[dict[str, str]]:
    "What the search looks through: one entry a section."
    body = re.sub(r'<div class="launch">.*?</div>', "", body, flags=re.S)
    pieces = re.split(r'<h[23][^>]*?id="([^"]+)"[^>]*>(.*?)</h[23]>', body, flags=re.S)
    found = [{"u": page.address, "p": name, "h": "", "t": f"{page.subtitle} {plain(pieces[0])}"}]
    for anchor, heading, text in zip(pieces[1::3], pieces[2::3], pieces[3::3]):
        found.append({"u": f"{page.address}#{anchor}", "p": name, "h": plain(heading), "t": plain(text)[:4000]})
    return found


def sidebar(current: str, there: set[str]) -> str:
    lines = []
    for part, pages in contents():
        if part: lines.append(f"<p class=\"part\">{html.escape(part)}</p>")
        lines.append("<ul>")
        for text, file in pages:
            if file not in there: continue
            here = ' aria-current="page"' if file == current else ""
            number, name = re.match(r"(?:(\d+[a-z]?|[A-Z]) )?(.*)", text).groups()
            label = (f'<span class="no">{number}</span> ' if number else "") + f"<span>{html.escape(name)}</span>"
            lines.append(f'<li><a href="{address(file)}"{here}>{label}</a></li>')
        lines.append("</ul>")
    return "\n".join(lines)


def step(direction: str, entry: tuple[str, str] | None) -> str:
    if not entry: return "<span></span>"
    text, file = entry
    word = {"prev": "Previous", "next": "Next"}[direction]
    return f'<a class="{direction}" rel="{direction}" href="{address(file)}"><small>{word}</small> {html.escape(text)}</a>'


def render(page: Page, there: list[tuple[str, str]], parts: dict[str, str]) -> tuple[str, list[dict[str, str]]]:
    own, files = settings(), [file for _, file in there]
    body, toc = body_and_toc(page)
    at = files.index(page.file) if page.file in files else None
    name = there[at][0] if at is not None else page.title
    before = there[at - 1] if at else None
    after = there[at + 1] if at is not None and at + 1 < len(there) else None
    number = re.match(r"(\d+[a-z]?|[A-Z]) ", name)
    number_text = "" if not number else (f"Chapter {number[1]}" if number[1][0].isdigit() else f"Appendix {number[1]}")
    repo = own.get("git_url", "")
    edit = f'<a href="{repo}/edit/{own["branch"]}/nbs/{page.file}">Edit this page</a> <a href="{repo}/issues/new">Report a mistake</a>'
    short = (f'<details class="toc-small"><summary>On this page</summary><nav aria-label="On this page, short">'
             f'{toc.replace(" id=", " data-id=")}</nav></details>')
    fields = {
        "title": html.escape(page.title if page.file == "index.ipynb" else f"{page.title} · {own['title']}"),
        "heading": html.escape(page.title).replace("_", "_<wbr>"), "subtitle": html.escape(page.subtitle),
        "site": html.escape(own["title"]),
        "kind": "front" if page.file == "index.ipynb" else "page", "number": number_text,
        "description": html.escape(page.subtitle, quote=True), "sidebar": sidebar(page.file, set(files)),
        "toc": f'<nav class="toc" aria-label="On this page"><p>On this page</p>{toc}</nav>' if toc else "",
        "toc_small": short if toc else "",
        "body": body, "steps": step("prev", before) + step("next", after), "edit": edit if repo else "",
        "version": own["version"], "base": f"{own['doc_host']}{own['doc_baseurl']}/" if own.get("doc_host") else "",
        "license": "Apache License 2.0",
    }
    template = (ASSETS / "page.html").read_text(encoding="utf-8")
    text = re.sub(r"\{\{(\w+)\}\}", lambda m: fields[m[1]], template)
    return text, sections(page, body, re.sub(r"^(\d+[a-z]?|[A-Z]) ", "", name))


def build_lite(out: Path) -> None:
    done = subprocess.run([sys.executable, str(ROOT / "tools" / "build_lite.py"), str(out)])
    if done.returncode: raise SystemExit("tools/build_lite.py failed; it needs the extra `lite`")


def build(out: Path, lite: bool = False, work: Path | None = None) -> list[str]:
    """Builds the site into the folder `out`; returns the names of its pages. The notebooks are prepared in the new folder `work`,
    if one is named: what is then in `work`/_proc is what Quarto would get."""
    if out.exists():
        if any(out.iterdir()) and not (out / "search.js").exists():
            raise SystemExit(f"{out} is not empty and holds no site: choose another folder")
        shutil.rmtree(out)
    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        work = work or Path(folder) / "work"
        work.mkdir()
        notebooks = prepare(processed(work), lite)
    for path in sorted(NBS.iterdir()):
        if path.suffix in (".gif", ".png", ".svg", ".css"): shutil.copy2(path, out)
    for path in sorted(ASSETS.iterdir()):
        if path.suffix == ".js": shutil.copy2(path, out)
    (out / "style.css").write_text(style(), encoding="utf-8")
    (out / "notebooks").mkdir()
    there = [(text, file) for _, pages in contents() for text, file in pages if (NBS / file).exists()]
    for file in listed():
        if not (NBS / file).exists(): print(f"_quarto.yml lists {file}, which does not exist yet: left out")
    for _, file in there:
        if file.endswith(".ipynb"): shutil.copy2(NBS / file, out / "notebooks")
    parts = {file: part for part, pages in contents() for _, file in pages}
    sources = [file for _, file in there] + ["404.qmd"] * (NBS / "404.qmd").exists()
    pages = [Page(file, NBS / file, out, notebooks.get(file)) for file in sources]
    with ThreadPoolExecutor(2) as pool: made = list(pool.map(lambda page: render(page, there, parts), pages))
    index = []
    for page, (text, found) in zip(pages, made):
        (out / page.address).write_text(text, encoding="utf-8")
        if page.file != "404.qmd": index += found
    found = json.dumps(index, ensure_ascii=False, separators=(",", ":"))
    (out / "search.js").write_text(f"window.searchIndex = {found};\n", encoding="utf-8")
    own = settings()
    lines = [f"# {own['title']}", "", f"> {own['description']}", ""]
    for part, entries in contents():
        if part: lines += ["", f"## {part}", ""]
        for text, file in entries:
            if page := next((page for page in pages if page.file == file), None):
                lines.append(f"- [{text}]({page.address}): {page.subtitle}")
    (out / "llms.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if lite: build_lite(out)
    return [page.address for page in pages]


def build_quarto(out: Path, lite: bool = False) -> None:
    "Renders the same prepared notebooks with Quarto, into the folder `out`."
    quarto = shutil.which("quarto")
    if not quarto: raise SystemExit("quarto is not on the path (https://quarto.org). Without --quarto the preview needs none.")
    with tempfile.TemporaryDirectory() as folder:
        work = processed(Path(folder))
        prepare(work, lite)
        subprocess.run([quarto, "render", "--no-cache"], cwd=work, check=True)
        if out.exists(): shutil.rmtree(out)
        shutil.copytree(work / "_docs", out)
    (out / "notebooks").mkdir(exist_ok=True)
    for file in listed():
        if file.endswith(".ipynb"): shutil.copy2(NBS / file, out / "notebooks")
    if lite: build_lite(out)


def serve(folder: Path, port: int) -> None:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        print(f"http://127.0.0.1:{port} (stop with Ctrl-C)")
        try: server.serve_forever()
        except KeyboardInterrupt: pass


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="the folder (default: _site, with --quarto _docs)")
    parser.add_argument("--quarto", action="store_true", help="render with Quarto")
    parser.add_argument("--lite", action="store_true", help="build what runs in the browser beside it, and link to it")
    parser.add_argument("--serve", action="store_true", help="serve it on 127.0.0.1 afterwards")
    parser.add_argument("--port", type=int, default=8000)
    args = parser.parse_args()
    out = args.out or ROOT / ("_docs" if args.quarto else "_site")
    if args.quarto: build_quarto(out, args.lite)
    else: print(f"{len(build(out, args.lite))} pages: {out / 'index.html'}")
    if args.serve: serve(out, args.port)
    return 0


if __name__ == "__main__": sys.exit(main())
