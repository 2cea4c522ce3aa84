"""What a new user writes, as they write it: it trains, and a type checker has nothing to say against it."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nn_from_scratch as nn

# Ten lines of a new user's own: a skip connection, and one layer used twice.
script = '''\
import nn_from_scratch as nn

class Residual(nn.Module):
    def __init__(self, n_in: int, width: int, n_out: int):
        self.first, self.shared, self.last = nn.Linear(n_in, width, rng=0), nn.Linear(width, width, rng=1), nn.Linear(width, n_out, rng=2)
    def __call__(self, x):
        h = nn.relu(self.first(x))
        h = h + nn.relu(self.shared(h))
        return self.last(h + nn.relu(self.shared(h)))

model = Residual(2, 16, 2)
history = nn.fit(model, nn.cross_entropy, nn.Adam(0.01), nn.moons(400, noise=0.1, rng=0), epochs=20, metrics=[nn.accuracy])
print(f"{history.metrics['accuracy']['train'][-1]:.3f}", list(model.parameters()))
'''

# The loop without fit, gradients of arrays and dicts, an operation of one's own, a callback, saving and going on.
longer = script + '''
import copy
import pickle

import numpy as np

x, y = nn.moons(200, noise=0.1, rng=1)

def loss(model: Residual, x: np.ndarray, y: np.ndarray, decay: float = 0.0):
    return nn.cross_entropy(model(x), y) + decay * np.sum(model.last.weight ** 2)

optimizer = nn.SGD(lr=nn.cosine_decay(0.1, 50), momentum=0.9)
step = nn.value_and_grad(loss)
before, grads = step(model, x, y, decay=1e-3)
for xb, yb in nn.batches(x, y, 50, rng=0):
    value, grads = step(model, xb, yb, out=grads)
    norm = nn.clip_grad_norm(grads, 1.0)
    optimizer.update(model, grads)
after = float(step(model, x, y)[0])
assert after < float(before) and norm >= 0

@nn.operation
def swish(x, beta=1.0): return x * nn.sigmoid(beta * x)
def swish_rule(g, y, x, beta=1.0):
    s = nn.sigmoid(beta * x)
    return g * (s + beta * y * (1 - s))
nn.defvjp(swish, swish_rule)
own = nn.Sequential(nn.Linear(2, 8, rng=0, dtype=np.float64), swish, nn.Linear(8, 1, rng=1, dtype=np.float64))
assert nn.grad_check(lambda m: np.mean(m(np.ones((3, 2))) ** 2), own) < 1e-6

slope: float = nn.grad(lambda w: np.sin(w) * w)(2.0)
by_name = nn.grad(lambda p: np.sum(p["w"] * 2 + p["b"]))({"w": np.ones((2, 2)), "b": np.zeros(2)})
assert by_name["b"].tolist() == [2, 2]

class Stop(nn.Callback):
    def on_epoch_end(self, run: nn.Run) -> bool: return run.history.train_loss[-1] < 10
stopped = nn.fit(model, nn.cross_entropy, nn.AdamW(), (x, y, np.ones(len(x))), (x, y), callbacks=[Stop(), nn.EarlyStopping(3)], metrics=[nn.accuracy], tol=1e-3, clip_norm=1.0)
assert stopped.stopped == "callback", stopped
restored = pickle.loads(pickle.dumps(copy.deepcopy(model)))
assert (nn.predict(restored, x) == nn.predict(model, x)).all()
print(nn.evaluate(model, nn.cross_entropy, (x, y), [nn.accuracy])["accuracy"], model.summary(), nn.mlp([2, 3, 1]).eval().train())
'''


@pytest.mark.parametrize("text", [script, longer], ids=["ten lines", "longer"])
def test_a_new_users_script_trains_without_a_warning(tmp_path, text):
    (tmp_path / "script.py").write_text(text, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(nn.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])}
    done = subprocess.run([sys.executable, "-W", "error", "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    first = done.stdout.splitlines()[0]
    assert float(first.split()[0]) > 0.95 and "'shared.weight'" in first
    assert not done.stderr, "a script in a file or a pipe shows no progress bar"


def test_the_script_is_ten_lines(): assert len([line for line in script.splitlines() if line.strip()]) <= 12


@pytest.mark.skipif(importlib.util.find_spec("pyright") is None, reason="pyright is not installed (pip install pyright)")
def test_pyright_accepts_them(tmp_path):
    (tmp_path / "ten_lines.py").write_text(script, encoding="utf-8")
    (tmp_path / "longer.py").write_text(longer, encoding="utf-8")
    root = Path(nn.__file__).parents[1].as_posix()
    (tmp_path / "pyrightconfig.json").write_text(f'{{"typeCheckingMode": "basic", "extraPaths": ["{root}"], "include": ["*.py"]}}', encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "pyright", "--pythonpath", sys.executable], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    if " errors" not in done.stdout: pytest.skip(f"pyright cannot run here: {(done.stderr or done.stdout)[-200:]}")
    assert done.returncode == 0, done.stdout


# Models that users write


def trains(model, x, y, loss=nn.mse, lr=0.02, steps=150):
    "The loss falls to under a third; the gradients are right."
    step, optimizer, out = nn.value_and_grad(lambda m: loss(m(x), y)), nn.Adam(lr), None
    first, out = step(model)
    for _ in range(steps):
        value, out = step(model, out=out)
        optimizer.update(model, out)
    assert nn.grad_check(lambda m: loss(m(x), y), model) < 1e-6
    assert value < first / 3, (first, value)


x1 = np.linspace(-1, 1, 40)[:, None]
y1 = np.sin(3 * x1)


def dense(n_in, n_out, rng=0, **options): return nn.Linear(n_in, n_out, rng=rng, dtype=np.float64, **options)


def test_layers_in_a_list_and_in_a_dict():
    class Deep(nn.Module):
        def __init__(self):
            self.layers = [dense(1, 8), dense(8, 8, 1)]
            self.heads = {"mean": dense(8, 1, 2), "gain": dense(8, 1, 3)}

        def __call__(self, x):
            for layer in self.layers: x = nn.tanh(layer(x))
            return self.heads["mean"](x) * (1 + self.heads["gain"](x))

    model = Deep()
    assert list(model.parameters())[4:] == ["heads.mean.weight", "heads.mean.bias", "heads.gain.weight", "heads.gain.bias"]
    trains(model, x1, y1)


def test_a_tied_autoencoder():
    class Tied(nn.Module):
        def __init__(self): self.w, self.b, self.c = nn.he_normal((6, 3), 0, np.float64), np.zeros(3), np.zeros(6)

        def __call__(self, x): return nn.tanh(x @ self.w + self.b) @ self.w.T + self.c

    x = np.random.default_rng(0).normal(size=(30, 2)) @ np.random.default_rng(1).normal(size=(2, 6)) / 3
    trains(Tied(), x, x)


def test_a_recurrent_network():
    class Recurrent(nn.Module):
        def __init__(self): self.cell, self.out, self.start = dense(1 + 6, 6), dense(6, 1, 1), np.zeros(6)

        def __call__(self, x):
            h = np.broadcast_to(self.start, (len(x), 6))
            for t in range(x.shape[1]): h = nn.tanh(self.cell(np.concatenate([x[:, t:t + 1], h], axis=1)))
            return self.out(h)

    x = np.random.default_rng(0).normal(size=(30, 5))
    trains(Recurrent(), x, x.cumsum(axis=1)[:, -1:] / 2)


def test_attention_in_plain_numpy():
    class Attention(nn.Module):
        def __init__(self): self.q, self.k, self.v, self.out = dense(3, 4), dense(3, 4, 1), dense(3, 4, 2), dense(4, 1, 3)

        def __call__(self, x):
            scores = self.q(x) @ np.swapaxes(self.k(x), 1, 2) / 2.0
            return self.out(nn.softmax(scores) @ self.v(x)).mean(axis=1)

    x = np.random.default_rng(0).normal(size=(20, 5, 3))
    trains(Attention(), x, x.max(axis=1)[:, :1])


def test_a_convolution_by_indexing_and_einsum():
    class Convolution(nn.Module):
        def __init__(self): self.kernel, self.bias, self.out = nn.he_normal((3, 4), 0, np.float64), np.zeros(4), dense(4, 1, 1)

        def __call__(self, x):
            windows = x[:, np.arange(6)[:, None] + np.arange(3)]
            h = nn.relu(np.einsum("nwk,kc->nwc", windows, self.kernel) + self.bias + 0.1)
            return self.out(h.max(axis=1))

    x = np.random.default_rng(0).normal(size=(30, 8))
    trains(Convolution(), x, x.max(axis=1, keepdims=True))


def test_normalisation_with_running_statistics():
    class Norm(nn.Module):
        def __init__(self, n): self.gain, self.shift, self._mean, self._var = np.ones(n), np.zeros(n), np.zeros(n), np.ones(n)

        def __call__(self, x):
            if self.training:
                mean, var = x.mean(axis=0), x.var(axis=0)
                self._mean = 0.9 * self._mean + 0.1 * nn.stop_gradient(mean)
                self._var = 0.9 * self._var + 0.1 * nn.stop_gradient(var)
            else:
                mean, var = self._mean, self._var
            return (x - mean) / np.sqrt(var + 1e-5) * self.gain + self.shift

    model = nn.Sequential(dense(1, 8), Norm(8), nn.tanh, dense(8, 1, 1))
    trains(model, x1, y1)
    assert list(model.parameters()) == ["0.weight", "0.bias", "1.gain", "1.shift", "3.weight", "3.bias"]
    assert model[1]._mean.any() and isinstance(model[1]._mean, np.ndarray)
    model.eval()
    assert np.array_equal(model(x1)[:5], model(x1[:5])), "in evaluation mode a sample does not depend on its batch"


def test_an_embedding_by_indexing():
    class Embedding(nn.Module):
        def __init__(self): self.vectors, self.out = nn.lecun_normal((5, 3), 0, np.float64), dense(6, 1)

        def __call__(self, pairs): return self.out(nn.tanh(self.vectors[pairs].reshape(len(pairs), 6)))

    pairs = np.array([[i, j] for i in range(5) for j in range(5)])
    trains(Embedding(), pairs, ((pairs[:, :1] - pairs[:, 1:]) / 4.0), lr=0.05)


def test_a_function_of_arrays_without_any_module():
    def f(p, x): return nn.linear(nn.tanh(nn.linear(x, p["w1"], p["b1"])), p["w2"], p["b2"])
    rng = np.random.default_rng(0)
    p = {"w1": rng.normal(size=(1, 8)), "b1": np.zeros(8), "w2": rng.normal(size=(8, 1)), "b2": np.zeros(1)}
    step, optimizer = nn.value_and_grad(lambda p: nn.mse(f(p, x1), y1)), nn.Adam(0.05)
    first, _ = step(p)
    for _ in range(200): optimizer.update(p, step(p)[1])
    assert step(p)[0] < first / 10


def test_a_penalty_on_the_weights_and_two_losses():
    model = nn.mlp([1, 8, 1], nn.tanh, rng=0, dtype=np.float64)

    def loss(m): return nn.mse(m(x1), y1) + 0.1 * sum(np.sum(layer.weight ** 2) for layer in m if isinstance(layer, nn.Linear))

    assert nn.grad_check(loss, model) < 1e-6
