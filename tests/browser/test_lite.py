"""The built JupyterLite site in Chromium, without the internet: a chapter is opened and run to its end.

    PYODIDE_DIST=folder python -m pytest tests/browser/test_lite.py

The addresses of Pyodide's CDN are answered from the folder PYODIDE_DIST; every other host is out of reach.
"""

import json
import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[2] / "tools")]
import build_lite  # noqa: E402
from notebooks import READ, check, run_all, show_figure, wait_for  # noqa: E402
from support import chromium, opened, pyodide_dist, screenshots, served  # noqa: E402

pytestmark = [pytest.mark.project, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pyodide_dist()
    chromium()
    pytest.importorskip("jupyterlite_pyodide_kernel", reason="JupyterLite is not installed: pip install '.[lite]'")
    folder = tmp_path_factory.mktemp("site")
    build_lite.build_lite(folder, build_lite.make_wheels(tmp_path_factory.mktemp("wheels")))
    return folder


def expose(site: Path) -> None:
    "Lets the test read the notebook in the page."
    path = site / "lite" / "jupyter-lite.json"
    config = json.loads(path.read_text())
    config["jupyter-config-data"]["exposeAppInBrowser"] = True
    path.write_text(json.dumps(config))


def test_what_is_built(site):
    lite = site / "lite"
    config = json.loads((lite / "jupyter-lite.json").read_text())["jupyter-config-data"]
    kernel = config["litePluginSettings"]["@jupyterlite/pyodide-kernel-extension:kernel"]
    assert kernel["disablePyPIFallback"] is True  # the package's name on PyPI is another project's
    assert config["enableMemoryStorage"] and config["contentsStorageDrivers"] == ["memoryStorageDriver"]
    wheels = json.loads((lite / "pypi" / "all.json").read_text())
    assert set(wheels) == {"nn-from-scratch", "fastcore", "tqdm", "comm"}
    assert sorted(path.stem for path in (lite / "files").glob("*.ipynb")) == build_lite.chapters()
    assert not list(lite.rglob("*.map")) and not list(lite.rglob(".*.db"))
    assert sum(path.stat().st_size for path in lite.rglob("*") if path.is_file()) < 30e6


@pytest.mark.parametrize("name", ["02_losses"])
def test_a_chapter_runs_to_its_end(site, name):
    expose(site)
    with served(site) as home, opened(home, pyodide_dist(), viewport={"width": 1300, "height": 1000}) as seen:
        seen.page.goto(f"{home}/lite/lab/index.html?path={name}.ipynb")
        notebook = run_all(seen.page, 400)
        check(notebook)
        print(f"{name}: {notebook['run']} cells, {notebook['figures']} figures")
        assert show_figure(seen.page) > 100  # pixels wide
        seen.page.screenshot(path=screenshots() / f"lite-{name}.png")
        assert all(url.startswith("https://cdn.jsdelivr.net/pyodide/") for url in seen.foreign), set(seen.foreign)
        fetched = {url.rsplit("/", 1)[-1] for url in seen.foreign}
        size = sum((pyodide_dist() / file).stat().st_size for file in fetched if (pyodide_dist() / file).exists())
        print(f"Python and its packages: {len(fetched)} files, {size / 1e6:.0f} MB")
        # a cell that the reader changes runs, and the change is seen
        seen.page.evaluate("""() => { const model = window.jupyterapp.shell.currentWidget.content.model.sharedModel;
            model.addCell({cell_type: 'code', source: 'import nn_from_scratch as nn\\nassert nn.relu(-1.0) == 1'}); }""")
        seen.page.evaluate("""() => { const c = window.jupyterapp.shell.currentWidget.content;
            c.activeCellIndex = c.widgets.length - 1; return window.jupyterapp.commands.execute('notebook:run-cell'); }""")
        broken = wait_for(seen.page, "failed", lambda seen: seen["errors"], 60)
        assert "AssertionError" in broken["errors"][0] and seen.page.evaluate(READ)["cells"] == notebook["cells"] + 1
