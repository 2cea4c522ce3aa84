"""What the chapter on the digits claims of them, over seeds."""

import numpy as np
import pytest

import nn_from_scratch as nn

X, Y = nn.load_digits()
FIFTHS = np.arange(len(X)) * 5 // len(X)  # whole stretches of the file: whole hands


def share_right(part, sizes, seed):
    right = 0
    for k in range(5):
        known, held = part != k, part == k
        train, valid = nn.train_valid_split(X[known], Y[known], valid=0.2, rng=seed, stratify=True)
        model = nn.mlp(sizes, rng=seed)
        nn.fit(model, nn.cross_entropy, nn.Adam(0.003), train, valid, epochs=60, rng=seed, progress=False,
               callbacks=[nn.EarlyStopping(patience=8)])
        right += np.sum(model(X[held]).argmax(axis=1) == Y[held])
    return right / len(X)


@pytest.mark.parametrize("seed", range(3))
def test_hands_that_were_met_and_strangers(seed):
    at_random = np.random.default_rng(seed).permutation(FIFTHS)
    sizes = [64, 64, 32, 10]
    met, strangers = share_right(at_random, sizes, seed), share_right(FIFTHS, sizes, seed)
    assert 0.968 < met < 0.983 and 0.925 < strangers < 0.95
    assert (1 - strangers) > 2 * (1 - met)
    assert strangers > share_right(FIFTHS, [64, 10], seed)


def test_the_most_similar_digit_stands_near():
    squares = (X * X).sum(axis=1)
    distance = squares[:, None] + squares - 2 * X @ X.T
    distance[Y[:, None] != Y] = np.inf
    np.fill_diagonal(distance, np.inf)
    assert np.mean(np.abs(distance.argmin(axis=1) - np.arange(len(X))) < 100) > 0.5
