"""Runs the notebooks from the top and saves what they show, so that a second run changes nothing.

    python tools/run_notebooks.py                  every notebook
    python tools/run_notebooks.py 01_forward       only this one
    python tools/run_notebooks.py --stale          only those whose outputs are out of date
    python tools/run_notebooks.py --check          runs nothing; fails if outputs are out of date
    python tools/run_notebooks.py --fold           runs nothing; folds in JupyterLab what a reader of the page does not see

The package is exported before (tools/export.py), and after, for the examples in its docstrings. Each notebook runs in a process
of its own, in its folder, with outputs cleared and cells with `#| eval: false` or `nbdev_export()` left out. If a cell fails,
nothing of that notebook is saved, and the exit code is 1.

Outputs are compared by digest, not by their bytes: on another machine the last digits of a training run differ. For
each notebook, nbs/.digests.json holds a digest of its code cells and one of each package module it uses, taken when it
last ran. Text, captions and docstrings do not count, so editing prose leaves the outputs valid.

In JupyterLab a cell is folded if the site does not show its source, or shows it folded; all others are open.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import re
import subprocess
import sys
import sysconfig
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NBS, PACKAGE = ROOT / "nbs", "nn_from_scratch"
DIGESTS = NBS / ".digests.json"
DPI, TIMEOUT = 100, 900  # dots per inch; seconds for one notebook


# ---------------------------------------------------------------- digests

def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def code_of(path: Path) -> str:
    "The code of the notebook at `path`, without the `#|` options, none of which changes an output but `eval`."
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    return "\n\n".join("\n".join(line.rstrip() for line in source.strip().splitlines()
                                 if not line.startswith("#|") or "eval:" in line) for source in code)


def module_code(path: Path) -> str:
    "The code of an exported module, without its docstrings (prose of the notebook) and the marks between cells."
    source = path.read_text(encoding="utf-8")
    lines: list[str | None] = [*source.splitlines()]
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) or not node.body: continue
        text = node.body[0]
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str):
            if text.lineno == getattr(node, "lineno", 0): continue
            lines[text.lineno - 1:text.end_lineno] = [None] * (text.end_lineno - text.lineno + 1)
    return "\n".join(line for line in lines if line and not line.startswith("# %%"))


def modules() -> dict[str, Path]:
    "The modules of the package by name, such as optim and plots.plane; `__init__` is the package, `plots` the package in it."
    found = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = [*path.relative_to(ROOT / PACKAGE).with_suffix("").parts]
        if parts[-1] == "_modidx": continue
        if len(parts) > 1 and parts[-1] == "__init__": parts.pop()
        found[".".join(parts)] = path
    return found


def package_names() -> dict[str, str]:
    "Of each name that the package itself brings, the module it comes from."
    found = {}
    for node in ast.walk(ast.parse((ROOT / PACKAGE / "__init__.py").read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom): continue
        module = (node.module or "").removeprefix(f"{PACKAGE}.") if node.level == 0 else node.module or ""
        for alias in node.names:
            names = exported(module) if alias.name == "*" else [alias.asname or alias.name]
            found |= {name: module or name for name in names}
    return found


def exported(module: str) -> list[str]:
    "What `from module import *` brings."
    path = modules().get(module)
    if path is None: return []
    source = path.read_text(encoding="utf-8")
    written = re.search(r"^__all__ = (\[[^()]*?\])$", source, flags=re.M | re.S)
    stars = re.findall(r"^from \.(\w+) import \*", source, flags=re.M)
    inside = f"{module}." if path.stem == "__init__" else ""
    listed = ast.literal_eval(written[1]) if written and " for " not in written[1] else []
    return [*listed, *(name for star in stars for name in exported(inside + star))]


def imported(code: str, module: str = "") -> set[str]:
    "The package's modules that `code`, that of `module`, names in an import; `__init__` where it imports the package itself."
    known, found = modules(), set()
    here = module.split(".") if known.get(module, Path()).stem == "__init__" else module.split(".")[:-1]
    pattern = rf"^\s*(?:from\s+|import\s+)(?:({PACKAGE})\b\.?|(\.+))([\w.]*)(?:[ \t]+import[ \t]+(\([^)]*\)|[^\n#]*))?"
    for absolute, dots, name, what in re.findall(pattern, code, flags=re.M):
        base = [] if absolute or here == [""] else here[:len(here) - len(dots) + 1]
        target = ".".join([*base, *(name.split(".") if name else [])])
        found.add(target or "__init__")
        inner = (f"{target}.{part}" if target else part for part in re.findall(r"\w+", what))
        found |= {part for part in inner if part in known and part != "__init__"}
        found |= {target.rpartition(".")[0]} - {""}
    return found


def uses(code: str) -> dict[str, str]:
    "Each module that `code` imports, directly or through another one, with its digest; of the package itself, those whose names it uses."
    known, names = modules(), package_names()
    todo = imported(code)
    if "__init__" in todo:
        words = set(re.findall(r"\bnn\.(\w+)", code)) | {word for line in re.findall(rf"from {PACKAGE} import (\([^)]*\)|.*)", code)
                                                        for word in re.findall(r"\w+", line)}
        todo = (todo - {"__init__"}) | {names[word] for word in words & names.keys()}
    found: dict[str, str] = {}
    while todo:
        name = todo.pop()
        if name in found or name not in known: continue
        source = module_code(known[name])
        found[name] = digest(source)
        todo |= imported(source, name) - {"__init__"}
    return dict(sorted(found.items()))


def fingerprint(path: Path) -> dict:
    code = code_of(path)
    return {"code": digest(code), "modules": uses(code)}


def read_digests() -> dict:
    return json.loads(DIGESTS.read_text(encoding="utf-8")) if DIGESTS.exists() else {}


def write_digests(new: dict):
    there = {path.name for path in notebooks()}
    merged = {name: value for name, value in sorted((read_digests() | new).items()) if name in there}
    DIGESTS.write_text(json.dumps(merged, indent=1) + "\n", encoding="utf-8")


def why_stale(path: Path, digests: dict) -> str | None:
    "The reason why the saved outputs of `path` are out of date, or None."
    then, now = digests.get(path.name), fingerprint(path)
    if then is None: return "it has not been run"
    if then["code"] != now["code"]: return "its code has changed since it ran"
    was, is_ = then["modules"], now["modules"]
    changed = sorted(name for name in was.keys() | is_.keys() if was.get(name) != is_.get(name))
    return f"{', '.join(changed)} changed since it ran" if changed else None


# ---------------------------------------------------------------- folding

def folded(source: str) -> dict[str, bool]:
    "What JupyterLab hides of a cell: its source where the site does not show it or folds it, its output where the site folds that."
    options = "\n".join(line for line in source.splitlines() if line.startswith("#|"))
    fold = re.search(r"^#\|\s*fold:(.*)", options, flags=re.M)
    hidden = r"^#\|\s*(?:exporti?\b|hide\b|default_exp\b|include:\s*false|echo:\s*false|code-fold:\s*true)"
    solution = re.search(r"^#\|\s*(?:fold|code-summary):.*Solution", options, flags=re.M)  # with what it prints and draws
    found = {"outputs_hidden": True} if fold or solution else {}
    if re.search(hidden, options, flags=re.M) or solution: found["source_hidden"] = True
    return found


def fold(cells: list[dict]):
    "Fold and unfold the cells of a notebook."
    for cell in cells:
        if cell["cell_type"] != "code": continue
        kept = {key: value for key, value in cell["metadata"].get("jupyter", {}).items() if not key.endswith("_hidden")}
        if kept := kept | folded("".join(cell["source"])): cell["metadata"]["jupyter"] = kept
        else: cell["metadata"].pop("jupyter", None)


def with_folds(path: Path) -> str:
    "The text of the notebook at `path` with its cells folded and unfolded."
    notebook = json.loads(path.read_text(encoding="utf-8"))
    fold(notebook["cells"])
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


# ---------------------------------------------------------------- one notebook, in its own process

def skipped(source: str) -> bool:
    return bool(re.search(r"^#\|\s*eval:\s*false", source, flags=re.M)) or "nbdev_export(" in source


def without_progress(text: str) -> str:
    "`text` as a terminal shows it at the end (a carriage return starts the line again), without progress bars."
    kept = []
    for line in re.findall(r"[^\n]*\n|[^\n]+", text):
        line = line.rstrip("\r\n").rpartition("\r")[2] + ("\n" if line.endswith("\n") else "")
        if not re.search(r"\d+%\|.*\||\d+it \[", line): kept.append(line)
    text = "".join(kept)
    return text if text.strip() else ""


def tidy(outputs: list, where: str) -> list:
    "What is worth saving of a cell's `outputs`: no progress bar, no HTML beside plain text, no path of this machine."
    places = [(f"{ROOT}{os.sep}", ""), (sysconfig.get_paths()["purelib"] + os.sep, ""), (str(Path.home()), "~")]
    kept = []
    for out in outputs:
        if out["output_type"] == "stream":
            text = without_progress("".join(out["text"]))
            for place, short in places: text = text.replace(place, short)
            if not text: continue
            out["text"] = text.splitlines(keepends=True)
        elif "data" in out:
            data = out["data"]
            if not data or "application/vnd.jupyter.widget-view+json" in data: continue
            if "text/html" in data:
                if "".join(data.get("text/plain", "<")).startswith("<IPython."):
                    raise ValueError(f"{where} shows HTML, which the site cannot show without other hosts: use text or Markdown")
                del data["text/html"]
        kept.append(out)
    return kept


def run_one(path: Path):
    "Run the notebook at `path` and save it."
    from execnb.nbio import dict2nb, nb2str
    from execnb.shell import CaptureShell
    from IPython.core.displayhook import DisplayHook
    from IPython.utils.capture import capture_output
    from nbdev.clean import clean_nb
    from nbdev.config import get_config

    class Shell(CaptureShell):
        def _run(self, raw_cell, *args, stdout=True, stderr=True, display=True, verbose=False, **kwargs):
            # CaptureShell drops what a cell printed if the cell ends with a semicolon, and misses one before a comment.
            with capture_output(stdout, stderr, display) as c:
                result = super(CaptureShell, self).run_cell(raw_cell, *args, **kwargs)
            return type("Ran", (dict,), {"__getattr__": dict.__getitem__})(
                result=result, stdout=c.stdout, stderr=c.stderr, display_objects=c.outputs, execution_count=None,
                quiet=DisplayHook.semicolon_at_end_of_expression(raw_cell),
                exception=result.error_in_exec or result.error_before_exec)

    before = path.read_bytes()
    nb = dict2nb(json.loads(before))
    for cell in nb.cells:
        if cell.cell_type == "code": cell.outputs, cell.execution_count = [], None

    shell = Shell(path, mpl_format="png")
    shell.run(f"import matplotlib; matplotlib.rcParams['figure.dpi'] = {DPI}; del matplotlib")
    shell.run("set_matplotlib_formats('png', metadata={'Software': None}); del set_matplotlib_formats")
    for number, cell in enumerate(nb.cells, 1):
        if cell.cell_type != "code" or skipped(cell.source): continue
        where = f"{path.name}, cell {number} ({cell.get('id', 'no id')})"
        shell._cell_idx = number
        outputs = shell.run(cell.source)
        if shell.exc:
            head = "\n".join("    " + line for line in cell.source.splitlines()[:8])
            sys.exit(f"{where} fails:\n{head}\n\n" + "".join(o for out in outputs for o in out.get("traceback", [])))
        cell.outputs = tidy(outputs, where)

    fold(nb.cells)
    cfg = get_config()
    clean_nb(nb, False, cfg.allowed_metadata_keys.split(), cfg.allowed_cell_metadata_keys.split(), cfg.clean_ids)
    text = nb2str(nb)
    if path.read_bytes() != before: sys.exit(f"{path.name} was changed by someone else while it ran; not saved")
    if text.encode() != before: path.write_text(text, encoding="utf-8", newline="\n")


# ---------------------------------------------------------------- all of them

def notebooks(names: list[str] = ()) -> list[Path]:
    found = sorted(path for path in NBS.glob("*.ipynb") if path.name[0] not in "._")
    if not names: return found
    wanted = {Path(name).stem for name in names}
    if unknown := wanted - {path.stem for path in found}: sys.exit(f"no notebook in nbs: {', '.join(sorted(unknown))}")
    return [path for path in found if path.stem in wanted]


def environment() -> dict[str, str]:
    "What a notebook may see of this machine: one thread (the same sums in the same order), a fixed hash seed."
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OPENBLAS", "OMP", "MKL", "VECLIB_MAXIMUM")}
    drop = {"MPLBACKEND", "IN_TEST"}
    env = {key: value for key, value in os.environ.items() if key not in drop}
    return env | threads | {"PYTHONHASHSEED": "0", "PYTHONPATH": str(ROOT), "TQDM_DISABLE": "1", "COLUMNS": "100"}


def export() -> bool:
    command = [sys.executable, str(ROOT / "tools" / "export.py")]
    return subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, env=environment()).returncode == 0


def run_in_process(path: Path) -> tuple[Path, float, str]:
    "Run one notebook; the seconds it took, and the error message ('' if none)."
    start = time.perf_counter()
    command = [sys.executable, str(Path(__file__).resolve()), "--one", str(path)]
    try:
        done = subprocess.run(command, cwd=path.parent, env=environment(), text=True, stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=TIMEOUT)
        error = "" if done.returncode == 0 else done.stderr + done.stdout or f"exit code {done.returncode}"
    except subprocess.TimeoutExpired:
        error = f"{path.name} did not finish within {TIMEOUT} seconds"
    return path, time.perf_counter() - start, error


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="notebooks to run, such as 01_forward; all without any")
    parser.add_argument("--check", action="store_true", help="run nothing; fail if outputs are out of date")
    parser.add_argument("--fold", action="store_true", help="run nothing; fold the cells that a reader of the page does not see")
    parser.add_argument("--stale", action="store_true", help="run only the notebooks whose outputs are out of date")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="notebooks run side by side")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        run_one(args.one)
        return 0

    paths = notebooks(args.names)
    if args.fold:
        for path in paths: path.write_text(with_folds(path), encoding="utf-8", newline="\n")
        return 0
    if args.check:
        digests = read_digests()
        stale = [(path, why) for path in paths if (why := why_stale(path, digests))]
        for path, why in stale: print(f"{path.name}: {why}")
        left_over = sorted(digests.keys() - {path.name for path in notebooks()})
        for name in left_over: print(f"{name}: in {DIGESTS.name}, but there is no such notebook")
        print(f"{len(paths) - len(stale)} of {len(paths)} notebooks have up-to-date outputs")
        if stale: print("Run: python tools/run_notebooks.py --stale")
        return 1 if stale or left_over else 0

    if not export(): return 1
    if args.stale:
        digests = read_digests()
        paths = [path for path in paths if why_stale(path, digests)]

    failed, taken = [], {path.name: fingerprint(path) for path in paths}
    with ThreadPoolExecutor(args.jobs) as pool:
        for path, seconds, error in pool.map(run_in_process, paths):
            print(f"{path.name:24} {'FAILED' if error else 'ok':6} {seconds:6.1f} s", flush=True)
            if error:
                failed.append(path.name)
                print(error, file=sys.stderr, flush=True)
            else: write_digests({path.name: taken[path.name]})
    write_digests({})
    if not export(): return 1
    print(f"{len(paths) - len(failed)} of {len(paths)} notebooks ran to their end" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__": sys.exit(main())
