"""What CONTRIBUTING says of how to do things: its code runs, and what it names is there."""

import re
from pathlib import Path

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
