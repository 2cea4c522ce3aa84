"""Builds what runs in the reader's browser: the chapters in JupyterLite, and the playground, beside the site.

    pip install ".[lite]"
    python tools/build_lite.py             into _docs/lite and _docs/playground
    python tools/build_lite.py FOLDER      into FOLDER/lite and FOLDER/playground

The chapters are copies: a first cell installs the package from the site itself, outputs are cleared (one runs them), and what only the
documentation needs (`show_doc`, nbdev) is left out. Python comes from Pyodide's CDN when a chapter is opened, or from the
folder `pyodide` beside the site if PYODIDE_DIST names a Pyodide distribution and `--with-pyodide` asks to copy it there.
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
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT / "nbs"

# The chapters that the browser cannot run, and why. The site shows them all the same.
LEFT_OUT = {
    "C_command": "It is about a command for the terminal, and there is none in the browser.",
    "17_speed": "It is about how long things take on a computer; the browser is some thirty times slower.",
    "19_many_machines": "It is about threads and processes, and a page in the browser has one of each.",
    "20_sharing": "It writes and reads files with safetensors, onnxruntime and PyTorch, which do not exist for the browser.",
    "D_estimators": "It is about scikit-learn, whose checks take minutes in the browser.",
    "21_frameworks": "PyTorch, JAX and Keras do not exist for the browser.",
}
TEXT_ONLY = {"notation"}  # pages whose cells only check the text

NUMPYS_HELP = """# Python's help is not there in the browser: NumPy's in its place
topics = {name: str(thing.__doc__) for name, thing in vars(np).items() if callable(thing)}
"""
SMALLER = {  # trainings that would take minutes in the browser: {chapter: {cell: [(what stands there, what the copy has)]}}
    "12_convolution": {
        "27e337f1": [("epochs=12", "epochs=2")],
        "6dac838a": [("epochs=20", "epochs=4"), ("range(5)", "range(2)"), ("five starts", "two starts"), (">= 0.985", ">= 0.9")],
        "d53fa4bd": [("> 0.95", "> 0.85")],
        "2665ca55": [("train(reader(8), rest)", "train(reader(8), rest, epochs=4)")],
        "3d24ecd2": [("train(model, rest)", "train(model, rest, epochs=4)"), ("sound > 0.9 > 0.3", "sound > 0.7 > 0.3")],
        "7e267a34": [("epochs=4", "epochs=2"), ("4 * 23", "2 * 23"), ("4th epoch", "2nd epoch"), ("in 1, 20:", "in 1, 8:")],
        "cdd96e55": [("range(3)", "range(1)"), ("train(make(seed), rest)", "train(make(seed), rest, epochs=4)"), ("> 0.95", "> 0.8")],
    },
    "14_recurrence": {"b2003003": [("epochs=8", "epochs=2")]},
    "16_gpt": {
        "4c1d828d": [("steps=1200", "steps=200")],
        "8c20e33e": [('"steps": 150', '"steps": 40')],
        "f6af976c": [("steps=500", "steps=60"), ("from pydoc_data.topics import topics\n", NUMPYS_HELP)],
        "5a7387a9": [("(8, 2000, SKY), (16, 1000, GREEN), (32, 500, ORANGE)", "(8, 400, SKY), (16, 200, GREEN), (32, 100, ORANGE)")],
    },
    "18_compiler": {"43e30063": [("256, 1024]", "256]"), ("rounds=250", "rounds=25")]},
}
SMALLER_SAYS = "# in the browser smaller than on the page: it would take minutes; the numbers differ from the text's\n"
INSTALL = "%pip install -q nn_from_scratch"
WELCOME = ("> This chapter runs in your browser: nothing is installed on your computer, and nothing leaves it. "
           "Press ⏵⏵ to run every cell, or Shift+Enter to run them one after another; the first takes a minute, because Python is fetched. "
           "What you change lasts until you close the page: *File → Download* keeps it.")


def settings() -> dict[str, str]:
    config = ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini", encoding="utf-8")
    return dict(config["DEFAULT"])


def pins() -> dict[str, str]:
    "The exact versions of the extra `lite` in settings.ini."
    return dict(requirement.split("==") for requirement in settings()["lite_requirements"].split())


def chapters() -> list[str]:
    "The names of the notebooks that go into the browser."
    return sorted(path.stem for path in NBS.glob("*.ipynb") if path.stem not in LEFT_OUT)


# ---------------------------------------------------------------- the copies

def source(cell: dict) -> str: return "".join(cell["source"])


def code_cell(text: str) -> dict:
    return {"cell_type": "code", "execution_count": None, "id": "install", "metadata": {}, "outputs": [], "source": text.splitlines(True)}


def markdown_cell(text: str) -> dict:
    return {"cell_type": "markdown", "id": "welcome", "metadata": {}, "source": text.splitlines(True)}


def without_docs(text: str) -> str:
    "The code of a cell without its lines for nbdev; empty if nothing else is left."
    lines = [line for line in text.splitlines(True)
             if not re.match(r"\s*(from nbdev|import nbdev|nbdev\.|show_doc\()", line)]
    return "".join(lines) if any(line.strip() and not line.startswith("#|") for line in lines) else ""


def unlinked(text: str) -> str:
    "Markdown in which a link to a chapter that is left out is plain text."
    return re.sub(r"(?<!!)\[([^\]]+)\]\((\w+)\.ipynb(?:#[^)]*)?\)", lambda m: m[1] if m[2] in LEFT_OUT else m[0], text)


def made_smaller(text: str, changes: list[tuple[str, str]]) -> str:
    "The code of a cell with smaller sizes, and a line below its options that says so."
    for whole, part in changes: text = text.replace(whole, part)
    options = re.match(r"(?:#\|.*\n)*", text)[0]
    return options + SMALLER_SAYS + text.removeprefix(options)


def browser_copy(notebook: dict, text_only: bool = False, name: str = "") -> dict:
    "The copy of the chapter `name` that runs in the browser."
    cells = []
    for cell in notebook["cells"]:
        text = source(cell)
        if cell["cell_type"] == "markdown":
            # the last section documents each name for the site; here `help(name)` does
            if re.match(r"## Reference\b", text): break
            cells.append(cell | {"source": unlinked(text).splitlines(True)})
        elif cell["cell_type"] == "code" and not text_only and not re.search(r"(?m)^#\|\s*eval:\s*false", text):
            if cell.get("id") in (smaller := SMALLER.get(name, {})): text = made_smaller(text, smaller[cell["id"]])
            if code := without_docs(text):
                cells.append(cell | {"source": code.rstrip().splitlines(True), "outputs": [], "execution_count": None})
    if not text_only: cells[1:1] = [markdown_cell(WELCOME), code_cell(INSTALL)]
    metadata = {"kernelspec": {"display_name": "Python (Pyodide)", "language": "python", "name": "python"},
                "language_info": {"name": "python"}}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def write_copies(folder: Path) -> list[Path]:
    "Writes the copies of the chapters, and the pictures they show, into `folder`."
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in chapters():
        copy = browser_copy(json.loads((NBS / f"{name}.ipynb").read_text(encoding="utf-8")), name in TEXT_ONLY, name)
        for picture in set(re.findall(r"\]\(([\w./-]+\.(?:png|gif|svg|jpg))\)", "".join(map(source, copy["cells"])))):
            if (NBS / picture).exists(): shutil.copy(NBS / picture, folder / Path(picture).name)
        written.append(folder / f"{name}.ipynb")
        written[-1].write_text(json.dumps(copy, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return written


# ---------------------------------------------------------------- the wheels

def pip(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", *arguments], text=True, capture_output=True)
    if done.returncode: sys.exit(f"pip {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")


def make_wheels(folder: Path) -> list[Path]:
    "Puts the wheels that the browser gets from the site into `folder`: this package, what it needs beside NumPy and matplotlib, and comm."
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:  # a copy, so that no old build/ gets into the wheel
        clean = Path(name)
        for file in "settings.ini", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md":
            shutil.copy(ROOT / file, clean)
        package = settings()["lib_path"]
        shutil.copytree(ROOT / package, clean / package, ignore=shutil.ignore_patterns("__pycache__"))
        pip("wheel", "-q", "--no-deps", "-w", str(folder), str(clean))
    for package in "fastcore", "tqdm", "comm":  # the kernel itself asks for comm, which Pyodide does not have
        pip("download", "-q", "--no-deps", "--only-binary", ":all:", "-d", str(folder), f"{package}=={pins()[package]}")
    return sorted(folder.glob("*.whl"))


# ---------------------------------------------------------------- the sites

def lite_config(wheels: list[Path], output: Path, cache: Path, contents: Path) -> dict:
    return {
        "LiteBuildConfig": {"contents": [str(contents)], "output_dir": str(output), "cache_dir": str(cache),
                            "apps": ["lab"], "no_sourcemaps": True},
        "PipliteAddon": {"piplite_urls": [str(wheel) for wheel in wheels]},
    }


def page_config(pyodide: str | None) -> dict:
    "What JupyterLite reads when its page opens."
    kernel = {"disablePyPIFallback": True}  # `nn_from_scratch` on PyPI is another project
    if pyodide: kernel["pyodideUrl"] = pyodide
    memory = ["memoryStorageDriver"]  # a browser that keeps the chapters would never show the new ones
    return {"jupyter-lite-schema-version": 0, "jupyter-config-data": {
        "appName": "nn_from_scratch", "enableMemoryStorage": True, "contentsStorageDrivers": memory,
        "settingsStorageDrivers": memory, "workspacesStorageDrivers": memory,
        "litePluginSettings": {"@jupyterlite/pyodide-kernel-extension:kernel": kernel}}}


OVERRIDES = {
    "@jupyterlab/apputils-extension:themes": {"adaptive-theme": True},
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false"},
}


def build_lite(site: Path, wheels: list[Path], with_pyodide: bool = False) -> Path:
    "Builds JupyterLite into `site`/lite."
    output = site / "lite"
    shutil.rmtree(output, ignore_errors=True)
    with tempfile.TemporaryDirectory() as name:  # no state of an earlier build: a stale one silently drops settings
        work = Path(name)
        write_copies(work / "chapters")
        config = lite_config(wheels, output, work / "cache", work / "chapters")
        (work / "jupyter_lite_config.json").write_text(json.dumps(config))
        url = "../../pyodide/pyodide.mjs" if with_pyodide else None  # as seen from lite/lab/
        (work / "jupyter-lite.json").write_text(json.dumps(page_config(url)))
        (work / "overrides.json").write_text(json.dumps(OVERRIDES))
        done = subprocess.run([sys.executable, "-m", "jupyter", "lite", "build"], cwd=work, text=True, capture_output=True)
        if done.returncode: sys.exit(f"jupyter lite build failed:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    for stale in output.rglob("*.map"): stale.unlink()
    for name in "jupyter-lite.json", "lab/index.html", "pypi/all.json", "files/01_forward.ipynb":
        if not (output / name).exists(): sys.exit(f"jupyter lite build made no {name}")
    return output


def pyodide_version() -> str:
    "The version of Pyodide that the pinned kernel is made for."
    from jupyterlite_pyodide_kernel.constants import PYODIDE_VERSION
    return PYODIDE_VERSION


def build_playground(site: Path, wheels: list[Path], with_pyodide: bool = False) -> Path:
    "Puts the playground into `site`/playground, with the wheels that it unpacks."
    output = site / "playground"
    shutil.rmtree(output, ignore_errors=True)
    shutil.copytree(ROOT / "playground", output)
    wheels = [wheel for wheel in wheels if wheel.name.startswith(("nn_from_scratch-", "tqdm-"))]  # the rest is for notebooks
    for wheel in wheels: shutil.copy(wheel, output)
    version = pyodide_version()
    pyodide = "../pyodide/" if with_pyodide else f"https://cdn.jsdelivr.net/pyodide/v{version}/full/"
    if with_pyodide:
        page = output / "index.html"
        page.write_text(page.read_text(encoding="utf-8").replace("cdn.jsdelivr.net", "this site"), encoding="utf-8")
    packages = {"pyodide": pyodide, "version": version, "wheels": [wheel.name for wheel in wheels]}
    (output / "packages.json").write_text(json.dumps(packages, indent=1) + "\n")
    return output


def copy_pyodide(site: Path) -> None:
    "Copies the Pyodide distribution that PYODIDE_DIST names into `site`/pyodide."
    folder = os.environ.get("PYODIDE_DIST")
    if not folder or not (Path(folder) / "pyodide-lock.json").exists():
        sys.exit("--with-pyodide: PYODIDE_DIST names no Pyodide distribution")
    shutil.rmtree(site / "pyodide", ignore_errors=True)
    shutil.copytree(folder, site / "pyodide", ignore=shutil.ignore_patterns("*.map", "*.d.ts"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", nargs="?", type=Path, default=ROOT / settings()["doc_path"], help="the site's folder (_docs)")
    parser.add_argument("--with-pyodide", action="store_true", help="Python from the site itself: copies the folder PYODIDE_DIST")
    args = parser.parse_args()
    site = args.site.resolve()
    site.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        wheels = make_wheels(Path(name))
        if args.with_pyodide: copy_pyodide(site)
        for output in build_lite(site, wheels, args.with_pyodide), build_playground(site, wheels, args.with_pyodide):
            size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
            print(f"{output}: {size / 1e6:.1f} MB")
    print(f"{len(chapters())} chapters run in the browser; left out:")
    for name, why in LEFT_OUT.items():
        if (NBS / f"{name}.ipynb").exists(): print(f"  {name}: {why}")


if __name__ == "__main__":
    main()
