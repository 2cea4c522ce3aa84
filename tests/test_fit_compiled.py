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
                     epochs=4, progress=False, compile=compile, **options)
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
