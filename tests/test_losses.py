"""Losses and metrics: what a mask, a weight, an ignored label or a NaN means, derived by hand; and what chapter 2 says of them."""

import itertools
import time

import numpy as np
import pytest

import nn_from_scratch as nn
from nn_from_scratch import fast
from nn_from_scratch.losses import cost, kept, mean, shares, target_probabilities
from nn_from_scratch.metrics import average, classification_report, decided

inf, nan = np.inf, np.nan
@pytest.fixture(params=["quicker", "as written"])
def forms(request):
    "With the quicker forms, and without."
    if request.param == "as written": fast.disable()
    yield
    fast.enable()


BOTH_FORMS = pytest.mark.usefixtures("forms")
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def both(loss, prediction, *args, **options):
    "The plain loss and the recorded one, which must be one number, and the gradient for the prediction."
    plain = loss(prediction, *args, **options)
    recorded, gradient = nn.value_and_grad(loss)(prediction, *args, **options)
    np.testing.assert_array_equal(np.float64(recorded), np.float64(plain))
    return plain, gradient


@BOTH_FORMS
# ---------------------------------------------------------------- masked classes, infinite and huge logits

@DTYPES
def test_a_masked_class_costs_nothing_and_gets_no_gradient(dtype):
    "As if it were not there: the softmax of the others alone. Labels, weights, probabilities, several rows."
    z = np.array([[0.5, -inf, 2.0], [-inf, 1.0, 0.0]], dtype)
    first, second = np.logaddexp(0.5, 2.0) - 0.5, np.logaddexp(1.0, 0.0) - 0.0
    for target in np.array([0, 2]), np.array([[1, 0, 0], [0, 0, 1]], dtype):
        value, gradient = both(nn.cross_entropy, z, target)
        np.testing.assert_allclose(value, (first + second) / 2, rtol=1e-6)
        assert gradient[0, 1] == gradient[1, 0] == 0 and np.isfinite(gradient).all()
        value, _ = both(nn.cross_entropy, z, target, np.array([3, 1]))
        np.testing.assert_allclose(value, (3 * first + second) / 4, rtol=1e-6)
    half = np.array([[0.5, 0, 0.5], [0, 0.25, 0.75]], dtype)
    value, gradient = both(nn.cross_entropy, z, half)
    np.testing.assert_allclose(value, np.mean([np.logaddexp(0.5, 2.0) - 1.25, np.logaddexp(1.0, 0.0) - 0.25]), rtol=1e-6)
    assert np.isfinite(gradient).all()


@BOTH_FORMS
def test_a_masked_class_that_is_true_costs_infinitely_much():
    value, gradient = both(nn.cross_entropy, np.array([[0.0, -inf]]), np.array([1]))
    assert value == inf and gradient.tolist() == [[1, -1]]
    assert nn.cross_entropy(np.array([[0.0, -inf]]), np.array([0]), label_smoothing=0.1) == inf  # a tenth is asked for


@BOTH_FORMS
def test_evaluation_of_a_masked_class_is_finite():
    class Masked(nn.Module):
        def __init__(self): self.net = nn.mlp([2, 3], rng=0)
        def __call__(self, x): return self.net(x) + np.array([0, -inf, 0], np.float32)

    x, y = np.ones((6, 2), np.float32), np.array([0, 2, 0, 2, 0, 2])
    for data in (x, y), (x, y, np.arange(1.0, 7.0)), (x, nn.one_hot(y, 3)):
        assert np.isfinite(nn.evaluate(Masked(), nn.cross_entropy, data)["loss"])


@BOTH_FORMS
def test_float32_logits_whose_difference_is_no_float32():
    z = np.float32([[3e38, -3e38]])
    value, gradient = both(nn.cross_entropy, z, np.array([0]))  # and no warning, or pytest would raise it
    assert value == 0 and gradient.tolist() == [[0, 0]]
    assert nn.cross_entropy(z, np.array([1])) == inf and nn.cross_entropy(z, np.float32([[1, 0]])) == 0
    assert nn.softmax(z).tolist() == [[1, 0]] and nn.log_softmax(z).tolist() == [[0, -inf]]


@BOTH_FORMS
@DTYPES
@pytest.mark.parametrize("z, target, value, slope", [(inf, 0, inf, 1), (inf, 1, 0, 0), (-inf, 0, 0, 0), (-inf, 1, inf, -1), (inf, 0.25, inf, 0.75), (-inf, 0.25, inf, -0.25)])
def test_an_infinite_logit_of_a_yes_or_no(z, target, value, slope, dtype):
    got, gradient = both(nn.binary_cross_entropy, np.array([z], dtype), np.array([target], dtype))
    assert got == value and gradient.tolist() == [slope]


@BOTH_FORMS
@DTYPES
def test_plain_and_recorded_are_one_number(dtype):
    rng, numbers = np.random.default_rng(0), [0.0, -1.0, 50.0, 1e4, -1e4, -inf]
    for row in itertools.product(numbers, repeat=3):
        z = np.array([row, rng.normal(size=3)], dtype)
        for target in np.array([0, 1]), np.array([[0.5, 0.5, 0], [1, 0, 0]], dtype):
            with np.errstate(invalid="ignore"): both(nn.cross_entropy, z, target, None, 0.0)  # a row of nothing but -inf is NaN
    for loss in nn.mse, nn.mae, nn.huber, nn.binary_cross_entropy:
        both(loss, rng.normal(size=(7, 2)).astype(dtype), rng.uniform(size=(7, 2)).astype(dtype), np.arange(1.0, 8.0))


@BOTH_FORMS
# ---------------------------------------------------------------- weights, ignored labels, more axes

def test_a_weight_of_two_is_being_there_twice():
    rng = np.random.default_rng(1)
    p, t = rng.normal(size=(4, 3)), rng.uniform(size=(4, 3))
    labels, w = np.array([0, 2, 1, 2]), np.array([2, 1, 0, 3])
    def twice(a): return np.repeat(a, w, axis=0)
    for loss in nn.mse, nn.mae, nn.huber, nn.binary_cross_entropy, nn.cross_entropy:
        np.testing.assert_allclose(loss(p, t, w), loss(twice(p), twice(t)), rtol=1e-12)
    np.testing.assert_allclose(nn.cross_entropy(p, labels, w), nn.cross_entropy(twice(p), twice(labels)), rtol=1e-12)
    np.testing.assert_allclose(nn.accuracy(p, labels, w), nn.accuracy(twice(p), twice(labels)), rtol=1e-12)
    np.testing.assert_allclose(nn.r2_score(p, t, w), nn.r2_score(twice(p), twice(t)), rtol=1e-12)
    assert nn.confusion_matrix(p, labels, w).tolist() == nn.confusion_matrix(twice(p), twice(labels)).tolist()
    assert str(classification_report(p, labels, w)) == str(classification_report(twice(p), twice(labels)))


@BOTH_FORMS
def test_a_sequence_of_answers_is_as_many_samples():
    "(n, t, k) logits and (n, t) labels are the n · t rows; a weight belongs to all answers of its sample."
    rng = np.random.default_rng(2)
    z, labels = rng.normal(size=(3, 4, 5)), rng.integers(0, 5, (3, 4))
    rows, each = z.reshape(-1, 5), labels.reshape(-1)
    w = np.array([1.0, 0.5, 2.0])
    for smoothing in 0.0, 0.1:
        for weight, flat in (None, None), (w, np.repeat(w, 4)):
            value, gradient = both(nn.cross_entropy, z, labels, weight, smoothing)
            np.testing.assert_allclose(value, nn.cross_entropy(rows, each, flat, smoothing), rtol=1e-12)
            np.testing.assert_allclose(gradient.reshape(-1, 5), nn.grad(nn.cross_entropy)(rows, each, flat, smoothing), atol=1e-15)
    np.testing.assert_allclose(nn.accuracy(z, labels, w), nn.accuracy(rows, each, np.repeat(w, 4)), rtol=1e-12)
    soft = nn.softmax(rng.normal(size=z.shape))
    np.testing.assert_allclose(nn.cross_entropy(z, soft), nn.cross_entropy(rows, soft.reshape(-1, 5)), rtol=1e-12)


@BOTH_FORMS
@pytest.mark.parametrize("ignore", [-1, 99, 2])
def test_an_ignored_label_is_as_if_it_were_not_there(ignore):
    rng = np.random.default_rng(3)
    z, labels, w = rng.normal(size=(6, 3, 4)), rng.integers(0, 4, (6, 3)), np.arange(1.0, 7.0)
    labels[0, 1:] = labels[4, 2] = ignore
    there = labels != ignore
    for smoothing in 0.0, 0.2:
        value, gradient = both(nn.cross_entropy, z, labels, None, smoothing, ignore)
        np.testing.assert_allclose(value, nn.cross_entropy(z[there], labels[there], None, smoothing), rtol=1e-12)
        assert not gradient[~there].any()
        np.testing.assert_allclose(gradient[there], nn.grad(nn.cross_entropy)(z[there], labels[there], None, smoothing), atol=1e-15)
        weighted = nn.cross_entropy(z, labels, w, smoothing, ignore=ignore)
        each = np.broadcast_to(w[:, None], labels.shape)[there]
        np.testing.assert_allclose(weighted, nn.cross_entropy(z[there], labels[there], each, smoothing), rtol=1e-12)
    np.testing.assert_allclose(nn.accuracy(z, labels, ignore=ignore), nn.accuracy(z[there], labels[there]), rtol=1e-12)
    np.testing.assert_allclose(nn.accuracy(z, labels, w, ignore), nn.accuracy(z[there], labels[there], each), rtol=1e-12)
    nn.grad_check(lambda z: nn.cross_entropy(z, labels, w, 0.1, ignore), z)


def test_the_shares_of_a_batch_add_up_to_one():
    losses = np.ones((3, 2, 4))
    for weight in None, np.array([1, 2, 0]), np.array([[1, 2], [0, 0], [3, 1]]):
        np.testing.assert_allclose(np.sum(losses * shares(losses, weight)), 1, rtol=1e-15)
    assert mean(np.array([[1.0, 3.0], [5.0, 7.0]]), np.array([3, 1])) == 3
    value, gradient = nn.value_and_grad(lambda p: mean((p - 1) ** 4, np.array([3, 1])))(np.array([2.0, 3.0]))  # a loss of one's own
    assert value == (3 * 1 + 16) / 4 and gradient.tolist() == [3, 8]


def test_what_cannot_happen_costs_nothing():
    assert cost(np.array([0.0, 0.5, 1.0, 0.0]), np.array([inf, 2.0, inf, -inf])).tolist() == [0, 1, inf, 0]
    target, weight = kept(np.array([2, -1, 0]), None, -1)
    assert target.tolist() == [2, 0, 0] and weight.tolist() == [True, False, True]


def test_options_do_not_raise_the_precision():
    z = np.zeros((2, 4), np.float32)
    assert target_probabilities(z, [0, 1], np.float64(0.1)).dtype == np.float32
    assert nn.cross_entropy(z, [0, 1], np.ones(2), np.float64(0.1), -1).dtype == np.float32
    assert nn.huber(z, z.astype(float), None, np.float64(0.5)).dtype == np.float32
    assert nn.one_hot([[0, 1], [2, 1]], 3).shape == (2, 2, 3)


# ---------------------------------------------------------------- metrics

def test_nan_decides_nothing():
    z = np.array([[nan, 0.0], [0.0, nan], [2.0, 1.0]])
    assert decided(z).tolist() == [-1, -1, 0] and decided(np.array([nan, 1.0, -1.0])).tolist() == [-1, 1, 0]
    assert nn.accuracy(np.full((5, 3), nan), np.zeros(5, int)) == 0  # not class 0
    assert nn.accuracy(z, [0, 0, 0]) == 1 / 3 and nn.accuracy(np.array([nan, nan]), [0, 1]) == 0
    for metric in nn.confusion_matrix, classification_report:
        with pytest.raises(ValueError, match="sample 0.*not numbers"): metric(z, [0, 0, 0])
        with pytest.raises(ValueError, match="sample 1"): metric(np.array([1.0, nan]), [0, 0])


def test_infinite_logits_decide():
    assert decided(np.array([[-inf, 0.0], [inf, 0.0], [-inf, -inf]])).tolist() == [1, 0, 0]
    assert decided(np.array([inf, -inf, 0.0])).tolist() == [1, 0, 0]


def test_a_column_of_probabilities_is_said_to_be_taken_for_logits():
    p = nn.sigmoid(np.array([-2.0, -1.0, 1.0, 2.0]))
    for column in p, p[:, None]:
        with pytest.warns(UserWarning, match="taken for logits.*sigmoid"): assert nn.accuracy(column, [0, 0, 1, 1]) == 0.5
    assert nn.accuracy(p - 0.5, [0, 0, 1, 1]) == 1 and "logits" in nn.accuracy.__doc__ and "sigmoid" in nn.accuracy.__doc__
    nn.accuracy(np.stack([1 - p, p], axis=1), [0, 0, 1, 1])  # two columns decide by the larger one: no word


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.uint64, np.int64, bool, np.float32])
def test_labels_of_any_kind_of_whole_numbers(kind):
    "Small ones do not run over: class 19 of 20, in int8, stands in place 399 of the table."
    k = 2 if kind is bool else 20
    rng = np.random.default_rng(0)
    labels, taken = rng.integers(0, k, 50), rng.integers(0, k, 50)
    logits = nn.one_hot(taken, k)
    expected = np.zeros((k, k), int)
    np.add.at(expected, (labels, taken), 1)
    assert nn.confusion_matrix(logits, labels.astype(kind)).tolist() == expected.tolist()
    assert nn.accuracy(logits, labels.astype(kind)) == np.mean(labels == taken)
    if kind not in (bool, np.float32): assert nn.cross_entropy(logits, labels.astype(kind)) == nn.cross_entropy(logits, labels)


def test_a_confusion_matrix_of_many_classes_is_quick():
    labels, logits = np.arange(20_000) % 1000, np.tile(np.eye(1000, dtype=np.float32), (20, 1))
    before = time.perf_counter()
    assert np.array_equal(nn.confusion_matrix(logits, labels), 20 * np.eye(1000))
    assert time.perf_counter() - before < 5


def test_weights_of_metrics_that_make_no_sense_are_refused():
    z, labels = np.zeros((3, 2)), [0, 1, 1]
    for metric in nn.accuracy, nn.confusion_matrix, classification_report:
        for weight, words in ([1, 1], r"one number a sample, \(3,\)"), ([1, -1, 1], "non-negative"), ([0, 0, 0], "not all zero"):
            with pytest.raises(ValueError, match=words): metric(z, labels, weight)
    with pytest.raises(ValueError, match="all targets are the same"): nn.r2_score([1.0, 2.0, 3.0], [5.0, 5.0, 7.0], [1, 1, 0])
    with pytest.raises(ValueError, match="all targets are the same"): nn.r2_score([1.0, 2.0, 3.0], [0.1, 0.1, 0.1])
    assert average(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([3, 1])) == 2


def test_the_report_by_class():
    labels, taken = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 1, 1])
    report = classification_report(np.eye(4)[taken], labels, names=["a", "b", "c", "d"])
    assert report.support.tolist() == [3, 2, 1, 0] and report.accuracy == 4 / 6
    np.testing.assert_allclose(report.precision, [1, 0.5, 0, 0])
    np.testing.assert_allclose(report.recall, [2 / 3, 1, 0, 0])
    np.testing.assert_allclose(report.f1, [0.8, 2 / 3, 0, 0])
    table = report.to_dict()
    assert list(table) == ["a", "b", "c", "d", "accuracy", "macro avg", "weighted avg"]
    assert table["b"] == {"precision": 0.5, "recall": 1.0, "f1-score": 2 / 3, "support": 2}
    assert table["macro avg"]["recall"] == np.mean(report.recall) and table["weighted avg"]["recall"] == report.accuracy
    assert len({len(line) for line in str(report).splitlines()}) == 1 and "recall" in str(report)
    with pytest.raises(ValueError, match="4 classes but 2 names"): classification_report(np.eye(4)[taken], labels, names=["a", "b"])
    with pytest.raises(ValueError, match="no samples|at least one"): classification_report(np.zeros((0, 2)), [])


# ---------------------------------------------------------------- mistakes: what the chapter used to show

two, six = np.zeros((2, 4)), np.zeros((2, 3, 4))
MISTAKES = {
    "shares: another length": (lambda: shares(np.ones(3), [1, 1]), ValueError, ["one number a sample, (3,)", "(2,)"]),
    "shares: negative": (lambda: shares(np.ones(3), [1, -1, 1]), ValueError, ["non-negative", "from -1 to 1"]),
    "shares: nothing": (lambda: shares(np.ones(3), [0, 0, 0]), ValueError, ["not all zero"]),
    "one_hot: negative": (lambda: nn.one_hot([2, -1], 4), ValueError, ["from 0 to 3", "go from -1 to 2"]),
    "one_hot: float": (lambda: nn.one_hot([0.0, 1.0], 4), TypeError, ["whole numbers", "float64"]),
    "one_hot: a column": (lambda: nn.one_hot([[0], [1]], 4), ValueError, ["one number a sample", "(2, 1)"]),
    "target: one sample": (lambda: target_probabilities(np.zeros(3), [0, 1, 2]), ValueError, ["(samples, classes)", "(3,)"]),
    "target: nothing": (lambda: target_probabilities(np.zeros((0, 3)), []), ValueError, ["at least one"]),
    "target: too many": (lambda: target_probabilities(two, [0, 1, 2]), ValueError, ["(2, 4)", "2 labels", "(3,)"]),
    "target: a column": (lambda: target_probabilities(two, [[0], [1]]), ValueError, ["2 labels", "(2, 1)"]),
    "target: too large": (lambda: target_probabilities(two, [0, 4]), ValueError, ["from 0 to 3, for 4 outputs", "0 to 4"]),
    "target: one logit": (lambda: target_probabilities(two[:, :1], [0, 0]), ValueError, ["binary_cross_entropy"]),
    "target: smoothing": (lambda: target_probabilities(two, [0, 1], 1), ValueError, ["label_smoothing", "not 1"]),
    "target: probabilities below 0": (lambda: target_probabilities(two, two - 1), ValueError, ["0..1", "from -1.0 to -1.0"]),
    "target: probabilities NaN": (lambda: target_probabilities(two, two + nan), ValueError, ["0..1", "nan"]),
    "target: float labels": (lambda: target_probabilities(two, [0.0, 1.0]), TypeError, ["float64", "astype(int)"]),
    "target: whole logits": (lambda: target_probabilities(two.astype(int), [0, 1]), TypeError, ["floating-point", "int"]),
    "cross_entropy: labels of a sequence": (lambda: nn.cross_entropy(six, np.zeros((2, 2), int)), ValueError, ["(2, 3, 4)", "(2, 3)", "(2, 2)"]),
    "cross_entropy: label in a sequence": (lambda: nn.cross_entropy(six, np.full((2, 3), 4)), ValueError, ["0 to 3", "4 to 4"]),
    "cross_entropy: all ignored": (lambda: nn.cross_entropy(two, [-1, -1], ignore=-1), ValueError, ["every label is -1"]),
    "cross_entropy: another label than the ignored": (lambda: nn.cross_entropy(two, [-1, 2], ignore=-100), ValueError, ["0 to 3", "-1 to 2"]),
    "cross_entropy: ignore of probabilities": (lambda: nn.cross_entropy(two, two, ignore=1), ValueError, ["probabilities", "weight 0"]),
    "cross_entropy: ignore half a label": (lambda: nn.cross_entropy(two, [0, 1], ignore=0.5), TypeError, ["ignore", "0.5"]),
    "accuracy: labels of a sequence": (lambda: nn.accuracy(six, np.zeros((2, 2), int)), ValueError, ["(2, 3)", "(2, 2)"]),
    "accuracy: all ignored": (lambda: nn.accuracy(two, [3, 3], ignore=3), ValueError, ["every label is 3"]),
    "accuracy: half an answer": (lambda: nn.accuracy(np.zeros(2), [0.1, 0.9]), TypeError, ["whole numbers"]),
    "softmax: text": (lambda: nn.softmax(np.array(["a", "b"])), TypeError, ["numbers"]),
    "log_softmax: complex numbers": (lambda: nn.log_softmax(np.ones(3, complex)), TypeError, ["complex"]),
    "accuracy: text": (lambda: nn.accuracy(np.array(["a", "b"]), [0, 1]), TypeError, ["numbers"]),
    "accuracy: a number": (lambda: nn.accuracy(1.0, [1]), ValueError, ["(n, k)", "()"]),
}


@BOTH_FORMS
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_in_words(mistake):
    f, error, words = MISTAKES[mistake]
    with pytest.raises(error) as caught: f()
    for word in words: assert word in str(caught.value), f"{word!r} is not in: {caught.value}"


@pytest.mark.parametrize("mistake", [m for m in MISTAKES if m.startswith("cross_entropy")])
def test_the_same_mistake_within_a_gradient(mistake):
    f, error, words = MISTAKES[mistake]
    plain = nn.cross_entropy

    def recorded(z, *args, **options): return nn.value_and_grad(lambda z: plain(z, *args, **options))(z)

    try:
        nn.cross_entropy = recorded
        with pytest.raises(error) as caught: f()
    finally:
        nn.cross_entropy = plain
    for word in words: assert word in str(caught.value)


# ---------------------------------------------------------------- what the chapter says, over seeds

@pytest.fixture(scope="module")
def first_losses():
    "Of a hundred untrained networks: the first loss, ln 10 + s²/2, the loss with a second softmax, the share that is right."
    x, y = nn.load_digits()
    def one(seed):
        z = nn.mlp([64, 64, 32, 10], rng=seed)(x)
        return nn.cross_entropy(z, y), np.log(10) + z.var(axis=1).mean() / 2, nn.cross_entropy(nn.softmax(z), y), nn.accuracy(z, y)
    return np.array([one(seed) for seed in range(100)]).T


def test_the_first_loss_is_a_little_above_ln_10(first_losses):
    first, predicted, twice, right = first_losses
    assert np.sum(first > np.log(10)) == 99 and 0.19 < np.median(first) - np.log(10) < 0.22 and 0.7 < first.max() - np.log(10) < 0.8
    assert np.median(np.abs(first - predicted)) < 0.25 * np.median(first - np.log(10))  # "explains most of it"
    assert np.all(np.abs(twice - np.log(10)) < np.abs(first - np.log(10)))  # the second softmax hides
    assert right.min() < 0.03 and right.max() > 0.2


def test_a_second_softmax_stops_at_146():
    "The loss falls, and the answers are right, but it never goes below ln(1 + 9/e)."
    x, y = nn.load_digits()
    for seed in range(3):
        model = nn.mlp([64, 64, 10], rng=seed)
        history = nn.fit(model, lambda z, t: nn.cross_entropy(nn.softmax(z), t), nn.Adam(0.01), (x, y), epochs=8, progress=False)
        assert np.log(1 + 9 / np.e) < history.train_loss[-1] < 1.65 and nn.accuracy(model(x), y) > 0.8


def test_pixels_up_to_255_give_logits_of_several_hundred():
    x, _ = nn.load_digits()
    assert all(np.abs(nn.mlp([64, 64, 32, 10], rng=seed)(255 * x)).max() > 300 for seed in range(10))


def test_outliers_pull_squared_error_furthest():
    "The line of the chapter, over twenty draws of the noise."
    x, grid = np.linspace(0, 4, 30), [(w, b) for w in np.linspace(-1, 2, 61) for b in np.linspace(-1, 3, 41)]
    for seed in range(20):
        y = x + 0.5 + np.random.default_rng(seed).normal(0, 0.3, 30)
        y[[26, 27, 29]] = [-3.0, -4.0, -3.5]
        w = {loss: min(grid, key=lambda wb: loss(wb[0] * x + wb[1], y))[0] for loss in (nn.mse, nn.mae, nn.huber)}
        assert abs(w[nn.mse] - 1) > max(abs(w[nn.mae] - 1), abs(w[nn.huber] - 1)) and w[nn.mse] < 0.5


def test_the_honest_answer_costs_least():
    "Of what is true in 70 of 100 cases, cross-entropy wants 0.7 and absolute error wants 1."
    p = np.linspace(0.01, 0.99, 99)
    assert np.isclose(p[np.argmin(-0.7 * np.log(p) - 0.3 * np.log(1 - p))], 0.7)
    assert p[np.argmin(0.7 * (1 - p) + 0.3 * p)] == p[-1]


def test_the_seven():
    "The picture that the chapter follows: untrained 0.094 and 2.36, by the nearest mean 0.623 and 0.47."
    x, y = nn.load_digits()
    scores = nn.mlp([64, 64, 32, 10], rng=0)(x[7:8])
    means = np.stack([x[y == k].mean(axis=0) for k in range(10)])
    read = (x @ means.T - 0.5 * np.sum(means ** 2, axis=1))[7:8]
    assert y[7] == 7
    np.testing.assert_allclose([nn.softmax(scores)[0, 7], nn.cross_entropy(scores, y[7:8])], [0.094, 2.360], atol=1e-3)
    np.testing.assert_allclose([nn.softmax(read)[0, 7], nn.cross_entropy(read, y[7:8])], [0.623, 0.473], atol=1e-3)


def test_one_nan_in_the_loss_makes_every_weight_nan():
    for sizes, seed in itertools.product(([4, 6, 3], [4, 5, 5, 3]), range(5)):
        model, rng = nn.mlp(sizes, rng=seed), np.random.default_rng(seed)
        x, y = rng.normal(size=(8, 4)).astype(np.float32), rng.integers(0, 3, 8)
        x[3] = nan
        with np.errstate(invalid="ignore"): _, grads = nn.value_and_grad(lambda m, x, y: nn.cross_entropy(m(x), y))(model, x, y)
        nn.SGD(0.1).update(model, grads)
        assert np.isnan(model.parameters().vector).all()


@BOTH_FORMS
@DTYPES
def test_what_counts_nothing_is_as_if_it_were_not_there_whatever_its_loss_is(dtype):
    "A weight of 0 and an ignored label, on losses that are infinite or NaN."
    z = np.array([[0.0, 1.0, -inf], [-inf, 0.0, 2.0], [0.5, 0.0, 0.0]], dtype)
    labels, w = np.array([0, 0, 1]), np.array([1, 0, 2])  # the second would cost infinitely much
    there = np.array([0, 2])
    value, gradient = both(nn.cross_entropy, z, labels, w)
    assert value == nn.cross_entropy(z[there], labels[there], w[there]) and np.isfinite(gradient).all()
    value, gradient = both(nn.cross_entropy, z, np.array([0, -1, 1]), None, 0.0, -1)  # -1 stands where class 0 is masked
    np.testing.assert_allclose(value, nn.cross_entropy(z[there], labels[there]), rtol=1e-6)
    assert not gradient[1].any() and np.isfinite(gradient).all()
    yes, p, t = np.array([inf, -inf, 1.0], dtype), np.array([nan, 2.0], dtype), np.array([1.0, 1.0], dtype)
    assert both(nn.binary_cross_entropy, yes, np.array([0, 0, 1], dtype), np.array([0, 1, 1]))[0] == nn.binary_cross_entropy(yes[1:], np.array([0, 1], dtype))
    for loss in nn.mse, nn.mae, nn.huber: assert loss(p, t, np.array([0, 1])) == loss(p[1:], t[1:])
