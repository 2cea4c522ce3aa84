"The estimators keep scikit-learn's rules, and do what a user of scikit-learn expects."

import pickle
import re

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.6", reason="the estimators need scikit-learn 1.6 or later")

from sklearn import datasets
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import check_estimator

from nn_from_scratch.estimators import NeuralNetworkClassifier, NeuralNetworkRegressor

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
    assert warm.model_ is model and (model.parameters().vector != after_three).any() and warm._optimizer.steps == 12
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
