"The fast forms in `speed` against the plain ones of the chapters: the same numbers, the same errors, in every case that the plain ones know."

import copy

import numpy as np
import pytest

from nn_from_scratch import (
    Adam,
    Linear,
    Module,
    Sequential,
    cross_entropy,
    defvjp,
    fit,
    grad,
    mlp,
    operation,
    relu,
    softmax,
    stop_gradient,
    tanh,
    value_and_grad,
)
from nn_from_scratch.functions import activations
from nn_from_scratch.rules import table
from nn_from_scratch.tape import Tape

CLOSE = {np.dtype(np.float32): {"rtol": 2e-4, "atol": 2e-6}, np.dtype(np.float64): {"rtol": 1e-11, "atol": 1e-14}}


class Loop(Module):
    "The same layers as a Sequential, in the loop of chapter 1."
    def __init__(self, sequential): self.layers = sequential.layers

    def __call__(self, x):
        for layer in self.layers: x = layer(x)
        return x


def steps(model, x):
    "How many steps a call puts on the tape; x is the leaf."
    return len(model(Tape().leaf(x)).tape.steps) - 1


def random_chain(rng, dtype):
    "A Sequential of up to five linear layers, with and without biases and activations."
    layers, width = [], int(rng.integers(1, 9))
    first = width
    for _ in range(rng.integers(1, 6)):
        layers.append(Linear(width, width := int(rng.integers(1, 9)), bias=bool(rng.integers(0, 4)), rng=rng, dtype=dtype))
        if layers[-1].bias is not None: layers[-1].bias[...] = rng.normal(size=width)
        if rng.integers(0, 3): layers.append(list(activations.values())[rng.integers(0, len(activations))])
    return Sequential(*layers), rng.normal(size=(int(rng.integers(1, 40)), first)).astype(dtype)


def same(fast, plain):
    fast, plain = np.asarray(fast), np.asarray(plain)
    assert fast.dtype == plain.dtype and fast.shape == plain.shape
    np.testing.assert_allclose(fast, plain, **CLOSE[plain.dtype])


def everything(model, x, direction):
    "Outputs, a loss of them, and its gradients for the model and for x."
    def loss(model, x): return np.sum(model(x) * direction)
    value, g = value_and_grad(loss)(model, x)
    return model(x), value, g.vector, grad(lambda x: loss(model, x))(x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(60))
def test_a_chain_is_its_loop(seed, dtype):
    rng = np.random.default_rng(seed)
    model, x = random_chain(rng, dtype)
    direction = rng.normal(size=model(x).shape).astype(dtype)
    before = x.copy(), direction.copy(), model.parameters().vector.copy()
    for fast, plain in zip(everything(model, x, direction), everything(Loop(model), x, direction), strict=True): same(fast, plain)
    if 1 not in [len(x) * layer.weight.shape[0] for layer in model.layers if isinstance(layer, Linear)] + \
            [layer.weight.size for layer in model.layers if isinstance(layer, Linear)] + [len(x) * model(x).shape[1]]:
        assert steps(model, x) == 1
    for a, b in zip((x, direction, model.parameters().vector), before, strict=True): assert (a == b).all()  # nothing given was written into


def test_predictions_stay_when_the_next_are_made():
    model, rng = mlp([3, 8, 2], rng=0), np.random.default_rng(0)
    both = [(x, model(x).copy(), model(x)) for x in rng.normal(size=(2, 5, 3)).astype(np.float32)]
    value_and_grad(lambda m: np.sum(m(both[0][0])))(model)
    for _, then, now in both: assert (then == now).all()


def test_a_gradient_taken_twice_is_the_same():
    model, x = mlp([3, 8, 8, 2], tanh, rng=0), np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    gradient = value_and_grad(lambda m: np.sum(m(x) ** 2))
    first = gradient(model)[1].vector.copy()
    assert (gradient(model, out=gradient(model)[1])[1].vector == first).all()


X = np.random.default_rng(5).normal(size=(6, 4))
SHARED = Linear(4, 4, rng=3, dtype=np.float64)


class Twice(Linear):
    "A linear layer of one's own."
    def __call__(self, x): return 2 * super().__call__(x)


@operation
def cube(x): return x ** 3


@pytest.fixture(autouse=True)
def cubes_row(monkeypatch):
    monkeypatch.setitem(table, cube, (lambda g, y, x: 3 * g * x * x,))


OTHERS = {  # what is no chain, or not to its end -> how many steps it makes
    "a function of NumPy": (lambda: [Linear(4, 3, rng=0, dtype=np.float64), np.tanh], 2),
    "an operation of one's own": (lambda: [Linear(4, 3, rng=0, dtype=np.float64), cube, Linear(3, 2, rng=0, dtype=np.float64)], 3),
    "a layer of one's own": (lambda: [Linear(4, 3, rng=0, dtype=np.float64), Twice(3, 3, rng=0, dtype=np.float64), relu], 4),
    "an activation first": (lambda: [tanh, Linear(4, 3, rng=0, dtype=np.float64)], 1),  # tanh of plain numbers is none
    "two activations": (lambda: [Linear(4, 3, rng=0, dtype=np.float64), tanh, relu], 2),
    "softmax": (lambda: [Linear(4, 3, rng=0, dtype=np.float64), softmax], 2),
    "a layer twice": (lambda: [SHARED, tanh, SHARED], 1),
    "a chain in it": (lambda: [mlp([4, 5, 3], rng=0, dtype=np.float64), np.tanh], 2),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_chain_ends_where_it_knows_no_further(name):
    layers, n = OTHERS[name]
    model = Sequential(*layers())
    direction = np.random.default_rng(1).normal(size=model(X).shape)
    for fast, plain in zip(everything(model, X, direction), everything(Loop(model), X, direction), strict=True): same(fast, plain)
    def counted(model):
        y = model(X)
        found.append(sum(step is not None for step in y.tape.steps))
        return np.sum(y)
    found = []
    value_and_grad(counted)(model)
    assert found == [n]


@pytest.mark.parametrize("x", [X.astype(int), X.astype(np.float32), X[0], X.reshape(2, 3, 4), X[:0], np.asfortranarray(X), X[::-2]],
                         ids=["whole numbers", "float32", "one sample", "three axes", "no samples", "Fortran order", "a view"])
def test_inputs_of_every_kind(x):
    model = mlp([4, 5, 3], rng=0, dtype=np.float64)
    same(model(x), Loop(model)(x))
    for fast, plain in zip(value_and_grad(lambda m: np.sum(m(x)))(model), value_and_grad(lambda m: np.sum(m(x)))(Loop(model)), strict=True):
        same(getattr(fast, "vector", fast), getattr(plain, "vector", plain))


def broken(change):
    model = mlp([4, 5, 3], rng=0)
    change(model)
    return model


@pytest.mark.parametrize("model, x", [
    (mlp([3, 5, 2], rng=0), X.astype(np.float32)),
    (Sequential(Linear(4, 5, rng=0), relu, Linear(6, 2, rng=0)), X.astype(np.float32)),
    (broken(lambda m: setattr(m.layers[0], "bias", np.zeros(4, np.float32))), X.astype(np.float32)),
    (broken(lambda m: setattr(m.layers[0], "bias", np.zeros(1, np.float32))), X.astype(np.float32)),
    (broken(lambda m: setattr(m.layers[0], "weight", np.zeros((4, 5, 1), np.float32))), X.astype(np.float32)),
    (broken(lambda m: setattr(m.layers[2], "weight", None)), X.astype(np.float32)),
    (mlp([3, 5, 2], rng=0), np.float32(3)),
])
def test_a_mistake_is_answered_as_the_loop_answers_it(model, x):
    with pytest.raises((ValueError, TypeError, AttributeError)) as plain: Loop(model)(x)
    with pytest.raises(plain.type) as fast: model(x)
    assert str(fast.value) == str(plain.value)


def test_whoever_puts_in_another_rule_gets_it():
    model, before = mlp([4, 5, 5, 3], rng=0, dtype=np.float64), table[relu]
    plain = grad(lambda m: np.sum(m(X)))(model).vector.copy()
    try:
        defvjp(relu, lambda g, y, x: 2 * g * (y > 0))
        doubled = grad(lambda m: np.sum(m(X)))(model)
    finally: table[relu] = before
    assert np.allclose(doubled["0.weight"], 4 * grad(lambda m: np.sum(m(X)))(model)["0.weight"])
    assert (grad(lambda m: np.sum(m(X)))(model).vector == plain).all()


def test_weights_that_are_used_elsewhere_too():
    def penalised(model):
        y = model(X)
        return np.sum(y * y) + 0.1 * np.sum(model.layers[0].weight ** 2) + 0.1 * np.sum(model.layers[2].bias * 3.0)
    def before(model):  # the penalty stands before the call on the tape
        penalty = 0.1 * np.sum(model.layers[0].weight ** 2)
        return penalty + np.sum(model(X) ** 2)
    def twice(model): return np.sum(model(X) * model(-X))
    def one_gradient_for_two(model): return np.sum(3.0 * (model(X) + model(-X)))  # the addition hands the same array to both
    model = mlp([4, 5, 3], tanh, rng=0, dtype=np.float64)
    for net in model, Sequential(*model.layers, relu):
        for f in penalised, before, twice, one_gradient_for_two: same(grad(f)(net).vector, grad(f)(Loop(net)).vector)


class AutoEncoder(Module):
    def __init__(self, encoder, decoder): self.encoder, self.decoder = encoder, decoder
    def __call__(self, x): return self.decoder(tanh(self.encoder(x)))


def test_one_chain_feeds_another():
    encoder, decoder = mlp([4, 5, 2], rng=0, dtype=np.float64), mlp([2, 5, 4], rng=1, dtype=np.float64)
    loss = lambda model: np.sum((model(X) - X) ** 2)
    same(grad(loss)(AutoEncoder(encoder, decoder)).vector, grad(loss)(AutoEncoder(Loop(encoder), Loop(decoder))).vector)
    fixed = lambda model: np.sum((model.decoder(stop_gradient(model.encoder(X))) - X) ** 2)
    found = grad(fixed)(AutoEncoder(encoder, decoder))
    assert not found["encoder.0.weight"].any() and found["decoder.0.weight"].any()


def test_a_run_ends_where_the_loop_ends():
    x, y = X.astype(np.float32), np.array([0, 1, 2, 0, 1, 2])
    fast = mlp([4, 8, 3], rng=0)
    plain = Loop(copy.deepcopy(fast))
    for model in fast, plain: fit(model, cross_entropy, Adam(0.01), (x, y), epochs=30, batch_size=2, progress=False)
    np.testing.assert_allclose(fast.parameters().vector, plain.parameters().vector, rtol=1e-3, atol=1e-4)


def test_gradients_go_where_they_are_wanted_though_there_be_gaps():
    layer = Linear(4, 3, dtype=np.float64)
    def loss(parameters):
        layer.weight, layer.bias = parameters["w"], parameters["b"]
        return np.sum(Sequential(layer, tanh)(X))
    parameters = {"w": np.random.default_rng(0).normal(size=(4, 3)), "b": np.zeros(3)}
    out = {"w": np.zeros((4, 6))[:, ::2], "b": np.zeros(6)[::2]}
    value_and_grad(loss)(parameters, out=out)
    layer.weight, layer.bias = parameters["w"], parameters["b"]
    for name, g in grad(lambda m: np.sum(m(X)))(Loop(Sequential(layer, tanh))).items(): same(out["w" if "weight" in name else "b"], g)


@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
@pytest.mark.parametrize("n", [1, 7, 300])
def test_labels_of_every_kind_of_whole_number(kind, n):
    rng = np.random.default_rng(n)
    logits, labels = rng.normal(size=(n, 100)), rng.integers(0, 100, n)
    found, g = value_and_grad(lambda z: cross_entropy(z, labels.astype(kind)))(logits)
    e = np.exp(logits)
    assert np.isclose(found, -np.log(e[np.arange(n), labels] / e.sum(axis=1)).mean(), rtol=1e-12)
    np.testing.assert_allclose(g, (e / e.sum(axis=1, keepdims=True) - np.eye(100)[labels]) / n, atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_recorded_loss_is_the_plain_one_to_the_bit(dtype):
    rng = np.random.default_rng(0)
    for _ in range(200):
        n, k = rng.integers(1, 300), rng.integers(2, 30)
        logits, labels = (rng.normal(size=(n, k)) * rng.choice([0.1, 1, 30])).astype(dtype), rng.integers(0, k, n)
        assert value_and_grad(cross_entropy)(logits, labels)[0] == cross_entropy(logits, labels)


@pytest.mark.parametrize("labels", [[0, 3], [0, -1], [0.0, 1.0], [True, False], [0, 2**62]])
def test_labels_that_are_none_are_named(labels):
    logits, labels = np.zeros((2, 3)), np.array(labels)
    with pytest.raises((ValueError, TypeError)) as plain: cross_entropy(logits, labels)
    with pytest.raises(plain.type) as fast: grad(lambda z: cross_entropy(z, labels))(logits)
    assert str(fast.value) == str(plain.value)


# ---------------------------------------------------------------- what a chain must leave to the loop

def L(seed, n_in=4, n_out=4): return Linear(n_in, n_out, rng=seed, dtype=np.float64)


def test_a_bias_that_two_layers_share():
    a, b = L(0), L(1)
    b.bias = a.bias
    model = Sequential(a, tanh, b)
    same(grad(lambda m: np.sum(m(X)))(model).vector, grad(lambda m: np.sum(m(X)))(Loop(model)).vector)


def test_a_bias_of_another_gradient_is_refused():
    layer = L(0)
    parameters = {"w": layer.weight.copy(), "b": np.ones(4)}
    def both(p):
        layer.weight, layer.bias = p["w"], p["b"]
        return np.sum(Sequential(layer)(X))
    def weight(w):
        layer.weight = w
        return np.sum(Sequential(layer)(X))
    grad(both)(parameters)
    with pytest.raises(TypeError, match="two different gradients"): grad(weight)(parameters["w"])


@pytest.mark.parametrize("n_in, n_out, x", [(1, 1, [[np.nan], [np.inf], [1]]), (1, 3, [[0]]), (4, 1, [[np.nan, 1, 2, 3]])])
def test_nan_is_not_lost_where_a_factor_is_a_single_number(n_in, n_out, x):
    model, x = Sequential(L(0, n_in, n_out)), np.array(x, float)
    model.layers[0].weight[...] = 0
    if n_in == 1 and n_out == 3: model.layers[0].weight[0, 0] = np.nan
    with np.errstate(all="ignore"): found, wanted = everything(model, x, 0.0), everything(Loop(model), x, 0.0)
    for fast, plain in zip(found, wanted, strict=True): np.testing.assert_array_equal(fast, plain)


@pytest.mark.parametrize("dtype, tol", [(np.float16, 2e-3), (np.float32, 1e-6), (np.float64, 1e-14)])
@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0])
def test_the_slope_of_the_loss_for_any_scale(dtype, tol, scale):
    z, y = np.zeros((1000, 100), dtype), np.zeros(1000, int)
    with np.errstate(all="raise", under="ignore"): found = grad(lambda z: dtype(scale) * cross_entropy(z, y))(z)
    wanted = scale * (0.01 - np.eye(100)[0]) / 1000
    np.testing.assert_allclose(found[0].astype(float), wanted, rtol=tol, atol=6e-8 if dtype == np.float16 else 0)


def test_gradients_into_arrays_of_any_kind():
    layer = L(0)
    w = layer.weight.copy()
    def f(w):
        layer.weight, layer.bias = w, None
        return np.sum(Sequential(layer)(X))
    wanted = grad(f)(w)
    same(grad(f)(np.asfortranarray(w)), wanted)
    out = np.zeros((4, 8))[:, ::2]
    value_and_grad(f)(w, out=out)
    same(out, wanted)
    assert np.allclose(grad(lambda p: f(p["w"]))({"w": w.astype(">f8")})["w"], wanted)


def test_layers_of_any_kind():
    layers = [L(0), tanh, L(1)]
    class Stack(Module):
        def __init__(self, layers): self.held = layers
        def __iter__(self): return iter(self.held)
    for kind in (tuple, lambda layers: Stack(list(layers)), lambda layers: dict(enumerate(layers)).values()):
        model = Sequential(*layers)
        model.layers = kind(layers)
        same(model(X), Sequential(*layers)(X))


def test_a_linear_layer_that_was_given_another_call(monkeypatch):
    plain, seen = Linear.__call__, []
    monkeypatch.setattr(Linear, "__call__", lambda self, x: seen.append(self) or plain(self, x))
    Sequential(L(0), tanh, L(1))(X)
    assert len(seen) == 2


class Bag(Module):
    def __init__(self, **parts): self.__dict__.update(parts)


def test_a_parameter_that_is_renamed_is_noticed():
    def renames(m):
        loss = np.sum(m.w ** 2)
        m.scale = m.w
        del m.w
        return loss
    model = Bag(w=np.ones(3))
    with pytest.raises(RuntimeError, match="'w' was replaced"): value_and_grad(renames)(model)
    assert list(vars(model)) == ["w"] and (grad(lambda m: np.sum(m.w ** 2))(model)["w"] == 2).all()
    model.parameters()
    model.scale = model.__dict__.pop("w")
    assert (grad(lambda m: np.sum(m.scale ** 2))(model)["scale"] == 2).all()
