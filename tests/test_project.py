"""What holds for the project as a whole: the API, the rules of the house, the notebooks' form, the site's contents."""

import ast
import importlib
import inspect
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
sys.path.insert(0, str(ROOT / "tools"))

from export import parameters  # noqa: E402
from run_notebooks import folded, modules  # noqa: E402

# The public names that are relied on from outside, by topic. There may be more; none of these may go.
API = {
    "functions": "weighted_sum neuron linear operation sigmoid tanh relu leaky_relu elu gelu silu softplus identity",
    "initialisers": "he_normal he_uniform glorot_normal glorot_uniform lecun_normal",
    "models": "Module Linear Sequential mlp Dropout BatchNorm LayerNorm RMSNorm",
    "pictures as inputs": "Conv2d ConvTranspose2d Conv1d MaxPool2d AvgPool2d Flatten conv2d conv_transpose2d conv1d max_pool2d avg_pool2d global_avg_pool",
    "sequences": "embedding Embedding RNN GRU LSTM load_names load_text",
    "attention": "attention MultiHeadAttention GPT TransformerBlock generate Characters BytePairs Windows",
    "losses": "mse mae huber binary_cross_entropy cross_entropy softmax log_softmax one_hot",
    "metrics": "accuracy r2_score confusion_matrix classification_report",
    "gradients": "numeric_grad grad value_and_grad defvjp stop_gradient grad_check Tensor",
    "optimizers": "SGD Adagrad RMSprop Adam AdamW clip_grad_norm gradient_descent",
    "schedules": "step_decay exponential_decay cosine_decay one_cycle warmup",
    "training": "batches fit History evaluate predict EarlyStopping",
    "data": "load_digits load_mnist moons circles spiral xor regression train_valid_split Standardize",
    "tables": "read_table Table Preparation",
    "sharing": "save load export_onnx",
    "compiler": "compile training_step",
    "estimators": "NeuralNetworkClassifier NeuralNetworkRegressor",
}
ASKED = (API["compiler"] + " " + API["estimators"]).split()  # imported when asked for, and not by `import *`
# The rooms of the house. Each imports only from those above it.
ORDER = """
    aliases checks loss_demands files functions initial tree turns parameters layout modules layers
    losses metrics rules calls tape walk arguments gradients checking numpy_rules
    shape_rules joining_rules linalg_rules matrix_rules reduction_rules series_rules asking fast
    dropout norms norm_demands fast_norms
    embedding embedding_demands fast_embedding recurrent recurrent_demands fast_recurrent
    optimizer schedules optim modern quick_steps settings
    convolution transposed pooling image_demands fast_convolution fast_stages memory
    compiler.nodes compiler.traced compiler.trace compiler.backward compiler.passes compiler.memory compiler.loops compiler.write compiler.tracing compiler.update compiler.replay compiler
    attention attention_demands fast_attention
    plots.figures plots.plane plots.surface plots.network plots.graph plots.training plots.images plots.probe plots.convolution plots
    packing states batches ranks evaluation run stopping progress descriptions checkpoints parallel training averaging folds
    probe trial symptoms rehearsal checkup
    data.toy data.mnist data.prepare data.augment data.pictures data.texts data
    architecture onnx norm_files sequence_files sharing image_files units forms columns table_files tables preparation seen learners estimators splits questions tasks albums reports console answers run_folders
    tokens gpt fast_gpt gpt_files text_command cli
""".split()
OPTIONAL = {"threadpoolctl", "matplotlib", "IPython", "sklearn", "onnx", "safetensors", "pooch", "pyarrow", "numba", "PIL", "mpi4py"}  # asked for when they are needed


# Rules that do not hold everywhere yet: what is left of each is printed, and does not fail.
OPEN = {"columns"}


def hold(rule: str, found: list[str]):
    "Fail if anything was found against `rule`; while the rule is open, say how much is left."
    if found and rule in OPEN: pytest.xfail(f"{len(found)} left: " + "; ".join(map(str, found))[:400])
    assert found == [], f"{rule}: " + "\n".join(map(str, found))


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


def rooms_of(path: Path) -> list[str]:
    "The modules that the notebook at `path` writes."
    found = {}
    for cell in cells(path, "code"):
        for room in re.findall(r"^#\|\s*(?:default_exp|export[si]?)[ \t]+([\w.]+)", cell["source"], flags=re.M): found[room] = True
    return list(found)


def rooms() -> dict[str, Path]:
    "The modules of the package but for those written by hand (`__init__`, `__main__`)."
    return {name: path for name, path in modules().items() if not name.startswith("__")}


def tree(path: Path) -> ast.Module: return ast.parse(path.read_text(encoding="utf-8"))


def docstring_lines(node: ast.AST) -> int:
    "Lines of the docstrings in `node`, each first line left out."
    nodes = [n for n in ast.walk(node) if isinstance(n, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(n) is not None]
    return sum(n.body[0].end_lineno - n.body[0].lineno for n in nodes)


each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
each_chapter = pytest.mark.parametrize("path", [path for path in NOTEBOOKS if rooms_of(path)], ids=lambda path: path.stem)


# ---------------------------------------------------------------- the package

def test_import_loads_no_matplotlib():
    done = python("-c", "import sys, nn_from_scratch; print([m for m in sys.modules if m.split('.')[0] in ('matplotlib', 'IPython')])")
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_import_gives_no_warning():
    done = python("-W", "error", "-c", "import nn_from_scratch")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("topic", API)
def test_public_names(topic):
    package = importlib.import_module("nn_from_scratch")
    assert [name for name in API[topic].split() if not hasattr(package, name)] == []
    assert [name for name in API[topic].split() if name not in (*package.__all__, *ASKED)] == []


def test_the_list_of_public_names_is_short_and_leads_everywhere():
    package = importlib.import_module("nn_from_scratch")
    names = package.__all__
    if not 70 <= len(names) <= 170: hold("short list", [f"{len(names)} public names"])
    assert len(set(names)) == len(names)
    shown = {name for name in dir(package) if not name.startswith("_") and not inspect.ismodule(getattr(package, name))}
    hold("short list", sorted(shown ^ {*names, *ASKED}))
    hold("short list", [room for room in rooms() if "." not in room and room not in ("aliases", "checks", "files") and room not in (package.__doc__ or "")])


@pytest.mark.parametrize("room", [name for name in modules() if not name.startswith("__")])
def test_a_room_imports_only_from_those_above_it(room):
    if room not in ORDER: hold("order", [f"{room} has no place in the order of the rooms: add it to ORDER"])
    above = {*ORDER[:ORDER.index(room)]} if room in ORDER else {*ORDER}
    inner = set(imports(modules()[room], room))
    if room in ("data", "plots", "compiler"): inner -= {name for name in inner if name.startswith(f"{room}.")}
    hold("order", sorted(f"{room} imports {name}" for name in inner - above))


def imports(path: Path, room: str) -> list[str]:
    "The modules of the package that the module `room` imports, wherever it does so."
    inside = room.split(".") if path.stem == "__init__" else room.split(".")[:-1]
    found = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*inside[:len(inside) - node.level + 1], *((node.module or "").split(".") if node.module else [])]
            found += [".".join(base)] if ".".join(base) in modules() else []
            found += [name for alias in node.names if (name := ".".join([*base, alias.name])) in modules()]
        names = [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        found += [name.partition(".")[2] for name in names if name.startswith("nn_from_scratch.")]
    return found


# ---------------------------------------------------------------- rules of the house

def test_no_room_takes_another_ones_private_names():
    hold("private imports", [f"{room}: from {node.module or '.'} import {alias.name}" for room, path in rooms().items()
                             for node in ast.walk(tree(path)) if isinstance(node, ast.ImportFrom) and node.level
                             for alias in node.names if alias.name.startswith("_") and alias.name != "_modidx"])


def test_imports_stand_at_the_top():
    found = []
    for room, path in rooms().items():
        for outer in ast.walk(tree(path)):
            if not isinstance(outer, ast.FunctionDef): continue
            for node in ast.walk(outer):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom): names = ["." * node.level + (node.module or "")]
                found += [f"{room}.{outer.name} imports {name}" for name in names if name.partition(".")[0] not in OPTIONAL]
    hold("inner imports", sorted(set(found)))


def test_nothing_is_put_into_another_ones_class():
    found = []
    for room, path in rooms().items():
        body = tree(path)
        taken = {alias.asname or alias.name for node in ast.walk(body) if isinstance(node, (ast.Import, ast.ImportFrom)) for alias in node.names}
        for node in ast.walk(body):
            targets = getattr(node, "targets", [getattr(node, "target", None)]) if isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign)) else []
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "setattr": targets = [ast.Attribute(value=node.args[0], attr="…")]
            for target in targets:
                owner = target.value if isinstance(target, ast.Attribute) else None
                if isinstance(owner, ast.Name) and owner.id in taken: found.append(f"{room}: {owner.id}.{target.attr} = …")
    hold("patches", found)


def test_rooms_are_not_long():
    "At most 320 lines beside docstrings."
    lengths = {room: len(path.read_text(encoding="utf-8").splitlines()) - docstring_lines(tree(path)) for room, path in rooms().items()}
    hold("module length", [f"{room}: {n} lines" for room, n in lengths.items() if n > 320])


def test_functions_are_not_long():
    "At most 40 lines of code: no docstring, no comment, no empty line."
    found = []
    for room, path in rooms().items():
        lines = path.read_text(encoding="utf-8").splitlines()
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.FunctionDef): continue
            code = [line for line in lines[node.lineno - 1:node.end_lineno] if line.strip() and not line.strip().startswith("#")]
            written = sum(n.body[0].end_lineno - n.body[0].lineno + 1 - "\n".join(lines[n.body[0].lineno - 1:n.body[0].end_lineno]).count("\n\n")
                          for n in ast.walk(node) if isinstance(n, ast.FunctionDef) and ast.get_docstring(n) is not None)
            if len(code) - written > 40: found.append(f"{room}.{node.name}: {len(code) - written} lines")
    hold("function length", found)


def test_functions_are_not_tangled():
    "A cyclomatic complexity of at most 10, as ruff counts it."
    done = python("-m", "ruff", "check", "--isolated", "--no-cache", "--select", "C901", "--config", "lint.mccabe.max-complexity=10",
                  "--output-format", "concise", *map(str, rooms().values()))
    hold("complexity", re.findall(r"(\w+\.py:.*C901 .*)", done.stdout))


def test_a_private_name_means_one_thing():
    where: dict[str, set[str]] = {}
    for room, path in rooms().items():
        for node in tree(path).body:
            names = [node.name] if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else []
            if isinstance(node, (ast.Assign, ast.AnnAssign)): names = [t.id for t in getattr(node, "targets", [getattr(node, "target", None)])
                                                                       if isinstance(t, ast.Name)]
            for name in names:
                if name.startswith("_") and not name.endswith("_"): where.setdefault(name, set()).add(room)
    hold("private names", [f"{name} in {', '.join(sorted(found))}" for name, found in sorted(where.items()) if len(found) > 1])


@each_notebook
def test_code_fits_a_column_of_the_site(path):
    "88 columns, so that no line wraps; an option of a cell is prose, and may be longer."
    found = [line.strip() for cell in cells(path, "code") for line in cell["source"].splitlines() if len(line) > 88 and not line.startswith("#|")]
    hold("columns", found)


def explained_names() -> list[tuple[str, object]]:
    package = importlib.import_module("nn_from_scratch")
    names = [*package.__all__, *ASKED]
    return [(name, getattr(package, name)) for name in names if callable(getattr(package, name))]


def test_every_public_name_explains_its_parameters():
    found = []
    for name, thing in explained_names():
        told = parameters(inspect.getdoc(thing) or "")
        try: asked = [p for p in inspect.signature(thing).parameters if p not in ("args", "kwargs")]
        except ValueError: asked = []
        if missing := [p for p in asked if p not in told]: found.append(f"{name}: {', '.join(missing)}")
    hold("parameters", found)


def test_every_public_name_has_an_example():
    hold("examples", [name for name, thing in explained_names() if "\nExample:\n" not in (inspect.getdoc(thing) or "")])


def test_every_room_opens_with_one_sentence():
    hold("one line", [room for room, path in rooms().items() if not ast.get_docstring(tree(path))])


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
        assert opts.get("code-fold") == "true" and cell["metadata"].get("jupyter", {}).get("source_hidden"), cell["source"]


@each_notebook
def test_no_notebook_exports_by_itself(path):
    "`nbdev_export` would append to the rooms: tools/export.py writes them."
    hold("export cells", [cell["id"] for cell in cells(path, "code") if "nbdev_export(" in cell["source"]])


@each_notebook
def test_what_the_page_does_not_show_is_folded_in_jupyterlab(path):
    wrong = [cell["source"][:60] for cell in cells(path, "code")
             if {k: v for k, v in cell["metadata"].get("jupyter", {}).items() if k.endswith("_hidden")} != folded(cell["source"])]
    hold("folds", [f"{path.name}: {len(wrong)} cells; python tools/run_notebooks.py --fold"] if wrong else [])


@each_chapter
def test_every_exported_name_is_in_the_reference(path):
    shown = {name for cell in cells(path, "code") for name in re.findall(r"show_doc\(\s*([\w.]+)", cell["source"])}
    public, found = {*importlib.import_module("nn_from_scratch").__all__, *ASKED}, []
    for room in rooms_of(path):
        module = importlib.import_module(f"nn_from_scratch.{room}")
        found += [f"{room}.{name}" for name in module.__all__ if name in public and name not in shown
                  and getattr(getattr(module, name), "__module__", "") == module.__name__]
    hold("reference", found)
    assert not shown or any(re.search(r"^## Reference$", cell["source"], flags=re.M) for cell in cells(path, "markdown"))


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


def test_sources_are_whole():
    "Each entry of the bibliography closes before the next one opens."
    entries = re.split(r"(?m)^(?=@)", (NBS / "references.bib").read_text(encoding="utf-8"))[1:]
    assert [entry for entry in entries if entry.count("{") != entry.count("}")] == []


def test_no_path_of_one_machine():
    here = re.compile(r"(?<![\w.])/(?:tmp|work|root|home/(?!pyodide/)\w+|Users/\w+)/|[A-Z]:\\\\?Users")
    found = []
    for path in tracked():
        data = path.read_bytes()
        if path == Path(__file__).resolve() or b"\0" in data: continue
        text = re.sub(r'"image/png": "[^"]*"', "", data.decode()).replace("\\n", "\n")  # as a notebook's text is written
        found += [f"{path.relative_to(ROOT)}: {line.strip()[:120]}" for line in text.splitlines() if here.search(line)]
    assert found == []


@pytest.mark.parametrize("system", ["", "windows"])
@pytest.mark.parametrize("which", ["main", "test", "read"])
def test_readme_has_each_command_once(which, system):
    "One line, which makes its own environment and leaves the rest of the Python alone."
    done = python("tools/readme_command.py", which, *system.split())
    assert done.returncode == 0, done.stderr
    steps = done.stdout.strip().split(" && ")
    inside = ".venv\\Scripts\\" if system else ".venv/bin/"
    assert steps[0] == ("py" if system else "python3") + " -m venv .venv" and len(steps) == 3
    assert all(step.startswith(inside) for step in steps[1:])
