"""Layers for pictures: the numbers of the text, their gradients, and what is said when something does not fit."""

import ctypes
import subprocess
import sys

import numpy as np
import pytest

import nn_from_scratch as nn
from nn_from_scratch import fast, fast_convolution, fast_stages
from nn_from_scratch.convolution import windows_of


def numbers(rng, *shape, dtype=np.float64): return np.random.default_rng(rng).normal(size=shape).astype(dtype)


SETTINGS = [dict(), dict(stride=2), dict(padding=1), dict(padding="same"), dict(padding=(2, 0)), dict(dilation=2), dict(groups=2),
            dict(stride=(2, 1), padding=(1, 2), dilation=(1, 2)), dict(stride=3, padding=1, groups=2), dict(padding="valid", dilation=(2, 1))]
each = pytest.mark.parametrize("settings", SETTINGS, ids=str)


def by_hand(x, w, b, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1):
    "Seven loops."
    x = np.pad(x, ((0, 0), *padding, (0, 0)))
    n, h, v, _ = x.shape
    kh, kw, c, o = w.shape
    rows, columns = ((size - d * (k - 1) - 1) // s + 1 for size, k, d, s in zip((h, v), (kh, kw), dilation, stride))
    y = np.zeros((n, rows, columns, o))
    for m, i, j, k in np.ndindex(y.shape):
        first = k // (o // groups) * c
        for a, d, q in np.ndindex(kh, kw, c):
            y[m, i, j, k] += x[m, i * stride[0] + a * dilation[0], j * stride[1] + d * dilation[1], first + q] * w[a, d, q, k]
    return y + b


def test_nineteen_twenty_five_thirty_seven_forty_three(pace):
    x, w = np.arange(9.0).reshape(1, 3, 3, 1), np.arange(4.0).reshape(2, 2, 1, 1)
    assert nn.conv2d(x, w).ravel().tolist() == [19, 25, 37, 43]


@each
def test_seven_loops_give_the_same(pace, settings):
    x, w, b = numbers(0, 2, 7, 6, 4), numbers(1, 3, 2, 4 // settings.get("groups", 1), 6), numbers(2, 6)
    full = {name: nn.convolution.pair(settings.get(name, 1)) for name in ("stride", "dilation")}
    frame = nn.convolution.frame_of(settings.get("padding", 0), w.shape, full["dilation"])
    expected = by_hand(x, w, b, **full, padding=frame, groups=settings.get("groups", 1))
    np.testing.assert_allclose(nn.conv2d(x, w, b, **settings), expected, atol=1e-12)


@each
def test_gradients_of_conv2d(pace, settings):
    x, w, b = numbers(0, 2, 7, 6, 4), numbers(1, 3, 2, 4 // settings.get("groups", 1), 6), numbers(2, 6)
    nn.grad_check(lambda x, w, b: nn.conv2d(x, w, b, **settings), x, w, b, tol=1e-8)
    nn.grad_check(lambda x, w: nn.conv2d(x, w, **settings), x, w, tol=1e-8)


@pytest.mark.parametrize("settings", [dict(), dict(stride=2), dict(stride=(1, 3), padding=1), dict(stride=2, output_padding=1),
                                      dict(dilation=2, groups=2), dict(stride=3, padding=(1, 0), output_padding=(2, 1))], ids=str)
def test_gradients_of_conv_transpose2d(pace, settings):
    x, w, b = numbers(0, 2, 3, 4, 6), numbers(1, 3, 2, 2, 6), numbers(2, 2 * settings.get("groups", 1))
    nn.grad_check(lambda x, w, b: nn.conv_transpose2d(x, w, b, **settings), x, w, b, tol=1e-8)


def test_a_transposed_convolution_is_the_way_back_of_a_convolution(pace):
    x, w, g = numbers(0, 2, 9, 8, 3), numbers(1, 3, 3, 3, 5), numbers(2, 2, 4, 3, 5)
    back = nn.grad(lambda x: np.sum(nn.conv2d(x, w, stride=2) * g))(x)
    painted = nn.conv_transpose2d(g, w, stride=2)  # one column shorter: no window has seen the last
    np.testing.assert_allclose(back[:, :, :7], painted, atol=1e-12)
    assert not back[:, :, 7:].any()


@pytest.mark.parametrize("settings", [dict(), dict(size=3), dict(size=3, stride=2), dict(size=(1, 2)), dict(size=2, stride=(3, 1))], ids=str)
@pytest.mark.parametrize("pool", [nn.max_pool2d, nn.avg_pool2d])
def test_gradients_of_pooling(pace, pool, settings):
    nn.grad_check(lambda x: pool(x, **settings), numbers(0, 2, 7, 8, 3), tol=1e-8)


def test_of_equal_numbers_the_first_gets_the_gradient(pace):
    x = np.array([[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 2.0, 2.0]]).reshape(1, 2, 4, 1)
    slope = nn.grad(lambda x: np.sum(nn.max_pool2d(x)))(x)
    assert slope.reshape(2, 4).tolist() == [[1, 0, 0, 0], [0, 0, 1, 0]]


def test_conv1d_is_conv2d_of_one_row(pace):
    x, w, b = numbers(0, 3, 9, 4), numbers(1, 3, 4, 5), numbers(2, 5)
    y = nn.conv1d(x, w, b, stride=2, padding=1)
    np.testing.assert_allclose(y, nn.conv2d(x[:, None], w[None], b, (1, 2), (0, 1))[:, 0])
    nn.grad_check(lambda x, w, b: nn.conv1d(x, w, b, padding="same", dilation=2), x, w, b, tol=1e-8)


@pytest.mark.parametrize("n", [0, 1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_batches_of_any_size(pace, n, dtype):
    model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1, rng=0, dtype=dtype), nn.relu, nn.MaxPool2d(2), nn.AvgPool2d(2),
                          nn.ConvTranspose2d(4, 3, 2, stride=2, rng=1, dtype=dtype), nn.Flatten(), nn.Linear(48, 5, rng=2, dtype=dtype))
    x = numbers(0, n, 8, 8, 2, dtype=dtype)
    assert model(x).shape == (n, 5) and model(x).dtype == dtype
    slopes = nn.grad(lambda model: np.sum(model(x) ** 2))(model)
    assert all(slope.dtype == dtype and slope.shape == p.shape for slope, p in zip(slopes.values(), model.parameters().values()))
    if n == 0: assert not any(slope.any() for slope in slopes.values())
    assert nn.global_avg_pool(x).shape == (n, 2)


def test_a_kernel_as_large_as_the_image_is_a_linear_layer(pace):
    x, w, b = numbers(0, 4, 5, 6, 3), numbers(1, 5, 6, 3, 7), numbers(2, 7)
    y = nn.conv2d(x, w, b)
    assert y.shape == (4, 1, 1, 7)
    np.testing.assert_allclose(y[:, 0, 0], nn.linear(x.reshape(4, -1), w.reshape(-1, 7), b), atol=1e-12)


def test_numbers_that_lie_scattered_in_memory(pace):
    big, w = numbers(0, 3, 4, 16, 14, 2), numbers(1, 3, 3, 4, 5).transpose(1, 0, 2, 3)
    x = big.transpose(0, 2, 3, 1, 4)[:, ::2, ::-1, :, 1]
    assert not x.flags.c_contiguous and not w.flags.c_contiguous
    tidy = np.ascontiguousarray(x), np.ascontiguousarray(w)
    np.testing.assert_allclose(nn.conv2d(x, w, padding=1), nn.conv2d(*tidy, padding=1), atol=1e-12)
    np.testing.assert_array_equal(nn.max_pool2d(x), nn.max_pool2d(tidy[0]))
    for mine, its in zip(*(nn.grad(lambda pair: np.sum(nn.max_pool2d(nn.conv2d(*pair)) ** 2))(list(pair)) for pair in ((x, w), tidy))):
        np.testing.assert_allclose(mine, its, atol=1e-12)


def test_the_quick_way_is_the_text(pace):
    "Larger than one part of the batch; few and many channels."
    from nn_from_scratch import fast
    for c in 1, 5:
        x, w, b = numbers(0, 40, 20, 20, c), numbers(1, 5, 5, c, 6), numbers(2, 6)
        def loss(x, w, b): return np.sum(np.tanh(nn.max_pool2d(nn.conv2d(x, w, b, padding=1))))
        found = []
        for switch in fast.enable, fast.disable:
            switch()
            found.append(nn.value_and_grad(lambda three: loss(*three))([x, w, b]))
        np.testing.assert_allclose(found[0][0], found[1][0])
        for mine, its in zip(found[0][1], found[1][1]): np.testing.assert_allclose(mine, its, atol=1e-10)


@pytest.mark.parametrize("room, broad", [(40, 3), (400, 40), (2**17, 1600)])
def test_a_batch_in_many_parts_is_the_batch_in_one(monkeypatch, room, broad):
    monkeypatch.setattr(fast_convolution, "room", room)
    monkeypatch.setattr(fast_convolution, "broad", broad)
    x, w, b = numbers(0, 7, 6, 5, 4), numbers(1, 3, 2, 4, 6), numbers(2, 6)
    x = np.round(x * 2)  # with numbers that are equal

    def loss(p): return np.sum(nn.max_pool2d(nn.conv2d(p["x"], p["w"], p["b"], 1, 1)) ** 3) + np.sum(nn.max_pool2d(p["x"]) ** 2)
    fast.enable()
    quick = nn.value_and_grad(loss)(dict(x=x, w=w, b=b))
    fast.disable()
    try: text = nn.value_and_grad(loss)(dict(x=x, w=w, b=b))
    finally: fast.enable()
    assert np.isclose(quick[0], text[0], rtol=1e-12)
    for name in "xwb": np.testing.assert_allclose(quick[1][name], text[1][name], rtol=1e-9, atol=1e-9)


class Loop(nn.Module):
    "The same layers, one after the other."
    def __init__(self, model): self.layers = model.layers
    def __call__(self, x):
        for layer in self.layers: x = layer(x)
        return x


def staged(rng):
    "Some layers of which at least three are one stage, and pictures for them, many of whose numbers are equal."
    rng = np.random.default_rng(rng)
    c, o, n, kh, kw = (int(rng.integers(low, high)) for low, high in ((1, 6), (1, 5), (1, 9), (1, 5), (1, 4)))
    padding = [0, 1, (0, 2), "same", "valid"][rng.integers(0, 5)]
    first = nn.Conv2d(c, o, (kh, kw), padding=padding, bias=bool(rng.integers(0, 4)), rng=rng, dtype=np.float64)
    if first.bias is not None: first.bias[:] = np.round(3 * rng.normal(size=o))
    first.weight[:] = np.round(3 * first.weight)
    two = [nn.relu, nn.MaxPool2d(*[(2,), (2, 2), ((2, 2), (2, 2))][rng.integers(0, 3)])]
    layers = [first, *two[::[1, -1][rng.integers(0, 2)]]]
    if rng.integers(0, 2): layers = [nn.Conv2d(2, c, 1, rng=rng, dtype=np.float64), nn.tanh, *layers]
    x = np.round(2 * rng.normal(size=(n, kh + int(rng.integers(1, 9)), kw + int(rng.integers(1, 9)), layers[0].weight.shape[2])))
    return nn.Sequential(*layers), x


def both_ways(model, x, direction):
    def loss(model, x): return np.sum(model(x) * direction)
    slopes = nn.grad(loss)(model, x)
    return model(x), slopes.vector, nn.grad(lambda x: loss(model, x))(x)


def steps(model, x):
    seen = nn.graph(lambda x: np.sum(model(x)), x)
    return [node["label"] for node in seen[1:-1]]


@pytest.mark.parametrize("room", [1, 300, 2**18])
@pytest.mark.parametrize("seed", range(40))
def test_a_stage_is_its_three_layers(monkeypatch, seed, room):
    monkeypatch.setattr(fast_stages, "room", room)
    fast.enable()
    model, x = staged(seed)
    y = Loop(model)(x)
    direction = numbers(seed, *y.shape)
    assert steps(model, x)[-1] == "stage"
    for mine, its in zip(both_ways(model, x, direction), both_ways(Loop(model), x, direction)):
        assert mine.shape == its.shape and mine.dtype == its.dtype
        np.testing.assert_allclose(mine, its, atol=1e-11)


def test_the_text_of_a_stage():
    x, w, b = numbers(0, 3, 9, 8, 2), numbers(1, 3, 3, 2, 4), numbers(2, 4)
    fast.enable()
    quick = fast_stages.stage(x, w, b, 1)
    fast.disable()
    try: text, three = fast_stages.stage(x, w, b, 1), nn.relu(nn.max_pool2d(nn.conv2d(x, w, b, 1, 1)))
    finally: fast.enable()
    np.testing.assert_array_equal(text, three)
    np.testing.assert_allclose(quick, text, atol=1e-12)
    nn.grad_check(lambda *a: fast_stages.stage(*a, padding=1), x, w, b, tol=1e-8)


class Own(nn.Conv2d):
    def __call__(self, x): return 2 * super().__call__(x)


def conv(**options): return nn.Conv2d(2, 4, 3, rng=0, dtype=np.float64, **options)


NO_STAGES = {
    "stride": lambda: [conv(stride=2), nn.relu, nn.MaxPool2d(2)],
    "dilation": lambda: [conv(dilation=(1, 2)), nn.relu, nn.MaxPool2d(2)],
    "groups": lambda: [conv(groups=2), nn.relu, nn.MaxPool2d(2)],
    "another activation": lambda: [conv(), nn.tanh, nn.MaxPool2d(2)],
    "no activation": lambda: [conv(), nn.MaxPool2d(2)],
    "a wider pool": lambda: [conv(), nn.relu, nn.MaxPool2d(3)],
    "pools that overlap": lambda: [conv(), nn.relu, nn.MaxPool2d(2, 1)],
    "means": lambda: [conv(), nn.relu, nn.AvgPool2d(2)],
    "a layer of one's own": lambda: [Own(2, 4, 3, rng=0, dtype=np.float64), nn.relu, nn.MaxPool2d(2)],
    "relu of one's own": lambda: [conv(), lambda x: nn.relu(x), nn.MaxPool2d(2)],
}


@pytest.mark.parametrize("name", NO_STAGES)
def test_what_is_no_stage(name):
    fast.enable()
    model, x = nn.Sequential(*NO_STAGES[name]()), numbers(0, 3, 12, 12, 2)
    assert "stage" not in steps(model, x)
    for mine, its in zip(both_ways(model, x, 1.0), both_ways(Loop(model), x, 1.0)): np.testing.assert_array_equal(mine, its)


def test_a_rule_of_ones_own_is_heard():
    fast.enable()
    model, x = nn.Sequential(conv(), nn.relu, nn.MaxPool2d(2)), numbers(0, 3, 12, 12, 2)
    nn.defvjp(nn.conv2d, lambda g, y, x, *rest: 0 * x, lambda g, y, x, w, *rest: 0 * w, lambda g, y, x, w, b=0.0, *rest: np.zeros_like(b))
    assert not nn.grad(lambda m: np.sum(m(x)))(model).vector.any()


@pytest.mark.parametrize("x", [X := numbers(0, 2, 9, 9, 2), X[..., 0], X[..., :1], X[:, :3], X[:, :2], X[:0], X.astype(int), X.astype(np.float32), X.tolist(),
                               X.transpose(0, 3, 1, 2), X.reshape(2, -1)], ids=lambda x: str(getattr(x, "shape", "list")))
@pytest.mark.parametrize("change", [{}, {"padding": -1}, {"padding": "full"}, {"bias": np.zeros(3)}, {"bias": np.zeros(4, np.float32)},
                                    {"weight": np.zeros((3, 3, 2))}, {"stride": "a"}], ids=str)
def test_a_stage_answers_as_its_layers_do(x, change):
    fast.enable()
    model = nn.Sequential(conv(), nn.relu, nn.MaxPool2d(2))
    for name, value in change.items(): setattr(model[0], name, value)
    found = []
    for net in model, Loop(model):
        try: found.append(net(x))
        except Exception as error: found.append((type(error), str(error)))
    if isinstance(found[1], tuple): assert found[0] == found[1]
    else: np.testing.assert_allclose(found[0], found[1], atol=1e-12)


def test_a_frozen_layer_in_a_stage():
    fast.enable()
    model, x = nn.Sequential(conv(), nn.relu, nn.MaxPool2d(2), conv2 := nn.Conv2d(4, 3, 2, rng=1, dtype=np.float64), nn.MaxPool2d(2), nn.relu), numbers(0, 3, 12, 12, 2)
    conv2.freeze()
    before = model.parameters().vector.copy()
    nn.fit(model, lambda p, y: np.sum(p ** 2), nn.SGD(0.01), (x, np.zeros(3)), epochs=2, progress=False)
    after = model.parameters()
    assert (before != after.vector).any() and (conv2.weight == nn.Conv2d(4, 3, 2, rng=1, dtype=np.float64).weight).all()


def test_windows_are_a_view():
    x = numbers(0, 1, 5, 5, 1)
    assert np.shares_memory(windows_of(x, (3, 3)), x)


def test_flatten_goes_channel_by_channel():
    x = numbers(0, 2, 3, 4, 5)
    np.testing.assert_array_equal(nn.Flatten()(x), x.transpose(0, 3, 1, 2).reshape(2, -1))
    np.testing.assert_array_equal(nn.Flatten()(x[:, 0, 0]), x[:, 0, 0])


@pytest.mark.parametrize("init", [nn.he_normal, nn.glorot_uniform, nn.lecun_normal])
def test_first_kernels_know_how_much_they_see(init):
    w = nn.Conv2d(32, 64, 5, init=init, rng=0).weight
    seen = 25 * 32
    expected = {"he_normal": 2 / seen, "glorot_uniform": 2 / (seen + 64), "lecun_normal": 1 / seen}[init.__name__]
    assert w.shape == (5, 5, 32, 64) and abs(w.var() / expected - 1) < 0.05
    assert nn.Conv2d(32, 64, 5, groups=4, rng=0).weight.var() == pytest.approx(2 / (seen / 4), rel=0.05)


def test_how_layers_print():
    layers = [nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(4, 8, (3, 1), stride=2, groups=2, bias=False), nn.Conv1d(4, 8, 5, padding="same"),
              nn.ConvTranspose2d(8, 4, 2, stride=2, groups=2), nn.MaxPool2d(2), nn.AvgPool2d(3, stride=2), nn.Flatten()]
    assert [repr(layer) for layer in layers] == [
        "Conv2d(3, 16, 3, padding=1)", "Conv2d(4, 8, (3, 1), stride=2, groups=2, bias=False)", "Conv1d(4, 8, 5, padding='same')",
        "ConvTranspose2d(8, 4, 2, stride=2, groups=2)", "MaxPool2d(2)", "AvgPool2d(3, stride=2)", "Flatten()"]


X, W, V = np.zeros((2, 8, 8, 3)), np.zeros((3, 3, 1, 4)), np.zeros((2, 3, 4))
MISTAKES = {
    "conv2d: the image has 3 channels, the kernel expects 1": lambda: nn.conv2d(X, W),
    "conv2d: x must be images, (n, height, width, channels), but it is (2, 64) (try x.reshape(-1, 8, 8, 1))":
        lambda: nn.conv2d(np.zeros((2, 64)), W),
    "but it is (2, 8, 8) (try x[..., None])": lambda: nn.conv2d(X[..., 0], W),
    "but it is (8, 8, 1) (try x[None])": lambda: nn.conv2d(X[0, :, :, :1], W),
    "conv2d: the image is 2 pixels high, the kernel 3: it fits nowhere": lambda: nn.conv2d(X[:, :2, :, :1], W),
    "conv2d: the image is 4 pixels wide with its padding, the kernel 5": lambda: nn.conv2d(X[:, :, :2, :1], W, padding=1, dilation=2),
    "conv2d: there are 4 kernels but the bias is (3,)": lambda: nn.conv2d(X[..., :1], W, np.zeros(3)),
    'conv2d: padding="same" needs stride=1, but it is 2': lambda: nn.conv2d(X[..., :1], W, stride=2, padding="same"),
    "conv2d: stride must be a whole number of at least 1": lambda: nn.conv2d(X[..., :1], W, stride=0),
    "conv2d: stride must be one number or two": lambda: nn.conv2d(X[..., :1], W, stride=(1, 2, 3)),
    "conv2d: padding must be a whole number of at least 0": lambda: nn.conv2d(X[..., :1], W, padding="full"),
    "conv2d: 4 kernels cannot be shared out among 3 groups": lambda: nn.conv2d(X, W, groups=3),
    "conv_transpose2d: the image has 3 channels, the kernel expects 4": lambda: nn.conv_transpose2d(X, W),
    "conv2d: the image has 8 channels, the kernel expects 1 (x is (2, 1, 8, 8), w is (3, 3, 1, 4)); channels come last: try x.transpose(0, 2, 3, 1)":
        lambda: nn.conv2d(X[..., :1].transpose(0, 3, 1, 2), W),
    "but it is (2, 192) (try x.reshape(-1, 8, 8, 3))": lambda: nn.conv2d(X.reshape(2, -1), W),
    "but it is (2, 77)": lambda: nn.conv2d(np.zeros((2, 77)), W),
    "Conv2d: the pictures have different sizes, (8, 8, 3) and (9, 8, 3)": lambda: nn.Conv2d(3, 4, 3)([X[0], np.zeros((9, 8, 3))]),
    "the rows of x must all be of one shape, but they are of several": lambda: nn.fit(nn.Sequential(nn.Conv2d(3, 4, 3), nn.global_avg_pool), nn.cross_entropy, nn.Adam(0.1),
                                                                 ([X[0], np.zeros((9, 8, 3))], np.zeros(2, int))),
    "conv1d: the sequence has 9 channels, the kernel expects 3 (x is (2, 3, 9), w is (2, 3, 4)); channels come last: try x.transpose(0, 2, 1)":
        lambda: nn.conv1d(np.zeros((2, 3, 9)), V),
    "conv1d: the sequence has 3 channels, the kernel expects 6 in 2 groups": lambda: nn.conv1d(np.zeros((2, 9, 3)), V, groups=2),
    "conv1d: the sequence has 1 places, the kernel 2: it fits nowhere": lambda: nn.conv1d(np.zeros((2, 1, 3)), V),
    "conv1d: the sequence has 3 places with its padding, the kernel 5": lambda: nn.conv1d(np.zeros((2, 1, 3)), V, padding=1, dilation=4),
    "conv1d: there are 4 kernels but the bias is (3,) (w is (2, 3, 4))": lambda: nn.conv1d(np.zeros((2, 9, 3)), V, np.zeros(3)),
    'conv1d: padding must be a whole number of at least 0, "same" or "valid", not (1, 1)': lambda: nn.conv1d(np.zeros((2, 9, 3)), V, padding=(1, 1)),
    'conv1d: padding="same" needs stride=1, but it is 2': lambda: nn.conv1d(np.zeros((2, 9, 3)), V, padding="same", stride=2),
    "conv_transpose2d: output_padding must be smaller than the stride or the dilation, but it is 2":
        lambda: nn.conv_transpose2d(X, W.transpose(0, 1, 3, 2)[..., [0, 0, 0]], stride=2, output_padding=2),
    "conv_transpose2d: with a padding of 9 the image that comes out would be -8 pixels high": lambda: nn.conv_transpose2d(X, W[..., :3], padding=9),
    "conv_transpose2d: 1 channels come out but the bias is (2,)": lambda: nn.conv_transpose2d(X, W[..., :3], np.zeros(2)),
    "global_avg_pool: x must be images, (n, height, width, channels), but it is (8, 8, 3) (try x[None])": lambda: nn.global_avg_pool(X[0]),
    "conv1d: x must be sequences, (n, length, channels), but it is (2, 8, 8, 3)": lambda: nn.conv1d(X, W),
    "max_pool2d: the image is 8 pixels high, the window 9": lambda: nn.max_pool2d(X, 9),
    "avg_pool2d: x must be images": lambda: nn.avg_pool2d(X[0]),
    "Conv2d: n_out must be a whole number of at least 1, not 0": lambda: nn.Conv2d(3, 0, 3),
    "Conv2d: 3 channels cannot be shared out among 2 groups": lambda: nn.Conv2d(3, 4, 3, groups=2),
    "ConvTranspose2d: padding must be a whole number of at least 0": lambda: nn.ConvTranspose2d(3, 4, 3, padding="same"),
    "MaxPool2d: size must be a whole number of at least 1": lambda: nn.MaxPool2d(0),
}


@pytest.mark.parametrize("words", MISTAKES)
def test_mistakes_in_the_users_words(pace, words):
    with pytest.raises(ValueError) as caught: MISTAKES[words]()
    assert words in str(caught.value)


def test_whole_numbers_are_refused(pace):
    with pytest.raises(TypeError, match="conv2d: x must be floating-point numbers, not int64"): nn.conv2d(X[..., :1].astype(int), W)


@pytest.mark.parametrize("make, words", [
    (lambda: nn.Conv2d(3, 8), "Conv2d() missing 1 required positional argument: 'kernel_size'"),
    (lambda: nn.Conv2d(in_channels=3, out_channels=8, kernel_size=3), "Conv2d() got an unexpected keyword argument"),
    (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool2d), "Sequential: layer 1 is a class, not a layer: MaxPool2d(…) makes one"),
    (lambda: nn.conv1d(np.zeros((2, 9, 3), int), V), "conv1d: x must be floating-point numbers, not int64"),
    (lambda: nn.global_avg_pool(X.astype(int)), "global_avg_pool: x must be floating-point numbers, not int64"),
])
def test_what_is_of_another_kind(make, words):
    with pytest.raises(TypeError) as caught: make()
    assert words in str(caught.value)


def test_lists_of_pictures():
    assert nn.Conv2d(3, 4, 3)(list(X)).shape == (2, 6, 6, 4) and nn.Flatten()(X.tolist()).shape == (2, 192)


def test_a_network_of_kernels_learns_and_its_checkpoint_is_whole(tmp_path):
    x, y = nn.load_digits()
    x = x.reshape(-1, 8, 8, 1)[:600]
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, rng=0), nn.relu, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 10, rng=1))
    nn.fit(model, nn.cross_entropy, nn.Adam(0.01), (x, y[:600]), epochs=5, progress=False)
    assert nn.accuracy(nn.predict(model, x), y[:600]) > 0.95
    nn.save(model, tmp_path / "m.safetensors")
    again = nn.load(tmp_path / "m.safetensors")
    assert repr(again) == repr(model)
    np.testing.assert_array_equal(again(x[:5]), model(x[:5]))


def test_every_layer_of_a_file_comes_back(tmp_path):
    model = nn.Sequential(nn.Conv2d(2, 4, (3, 1), stride=(2, 1), padding=(1, 0), groups=2, rng=0), nn.relu, nn.AvgPool2d(3, stride=1),
                          nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2, bias=False, rng=1),
                          nn.MaxPool2d((2, 1)), nn.global_avg_pool)
    nn.save(model, tmp_path / "m")
    x, again = numbers(0, 3, 9, 7, 2, dtype=np.float32), nn.load(tmp_path / "m")
    assert repr(again) == repr(model)
    np.testing.assert_array_equal(again(x), model(x))


@pytest.mark.parametrize("change", [{"stride": 0}, {"padding": -1}, {"padding": "full"}, {"groups": 2**40}, {"groups": 3}, {"dilation": 1.5},
                                    {"stride": [1, 2, 3]}, {"size": 2}, {"groups": True}, {"stride": None}], ids=str)
def test_a_file_with_odd_options_is_refused(tmp_path, change):
    import json
    import struct
    nn.save(nn.Sequential(nn.Conv2d(1, 4, 3, rng=0)), tmp_path / "m")
    data = (tmp_path / "m").read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    note = json.loads(header["__metadata__"]["nn_from_scratch"])
    note["model"]["layers"][0] |= change
    header["__metadata__"]["nn_from_scratch"] = json.dumps(note)
    text = json.dumps(header).encode()
    (tmp_path / "m").write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size:])
    with pytest.raises(ValueError, match="load: "): nn.load(tmp_path / "m")


@pytest.mark.skipif(sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs Linux and glibc")
def test_what_a_step_frees_the_next_one_takes_again():
    "Page faults of four rounds of 120 MB, counted: some 7,000 a round where the memory is given back."
    count = """import resource, sys
import numpy as np
if sys.argv[1] == "kept": import nn_from_scratch
def round(): return [np.ones(2**20) for _ in range(15)]
round()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4): round()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 4)"""
    said = {how: int(subprocess.run([sys.executable, "-c", count, how], capture_output=True, text=True, check=True).stdout) for how in ("kept", "plain")}
    assert said["kept"] < 100 < 1000 < said["plain"], said


def test_pictures():
    plt = pytest.importorskip("matplotlib.pyplot")
    model = nn.Sequential(nn.Conv2d(1, 4, 3, rng=0), nn.relu, nn.Conv2d(4, 6, 3, rng=1), nn.relu, nn.Flatten(), nn.Linear(96, 10, rng=2))
    x = nn.load_digits()[0][:1].reshape(8, 8, 1)
    assert len(nn.plot_kernels(model[0])) == 4 and len(nn.plot_kernels(model[2])) == 24
    assert len(nn.plot_feature_maps(model[:2](x[None])[0])) == 4
    assert len(nn.plot_saliency(model, x)) == 2
    ax = nn.plot_receptive_field(model[:3], (9, 9, 1))
    assert ax.get_title() == "5 × 5"
    plt.close("all")
