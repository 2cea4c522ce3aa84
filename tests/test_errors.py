"""A user's mistake is answered where it is made, in the user's words, with the numbers."""

import traceback

import numpy as np
import pytest

import nn_from_scratch as nn

f32 = np.float32
x, y = np.ones((6, 4), f32), np.array([0, 1, 2, 0, 1, 2])
logits = np.zeros((6, 3), f32)
target = np.full((6, 3), 0.5, f32)


def model(): return nn.mlp([4, 5, 3], rng=0)


def says(error, *words, f):
    "`f` raises `error`, and its message has all the words; returns the message."
    with pytest.raises(error) as caught: f()
    message = str(caught.value)
    for word in words: assert word in message, f"{word!r} is not in: {message}"
    assert "\n\n" not in message and len(message) < 400
    return message


ValueOrType = (ValueError, TypeError)

mistakes = {
    # forward
    "weighted_sum: shapes": (lambda: nn.weighted_sum(np.ones((3, 2)), np.ones(4), 0.0), ValueError, ["2", "4"]),
    "weighted_sum: lists": (lambda: nn.weighted_sum(np.ones((3, 2)), np.ones((4, 2)), np.ones(2)), ValueError, ["2", "4"]),
    "linear: features": (lambda: nn.linear(np.ones((32, 784)), np.ones((64, 10)), np.ones(10)), ValueError,
                         ["linear: x has 784 features but the weight expects 64 (x is (32, 784), w is (64, 10))"]),
    "linear: weight of one axis": (lambda: nn.linear(x, np.ones(4)), ValueError, ["two axes", "(4,)"]),
    "linear: x is a number": (lambda: nn.linear(np.array(1.0), np.ones((4, 2))), ValueError, ["4"]),
    "linear: bias of another length": (lambda: nn.linear(x, np.ones((4, 2)), np.ones(3)), ValueError, ["2 outputs", "(3,)"]),
    "linear: bias of two axes": (lambda: nn.linear(x, np.ones((4, 2)), np.ones((1, 2))), ValueError, ["2 outputs", "(1, 2)"]),
    "model: features": (lambda: model()(np.ones((6, 3))), ValueError, ["3 features", "expects 4"]),
    "model: text": (lambda: model()(np.array([["a", "b", "c", "d"]])), ValueOrType, ["could not convert"]),
    "Linear: no inputs": (lambda: nn.Linear(0, 3), ValueError, ["n_in", "at least 1", "0"]),
    "Linear: negative": (lambda: nn.Linear(3, -1), ValueError, ["n_out", "-1"]),
    "Linear: half a neuron": (lambda: nn.Linear(3, 2.5), ValueError, ["n_out", "2.5"]),
    "Linear: text": (lambda: nn.Linear("3", 2), ValueError, ["n_in", "'3'"]),
    "Linear: whole numbers as dtype": (lambda: nn.Linear(3, 2, dtype=int), ValueOrType, ["dtype", "float"]),
    "mlp: whole numbers as dtype": (lambda: nn.mlp([3, 2], dtype=np.int32), ValueOrType, ["dtype", "float"]),
    "mlp: one size": (lambda: nn.mlp([64]), ValueError, ["[64, 10]", "[64]"]),
    "mlp: no size": (lambda: nn.mlp([]), ValueError, ["[]"]),
    "mlp: a number": (lambda: nn.mlp(64), ValueOrType, ["sizes", "64"]),
    "mlp: a size of zero": (lambda: nn.mlp([4, 0, 2]), ValueError, ["at least 1", "0"]),
    "mlp: half a unit": (lambda: nn.mlp([4, 2.5, 2]), ValueError, ["2.5"]),
    "mlp: activation by name": (lambda: nn.mlp([4, 3, 2], activation="relu"), TypeError, ["'relu'", "callable"]),
    "mlp: activation by name, nothing between": (lambda: nn.mlp([4, 3, 2], "tanh")(x), TypeError, ["'tanh'"]),
    "Sequential: an array": (lambda: nn.Sequential(nn.Linear(2, 2), np.ones(3)), TypeError, ["layer 1", "callable"]),
    "Sequential: a list": (lambda: nn.Sequential([nn.Linear(2, 2), nn.relu]), TypeError, ["layer 0", "callable"]),
    "Module: no __call__": (lambda: type("Mine", (nn.Module,), {})()(x), NotImplementedError, ["Mine", "__call__"]),
    "Parameters: unknown name": (lambda: model().parameters()["1.weight"], KeyError, ["1.weight", "2.weight"]),
    "Parameters: lengths": (lambda: nn.Parameters({"a": (2, 2)}, np.ones(5)), ValueError, ["4", "5"]),
    # losses
    "mse: (n, 1) with (n,)": (lambda: nn.mse(np.ones((6, 1)), np.ones(6)), ValueError, ["(6, 1)", "(6,)", "target.reshape"]),
    "mse: (n,) with (n, 1)": (lambda: nn.mse(np.ones(6), np.ones((6, 1))), ValueError, ["(6, 1)", "(6,)", "prediction.reshape"]),
    "mse: a number with many": (lambda: nn.mse(np.ones(6), 1.0), ValueError, ["(6,)", "()"]),
    "mae: shapes": (lambda: nn.mae(logits, target[:5]), ValueError, ["mae", "(6, 3)", "(5, 3)"]),
    "huber: shapes": (lambda: nn.huber(logits, target.T), ValueError, ["huber", "(6, 3)", "(3, 6)"]),
    "mse: nothing": (lambda: nn.mse(np.ones((0, 2)), np.ones((0, 2))), ValueError, ["nothing", "(0, 2)"]),
    "mae: nothing": (lambda: nn.mae(np.ones(0), np.ones(0)), ValueError, ["nothing"]),
    "mse: whole numbers": (lambda: nn.mse(np.array([1, 2]), np.array([1.5, 2.5])), TypeError, ["int64", "astype"]),
    "mse: weight of another length": (lambda: nn.mse(logits, target, np.ones(5)), ValueError, ["(6,)", "(5,)"]),
    "mse: weight of two axes": (lambda: nn.mse(logits, target, np.ones((6, 3))), ValueError, ["one number a sample", "(6, 3)"]),
    "mse: negative weight": (lambda: nn.mse(logits, target, np.array([1, 1, 1, 1, 1, -1])), ValueError, ["non-negative", "-1"]),
    "mse: weights of zero": (lambda: nn.mse(logits, target, np.zeros(6)), ValueError, ["all zero"]),
    "mse: weight NaN": (lambda: nn.mse(logits, target, np.full(6, np.nan)), ValueError, ["finite", "nan"]),
    "huber: delta": (lambda: nn.huber(logits, target, delta=0), ValueError, ["delta", "positive", "0"]),
    "cross_entropy: label too large": (lambda: nn.cross_entropy(logits, y + 1), ValueError, ["0 to 2", "1 to 3"]),
    "cross_entropy: label negative": (lambda: nn.cross_entropy(logits, y - 1), ValueError, ["0 to 2", "-1 to 1"]),
    "cross_entropy: float labels": (lambda: nn.cross_entropy(logits, y.astype(float)), TypeError, ["float64", "astype(int)"]),
    "cross_entropy: bool labels": (lambda: nn.cross_entropy(logits, y > 0), TypeError, ["bool", "astype(int)"]),
    "cross_entropy: text labels": (lambda: nn.cross_entropy(logits, np.array(list("abcdef"))), TypeError, ["labels must be whole numbers"]),
    "cross_entropy: too few labels": (lambda: nn.cross_entropy(logits, y[:4]), ValueError, ["(6, 3)", "6 labels", "(4,)"]),
    "cross_entropy: labels as a column": (lambda: nn.cross_entropy(logits, y[:, None]), ValueError, ["(6, 1)", "6 labels"]),
    "cross_entropy: one sample without its axis": (lambda: nn.cross_entropy(np.zeros(3), np.array(1)), ValueError, ["(samples, classes)", "(3,)"]),
    "cross_entropy: nothing": (lambda: nn.cross_entropy(np.zeros((0, 3)), np.zeros(0, int)), ValueError, ["at least one", "(0, 3)"]),
    "cross_entropy: whole logits": (lambda: nn.cross_entropy(np.zeros((6, 3), int), y), TypeError, ["int64", "astype"]),
    "cross_entropy: probabilities of another number": (lambda: nn.cross_entropy(logits, np.ones((6, 2))), ValueError, ["(6, 2)", "(6, 3)"]),
    "cross_entropy: negative probabilities": (lambda: nn.cross_entropy(logits, np.full((6, 3), -0.5)), ValueError, ["-0.5"]),
    "cross_entropy: probabilities above 1": (lambda: nn.cross_entropy(logits, np.full((6, 3), 2)), ValueError, ["2"]),
    "cross_entropy: probabilities NaN": (lambda: nn.cross_entropy(logits, np.full((6, 3), np.nan)), ValueError, ["nan"]),
    "cross_entropy: smoothing": (lambda: nn.cross_entropy(logits, y, label_smoothing=1.0), ValueError, ["label_smoothing", "1.0"]),
    "cross_entropy: smoothing below": (lambda: nn.cross_entropy(logits, y, label_smoothing=-0.1), ValueError, ["label_smoothing", "-0.1"]),
    "cross_entropy: weight": (lambda: nn.cross_entropy(logits, y, np.ones(3)), ValueError, ["(6,)", "(3,)"]),
    "binary_cross_entropy: shapes": (lambda: nn.binary_cross_entropy(np.zeros((6, 1)), np.zeros(6)), ValueError, ["(6, 1)", "(6,)"]),
    "binary_cross_entropy: targets": (lambda: nn.binary_cross_entropy(np.zeros(2), np.array([-1.0, 1.0])), ValueError, ["0..1", "-1"]),
    "binary_cross_entropy: target NaN": (lambda: nn.binary_cross_entropy(np.zeros(2), np.array([np.nan, 1.0])), ValueError, ["nan"]),
    "one_hot: label": (lambda: nn.one_hot(np.array([0, 3]), 3), ValueError, ["one_hot", "0 to 2", "0 to 3"]),
    "one_hot: float": (lambda: nn.one_hot(np.array([0.0]), 3), TypeError, ["one_hot", "float64"]),
    "accuracy: lengths": (lambda: nn.accuracy(logits, y[:5]), ValueError, ["6 predictions", "5 labels"]),
    "accuracy: nothing": (lambda: nn.accuracy(np.zeros((0, 3)), np.zeros(0, int)), ValueError, ["no samples"]),
    "accuracy: label outside": (lambda: nn.accuracy(logits, y + 1), ValueError, ["0 to 2", "1 to 3"]),
    "accuracy: yes or no as 1 and -1": (lambda: nn.accuracy(np.array([-1.0, 1.0]), np.array([-1, 1])), ValueError, ["-1"]),
    "accuracy: probabilities as labels": (lambda: nn.accuracy(logits, target), ValueError, ["6 predictions"]),
    "confusion_matrix: label": (lambda: nn.confusion_matrix(logits, y + 1), ValueError, ["0 to 2", "1 to 3"]),
    "confusion_matrix: lengths": (lambda: nn.confusion_matrix(logits, y[:2]), ValueError, ["6 predictions", "2 labels"]),
    "r2_score: shapes": (lambda: nn.r2_score(np.ones((3, 1)), np.ones(3)), ValueError, ["(3, 1)", "(3,)"]),
    "r2_score: no variance": (lambda: nn.r2_score(np.ones(3), np.ones(3)), ValueError, ["same", "variance"]),
    "r2_score: nothing": (lambda: nn.r2_score(np.ones(0), np.ones(0)), ValueError, ["nothing"]),
    # backprop
    "numeric_grad: many numbers": (lambda: nn.numeric_grad(lambda a: a * 2, np.ones(3)), ValueError, ["single number"]),
    "grad: many numbers": (lambda: nn.grad(lambda a: a * 2)(np.ones(3)), ValueError, ["single number", "(3,)", "sum or mean"]),
    "grad: whole numbers": (lambda: nn.grad(np.sum)(np.arange(3)), TypeError, ["int64", "astype(float)"]),
    "grad: a list": (lambda: nn.grad(np.sum)([1.0, 2.0]), TypeError, ["list"]),
    "value_and_grad: out": (lambda: nn.value_and_grad(np.sum)(np.ones(3), out=np.ones(2)), ValueError, ["(3,)", "(2,)"]),
    "value_and_grad: out of another model": (lambda: nn.value_and_grad(lambda m: np.sum(m(x)))(model(), out=nn.grad(lambda m: np.sum(m(x)))(nn.mlp([4, 3], rng=0))),
                                              ValueError, ["out does not fit"]),
    "defvjp: no operation": (lambda: nn.defvjp(lambda x: x, lambda g, y, x: g), TypeError, ["@operation"]),
    "grad: no rule": (lambda: nn.grad(lambda a: np.i0(a))(1.0), TypeError, ["i0", "defvjp(i0, rule)"]),
    "grad: an unknown option": (lambda: nn.grad(lambda a: np.sum(np.add(a, a, where=a > 0)))(np.ones(3)), TypeError, ["where"]),
    "grad: metric instead of loss": (lambda: nn.grad(lambda m: nn.accuracy(m(x), y))(model()), TypeError, ["gradient"]),
    "grad_check: float32": (lambda: nn.grad_check(lambda m: np.sum(m(x)), model()), ValueError, ["float32", "dtype=np.float64"]),
    "graph: many numbers": (lambda: nn.graph(lambda a: a * 2, np.ones(3)), ValueError, ["single number"]),
    # the errors of the losses come through a gradient as they are
    "loss of a gradient: labels": (lambda: nn.grad(lambda m: nn.cross_entropy(m(x), y + 1))(model()), ValueError, ["0 to 2", "1 to 3"]),
    "loss of a gradient: shapes": (lambda: nn.grad(lambda m: nn.mse(m(x), y))(model()), ValueError, ["(6, 3)", "(6,)"]),
    "loss of a gradient: features": (lambda: nn.grad(lambda m: np.sum(m(x[:, :3])))(model()), ValueError, ["3 features", "expects 4"]),
    # training, as far as the engine is concerned
    "fit: labels": (lambda: nn.fit(model(), nn.cross_entropy, nn.SGD(0.1), (x, y + 1), progress=False), ValueError, ["0 to 2", "1 to 3"]),
    "fit: float labels": (lambda: nn.fit(model(), nn.cross_entropy, nn.SGD(0.1), (x, y.astype(float)), progress=False), TypeError, ["float", "astype(int)"]),
    "fit: empty": (lambda: nn.fit(model(), nn.cross_entropy, nn.SGD(0.1), (x[:0], y[:0]), progress=False), ValueError, ["no samples"]),
    "fit: lengths": (lambda: nn.fit(model(), nn.cross_entropy, nn.SGD(0.1), (x, y[:5]), progress=False), ValueError, ["(6, 4)", "(5,)"]),
    "fit: NaN": (lambda: nn.fit(model(), nn.cross_entropy, nn.SGD(0.1), (np.where(np.eye(6, 4) > 0, np.nan, x), y), progress=False), ValueError, ["not finite", "row 0, column 0"]),
    "fit: features": (lambda: nn.fit(model(), nn.cross_entropy, nn.SGD(0.1), (x[:, :3], y), progress=False), ValueError, ["3 features", "expects 4"]),
    "fit: text": (lambda: nn.fit(model(), nn.cross_entropy, nn.SGD(0.1), (x.astype(str), y), progress=False), TypeError, ["numbers"]),
    "fit: a function": (lambda: nn.fit(nn.relu, nn.mse, nn.SGD(0.1), (x, y), progress=False), TypeError, ["Module", "relu"]),
    "fit: no parameters": (lambda: nn.fit(nn.Sequential(nn.relu), nn.mse, nn.SGD(0.1), (x, x), progress=False), ValueError, ["no parameters"]),
    "fit: mse of columns": (lambda: nn.fit(nn.mlp([4, 1], rng=0), nn.mse, nn.SGD(0.1), (x, np.ones(6)), progress=False), ValueError, ["1)", ",)"]),
    "SGD: negative": (lambda: nn.SGD(-0.1), ValueError, ["lr", "-0.1"]),
    "Adam: NaN": (lambda: nn.Adam(float("nan")), ValueError, ["lr", "nan"]),
    "predict: nothing": (lambda: nn.predict(model(), x[:0]), ValueError, ["no samples"]),
    "predict: features": (lambda: nn.predict(model(), x[:, :2]), ValueError, ["2 features", "expects 4"]),
}


@pytest.mark.parametrize("mistake", mistakes)
def test_a_mistake_is_answered_in_words(mistake):
    f, error, words = mistakes[mistake]
    message = says(error, *words, f=f)
    for jargon in "gufunc", "broadcast together", "NoneType' object", "has no attribute", "positional argument", "core dimension": assert jargon not in message, message


@pytest.mark.parametrize("mistake", [m for m in mistakes if m.startswith(("linear", "mse", "cross_entropy", "Linear", "mlp"))])
def test_no_bare_assert_and_no_numpy_traceback(mistake):
    f, error, _ = mistakes[mistake]
    with pytest.raises(error) as caught: f()
    assert not isinstance(caught.value, AssertionError)
    assert "/nn_from_scratch/" in traceback.extract_tb(caught.value.__traceback__)[-1].filename.replace("\\", "/"), "the last frame is in a foreign library"


@pytest.mark.parametrize("loss", [nn.mse, nn.mae, nn.huber, nn.binary_cross_entropy, nn.cross_entropy])
def test_lists_are_taken_as_arrays_or_refused_in_words(loss):
    plain = loss(np.array([[0.5, 1.5]]), np.array([[0.5, 0.5]]))
    try:
        assert loss([[0.5, 1.5]], [[0.5, 0.5]]) == plain
    except ValueOrType as error:
        assert "array" in str(error)


@pytest.mark.parametrize("call", [lambda: nn.linear([[1.0, 2.0]], np.ones((2, 1)), np.ones(1)), lambda: nn.linear(np.ones((1, 2)), [[1.0], [2.0]]), lambda: nn.linear(np.ones((1, 2)), np.ones((2, 1)), 0.5)])
def test_linear_takes_lists_and_numbers_or_says_what_it_needs(call):
    try:
        assert np.shape(call()) == (1, 1)
    except ValueOrType as error:
        assert "linear" in str(error)


def test_an_error_leaves_the_model_and_the_optimizer_as_they_were():
    m, optimizer = model(), nn.Adam(0.1)
    nn.fit(m, nn.cross_entropy, optimizer, (x, y), epochs=2, progress=False)
    before, steps = m.parameters().vector.copy(), optimizer.steps
    for mistake in (x, y + 1), (x, y.astype(float)), (x[:, :2], y), (x[:0], y[:0]), (np.full_like(x, np.nan), y):
        with pytest.raises(ValueOrType): nn.fit(m, nn.cross_entropy, optimizer, mistake, progress=False)
    assert np.array_equal(m.parameters().vector, before) and optimizer.steps == steps


def test_gradients_of_another_model_are_refused():
    "As many numbers, and under the same names: but not in the same places."
    class Two(nn.Module):
        def __init__(self, *names):
            for name in names: setattr(self, name, np.ones(2))

    one, other = Two("a", "b"), Two("b", "a")
    grads = nn.grad(lambda m: np.sum(m.a))(other)
    try:
        nn.SGD(1.0).update(one, grads)
    except ValueError as error:
        assert "a" in str(error)
    else:
        assert one.a.tolist() == [0, 0] and one.b.tolist() == [1, 1]
    with pytest.raises(ValueError): nn.SGD(1.0).update(one, nn.grad(lambda m: np.sum(m.a))(Two("a", "c")))


def test_whole_numbers_are_never_cut_in_silence():
    "Losses of integer predictions: right, or refused."
    whole, soft = np.array([[1, 2], [3, 1]]), np.array([[0.5, 0.5], [0.25, 0.75]])
    for loss in nn.mse, nn.mae, nn.huber, nn.binary_cross_entropy, nn.cross_entropy:
        for options in {}, {"weight": np.array([1.0, 2.0])}:
            try:
                value = loss(whole, soft, **options)
            except TypeError:
                continue
            assert np.isclose(value, loss(whole.astype(float), soft, **options))
    assert nn.r2_score([1, 2, 3], [1.5, 2.5, 3.0]) == nn.r2_score(np.array([1.0, 2, 3]), [1.5, 2.5, 3.0])
    assert nn.softmax(np.array([1, 2])).dtype.kind == "f" and nn.sigmoid(np.array([1, 2])).dtype.kind == "f"


LAYERS = {
    "linear": (lambda: nn.Linear(4, 3, rng=0), "weight", x),
    "Conv1d": (lambda: nn.Conv1d(4, 2, 3, rng=0), "weight", np.ones((2, 5, 4), f32)),
    "Conv2d": (lambda: nn.Conv2d(1, 2, 3, rng=0), "weight", np.ones((2, 5, 5, 1), f32)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(1, 2, 3, rng=0), "weight", np.ones((2, 5, 5, 1), f32)),
    "LayerNorm": (lambda: nn.LayerNorm(4), "weight", x),
    "RMSNorm": (lambda: nn.RMSNorm(4), "weight", x),
    "BatchNorm": (lambda: nn.BatchNorm(4), "weight", x),
    "GRU": (lambda: nn.GRU(4, 3, rng=0), "weight_hh_l0", np.ones((2, 5, 4), f32)),
    "MultiHeadAttention": (lambda: nn.MultiHeadAttention(4, 2, rng=0), "in_proj_weight", np.ones((2, 5, 4), f32)),
}


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool, complex])
@pytest.mark.parametrize("who", LAYERS)
def test_inputs_are_not_cut_to_the_kind_of_a_weight(who, dtype):
    make, name, inputs = LAYERS[who]
    layer = make()
    setattr(layer, name, getattr(layer, name).astype(dtype))
    words = f"{who}: the {name} is {np.dtype(dtype)}; parameters are floating-point: {name}.astype(np.float32)"
    says(TypeError, words, f=lambda: layer(inputs * f32(0.5)))


def test_a_network_with_a_weight_of_whole_numbers_is_refused_in_words_wherever_it_is_used():
    net = model()
    net[0].weight = np.ones((4, 5), int)
    words = "linear: the weight is int64; parameters are floating-point"
    says(TypeError, words, f=lambda: net(x))
    says(TypeError, words, f=lambda: nn.value_and_grad(lambda m, x: m(x).sum())(net, x))
    says(TypeError, words, f=lambda: nn.fit(net, nn.cross_entropy, nn.SGD(0.1), (x, y), epochs=1, progress=False))
    assert words in " ".join(str(nn.checkup(net, nn.cross_entropy, nn.SGD(0.1), (x, y), quiet=True)).split())
