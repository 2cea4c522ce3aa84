"""Embeddings and recurrent layers against PyTorch's, in float64: values, gradients, whole runs, and files both ways."""

import numpy as np
import pytest

import nn_from_scratch as nn

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")
hypothesis = pytest.importorskip("hypothesis")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

pytestmark = pytest.mark.peers

NAMES = ["RNN", "GRU", "LSTM"]


def pair(name, n_in, hidden, layers):
    "The same layer here and there."
    ours = getattr(nn, name)(n_in, hidden, layers, rng=0, dtype=np.float64)
    theirs = getattr(torch.nn, name)(n_in, hidden, layers, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        for key, p in theirs.named_parameters(): p.copy_(torch.tensor(turned(ours.parameters()[key])))
    return ours, theirs


def turned(a): return a.T if a.ndim == 2 else a
def parts(state): return state if isinstance(state, tuple) else (state,)


@settings(max_examples=25, deadline=None)
@given(name=st.sampled_from(NAMES), n=st.integers(1, 4), t=st.integers(1, 9), n_in=st.integers(1, 5), hidden=st.integers(1, 6),
       layers=st.integers(1, 3), seed=st.integers(0, 99), given_state=st.booleans())
def test_values_gradients_and_states(name, n, t, n_in, hidden, layers, seed, given_state):
    rng = np.random.default_rng(seed)
    ours, theirs = pair(name, n_in, hidden, layers)
    x, by = rng.normal(size=(n, t, n_in)), rng.normal(size=(n, t, hidden))
    first = [rng.normal(size=(layers, n, hidden)) for _ in range(2 if name == "LSTM" else 1)] if given_state else None
    state = None if first is None else tuple(first) if name == "LSTM" else first[0]

    def loss(model, x, state):
        outputs, last = model(x, state)
        return np.sum(outputs * by) + sum(np.sum(s * s) * (k + 1) for k, s in enumerate(parts(last)))

    value, g = nn.value_and_grad(loss)(ours, x, state)
    tx = torch.tensor(x, requires_grad=True)
    ts = None if first is None else tuple(torch.tensor(s) for s in first) if name == "LSTM" else torch.tensor(first[0])
    outputs, last = theirs(tx, ts)
    total = (outputs * torch.tensor(by)).sum() + sum((s * s).sum() * (k + 1) for k, s in enumerate(parts(last)))
    total.backward()
    mine, mine_last = ours(x, state)
    np.testing.assert_allclose(mine, outputs.detach(), atol=1e-9)
    for a, b in zip(parts(mine_last), parts(last), strict=True): np.testing.assert_allclose(a, b.detach(), atol=1e-9)
    np.testing.assert_allclose(float(value), float(total.detach()), rtol=1e-9)
    for key, p in theirs.named_parameters(): np.testing.assert_allclose(turned(g[key]), p.grad, rtol=1e-9, atol=1e-9)
    by_x = nn.grad(lambda x: loss(ours, x, state))(x)
    np.testing.assert_allclose(by_x, tx.grad, rtol=1e-9, atol=1e-9)


class Reader(nn.Module):
    "A table, a recurrent layer, scores."

    def __init__(self, name):
        self.rows = nn.Embedding(7, 3, rng=0, dtype=np.float64)
        self.states = getattr(nn, name)(3, 5, rng=1, dtype=np.float64)
        self.out = nn.Linear(5, 7, rng=2, dtype=np.float64)

    def __call__(self, x): return self.out(self.states(self.rows(x))[0])


def reader_there(name):
    class There(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rows, self.out = torch.nn.Embedding(7, 3, dtype=torch.float64), torch.nn.Linear(5, 7, dtype=torch.float64)
            self.states = getattr(torch.nn, name)(3, 5, batch_first=True, dtype=torch.float64)

        def forward(self, x): return self.out(self.states(self.rows(x))[0])
    return There()


@pytest.mark.parametrize("name", NAMES)
def test_a_run_takes_the_same_path(name, tmp_path):
    "Thirty steps of Adam with clipping, from a file that PyTorch read."
    ours, theirs = Reader(name), reader_there(name)
    nn.save(ours, tmp_path / "m.safetensors")
    theirs.load_state_dict(safetensors.load_file(tmp_path / "m.safetensors"))
    rng = np.random.default_rng(4)
    x, y = rng.integers(0, 7, (8, 12)), rng.integers(-1, 7, (8, 12))
    optimizer, there = nn.Adam(0.02), torch.optim.Adam(theirs.parameters(), 0.02)
    take = nn.value_and_grad(lambda m: nn.cross_entropy(m(x), y, ignore=-1))
    for _ in range(30):
        value, g = take(ours)
        nn.clip_grad_norm(g, 0.5)
        optimizer.update(ours, g)
        there.zero_grad()
        loss = torch.nn.functional.cross_entropy(theirs(torch.tensor(x)).reshape(-1, 7), torch.tensor(y).reshape(-1), ignore_index=-1)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
        there.step()
        np.testing.assert_allclose(float(value), float(loss.detach()), rtol=1e-7)
    np.testing.assert_allclose(ours(x), theirs(torch.tensor(x)).detach(), atol=1e-5)
    safetensors.save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")  # and back
    again = nn.load(tmp_path / "theirs.safetensors", into=Reader(name))
    np.testing.assert_allclose(again(x), theirs(torch.tensor(x)).detach(), atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(shape=st.lists(st.integers(0, 4), max_size=3), rows=st.integers(1, 6), d=st.integers(1, 4), seed=st.integers(0, 99))
def test_embeddings(shape, rows, d, seed):
    rng = np.random.default_rng(seed)
    table, i, by = rng.normal(size=(rows, d)), rng.integers(0, rows, shape), rng.normal(size=(*shape, d))
    there = torch.tensor(table, requires_grad=True)
    found = torch.nn.functional.embedding(torch.tensor(i), there)
    (found * torch.tensor(by)).sum().backward()
    assert np.array_equal(nn.embedding(i, table), found.detach())
    np.testing.assert_allclose(nn.grad(lambda table: np.sum(nn.embedding(i, table) * by))(table), there.grad, atol=1e-9)


def test_an_embedding_as_onnx(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    model = nn.Sequential(nn.Embedding(6, 3, rng=0), nn.Linear(3, 2, rng=1))
    x = np.array([[0, 5, 2, 2]])
    try: nn.export_onnx(model, tmp_path / "m.onnx", x)
    except ValueError as error:
        if "must be a batch" in str(error): pytest.skip("export_onnx takes no whole numbers")
        raise
    y, = runtime.InferenceSession(tmp_path / "m.onnx").run(None, {"x": x})
    np.testing.assert_allclose(y, model(x), rtol=1e-6)
