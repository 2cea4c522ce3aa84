"""The page "From here to PyTorch, JAX, Keras": its code is read out of the notebook and run; what it claims is looked at.

A framework that is not installed is skipped. PyTorch comes with the extra `peers`; the others: pip install jax keras optax.
"""

import contextlib
import importlib
import inspect
import io
import json
import os
import re
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import nn_from_scratch as nn

PAGE = Path(__file__).resolve().parents[2] / "nbs" / "21_frameworks.ipynb"
if not PAGE.exists(): pytest.skip("the notebooks are not there", allow_module_level=True)
os.environ.setdefault("KERAS_BACKEND", next((name for name in ("jax", "torch", "tensorflow") if find_spec(name)), "jax"))

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]
CELLS = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(PAGE.read_text(encoding="utf-8"))["cells"]]
COMMON = [source for kind, source in CELLS if kind == "code" and "eval: false" not in source]
FRAMEWORKS = ["PyTorch", "JAX", "Keras"]
EACH = pytest.mark.parametrize("framework", FRAMEWORKS)


def listing(framework) -> list[str]:
    return [source for kind, source in CELLS if kind == "code" and source.startswith(f"#| eval: false\n# {framework}\n")]


def need(framework):
    pytest.importorskip({"PyTorch": "torch"}.get(framework, framework.lower()))
    if framework == "Keras" and not any(find_spec(name) for name in ("jax", "torch", "tensorflow")): pytest.skip("Keras has no backend")


def ready(framework, until: str) -> dict:
    "What the names mean after the first cells of the page, and those of the framework up to the one with `until`, without it."
    names = {}
    for source in COMMON[:2]: exec(source, names)  # the data, and the first weights
    for source in listing(framework):
        if until in source: return names
        exec(source, names)
    raise AssertionError(f"no cell of {framework} has {until!r}")


def stepper(framework, names):
    "A function (x, y) -> loss that makes one training step of the framework."
    exec(next(source for source in listing(framework) if "def train_step" in source), names)
    if framework == "JAX":
        def step(x, y):
            names["params"], names["state"], loss = names["train_step"](names["params"], names["state"], x, y)
            return float(loss)
        return step
    if framework == "PyTorch": return lambda x, y: names["train_step"](names["torch"].tensor(x), names["torch"].tensor(y))
    return names["train_step"]


def test_every_cell_belongs_to_a_framework():
    assert len(COMMON) == 5
    others = [source for kind, source in CELLS if kind == "code" and "eval: false" in source]
    assert len(others) == sum(len(listing(framework)) for framework in FRAMEWORKS)


@EACH
def test_the_program_runs_from_its_top_to_its_end(framework):
    need(framework)
    names, out = {}, io.StringIO()
    with contextlib.redirect_stdout(out):
        for source in COMMON + listing(framework): exec(source, names)
    assert float(out.getvalue().split()[-1]) > 0.94, out.getvalue()


@EACH
def test_the_same_losses_step_by_step(framework):
    "From equal weights, 100 steps with the same batches."
    need(framework)
    names = ready(framework, "def train_step")
    step, ours, optimizer, losses = stepper(framework, names), names["ours"], nn.Adam(0.003), []
    for epoch in range(3):
        for x, y in nn.batches(names["x_train"], names["y_train"], 32, rng=epoch):
            loss, grads = nn.value_and_grad(lambda model, x, y: nn.cross_entropy(model(x), y))(ours, x, y)
            optimizer.update(ours, grads)
            losses.append((float(loss), step(x, y)))
    here, there = np.array(losses).T
    assert len(here) > 100 and here[-20:].mean() < here[0] / 5
    np.testing.assert_allclose(there[:20], here[:20], rtol=1e-3)  # Adam blows up rounding where a gradient is nearly 0
    np.testing.assert_allclose(there[-20:].mean(), here[-20:].mean(), rtol=0.05)


def test_the_same_gradients_in_pytorch():
    need("PyTorch")
    names = ready("PyTorch", "def train_step")
    x, y, torch = names["x_train"][:32], names["y_train"][:32], names["torch"]
    loss, grads = nn.value_and_grad(lambda model: nn.cross_entropy(model(x), y))(names["ours"])
    theirs = names["loss_function"](names["model"](torch.tensor(x)), torch.tensor(y))
    theirs.backward()
    assert theirs.item() == pytest.approx(float(loss), rel=1e-6)
    for name, p in names["model"].named_parameters(): np.testing.assert_allclose(p.grad.numpy().T, grads[name], rtol=1e-4, atol=1e-7)


def test_the_same_gradients_in_jax():
    need("JAX")
    names = ready("JAX", "def train_step")
    x, y = names["x_train"][:32], names["y_train"][:32]
    loss, grads = nn.value_and_grad(lambda model: nn.cross_entropy(model(x), y))(names["ours"])
    theirs, their_grads = names["jax"].value_and_grad(names["loss_function"])(names["params"], x, y)
    assert float(theirs) == pytest.approx(float(loss), rel=1e-6) and set(their_grads) == set(grads)
    for name, g in their_grads.items(): np.testing.assert_allclose(g, grads[name], rtol=1e-4, atol=1e-7)


def test_the_same_gradients_in_keras():
    need("Keras")
    jax = pytest.importorskip("jax")
    names = ready("Keras", "def train_step")
    if names["keras"].backend.backend() != "jax": pytest.skip("Keras does not run on JAX here")
    x, y, model = names["x_train"][:32], names["y_train"][:32], names["model"]
    loss, grads = nn.value_and_grad(lambda model: nn.cross_entropy(model(x), y))(names["ours"])
    values = [v.value for v in model.trainable_variables]
    theirs, their_grads = jax.value_and_grad(lambda values: model.loss(y, model.stateless_call(values, [], x)[0]))(values)
    assert float(theirs) == pytest.approx(float(loss), rel=1e-6)
    for g, mine in zip(their_grads, grads.values(), strict=True): np.testing.assert_allclose(g, mine, rtol=1e-4, atol=1e-7)


# ---------------------------------------------------------------- the tables

TEXT = "\n".join(source for kind, source in CELLS if kind == "markdown")
SIDE_BY_SIDE = TEXT.partition("## Line beside line")[2].partition("## PyTorch")[0]


@pytest.mark.parametrize("where", ["here", *FRAMEWORKS])
def test_the_lines_stand_in_the_programs(where):
    program = "\n".join(COMMON if where == "here" else listing(where) + COMMON[3:4])
    rows = re.findall(rf"^\| {where} \| (.*) \|$", SIDE_BY_SIDE, flags=re.M)
    lines = [code for row in rows for code in re.findall(r"`([^`]+)`", row) if re.search(r"[ =(]", code)]
    assert len(rows) == 6 and len(lines) >= 4
    assert [line for line in lines if line not in program] == []


def test_the_names_of_the_table_exist():
    rows = [row.split("|")[1:-1] for row in TEXT.partition("## What each idea is called")[2].partition("## What differs")[0].splitlines()[4:] if row]
    names = {name for row in rows for name in re.findall(r"`((?:numpy|nn|torch|jax|optax|keras)\.[\w.]+)`", "|".join(row))}
    assert len(rows) > 20 and len(names) > 55
    missing, looked = [], 0
    for name in sorted(names):
        first, *rest = name.split(".")
        if first != "nn" and not find_spec(first): continue
        found, looked = nn if first == "nn" else importlib.import_module(first), looked + 1
        for i, part in enumerate(rest):
            if not hasattr(found, part):
                with contextlib.suppress(ImportError): importlib.import_module(".".join([first, *rest[:i + 1]]))
            found = getattr(found, part, missing)
        if found is missing: missing.append(name)
    assert missing == [] and looked >= 20


# ---------------------------------------------------------------- what differs

def test_what_is_said_of_this_library():
    layer, small = nn.Linear(400, 300, rng=0), nn.mlp([400, 300], nn.tanh, rng=0)
    assert layer.weight.var() == pytest.approx(2 / 400, rel=0.03) and not layer.bias.any()
    assert small[0].weight.var() == pytest.approx(2 / 700, rel=0.03)
    assert nn.Adam().eps == 1e-8 and layer(np.ones((2, 400))).dtype == np.float32
    assert nn.leaky_relu(np.array([-1.0])) == -0.01


def test_what_is_said_of_pytorch():
    need("PyTorch")
    import torch
    torch.manual_seed(0)
    layer = torch.nn.Linear(400, 300)
    assert layer.weight.shape == (300, 400)
    for p in layer.weight, layer.bias:
        assert p.var().item() == pytest.approx(1 / 1200, rel=0.15) and p.abs().max() <= 1 / 20
    x = torch.ones(2, 400)
    layer(x).sum().backward()
    once = layer.weight.grad.clone()
    layer(x).sum().backward()
    assert torch.equal(layer.weight.grad, 2 * once)
    assert layer(x).requires_grad
    with torch.no_grad(): assert not layer(x).requires_grad
    assert torch.optim.Adam(layer.parameters()).defaults["eps"] == 1e-8
    with pytest.raises(RuntimeError, match="mat1 and mat2 must have the same dtype"): layer(x.double())
    assert torch.nn.GELU().approximate == "none" and torch.nn.LeakyReLU().negative_slope == 0.01
    assert torch.nn.functional.gelu(torch.ones(1)).item() == pytest.approx(0.8413447, abs=1e-6)


def test_what_is_said_of_jax():
    need("JAX")
    import jax
    import jax.numpy as jnp
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert jnp.asarray(np.ones(2)).dtype == jnp.float32
    np.testing.assert_allclose(jax.nn.gelu(jnp.ones(1)), nn.gelu(np.ones(1)), atol=1e-6)
    assert float(jax.nn.leaky_relu(jnp.array(-1.0))) == pytest.approx(-0.01)


def test_what_is_said_of_keras():
    need("Keras")
    import keras
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((400,)), keras.layers.Dense(300)])
    kernel, bias = model.get_weights()
    assert kernel.shape == (400, 300) and kernel.var() == pytest.approx(2 / 700, rel=0.03) and not bias.any()
    assert abs(kernel).max() <= (6 / 700) ** 0.5
    assert keras.optimizers.Adam().epsilon == 1e-7
    assert inspect.signature(keras.losses.SparseCategoricalCrossentropy).parameters["from_logits"].default is False
    one = np.full((1, 1), -1, np.float32)
    assert float(np.asarray(keras.activations.leaky_relu(one)).item()) == pytest.approx(-0.2)
    assert keras.layers.LeakyReLU().negative_slope == pytest.approx(0.3)
    assert float(np.asarray(keras.activations.gelu(-one)).item()) == pytest.approx(0.8413447, abs=1e-6)
    assert np.asarray(model(np.ones((2, 400)))).dtype == np.float32
    variable = keras.Variable(np.ones(1, np.float32))  # weight decay shrinks the weight: by lr * decay, whatever the gradient
    optimizer = keras.optimizers.Adam(0.1, weight_decay=0.5)
    optimizer.build([variable])
    optimizer.apply_gradients([(keras.ops.zeros(1), variable)])
    assert float(np.asarray(variable.value).item()) == pytest.approx(1 - 0.1 * 0.5)


def test_the_keras_loss_is_a_running_mean_until_it_is_reset():
    need("Keras")
    names = ready("Keras", "def train_step")
    model, x, y = names["model"], names["x_train"], names["y_train"]
    step = stepper("Keras", names)
    first = step(x[:32], y[:32])
    mean = float(model.train_on_batch(x[32:64], y[32:64])[0])
    model.set_weights(list(names["start"].values()))
    assert mean != pytest.approx(float(model.test_on_batch(x[32:64], y[32:64])[0]), rel=1e-3) and first > 0
