"""Each notebook runs from its top to its end, by nbdev's own test command, in a process of its own."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytestmark = pytest.mark.project
ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted(path.name for path in (ROOT / "nbs").glob("*.ipynb"))


def run(name: str) -> subprocess.CompletedProcess:
    env = os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    env.pop("MPLBACKEND", None)  # a notebook draws in its cells
    command = [sys.executable, "-c", f"from nbdev.test import nbdev_test; nbdev_test(path='nbs/{name}')"]
    return subprocess.run(command, cwd=ROOT, env=env, text=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=900)


@pytest.fixture(scope="module")
def runs(request):
    "Starts the notebooks whose tests were asked for, side by side."
    wanted = [item.callspec.params["name"] for item in request.session.items if item.function is test_notebook]
    pool = ThreadPoolExecutor(os.cpu_count())
    yield {name: pool.submit(run, name) for name in wanted}
    pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook(name, runs):
    done = runs[name].result()
    assert done.returncode == 0, done.stdout + done.stderr
