"""The norms: rules against finite differences with and without the quick rows, running statistics by derivation, and what state must survive."""

import copy
import pickle

import numpy as np
import pytest

import nn_from_scratch as nn
from nn_from_scratch import fast
from nn_from_scratch.fast_norms import forms, rows
from nn_from_scratch.norms import batch_norm, layer_norm, rms_norm

OPS = {"batch_norm": (batch_norm, 2), "layer_norm": (layer_norm, 2), "rms_norm": (rms_norm, 1)}
each = pytest.mark.parametrize("name", OPS)
SHAPES = [(7, 5), (2, 3), (3, 1), (4, 3, 5), (2, 3, 2, 6), (64, 8)]


@pytest.fixture(params=["quick", "text"])
def either(request):
    "The quick rows, and the text of the chapter."
    if request.param == "text": fast.disable()
    yield request.param
    fast.enable()


def arguments(name, shape, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    x = rng.normal(1, 2, shape).astype(dtype)
    return x, *(rng.normal(size=shape[-1]).astype(dtype) for _ in range(OPS[name][1]))


NORMED = [pytest.param(name, shape, id=f"{name} {shape}") for name in OPS for shape in SHAPES
          if name == "batch_norm" or shape[-1] > 1]  # one number in a row becomes its sign, or 0


@pytest.mark.parametrize("name, shape", NORMED)
def test_rules_against_finite_differences(name, shape, either):
    op, args = OPS[name][0], arguments(name, shape)
    assert nn.grad_check(op, *args) < 1e-6


@pytest.mark.parametrize("name, shape", NORMED)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_quick_form_is_held_to_the_text(name, shape, dtype):
    op, args = OPS[name][0], arguments(name, shape, dtype=dtype)
    tol = 1e-11 if dtype == np.float64 else 3e-4
    direction = np.random.default_rng(1).normal(size=shape).astype(dtype)
    f = nn.value_and_grad(lambda p: np.sum(op(*p) * direction))
    quick, grads = op(*args), f(list(args))[1]
    fast.disable()
    try: text, slopes = op(*args), f(list(args))[1]
    finally: fast.enable()
    assert quick.dtype == text.dtype == dtype and quick.shape == text.shape
    np.testing.assert_allclose(quick, text, rtol=tol, atol=tol)
    for a, b in zip(grads, slopes):
        assert a.dtype == b.dtype == dtype
        np.testing.assert_allclose(a, b, rtol=tol, atol=tol * np.abs(b).max() + 1e-12)
    assert op in rows and op in forms


@each
def test_only_the_gradients_that_are_wanted(name):
    op, args = OPS[name][0], arguments(name, (6, 4))
    whole = nn.value_and_grad(lambda p: np.sum(op(*p) ** 2 * np.arange(4)))(list(args))[1]
    for i in range(len(args)):
        alone = nn.value_and_grad(lambda a, i=i: np.sum(op(*args[:i], a, *args[i + 1:]) ** 2 * np.arange(4)))(args[i])[1]
        np.testing.assert_allclose(alone, whole[i], rtol=1e-12)


def test_what_a_norm_is(either):
    x = np.random.default_rng(0).normal(3, 5, (50, 4, 6))
    ones, zeros = np.ones(6), np.zeros(6)
    for y, axes in ((batch_norm(x, ones, zeros), (0, 1)), (layer_norm(x, ones, zeros), -1)):
        np.testing.assert_allclose(y.mean(axes), 0, atol=1e-12)
        np.testing.assert_allclose(y.var(axes), 1, rtol=1e-4)
    np.testing.assert_allclose((rms_norm(x, ones) ** 2).mean(-1), 1, rtol=1e-4)
    np.testing.assert_allclose(layer_norm(x, ones, zeros), layer_norm(7 * x + 100, ones, zeros), atol=1e-4)  # shift and scale do not count
    np.testing.assert_allclose(rms_norm(x, ones), rms_norm(7 * x, ones), atol=1e-4)


@each
def test_the_gradient_is_at_right_angles_to_what_does_not_count(name, either):
    "x̂ does not change along x, nor (with a mean) along ones: neither does the gradient point there."
    op, args = OPS[name][0], arguments(name, (9, 5))
    g = nn.grad(lambda x: np.sum(op(x, *args[1:], 1e-30) ** 3))(args[0])
    axis = 0 if name == "batch_norm" else 1
    np.testing.assert_allclose((g * args[0]).sum(axis), 0, atol=1e-9)
    if name != "rms_norm": np.testing.assert_allclose(g.sum(axis), 0, atol=1e-10)


# ---------------------------------------------------------------- running statistics

@pytest.mark.parametrize("momentum", [0.1, 0.9, 1.0])
@pytest.mark.parametrize("shape", [(8, 3), (4, 5, 3)])
def test_running_statistics_by_derivation(momentum, shape):
    "After k batches: (1-m)^k of the start and m (1-m)^(k-1-i) of batch i; the variance with n - 1."
    layer, rng = nn.BatchNorm(3, momentum, dtype=np.float64), np.random.default_rng(0)
    batches = [rng.normal(i, i + 1, shape) for i in range(6)]
    for x in batches: layer(x)
    mean, var = np.zeros(3), np.ones(3) * (1 - momentum) ** 6
    for i, x in enumerate(batches):
        x, share = x.reshape(-1, 3), momentum * (1 - momentum) ** (5 - i)
        mean += share * x.sum(0) / len(x)
        var += share * ((x - x.sum(0) / len(x)) ** 2).sum(0) / (len(x) - 1)
    np.testing.assert_allclose(layer._running_mean, mean, rtol=1e-10)
    np.testing.assert_allclose(layer._running_var, var, rtol=1e-10)


def test_evaluation_uses_them_and_keeps_them():
    layer, x = nn.BatchNorm(3, dtype=np.float64), np.random.default_rng(0).normal(5, 2, (8, 3))
    for _ in range(300): layer(x)
    layer.weight[:], layer.bias[:] = [1, 2, 3], [0, 1, 2]
    before = layer._running_mean.copy(), layer._running_var.copy()
    layer.eval()
    expected = layer.weight * (x - x.mean(0)) / np.sqrt(x.var(0, ddof=1) + 1e-5) + layer.bias
    np.testing.assert_allclose(layer(x), expected, rtol=1e-8)
    np.testing.assert_allclose(layer(x[:1]), expected[:1], rtol=1e-8)  # a batch of one is fine here
    assert (before[0] == layer._running_mean).all() and (before[1] == layer._running_var).all()


def test_evaluation_is_one_product_and_one_sum():
    layer = nn.Sequential(nn.BatchNorm(3, dtype=np.float64)).eval()
    assert nn.grad_check(lambda x: np.sum(layer(x) ** 2), np.random.default_rng(0).normal(size=(4, 3))) < 1e-6


def test_a_batch_of_one_is_refused_and_changes_nothing():
    layer = nn.BatchNorm(3)
    with pytest.raises(ValueError, match=r"one number for each feature, x is \(1, 3\)"): layer(np.ones((1, 3), np.float32))
    assert (layer._running_mean == 0).all() and (layer._running_var == 1).all()
    layer(np.ones((1, 2, 3), np.float32))  # two places: something may vary


def test_fit_says_so_of_a_last_batch_of_one():
    x, y = nn.moons(33, rng=0)
    model = nn.Sequential(nn.Linear(2, 4, rng=0), nn.BatchNorm(4), nn.relu, nn.Linear(4, 2, rng=1))
    with pytest.raises(ValueError, match="drop a last one of 1"):
        nn.fit(model, nn.cross_entropy, nn.SGD(0.1), (x, y), batch_size=32, progress=False)


def test_a_tensor_left_in_the_state_is_an_error_with_its_name():
    class Leaky(nn.BatchNorm):
        def remember(self, x): pass
        def __call__(self, x):
            self._running_mean = self._running_mean + 0.1 * np.mean(x, axis=0)
            return batch_norm(x, self.weight, self.bias)
    model = nn.Sequential(nn.Linear(2, 3, rng=0), Leaky(3))
    with pytest.raises(RuntimeError, match="_running_mean"):
        nn.grad(lambda m: np.sum(m(np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32))))(model)


@pytest.mark.parametrize("call, words", [
    (lambda: layer_norm(np.ones((3, 4)), np.ones(5), np.zeros(4)), "x has 4 features but the weight is for 5"),
    (lambda: layer_norm(np.ones((3, 4)), np.ones(4), np.zeros(3)), "x has 4 features but the bias is for 3"),
    (lambda: batch_norm(np.ones((3, 4), int), np.ones(4), np.zeros(4)), "floating-point"),
    (lambda: rms_norm(np.ones((3, 4)), np.ones(3)), "x has 4 features but the weight is for 3"),
    (lambda: rms_norm(np.ones((3, 4)), np.ones(4), 0), "eps must be a positive number"),
    (lambda: nn.BatchNorm(0), "whole number of at least 1"),
    (lambda: nn.BatchNorm(3, momentum=1.5), "momentum must be a number above 0 and at most 1"),
    (lambda: nn.LayerNorm(3, eps=-1), "eps must be a positive number"),
    (lambda: nn.RMSNorm(3, dtype=np.int32), "floating-point type"),
])
def test_mistakes_are_told(call, words):
    with pytest.raises(ValueError, match=words): call()


def test_layers_take_numbers_of_another_precision():
    for layer in nn.LayerNorm(3), nn.RMSNorm(3), nn.BatchNorm(3):
        assert layer(np.arange(6.0).reshape(2, 3)).dtype == layer(np.arange(6).reshape(2, 3)).dtype == np.float32
        assert layer.eval()(np.arange(6.0).reshape(2, 3)).dtype == np.float32


# ---------------------------------------------------------------- the whole network

def network(seed=0, dtype=np.float32):
    return nn.Sequential(
        nn.Linear(2, 16, rng=seed, dtype=dtype), nn.BatchNorm(16, dtype=dtype), nn.relu, nn.Dropout(0.25, rng=seed),
        nn.Linear(16, 8, rng=seed + 1, dtype=dtype), nn.LayerNorm(8, dtype=dtype), nn.tanh, nn.RMSNorm(8, dtype=dtype),
        nn.Linear(8, 2, rng=seed + 2, dtype=dtype))


def test_state_goes_with_copies_and_pickles():
    model = network()
    x, y = nn.moons(64, rng=0)
    nn.fit(model, nn.cross_entropy, nn.Adam(0.01), (x, y), epochs=2, progress=False)
    for twin in copy.deepcopy(model), pickle.loads(pickle.dumps(model)):
        assert (nn.predict(twin, x) == nn.predict(model, x)).all()
        assert (twin[1]._running_var == model[1]._running_var).all() and twin[1]._running_var is not model[1]._running_var
        here, there = (nn.fit(copy.deepcopy(m), nn.cross_entropy, nn.Adam(0.01), (x, y), epochs=2, progress=False) for m in (model, twin))
        assert here.train_loss == there.train_loss  # the masks, too


@pytest.mark.parametrize("at", [1, 5, 8, 11])
def test_stopped_and_resumed_to_the_same_bits(tmp_path, at):
    class Stop(Exception): pass

    class Stopping(nn.Callback):
        def on_step_end(self, run):
            if run.step == at: raise Stop

    x, y = nn.moons(100, noise=0.1, rng=0)

    def run(model, *callbacks, **options):
        average = nn.WeightAverage(0.9)
        history = nn.fit(model, nn.cross_entropy, nn.Adam(0.01), (x, y), nn.moons(40, rng=1), epochs=3, progress=False,
                         callbacks=[average, *callbacks], **options)
        return history, average

    whole, broken, resumed = network(), network(), network(7)
    history, average = run(whole)
    with pytest.raises(Stop): run(broken, Stopping(), checkpoint=tmp_path, checkpoint_every=2)
    resumed[3].p, resumed[3]._rng = 0.25, np.random.default_rng(99)  # another generator: the file's takes its place
    again, other = run(resumed, checkpoint=tmp_path, checkpoint_every=2, resume=True)
    assert again.train_loss == history.train_loss and again.valid_loss == history.valid_loss
    assert other.valid_loss == average.valid_loss
    for mine, its in zip(average.mean, other.mean, strict=True): assert (mine == its).all()


def test_early_stopping_brings_back_the_statistics():
    model, (x, y) = network(), nn.moons(64, rng=0)
    taken = {}

    class Watch(nn.Callback):
        def on_epoch_end(self, run): taken[run.history.valid_loss[-1]] = model[1]._running_mean.copy()

    history = nn.fit(model, nn.cross_entropy, nn.SGD(3.0), (x, y), nn.moons(64, rng=1), epochs=30, progress=False,
                     callbacks=[Watch(), nn.EarlyStopping(patience=3)])
    assert (model[1]._running_mean == taken[min(history.valid_loss)]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_compiled_networks_compute_the_same(dtype):
    from nn_from_scratch.compiler.replay import compile
    from nn_from_scratch.compiler.trace import drawn
    from nn_from_scratch.dropout import dropout_mask
    assert dropout_mask in drawn
    x, y = nn.moons(64, rng=0)
    plain = nn.value_and_grad(lambda model, x, y: nn.cross_entropy(model(x), y))
    ours, theirs = network(dtype=dtype), network(dtype=dtype)
    made, tol = compile(plain), 1e-5 if dtype == np.float32 else 1e-11
    for _ in range(4):
        value, grads = plain(ours, x, y)
        found, slopes = made(theirs, x, y)
        np.testing.assert_allclose(found, value, rtol=tol)
        np.testing.assert_allclose(slopes.vector, grads.vector, rtol=tol, atol=tol)
        np.testing.assert_allclose(theirs[1]._running_mean, ours[1]._running_mean, rtol=tol, atol=tol)
        np.testing.assert_allclose(theirs[1]._running_var, ours[1]._running_var, rtol=tol, atol=tol)
        assert theirs[3]._rng.bit_generator.state == ours[3]._rng.bit_generator.state


# ---------------------------------------------------------------- files

def test_files_there_and_back(tmp_path):
    model, (x, y) = network(), nn.moons(64, rng=0)
    model[1].momentum, model[5].eps = 0.3, 1e-3
    nn.fit(model, nn.cross_entropy, nn.Adam(0.01), (x, y), epochs=2, progress=False)
    nn.save(model, tmp_path / "m")
    again = nn.load(tmp_path / "m")
    assert repr(again) == repr(model) and again[1].momentum == 0.3 and again[5].eps == 1e-3 and again[3].p == 0.25
    assert (nn.predict(again, x) == nn.predict(model, x)).all()
    assert (again[1]._running_var == model[1]._running_var).all()
    other = network(5)
    nn.load(tmp_path / "m", into=other)
    assert (other[1]._running_mean == model[1]._running_mean).all()


def test_a_file_that_does_not_fit_changes_nothing(tmp_path):
    nn.save(nn.Sequential(nn.BatchNorm(3)), tmp_path / "m")
    model = nn.Sequential(nn.BatchNorm(4))
    with pytest.raises(ValueError, match="running_mean"): nn.load(tmp_path / "m", into=model)
    assert (model[0]._running_var == 1).all()


# ---------------------------------------------------------------- what the chapter claims, over seeds

class Block(nn.Module):
    def __init__(self, norm, residual, rng): self.norm, self.linear, self.residual = norm and norm(32), nn.Linear(32, 32, rng=rng), residual
    def __call__(self, x):
        h = nn.relu(self.linear(self.norm(x) if self.norm else x))
        return x + h if self.residual else h


@pytest.mark.parametrize("seed", range(3))
def test_the_staircase_at_depth_20(seed):
    "Batch norm alone and the plus sign alone are worse than nothing; both together train."
    (x, y), test = nn.train_valid_split(*nn.load_digits(), 0.3, rng=0)
    right = {}
    for norm, residual in ((None, False), (nn.BatchNorm, False), (None, True), (nn.BatchNorm, True)):
        rng = np.random.default_rng(seed)
        blocks = [Block(norm, residual, rng) for _ in range(20)]
        model = nn.Sequential(nn.Linear(64, 32, rng=rng), *blocks, *([norm(32)] if norm else []), nn.Linear(32, 10, rng=rng))
        nn.fit(model, nn.cross_entropy, nn.Adam(0.002), (x[:800], y[:800]), epochs=6, batch_size=50, rng=seed, progress=False)
        right[norm is not None, residual] = nn.accuracy(nn.predict(model, test[0]), test[1])
    assert max(right[True, False], right[False, True]) < right[False, False] - 0.1 and right[True, True] > 0.85


def test_the_running_statistics_without_the_quick_form_are_the_same():
    for shape in ((6, 5), (4, 3, 5), (2, 70)):
        x, layers = np.random.default_rng(0).normal(2, 3, shape), []
        for quick in (True, False):
            if not quick: fast.disable()
            try:
                layers.append(nn.BatchNorm(shape[-1], dtype=np.float64))
                layers[-1](x)
            finally: fast.enable()
        np.testing.assert_allclose(layers[0]._running_mean, layers[1]._running_mean, rtol=1e-12)
        np.testing.assert_allclose(layers[0]._running_var, layers[1]._running_var, rtol=1e-12)
