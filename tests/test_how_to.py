"""What CONTRIBUTING says of how to do things: its code runs, and what it names is there."""

import re
from pathlib import Path

import numpy as np
import pytest

import nn_from_scratch as nn
from nn_from_scratch import architecture, onnx, rules

pytestmark = pytest.mark.project
ROOT = Path(__file__).resolve().parent.parent
SECTION = re.search(r"^## How to …\n(.*?)(?=^## )", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), flags=re.M | re.S)[1]
PARTS = dict(re.findall(r"^### … ([^\n]*)\n(.*?)(?=^### |\Z)", SECTION, flags=re.M | re.S))


@pytest.fixture
def tables_as_they_were():
    tables = rules.table, architecture.recipes, onnx.to_onnx
    before = [dict(table) for table in tables]
    yield
    for table, rows in zip(tables, before):
        table.clear()
        table.update(rows)


def test_there_are_three():
    assert len(PARTS) == 3


@pytest.mark.parametrize("part", PARTS)
def test_the_code_runs(part, tmp_path, monkeypatch, tables_as_they_were):
    monkeypatch.chdir(tmp_path)
    blocks, names = re.findall(r"^```python\n(.*?)^```", PARTS[part], flags=re.M | re.S), {"folder": tmp_path}
    assert blocks
    for block in blocks:
        if "onnx" in block: pytest.importorskip("onnx", reason="needs onnx")
        exec(compile(block, f"CONTRIBUTING.md: how to {part}", "exec"), names)


@pytest.mark.parametrize("part", PARTS)
def test_what_is_named_is_there(part):
    assert [file for file in re.findall(r"`((?:nn_from_scratch|nbs|tests)/[\w./]+)`", PARTS[part]) if not (ROOT / file).exists()] == []
    assert [name for name in re.findall(r"\bnn\.(\w+)", PARTS[part]) if not hasattr(nn, name)] == []


def test_the_log_of_a_resumed_run_has_each_epoch_once(tmp_path):
    "What the example says of itself: neither lost nor double lines, however often a run is taken up."
    names = {"folder": tmp_path}
    exec(compile(re.findall(r"^```python\n(.*?)^```", PARTS["log a run to a CSV file"], flags=re.M | re.S)[0], "CONTRIBUTING.md", "exec"), names)
    def go(epochs, path, **more):
        return nn.fit(nn.mlp([2, 8, 2], rng=0), nn.cross_entropy, nn.Adam(0.01), names["train"], names["valid"], epochs=epochs,
                      callbacks=[names["LogToCSV"](path)], progress=False, **more)
    go(2, tmp_path / "a.csv", checkpoint=tmp_path / "run")
    (tmp_path / "a.csv").write_text("torn by a crash")
    go(4, tmp_path / "a.csv", checkpoint=tmp_path / "run", resume=True)
    go(4, tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()
    assert [line.split(",")[0] for line in (tmp_path / "a.csv").read_text().splitlines()] == ["epoch", "1", "2", "3", "4"]
    assert not list(tmp_path.glob("*.part"))


def test_what_is_said_of_parameters_holds():
    class Holds(nn.Module):
        def __init__(self, value): self.value = value
    assert len(Holds(2.0).parameters()) == 0 and len(Holds(np.array(2.0)).parameters()) == 1
    with pytest.raises(TypeError, match="stands in a tuple"): Holds((np.ones(2),)).parameters()
