"""The training loop: batches, every way in which a run ends, callbacks, what a mistake is answered with, the same bits again."""

import json
import math
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import nn_from_scratch as nn


def network(rng=0, **settings): return nn.mlp([2, 16, 16, 2], rng=rng, **settings)
def theta(model): return model.parameters().vector.copy()
def train(model, data, optimizer=None, **settings):
    return nn.fit(model, nn.cross_entropy, optimizer or nn.SGD(0.1), data, progress=False, **settings)


@pytest.fixture
def moons(): return nn.moons(100, noise=0.1, rng=0)


# ---------------------------------------------------------------- batches

@pytest.mark.parametrize("n, size, drop_last, sizes", [(10, 4, False, [4, 4, 2]), (10, 4, True, [4, 4]), (8, 4, True, [4, 4]),
                                                       (3, 4, False, [3]), (3, 4, True, []), (1, 1, False, [1])])
def test_batches_are_a_partition(n, size, drop_last, sizes):
    parts = list(nn.batches(np.arange(n), np.arange(n) + 100, size, rng=0, drop_last=drop_last))
    assert [len(x) for x, _ in parts] == sizes
    seen = [i for x, _ in parts for i in x]
    assert len(set(seen)) == len(seen) == sum(sizes) and set(seen) <= set(range(n))
    assert all((y == x + 100).all() for x, y in parts)


def test_the_order_of_batches_is_the_generators():
    def order(**settings): return np.concatenate([x for x, _ in nn.batches(np.arange(50), np.arange(50), 8, **settings)]).tolist()
    assert order(shuffle=False) == list(range(50)) != order(rng=0)
    assert order(rng=0) == order(rng=0) != order(rng=1)
    assert order(rng=np.random.default_rng(0)) == order(rng=0)
    rng = np.random.default_rng(0)
    assert order(rng=rng) != order(rng=rng)  # a generator goes on


@pytest.mark.parametrize("call, message", [
    (lambda: nn.batches(np.ones(3), np.ones(4), 2), "x is (3,), y is (4,)"),
    (lambda: nn.batches(np.ones(0), np.ones(0), 2), "there are no samples"),
    (lambda: nn.batches(np.ones(3), np.ones(3), 0), "batch_size must be a whole number of at least 1, not 0"),
    (lambda: nn.batches(np.ones(3), np.ones(3), 1.5), "not 1.5"),
])
def test_a_mistake_in_batches_is_answered_at_once(call, message):
    with pytest.raises(ValueError) as caught: call()  # not only when the first batch is asked for
    assert message in str(caught.value)


# ---------------------------------------------------------------- the convergence criterion

@pytest.mark.parametrize("losses, tol, patience, answer", [
    ([1.0] * 9, 0.01, 5, False),  # too short
    ([1.0] * 10, 0.01, 5, True),
    ([0.9**i for i in range(30)], 0.01, 5, False),
    ([2 - 0.1 * i for i in range(10)], 0.5, 5, True),  # falls, but by less than half
    ([1, 1, 1, 1, 1, 0.99, 0.99, 0.99, 0.99, 0.99], 0.01, 5, True),  # exactly tol
    ([1, 1, 1, 1, 1, 0.98, 0.98, 0.98, 0.98, 0.98], 0.01, 5, False),
    ([1, 1, 1e-9, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.5], 0.01, 5, False),  # one lucky dip before: not poisoned
    ([1, 1, 1, 1, 1, 0.5, 0.5, 9, 0.5, 0.5], 0.01, 5, False),  # one unlucky epoch after
    ([1, 2, 1, 2], 0.01, 2, True),
    ([3, 1, 1], 0.01, 1, True),
    ([0.0] * 4, 0.01, 2, True),  # nothing left to gain
    ([0.5] * 5 + [0.9] * 5, 0.01, 5, True),  # rising is not falling
])
def test_has_converged(losses, tol, patience, answer):
    assert nn.has_converged(losses, tol, patience) is answer


# ---------------------------------------------------------------- every way to stop

def test_stops_after_the_epochs(moons):
    history = train(network(), moons, valid=moons, epochs=3, metrics=[nn.accuracy])
    assert (history.stopped, history.steps) == ("epochs", 12)
    assert len(history.train_loss) == len(history.valid_loss) == 3
    assert [len(values) for values in history.metrics["accuracy"].values()] == [3, 3]
    assert json.loads(json.dumps(history.to_dict())) == history.to_dict()


@pytest.mark.parametrize("steps, epochs", [(1, 1), (4, 1), (5, 2), (8, 2)])
def test_stops_after_the_steps(moons, steps, epochs):
    history = train(network(), moons, max_steps=steps, epochs=50)
    assert (history.stopped, history.steps, len(history.train_loss)) == ("steps", steps, epochs)
    assert history.stopped_because == ("The one step is done." if steps == 1 else f"All {steps} steps are done.")


def test_no_batch_is_taken_that_is_not_used(moons):
    taken = []
    def given():
        for batch in nn.batches(*moons, 10, rng=0):
            taken.append(1)
            yield batch
    train(network(), given(), max_steps=3)
    assert len(taken) == 3


def test_stops_when_converged():
    x, y = nn.regression(300, noise=0.1, rng=0)
    history = nn.fit(nn.mlp([1, 32, 32, 1], nn.tanh, rng=0), nn.mse, nn.Adam(0.01), (x, y), epochs=500, tol=0.01, patience=10,
                     metrics=[nn.r2_score], progress=False)
    assert history.stopped == "converged" and len(history.train_loss) < 500
    assert nn.has_converged(history.train_loss, 0.01, 10) and not nn.has_converged(history.train_loss[:-1], 0.01, 10)
    assert history.metrics["r2_score"]["train"][-1] > 0.95


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("lr", [10.0, 1e3, 1e10, 1e20, 1e39, 1e300])
@pytest.mark.parametrize("make", [nn.SGD, lambda lr: nn.SGD(lr, momentum=0.9, nesterov=True), nn.Adam,
                                  lambda lr: nn.AdamW(lr, weight_decay=10.0), nn.RMSprop])
def test_a_diverged_run_keeps_the_last_finite_parameters(make, lr, dtype):
    x, y = nn.regression(64, noise=0.1, rng=0)
    model = nn.mlp([1, 8, 1], rng=0, dtype=dtype)
    history = nn.fit(model, nn.mse, make(lr), (100 * x, 100 * y), epochs=100, progress=False)
    assert np.isfinite(theta(model)).all()
    assert np.isfinite(history.train_loss).all()
    if history.stopped != "epochs":
        assert history.stopped == "diverged"
        assert f"after {history.steps} step" in history.stopped_because and "smaller learning rate" in history.stopped_because


def test_the_step_that_diverges_changes_nothing(moons):
    model = network()
    before = theta(model)
    history = train(model, moons, nn.SGD(1e39))
    assert (history.stopped, history.steps, history.train_loss) == ("diverged", 0, [])
    assert np.array_equal(theta(model), before)
    assert train(model, moons).stopped == "epochs"  # and it can be used


def test_a_gradient_that_is_not_finite_stops_the_run(moons):
    @nn.operation
    def loss(logits, y): return np.sum(logits * 0)
    nn.defvjp(loss, lambda g, value, logits, y: np.full(logits.shape, np.nan, logits.dtype), None)
    model = network()
    before = theta(model)
    history = nn.fit(model, loss, nn.SGD(0.1), moons, progress=False)
    assert history.stopped == "diverged" and "a gradient is not finite" in history.stopped_because
    assert np.array_equal(theta(model), before)


def test_a_function_that_answers_true_stops_the_run(moons):
    history = train(network(), moons, callbacks=[lambda run: run.epoch == 3])
    assert (history.stopped, len(history.train_loss)) == ("callback", 3) and "<lambda> asked to stop in epoch 3" in history.stopped_because
    history = train(network(), moons, callbacks=[lambda run: np.bool_(run.epoch == 2)])
    assert (history.stopped, len(history.train_loss)) == ("callback", 2)
    history = train(network(), moons, callbacks=[lambda run: 1, lambda run: [True], lambda run: "yes"])  # only True is True
    assert history.stopped == "epochs"


@pytest.mark.parametrize("event", ["on_fit_start", "on_epoch_start", "on_step_start", "on_step_end", "on_epoch_end"])
def test_an_interrupt_anywhere_returns_the_history_so_far(moons, event):
    class Impatient:
        def __call__(self, run):
            if event == "on_fit_start" or run.epoch == 2: os.kill(os.getpid(), signal.SIGINT)
    impatient = Impatient()
    setattr(impatient, event, impatient)
    model = network()
    history = train(model, moons, callbacks=[impatient])
    assert history.stopped == "interrupted" and "Interrupted" in history.stopped_because
    assert len(history.train_loss) == {"on_fit_start": 0, "on_epoch_end": 2}.get(event, 1)
    assert np.isfinite(theta(model)).all() and train(model, moons).stopped == "epochs"


# ---------------------------------------------------------------- errors on the way

@pytest.mark.parametrize("event", ["on_fit_start", "on_epoch_start", "on_step_start", "on_step_end", "on_epoch_end", "on_fit_end"])
def test_the_error_of_a_callback_reaches_the_user(moons, event):
    class Faulty(nn.Callback): pass
    def fail(self, run):
        if run.epoch == 2 or event == "on_fit_start": raise OSError("the disk is full")
    setattr(Faulty, event, fail)
    model, callbacks = network(), [Faulty(), nn.EarlyStopping(), nn.LearningRateFinder(steps=1000, high=1e-5)]  # their ends do not hide it
    with pytest.raises(OSError, match="the disk is full") as caught: train(model, moons, valid=moons, epochs=2, callbacks=callbacks)
    history = caught.value.history
    assert history.stopped == "error" and "OSError" in history.stopped_because
    assert len(history.train_loss) == {"on_fit_start": 0, "on_epoch_end": 2, "on_fit_end": 2}.get(event, 1)
    assert train(model, moons).stopped == "epochs"


def test_the_error_of_an_iterable_reaches_the_user(moons):
    def broken():
        yield moons
        raise OSError("connection lost")
    model = network()
    with pytest.raises(OSError, match="connection lost") as caught: train(model, broken())
    assert caught.value.history.steps == 1 and train(model, moons).stopped == "epochs"


def with_nan(x):
    x = x.copy()
    x[7, 1] = np.nan
    return x


@pytest.mark.parametrize("kind, message, given", [
    (ValueError, "x is not finite in 1 of 200 places, first nan in row 7, column 1", lambda x, y: (with_nan(x), y)),
    (ValueError, "y is not finite", lambda x, y: (x, with_nan(np.eye(2)[y]))),
    (ValueError, "weight is not finite", lambda x, y: (x, y, np.full(len(x), np.inf))),
    (ValueError, "labels must be from 0 to 1, for 2 outputs, but they go from 1 to 2", lambda x, y: (x, y + 1)),
    (ValueError, "but they go from -1 to", lambda x, y: (x, y - 1)),
    (TypeError, "labels must be whole numbers (0 to 1), not float32: try labels.astype(int)", lambda x, y: (x, y.astype(float))),
    (ValueError, "x is (50, 2), y is (100,)", lambda x, y: (x[:50], y)),
    (ValueError, "there are no samples", lambda x, y: (x[:0], y[:0])),
    (ValueError, "linear: x has 1 features but the weight expects 2", lambda x, y: (x[:, :1], y)),
    (TypeError, "x must hold numbers", lambda x, y: (x.astype(str), y)),
    (TypeError, "expected arrays, (x, y) or (x, y, weight), but there is a tuple of 1", lambda x, y: (x,)),
    (TypeError, "arrays go in a tuple; batches, each such a tuple, in a list", lambda x, y: ((x, y), (x, y))),
    (ValueError, "not all zero", lambda x, y: (x, y, np.zeros(len(x)))),
    (ValueError, "non-negative", lambda x, y: (x, y, np.where(y, 1, -1))),
    (ValueError, "weight is (3,)", lambda x, y: (x, y, np.ones(3))),
])
@pytest.mark.parametrize("role", ["train", "valid"])
def test_bad_data_is_refused_before_anything_is_changed(moons, kind, message, given, role):
    model, optimizer = network(), nn.Adam()
    model.eval()
    before, data = theta(model), given(*moons)
    with pytest.raises(kind) as caught:
        if role == "train": train(model, data, optimizer)
        else: train(model, moons, optimizer, valid=data)
    assert message in str(caught.value)
    assert np.array_equal(theta(model), before) and optimizer.steps == 0 and not optimizer.memory and model.training is False


def test_a_bad_target_anywhere_is_found_before_the_training(moons):
    x, y = moons
    targets = y.astype(np.float32)[:, None]
    targets[77] = 1.5
    model = nn.mlp([2, 4, 1], rng=0)
    before = theta(model)
    with pytest.raises(ValueError, match="targets must be in 0..1"): nn.fit(model, nn.binary_cross_entropy, nn.SGD(0.1), (x, targets))
    with pytest.raises(ValueError, match=r"the target is \(100,\)"): nn.fit(model, nn.mse, nn.SGD(0.1), (x, y))
    assert np.array_equal(theta(model), before)


@pytest.mark.parametrize("settings, message", [
    (dict(epochs=0), "epochs must be a whole number of at least 1, not 0"),
    (dict(epochs=None), "epochs must be a whole number of at least 1, not None"),
    (dict(max_steps=0), "max_steps must be"),
    (dict(batch_size=1.5), "batch_size must be a whole number of at least 1, not 1.5"),
    (dict(patience=-1), "patience must be"),
    (dict(tol=0), "tol must be positive, not 0"),
    (dict(clip_norm=-1.0), "clip_norm must be positive, not -1.0"),
])
def test_settings_that_make_no_sense(moons, settings, message):
    with pytest.raises(ValueError) as caught: train(network(), moons, **settings)
    assert message in str(caught.value)


def test_what_is_not_a_model_or_a_callback(moons):
    class Typo(nn.Callback):
        def on_epoch_ends(self, run): pass
    for kind, message, call in [
        (TypeError, "model must be a Module (mlp, Sequential, or a class of your own), not <lambda>", lambda: train(lambda x: x, moons)),
        (TypeError, "optimizer must be an Optimizer such as Adam(), not Adam", lambda: train(network(), moons, nn.Adam)),
        (TypeError, "loss must be a function such as mse, not SGD", lambda: nn.fit(network(), nn.SGD(1), nn.mse, moons)),
        (TypeError, "metrics must be a list such as [accuracy], not accuracy", lambda: train(network(), moons, metrics=nn.accuracy)),
        (TypeError, "metrics must be a list", lambda: nn.evaluate(network(), nn.cross_entropy, moons, metrics=nn.accuracy)),
        (TypeError, "callbacks must be a list such as [EarlyStopping()]", lambda: train(network(), moons, callbacks=nn.EarlyStopping())),
        (ValueError, "no parameters to train", lambda: train(nn.Sequential(nn.relu), moons)),
        (TypeError, "is not a callback", lambda: train(network(), moons, callbacks=[3])),
        (TypeError, "is not a callback", lambda: train(network(), moons, callbacks=[nn.EarlyStopping])),
        (ValueError, "Typo has a method on_epoch_ends, but the events are", lambda: train(network(), moons, callbacks=[Typo()])),
        (ValueError, "EarlyStopping needs validation data", lambda: train(network(), moons, callbacks=[nn.EarlyStopping()])),
        (ValueError, "patience must be a whole number", lambda: nn.EarlyStopping(0)),
        (ValueError, "0 < low < high", lambda: nn.LearningRateFinder(low=1, high=0.1)),
        (ValueError, "it has seen no batch yet", lambda: nn.LearningRateFinder().suggestion),
    ]:
        with pytest.raises(kind) as caught: call()
        assert message in str(caught.value)


# ---------------------------------------------------------------- the data

def test_an_iterable_is_gone_through_once_an_epoch(moons):
    listed = list(nn.batches(*moons, 32, shuffle=False))
    class Reader:
        passes = 0
        def __iter__(self):
            self.passes += 1
            return iter(listed)
    reader, a, b, c = Reader(), network(), network(), network()
    histories = [train(a, reader, valid=listed, epochs=3), train(b, listed, valid=moons, epochs=3),
                 train(c, [list(batch) for batch in listed], epochs=3)]
    assert reader.passes == 3 and [h.steps for h in histories] == [12, 12, 12]
    assert np.array_equal(theta(a), theta(b)) and np.array_equal(theta(a), theta(c))
    assert np.allclose(histories[0].valid_loss, histories[1].valid_loss, rtol=1e-5)


def test_a_generator_is_exhausted_after_one_epoch(moons):
    assert train(network(), nn.batches(*moons, 32), epochs=1).stopped == "epochs"
    with pytest.raises(ValueError, match="a generator, which can be gone through only once") as caught:
        train(network(), nn.batches(*moons, 32), epochs=2)
    assert len(caught.value.history.train_loss) == 1
    with pytest.raises(ValueError, match="a generator, which can be gone through only once"):
        train(network(), moons, valid=nn.batches(*moons, 32), epochs=2)
    with pytest.raises(ValueError, match="no batch"): nn.evaluate(network(), nn.cross_entropy, [])


@pytest.mark.parametrize("batch, kind, message", [
    (lambda x, y: x, TypeError, "but there is a ndarray of 100"),
    (lambda x, y: (with_nan(x), y), ValueError, "a batch: x is not finite"),
    (lambda x, y: (x, y[:3]), ValueError, "a batch: x and y must have one row for each sample"),
    (lambda x, y: (x, y + 5), ValueError, "labels must be from 0 to 1"),
])
def test_a_bad_batch_of_an_iterable(moons, batch, kind, message):
    model = network()
    with pytest.raises(kind) as caught: train(model, [moons, batch(*moons)])
    assert message in str(caught.value) and caught.value.history.steps == 1 and np.isfinite(theta(model)).all()


def test_weights_count_as_repeated_samples(moons):
    x, y = moons
    weight = np.random.default_rng(0).integers(0, 4, len(x))
    repeated = np.repeat(x, weight, axis=0), np.repeat(y, weight)
    a, b = network(dtype=np.float64), network(dtype=np.float64)
    one = train(a, (x, y, weight), batch_size=1000, epochs=20)
    two = train(b, repeated, batch_size=1000, epochs=20)
    assert np.allclose(theta(a), theta(b), rtol=1e-8) and np.allclose(one.train_loss, two.train_loss)
    results = [nn.evaluate(a, nn.cross_entropy, data, batch_size=size)["loss"] for data in ((x, y, weight), repeated) for size in (7, 1000)]
    assert np.allclose(results, results[0], rtol=1e-12)


def test_a_batch_of_zero_weights_is_skipped(moons):
    x, y = moons
    weight = np.r_[np.zeros(32), np.ones(68)]
    listed = [(x[i:i + 32], y[i:i + 32], weight[i:i + 32]) for i in range(0, 100, 32)]
    a, b = network(), network()
    assert train(a, listed, epochs=2).steps == 6
    train(b, listed[1:], epochs=2)
    assert np.array_equal(theta(a), theta(b))
    assert nn.evaluate(a, nn.cross_entropy, listed) == nn.evaluate(a, nn.cross_entropy, listed[1:])
    assert train(network(), (x, y, weight), batch_size=1, epochs=1).steps == 68
    with pytest.raises(ValueError, match="no batch in which a sample counts"): train(network(), [(x, y, 0 * weight)])


def test_x_comes_to_the_layers_as_it_is(moons):
    x, y = moons
    seen = []
    class Watching(nn.Module):
        def __init__(self, dtype): self.inner = network(dtype=dtype)
        def __call__(self, x):
            seen.append(x.dtype)
            return self.inner(x)
    for dtype in (np.float32, np.float64):
        model = Watching(dtype)
        for given, kind in ((x.astype(np.float64), "f8"), ((100 * x).astype(np.int64), "i8"), (x, "f4")):
            for data in ((given, y), [(given, y)]):
                seen.clear()
                train(model, data, valid=data, epochs=1)
                nn.evaluate(model, nn.cross_entropy, data)
                assert nn.predict(model, given).dtype == dtype and np.array_equal(nn.predict(model, given), model(given))
                assert set(seen) == {np.dtype(kind)} and theta(model).dtype == dtype


# ---------------------------------------------------------------- the record

def test_training_numbers_are_those_of_the_batches_as_trained_on(moons):
    model, losses, shares = network(), [], [32, 32, 32, 4]
    class Note(nn.Callback):
        def on_step_end(self, run): losses.append(run.batch_loss)
    calls = []
    class Counting(nn.Module):
        def __init__(self): self.inner = model
        def __call__(self, x):
            if self.training: calls.append(len(x))
            return self.inner(x)
    history = train(Counting(), moons, epochs=2, metrics=[nn.accuracy], callbacks=[Note()])
    assert math.isclose(history.train_loss[0], np.average(losses[:4], weights=shares), rel_tol=1e-12)
    assert calls == shares * 2  # no second forward


class Mode(nn.Module):
    "Adds 100 to the first logit in evaluation mode."
    def __init__(self): self.inner, self.modes = network(), {}
    def __call__(self, x):
        return self.inner(x) + np.float32([0 if self.training else 100, 0])


def test_validation_is_in_evaluation_mode(moons):
    model, modes = Mode(), []
    history = train(model, moons, valid=moons, epochs=2, callbacks=[lambda run: modes.append(run.model.training)])
    assert min(history.valid_loss) > 20 > max(history.train_loss) and modes == [True, True]
    model.inner.eval()  # a part that is frozen in evaluation mode stays there
    nn.evaluate(model, nn.cross_entropy, moons)
    assert model.training and not model.inner.training
    assert nn.predict(model, moons[0])[:, 0].min() > 50
    with pytest.raises(ValueError): nn.predict(model, np.ones((3, 5)))
    assert model.training


def test_training_is_in_training_mode(moons):
    model = Mode().eval()
    assert max(train(model, moons, epochs=2).train_loss) < 20 and model.training and model.inner.training


def test_the_training_loss_of_weighted_batches_is_a_weighted_mean(moons):
    x, y = moons
    weight, losses = np.arange(100) % 7, []
    listed = [(x[i:i + 32], y[i:i + 32], weight[i:i + 32]) for i in range(0, 100, 32)]
    class Note(nn.Callback):
        def on_step_end(self, run): losses.append(run.batch_loss)
    history = train(network(), listed, epochs=1, callbacks=[Note()])
    assert math.isclose(history.train_loss[0], np.average(losses, weights=[w.sum() for _, _, w in listed]), rel_tol=1e-12)


def test_evaluate_and_predict_agree_with_a_single_big_batch(moons):
    x, y = nn.moons(1500, noise=0.3, rng=0)
    model = network()
    whole = model(x)
    for size in (1, 7, 1024, 5000):
        assert np.allclose(nn.predict(model, x, batch_size=size), whole, atol=1e-6)
        results = nn.evaluate(model, nn.cross_entropy, (x, y), metrics=[nn.accuracy], batch_size=size)
        assert list(results) == ["loss", "accuracy"] and all(type(value) is float for value in results.values())
        assert math.isclose(results["loss"], nn.cross_entropy(whole, y), rel_tol=1e-5)
        assert math.isclose(results["accuracy"], nn.accuracy(whole, y), abs_tol=2 / 1500)
    assert np.array_equal(nn.predict(lambda x: 2 * x, x), 2 * x)  # any function
    for call in (lambda: nn.predict(model, x[:0]), lambda: nn.evaluate(model, nn.cross_entropy, (x[:0], y[:0]))):
        with pytest.raises(ValueError, match="there are no samples"): call()
    for call in (lambda: nn.predict(model, x, batch_size=0), lambda: nn.evaluate(model, nn.cross_entropy, (x, y), batch_size=0)):
        with pytest.raises(ValueError, match="batch_size must be"): call()


def test_the_history_reads_well_and_draws(moons):
    pytest.importorskip("matplotlib").use("Agg")
    assert repr(nn.History()) == "History of no epoch: not started"
    history = train(network(), moons, valid=moons, epochs=1, metrics=[nn.accuracy])
    assert repr(history).startswith("History of 1 epoch, 4 steps: training loss ") and repr(history).endswith("The one epoch is done.")
    assert len(history.plot()) == 2


# ---------------------------------------------------------------- callbacks

def test_callbacks_are_told_everything_in_order(moons):
    told = []
    class Listener:
        def __init__(self, name): self.name = name
    for event in ("on_fit_start", "on_epoch_start", "on_step_start", "on_step_end", "on_epoch_end", "on_fit_end"):
        setattr(Listener, event, lambda self, run, event=event: told.append((self.name, event, run.epoch, run.step)))
    train(network(), moons, batch_size=50, epochs=2, callbacks=[Listener("a"), Listener("b")])
    assert [t[0] for t in told] == ["a", "b"] * (len(told) // 2)
    step = ["on_step_start", "on_step_end"] * 2
    assert [t[1] for t in told[::2]] == ["on_fit_start"] + 2 * ["on_epoch_start", *step, "on_epoch_end"] + ["on_fit_end"]
    assert [t[2] for t in told[::2]] == [0] + [1] * 6 + [2] * 7
    assert [t[3] for t in told[::2]] == [0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 4, 4, 4]


@pytest.mark.parametrize("event, epochs, steps", [("on_fit_start", 0, 0), ("on_epoch_start", 0, 0), ("on_step_start", 1, 1),
                                                  ("on_step_end", 1, 1), ("on_epoch_end", 1, 4), ("on_fit_end", 10, 40)])
def test_any_method_may_stop_the_run(moons, event, epochs, steps):
    class Stop(nn.Callback): pass
    setattr(Stop, event, lambda self, run: True)
    history = train(network(), moons, callbacks=[Stop()])
    assert (len(history.train_loss), history.steps) == (epochs, steps)
    assert history.stopped == ("epochs" if event == "on_fit_end" else "callback")


def test_gradients_are_clipped(moons):
    lengths = []
    class Note(nn.Callback):
        def on_step_end(self, run): lengths.append(np.linalg.norm(run.grads.vector))
    train(network(), moons, clip_norm=0.01, callbacks=[Note()])
    assert max(lengths) <= 0.01 * (1 + 1e-5)


def test_early_stopping_restores_the_best():
    data, valid = nn.moons(80, noise=0.3, rng=5), nn.moons(500, noise=0.3, rng=2)
    model, early, best = nn.mlp([2, 128, 128, 2], rng=0), nn.EarlyStopping(patience=5), []
    def note(run):
        if run.history.valid_loss[-1] == min(run.history.valid_loss): best[:] = [theta(run.model)]
    history = train(model, data, nn.Adam(0.01), valid=valid, epochs=200, callbacks=[note, early])
    assert history.stopped == "callback" and len(history.train_loss) == early.best_epoch + 5 < 200
    assert early.best_loss == min(history.valid_loss) == history.valid_loss[early.best_epoch - 1]
    assert np.array_equal(theta(model), best[0])
    assert math.isclose(nn.evaluate(model, nn.cross_entropy, valid)["loss"], early.best_loss, rel_tol=1e-6)
    again = train(nn.mlp([2, 128, 128, 2], rng=0), data, nn.Adam(0.01), valid=valid, epochs=200, callbacks=[early])
    assert again.valid_loss == history.valid_loss  # the callback starts afresh


def test_early_stopping_restores_the_best_after_an_error_too(moons):
    model, early = network(), nn.EarlyStopping(patience=100)
    def fail(run):
        if run.epoch == 5: raise OSError
    with pytest.raises(OSError): train(model, moons, nn.SGD(2.0), valid=moons, callbacks=[early, fail])
    assert math.isclose(nn.evaluate(model, nn.cross_entropy, moons)["loss"], early.best_loss, rel_tol=1e-6)


def test_the_learning_rate_finder_leaves_everything_as_it_was(moons):
    model, optimizer, schedule = network(), nn.Adam(nn.cosine_decay(0.01, 100)), nn.cosine_decay(0.01, 100)
    train(model, moons, optimizer, epochs=1)
    before, memory, steps = theta(model), [m.copy() for m in next(iter(optimizer.memory.values()))], optimizer.steps
    finder = nn.LearningRateFinder(steps=50)
    history = train(model, moons, optimizer, epochs=100, callbacks=[finder])
    assert np.array_equal(theta(model), before) and optimizer.steps == steps and optimizer.lr == schedule
    assert all(np.array_equal(a, b) for a, b in zip(memory, next(iter(optimizer.memory.values()))))
    assert history.stopped in ("callback", "diverged") and len(finder.rates) == len(finder.losses) == history.steps <= 50
    assert np.allclose(np.diff(np.log(finder.rates)), np.log(1e7) / 49) and math.isclose(finder.rates[0], 1e-6)
    assert finder.suggestion == finder.rates[int(np.argmin(finder.losses))] / 10


@pytest.mark.parametrize("make, low, high", [(nn.SGD, 0.005, 1.0), (nn.Adam, 0.0005, 0.1)])
def test_the_suggested_learning_rate_is_of_use(make, low, high):
    data, finder = nn.moons(500, noise=0.1, rng=0), nn.LearningRateFinder()
    train(network(), data, make(lr=0.1), epochs=100, callbacks=[finder])
    assert low < finder.suggestion < high
    history = train(network(), data, make(lr=finder.suggestion), epochs=30, metrics=[nn.accuracy])
    assert history.metrics["accuracy"]["train"][-1] > 0.9
    pytest.importorskip("matplotlib").use("Agg")
    assert finder.plot().get_xscale() == "log"


# ---------------------------------------------------------------- the same bits, the progress bar

SCRIPT = """
import hashlib, nn_from_scratch as nn
model = nn.mlp([64, 32, 10], rng=1)
history = nn.fit(model, nn.cross_entropy, nn.Adam(), nn.load_digits(), epochs=3, rng=2, metrics=[nn.accuracy])
print(hashlib.sha256(model.parameters().vector.tobytes()).hexdigest(), history.to_dict())
"""


def run(command, **settings):
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True, timeout=120, **settings)


def test_the_same_seed_gives_the_same_bits_and_a_log_file_no_bar():
    outputs = [run(["-c", SCRIPT]) for _ in range(2)]
    assert outputs[0].stdout == outputs[1].stdout and len(outputs[0].stdout) > 64
    assert outputs[0].stderr == outputs[1].stderr == ""  # not a trace of the progress bar


def test_another_seed_gives_another_run(moons):
    models = [network() for _ in range(3)]
    for model, rng in zip(models, (0, 1, np.random.default_rng(0))): train(model, moons, rng=rng)
    assert np.array_equal(theta(models[0]), theta(models[2])) and not np.array_equal(theta(models[0]), theta(models[1]))


def test_fit_is_the_loop_in_eight_lines(moons):
    by_hand, by_fit, optimizer, order = network(), network(), nn.Adam(0.01), np.random.default_rng(3)
    step = nn.value_and_grad(lambda model, x, y: nn.cross_entropy(model(x), y))
    for _ in range(3):
        for x, y in nn.batches(*moons, 32, order): optimizer.update(by_hand, step(by_hand, x, y)[1])
    train(by_fit, moons, nn.Adam(0.01), epochs=3, rng=3, valid=moons, metrics=[nn.accuracy], compile=False)
    assert np.array_equal(theta(by_hand), theta(by_fit))


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="this system has no pseudo-terminals")
def test_the_progress_bar_in_a_terminal():
    code = ("import time; import nn_from_scratch as nn; "  # a bar is drawn ten times a second at most: the epochs take a while
            "nn.fit(nn.mlp([2, 8, 2], rng=0), nn.cross_entropy, nn.SGD(0.1), nn.moons(300), epochs=%d, progress=%s, "
            "callbacks=[lambda run: time.sleep(0.02)])")
    texts = []
    for epochs, progress in ((30, True), (30, False)):
        ours, theirs = os.openpty()
        process = subprocess.Popen([sys.executable, "-c", code % (epochs, progress)], stdout=theirs, stderr=theirs, stdin=theirs)
        os.close(theirs)
        text = b""
        while True:
            try: part = os.read(ours, 4096)
            except OSError: break  # the other end is closed
            if not part: break
            text += part
        assert process.wait(60) == 0
        os.close(ours)
        texts.append(text.decode())
    assert "loss" in texts[0] and "%|" in texts[0] and texts[0].split("\r")[-1] == "" and not texts[0].split("\r")[-2].strip()
    assert texts[1] == ""


NOTEBOOK = """
import nbformat, sys
from nbclient import NotebookClient
shown = []
class Client(NotebookClient):
    def process_message(self, message, cell, cell_index):
        if message["msg_type"] == "update_display_data": shown.append(message["content"]["data"].get("text/plain", ""))
        return super().process_message(message, cell, cell_index)
code = "import nn_from_scratch as nn; nn.fit(nn.mlp([2, 8, 2], rng=0), nn.cross_entropy, nn.SGD(0.1), nn.moons(300), epochs=30);"
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
Client(notebook).execute()
nbformat.validate(notebook)
print(shown[0], [output.data for output in notebook.cells[0].outputs])
"""


@pytest.mark.project
def test_the_progress_bar_in_a_notebook_is_gone_at_the_end():
    for module in ("nbclient", "ipykernel"): pytest.importorskip(module)
    text = run(["-W", "ignore", "-c", NOTEBOOK]).stdout
    assert "0%|" in text and "00:00<" in text  # it was there
    assert text.strip().endswith("[{}]")  # an output with nothing in it: Jupyter has no way to take one back


# ---------------------------------------------------------------- what it is all for

def test_digits():
    x, y = nn.load_digits()
    found = []
    for seed in range(5):
        data, valid = nn.train_valid_split(x, y, valid=0.2, rng=seed)
        model, optimizer = nn.mlp([64, 64, 32, 10], rng=seed), nn.Adam(nn.one_cycle(0.01, steps=30 * 45))
        train(model, data, optimizer, epochs=30, rng=seed)
        found.append(nn.evaluate(model, nn.cross_entropy, valid, metrics=[nn.accuracy])["accuracy"])
    assert np.median(found) >= 0.975, found
