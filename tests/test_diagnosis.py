"""Diagnosis: each planted fault is found by the checks that should find it, healthy set-ups give no alarm, nothing is changed."""

import copy

import numpy as np
import pytest

import nn_from_scratch as nn
from nn_from_scratch.checkup import CHECKS, Checkup, checkup
from nn_from_scratch.probe import Probe, listen, saturated
from nn_from_scratch.rules import table


def digits(n=1000):
    x, y = nn.load_digits()
    return x[:n], y[:n]


def set_up(sizes=(64, 64, 32, 10), activation=nn.relu, loss=nn.cross_entropy, optimizer=None, train=None, rng=0):
    return dict(model=nn.mlp(list(sizes), activation, rng=rng), loss=loss, optimizer=optimizer or nn.Adam(0.003), train=train or digits())


def regression(n=300, rng=0):
    rng = np.random.default_rng(rng)
    x = rng.uniform(-3, 3, (n, 1)).astype(np.float32)
    return x, (np.sin(2 * x) + 0.1 * rng.normal(size=(n, 1))).astype(np.float32)


def moons(n=300): return nn.moons(n, rng=0)


@nn.operation
def bent_tanh(x): return np.tanh(x)


@pytest.fixture(autouse=True, scope="module")
def bent_row():
    "A wrong row in the table, for as long as these tests run."
    nn.defvjp(bent_tanh, lambda g, y, x: g * (1 - y))  # forgets a square
    yield
    del table[bent_tanh]


class Mean0(nn.Module):
    "Takes the mean of the batch off: the samples of a batch are mixed."
    def __call__(self, x): return x - x.mean(axis=0)


class Unused(nn.Module):
    "A layer that was made and forgotten."
    def __init__(self, rng):
        self.a, self.b, self.c = (nn.Linear(n, m, rng=rng) for n, m in ((64, 32), (32, 32), (32, 10)))
    def __call__(self, x): return self.c(nn.relu(self.a(x)))


class Blind(nn.Module):
    "Looks at the left half of the pixels only."
    def __init__(self, rng): self.inner = nn.mlp([32, 32, 10], rng=rng)
    def __call__(self, x): return self.inner(x[:, :32])


def spoilt(change, rng=0, **options):
    "A set-up whose model is changed by a function."
    out = set_up(rng=rng, **options)
    change(out["model"])
    return out


def times(i, factor):
    def change(m): m[i].weight = m[i].weight * np.float32(factor)
    return change


def biased(m): m[0].bias = m[0].bias - np.float32(30)


def equal(m): m[0].weight = np.full_like(m[0].weight, 0.1)


def faint(m):
    for layer in m:
        if isinstance(layer, nn.Linear): layer.weight = layer.weight * np.float32(0.02)


def shuffled(rng):
    x, y = digits()
    return x, np.random.default_rng(rng).permutation(y)


def add(layer):
    def change(m): m.layers.append(layer)
    return change


# fault -> the checks that must find it, and the set-up, from a seed
FAULTS = {
    "inputs from 0 to 255": ({"scale"}, lambda r: set_up(rng=r, train=(255 * digits()[0], digits()[1]))),
    "targets in thousands": ({"scale"}, lambda r: set_up((1, 32, 1), loss=nn.mse, rng=r, train=(regression()[0], 5000 + 500 * regression()[1]))),
    "labels counted from 1": ({"labels"}, lambda r: set_up((64, 64, 11), rng=r, train=(digits()[0], digits()[1] + 1))),
    "softmax before cross_entropy": ({"outputs", "by heart"}, lambda r: spoilt(add(nn.softmax), r)),
    "sigmoid before binary_cross_entropy": ({"outputs"}, lambda r: spoilt(add(nn.sigmoid), r, sizes=(2, 16, 1), loss=nn.binary_cross_entropy,
                                                                          train=(moons()[0], moons()[1][:, None].astype(np.float32)))),
    "relu after the last layer": ({"outputs"}, lambda r: spoilt(add(nn.relu), r)),
    "last weights 30 times too large": ({"first loss"}, lambda r: spoilt(times(4, 30), r)),
    "first weights 0": ({"outputs", "units"}, lambda r: spoilt(times(0, 0), r)),
    "all first weights equal": ({"units"}, lambda r: spoilt(equal, r)),
    "dead relus": ({"units"}, lambda r: spoilt(biased, r)),
    "saturated tanh": ({"units"}, lambda r: spoilt(times(0, 30), r, activation=nn.tanh)),
    "first weights far too small": ({"units"}, lambda r: spoilt(faint, r, sizes=(64, 64, 64, 64, 10), activation=nn.tanh)),
    "half of the pixels unseen": ({"inputs"}, lambda r: set_up(rng=r) | {"model": Blind(np.random.default_rng(r))}),
    "a layer not used": ({"parameters"}, lambda r: set_up(rng=r) | {"model": Unused(np.random.default_rng(r))}),
    "a wrong rule": ({"gradients"}, lambda r: set_up(activation=bent_tanh, rng=r)),
    "samples mixed": ({"independence"}, lambda r: spoilt(lambda m: m.layers.insert(3, Mean0()), r)),
    "a rate of 1e-9": ({"steps"}, lambda r: set_up(optimizer=nn.Adam(1e-9), rng=r)),
    "a rate of 100": ({"steps"}, lambda r: set_up(optimizer=nn.SGD(100.0), rng=r)),
    "labels in another order than x": ({"learning"}, lambda r: set_up(rng=r, train=shuffled(r))),
    "NaN among the inputs": ({"numbers"}, lambda r: set_up(rng=r, train=(np.where(np.arange(64) == 3, np.nan, digits()[0]), digits()[1]))),
}


def with_weights():
    x, y = digits()
    return x, y, np.linspace(0.5, 2, len(x)).astype(np.float32)


def in_batches():
    x, y = digits()
    return [(x[i:i + 50], y[i:i + 50]) for i in range(0, len(x), 50)]


def standardized(r):
    x, y = digits()
    return set_up(rng=r, train=(40 + 300 * x, y)) | {"model": nn.Sequential(nn.Standardize(40 + 300 * x), *nn.mlp([64, 32, 10], rng=r))}


class Drop(nn.Module):
    def __init__(self): self.rng = np.random.default_rng(0)
    def __call__(self, x): return x * ((self.rng.random(x.shape) < 0.8) / 0.8).astype(x.dtype) if self.training else x


class Norm(nn.Module):
    "Over the features of a sample."
    def __init__(self, n): self.scale, self.shift = np.ones(n, np.float32), np.zeros(n, np.float32)
    def __call__(self, x):
        x = x - x.mean(axis=1, keepdims=True)
        return x / np.sqrt((x * x).mean(axis=1, keepdims=True) + 1e-5) * self.scale + self.shift


class BatchNorm(nn.Module):
    "Over the batch, with running numbers for evaluation."
    def __init__(self, n):
        self.scale, self.shift = np.ones(n, np.float32), np.zeros(n, np.float32)
        self._mean, self._var = np.zeros(n, np.float32), np.ones(n, np.float32)
    def __call__(self, x):
        if self.training:
            mean, var = x.mean(axis=0), ((x - x.mean(axis=0)) ** 2).mean(axis=0)
            for kept, new in ((self._mean, mean), (self._var, var)): kept += np.float32(0.1) * (nn.stop_gradient(new) - kept)
        else: mean, var = self._mean, self._var
        return (x - mean) / np.sqrt(var + 1e-5) * self.scale + self.shift


class Words(nn.Module):
    "Whole numbers in, ten scores out."
    def __init__(self, rng):
        self.table, self.inner = np.random.default_rng(rng).normal(size=(20, 8)).astype(np.float32), nn.mlp([16, 32, 10], rng=rng)
    def __call__(self, x): return self.inner(self.table[x].reshape(len(x), 16))


def sums():
    x = np.random.default_rng(0).integers(0, 20, (600, 2))
    return x, x.sum(axis=1) // 4


def between(*layers):
    def make(r):
        out = set_up((64, 64, 10), rng=r)
        out["model"].layers[1:1] = layers[:1]
        out["model"].layers[3:3] = layers[1:]
        return copy.deepcopy(out)
    return make


HEALTHY = {
    "digits, dropout": between(Drop(), Drop()),
    "digits, norm over features": between(Norm(64)),
    "digits, norm over the batch": between(BatchNorm(64)),
    "two whole numbers": lambda r: set_up(rng=r, train=sums()) | {"model": Words(r)},
    "digits": lambda r: set_up(rng=r),
    "digits, tanh, momentum": lambda r: set_up(activation=nn.tanh, optimizer=nn.SGD(0.05, momentum=0.9), rng=r),
    "digits, sigmoid": lambda r: set_up((64, 32, 10), activation=nn.sigmoid, rng=r),
    "digits, linear": lambda r: set_up((64, 10), rng=r),
    "digits, deep": lambda r: set_up((64, 128, 64, 64, 32, 10), rng=r),
    "digits, gelu, AdamW, one cycle": lambda r: set_up(activation=nn.gelu, optimizer=nn.AdamW(nn.one_cycle(0.01, steps=1000)), rng=r),
    "digits, weights": lambda r: set_up(rng=r, train=with_weights()),
    "digits, batches": lambda r: set_up(rng=r, train=in_batches()),
    "digits, float64, SGD": lambda r: set_up(optimizer=nn.SGD(0.1), rng=r) | {"model": nn.mlp([64, 32, 10], rng=r, dtype=np.float64)},
    "digits of 12000, standardized inside": standardized,
    "moons": lambda r: set_up((2, 16, 16, 2), rng=r, train=moons()),
    "moons, one logit": lambda r: set_up((2, 16, 1), nn.tanh, nn.binary_cross_entropy, rng=r,
                                         train=(moons()[0], moons()[1][:, None].astype(np.float32))),
    "circles": lambda r: set_up((2, 16, 2), rng=r, train=nn.circles(300, rng=0)),
    "spiral, three arms": lambda r: set_up((2, 32, 32, 3), rng=r, train=nn.spiral(300, classes=3, rng=0)),
    "xor": lambda r: set_up((2, 8, 2), nn.tanh, rng=r, train=nn.xor(200, rng=0)),
    "a noisy sine": lambda r: set_up((1, 32, 32, 1), nn.tanh, nn.mse, rng=r, train=regression()),
    "a noisy sine, huber": lambda r: set_up((1, 64, 1), nn.relu, nn.huber, rng=r, train=regression()),
    "a linear regression": lambda r: set_up((1, 1), nn.relu, nn.mse, rng=r, optimizer=nn.SGD(0.05),
                                            train=(regression()[0], 2 * regression()[0] - 1)),
}


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault, seed):
    wanted, make = FAULTS[fault]
    found = checkup(**make(seed), quiet=True)
    assert wanted <= found.found, (found.found, found.skipped)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", HEALTHY)
def test_no_alarm_where_all_is_well(name, seed):
    found = checkup(**HEALTHY[name](seed), quiet=True)
    assert not found.findings and not found.skipped, str(found)
    assert len(found.done) == 11


def bits(*things):
    "All arrays and numbers in these objects, as bytes."
    import pickle
    return pickle.dumps(things)


class Noisy(nn.Module):
    "A layer that draws in training, and counts."
    def __init__(self): self.rng, self._calls = np.random.default_rng(3), np.zeros(1)
    def __call__(self, x):
        if not self.training: return x
        self._calls += 1
        return x * (self.rng.random(x.shape) < 0.9)


def test_a_checkup_changes_nothing():
    x, y = digits(300)
    model = nn.Sequential(nn.Linear(64, 32, rng=0), nn.relu, Noisy(), nn.Linear(32, 10, rng=1))
    optimizer, other = nn.Adam(0.01), np.random.default_rng(5)
    nn.fit(model, nn.cross_entropy, optimizer, (x, y), max_steps=5, progress=False, rng=other)
    np.random.seed(0)  # noqa: NPY002  the old global state must stay as it is, too
    parts = list(model.layers)
    before = bits(model, optimizer.state_dict(), x, y, other, np.random.get_state())  # noqa: NPY002
    vector = model.parameters().vector
    checkup(model, nn.cross_entropy, optimizer, (x, y), quiet=True)
    assert bits(model, optimizer.state_dict(), x, y, other, np.random.get_state()) == before  # noqa: NPY002
    assert model.parameters().vector is vector and all(a is b for a, b in zip(model.layers, parts))
    same = copy.deepcopy(model), copy.deepcopy(optimizer)
    a = nn.fit(model, nn.cross_entropy, optimizer, (x, y), epochs=2, progress=False)
    b = nn.fit(same[0], nn.cross_entropy, same[1], (x, y), epochs=2, progress=False)
    assert a.train_loss == b.train_loss


def test_batches_that_draw_are_not_drawn_from():
    class Drawing:
        def __init__(self): self.rng = np.random.default_rng(0)
        def __iter__(self):
            x, y = digits()
            for _ in range(5):
                rows = self.rng.integers(0, len(x), 100)
                yield x[rows], y[rows]
    data = Drawing()
    before = bits(data.rng)
    assert not checkup(**set_up(train=data), quiet=True).findings
    assert bits(data.rng) == before


@pytest.mark.parametrize("train, error, words", [
    (((digits()[0][:50], digits()[1][:50]) for _ in range(3)), TypeError, "only once"),
    ((digits()[0], digits()[1][:50]), ValueError, "a row for each sample"),
    ((digits()[0],), ValueError, "(x, y)"),
])
def test_data_that_cannot_be_examined(train, error, words):
    with pytest.raises(error, match="checkup: train.*") as caught: checkup(**set_up(train=train), quiet=True)
    assert words in str(caught.value)


def test_shapes_that_do_not_fit_are_a_finding():
    found = checkup(**set_up((32, 10)), quiet=True)
    assert found.found == {"shapes"} and "64" in str(found)


def test_it_says_what_it_found(capsys):
    found = checkup(**FAULTS["softmax before cross_entropy"][1](0))
    text = capsys.readouterr().out
    assert text.strip() == str(found) and "softmax" in text and "Try: Leave out the last activation." in text
    assert max(map(len, text.splitlines())) <= 88
    assert bool(found) and not checkup(**set_up(), quiet=True)
    assert str(checkup(**set_up(), quiet=True)) == "11 checks: nothing suspicious."


def test_what_was_not_tried_is_counted_and_its_reason_told_once():
    done, names = list(CHECKS)[:4], list(CHECKS)[4:]
    text = " ".join(str(Checkup([], done, dict.fromkeys(names, "RuntimeError: only batches of 64"))).split())
    assert text.endswith("4 checks: nothing suspicious; 7 not tried: RuntimeError: only batches of 64.")
    assert text.count("only batches") == 1 and all(name in text for name in names)
    two = " ".join(str(Checkup([], done, {names[0]: "this", names[1]: "that", names[2]: "this"})).split())
    assert f"not tried: {names[0]}, {names[2]}. this" in two and f"not tried: {names[1]}. that" in two
    assert two.endswith("4 checks: nothing suspicious; 3 not tried.")


def test_a_model_that_fails_in_some_checks_is_not_called_examined_whole():
    class Particular(nn.Module):
        def __init__(self): self.inner, self._left = nn.Linear(64, 10, rng=0), [3]

        def __call__(self, x):
            self._left[0] -= 1
            if self._left[0] < 0: raise RuntimeError("three calls are enough")
            return self.inner(x)
    text = str(checkup(**set_up() | {"model": Particular()}, quiet=True))
    assert text.count("three calls are enough") == 1 and " not tried: RuntimeError: three calls are enough." in " ".join(text.split()), text


# ---------------------------------------------------------------- networks of other kinds

class Recurrent(nn.Module):
    "The rows of a picture, one after another."
    def __init__(self, rng): self.read, self.say = nn.GRU(8, 24, rng=rng), nn.Linear(24, 10, rng=rng)
    def __call__(self, x): return self.say(self.read(x.reshape(-1, 8, 8))[0][:, -1])


class Pairs(nn.Module):
    "Two rows of a table."
    def __init__(self, rng): self.table, self.inner = nn.Embedding(20, 8, rng=rng), nn.mlp([16, 32, 10], rng=rng)
    def __call__(self, x): return self.inner(self.table(x).reshape(len(x), 16))


def pictures(n=800): return digits(n)[0].reshape(-1, 8, 8, 1), digits(n)[1]


def convolutional(r):
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, rng=r), nn.BatchNorm(8), nn.relu, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 10, rng=r))


def rising(n=200):
    rows = (np.random.default_rng(0).integers(0, 12, n)[:, None] + np.arange(17)) % 12
    return rows[:, :-1], rows[:, 1:]


def rare(n=1000):
    "One in twenty is of class 1."
    rng = np.random.default_rng(0)
    y = (rng.random(n) < 0.05).astype(int)
    return rng.normal(size=(n, 4)).astype(np.float32) + 2 * y[:, None].astype(np.float32), y


def several(n=400, m=1, dtype=np.float32):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 5))
    return x.astype(dtype), (np.tanh(x @ rng.normal(size=(5, m))) + 0.1 * rng.normal(size=(n, m))).astype(dtype)


def smoothed(z, y): return nn.cross_entropy(z, y, label_smoothing=0.1)
def layers(*layers): return nn.Sequential(*layers)
def yes(data): return data[0], data[1][:, None].astype(np.float32)


OTHERS = {
    "convolution, batch norm": lambda r: set_up(train=pictures()) | {"model": convolutional(r)},
    "GRU": lambda r: set_up() | {"model": Recurrent(r)},
    "embedding": lambda r: set_up(train=sums(), optimizer=nn.Adam(0.01)) | {"model": Pairs(r)},
    "GPT": lambda r: set_up(train=rising(), optimizer=nn.AdamW(0.003)) | {"model": nn.GPT(12, 16, 16, 2, 1, rng=r)},
    "a rare class": lambda r: set_up((4, 16, 2), rng=r, train=rare()),
    "a rare class, one logit": lambda r: set_up((4, 16, 1), loss=nn.binary_cross_entropy, rng=r, train=yes(rare())),
    "three numbers": lambda r: set_up((5, 32, 3), loss=nn.mse, rng=r, train=several(m=3)),
    "float64": lambda r: set_up(loss=nn.mse, train=several(dtype=np.float64)) | {"model": nn.mlp([5, 32, 1], nn.tanh, rng=r, dtype=np.float64)},
    "mae": lambda r: set_up((5, 32, 1), loss=nn.mae, rng=r, train=several()),
    "batch norm at the front of raw inputs": lambda r: set_up(train=(16 * digits()[0], digits()[1])) | {
        "model": layers(nn.BatchNorm(64), *nn.mlp([64, 64, 10], rng=r))},
    "batch norm and dropout": lambda r: set_up() | {
        "model": layers(nn.Linear(64, 64, rng=r), nn.BatchNorm(64), nn.relu, nn.Dropout(0.5, rng=r), nn.Linear(64, 10, rng=r))},
    "layer norm, RMS norm": lambda r: set_up() | {
        "model": layers(nn.Linear(64, 64, rng=r), nn.LayerNorm(64), nn.gelu, nn.RMSNorm(64), nn.Linear(64, 10, rng=r))},
    "forty samples": lambda r: set_up((64, 16, 10), rng=r, train=digits(40)),
    "four samples": lambda r: set_up((2, 8, 1), nn.tanh, nn.binary_cross_entropy, nn.Adam(0.05), rng=r, train=yes(
        (np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32), np.array([0, 1, 1, 0])))),
    "smoothed labels": lambda r: set_up(loss=smoothed, rng=r),
    "probabilities as targets": lambda r: set_up(rng=r, train=(digits()[0], nn.one_hot(digits()[1], 10).astype(np.float32))),
    "a picture of itself": lambda r: set_up((64, 16, 64), loss=nn.mse, rng=r, train=(digits()[0], digits()[0])),
    "the first layer frozen": lambda r: set_up() | {"model": nn.mlp([64, 64, 10], rng=r).freeze("0.*")},
    "Lion": lambda r: set_up(optimizer=nn.Lion(0.0005), rng=r),
    "Muon": lambda r: set_up(optimizer=nn.Muon(0.02), rng=r),
    "ScheduleFree": lambda r: set_up(optimizer=nn.ScheduleFree(0.01), rng=r),
    "a warm-up": lambda r: set_up(optimizer=nn.Adam(nn.warmup(0.003, 100)), rng=r),
    "moved pictures": lambda r: set_up(rng=r, train=nn.data.augmented(digits(), [nn.data.shift(1)], rng=0)),
}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", OTHERS)
def test_no_alarm_for_networks_of_other_kinds(name, seed):
    found = checkup(**OTHERS[name](seed), quiet=True)
    assert not found.findings and not found.skipped, str(found)


@pytest.mark.parametrize("fault, wanted, make", [
    ("a loss with the wrong sign", "outputs", lambda: set_up(loss=lambda z, y: -nn.cross_entropy(z, y))),
    ("a softmax within the loss", "outputs", lambda: set_up(loss=lambda z, y: nn.cross_entropy(nn.softmax(z), y))),
    ("a sigmoid within the loss", "outputs", lambda: set_up(
        (4, 16, 1), loss=lambda z, y: nn.binary_cross_entropy(nn.sigmoid(z), y), train=yes(rare()))),
    ("the size of the outputs", "outputs", lambda: spoilt(add(abs))),
    ("a mean squared error upside down", "outputs", lambda: set_up((5, 32, 1), loss=lambda z, y: -nn.mse(z, y), train=several())),
    ("one target for all", "labels", lambda: set_up((5, 32, 1), loss=nn.mse, train=(several()[0], 0 * several()[1] + 3))),
    ("convolution of 0 to 255", "scale", lambda: set_up(train=(255 * pictures()[0], pictures()[1])) | {
        "model": layers(nn.Conv2d(1, 8, 3, rng=0), nn.relu, nn.Flatten(), nn.Linear(288, 10, rng=1))}),
    ("a GRU with other labels", "learning", lambda: set_up(train=shuffled(0)) | {"model": Recurrent(0)}),
    ("Lion with 0.1", "steps", lambda: set_up(optimizer=nn.Lion(0.1))),
    ("dropout of all but one in a hundred", "learning", lambda: set_up() | {
        "model": layers(nn.Linear(64, 64, rng=0), nn.relu, nn.Dropout(0.99, rng=0), nn.Linear(64, 10, rng=1))}),
])
def test_faults_of_other_kinds(fault, wanted, make):
    assert wanted in checkup(**make(), quiet=True).found, fault


# ---------------------------------------------------------------- the probe

def test_a_probe_changes_nothing():
    ends = []
    for callbacks in ([], [Probe(every=3)]):
        model = nn.Sequential(nn.Linear(64, 32, rng=0), nn.relu, Noisy(), nn.Linear(32, 10, rng=1))
        history = nn.fit(model, nn.cross_entropy, nn.Adam(0.01), digits(300), epochs=2, callbacks=callbacks, progress=False)
        ends.append((history.train_loss, model.parameters().vector.tobytes(), bits(model.layers[2].rng, model.layers[2]._calls)))
    assert ends[0] == ends[1]


def test_a_probe_records_what_can_be_computed_by_hand():
    x, y = digits(200)
    model, probe = nn.mlp([64, 20, 10], nn.tanh, rng=0), Probe(x[:50], every=2)
    seen, steps = [], []

    class Watch:
        def on_step_start(self, run): self.before = {k: v.copy() for k, v in run.model.parameters().items()}
        def on_step_end(self, run):
            if run.step % 2 == 0: return  # the probe looks at steps 0, 2, …, which end as 1, 3, …
            h = nn.tanh(model[0](x[:50]))
            w = run.model.parameters()["0.weight"]
            seen.append((h.mean(), h.std(), np.sqrt(np.mean(np.square(run.grads["0.weight"]))),
                         np.log10(np.linalg.norm(w - self.before["0.weight"]) / np.linalg.norm(self.before["0.weight"]))))
            steps.append(run.step)

    nn.fit(model, nn.cross_entropy, nn.Adam(0.01), (x, y), epochs=2, callbacks=[probe, Watch()], progress=False)
    record = probe.to_dict()
    assert record["steps"].tolist() == steps
    got = np.array([record["mean"]["1 tanh"], record["std"]["1 tanh"], record["gradient"]["0.weight"], record["update"]["0.weight"]]).T
    np.testing.assert_allclose(got, seen, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(record["quantiles"]["1 tanh"][-1][[0, 50, 100]], np.quantile(nn.tanh(model[0](x[:50])), [0, 0.5, 1])
                               if steps[-1] == probe.steps[-1] else 0, rtol=0.2, atol=0.1)


def test_listening_names_every_layer_and_leaves_the_model_alone():
    class Two(nn.Module):
        def __init__(self): self.left, self.right, self.f = nn.mlp([4, 3, 2], rng=0), nn.Linear(4, 2, rng=1), nn.tanh
        def __call__(self, x): return self.f(self.left(x) + self.right(x))
    model, x = Two(), np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    layout, parts = model.layout(), [id(part) for part in model.modules()]
    heard = listen(model, x)
    assert [h.name for h in heard] == ["left.0 Linear", "left.1 relu", "left.2 Linear", "right Linear", "f tanh"]
    np.testing.assert_array_equal(heard[-1].gave, model(x))
    np.testing.assert_array_equal(heard[1].gave, nn.relu(heard[1].took))
    assert model.layout() is layout and [id(part) for part in model.modules()] == parts and model.f is nn.tanh


def test_listening_restores_the_model_after_an_error():
    model = nn.mlp([4, 3, 2], rng=0)
    parts = list(model.layers)
    with pytest.raises(ValueError): listen(model, np.zeros((2, 5), np.float32))
    assert all(a is b for a, b in zip(model.layers, parts))


def test_saturated_is_where_the_slope_is_small():
    z = np.linspace(-6, 6, 100).reshape(50, 2)
    np.testing.assert_array_equal(saturated(nn.tanh, z), 1 - np.tanh(z) ** 2 < 0.05)
    np.testing.assert_array_equal(saturated(nn.relu, z), z < 0)
    assert saturated(nn.softmax, z) is None and saturated(nn.Linear(2, 2), z) is None


def test_dead_units_are_counted():
    model = nn.mlp([64, 20, 10], rng=0)
    model[0].bias = np.where(np.arange(20) < 5, -100, 5).astype(np.float32)
    probe = Probe(every=1)
    nn.fit(model, nn.cross_entropy, nn.SGD(0.01), digits(100), max_steps=1, callbacks=[probe], progress=False)
    assert probe.to_dict()["dead"]["1 relu"][0] == 0.25


def test_a_killed_run_goes_on_with_its_probe(tmp_path):
    def run(steps, resume=False):
        model, probe = nn.mlp([64, 16, 10], rng=0), Probe(digits()[0][:40], every=4)
        nn.fit(model, nn.cross_entropy, nn.Adam(0.01), digits(200), epochs=3, max_steps=steps, callbacks=[probe],
               checkpoint=tmp_path / "run", resume=resume, progress=False)
        return probe.to_dict()
    run(9)
    again = run(None, resume=True)
    model, whole = nn.mlp([64, 16, 10], rng=0), Probe(digits()[0][:40], every=4)
    nn.fit(model, nn.cross_entropy, nn.Adam(0.01), digits(200), epochs=3, callbacks=[whole], progress=False)
    whole = whole.to_dict()
    np.testing.assert_array_equal(again["steps"], whole["steps"])
    np.testing.assert_array_equal(again["mean"]["1 relu"], whole["mean"]["1 relu"])


def test_probe_mistakes():
    with pytest.raises(ValueError, match="every"): Probe(every=0)
    with pytest.raises(ValueError, match="Probe: the training data are no arrays"):
        nn.fit(nn.mlp([64, 10]), nn.cross_entropy, nn.Adam(), [digits(50)], callbacks=[Probe()], progress=False)
    with pytest.raises(ValueError, match="nothing was recorded"): Probe().plot()


@pytest.mark.parametrize("fault, make", {
    "Adam with 1": lambda r: set_up(optimizer=nn.Adam(1.0), rng=r),
    "Adam with 0.3": lambda r: set_up(optimizer=nn.Adam(0.3), rng=r),
    "SGD with 10": lambda r: set_up(optimizer=nn.SGD(10.0), rng=r),
    "SGD with 1e-5": lambda r: set_up(optimizer=nn.SGD(1e-5), rng=r),
    "a decay of 100": lambda r: set_up(optimizer=nn.AdamW(0.003, weight_decay=100.0), rng=r),
    "one huge feature": lambda r: set_up(rng=r, train=(np.where(np.arange(64) == 20, 1e4 * digits()[0], digits()[0]).astype(np.float32), digits()[1])),
    "tanh before targets of 4": lambda r: spoilt(add(nn.tanh), r, sizes=(1, 32, 1), loss=nn.mse, train=(regression()[0], 4 * regression()[1])),
    "labels as floats": lambda r: set_up(rng=r, train=(digits()[0], digits()[1].astype(np.float32))),
    "ten sigmoid layers": lambda r: set_up((64, *[32] * 10, 10), nn.sigmoid, rng=r),
    "one label only": lambda r: set_up(rng=r, train=(digits()[0], 0 * digits()[1])),
}.items())
@pytest.mark.parametrize("seed", [0, 1])
def test_other_faults_are_found(fault, make, seed):
    found = checkup(**make(seed), quiet=True)
    assert found, fault
    wanted = {"Adam": "steps", "SGD ": "steps", "a de": "steps", "one h": "scale", "tanh": "outputs", "labe": "shapes", "one l": "labels"}
    for start, check in wanted.items():
        if fault.startswith(start): assert check in found.found, found.found


# ---------------------------------------------------------------- what the chapter claims, over seeds

def reader(rng): return nn.mlp([64, 64, 32, 10], rng=rng)


@pytest.mark.parametrize("seed", range(10))
def test_a_softmax_too_many_stops_at_1_46(seed):
    "Eight samples, three hundred steps: without it the loss is nearly 0, with it never below −ln(e / (e + 9))."
    x, y = (a[:8] for a in digits())
    for layers, low, high in (([], 0, 0.01), ([nn.softmax], 1.461, 2)):
        model, optimizer = reader(seed), nn.Adam(0.01)
        model.layers += layers
        step = nn.value_and_grad(lambda m: nn.cross_entropy(m(x), y))
        for _ in range(300):
            loss, grads = step(model)
            optimizer.update(model, grads)
        assert low <= float(loss) < high


@pytest.mark.parametrize("rate, low, high, best", [(0.01, -3.3, -2.9, (0.5, 0.8)), (0.1, -2.2, -1.8, (0.9, 1))])
def test_a_step_of_one_in_a_thousand_is_not_the_best(rate, low, high, best):
    x, y = nn.load_digits()
    train, valid = nn.train_valid_split(x, y, valid=0.2, rng=0, stratify=True)
    for seed in range(5):
        probe = Probe(every=36)
        run = nn.fit(reader(seed), nn.cross_entropy, nn.SGD(rate), train, valid, epochs=5, metrics=[nn.accuracy], rng=seed,
                     callbacks=[probe], progress=False)
        update = probe.to_dict()["update"]
        assert low < np.mean([update[f"{i}.weight"].mean() for i in (0, 2, 4)]) < high
        assert best[0] < run.metrics["accuracy"]["valid"][-1] <= best[1]


@pytest.mark.parametrize("seed", range(3))
def test_a_rate_that_is_a_hundred_times_too_large_kills_the_relus(seed):
    probe = Probe(every=8)
    run = nn.fit(reader(seed), nn.cross_entropy, nn.Adam(0.3), digits(), epochs=4, callbacks=[probe], rng=seed, progress=False)
    dead = probe.to_dict()["dead"]
    assert dead["1 relu"][-1] > 0.8 and dead["3 relu"][-1] > 0.8 and run.train_loss[-1] > 2
