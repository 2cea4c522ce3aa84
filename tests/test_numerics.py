"""Nothing overflows and nothing becomes NaN: activations from the smallest subnormal number to the largest there is, losses on
logits and errors from there to 1e4 and beyond, and the gradients of both, in either precision, on grids that are tried whole."""

import contextlib
import itertools

import numpy as np
import pytest

import nn_from_scratch as nn

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])


@contextlib.contextmanager
def strict():
    "Every overflow, division by zero and invalid operation is an error; a number too small for its precision may become 0."
    with np.errstate(all="raise", under="ignore"): yield


def span(dtype, top):
    "Both signs of 0, of numbers from the smallest subnormal to `top`, and of those around 1."
    info = np.finfo(dtype)
    sizes = [0, info.smallest_subnormal, info.tiny, info.eps, *np.geomspace(1e-30, min(top, 1e38), 300), *np.linspace(0.1, 120, 300), 700, 745, top]
    return np.array([*sizes, *np.negative(sizes)], dtype)


def passes(f, x, largest=np.inf):
    "The value of f at x, and its gradient: finite, without a warning, in the precision of x, and the gradient no larger than `largest`."
    with strict():
        value = f(x)
        gradient = nn.grad(lambda x: np.sum(f(x)) if np.ndim(value) == 0 else np.sum(f(x) * (1 / x.size)))(x)
    assert np.isfinite(value).all() and np.isfinite(gradient).all()
    assert np.asarray(value).dtype == gradient.dtype == x.dtype
    assert np.abs(gradient).max() <= largest
    return value


ACTIVATIONS = {"sigmoid": nn.sigmoid, "tanh": nn.tanh, "relu": nn.relu, "leaky_relu": nn.leaky_relu, "elu": nn.elu, "gelu": nn.gelu, "silu": nn.silu,
               "softplus": nn.softplus, "identity": nn.identity, "leaky_relu, slope 0": lambda x: nn.leaky_relu(x, 0.0),
               "leaky_relu, slope 1": lambda x: nn.leaky_relu(x, 1.0), "elu, alpha 0.1": lambda x: nn.elu(x, 0.1)}


@DTYPES
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name, dtype):
    x = span(dtype, np.finfo(dtype).max)
    passes(ACTIVATIONS[name], x, 1.2 / x.size)  # the steepest, gelu and silu, reach a slope of 1.13
    for number in x[::7]: passes(ACTIVATIONS[name], number.reshape(1, 1), 1.2)


@DTYPES
def test_the_ends_of_the_activations(dtype):
    top = np.finfo(dtype).max
    ends = {nn.sigmoid: (0, 1), nn.tanh: (-1, 1), nn.relu: (0, top), nn.elu: (-1, top), nn.gelu: (0, top), nn.silu: (0, top), nn.softplus: (0, top), nn.identity: (-top, top)}
    for f, (low, high) in ends.items():
        with strict(): assert f(np.array([-top, top])).tolist() == [low, high]


# ---------------------------------------------------------------- losses

def rows(dtype, top, k):
    "All rows of k logits that are 0, subnormal, of size 1, or large."
    tiny = float(np.finfo(dtype).smallest_subnormal)
    return np.array(list(itertools.product([0, tiny, -tiny, 1, -50, 104, 1e4, -1e4, top, -top], repeat=k)), dtype)


def tops(dtype): return [1e4, float(np.finfo(dtype).max / 4)]  # from there to the other end is half of the largest number


@DTYPES
@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("f", [nn.softmax, nn.log_softmax])
def test_softmax(f, k, dtype):
    for top in tops(dtype):
        p = passes(f, rows(dtype, top, k))
        if f is nn.softmax: np.testing.assert_allclose(p.sum(axis=1), 1, rtol=4 * np.finfo(dtype).eps)
        for row in rows(dtype, top, 2)[::7]: passes(f, row)


def weightings(n, dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    return [None, np.ones(n, dtype), np.full(n, tiny), np.full(n, 1e30, dtype), np.eye(1, n, dtype=dtype)[0], np.geomspace(1e-30, 1e4, n).astype(dtype)]


@DTYPES
@pytest.mark.parametrize("k, smoothing", [(2, 0.0), (2, 1e-40), (2, 0.1), (2, 0.999), (3, 0.0), (3, 0.1)])
def test_cross_entropy(k, smoothing, dtype):
    "With each label, among them those of the least likely class; with labels that never occur; with probabilities, certain and not."
    for top in tops(dtype):
        z = rows(dtype, top, k)
        n = len(z)
        targets = [*(np.full(n, label) for label in range(k)), np.arange(n) % k, nn.one_hot(np.arange(n) % k, k, dtype), np.full((n, k), 1 / k, dtype), np.zeros((n, k), dtype)]
        for target in targets:
            for weight in weightings(n, dtype): passes(lambda z: nn.cross_entropy(z, target, weight, label_smoothing=smoothing), z, 1)  # noqa: B023
        for row in z[::7]: passes(lambda z: nn.cross_entropy(z, np.array([0]), label_smoothing=smoothing), row[None], 1)


@DTYPES
def test_binary_cross_entropy(dtype):
    for top in tops(dtype):
        z = span(dtype, top)
        for target in 0, 1, 0.25, np.finfo(dtype).smallest_subnormal:
            for weight in weightings(len(z), dtype):
                passes(lambda z: nn.binary_cross_entropy(z, np.full(z.shape, target), weight), z, 1)  # noqa: B023
            for number in z[::37]: passes(lambda z: nn.binary_cross_entropy(z, np.full(z.shape, target)), number.reshape(1), 1)  # noqa: B023


REGRESSION = {"mse": (nn.mse, 1e4), "mae": (nn.mae, None), "huber": (nn.huber, None), "huber, delta 1e-30": (lambda p, t, w=None: nn.huber(p, t, w, delta=1e-30), None),
              "huber, delta 1e4": (lambda p, t, w=None: nn.huber(p, t, w, delta=1e4), 1e4)}


@DTYPES
@pytest.mark.parametrize("name", REGRESSION)
def test_regression_losses(name, dtype):
    "Errors to 2e4; of the losses that grow along a straight line, and where the mean still fits, much larger ones."
    loss, top = REGRESSION[name]
    p = span(dtype, top or float(np.finfo(dtype).max) / 1e5)
    for target in p, p[::-1].copy(), np.roll(p, 7), np.zeros_like(p):
        for weight in weightings(len(p), dtype):
            passes(lambda p: loss(p, target, weight), p)  # noqa: B023
            passes(lambda t: loss(p, t, weight), target)  # noqa: B023
    for number in p[::37]: passes(lambda p: loss(p, np.zeros_like(p)), number.reshape(1, 1))


@DTYPES
@pytest.mark.parametrize("size", [0, 1, 1e4, 1e8, 1e30])
def test_the_slopes_of_logaddexp_add_up_to_1(size, dtype):
    "Also where the result has no digits left for what lies between the two."
    a, b = np.full(3, size, dtype), np.array([size, size - 1, 0], dtype)
    with strict(): left, right = nn.grad(lambda p: np.sum(np.logaddexp(p["a"], p["b"])))({"a": a, "b": b}).values()
    np.testing.assert_allclose(left + right, 1, rtol=4 * np.finfo(dtype).eps)
    assert left[0] == right[0] == 0.5
