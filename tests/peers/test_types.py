"""What the annotations say is true: pyright finds nothing in the package."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(importlib.util.find_spec("pyright") is None, reason="pyright is not installed (pip install pyright)")
def test_pyright_finds_nothing_in_the_package():
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "nn_from_scratch"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    if " errors" not in done.stdout: pytest.skip(f"pyright cannot run here: {(done.stderr or done.stdout)[-200:]}")
    found = re.findall(r"nn_from_scratch/(.*? - error: .*)", done.stdout.replace("\\", "/"))
    found = [line for line in found if "mpi4py" not in line]  # which is of another extra
    assert not found, "\n".join(found)
