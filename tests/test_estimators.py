"The estimators keep scikit-learn's rules, and do what a user of scikit-learn expects."

import pickle
import re

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.6", reason="the estimators need scikit-learn 1.6 or later")

from sklearn import datasets
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import check_estimator

import nn_from_scratch as nn
from nn_from_scratch.estimators import NeuralNetworkClassifier, NeuralNetworkRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
BOTH = [NeuralNetworkClassifier, NeuralNetworkRegressor]


@pytest.fixture(scope="module")
def iris():
    return datasets.load_iris(return_X_y=True)


@pytest.mark.parametrize("kind", BOTH)
def test_the_whole_of_check_estimator(kind):
    results = check_estimator(kind(), on_fail=None, on_skip=None)
    failed = {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"}
    print(f"{kind.__name__}: {len(results)} checks")
    assert not failed and len(results) > 50


@pytest.mark.parametrize("kind", BOTH)
def test_a_weight_is_a_number_of_repetitions(kind):
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(30, 4)) * [1, 10, 100, 1], rng.integers(0, 4, 30)
    y = (x[:, 0] + x[:, 1] / 10 > 0).astype(int) if kind is NeuralNetworkClassifier else x[:, 0] * 3 + 100
    weighted = kind(random_state=0, epochs=30, hidden=(8,)).fit(x, y, weight)
    repeated = kind(random_state=0, epochs=30, hidden=(8,)).fit(x.repeat(weight, axis=0), y.repeat(weight))
    answer = "predict_proba" if kind is NeuralNetworkClassifier else "predict"
    np.testing.assert_allclose(getattr(weighted, answer)(x), getattr(repeated, answer)(x), rtol=1e-6)


def test_labels_of_any_kind(iris):
    x, y = iris
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    by_name, by_number = (NeuralNetworkClassifier(random_state=0, epochs=20).fit(x, labels) for labels in (names, y * 7 - 3))
    assert by_name.classes_.tolist() == ["setosa", "versicolor", "virginica"] and by_number.classes_.tolist() == [-3, 4, 11]
    assert (by_name.predict(x) == np.array(["setosa", "versicolor", "virginica"])[(by_number.predict(x) + 3) // 7]).all()
    assert by_name.score(x, names) > 0.9


def test_float32_stays_float32_and_the_seed_decides(iris):
    x, y = iris
    a, b = (NeuralNetworkClassifier(random_state=3, epochs=5).fit(x.astype("float32"), y) for _ in range(2))
    assert a.model_.parameters().vector.dtype == a.predict_proba(x.astype("float32")).dtype == np.float32
    assert (a.model_.parameters().vector == b.model_.parameters().vector).all()
    assert (NeuralNetworkClassifier(random_state=4, epochs=5).fit(x, y).predict_proba(x) != a.predict_proba(x)).any()


def test_partial_fit_learns_batch_by_batch(iris):
    x, y = iris
    order = np.random.default_rng(0).permutation(150)
    network = NeuralNetworkClassifier(random_state=0, learning_rate=0.02)
    network.partial_fit(x[order[:50]], y[order[:50]], classes=[0, 1, 2])
    first = network.score(x, y)
    for _ in range(20):
        for part in np.split(order, 3):
            network.partial_fit(x[part], y[part])
    assert network.score(x, y) > max(0.9, first)
    with pytest.raises(ValueError, match=re.escape("y has labels that were not there at first: [9]")):
        network.partial_fit(x[:2], [0, 9])


@pytest.mark.parametrize("kind", BOTH)
def test_warm_start_goes_on_and_a_cold_one_begins_anew(kind, iris):
    x, y = iris
    warm = kind(random_state=0, epochs=3, warm_start=True).fit(x, y)
    after_three = warm.model_.parameters().vector.copy()
    model = warm.model_
    warm.fit(x, y)
    assert warm.model_ is model and (model.parameters().vector != after_three).any() and warm.n_iter_ == 3 and len(warm.loss_curve_) == 6
    cold = kind(random_state=0, epochs=3).fit(x, y).fit(x, y)
    assert (cold.model_.parameters().vector == after_three).all()


def test_early_stopping_holds_rows_out(iris):
    x, y = iris
    network = NeuralNetworkClassifier(random_state=0, epochs=500, early_stopping=True, patience=3, learning_rate=0.05).fit(x, y)
    assert network.history_.stopped == "callback" and network.n_iter_ < 500 and len(network.history_.valid_loss) == network.n_iter_


def test_regression_of_one_number_and_of_several():
    x, y = datasets.load_diabetes(return_X_y=True)
    network = NeuralNetworkRegressor(random_state=0, early_stopping=True).fit(x, y)
    assert network.predict(x).shape == y.shape and network.score(x, y) > 0.4
    far = NeuralNetworkRegressor(random_state=0, early_stopping=True).fit(x, y * 1e6 + 1e9)  # the scale of the target does not matter
    np.testing.assert_allclose((far.predict(x) - 1e9) / 1e6, network.predict(x), rtol=1e-3)
    two = NeuralNetworkRegressor(random_state=0, epochs=20).fit(x, np.stack([y, -y], axis=1))
    assert two.predict(x).shape == (len(x), 2)


def test_pipeline_grid_search_in_two_processes_and_pickle(iris):
    x, y = iris
    search = GridSearchCV(make_pipeline(MinMaxScaler(), NeuralNetworkClassifier(epochs=60, random_state=0)),
                          {"neuralnetworkclassifier__hidden": [(), (16, 8)]}, cv=3, n_jobs=2).fit(x, y)
    assert search.best_score_ > 0.8 and search.best_params_ == {"neuralnetworkclassifier__hidden": (16, 8)}
    assert (pickle.loads(pickle.dumps(search)).predict(x) == search.predict(x)).all()
    scores = cross_val_score(NeuralNetworkClassifier(epochs=30, random_state=0), x, y)
    assert scores.mean() > 0.85


def test_a_falling_rate_falls_anew_with_each_fit(iris):
    x, y = iris
    network = NeuralNetworkClassifier(random_state=0, epochs=3, warm_start=True)
    for _ in range(2):
        network.fit(x, y)
        rate, last = network._work.optimizer.lr, network._work.optimizer.steps
        assert rate(last) == 0 and rate(last - 30) == 0.003 and 0 < rate(last - 1) < 0.0003
    network.partial_fit(x, y)
    assert network._work.optimizer.learning_rate() == 0.003
    with pytest.raises(ValueError, match="learning_rate must be one of falling, not 'adaptive'"): NeuralNetworkClassifier(learning_rate="adaptive").fit(x, y)


def test_biases_of_a_classifier_are_not_pulled():
    x, y = np.zeros((200, 1)), np.arange(200) % 10 == 0  # there is nothing to learn but how rare it is
    sure = NeuralNetworkClassifier(random_state=0, epochs=200).fit(x, y).predict_proba(x)[0, 1]
    assert 0.07 < sure < 0.13


@pytest.mark.parametrize("settings, message", [
    (dict(activation="step"), "activation must be one of sigmoid,"),
    (dict(optimizer="newton"), "optimizer must be one of sgd,"),
    (dict(learning_rate=-1), "lr must be a number of at least 0"),
    (dict(epochs=0), "epochs must be a whole number of at least 1"),
    (dict(hidden=(8, 0)), "n_out must be a whole number of at least 1"),
])
def test_settings_that_make_no_sense(settings, message, iris):
    with pytest.raises(ValueError, match=re.escape(message)):
        NeuralNetworkClassifier(**settings).fit(*iris)


def test_a_run_that_diverges_says_so(iris):
    with pytest.raises(ValueError, match="Diverged"):
        NeuralNetworkRegressor(optimizer="sgd", learning_rate=1e30, random_state=0).fit(*iris)


def test_predict_before_fit(iris):
    with pytest.raises(NotFittedError):
        NeuralNetworkClassifier().predict(iris[0])


# ---------------------------------------------------------------- as scikit-learn's own networks behave

def test_several_labels_a_row():
    x, y = datasets.make_multilabel_classification(300, n_features=8, n_classes=4, random_state=0)
    network = NeuralNetworkClassifier(random_state=0).fit(x, y)
    assert network.predict(x).shape == y.shape == network.predict_proba(x).shape and set(np.unique(network.predict(x))) <= {0, 1}
    assert network.score(x, y) > MLPClassifier(random_state=0, max_iter=50).fit(x, y).score(x, y) - 0.02
    np.testing.assert_allclose(network.predict_log_proba(x), np.log(network.predict_proba(x)), rtol=1e-6, atol=1e-12)
    early = NeuralNetworkClassifier(random_state=0, early_stopping=True).fit(x, y)
    assert max(early.validation_scores_) == early.best_validation_score_ <= 1


def test_log_probabilities_that_are_too_small_to_write(iris):
    x, y = iris
    network = NeuralNetworkClassifier(random_state=0).fit(x, y)
    np.testing.assert_allclose(network.predict_log_proba(x), np.log(network.predict_proba(x)), atol=1e-9)
    assert np.isfinite(network.predict_log_proba(x * 1e4)).all()


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("form", ["csr_matrix", "csc_matrix", "csr_array", "coo_array"])
def test_sparse_rows(kind, form, iris):
    import scipy.sparse

    x, y = iris
    sparse = getattr(scipy.sparse, form)(x)
    a, b = (kind(random_state=0, epochs=5).fit(rows, y) for rows in (x, sparse))
    assert (a.predict(x) == b.predict(sparse)).all()


def test_what_a_training_leaves(iris):
    x, y = iris
    network = NeuralNetworkClassifier((8, 5), random_state=0, epochs=300, early_stopping=True).fit(x, y)
    assert [w.shape for w in network.coefs_] == [(4, 8), (8, 5), (5, 3)] and [b.shape for b in network.intercepts_] == [(8,), (5,), (3,)]
    assert len(network.loss_curve_) == len(network.validation_scores_) == network.n_iter_ and network.loss_ == network.loss_curve_[-1]
    assert network.best_validation_score_ == max(network.validation_scores_) > 0.8
    assert NeuralNetworkClassifier(epochs=3, random_state=0).fit(x, y).validation_scores_ is None


def test_rows_in_their_own_order(iris):
    x, y = iris
    seen = []
    class Watched(NeuralNetworkRegressor):
        def _loss(self, prediction, target, weight=None):
            seen.append(np.array(getattr(target, "value", target)).ravel())
            return nn.mse(prediction, target, weight)
    Watched(shuffle=False, epochs=2, random_state=0).fit(x, np.arange(150.0))
    assert (np.diff(np.concatenate(seen[:5])) > 0).all() and [len(part) for part in seen[:5]] == [32, 32, 32, 32, 22]
    assert not (np.diff(np.concatenate(seen[:5])) < 0).any()


def test_a_rare_class_counts_more_if_asked():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(1000, 3)), (rng.random(1000) < 0.03).astype(int)
    x[y == 1] += 1
    plain, balanced, told = (NeuralNetworkClassifier(random_state=0, class_weight=w).fit(x, y) for w in (None, "balanced", {0: 1, 1: 30}))
    recall = [(network.predict(x)[y == 1] == 1).mean() for network in (plain, balanced, told)]
    assert recall[0] < 0.5 < min(recall[1:])
    with pytest.raises(ValueError, match="'balanced' is not supported by partial_fit"):
        NeuralNetworkClassifier(class_weight="balanced").partial_fit(x, y, classes=[0, 1])


def test_a_training_that_has_not_converged_warns(iris):
    with pytest.warns(ConvergenceWarning, match="has not converged after 3 epochs"):
        NeuralNetworkClassifier(epochs=3, tol=1e-3, random_state=0).fit(*iris)


@pytest.mark.filterwarnings("error")
def test_no_warning_where_none_is_due(iris):
    for settings in dict(tol=None, epochs=3), dict(epochs=1000), dict(epochs=1000, early_stopping=True):
        NeuralNetworkClassifier(random_state=0, **settings).fit(*iris)
    NeuralNetworkClassifier(random_state=0).partial_fit(*iris)


def test_refused_as_scikit_learn_refuses(iris):
    x, y = iris
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping=True"):
        NeuralNetworkClassifier(early_stopping=True).partial_fit(x, y, classes=[0, 1, 2])
    network = NeuralNetworkClassifier(random_state=0).partial_fit(x, y, classes=[0, 1, 2, 3])
    network.partial_fit(x, y, classes=[3, 2, 1, 0])
    with pytest.raises(ValueError, match="is not the same as on last call|is not the same as on the last call"):
        network.partial_fit(x, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match=re.escape("labels that were not there at first: [1, 2]")):
        NeuralNetworkClassifier().partial_fit(x, y, classes=[0])


@pytest.mark.parametrize("kind", BOTH)
def test_row_by_row(kind, iris):
    "The scale of the features is that of all rows so far, not of the first."
    x, y = iris
    x = x * [1, 100, 1e4, 1] + [0, 1e3, 0, 50]
    network, order = kind(random_state=0, learning_rate=0.003), np.random.default_rng(0).permutation(150)
    classes = {"classes": [0, 1, 2]} if kind is NeuralNetworkClassifier else {}
    for _ in range(4):
        for i in order: network.partial_fit(x[i:i + 1], y[i:i + 1], **classes)
    assert network.score(x, y) > 0.9
    np.testing.assert_allclose(network.model_[0].mean, x.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(network.model_[0].std, x.std(axis=0), rtol=1e-6)


def test_a_new_scale_of_the_target_keeps_the_answers(iris):
    x, _ = iris
    network = NeuralNetworkRegressor(random_state=0, standardize=False, learning_rate=0.0)
    network.partial_fit(x[:50], x[:50, 0] * 10)
    before = network.predict(x)
    network.partial_fit(x[50:], x[50:, 0] * 1000 - 5e5)
    np.testing.assert_allclose(network.predict(x), before, rtol=1e-9)


@pytest.mark.parametrize("kind", BOTH)
def test_settings_changed_between_warm_fits_are_heard(kind, iris):
    x, y = iris
    network = kind(random_state=0, epochs=5, warm_start=True, weight_decay=0.0).fit(x, y)
    for settings, change in (dict(learning_rate=1e-9), 1e-6), (dict(optimizer="sgd", learning_rate=1e-9), 1e-6):
        before = network.model_.parameters().vector.copy()
        network.set_params(**settings).fit(x, y)
        assert 0 < abs(network.model_.parameters().vector - before).max() < change
    with pytest.raises(ValueError, match=r"hidden is \(3,\) now, but .* was made with \((100|256),\).*warm_start=False"):
        network.set_params(hidden=(3,)).fit(x, y)


def test_the_classes_of_a_fit_that_failed_are_forgotten(iris):
    x, y = iris
    network = NeuralNetworkClassifier(random_state=0, epochs=5, warm_start=True, optimizer="sgd", learning_rate=1e30)
    with pytest.raises(ValueError): network.fit(x * 1e30, y + 10)
    network.set_params(optimizer="adam", learning_rate=0.003).fit(x, y)
    assert network.classes_.tolist() == [0, 1, 2]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_target_with_many_digits(dtype):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3)).astype(dtype)
    y = 1.7e9 + 11 * x[:, 0].astype(float)
    assert NeuralNetworkRegressor(random_state=0).fit(x, y).score(x, y) > 0.95


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_saved_regression_answers_in_the_targets_units(outputs, tmp_path):
    pytest.importorskip("safetensors")
    x, y = datasets.load_diabetes(return_X_y=True)
    y = y if outputs == 1 else np.stack([y * 1000, -y], axis=1)
    network = NeuralNetworkRegressor(random_state=0, epochs=20).fit(x, y)
    nn.save(network.model_, tmp_path / "m")
    np.testing.assert_allclose(nn.predict(nn.load(tmp_path / "m"), x).reshape(y.shape), network.predict(x), rtol=1e-12)
    np.testing.assert_allclose(network.predict(x).mean(axis=0), y.mean(axis=0), rtol=0.1)


def test_small_tables_get_small_batches(iris):
    scores = cross_val_score(NeuralNetworkClassifier(random_state=0), *iris)
    assert scores.mean() >= 0.953


def test_the_best_of_a_training_as_scikit_learn_tells_it(iris):
    "A best loss, or a best score of the rows held out, never both; and none of an earlier training."
    network = NeuralNetworkClassifier(epochs=5, random_state=0, early_stopping=True).fit(*iris)
    assert network.best_loss_ is None and network.best_validation_score_ == max(network.validation_scores_)
    network.set_params(early_stopping=False).fit(*iris)
    assert network.validation_scores_ is network.best_validation_score_ is None and network.best_loss_ == min(network.loss_curve_)


def test_epochs_are_counted_as_scikit_learn_counts_them(iris):
    for kind in (NeuralNetworkClassifier, lambda **settings: MLPClassifier(max_iter=settings.pop("epochs"), **settings)):
        warm = kind(epochs=3, warm_start=True, random_state=0).fit(*iris)
        assert warm.n_iter_ == 3 == warm.fit(*iris).n_iter_ and len(warm.loss_curve_) == 6
        parts = kind(epochs=3, random_state=0).partial_fit(*iris, classes=[0, 1, 2]).partial_fit(*iris)
        assert parts.n_iter_ == 1 and len(parts.loss_curve_) == 2


@pytest.mark.parametrize("several", [False, True])
def test_the_score_that_stops_knows_the_weights(several):
    "Rows of weight 0 are nowhere in the scores of the rows held out."
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(400, 3)), (np.arange(400) % 2).astype(float)
    y = (x[:, 0] > 0).astype(int)
    y[weight == 0] = 1 - y[weight == 0]
    network = NeuralNetworkClassifier(random_state=0, early_stopping=True).fit(x, np.c_[y, 1 - y] if several else y, weight)
    assert network.best_validation_score_ > 0.9


def test_few_rows_to_stop_by():
    x, y = np.arange(24.0).reshape(12, 2), np.array([0] * 4 + [1] * 4 + [2] * 4)
    network = NeuralNetworkClassifier(random_state=0, early_stopping=True, validation_fraction=0.25, epochs=3)
    part = np.array(network.fit(x, y).history_.valid_loss)
    assert np.isfinite(part).all()
    from nn_from_scratch.seen import held_out
    for seed in range(50):  # 3 of 12 rows, one of each class, and never all of one
        _, held = held_out(np.random.default_rng(seed), y, np.ones(12), 0.25)
        assert sorted(y[held]) == [0, 1, 2]
    for settings, message in ((dict(early_stopping=True, validation_fraction=0), "between 0 and 1"), (dict(early_stopping=True, validation_fraction="a"), "between 0 and 1"), (dict(early_stopping=True), "The validation set is too small"),
                              (dict(early_stopping="yes"), "must be True or False"), (dict(shuffle="no"), "must be True or False"), (dict(warm_start=None), "must be True or False")):
        with pytest.raises(ValueError, match=message): NeuralNetworkClassifier(**settings).fit(x, y)
    with pytest.raises(ValueError, match=re.escape("one row only of [1]")): NeuralNetworkClassifier(early_stopping=True).fit(x, np.eye(12, dtype=int)[0])
    with pytest.raises(ValueError, match="too small"): NeuralNetworkRegressor(early_stopping=True).fit(x[:2], y[:2])
    with pytest.raises(ValueError, match="all have weight 0"): NeuralNetworkRegressor(early_stopping=True, validation_fraction=0.25).fit(x, y, [1] + [0] * 11)


def test_a_warm_fit_wants_the_same_classes(iris):
    x, y = iris
    network = NeuralNetworkClassifier(epochs=2, warm_start=True, random_state=0).fit(x, y)
    for other in (np.minimum(y, 1), np.arange(150) % 4, y + 10):
        with pytest.raises(ValueError, match="warm_start can only be used where `y` has the same classes"): network.fit(x, other)


@pytest.mark.parametrize("labels, message", [
    (["a", 1, None] * 50, "mixes labels of the kinds NoneType, int, str"), (["a", None, "b"] * 50, "mixes labels of the kinds NoneType, str"), ([[0, 1], [2, 1], [1, 0]] * 50, "Multioutput target data is not supported")])
def test_labels_that_cannot_be_told_apart(labels, message, iris):
    y = np.array(labels, object if isinstance(labels[0], str) else int)
    with pytest.raises(ValueError, match=message): NeuralNetworkClassifier(epochs=2).fit(iris[0], y)


@pytest.mark.parametrize("weights", [{0: -1, 1: 1, 2: 1}, {0: np.nan, 1: 1, 2: 1}, {0: np.inf, 1: 1, 2: 1}])
def test_weights_of_classes_that_make_no_sense(weights, iris):
    with pytest.raises(ValueError, match="class_weight: each weight is a finite number"): NeuralNetworkClassifier(class_weight=weights).fit(*iris)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("scale", [1e-300, 1e-40, 1e40, 1e150, 1e300])
def test_numbers_of_any_size(scale, iris):
    "Centred and scaled without a square that is infinite or 0."
    x, y = iris
    assert NeuralNetworkClassifier(random_state=0).fit(x * scale, y).score(x * scale, y) > 0.95
    regression = NeuralNetworkRegressor(random_state=0).fit(x, x[:, 0] * scale)
    np.testing.assert_allclose(regression.predict(x) / scale, x[:, 0], atol=0.3)


def test_targets_that_are_no_numbers(iris):
    import scipy.sparse
    x, y = iris
    for target in (scipy.sparse.csr_matrix(y[:, None]), np.datetime64("2024-01-01") + y):
        with pytest.raises(ValueError, match="must be a plain array of numbers"): NeuralNetworkRegressor().fit(x, target)


# ---------------------------------------------------------------- tables with words and holes

def frame(n=300, seed=0):
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(seed)
    size, colour = rng.normal(50, 10, n), rng.choice(["red", "green", "blue"], n)
    x = pandas.DataFrame({"size": np.where(rng.random(n) < 0.1, np.nan, size), "colour": colour})
    return x, np.where((size < 45) | (colour == "red"), "yes", "no"), size * np.where(colour == "red", 2, 1)


@pytest.mark.parametrize("kind", BOTH)
def test_words_and_holes_in_a_frame(kind, tmp_path):
    x, label, number = frame()
    y = label if kind is NeuralNetworkClassifier else number
    network = kind(random_state=0).fit(x, y)
    new, *answers = frame(seed=1)
    assert network.score(new, answers[kind is NeuralNetworkRegressor]) > 0.8
    assert network.feature_names_in_.tolist() == ["size", "colour"] and network.n_features_in_ == 2
    assert (pickle.loads(pickle.dumps(network)).predict(new) == network.predict(new)).all()
    pytest.importorskip("safetensors")
    nn.save(network.model_, tmp_path / "m")
    again = nn.load(tmp_path / "m")
    assert again(again[0].encode(new)).tobytes() == network.model_(network.model_[0].encode(new)).tobytes()
    with pytest.raises(ValueError, match="feature names"): network.predict(new.rename(columns={"size": "area"}))
    assert cross_val_score(kind(random_state=0, epochs=30), x, y, cv=3).min() > 0.5


def test_columns_of_0_and_1_are_left_as_they_are():
    rng = np.random.default_rng(0)
    x = np.c_[rng.normal(5, 3, 200), rng.random(200) < 0.02]
    ruler = NeuralNetworkClassifier(epochs=1).fit(x, x[:, 0] > 5).model_[0]
    assert ruler.mean[1] == 0 and ruler.std[1] == 1 and abs(ruler.mean[0] - x[:, 0].mean()) < 1e-9


@pytest.mark.parametrize("kind", BOTH)
def test_a_warm_training_that_fails_takes_nothing_away(kind, iris):
    x, y = iris
    network = kind(random_state=0, epochs=5, warm_start=True).fit(x, y)
    model, before = network.model_, network.predict(x)
    with pytest.raises(ValueError, match="Diverged"), np.errstate(all="ignore"):
        network.set_params(learning_rate=1e300).fit(x[::2] + 7, y[::2])
    assert network.model_ is model and (network.predict(x) == before).all()
    network.set_params(learning_rate=0.003).fit(x, y)
    assert np.isfinite(network.model_.parameters().vector).all()
