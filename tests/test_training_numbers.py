"""Right numbers in training: weights, precision, all of a model put back, what is not finite; several threads at once."""

import functools
import math
import os
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest

import nn_from_scratch as nn
from nn_from_scratch import states
from nn_from_scratch.batches import class_weights

MOONS = nn.moons(100, noise=0.1, rng=0)


def network(rng=0, **settings): return nn.mlp([2, 8, 2], rng=rng, **settings)
def theta(model): return model.parameters().vector.copy()
def train(model, data, optimizer=None, loss=nn.cross_entropy, **settings):
    return nn.fit(model, loss, optimizer or nn.SGD(0.1), data, progress=False, **settings)


# ---------------------------------------------------------------- weights

def constant():
    "A model that says the same for every x."
    return nn.Linear(1, 1, bias=False, init=lambda shape, rng, dtype: np.zeros(shape, dtype), dtype=np.float64)


def rare(n=800):
    y = np.zeros((n, 1))
    y[:n // 100] = 1
    return np.ones((n, 1)), y


def in_batches(order, arrays, size): return [tuple(a[order[i:i + size]] for a in arrays) for i in range(0, len(order), size)]


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("size, tol", [(1, 0.05), (32, 0.03), (100, 0.03), (800, 0.001)])
def test_the_answer_does_not_depend_on_the_batch_size(size, tol, listed):
    x, y = rare()
    weight = np.where(y[:, 0] == 1, 50, 50 / 99)  # both classes count alike: the answer is a half
    data = in_batches(np.random.default_rng(1).permutation(len(x)), (x, y, weight), size) if listed else (x, y, weight)
    model, found = constant(), []
    class Mean:  # single steps are noisy
        def on_epoch_end(self, run):
            if run.epoch > run.settings["epochs"] // 2: found.append(model.weight[0, 0])
    epochs = 40 if size < 800 else 300
    train(model, data, nn.SGD(lambda step: min(1, 0.1 * size) / (1 + step * size / 800)), nn.binary_cross_entropy, epochs=epochs, batch_size=size, callbacks=[Mean()])
    assert abs(nn.sigmoid(np.mean(found)) - 0.5) < tol


def test_the_gradients_of_all_batches_add_up_to_that_of_the_whole():
    "However the weighted samples are cut into batches: the mean of their gradients is the gradient of the objective."
    rng = np.random.default_rng(0)
    x, y, weight = rng.normal(size=(96, 3)), rng.integers(0, 2, 96), rng.exponential(size=96)
    model = nn.mlp([3, 4, 2], rng=0, dtype=np.float64)
    whole = nn.value_and_grad(lambda m: nn.cross_entropy(m(x), y, weight))(model)[1].vector.copy()
    for size in (1, 8, 32, 96):
        found = []
        class Note:
            def on_gradient(self, run, found=found):
                found.append(run.grads.vector.copy())
                run.grads.vector[...] = 0  # the model stays where it is
        train(model, (x, y, weight), epochs=1, batch_size=size, callbacks=[Note()])
        assert np.allclose(np.mean(found, axis=0), whole, rtol=1e-10, atol=1e-14), size


def test_weights_of_zero_are_as_if_the_samples_were_not_there():
    rng = np.random.default_rng(0)
    x, y, counts = rng.normal(size=(64, 3)), rng.integers(0, 2, 64), np.arange(64) % 2
    lengths = {}
    for name, data in {"weighted": (x, y, counts), "left out": (x[counts > 0], y[counts > 0])}.items():
        found = lengths[name] = []
        class Note:
            def on_gradient(self, run, found=found):
                found.append(run.grads.vector.copy())
                run.grads.vector[...] = 0
        train(nn.mlp([3, 4, 2], rng=0, dtype=np.float64), data, epochs=1, batch_size=64)
        train(nn.mlp([3, 4, 2], rng=0, dtype=np.float64), data, epochs=1, batch_size=1, callbacks=[Note()])
    assert np.allclose(np.sort(np.linalg.norm(lengths["weighted"], axis=1)), np.sort(np.linalg.norm(lengths["left out"], axis=1)))


@pytest.mark.parametrize("scale", [1, 3, 0.125])
def test_equal_weights_change_nothing(scale):
    models = [network(), network()]
    for model, data in zip(models, (MOONS, (*MOONS, np.full(100, scale)))): train(model, data, nn.SGD(0.1), epochs=3)
    assert np.allclose(theta(models[0]), theta(models[1]), rtol=1e-4, atol=1e-6)


def test_accumulated_batches_are_one_large_batch():
    x, y = MOONS
    rng = np.random.default_rng(0)
    for weight in ((), (rng.exponential(size=100),), ((rng.random(100) < 0.3).astype(float),)):
        one, parts = network(dtype=np.float64), network(dtype=np.float64)
        a = train(one, (x, y, *weight), nn.Adam(0.01), batch_size=60, epochs=3, metrics=[nn.accuracy])
        b = train(parts, (x, y, *weight), nn.Adam(0.01), batch_size=15, accumulate=4, epochs=3, metrics=[nn.accuracy])
        assert a.steps == b.steps == 6  # 60 and 40 samples: the last step of an epoch has three parts, one of 10
        assert np.allclose(theta(one), theta(parts), rtol=1e-9, atol=1e-12)
        assert np.allclose(a.train_loss, b.train_loss) and np.allclose(a.metrics["accuracy"]["train"], b.metrics["accuracy"]["train"])


def test_accumulated_batches_go_on_after_a_crash(tmp_path):
    class Crash(Exception): pass
    class Crashing:
        def on_step_end(self, run):
            if run.step == 5: raise Crash
    def run(*callbacks, **keep):
        model = network()
        history = train(model, (*MOONS, np.arange(100) % 3), nn.Adam(0.01), batch_size=10, accumulate=3, epochs=3, callbacks=list(callbacks), **keep)
        return theta(model).tobytes(), history
    keep = dict(checkpoint=tmp_path, checkpoint_every=1, resume=True)
    with pytest.raises(Crash): run(Crashing(), **keep)
    assert run(**keep) == run()


@pytest.mark.parametrize("listed", [False, True])
def test_class_weight(listed):
    x, y = MOONS
    keep = (y == 0) | (np.arange(100) % 4 == 0)
    x, y = x[keep], y[keep]
    counts = np.bincount(y)
    assert np.allclose(class_weights(y, "balanced"), len(y) / (2 * counts[y]))
    by_hand, by_class = network(), network()
    weight = np.array([1.0, 5.0])[y]
    cut = (lambda arrays: in_batches(np.arange(len(y)), arrays, 16)) if listed else (lambda arrays: arrays)
    train(by_hand, cut((x, y, weight)))
    train(by_class, cut((x, y)), class_weight={1: 5.0})
    assert np.array_equal(theta(by_hand), theta(by_class))


@pytest.mark.parametrize("kind, message, data, class_weight", [
    (TypeError, "dict of label -> weight", MOONS, "even"),
    (TypeError, "dict of label -> weight", MOONS, [1, 2]),
    (ValueError, "class_weight needs labels", (MOONS[0], MOONS[0]), "balanced"),
    (ValueError, "needs all labels at once", [MOONS], "balanced"),
    (ValueError, "class_weight[1] must be", MOONS, {1: -1.0}),
])
def test_class_weights_that_make_no_sense(kind, message, data, class_weight):
    with pytest.raises(kind) as caught: train(network(), data, class_weight=class_weight)
    assert message in str(caught.value)


# ---------------------------------------------------------------- metrics

def test_metrics_get_the_weights():
    x, y = MOONS
    weight = (np.arange(100) % 3).astype(float)
    said = {}
    def weighted(prediction, target, weight=None): return np.average(prediction.argmax(1) == target, weights=weight)
    def plain(prediction, target): return np.mean(prediction.argmax(1) == target)
    def third(prediction, target, w): return float(w.sum())
    model = network()
    right = model(x).argmax(1) == y
    for size in (1, 7, 100):
        said = nn.evaluate(model, nn.cross_entropy, (x, y, weight), [weighted, plain, third], batch_size=size)
        assert math.isclose(said["weighted"], np.average(right, weights=weight)) and said["third"] == weight.sum()
        assert math.isclose(said["plain"], right[weight > 0].mean())
    history = train(model, (x, y, weight), nn.SGD(1e-9), valid=(x, y, weight), metrics=[weighted, plain], epochs=1)
    assert math.isclose(history.metrics["weighted"]["valid"][0], np.average(right, weights=weight))


def loss(prediction, target): return 0


@pytest.mark.parametrize("kind, message, metrics", [
    (TypeError, "metrics must hold functions such as accuracy, not 'accuracy'", ["accuracy"]),
    (ValueError, "'<lambda>' is that of another metric", [lambda p, y: 0, lambda p, y: 1]),
    (ValueError, "'partial' is that of another metric", [functools.partial(nn.accuracy), functools.partial(nn.accuracy)]),
    (ValueError, "'loss' is that of the loss", [loss]),
])
def test_metrics_are_known_by_their_names(kind, message, metrics):
    for call in (lambda: train(network(), MOONS, metrics=metrics), lambda: nn.evaluate(network(), nn.cross_entropy, MOONS, metrics)):
        with pytest.raises(kind) as caught: call()
        assert message in str(caught.value)


def test_a_loss_with_three_arguments():
    def weighted(prediction, target, weight): return nn.cross_entropy(prediction, target, weight)
    def plain(prediction, target): return nn.cross_entropy(prediction, target)
    models = [network(), network()]
    data = (*MOONS, np.arange(100) % 3)
    for model, loss in zip(models, (weighted, nn.cross_entropy)): train(model, data, loss=loss, valid=data, epochs=2)
    assert np.array_equal(theta(models[0]), theta(models[1]))
    with pytest.raises(TypeError, match=r"the data has no weights, so the loss is asked as loss\(prediction, target\), and weighted cannot be"):
        train(network(), MOONS, loss=weighted)
    with pytest.raises(TypeError, match=r"the data has weights, so the loss is asked as loss\(prediction, target, weight\), and plain cannot be"):
        train(network(), data, loss=plain)


# ---------------------------------------------------------------- precision

def test_unix_times_as_a_feature():
    rng = np.random.default_rng(0)
    x = np.stack([1.7e9 + rng.uniform(0, 3600, 400), rng.normal(size=400)], axis=1)
    y = np.sin(x[:, :1] / 600)
    model = nn.Sequential(nn.Standardize(x), nn.Linear(2, 32, rng=0), nn.tanh, nn.Linear(32, 1, rng=1))
    history = train(model, (x, y), nn.Adam(0.02), nn.mse, valid=(x, y), epochs=200, metrics=[nn.r2_score])
    assert history.metrics["r2_score"]["valid"][-1] > 0.95
    assert np.array_equal(nn.predict(model, x), model.eval()(x))
    assert nn.evaluate(model, nn.mse, (x, y), [nn.r2_score])["r2_score"] > 0.95


def test_whole_numbers_stay_whole():
    seen = []
    class Embedding(nn.Module):
        def __init__(self): self.table = np.random.default_rng(0).normal(size=(5, 2))
        def __call__(self, x):
            seen.append(x.dtype)
            return self.table[np.asarray(x)] if not hasattr(self.table, "value") else self.table[x]
    x = np.arange(20) % 5
    train(Embedding(), (x, x % 2), epochs=1)
    nn.predict(Embedding(), x)
    assert set(seen) == {np.dtype(np.int64)}


@pytest.mark.parametrize("part", ["x", "y"])
def test_float64_beyond_float32(part):
    x, y = np.random.default_rng(0).normal(size=(20, 2)), np.zeros((20, 1))
    (x if part == "x" else y)[3] = 1e300
    with pytest.raises(ValueError, match=f"fit: training data: {part} goes up to 1e\\+300, and the model's float32 only to 3.4e\\+38"):
        train(nn.Linear(2, 1, rng=0), (x, y), loss=nn.mse)
    if part == "x":
        with pytest.raises(ValueError, match="predict: x goes up to"): nn.predict(nn.Linear(2, 1, rng=0), x)
    train(nn.Linear(2, 1, rng=0, dtype=np.float64), (x * 1e-300, y * 1e-300), loss=nn.mse, epochs=1)


# ---------------------------------------------------------------- all of a model

class Norm(nn.Module):
    "Running mean and spread, a count, a generator."
    def __init__(self): self._mean, self._var, self._count, self._rng = np.zeros(8, np.float32), np.ones(8, np.float32), 0, np.random.default_rng(0)
    def __call__(self, x):
        if self.training:
            value = getattr(x, "value", x)
            self._count += 1
            self._mean += 0.3 * (value.mean(0) - self._mean)
            self._var = 0.7 * self._var + 0.3 * value.var(0)
            x = x + self._rng.normal(0, 0.05, 8).astype(x.dtype)
        return (x - self._mean) / np.sqrt(self._var + 1e-5)


def normed(): return nn.Sequential(nn.Linear(2, 8, rng=0), Norm(), nn.relu, nn.Linear(8, 2, rng=1))


def test_snapshot_and_restore():
    model = normed()
    train(model, MOONS, epochs=1)
    taken, answers = states.snapshot(model), model.eval()(MOONS[0])
    mean, generator = model[1]._mean, model[1]._rng
    for _ in range(2):  # and a snapshot can be used again
        train(model, MOONS, nn.SGD(0.5), epochs=2)
        assert not np.allclose(model.eval()(MOONS[0]), answers)
        states.restore(model, taken)
        assert np.array_equal(model.eval()(MOONS[0]), answers) and model[1]._mean is mean and model[1]._rng is generator
    with pytest.raises(ValueError, match="restore: the model has .* parameters in"): states.restore(network(), taken)


def test_early_stopping_returns_the_model_of_its_best_loss():
    model, early = normed(), nn.EarlyStopping(3)
    history = train(model, MOONS, nn.SGD(1.5), valid=nn.moons(60, noise=0.3, rng=1), epochs=60, callbacks=[early])
    assert history.stopped == "callback" and early.best_epoch < len(history.valid_loss)
    assert math.isclose(nn.evaluate(model, nn.cross_entropy, nn.moons(60, noise=0.3, rng=1))["loss"], early.best_loss, rel_tol=1e-6)


def test_the_learning_rate_finder_puts_all_of_the_model_back():
    model = normed()
    train(model, MOONS, epochs=1)
    before, count = nn.predict(model, MOONS[0]), model[1]._count
    train(model, MOONS, epochs=50, callbacks=[nn.LearningRateFinder(steps=40)])
    assert np.array_equal(nn.predict(model, MOONS[0]), before) and model[1]._count == count


def test_after_divergence_parameters_and_state_are_finite():
    x, y = MOONS
    class Poison:
        def __iter__(self): return iter([(x, y), (np.full_like(x, 3e38), y)])
    model = normed()
    with np.errstate(all="ignore"): history = train(model, Poison(), valid=MOONS)
    assert history.stopped == "diverged" and np.isfinite(theta(model)).all()
    assert np.isfinite(model[1]._mean).all() and np.isfinite(model[1]._var).all() and np.isfinite(nn.predict(model, x)).all()


@pytest.mark.parametrize("make, dtype", [(lambda: nn.Adam(0.01), np.float16), (lambda: nn.Adam(0.01, eps=1e-30), np.float32)])
def test_adam_that_divides_by_zero_keeps_finite_parameters(make, dtype):
    x = np.zeros((8, 2))
    x[:, 0] = 1
    model = nn.Linear(2, 2, rng=0, dtype=dtype)  # the gradient of one feature is 0
    before = theta(model)
    history = train(model, (x, np.zeros(8, int)), make(), epochs=3)
    assert np.isfinite(theta(model)).all() and (history.stopped != "diverged" or history.steps or np.array_equal(theta(model), before))


# ---------------------------------------------------------------- not finite

def test_early_stopping_when_no_loss_is_finite():
    model, early = network(), nn.EarlyStopping(2)
    def endless(prediction, target): return nn.cross_entropy(prediction, target) if hasattr(prediction, "tape") else np.inf
    history = train(model, MOONS, loss=endless, valid=MOONS, callbacks=[early])
    assert len(history.valid_loss) == 2 and "it was never a finite number; the model stays as it is" in history.stopped_because
    assert early.best_epoch == 0


def test_a_finder_whose_first_loss_is_not_finite():
    finder = nn.LearningRateFinder()
    @nn.operation
    def loss(prediction, target): return np.float32(np.inf) + 0 * np.sum(prediction)
    nn.defvjp(loss, lambda g, value, p, t: 0 * p, None)
    train(network(), MOONS, loss=loss, callbacks=[finder])
    with pytest.raises(ValueError, match="the very first loss or gradient was not finite, at a learning rate of 1e-06"): _ = finder.suggestion


def test_a_search_that_ended_early_says_so():
    finder = nn.LearningRateFinder()
    train(network(), MOONS, epochs=3, callbacks=[finder])
    with pytest.warns(UserWarning, match="the search ended after 12 of 100 rates, at 5.*, and what lies above was not tried"): _ = finder.suggestion
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(network(), MOONS, epochs=100, callbacks=[finder])
        assert finder.suggestion


# ---------------------------------------------------------------- callbacks and the record

def test_early_stopping_watches_a_metric():
    early = nn.EarlyStopping(4, monitor="accuracy")
    history = train(network(), MOONS, nn.SGD(0.5), valid=MOONS, epochs=100, metrics=[nn.accuracy], callbacks=[early])
    values = history.metrics["accuracy"]["valid"]
    assert early.best_value == max(values) == values[early.best_epoch - 1] and early.best_loss == history.valid_loss[early.best_epoch - 1]
    assert "the validation accuracy has not improved for 4 epochs" in history.stopped_because
    with pytest.raises(ValueError, match="there is no metric 'recall' to watch: this run has loss, accuracy"):
        train(network(), MOONS, valid=MOONS, metrics=[nn.accuracy], callbacks=[nn.EarlyStopping(monitor="recall")])
    with pytest.raises(ValueError, match="mode must be"): nn.EarlyStopping(mode="up")


def test_the_learning_rate_falls_on_a_plateau(tmp_path):
    def run(*callbacks, **keep):
        model, optimizer, plateau = network(), nn.SGD(3.0), nn.ReduceLROnPlateau(0.5, patience=2, min_lr=0.2)
        history = train(model, MOONS, optimizer, valid=MOONS, epochs=30, callbacks=[plateau, *callbacks], **keep)
        return theta(model).tobytes(), history.valid_loss, plateau.rates, optimizer.lr
    _, losses, rates, lr = run()
    assert rates and all(b <= a for (_, a), (_, b) in zip(rates, rates[1:])) and lr == rates[-1][1] >= 0.2
    first = rates[0][0]
    assert min(losses[first - 2:first]) >= min(losses[:first - 2])  # two epochs without an improvement
    class Crash(Exception): pass
    def crash(run):
        if run.epoch == first + 1: raise Crash
    with pytest.raises(Crash): run(crash, checkpoint=tmp_path, resume=True)
    assert run(checkpoint=tmp_path, resume=True) == run()
    with pytest.raises(ValueError, match="the learning rate is a schedule"):
        train(network(), MOONS, nn.SGD(nn.cosine_decay(0.1, 10)), valid=MOONS, callbacks=[nn.ReduceLROnPlateau()])


def test_the_record_as_rows():
    history = train(network(), MOONS, valid=MOONS, epochs=2, metrics=[nn.accuracy])
    rows = history.rows()
    assert [row["epoch"] for row in rows] == [1, 2]
    assert list(rows[0]) == ["epoch", "train_loss", "valid_loss", "train_accuracy", "valid_accuracy"]
    assert [row["valid_loss"] for row in rows] == history.valid_loss
    assert list(train(network(), MOONS, epochs=1).rows()[0]) == ["epoch", "train_loss"] and nn.History().rows() == []


def test_the_gradient_may_be_changed_before_it_is_clipped():
    lengths = []
    class Ten:
        def on_gradient(self, run): run.grads.vector[...] *= 1e6
        def on_step_end(self, run): lengths.append(np.linalg.norm(run.grads.vector))
    train(network(), MOONS, clip_norm=0.5, callbacks=[Ten()])
    assert np.allclose(lengths, 0.5, rtol=1e-4)
    class Broken:
        def on_gradient(self, run): run.grads.vector[3] = np.nan
    model = network()
    before = theta(model)
    assert train(model, MOONS, callbacks=[Broken()]).stopped == "diverged" and np.array_equal(theta(model), before)


def test_every_callback_hears_the_end():
    told = []
    class Last:
        def __init__(self, name): self.name = name
        def on_fit_end(self, run):
            told.append(self.name)
            if self.name == "b": raise OSError("full")
    with pytest.raises(OSError, match="full") as caught: train(network(), MOONS, epochs=1, callbacks=[Last("a"), Last("b"), Last("c")])
    assert told == ["a", "b", "c"] and caught.value.history.stopped == "error"


def test_convergence_and_checkpoints_are_callbacks(tmp_path):
    models = [network(), network()]
    a = train(models[0], MOONS, epochs=30, checkpoint=tmp_path / "a", tol=0.5, patience=2)
    from nn_from_scratch.checkpoints import Checkpoints
    from nn_from_scratch.stopping import Convergence
    b = train(models[1], MOONS, epochs=30, callbacks=[Checkpoints(tmp_path / "b"), Convergence(0.5, 2)])
    assert a == b and a.stopped == "converged" and np.array_equal(theta(models[0]), theta(models[1]))
    assert sorted(os.listdir(tmp_path / "a")) == sorted(os.listdir(tmp_path / "b"))


# ---------------------------------------------------------------- threads

class Doubling(nn.Module):
    "Something that looks at its mode."
    def __init__(self): self.inner = network()
    def __call__(self, x): return self.inner(x) * np.float32(1 if self.training else 2)


def in_threads(n, work):
    errors = []
    def run(i):
        try: work(i)
        except BaseException as error: errors.append(error)
    threads = [threading.Thread(target=run, args=(i,)) for i in range(n)]
    for thread in threads: thread.start()
    for thread in threads: thread.join(120)
    assert not errors, errors[0]


def test_predictions_of_several_threads():
    model, x = Doubling(), nn.moons(3000, rng=1)[0]
    right = nn.predict(model, x, batch_size=100)
    assert np.array_equal(right, 2 * nn.predict(model.inner, x, batch_size=100))
    in_threads(4, lambda i: [np.testing.assert_array_equal(nn.predict(model, x, batch_size=100), right) for _ in range(50)])
    assert model.training and "training" not in vars(model)


def test_predictions_beside_a_training():
    alone, straight = Doubling(), []
    train(alone, MOONS, nn.Adam(0.01), epochs=60, callbacks=[lambda run: straight.append(nn.predict(run.model, MOONS[0]).tobytes())])
    model, x, seen, done = Doubling(), MOONS[0], [], threading.Event()
    known = set()
    class Note:  # every state there is between two steps
        def on_fit_start(self, run): known.add(nn.predict(run.model, x).tobytes())
        def on_step_end(self, run): known.add(nn.predict(run.model, x).tobytes())
    def work(i):
        if i == 0:
            try: train(model, MOONS, nn.Adam(0.01), epochs=60, callbacks=[Note()])
            finally: done.set()
        else:
            while not done.is_set(): seen.append(nn.predict(model, x).tobytes())
    in_threads(3, work)
    assert np.array_equal(theta(model), theta(alone)) and len(seen) > 50
    assert set(seen) <= known  # no prediction with half a step, none in training mode


def test_a_prediction_within_its_own_gradient_is_refused():
    model = network()
    with pytest.raises(RuntimeError, match="a gradient of this model is being taken"):
        nn.value_and_grad(lambda m: nn.predict(m, MOONS[0]).sum())(model)


# ---------------------------------------------------------------- surroundings

def test_without_a_console():
    code = ("import sys; sys.stderr = None; import nn_from_scratch as nn; "
            "h = nn.fit(nn.mlp([2, 4, 2], rng=0), nn.cross_entropy, nn.SGD(0.1), nn.moons(50), epochs=2); print(h.stopped)")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "epochs\n"
    closed = code.replace("sys.stderr = None", "sys.stderr.close()")
    assert subprocess.run([sys.executable, "-c", closed], capture_output=True, text=True, check=True).stdout == "epochs\n"


NESTED = """
import nbformat, sys
from nbclient import NotebookClient
shown = []
class Client(NotebookClient):
    def process_message(self, message, cell, cell_index):
        if message["msg_type"] in ("update_display_data", "display_data", "stream"): shown.append(repr(message["content"]))
        return super().process_message(message, cell, cell_index)
code = '''import nn_from_scratch as nn, sys
from tqdm import tqdm
for s in tqdm(range(3), file=sys.stdout): nn.fit(nn.mlp([2, 8, 2], rng=0), nn.cross_entropy, nn.SGD(0.1), nn.moons(300), epochs=30);'''
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
Client(notebook).execute()
print([text for text in shown if "x1b[A" in text and "epoch" not in text and "stream" not in text], "0%|" in "".join(shown), "00:00<" in "".join(shown))
print([output for output in notebook.cells[0].outputs if "x1b" in repr(output)])
"""


@pytest.mark.project
def test_a_bar_around_the_bar_in_a_notebook():
    for module in ("nbclient", "ipykernel"): pytest.importorskip(module)
    text = subprocess.run([sys.executable, "-W", "ignore", "-c", NESTED], capture_output=True, text=True, check=True, timeout=120).stdout
    assert text.splitlines() == ["[] True True", "[]"], text


# ---------------------------------------------------------------- what chapter 5 says, over seeds

def test_how_large_a_step_should_be():
    "On the digits, five epochs: the useful length of an update is one to five parts in a hundred, not one in a thousand."
    class Ratio(nn.Callback):
        def on_fit_start(self, run): self.ratios = []
        def on_step_start(self, run): self.before = theta(run.model)
        def on_step_end(self, run): self.ratios.append(np.linalg.norm(theta(run.model) - self.before) / np.linalg.norm(self.before))
    x, y = nn.load_digits()
    for lr, low, high, worst, best in ((0.005, 2e-4, 1e-3, 0.2, 0.5), (0.02, 1e-3, 4e-3, 0.6, 0.88), (0.2, 8e-3, 2e-2, 0.88, 1), (1, 3e-2, 8e-2, 0.85, 1), (5, 1e-3, 5e-2, 0, 0.2)):
        for seed in range(10):
            data, valid = nn.train_valid_split(x, y, rng=seed)
            ratio = Ratio()
            history = train(nn.mlp([64, 32, 10], rng=seed), data, nn.SGD(lr), valid=valid, epochs=5, metrics=[nn.accuracy], callbacks=[ratio], rng=seed)
            assert low < np.median(ratio.ratios) < high and worst <= history.metrics["accuracy"]["valid"][-1] <= best, (lr, seed)


def test_an_average_is_what_is_judged_kept_and_gone_on_from(tmp_path):
    data, valid = nn.moons(100, rng=0), nn.moons(100, rng=1)

    def train(epochs, early=(), **more):
        model, optimizer = nn.mlp([2, 8, 2], rng=0), nn.ScheduleFree(0.05)
        history = nn.fit(model, nn.cross_entropy, optimizer, data, valid, epochs=epochs,
                         callbacks=early, progress=False, **more)
        return model, optimizer, history

    model, optimizer, history = train(4)
    assert nn.evaluate(model, nn.cross_entropy, valid)["loss"] == history.valid_loss[-1]
    mean = np.concatenate([memory[1] for memory in optimizer.memory.values()])
    assert np.array_equal(model.parameters().vector, mean)

    early = nn.EarlyStopping(1, min_delta=0.5)
    model, _, history = train(50, [early])
    assert history.stopped == "callback"
    assert nn.evaluate(model, nn.cross_entropy, valid)["loss"] == early.best_loss

    train(3, checkpoint=tmp_path)
    again = train(6, checkpoint=tmp_path, resume=True)
    assert np.array_equal(again[0].parameters().vector, train(6)[0].parameters().vector)


def test_a_state_that_is_no_longer_finite_is_a_divergence():
    model = normed()
    with np.errstate(all="ignore"):
        history = nn.fit(model, nn.cross_entropy, nn.SGD(1e30), MOONS, epochs=2, progress=False)
    assert history.stopped == "diverged" and "a running state of the model is not finite" in history.stopped_because
    assert np.isfinite(model[1]._mean).all() and np.isfinite(model[1]._var).all() and np.isfinite(theta(model)).all()


@pytest.mark.parametrize("use", [
    lambda model, x, y: nn.fit(model, nn.mse, nn.SGD(0.1), (x, y), progress=False),
    lambda model, x, y: nn.fit(model, nn.mse, nn.SGD(0.1), (y.filled(0), y), progress=False),
    lambda model, x, y: nn.fit(model, nn.mse, nn.SGD(0.1), [(x, y.filled(0))], progress=False),
    lambda model, x, y: nn.evaluate(model, nn.mse, (x, y)),
    lambda model, x, y: nn.predict(model, x),
    lambda model, x, y: nn.Standardize(x),
    lambda model, x, y: nn.Standardize(y.filled(0))(x),
    lambda model, x, y: nn.train_valid_split(x, y),
    lambda model, x, y: list(nn.batches(x, y, 2)),
    lambda model, x, y: nn.mse(y.filled(0), y),
    lambda model, x, y: nn.mse(y.filled(0), y.filled(0), y[:, 0]),
    lambda model, x, y: nn.r2_score(y.filled(0), y),
    lambda model, x, y: nn.accuracy(y, np.array([0, 1, 0])),
    lambda model, x, y: nn.cross_entropy(np.zeros((3, 2)), y[:, 0].astype(int)),
], ids=range(14))
def test_a_mask_is_not_lost_in_silence(use):
    values = np.ma.array([[1.0], [999.0], [3.0]], mask=[[0], [1], [0]])
    with pytest.raises(TypeError, match="is a masked array, and its mask would be lost"):
        use(nn.mlp([1, 1], rng=0), values, values)
    whole = np.ma.array([[1.0], [2.0], [3.0]])
    assert np.isfinite(nn.mse(whole, whole))  # no mask: nothing to lose
