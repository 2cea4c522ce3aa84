"""Dropout, the mean of the weights, and folds: what they promise, derived and counted."""

import copy

import numpy as np
import pytest

import nn_from_scratch as nn
from nn_from_scratch.averaging import numbers_of
from nn_from_scratch.dropout import dropout_mask

# ---------------------------------------------------------------- dropout

@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_mask_has_two_values_and_mean_1(p, dtype):
    mask = dropout_mask(np.ones((1000, 300), dtype), p, np.random.default_rng(0))
    kept = mask > 0
    assert mask.dtype == dtype and len(np.unique(mask)) == 2
    spread = np.sqrt(p * (1 - p) / mask.size)
    assert abs(kept.mean() - (1 - p)) < 4 * spread + 1e-5
    np.testing.assert_allclose(mask.max(), 1 / (1 - p), rtol=2e-4)
    assert abs(mask.mean() - 1) < 4 * spread / (1 - p)  # exactly 1 in expectation, whatever p is rounded to


def test_units_are_left_out_independently():
    mask = dropout_mask(np.ones((20_000, 8)), 0.5, np.random.default_rng(0)) > 0
    assert np.abs(np.corrcoef(mask, rowvar=False) - np.eye(8)).max() < 0.03


def test_the_gradient_is_the_mask():
    x, rng = np.random.default_rng(0).normal(size=(5, 4)), lambda: np.random.default_rng(3)
    mask = dropout_mask(x, 0.3, rng())
    assert (nn.grad(lambda x: np.sum(nn.dropout(x, 0.3, rng())))(x) == mask).all()
    assert nn.grad_check(lambda x: np.sum(nn.dropout(x, 0.3, rng()) ** 3), x) < 1e-7


def test_modes():
    layer, x = nn.Dropout(0.5, rng=0), np.ones((4, 100))
    assert (layer(x) != layer(x)).any()
    assert layer.eval()(x) is x
    assert (nn.predict(nn.Sequential(nn.Linear(100, 2, rng=0), nn.Dropout(0.5)).train(), x) == nn.Linear(100, 2, rng=0)(x)).all()
    assert nn.Dropout(0.0)(x) is x


def test_the_same_seed_the_same_masks():
    x = np.ones((4, 100))
    a, b = nn.Dropout(0.5, rng=1), nn.Dropout(0.5, rng=1)
    for _ in range(3): assert (a(x) == b(x)).all()
    twin = copy.deepcopy(a)
    assert (twin(x) == a(x)).all() and (twin(x) == a(x)).all()


@pytest.mark.parametrize("p", [-0.1, 1.0, "half", np.nan])
def test_a_share_that_is_none_is_refused(p):
    with pytest.raises(ValueError, match="Dropout: p must be a number of at least 0 and below 1"): nn.Dropout(p)
    with pytest.raises(ValueError, match="at least 0 and below 1"): nn.dropout(np.ones(3), p)


def test_whole_numbers_are_refused():
    with pytest.raises(TypeError, match="must be floating-point"): nn.dropout(np.arange(3), 0.25, 0)


# ---------------------------------------------------------------- averages

def trained(average, epochs=4, optimizer=None, **options):
    model = nn.Sequential(nn.Linear(2, 8, rng=0), nn.BatchNorm(8), nn.relu, nn.Linear(8, 2, rng=1))
    passed = []

    class Watch(nn.Callback):
        def on_step_end(self, run): passed.append([a.copy() for a in numbers_of(run.model)])

    nn.fit(model, nn.cross_entropy, optimizer or nn.Adam(0.01), nn.moons(100, rng=0), epochs=epochs, progress=False,
           callbacks=[Watch(), average], **options)
    return model, passed


@pytest.mark.parametrize("decay, start", [(1.0, 0), (0.9, 0), (0.9, 5), (0.5, 3)])
def test_the_mean_by_derivation(decay, start):
    model, passed = trained(nn.WeightAverage(decay, start))
    mean = None
    for t, arrays in enumerate(passed[start:], 1):
        share = max(1 - decay, 1 / t)
        mean = arrays if mean is None else [m + share * (a - m) for m, a in zip(mean, arrays)]
    for a, m in zip(numbers_of(model), mean, strict=True): np.testing.assert_allclose(a, m, rtol=1e-6, atol=1e-7)
    if decay == 1:
        np.testing.assert_allclose(model.parameters().vector, np.mean([p[0] for p in passed[start:]], axis=0), rtol=1e-4, atol=1e-5)


def test_the_run_goes_on_from_its_own_weights():
    average = nn.WeightAverage(0.9)
    _, passed = trained(average, epochs=4)
    _, alone = trained(nn.Callback(), epochs=4)
    assert all((a[0] == b[0]).all() for a, b in zip(passed, alone, strict=True))


def test_judged_after_each_epoch_and_exchanged_for_that_long():
    data, valid, average = nn.moons(100, rng=0), nn.moons(50, rng=1), nn.WeightAverage(0.9)
    model = nn.mlp([2, 8, 2], rng=0)
    history = nn.fit(model, nn.cross_entropy, nn.Adam(0.01), data, valid, epochs=3, callbacks=[average], progress=False)
    assert len(average.valid_loss) == 3 and average.valid_loss != history.valid_loss
    assert average.valid_loss[-1] == nn.evaluate(model, nn.cross_entropy, valid)["loss"]
    assert history.noted == {"averaged_loss": average.valid_loss} and history.rows()[1]["averaged_loss"] == average.valid_loss[1]
    assert "averaged loss" in repr(history) and "averaged loss" in [line.get_label() for line in history.plot()[0].lines]
    with average.averaged(model):  # what the last step left is there, and goes again
        assert np.isclose(nn.evaluate(model, nn.cross_entropy, valid)["loss"], history.valid_loss[-1])
    assert average.valid_loss[-1] == nn.evaluate(model, nn.cross_entropy, valid)["loss"]


def test_epochs_before_the_mean_begins_have_no_loss_of_it():
    average = nn.WeightAverage(0.9, start=5)
    history = nn.fit(nn.mlp([2, 8, 2], rng=0), nn.cross_entropy, nn.Adam(0.01), nn.moons(100, rng=0), nn.moons(50, rng=1), epochs=3,
                     callbacks=[average], progress=False)  # 4 steps an epoch
    assert np.isnan(history.noted["averaged_loss"][0]) and history.noted["averaged_loss"][1:] == average.valid_loss


def test_a_run_of_no_step_leaves_the_model():
    model = nn.mlp([2, 8, 2], rng=0)
    before = model.parameters().vector.copy()
    nn.fit(model, nn.cross_entropy, nn.SGD(0.1), nn.moons(50, rng=0), epochs=1, callbacks=[nn.WeightAverage(start=1000)], progress=False)
    assert (model.parameters().vector != before).any()


@pytest.mark.parametrize("settings, words", [({"decay": 0}, "decay must be"), ({"decay": 1.1}, "decay must be"), ({"start": -1}, "start must be")])
def test_settings_that_make_no_sense(settings, words):
    with pytest.raises(ValueError, match=words): nn.WeightAverage(**settings)


# ---------------------------------------------------------------- folds

@pytest.mark.parametrize("n, k", [(10, 5), (11, 3), (2, 2), (100, 7), (5, 5)])
def test_each_row_is_held_back_once(n, k):
    found = nn.kfold(n, k, 0)
    assert len(found) == k and sorted(np.concatenate([held for _, held in found])) == list(range(n))
    for rest, held in found: assert sorted([*rest, *held]) == list(range(n))
    sizes = [len(held) for _, held in found]
    assert max(sizes) - min(sizes) <= 1
    assert all((a[1] == b[1]).all() for a, b in zip(found, nn.kfold(n, k, 0)))


def test_each_fold_has_its_share_of_each_label():
    labels = np.random.default_rng(0).choice(4, 203, p=[0.6, 0.3, 0.07, 0.03])
    counts = [np.bincount(labels[held], minlength=4) for _, held in nn.kfold(203, 5, 1, labels=labels)]
    assert np.ptp(counts, axis=0).max() <= 1 and np.ptp(np.sum(counts, axis=1)) <= 1


def test_a_group_stays_together():
    groups = np.random.default_rng(0).choice(list("abcdefghijk"), 200)
    found = nn.kfold(200, 4, 0, groups=groups)
    for rest, held in found: assert not {*groups[rest]} & {*groups[held]} and len(held)
    assert sorted(np.concatenate([held for _, held in found])) == list(range(200))


@pytest.mark.parametrize("call, words", [
    (lambda: nn.kfold(3, 4), "at most 3, not 4"), (lambda: nn.kfold(3, 1), "at least 2"), (lambda: nn.kfold(0, 2), "n must be"),
    (lambda: nn.kfold(4, 3, groups=[1, 1, 2, 2]), "at most 2, not 3"), (lambda: nn.kfold(4, 2, labels=[1, 2]), "labels must be"),
    (lambda: nn.kfold(4, 2, labels=[0] * 4, groups=[0, 1, 2, 3]), "not both")])
def test_folds_that_cannot_be(call, words):
    with pytest.raises(ValueError, match=words): call()
