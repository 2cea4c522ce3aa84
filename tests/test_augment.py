"""Augmentation: what each step does to a batch, and nothing else."""

import numpy as np
import pytest

from nn_from_scratch.data import augmented, cutout, load_digits, mixup, noise, rotate, shift
from nn_from_scratch.losses import cross_entropy

STEPS = [shift(1), shift(2), rotate(15), noise(0.1), cutout(3), mixup(0.3, classes=10)]
every = pytest.mark.parametrize("step", STEPS, ids=repr)
LAYOUTS = {"rows": lambda x: x, "pictures": lambda x: x.reshape(-1, 8, 8), "channels": lambda x: np.stack([x.reshape(-1, 8, 8)] * 3, -1)}


@every
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_shape_same_dtype_same_seed_same_bits_and_the_data_untouched(step, layout, dtype):
    x, y = load_digits()
    x, y = LAYOUTS[layout](x[:40].astype(dtype)), y[:40]
    before = x.copy(), y.copy()
    (a, b), (c, d) = (step(x, y, np.random.default_rng(3)) for _ in range(2))
    assert a.shape == x.shape and a.dtype == dtype and np.array_equal(a, c) and np.array_equal(b, d)
    assert np.array_equal(x, before[0]) and np.array_equal(y, before[1]) and not np.array_equal(a, x)
    if layout == "channels" and not isinstance(step, (noise, mixup)): assert np.array_equal(a[..., 0], a[..., 2])
    if not isinstance(step, mixup): assert b is y


def test_shift_moves_whole_pictures():
    x = np.random.default_rng(0).random((200, 5, 7))
    moved, _ = shift(2)(x, np.zeros(200), np.random.default_rng(1))
    padded = np.pad(x, ((0, 0), (2, 2), (2, 2)))
    offsets = set()
    for before, after in zip(padded, moved):
        found = [(i, j) for i in range(5) for j in range(5) if np.array_equal(before[i:i + 5, j:j + 7], after)]
        assert found
        offsets.add(found[0])
    assert len(offsets) == 25, "every move occurs"


def test_rotate_is_numpys_quarter_turn_and_keeps_what_is_round():
    class Fixed:
        def uniform(self, low, high, shape): return np.full(shape, 90.0)
    x = np.random.default_rng(0).random((3, 6, 6))
    turned, _ = rotate(90)(x, np.zeros(3), Fixed())
    assert any(np.allclose(turned, np.rot90(x, k, axes=(1, 2))) for k in (1, 3))
    assert np.allclose(rotate(0)(x, np.zeros(3), np.random.default_rng(0))[0], x)
    i, j = np.indices((15, 15)) - 7
    disc = np.exp(-(i**2 + j**2) / 12.0)[None]
    turned, _ = rotate(45)(disc, np.zeros(1), np.random.default_rng(0))
    np.testing.assert_allclose(turned, disc, atol=0.03)


def test_noise_and_cutout():
    x = np.ones((500, 8, 8))
    noisy, _ = noise(0.3)(x, None, np.random.default_rng(0))
    assert abs((noisy - x).std() - 0.3) < 0.01 and abs((noisy - x).mean()) < 0.01
    covered, _ = cutout(3)(x, None, np.random.default_rng(0))
    missing = (covered == 0).sum(axis=(1, 2))
    assert missing.max() == 9 and missing.min() >= 4 and set(np.unique(covered)) == {0, 1}
    assert ((covered == 0).mean(axis=0) > 0).all(), "every place is covered at times"


def test_mixup_gives_probabilities_that_the_loss_takes():
    x, y = load_digits()
    mixed, targets = mixup(0.5, classes=10)(x[:64], y[:64], np.random.default_rng(0))
    assert targets.shape == (64, 10) and np.allclose(targets.sum(axis=1), 1) and targets.min() >= 0
    assert np.isfinite(cross_entropy(np.zeros((64, 10), np.float32), targets))
    share = targets[np.arange(64), y[:64]].max()
    numbers, blended = mixup(0.5)(x[:8], np.arange(8.0)[:, None], np.random.default_rng(0))
    assert blended.shape == (8, 1) and 0 < share <= 1 and abs(blended.mean() - 3.5) < 1e-6
    with pytest.raises(TypeError, match="mixup: labels cannot be mixed as they are: say how many classes"): mixup()(x[:8], y[:8], np.random.default_rng(0))


def test_an_epoch_of_augmented_batches():
    x, y = load_digits()
    weight = np.arange(100.0)
    plain = augmented((x[:100], y[:100], weight), [], batch_size=32, rng=0)
    batches = list(plain)
    assert [len(b[0]) for b in batches] == [32, 32, 32, 4] and len(plain) == 4
    assert np.array_equal(np.sort(np.concatenate([b[2] for b in batches])), weight)
    assert all(np.array_equal(x[int(w)], row) and y[int(w)] == label for b in batches for row, label, w in zip(*b))
    again = list(augmented((x[:100], y[:100], weight), [], batch_size=32, rng=0))
    assert all(np.array_equal(p, q) for a, b in zip(batches, again) for p, q in zip(a, b))
    assert not np.array_equal(batches[0][2], next(iter(plain))[2]), "another order in the next epoch"
    changed = list(augmented((x[:100], y[:100]), [shift(1), noise(0.1)], rng=0))
    assert len(changed) == 4 and changed[0][0].dtype == np.float32


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: shift(0), ValueError, "shift: pixels must be a whole number of at least 1, not 0"),
    (lambda: rotate(-1), ValueError, "rotate: degrees must be a number of at least 0, not -1"),
    (lambda: noise("a"), ValueError, "noise: std must be a number of at least 0, not 'a'"),
    (lambda: cutout(1.5), ValueError, "cutout: size must be a whole number"),
    (lambda: mixup(0), ValueError, "mixup: alpha must be a positive number, not 0"),
    (lambda: augmented((np.ones(3), np.ones(3)), [3]), TypeError, "augmented: each of the steps must be a callable"),
    (lambda: augmented((np.ones(3), np.ones(3)), [], rng="a"), TypeError, "augmented: rng is 'a'"),
    (lambda: shift(1)(np.ones((2, 60)), None, np.random.default_rng(0)), ValueError, r"shift: x is \(2, 60\), but pictures of 7 by 7 have 49 pixels"),
])
def test_mistakes(make, error, message):
    with pytest.raises(error, match=message): make()


def test_pictures_that_are_not_square():
    x = np.arange(12.0).reshape(2, 6)
    moved, _ = shift(1, shape=(2, 3))(x, None, np.random.default_rng(0))
    assert moved.shape == (2, 6)
