"""What holds for the project as a whole: the API, the notebooks' form, the site's contents, what the package imports."""

import ast
import importlib
import json
import re
import subprocess
import sys
from configparser import ConfigParser
from fnmatch import fnmatch
from pathlib import Path

import pytest

pytestmark = pytest.mark.project
ROOT = Path(__file__).resolve().parent.parent
NBS, PACKAGE = ROOT / "nbs", ROOT / "nn_from_scratch"
NOTEBOOKS = sorted(path for path in NBS.glob("*.ipynb"))

# The public names that are relied on from outside. A chapter may have more; none of these may go.
API = {
    "forward": "weighted_sum neuron linear operation sigmoid tanh relu leaky_relu elu gelu silu softplus identity "
               "he_normal he_uniform glorot_normal glorot_uniform lecun_normal Module Linear Sequential mlp",
    "losses": "mse mae huber binary_cross_entropy cross_entropy softmax log_softmax one_hot",
    "metrics": "accuracy r2_score confusion_matrix",
    "backprop": "numeric_grad grad value_and_grad defvjp stop_gradient grad_check Tensor",
    "optim": "SGD Adagrad RMSprop Adam AdamW step_decay exponential_decay cosine_decay one_cycle warmup clip_grad_norm gradient_descent",
    "training": "batches fit History evaluate predict EarlyStopping",
    "data": "load_digits load_mnist moons circles spiral xor regression train_valid_split Standardize",
    "sharing": "save load export_onnx",
}
# Modules import only earlier ones.
ORDER = ("aliases checks files functions initial tree turns parameters modules layers forward losses metrics backprop rules tape gradients checking numpy_rules "
         "asking fast speed optimizer optim schedules plots batches evaluation run stopping progress states checkpoints training data architecture sharing onnx "
         "estimators tables tasks cli").split()
SPLIT = {"forward", "backprop", "rules", "speed", "optim", "training", "checkpoints", "data", "plots", "sharing", "cli"}  # on their way into rooms


def cells(path: Path, kind: str = "") -> list[dict]:
    found = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell | {"source": "".join(cell["source"])} for cell in found if kind in ("", cell["cell_type"])]


def options(cell: dict) -> dict[str, str]:
    return dict(re.findall(r"^#\|\s*([\w-]+):?[ \t]*(.*?)\s*$", cell["source"], flags=re.M))


def python(*args: str, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *args], cwd=cwd, text=True, stdin=subprocess.DEVNULL, capture_output=True)


def tracked() -> list[Path]:
    "The files under version control; without git, all files that are not hidden or generated."
    git = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, text=True, capture_output=True)
    if git.returncode == 0: return [path for name in git.stdout.split("\0") if name and (path := ROOT / name).is_file()]
    skip = {"build", "dist", "_proc", "_docs", "__pycache__"}
    return [path for path in ROOT.rglob("*") if path.is_file() and not skip & {*path.relative_to(ROOT).parts}
            and not any(part.endswith(".egg-info") for part in path.parts)]


def module_of(path: Path) -> str | None:
    "The module that the notebook at `path` exports."
    return next((m[1] for cell in cells(path, "code") if (m := re.search(r"^#\|\s*default_exp\s+(\w+)", cell["source"], flags=re.M))), None)


each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
each_chapter = pytest.mark.parametrize("path", [path for path in NOTEBOOKS if module_of(path)], ids=lambda path: path.stem)


# ---------------------------------------------------------------- the package

def test_import_loads_no_matplotlib():
    done = python("-c", "import sys, nn_from_scratch; print([m for m in sys.modules if m.split('.')[0] in ('matplotlib', 'IPython')])")
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_import_gives_no_warning():
    done = python("-W", "error", "-c", "import nn_from_scratch")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("chapter", API)
def test_public_names(chapter):
    package, module = importlib.import_module("nn_from_scratch"), importlib.import_module(f"nn_from_scratch.{chapter}")
    missing = [name for name in API[chapter].split() if not hasattr(module, name) or name not in module.__all__]
    assert not missing, f"nn_from_scratch.{chapter} lacks {missing}"
    other = [name for name in API[chapter].split() if getattr(package, name, None) is not getattr(module, name)]
    assert not other, f"nn_from_scratch does not bring these as they are: {other}"


def test_every_public_name_comes_with_the_package():
    package = importlib.import_module("nn_from_scratch")
    for chapter in set(API):
        module = importlib.import_module(f"nn_from_scratch.{chapter}")
        missing = [name for name in module.__all__ if not hasattr(package, name)]
        assert not missing, f"nn_from_scratch lacks {missing} of {chapter}"


@pytest.mark.parametrize("module", [path.stem for path in sorted(PACKAGE.glob("*.py")) if path.stem[0] != "_"])
def test_imports_only_earlier_chapters(module):
    tree = ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
    froms = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    names = [f"nn_from_scratch.{node.module or ''}" if node.level else node.module for node in froms]
    names += [alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names]
    inner = [name.partition(".")[2] for name in names if name.partition(".")[0] == "nn_from_scratch"]
    assert module in ORDER, f"{module} has no place in the order of the chapters: add it to ORDER"
    later = [name for name in inner if name.partition(".")[0] not in {*ORDER[:ORDER.index(module)], *SPLIT}]
    assert later == [] or module in SPLIT, f"{module} imports {later}"


def test_version_stands_once():
    config = ConfigParser()
    config.read(ROOT / "settings.ini", encoding="utf-8")
    version = config["DEFAULT"]["version"]
    assert importlib.import_module("nn_from_scratch").__version__ == version
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").replace("[", "").replace("]", "")


def test_all_data_is_packaged():
    call = next(node for node in ast.walk(ast.parse((ROOT / "setup.py").read_text(encoding="utf-8")))
                if isinstance(node, ast.keyword) and node.arg == "package_data")
    patterns = ast.literal_eval(call.value)["nn_from_scratch"]
    assert "py.typed" in patterns and (PACKAGE / "py.typed").exists()
    files = [path.name for path in PACKAGE.iterdir() if path.is_file() and path.suffix not in (".py", ".pyc")]
    assert [name for name in files if not any(fnmatch(name, pattern) for pattern in patterns)] == []


# ---------------------------------------------------------------- the notebooks

@each_notebook
def test_opens_with_title_and_subtitle(path):
    assert re.match(r"# \S[^\n]*\n\n?> \S", cells(path)[0]["source"]), "the first cell is '# Title', then '> one sentence'"
    assert sum(bool(re.match(r"# ", cell["source"])) for cell in cells(path, "markdown")) == 1, "one title a page"


@each_notebook
def test_cells_have_ids_of_their_own(path):
    ids = [cell.get("id") for cell in cells(path)]
    assert all(ids) and len(set(ids)) == len(ids)


@each_notebook
def test_figures_have_caption_and_alternative(path):
    for cell in cells(path, "code"):
        if not any("image/png" in out.get("data", {}) or "image/svg+xml" in out.get("data", {}) for out in cell["outputs"]): continue
        opts = options(cell)
        if opts.keys() & {"hide"} or opts.get("include") == "false": continue
        assert opts.get("label", "").startswith("fig-"), f"no '#| label: fig-…' in\n{cell['source']}"
        assert opts.get("fig-cap", "").strip('"'), f"no '#| fig-cap: \"…\"' in\n{cell['source']}"
        assert opts.get("fig-alt", "").strip('"'), f"no '#| fig-alt: \"…\"' in\n{cell['source']}"
    for cell in cells(path, "markdown"):
        assert not re.search(r"!\[\s*\]\(", cell["source"]), f"a picture without a text alternative in\n{cell['source']}"


@each_notebook
def test_figure_labels_are_unique(path):
    labels = [label for cell in cells(path, "code") if (label := options(cell).get("label"))]
    assert sorted({label for label in labels if labels.count(label) > 1}) == []


@each_notebook
def test_outputs_are_text_and_figures(path):
    "No HTML (the site would load other hosts' scripts), no widget, no progress bar, no error, no warning."
    for cell in cells(path, "code"):
        for out in cell["outputs"]:
            kinds = set(out.get("data", {}))
            assert out["output_type"] != "error", f"an error is saved under\n{cell['source']}"
            assert kinds <= {"text/plain", "text/markdown", "image/png", "image/svg+xml"}, f"{kinds} under\n{cell['source']}"
            text = "".join([*out.get("text", []), *out.get("data", {}).get("text/plain", [])])
            assert not re.search(r"\d+%\|.*\||it/s\]|\r", text), f"a progress bar is saved under\n{cell['source']}"
            assert out.get("name") != "stderr", f"{text!r} is saved under\n{cell['source']}"


@each_notebook
def test_solutions_are_folded_everywhere(path):
    for cell in cells(path, "code"):
        opts = options(cell)
        if "Solution" not in opts.get("code-summary", ""): continue
        assert opts.get("code-fold") == "true" and cell["metadata"].get("jupyter") == {"source_hidden": True}, cell["source"]


@each_chapter
def test_every_exported_name_is_in_the_reference(path):
    module = importlib.import_module(f"nn_from_scratch.{module_of(path)}")
    shown = {name for cell in cells(path, "code") for name in re.findall(r"show_doc\(\s*([\w.]+)", cell["source"])}
    assert [name for name in module.__all__ if callable(getattr(module, name)) and name not in shown] == []
    assert not module.__all__ or any(re.search(r"^## Reference$", cell["source"], flags=re.M) for cell in cells(path, "markdown"))


@each_notebook
def test_links_lead_to_files(path):
    "Links inside the project, to other notebooks and to pictures."
    for cell in cells(path, "markdown"):
        text = re.sub(r"```.*?```|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]*\$", "", cell["source"], flags=re.S)
        for target in re.findall(r"\]\(([^)\s]+)", text) + re.findall(r"(?:src|href)=\"([^\"]+)", text):
            if re.match(r"[a-z][a-z+.-]*:|#", target): continue
            file = NBS / target.partition("#")[0]
            if file.suffix == ".html": file = file.with_suffix(".ipynb")
            assert file.exists(), f"{target} leads nowhere in\n{cell['source']}"


# ---------------------------------------------------------------- what stands around them

def test_sidebar_lists_the_notebooks_there_are():
    listed = re.findall(r"^\s*(?:-\s*)?(?:file:\s*|href:\s*)?(\w+\.ipynb)\s*$", (ROOT / "_quarto.yml").read_text(encoding="utf-8"), flags=re.M)
    assert sorted(listed) == [path.name for path in NOTEBOOKS]


def test_no_path_of_one_machine():
    here = re.compile(r"(?<![\w.])/(?:tmp|work|root|home/(?!pyodide/)\w+|Users/\w+)/|[A-Z]:\\\\?Users")
    found = []
    for path in tracked():
        data = path.read_bytes()
        if path == Path(__file__).resolve() or b"\0" in data: continue
        text = re.sub(r'"image/png": "[^"]*"', "", data.decode()).replace("\\n", "\n")  # as a notebook's text is written
        found += [f"{path.relative_to(ROOT)}: {line.strip()[:120]}" for line in text.splitlines() if here.search(line)]
    assert found == []


@pytest.mark.parametrize("which", ["main", "test", "read"])
def test_readme_has_each_command_once(which):
    done = python("tools/readme_command.py", which)
    assert done.returncode == 0, done.stderr
