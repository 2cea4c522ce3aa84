"""Every chapter's cells run in Pyodide, under Node: the copies that tools/build_lite.py puts into the browser, with its wheels.

    PYODIDE_DIST=folder python -m pytest tests/pyodide

PYODIDE_DIST names the folder of a Pyodide distribution of the version that the pinned jupyterlite-pyodide-kernel expects.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.project
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "tools"))
import build_lite  # noqa: E402

SECONDS = 200  # for the cells of a chapter together, on a slow and busy machine; most take 5 to 25, the capstone 60


@pytest.fixture(scope="session")
def pyodide() -> Path:
    "The folder of a Pyodide distribution."
    folder = os.environ.get("PYODIDE_DIST")
    if not folder: pytest.skip("PYODIDE_DIST names no folder with a Pyodide distribution")
    if not shutil.which("node"): pytest.skip("node is not installed")
    folder = Path(folder).resolve()
    assert (folder / "pyodide.mjs").exists(), f"{folder} holds no pyodide.mjs"
    return folder


@pytest.fixture(scope="session")
def wheels(pyodide, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    assert len(build_lite.make_wheels(folder)) == 4
    return folder


def run(pyodide: Path, wheels: Path, notebook: Path) -> dict:
    command = ["node", str(HERE / "run_notebook.mjs"), str(pyodide), str(wheels), str(notebook)]
    done = subprocess.run(command, text=True, capture_output=True, timeout=600)
    lines = done.stdout.splitlines()
    # when Pyodide itself fails, Node shows a line of its minified source: megabytes
    assert lines and lines[-1].startswith("{"), "\n".join(line[:500] for line in (done.stdout + done.stderr).splitlines())
    return json.loads(lines[-1]) | {"slow": lines[:-1]}


@pytest.mark.parametrize("name", build_lite.chapters())
def test_chapter(name, pyodide, wheels, tmp_path):
    copy = build_lite.browser_copy(json.loads((build_lite.NBS / f"{name}.ipynb").read_text(encoding="utf-8")),
                                   name in build_lite.TEXT_ONLY, name)
    path = tmp_path / f"{name}.ipynb"
    path.write_text(json.dumps(copy), encoding="utf-8")
    result = run(pyodide, wheels, path)
    assert result["error"] is None, result["error"]
    code = sum(cell["cell_type"] == "code" for cell in copy["cells"])
    assert result["cells"] == max(code - 1, 0)  # all but the one that installs the package
    assert result["seconds"] < SECONDS, result
    print(f"{name}: {result['cells']} cells in {result['seconds']:.1f} s, the slowest {result['slowest']:.1f} s", *result["slow"], sep="\n")


def test_a_failing_cell_is_noticed(pyodide, wheels, tmp_path):
    cells = [build_lite.code_cell(build_lite.INSTALL), build_lite.code_cell("import nn_from_scratch as nn\nassert nn.relu(-1.0) == 1")]
    path = tmp_path / "broken.ipynb"
    path.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    result = run(pyodide, wheels, path)
    assert "AssertionError" in result["error"] and result["cells"] == 1
