"""What the playground trains, without a browser: its session changes course without forgetting, and its advice holds for every seed."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.project
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "playground"))
import session  # noqa: E402


def trained(steps, **choices):
    made = session.Session(**choices)
    made.run(steps, 1e9)
    return made


def test_another_learning_rate_keeps_the_memory_of_the_optimizer():
    made = trained(20, optimizer="adam", lr=0.01)
    optimizer, before = made.optimizer, {name: memory.copy() for name, memory in made.optimizer.memory.items()}
    made.use("adam", lr=0.001, decay=0.1, batch=8)
    assert made.optimizer is optimizer and optimizer.steps == 20 and (optimizer.lr, optimizer.weight_decay) == (0.001, 0.1)
    for name, memory in before.items(): np.testing.assert_array_equal(optimizer.memory[name], memory)
    assert len(next(made.batches)[0]) == 8
    made.use("sgd", lr=1.0)
    assert made.optimizer is not optimizer


def test_adam_without_decay_is_adam():
    made = trained(30, optimizer="adam", lr=0.01)
    other = session.Session(optimizer="adam", lr=0.01)
    other.optimizer = session.nn.Adam(0.01)
    other.run(30, 1e9)
    np.testing.assert_array_equal(made.model.parameters().vector, other.model.parameters().vector)


@pytest.mark.parametrize("data", session.DATA)
@pytest.mark.parametrize("optimizer", session.OPTIMIZERS)
def test_every_choice_learns(data, optimizer):
    made = session.Session(data, 0.1, (4, 4), optimizer=optimizer, lr={"sgd": 1.0, "momentum": 0.1}.get(optimizer, 0.01))
    before = made.view()["trainLoss"]
    made.run(300, 1e9)
    assert made.view()["trainLoss"] < before


@pytest.mark.parametrize("seed", range(10))
def test_the_advice_for_the_spiral_and_for_moons_that_overlap(seed):
    made = trained(3000, data="spiral", noise=0.05, sizes=(8, 8, 8), optimizer="adam", lr=0.01, seed=seed)
    assert made.view()["accuracy"] >= 0.95
    made = session.Session("moons", 0.35, (8, 8), optimizer="adam", lr=0.03, seed=seed)
    best = np.inf
    for _ in range(30):
        made.run(100, 1e9)
        best = min(best, made.view()["validLoss"])
    view = made.view()
    assert view["validLoss"] > 1.15 * best and view["validLoss"] > 1.2 * view["trainLoss"]


@pytest.mark.parametrize("seed", range(5))
def test_one_line_cannot_part_circles_and_three_units_can(seed):
    assert trained(1000, data="circles", noise=0.1, sizes=(), lr=1.0, seed=seed).view()["accuracy"] < 0.75
    assert trained(1000, data="circles", noise=0.1, sizes=(3,), lr=1.0, seed=seed).view()["accuracy"] > 0.9


def test_two_units_find_xor_from_some_starts_and_four_from_more():
    right = {units: [trained(1500, data="xor", noise=0.1, sizes=(units,), optimizer="adam", lr=0.01, seed=seed).view()["accuracy"] > 0.95
                     for seed in range(10)] for units in (2, 4)}
    assert 2 <= sum(right[2]) <= 8 and sum(right[4]) >= sum(right[2]) + 2, right


@pytest.mark.parametrize("seed", range(5))
def test_four_layers_of_sigmoid_starve_the_first(seed):
    made = session.Session("moons", 0.15, (4, 4, 4, 4), "sigmoid", seed, lr=1.0)
    size = lambda name: np.abs(made.grads[f"{name}.weight"]).mean()
    assert size(0) < 0.02 * size(8)


def test_steps_too_large_and_too_small():
    with np.errstate(all="ignore"): large = trained(500, data="moons", activation="identity", sizes=(4, 4, 4, 4), optimizer="momentum", lr=10.0)
    assert large.diverged
    small = trained(200, data="moons", sizes=(4, 4), lr=0.003)
    assert small.view()["trainLoss"] > 0.5


# ---------------------------------------------------------------- the page of letters

LETTERS = Path(__file__).resolve().parents[1] / "playground"
ASKED = """
import { readFileSync } from "node:fs";
import { ask, read, shares } from "%s";
const file = readFileSync("%s"), model = read(file.buffer.slice(file.byteOffset, file.byteOffset + file.length));
const found = %s.map((tokens) => ask(model, tokens));
console.log(JSON.stringify({ letters: model.letters.join(""), found, shares: shares([1, 3, 2], 0.5, 2), likeliest: shares([1, 3, 2], 0, 3) }));
"""


def test_the_model_of_letters_is_a_small_file_of_nn_train():
    file = LETTERS / "names.safetensors"
    model = session.nn.load(file)
    assert file.stat().st_size < 300_000 and isinstance(model, session.nn.GPT) and model.tokenizer is not None
    assert model.tokenizer.decode(np.arange(27)) == "\nabcdefghijklmnopqrstuvwxyz"
    assert session.nn.bits_per_byte(model, "\n".join(session.nn.load_names())) < 2.8  # it has learnt them


def test_javascript_computes_what_the_package_does(tmp_path):
    node = shutil.which("node")
    if node is None: pytest.skip("node is not installed; tests/browser looks at the page in Chromium")
    model = session.nn.load(LETTERS / "names.safetensors").eval()
    texts = [model.tokenizer.encode(text).tolist() for text in ("\n", "\na", "\nchris", "\n" + "q" * 15, "mary\njohn")]
    shutil.copy(LETTERS / "gpt.js", tmp_path / "gpt.mjs")
    (tmp_path / "ask.mjs").write_text(ASKED % ("./gpt.mjs", LETTERS / "names.safetensors", texts))
    done = subprocess.run([node, "ask.mjs"], cwd=tmp_path, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["letters"] == model.tokenizer.decode(np.arange(27)) and told["likeliest"] == [0, 1, 0]
    np.testing.assert_allclose(told["shares"], [0, 1 / (1 + np.exp(-2)), 1 / (1 + np.exp(2))])
    for tokens, found in zip(texts, told["found"], strict=True):
        np.testing.assert_allclose(found["logits"], model(np.array(tokens))[-1], atol=2e-4)
        x = model.embedding(np.array(tokens))
        for block, looks in zip(model.blocks, found["looks"], strict=True):
            h = block.norm1(x) @ block.self_attn.in_proj_weight + block.self_attn.in_proj_bias
            q, k, _ = h.reshape(len(tokens), 3, 4, 12).transpose(1, 2, 0, 3)
            weights = session.nn.attention(session.nn.rotary(q), session.nn.rotary(k), np.eye(len(tokens), dtype="f4"), True)
            np.testing.assert_allclose(looks, weights[:, -1], atol=1e-5)
            x = block(x)
