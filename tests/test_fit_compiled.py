"""fit with compile=True, "auto" and False: one set of weights, the same errors."""
import warnings

import numpy as np
import pytest

import nn_from_scratch as nn


def fitted(compile, optimizer=None, model=None, **options):
    model = nn.mlp([2, 16, 2], rng=1, dtype=np.float64) if model is None else model
    optimizer = nn.Adam(0.01) if optimizer is None else optimizer
    history = nn.fit(model, nn.cross_entropy, optimizer, double(nn.moons(96, rng=0)),
                     double(nn.moons(50, rng=1)),
                     **{"epochs": 4} | options, progress=False, compile=compile)
    return model.parameters(), history


def same(a, b):
    for x, y in zip(a.values(), b.values(), strict=True):
        np.testing.assert_allclose(y, x, rtol=1e-8, atol=1e-11)


def double(data):
    x, y = data
    return x.astype(np.float64), y


@pytest.mark.parametrize("make", [lambda: nn.SGD(0.1), lambda: nn.SGD(0.1, momentum=0.9),
                                  lambda: nn.Adam(0.01), lambda: nn.AdamW(0.01),
                                  lambda: nn.RMSprop(0.01), lambda: nn.Lion(0.003),
                                  lambda: nn.ScheduleFree(0.01)])
def test_the_same_weights_with_and_without_a_trace(make):
    plain, history = fitted(False, make())
    for compile in ("auto", True):
        again, told = fitted(compile, make())
        same(plain, again)
        np.testing.assert_allclose(told.train_loss, history.train_loss, rtol=1e-8)


@pytest.mark.parametrize("options", [{"class_weight": {0: 1.0, 1: 3.0}}, {"clip_norm": 0.5},
                                     {"accumulate": 2}, {"batch_size": 7}])
def test_the_same_weights_with_what_fit_can_be_asked(options):
    plain, _ = fitted(False, **options)
    for compile in ("auto", True):
        same(plain, fitted(compile, **options)[0])


def with_parts(dtype=np.float64):
    return nn.Sequential(nn.Linear(2, 16, bias=False, rng=1, dtype=dtype), nn.BatchNorm(16, dtype=dtype), nn.gelu, nn.Dropout(0.2, rng=2),
                         nn.Linear(16, 16, rng=3, dtype=dtype), nn.LayerNorm(16, dtype=dtype), nn.tanh, nn.Linear(16, 2, rng=4, dtype=dtype))


def frozen():
    model = with_parts()
    model.freeze("0.*")
    return model


def tied():
    "One layer in two places."
    middle = nn.Linear(16, 16, rng=5, dtype=np.float64)
    return nn.Sequential(nn.Linear(2, 16, rng=1, dtype=np.float64), nn.tanh, middle, nn.tanh, middle, nn.tanh, nn.Linear(16, 2, rng=4, dtype=np.float64))


OPTIMIZERS = {
    "groups": lambda: nn.AdamW(0.01, groups={"*.bias": {"weight_decay": 0.0, "lr": 0.05}}),
    "a schedule": lambda: nn.SGD(nn.cosine_decay(0.2, 40), momentum=0.9), "a warm-up": lambda: nn.Adam(nn.warmup(nn.one_cycle(0.02, 40), 5)),
}


@pytest.mark.parametrize("model", [with_parts, frozen, tied])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_same_weights_and_the_same_state(model, optimizer):
    models = [model() for _ in range(3)]
    for one, compile in zip(models, (False, "auto", True)): fitted(compile, OPTIMIZERS[optimizer](), one)
    for one in models[1:]:
        same(models[0].parameters(), one.parameters())
        for name in ("_running_mean", "_running_var"):
            if hasattr(one[1], name): np.testing.assert_allclose(getattr(one[1], name), getattr(models[0][1], name), rtol=1e-8)
    if model is frozen: assert (models[2][0].weight == frozen()[0].weight).all()


@pytest.mark.parametrize("compile", ["auto", True])
def test_the_same_seed_gives_the_same_bits_from_run_to_run(compile):
    bits = [fitted(compile, model=with_parts(np.float32))[0].vector.tobytes() for _ in range(2)]
    assert bits[0] == bits[1]


@pytest.mark.parametrize(("before", "after"), [(False, True), (True, False), ("auto", False), (False, "auto"), (True, True)])
def test_a_checkpoint_travels_between_both(before, after, tmp_path):
    plain, _ = fitted(False, model=with_parts())
    def half_and_half(folder):
        fitted(before, model=with_parts(), checkpoint=folder, epochs=2)
        return fitted(after, model=with_parts(), checkpoint=folder, resume=True)[0]
    same(plain, half_and_half(tmp_path))
    if before == after: assert fitted(True, model=with_parts())[0].vector.tobytes() == half_and_half(tmp_path / "again").vector.tobytes()


def test_a_model_that_is_cast_in_between():
    ours, theirs = with_parts(np.float32), with_parts(np.float32)
    step = nn.training_step(ours, nn.cross_entropy, nn.SGD(0.1), compile=True)
    plain = nn.training_step(theirs, nn.cross_entropy, nn.SGD(0.1))
    x, y = nn.moons(32, rng=0)
    for dtype in (np.float32, np.float64, np.float32):
        for model in (ours, theirs):
            for layer in model.layers:
                for name in ("weight", "bias", "_running_mean", "_running_var"):
                    if getattr(layer, name, None) is not None: setattr(layer, name, getattr(layer, name).astype(dtype))
        for _ in range(3): np.testing.assert_allclose(step(x, y), plain(x, y), rtol=1e-4)
        assert ours.parameters().vector.dtype == dtype
        np.testing.assert_allclose(ours.parameters().vector, theirs.parameters().vector, rtol=1e-3, atol=1e-5)


def test_no_numba_is_no_reason_to_stop(monkeypatch):
    from nn_from_scratch.compiler import replay
    monkeypatch.setattr(replay, "has_numba", False)
    plain, _ = fitted(False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same(plain, fitted(True)[0])


class Looking(nn.Module):
    """A forward pass that branches on what it sees, so no one trace holds for it."""

    def __init__(self):
        self.inner = nn.mlp([2, 8, 2], rng=3, dtype=np.float64)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        z = self.inner(x)
        return z * 2.0 if float(getattr(z, "value", z).sum()) > 0 else z

    __call__ = forward


def test_a_model_of_ones_own_runs_by_hand():
    plain, _ = fitted(False, model=Looking())
    auto, _ = fitted("auto", model=Looking())
    for a, b in zip(plain.values(), auto.values(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_cannot_be_traced_warns_once_and_trains():
    plain, _ = fitted(False, model=Looking())
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        asked, _ = fitted(True, model=Looking())
    assert sum("not compiled" in str(w.message) for w in said) <= 1
    same(plain, asked)


def test_another_word_is_refused():
    with pytest.raises(ValueError, match="compile must be True, False or"):
        fitted("yes")
