"""Several workers in threads: the same bits each time, whole gradients, checkpoints; what processes do is in tests/mpi."""

import copy
import threading
import time

import numpy as np
import pytest

import nn_from_scratch as nn
from nn_from_scratch.parallel import apart, cut, generators
from nn_from_scratch.ranks import Alone, Elsewhere, joined

X, Y = nn.moons(103, noise=0.1, rng=0)  # three batches of 32 and one of 7
VALID = nn.moons(40, noise=0.1, rng=1)
WEIGHT = np.random.default_rng(0).random(103) * (np.arange(103) % 3 > 0)


class Noise(nn.Module):
    "A layer with a generator and a running mean."
    def __init__(self, rng): self._rng, self._mean = np.random.default_rng(rng), np.zeros(8, np.float32)
    def __call__(self, x):
        if not self.training: return x - self._mean
        value = getattr(x, "value", x)
        self._mean *= 0.9
        self._mean += 0.1 * value.mean(axis=0)
        return x * (self._rng.random(x.shape) < 0.8).astype(x.dtype)


def a_model(dtype=np.float32): return nn.Sequential(nn.Linear(2, 8, rng=0, dtype=dtype), nn.tanh, nn.Linear(8, 2, rng=1, dtype=dtype))
def a_noisy_model(): return nn.Sequential(nn.Linear(2, 8, rng=0), nn.tanh, Noise(2), nn.Linear(8, 2, rng=1))


def trained(model, data=(X, Y), optimizer=None, **more):
    settings = {"epochs": 2, "progress": False} | more
    history = nn.fit(model, nn.cross_entropy, optimizer or nn.Adam(0.01), data, VALID, **settings)
    return model.parameters().vector.tobytes(), repr(history.to_dict()), [vars(m).get("_mean") is None or vars(m)["_mean"].tobytes()
                                                                         for m in model.modules()]


@pytest.mark.parametrize("n", [1, 2, 3, 7, 40])
@pytest.mark.parametrize("parts", [1, 2, 4, 7])
def test_the_parts_of_a_batch_are_the_batch(n, parts):
    batch = np.arange(n), np.arange(n)[:, None] * 2.0
    pieces = cut(batch, parts)
    sizes = [len(piece[0]) for piece in pieces]
    assert len(pieces) == parts and max(sizes) - min(sizes) <= 1
    for i, whole in enumerate(batch): assert np.array_equal(np.concatenate([piece[i] for piece in pieces]), whole)


@pytest.mark.parametrize("workers", [2, 3, 4, 9])
@pytest.mark.parametrize("data", [(X, Y), (X, Y, WEIGHT)], ids=["plain", "weights"])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_several_workers_take_the_gradient_of_one(workers, data, accumulate):
    "In float64, with SGD: up to rounding. Batches end unevenly, and some workers have nothing."
    ends = []
    for n in (1, workers):
        model = a_model(np.float64)
        history = nn.fit(model, nn.cross_entropy, nn.SGD(0.5), data, epochs=3, batch_size=16, accumulate=accumulate, metrics=[nn.accuracy],
                         clip_norm=0.3, workers=n, progress=False)
        ends.append((model.parameters().vector.copy(), history.train_loss, history.metrics["accuracy"]["train"]))
    for one, several in zip(*ends): assert np.allclose(one, several, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("model", [a_model, a_noisy_model])
@pytest.mark.parametrize("workers", [2, 4])
def test_the_same_bits_each_time(model, workers):
    first = trained(model(), workers=workers, metrics=[nn.accuracy], accumulate=2)
    assert all(trained(model(), workers=workers, metrics=[nn.accuracy], accumulate=2) == first for _ in range(3))


def test_the_order_of_the_threads_does_not_matter(monkeypatch):
    "One by one, as in the browser, which has no threads: the same bits."
    first = trained(a_noisy_model(), workers=4)
    monkeypatch.setattr("sys.platform", "emscripten")
    assert trained(a_noisy_model(), workers=4) == first


def test_each_worker_draws_numbers_of_its_own():
    models = [a_noisy_model() for _ in range(3)]
    for i, model in enumerate(models): apart(model, i + 1)
    drawn = [generators([vars(part) for part in model.modules()])[0].random(4) for model in models]
    assert not np.allclose(drawn[0], drawn[1]) and not np.allclose(drawn[1], drawn[2])
    again = a_noisy_model()
    apart(again, 1)
    assert np.array_equal(drawn[0], generators([vars(part) for part in again.modules()])[0].random(4))


@pytest.mark.parametrize("kind", [np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64])
def test_any_generator_of_numpy_can_be_set_apart(kind):
    model = a_noisy_model()
    model.layers[2]._rng = np.random.Generator(kind(0))
    model.layers[2].shared = [model.layers[2]._rng]
    before = copy.deepcopy(model.layers[2]._rng).random(3)
    apart(model, 1)
    assert not np.allclose(model.layers[2]._rng.random(3), before)


class Crash(Exception): pass


class Crashing:
    def __init__(self, step): self.at = step
    def on_step_end(self, run):
        if run.step == self.at: raise Crash


@pytest.mark.parametrize("step", [1, 3, 4, 6])
def test_a_run_of_several_goes_on_to_the_same_bits(tmp_path, step):
    settings = {"workers": 3, "metrics": [nn.accuracy], "epochs": 3, "checkpoint_every": 1}
    whole = trained(a_noisy_model(), checkpoint=tmp_path / "whole", **settings)
    with pytest.raises(Crash): trained(a_noisy_model(), checkpoint=tmp_path / "cut", callbacks=[Crashing(step)], **settings)
    assert trained(a_noisy_model(), checkpoint=tmp_path / "cut", resume=True, **settings) == whole


def test_another_number_of_workers_is_another_run(tmp_path):
    trained(a_model(), workers=2, epochs=1, checkpoint=tmp_path)
    with pytest.raises(ValueError, match="workers: now 1; then 2"): trained(a_model(), epochs=2, checkpoint=tmp_path, resume=True)
    with pytest.raises(ValueError, match="workers: now 3; then 2"): trained(a_model(), workers=3, epochs=2, checkpoint=tmp_path, resume=True)


def test_an_error_in_a_thread_ends_the_run():
    def loss(prediction, y):
        if threading.current_thread() is not threading.main_thread(): raise Crash("in a thread")
        return nn.cross_entropy(prediction, y)
    model = a_model()
    before = model.parameters().vector.copy()
    with pytest.raises(Crash, match="in a thread") as caught: nn.fit(model, loss, nn.Adam(), (X, Y), workers=2, progress=False)
    assert caught.value.history.stopped == "error" and np.array_equal(model.parameters().vector, before)
    assert trained(model, workers=2)


def test_threads_are_gone_afterwards():
    before = threading.active_count()
    trained(a_model(), workers=4)
    deadline = time.time() + 5
    while threading.active_count() > before and time.time() < deadline: time.sleep(0.01)
    assert threading.active_count() == before


def test_a_run_of_several_that_diverges_keeps_its_last_finite_parameters():
    model = a_model()
    history = nn.fit(model, nn.mse, nn.SGD(1e30), (X, np.stack([Y, Y], axis=1) * 1e6), workers=2, progress=False)
    assert history.stopped == "diverged" and np.isfinite(model.parameters().vector).all()


def test_an_interrupt_in_a_step_leaves_a_model_that_can_be_trained():
    class Interrupting:
        def on_step_start(self, run):
            if run.step == 2: raise KeyboardInterrupt
    model = a_model()
    history = nn.fit(model, nn.cross_entropy, nn.Adam(), (X, Y), workers=2, callbacks=[Interrupting()], progress=False)
    assert history.stopped == "interrupted" and trained(model, workers=2)


def test_batches_of_an_iterable():
    given = [(X[i:i + 10], Y[i:i + 10]) for i in range(0, 100, 10)]
    assert trained(a_model(), given, workers=3) == trained(a_model(), given, workers=3)


@pytest.mark.parametrize(("arguments", "error", "words"), [
    ({"workers": 0}, ValueError, "fit: workers must be a whole number of at least 1"),
    ({"workers": 1.5}, TypeError, "fit: workers must be a whole number"),
    ({"comm": 4}, TypeError, "fit: comm must be an MPI communicator such as mpi4py.MPI.COMM_WORLD, not 4"),
])
def test_arguments_that_make_no_sense(arguments, error, words):
    with pytest.raises((ValueError, TypeError), match=words): trained(a_model(), **arguments)


def test_one_process_alone():
    "What a run without others asks of them costs nothing and changes nothing."
    one, vector = Alone(), np.arange(3.0)
    one.add_up(vector)
    assert (one.rank, one.size) == (0, 1) and np.array_equal(vector, np.arange(3.0))
    assert one.once("", lambda a: a + 1, 2) == 3 and one.tell("", 5) == 5 and one.gather("", 6) == [6] and one.agree("", 7.0).tolist() == [[7.0]]
    with joined(None) as ranks: assert type(ranks) is Alone
    assert Elsewhere(2).code == 0 and Elsewhere(2).rank == 2 and not isinstance(Elsewhere(2), Exception)
