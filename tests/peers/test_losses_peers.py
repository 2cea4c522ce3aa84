"""Losses, activations and metrics beside PyTorch and scikit-learn, at the edges: every pair of 0, small, large, infinite numbers and NaN."""

import itertools
import warnings

import numpy as np
import pytest

import nn_from_scratch as nn
from nn_from_scratch import fast
from nn_from_scratch.metrics import classification_report

torch = pytest.importorskip("torch")
metrics = pytest.importorskip("sklearn.metrics")
F = torch.nn.functional
pytestmark = pytest.mark.peers


@pytest.fixture(params=["quicker", "as written"], autouse=True)
def forms(request):
    "With the quicker forms, and without."
    replays.clear()
    if request.param == "as written": fast.disable()
    yield
    fast.enable()


EDGES = [0.0, -0.0, 1.0, -50.0, 1e4, -1e4, 3e38, -3e38, np.inf, -np.inf, np.nan]
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def theirs(f, x):
    "PyTorch's value and gradient of f at x."
    x = torch.tensor(x, requires_grad=True)
    y = f(x)
    y.sum().backward()
    return y.detach().numpy(), x.grad.numpy()


replays: dict = {}


def compiled(f, x, value, gradient):
    "The replayed gradient says the same, infinite numbers and NaN included: traced at the first input, replayed at the others."
    key = id(f), x.dtype, x.shape, bool(fast.forms.keys() & nn.functions.quicker.keys())
    if key not in replays: replays[key] = f, nn.compile(nn.value_and_grad(lambda x: np.sum(f(x))))
    again, slope = replays[key][1](x)
    np.testing.assert_allclose(np.asarray(again, np.float64), np.asarray(value, np.float64), rtol=1e-5, err_msg=f"{x}")
    np.testing.assert_allclose(slope, gradient, rtol=1e-5, atol=1e-7, err_msg=f"{x}")


def ours(f, x):
    "Plain and recorded value, which must be one number, and the gradient."
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = f(x)
        value, gradient = nn.value_and_grad(lambda x: np.sum(f(x)))(x)
        np.testing.assert_array_equal(np.asarray(value, np.float64), np.asarray(np.sum(plain), np.float64))
        compiled(f, x, value, gradient)
    return np.asarray(plain), gradient


def differences(f, g, inputs):
    "Where ours and PyTorch's differ: (input, our value, their value, our gradient, their gradient)."
    found = []
    for x in inputs:
        (a, da), (b, db) = ours(f, x), theirs(g, x)
        same = np.allclose(a, b, rtol=1e-5, equal_nan=True) and np.allclose(da, db, rtol=1e-5, atol=1e-7, equal_nan=True)
        if not same: found.append((x.ravel().tolist(), a.ravel().tolist(), b.ravel().tolist(), da.ravel().tolist(), db.ravel().tolist()))
    return found


def rows(dtype): return [np.array([row], dtype) for row in itertools.product(EDGES, repeat=2)]
def single(dtype): return [np.array([v], dtype) for v in EDGES]


# ---------------------------------------------------------------- losses

@DTYPES
@pytest.mark.parametrize("label", [0, 1])
def test_cross_entropy_of_labels(label, dtype):
    labels, weight = np.array([label]), np.array([2.0])
    for options in ({}, {"weight": weight}):
        assert differences(lambda z: nn.cross_entropy(z, labels, **options), lambda z: F.cross_entropy(z, torch.tensor(labels)), rows(dtype)) == []  # noqa: B023
    smooth = differences(lambda z: nn.cross_entropy(z, labels, label_smoothing=0.1), lambda z: F.cross_entropy(z, torch.tensor(labels), label_smoothing=0.1), rows(dtype))
    assert smooth == []


@DTYPES
@pytest.mark.parametrize("target", [[0.3, 0.7], [1.0, 0.0]])
def test_cross_entropy_of_probabilities(target, dtype):
    "The one difference: where a class that cannot be true has a logit of −∞, PyTorch says NaN (0 · ∞); here it costs nothing."
    t = np.array([target], dtype)
    for z, a, b, da, db in differences(lambda z: nn.cross_entropy(z, t), lambda z: F.cross_entropy(z, torch.tensor(t)), rows(dtype)):
        assert target == [1.0, 0.0] and np.isnan(b[0]) and a == [0] and da == db == [0, 0], (z, a, b, da, db)
        assert z[1] == -np.inf or z[0] - z[1] > float(np.finfo(dtype).max)


@DTYPES
@pytest.mark.parametrize("target", [0.0, 1.0, 0.25])
def test_binary_cross_entropy(target, dtype):
    "The one difference: at ±∞ PyTorch's value is NaN (∞ − ∞, 0 · ∞); here it is the limit. The gradients are the same."
    t = np.array([target], dtype)
    for z, a, b, da, db in differences(lambda z: nn.binary_cross_entropy(z, t), lambda z: F.binary_cross_entropy_with_logits(z, torch.tensor(t)), single(dtype)):
        assert np.isinf(z[0]) and np.isnan(b[0]) and da == db, (z, a, b, da, db)
        assert a[0] == (0 if (z[0] > 0) == bool(target) and target in (0, 1) else np.inf)


@DTYPES
@pytest.mark.parametrize("loss, peer", [(nn.mse, F.mse_loss), (nn.mae, F.l1_loss), (nn.huber, F.huber_loss)], ids=["mse", "mae", "huber"])
def test_regression(loss, peer, dtype):
    "The one difference: where the error is NaN, the slope of |error| is NaN here and 0 in PyTorch, which would hide it."
    for target in EDGES:
        t = np.array([target], dtype)
        for z, a, b, da, db in differences(lambda p: loss(p, t), lambda p: peer(p, torch.tensor(t)), single(dtype)):  # noqa: B023
            assert loss is nn.mae and np.isnan(z[0] - target) and np.isnan(a[0]) and np.isnan(b[0]) and np.isnan(da[0]) and db == [0]


@DTYPES
@pytest.mark.parametrize("f, peer", [(nn.softmax, F.softmax), (nn.log_softmax, F.log_softmax)], ids=["softmax", "log_softmax"])
def test_softmax(f, peer, dtype):
    inputs = [np.array([row], dtype) for row in itertools.product(EDGES, repeat=3)][::5]
    assert differences(lambda z: f(z)[:, :1], lambda z: peer(z, -1)[:, :1], inputs) == []


def test_ignored_labels():
    rng = np.random.default_rng(0)
    z, labels = rng.normal(size=(5, 7, 4)), rng.integers(0, 4, (5, 7))
    labels[rng.random((5, 7)) < 0.4] = -100
    for smoothing in 0.0, 0.1:
        (a, da), (b, db) = (ours(lambda z: nn.cross_entropy(z, labels, None, smoothing, -100), z),  # noqa: B023
                            theirs(lambda z: F.cross_entropy(z.movedim(-1, 1), torch.tensor(labels), label_smoothing=smoothing), z))  # noqa: B023
        np.testing.assert_allclose(a, b, rtol=1e-12)
        np.testing.assert_allclose(da, db, atol=1e-15)


# ---------------------------------------------------------------- activations

ACTIVATIONS = {"sigmoid": (nn.sigmoid, torch.sigmoid), "tanh": (nn.tanh, torch.tanh), "relu": (nn.relu, torch.relu), "leaky_relu": (nn.leaky_relu, F.leaky_relu), "elu": (nn.elu, F.elu),
               "gelu": (nn.gelu, lambda x: F.gelu(x, approximate="tanh")), "silu": (nn.silu, F.silu), "softplus": (nn.softplus, F.softplus)}


@DTYPES
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name, dtype):
    "Values are PyTorch's everywhere, NaN and ±∞ included. Slopes differ where PyTorch's make no sense: 1 at NaN (relu, elu), NaN for large numbers (gelu)."
    for x, a, b, da, db in differences(*ACTIVATIONS[name], single(dtype)):
        assert np.allclose(a, b, rtol=1e-5, equal_nan=True), (x, a, b)
        assert np.isnan(x[0]) and db == [1] or name == "gelu" and np.isnan(db[0]) and np.isfinite(da[0]), (x, da, db)


# ---------------------------------------------------------------- metrics

@pytest.fixture(params=range(6))
def sample(request):
    "Logits of k classes, labels, weights (whole, real, some 0)."
    rng = np.random.default_rng(request.param)
    k, n = rng.integers(2, 6), rng.integers(2, 60)
    weight = [None, rng.integers(0, 4, n) + (np.arange(n) == 0), rng.random(n)][request.param % 3]
    return rng.normal(size=(n, k)).round(1), rng.integers(0, k, n), weight


def test_metrics_of_classes(sample):
    logits, labels, weight = sample
    taken, k = logits.argmax(axis=1), logits.shape[1]
    assert np.isclose(nn.accuracy(logits, labels, weight), metrics.accuracy_score(labels, taken, sample_weight=weight), rtol=1e-12)
    np.testing.assert_allclose(nn.confusion_matrix(logits, labels, weight), metrics.confusion_matrix(labels, taken, labels=range(k), sample_weight=weight), rtol=1e-12)
    report = classification_report(logits, labels, weight)
    peer = metrics.classification_report(labels, taken, labels=range(k), sample_weight=weight, output_dict=True, zero_division=0)
    assert list(report.to_dict())[:k] == list(peer)[:k]
    for name, row in report.to_dict().items():
        if name == "accuracy": assert np.isclose(row, nn.accuracy(logits, labels, weight))
        else: assert list(row) == list(peer[name]) and np.allclose(list(row.values()), list(peer[name].values()), rtol=1e-12), name


def test_metrics_of_a_yes_or_no(sample):
    logits, labels, weight = sample
    z, yes = logits[:, 0], labels % 2
    for column in z, z[:, None]:
        assert np.isclose(nn.accuracy(column, yes, weight), metrics.accuracy_score(yes, z > 0, sample_weight=weight), rtol=1e-12)
        np.testing.assert_allclose(nn.confusion_matrix(column, yes, weight), metrics.confusion_matrix(yes, z > 0, labels=[0, 1], sample_weight=weight), rtol=1e-12)


@pytest.mark.parametrize("outputs", [(), (1,), (3,)])
def test_r2(sample, outputs):
    _, labels, weight = sample
    rng = np.random.default_rng(len(labels))
    target, prediction = rng.normal(size=(2, len(labels), *outputs))
    peer = metrics.r2_score(target, prediction, sample_weight=weight, multioutput="variance_weighted")
    assert np.isclose(nn.r2_score(prediction, target, weight), peer, rtol=1e-10)
