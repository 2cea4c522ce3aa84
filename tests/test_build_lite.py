"""The copies of the chapters that run in the browser. (That they do run is tested in tests/pyodide and tests/browser.)"""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
import build_lite

pytestmark = pytest.mark.project


@pytest.mark.parametrize("name", sorted(set(build_lite.chapters()) - build_lite.TEXT_ONLY))
def test_a_copy_is_for_the_browser(name):
    "What only the documentation needs is gone, the package is installed first, and no link leads to a chapter that is left out."
    copy = build_lite.browser_copy(json.loads((build_lite.NBS / f"{name}.ipynb").read_text(encoding="utf-8")))
    code = [build_lite.source(cell) for cell in copy["cells"] if cell["cell_type"] == "code"]
    text = "".join(build_lite.source(cell) for cell in copy["cells"] if cell["cell_type"] == "markdown")
    assert code[0] == build_lite.INSTALL and copy["metadata"]["kernelspec"]["name"] == "python"
    assert not any("nbdev" in cell or "show_doc" in cell for cell in code)
    assert all(cell["outputs"] == [] for cell in copy["cells"] if cell["cell_type"] == "code")
    assert not any(f"({missing}.ipynb" in text for missing in build_lite.LEFT_OUT)
    assert len({cell["id"] for cell in copy["cells"]}) == len(copy["cells"])


def test_a_page_of_text_has_no_code():
    for name in build_lite.TEXT_ONLY:
        copy = build_lite.browser_copy(json.loads((build_lite.NBS / f"{name}.ipynb").read_text(encoding="utf-8")), text_only=True)
        assert copy["cells"] and all(cell["cell_type"] == "markdown" for cell in copy["cells"])


def test_what_is_left_out_exists_and_says_why():
    for name, why in build_lite.LEFT_OUT.items():
        assert (build_lite.NBS / f"{name}.ipynb").exists() and why.endswith("."), name


def test_versions_are_exact():
    assert all(requirement.count("==") == 1 for requirement in build_lite.settings()["lite_requirements"].split())
    assert {"jupyterlite-core", "jupyterlite-pyodide-kernel", "fastcore", "tqdm", "comm"} <= set(build_lite.pins())


def test_lines_for_the_documentation_are_dropped():
    cell = "#| hide\nimport numpy as np\nfrom nbdev.showdoc import show_doc\n"
    assert build_lite.without_docs(cell) == "#| hide\nimport numpy as np\n"
    assert build_lite.without_docs("#| hide\nimport nbdev; nbdev.nbdev_export()") == "" == build_lite.without_docs("show_doc(relu)")
    assert build_lite.unlinked("[a](20_sharing.ipynb#x) [b](01_forward.ipynb)") == "a [b](01_forward.ipynb)"


@pytest.mark.parametrize("name", build_lite.SMALLER)
def test_what_is_smaller_in_the_browser_says_so(name):
    "Each change finds what it changes, in the cell it names, and the copy says so below the cell's options."
    notebook = json.loads((build_lite.NBS / f"{name}.ipynb").read_text(encoding="utf-8"))
    cells = {cell["id"]: build_lite.source(cell) for cell in notebook["cells"]}
    copy = {cell["id"]: build_lite.source(cell) for cell in build_lite.browser_copy(notebook, False, name)["cells"]}
    for key, changes in build_lite.SMALLER[name].items():
        assert all(whole in cells[key] for whole, _ in changes), key
        assert all(part in copy[key] for _, part in changes) and build_lite.SMALLER_SAYS in copy[key]
        assert not copy[key].partition(build_lite.SMALLER_SAYS)[2].startswith("#|")
