"""The benchmark's contenders compute the same: losses of training steps, the loss of an epoch, predictions."""

import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.peers
HERE = Path(__file__).resolve().parent.parent.parent / "benchmarks"
sys.path.insert(0, str(HERE))
import harness  # noqa: E402
import run  # noqa: E402

sys.path.remove(str(HERE))
pytest.importorskip("torch")


def checks(libraries, problem):
    commands = {name: run.command(file, run.cores(), problem, options) for name, (file, options) in libraries.items()}
    with harness.contenders(commands) as (ready, missing):
        found = {name: contender.ask(do="check")["check"] for name, contender in ready.items()}
    for name, why in missing.items():  # only what is not installed, or cannot be set up, is left out
        assert "No module named" in why or "two classes" in why or "numba is not" in why, f"{name}: {why}"
    return {name: check for name, check in found.items() if check is not None}


@pytest.mark.parametrize("sizes, activation, batch", [([2, 16, 16, 2], "tanh", 32), ([64, 128, 10], "relu", 32)], ids=["tiny", "small"])
def test_steps(sizes, activation, batch):
    found = checks(run.LIBRARIES, {"kind": "step", "sizes": sizes, "activation": activation, "batch": batch})
    assert {run.OURS, "PyTorch, fused Adam", "PyTorch, default Adam"} <= set(found)
    assert all(len(losses) == 10 and losses[8] < losses[0] for losses in found.values()), "the ninth step sees the first batch again"
    assert harness.disagreement(found) < run.TOLERANCES["step"], found


@pytest.mark.parametrize("network", ["CNN 16-32, batch 32", "norm and dropout", "RNN", "GRU", "LSTM", "GPT 2 x 64"])
def test_steps_of_other_layers(network):
    found = checks(run.LAYERS, {"kind": "step", "network": network})
    assert {run.OURS, "compiled", "PyTorch, fused Adam"} <= set(found)
    assert harness.disagreement(found) < run.TOLERANCES["step"], found


def test_texts():
    found = checks(run.WRITERS, {"kind": "write", "network": "GPT 2 x 64"})
    assert {run.OURS, "PyTorch", "PyTorch, bare functions"} <= set(found) and all(len(tokens) == 64 for tokens in found.values())
    assert len(set(found[run.OURS])) > 1 and harness.disagreement(found) == 0, found


def test_predictions():
    problem = {"kind": "predict", "sizes": [64, 128, 10], "activation": "relu", "batch": 32, "rows": 2500}
    found = checks(run.MANY_ROWS, problem)
    assert {run.OURS, "PyTorch", "PyTorch, 1024 rows at a time"} <= set(found)
    assert harness.disagreement(found) < run.TOLERANCES["predict"], found


def test_epochs():
    problem = {"kind": "epoch", "sizes": [64, 128, 10], "activation": "relu", "batch": 32, "rows": 3000}
    found = checks(run.EPOCHS, problem)
    assert {run.OURS, "bare steps", "PyTorch, fused Adam"} <= set(found)
    assert harness.disagreement(found) < run.TOLERANCES["epoch"], found
