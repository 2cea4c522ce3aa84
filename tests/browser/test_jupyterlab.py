"""A real JupyterLab on a fresh clone, in Chromium: a chapter runs from top to bottom through the menu, with its figures and its bar.

    python -m pytest tests/browser/test_jupyterlab.py
"""

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
from notebooks import check, run_all, show_figure, start_run, wait_for
from support import chromium, opened, screenshots

pytestmark = [pytest.mark.project, pytest.mark.filterwarnings("default")]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    "A fresh clone, with what is not committed yet."
    folder = tmp_path_factory.mktemp("clone") / "nn_from_scratch"
    done = subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    listed = subprocess.run(["git", "ls-files", "-z", "--modified", "--others", "--exclude-standard"], cwd=ROOT, text=True, capture_output=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def lab(clone, tmp_path_factory):
    "The address of JupyterLab on the clone."
    chromium()
    if not importlib.util.find_spec("jupyterlab"): pytest.skip("jupyterlab is not installed: pip install '.[lab]'")
    state = tmp_path_factory.mktemp("jupyter")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = os.environ | {"PYTHONPATH": str(clone), "IPYTHONDIR": str(state), "MPLCONFIGDIR": str(state), "OPENBLAS_NUM_THREADS": "1"}
    for name in "CONFIG_DIR", "RUNTIME_DIR", "DATA_DIR": env[f"JUPYTER_{name}"] = str(state / name.lower())
    env["JUPYTERLAB_SETTINGS_DIR"] = env["JUPYTERLAB_WORKSPACES_DIR"] = str(state)
    env.pop("MPLBACKEND", None)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
               "--IdentityProvider.token=test", "--LabApp.expose_app_in_browser=True", str(clone / "nbs")]
    with open(state / "log", "w") as log: server = subprocess.Popen(command, cwd=clone, env=env, stdout=log, stderr=log)
    try:
        home = f"http://127.0.0.1:{port}"
        for _ in range(120):
            time.sleep(0.5)
            assert server.poll() is None, (state / "log").read_text()
            try:
                with urllib.request.urlopen(f"{home}/api/status?token=test"): break
            except (urllib.error.URLError, OSError): pass
        else: pytest.fail("JupyterLab does not answer: " + (state / "log").read_text()[-2000:])
        yield home
    finally:
        server.terminate()
        server.wait(30)


@pytest.mark.parametrize("name", ["01_forward", "11_digits"])
def test_a_chapter_runs_from_top_to_bottom(lab, name):
    if name == "11_digits": pytest.importorskip("sklearn")
    with opened(lab, viewport={"width": 1300, "height": 1000}) as seen:
        seen.page.goto(f"{lab}/lab/tree/{name}.ipynb?token=test&reset")
        seen.page.wait_for_selector(".jp-Notebook", timeout=120_000)
        seen.page.wait_for_function("window.jupyterapp?.shell.currentWidget?.context?.isReady")
        seen.page.evaluate("window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")  # what is seen was drawn now
        notebook = run_all(seen.page, 400)
        check(notebook)
        print(f"{name}: {notebook['run']} cells, {notebook['figures']} figures")
        assert show_figure(seen.page) > 100  # pixels wide
        seen.page.screenshot(path=screenshots() / f"lab-{name}.png")
        assert seen.foreign == []


def write_notebook(clone, name, cells):
    (clone / "nbs" / f"{name}.ipynb").write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": {
        "name": "python3", "display_name": "python3", "language": "python"}}, "cells": [
            {"cell_type": "code", "id": f"cell{i}", "execution_count": None, "metadata": {}, "outputs": [], "source": [source]}
            for i, source in enumerate(cells)]}))


def test_the_bar_while_it_trains(lab, clone):
    "The bar of `fit` stands below its cell in one line, moves, and leaves nothing behind."
    cells = ["import numpy as np, nn_from_scratch as nn", "x, y = nn.moons(4000, 0.1, 0)",
             "history = nn.fit(nn.mlp([2, 64, 64, 2], rng=0), nn.cross_entropy, nn.SGD(0.05), (x[:3000], y[:3000]), (x[3000:], y[3000:]),\n"
             "                 epochs=60, metrics=[nn.accuracy])\nprint(history.stopped)"]
    write_notebook(clone, "bar", cells)
    with opened(lab, viewport={"width": 1100, "height": 700}) as seen:
        seen.page.goto(f"{lab}/lab/tree/bar.ipynb?token=test&reset")
        seen.page.wait_for_selector(".jp-Notebook", timeout=120_000)
        wait_for(seen.page, "open with a kernel", lambda notebook: notebook["status"] == "idle", 120)
        start_run(seen.page)
        shown = set()
        for _ in range(600):
            text = "\n".join(seen.page.locator(".jp-OutputArea-output").all_inner_texts()).strip()
            if text == "epochs": break  # it is done
            if text: shown.add(text)
            if len(shown) == 3: seen.page.screenshot(path=screenshots() / "lab-bar.png")
            seen.page.wait_for_timeout(100)
        assert len(shown) > 2, shown  # it moved
        assert all("\n" not in text and "loss" in text for text in shown), shown  # in one line
        notebook = wait_for(seen.page, "run to the end", lambda notebook: notebook["run"] == 3 and notebook["status"] == "idle", 120)
        assert notebook["errors"] == [] and notebook["stderr"] == []
        assert seen.page.locator(".jp-OutputArea-output").all_inner_texts()[-1].strip() == "epochs"
        seen.page.screenshot(path=screenshots() / "lab-bar-after.png")
        print(*sorted(shown)[:3], sep="\n")


def test_a_probe_draws_while_it_trains(lab, clone):
    "`Probe(live=True)`: one picture below its cell, which grows while the run goes on; one picture stays."
    write_notebook(clone, "probe", [
        "import nn_from_scratch as nn", "x, y = nn.load_digits()",
        "probe = nn.Probe(every=5, live=True)\n"
        "history = nn.fit(nn.mlp([64, 64, 32, 10], rng=0), nn.cross_entropy, nn.Adam(0.003), (x, y), epochs=12, callbacks=[probe], progress=False)\n"
        "print(history.stopped)"])
    with opened(lab, viewport={"width": 1100, "height": 900}) as seen:
        seen.page.goto(f"{lab}/lab/tree/probe.ipynb?token=test&reset")
        seen.page.wait_for_selector(".jp-Notebook", timeout=120_000)
        wait_for(seen.page, "open with a kernel", lambda notebook: notebook["status"] == "idle", 120)
        start_run(seen.page)
        shown, most, while_it_ran = set(), 0, 0
        for _ in range(1200):
            pictures = seen.page.locator(".jp-OutputArea-output img").evaluate_all("found => found.map(one => one.src)")
            done = "epochs" in seen.page.locator(".jp-OutputArea-output").all_inner_texts()
            most, before = max(most, len(pictures)), len(shown)
            shown.update(map(hash, pictures))
            while_it_ran += len(shown) > before and not done
            if while_it_ran == 2 and len(shown) > before: seen.page.screenshot(path=screenshots() / "lab-probe.png")
            if done: break
            seen.page.wait_for_timeout(50)
        notebook = wait_for(seen.page, "run to the end", lambda notebook: notebook["run"] == 3 and notebook["status"] == "idle", 120)
        assert notebook["errors"] == [] and notebook["stderr"] == []
        print(len(shown), "pictures one after the other,", most, "at a time")
        assert while_it_ran > 2 and most == 1  # it grew, in the place of the last one
        assert notebook["figures"] == 1
        seen.page.screenshot(path=screenshots() / "lab-probe-after.png")
