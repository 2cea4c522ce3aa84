"""Makes README.md from the front page, nbs/index.ipynb, without Quarto and without running it.

    python tools/make_readme.py            writes README.md, and its figures into README_files/
    python tools/make_readme.py --check    writes nothing; fails if README.md differs from the front page

What the site shows, README shows: hidden cells are left out, folded code becomes a <details>, callouts become GitHub's
alerts, links to chapters point at the notebooks, saved figures are linked from README_files.
"""

from __future__ import annotations

import argparse
import base64
import json
import posixpath
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NBS, README, FIGURES = ROOT / "nbs", ROOT / "README.md", ROOT / "README_files"
HEAD = "<!-- Made from nbs/index.ipynb by tools/make_readme.py: edit the notebook, not this file. -->"
ALERTS = {"note": "NOTE", "tip": "TIP", "important": "IMPORTANT", "warning": "WARNING", "caution": "CAUTION"}


def options(source: str) -> dict[str, str]:
    "The `#|` options of a cell: {'fig-cap': 'A line', 'hide': ''}."
    lines = re.findall(r"^#\|\s*([\w-]+):?[ \t]*(.*?)\s*$", source, flags=re.M)
    return {name: value.strip("\"'") for name, value in lines}


def link(target: str) -> str:
    "Where `target`, written in nbs, points from the top of the repository."
    if re.match(r"[a-z][a-z+.-]*:|#|/", target): return target
    path, _, anchor = target.partition("#")
    if path.endswith(".html") and (NBS / path).with_suffix(".ipynb").exists(): path = path.removesuffix(".html") + ".ipynb"
    if path.endswith(".ipynb"): anchor = ""  # a notebook shown by a repository's page has no anchors
    return posixpath.normpath(f"nbs/{path}") + (f"#{anchor}" if anchor else "")


def prose(text: str) -> str:
    "Markdown as the site's writers use it, in the form that a repository's page shows."
    out, alert = [], None
    for block in re.split(r"(^```.*?^```[^\S\n]*$)", text, flags=re.M | re.S):
        if block.startswith("```"):
            out.append(block)
            continue
        block = re.sub(r"(\]\()([^)\s]+)", lambda m: m[1] + link(m[2]), block)
        block = re.sub(r"((?:src|href|srcset)=\")([^\"]+)", lambda m: m[1] + link(m[2]), block)
        block = re.sub(r"^(#+ .*?|!\[.*?)[ \t]*\{[.#\w][^{}\n]*\}[ \t]*$", r"\1", block, flags=re.M)
        block = re.sub(r"@fig-[\w-]+", "the figure", block)
        lines = []
        for line in block.split("\n"):
            if opened := re.match(r":::+\s*\{?\s*\.?([\w-]*)", line):
                kind = opened[1].removeprefix("callout-")
                if kind in ALERTS:
                    alert = kind
                    lines.append(f"> [!{ALERTS[kind]}]")
                elif not kind: alert = None
                continue
            lines.append(f"> {line}".rstrip() if alert else line)
        out.append("\n".join(lines))
    return "".join(out).strip()


def fenced(text: str, language: str = "") -> str:
    return f"```{language}\n{text.rstrip()}\n```"


def shown(output: dict, opts: dict, figures: dict[str, bytes]) -> str:
    "One saved output as Markdown; a figure is put into `figures` and linked."
    if output["output_type"] == "stream": return fenced("".join(output["text"]), "text") if output["name"] == "stdout" else ""
    data = {kind: "".join(value) for kind, value in output.get("data", {}).items()}
    if "image/png" in data:
        name = f"{opts.get('label', f'figure-{len(figures) + 1}').removeprefix('fig-')}.png"
        while name in figures: name = name.replace(".png", "-2.png")
        figures[name] = base64.b64decode(data["image/png"])
        caption = f"\n\n*{opts['fig-cap']}*" if "fig-cap" in opts else ""
        return f"![{opts.get('fig-alt', '')}]({FIGURES.name}/{name}){caption}"
    if "text/markdown" in data: return prose(data["text/markdown"])
    return fenced(data["text/plain"], "text") if "text/plain" in data else ""


def readme() -> tuple[str, dict[str, bytes]]:
    "The text of README.md, and its figures by name."
    parts, figures = [HEAD], {}
    for cell in json.loads((NBS / "index.ipynb").read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown": parts.append(prose(source))
        if cell["cell_type"] != "code": continue
        opts = options(source)
        if opts.keys() & {"hide", "default_exp", "export", "exporti"} or opts.get("include") == "false": continue
        code = "\n".join(line for line in source.splitlines() if not line.startswith("#|")).strip()
        if code and opts.get("echo") != "false" and "hide_input" not in opts:
            code = fenced(code, "python")
            if opts.get("code-fold") == "true":
                code = f"<details><summary>{opts.get('code-summary', 'Code')}</summary>\n\n{code}\n\n</details>"
            parts.append(code)
        if opts.get("output") != "false" and "hide_output" not in opts:
            parts += [shown(output, opts, figures) for output in cell["outputs"]]
    return "\n\n".join(part for part in parts if part) + "\n", figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if README.md differs from the front page")
    args = parser.parse_args()
    text, figures = readme()
    saved = {path.name: path.read_bytes() for path in FIGURES.glob("*")} if FIGURES.exists() else {}
    if args.check:
        differ = [] if README.exists() and README.read_text(encoding="utf-8") == text else [README.name]
        differ += [f"{FIGURES.name}/{name}" for name in sorted(saved.keys() | figures.keys()) if saved.get(name) != figures.get(name)]
        if differ: print(f"differs from nbs/index.ipynb: {', '.join(differ)}\nRun: python tools/make_readme.py")
        return 1 if differ else 0
    README.write_text(text, encoding="utf-8", newline="\n")
    for name in saved.keys() - figures.keys(): (FIGURES / name).unlink()
    if figures: FIGURES.mkdir(exist_ok=True)
    for name, data in figures.items(): (FIGURES / name).write_bytes(data)
    if not figures and FIGURES.exists(): FIGURES.rmdir()
    return 0


if __name__ == "__main__": sys.exit(main())
