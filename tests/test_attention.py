"Attention without PyTorch: rules against finite differences, causality to the bit, masks, the cache, and the quicker rows against the text."
import itertools

import numpy as np
import pytest

import nn_from_scratch as nn
from nn_from_scratch import attention_demands, fast, fast_attention  # noqa: F401
from nn_from_scratch.attention import Cache, MultiHeadAttention, attention, attention_weights, rotary

fast.enable()


def arrays(*shapes, rng=0, dtype=np.float64):
    rng = np.random.default_rng(rng)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


@pytest.fixture(params=[True, False], ids=["quick", "text"])
def quick(request):
    (fast.enable if request.param else fast.disable)()
    yield request.param
    fast.enable()


SHAPES = [((3, 4), (3, 4), (3, 5)), ((1, 4), (1, 4), (1, 4)), ((2, 4), (5, 4), (5, 3)), ((5, 2), (2, 2), (2, 2)),
          ((2, 3, 4, 2), (2, 3, 6, 2), (2, 3, 6, 3)), ((2, 3, 4, 2), (2, 1, 4, 2), (2, 1, 4, 3)), ((3, 2), (2, 3, 2), (2, 3, 2))]


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_the_rule_is_the_derivative(shapes, causal, masked, quick):
    q, k, v = arrays(*shapes)
    mask = np.random.default_rng(1).random((q.shape[-2], k.shape[-2])) < 0.6 if masked else None
    assert nn.grad_check(lambda q, k, v: attention(q, k, v, causal, mask), q, k, v) < 1e-7


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_the_quick_row_says_what_the_text_says(shapes, causal, masked):
    q, k, v = arrays(*shapes)
    mask = np.random.default_rng(1).random((q.shape[-2], k.shape[-2])) < 0.5 if masked else None
    def loss(three): return np.sum(np.tanh(attention(*three, causal, mask)))
    found = []
    for switch in fast.enable, fast.disable:
        switch()
        found.append((attention(q, k, v, causal, mask), nn.grad(loss)([q, k, v])))
    fast.enable()
    (y, g), (y0, g0) = found
    assert np.allclose(y, y0, rtol=0, atol=1e-13)
    for a, b in zip(g, g0): assert np.allclose(a, b, rtol=0, atol=1e-13)


def test_a_query_that_may_see_nothing_gets_zeros(quick):
    q, k, v = arrays((2, 3, 4), (2, 5, 4), (2, 5, 4))
    mask = np.ones((3, 5), bool)
    mask[1] = False
    y = attention(q, k, v, mask=mask)
    assert not y[:, 1].any() and np.isfinite(y).all() and y[:, 0].any()
    grads = nn.grad(lambda three: np.sum(attention(*three, mask=mask) ** 2))([q, k, v])
    assert all(np.isfinite(g).all() for g in grads) and not grads[0][:, 1].any()
    late = attention(k, q, q, causal=True)  # five queries, three keys: the first two come before all keys
    assert not late[:, :2].any() and np.isfinite(late).all()


def test_earlier_places_do_not_hear_of_later_ones_to_the_bit(quick):
    for dtype, rotates, kv in itertools.product([np.float32, np.float64], [True, False], [None, 1]):
        layer = MultiHeadAttention(8, 2, kv_heads=kv, rotary=rotates, rng=0, dtype=dtype)
        x, = arrays((3, 7, 8), dtype=dtype)
        before = layer(x)
        for place in range(1, 7):
            changed = x.copy()
            changed[:, place:] = 100 * np.random.default_rng(place).standard_normal(changed[:, place:].shape)
            assert (layer(changed)[:, :place] == before[:, :place]).all()
            assert (layer(changed)[:, place:] != before[:, place:]).any()


def test_large_scores_do_not_overflow(quick):
    q, k, v = arrays((4, 3), (4, 3), (4, 2), dtype=np.float32)
    with np.errstate(all="raise", under="ignore"):
        y = attention(1e18 * q, 1e18 * k, v, causal=True)
    assert np.isfinite(y).all() and y.dtype == np.float32


def test_weights_are_shares():
    q, k = arrays((2, 4, 3), (2, 6, 3))
    p = attention_weights(q, k, causal=True)
    assert np.allclose(p.sum(axis=-1), 1) and (p >= 0).all()
    assert (p[:, 0, 3:] == 0).all() and (p[:, 0, :3] > 0).all()  # the last query sees the last key


def test_precision_is_kept(quick):
    q, k, v = arrays((2, 3, 4), (2, 3, 4), (2, 3, 4), dtype=np.float32)
    assert attention(q, k, v).dtype == np.float32
    assert nn.grad(lambda q: np.sum(attention(q, k, v)))(q).dtype == np.float32
    assert attention(q, k.astype(float), v).dtype == np.float64  # what NumPy says of the two


def test_rotary_turns_pairs_and_asks_for_the_distance_alone():
    x, = arrays((2, 5, 6))
    y = rotary(x)
    assert np.allclose(np.hypot(y[..., :3], y[..., 3:]), np.hypot(x[..., :3], x[..., 3:]))
    assert (rotary(x)[:, 0] == x[:, 0]).all()
    assert np.allclose(rotary(x, 2)[:, :3], rotary(np.concatenate([x[:, :2], x], axis=1))[:, 2:5], atol=1e-14)
    q, k = arrays((8,), (8,), rng=1)
    def fit(i, j): return (rotary(q[None], i) @ rotary(k[None], j).T).item()
    assert np.isclose(fit(3, 1), fit(40, 38)) and not np.isclose(fit(3, 1), fit(3, 2))
    assert nn.grad_check(lambda x: rotary(x, 3), x) < 1e-8


@pytest.mark.parametrize("options", [{}, {"kv_heads": 2}, {"kv_heads": 1}, {"rotary": True}, {"bias": False}, {"causal": False},
                                     {"kv_heads": 2, "rotary": True}], ids=str)
def test_every_gradient_of_a_layer(options, quick):
    layer = MultiHeadAttention(8, 4, rng=0, dtype=np.float64, **options)
    x, = arrays((2, 3, 8))
    assert nn.grad_check(lambda layer, x: layer(x), layer, x) < 1e-7


def test_heads_at_once_are_the_heads_one_by_one():
    for causal, rotates in itertools.product([True, False], repeat=2):
        layer = MultiHeadAttention(8, 4, causal=causal, rotary=rotates, rng=0, dtype=np.float64)
        x, = arrays((2, 5, 8))
        def loss(layer, x): return np.sum(np.tanh(layer(x)))
        y, grads = layer(x), nn.grad(loss)(layer, x)
        fast.disable()
        assert np.allclose(layer(x), y, atol=1e-14)
        assert np.allclose(nn.grad(loss)(layer, x).vector, grads.vector, atol=1e-13)
        fast.enable()


@pytest.mark.parametrize("options", [{}, {"kv_heads": 2}, {"rotary": True}, {"kv_heads": 1, "rotary": True}], ids=str)
def test_a_cache_changes_nothing(options, quick):
    layer = MultiHeadAttention(8, 4, rng=0, dtype=np.float64, **options)
    x, = arrays((2, 150, 8))
    whole, cache = layer(x), Cache()
    parts = [layer(part, cache=cache) for part in np.split(x, [1, 2, 5, 6, 90, 91], axis=1)]
    assert np.allclose(np.concatenate(parts, axis=1), whole, atol=1e-12) and cache.length == 150


def test_one_place_alone(quick):
    layer = MultiHeadAttention(4, 2, rng=0)
    assert layer(np.ones((1, 1, 4))).shape == (1, 1, 4)
    assert layer(np.ones((5, 4))).shape == (5, 4)  # one sequence, no batch


def test_gelu_remembers_what_the_text_computes():
    x = np.concatenate([np.linspace(-12, 12, 400), [1e30, -1e30, 0.0]]).astype(np.float32).reshape(13, 31)
    y, slope = nn.gelu(x), nn.grad(lambda x: np.sum(nn.gelu(x)))(x)
    fast.disable()
    assert np.allclose(y, nn.gelu(x), rtol=1e-6, atol=1e-6)
    assert np.allclose(slope, nn.grad(lambda x: np.sum(nn.gelu(x)))(x), rtol=1e-5, atol=1e-5)
    fast.enable()
    assert nn.grad_check(nn.gelu, x[:3].astype(float)) < 1e-7
    assert nn.gelu(2.0) == nn.gelu(np.array(2.0))


@pytest.mark.parametrize("call, said", [
    (lambda: attention(np.ones((2, 3)), np.ones((2, 4)), np.ones((2, 4))), "a query has 3 numbers and a key 4"),
    (lambda: attention(np.ones((2, 3)), np.ones((2, 3)), np.ones((3, 3))), "2 keys and 3 values"),
    (lambda: attention(np.ones((2, 3)), np.ones((0, 3)), np.ones((0, 3))), "no key"),
    (lambda: attention(np.ones(3), np.ones((2, 3)), np.ones((2, 3))), "q must be"),
    (lambda: attention(np.ones((2, 3)), np.ones((2, 3)), np.ones((2, 3)), mask=np.ones((2, 2))), "True (may look) and False"),
    (lambda: attention(np.ones((2, 3)), np.ones((2, 3)), np.ones((2, 3)), mask=np.ones((3, 2), bool)), "need a mask (2, 2)"),
    (lambda: attention(np.ones((2, 2, 3)), np.ones((3, 2, 3)), np.ones((3, 2, 3))), "leading axes"),
    (lambda: attention(np.ones((2, 3), int), np.ones((2, 3)), np.ones((2, 3))), "floating-point"),
    (lambda: rotary(np.ones((2, 3))), "turned in pairs"),
    (lambda: MultiHeadAttention(10, 3), "10 features cannot be shared out among 3 heads"),
    (lambda: MultiHeadAttention(12, 4, kv_heads=3), "4 heads of queries cannot share 3 of keys"),
    (lambda: MultiHeadAttention(6, 2, rotary=True), "turn pairs"),
    (lambda: MultiHeadAttention(8, 2)(np.ones((2, 3, 7))), "features"),
])
def test_mistakes_are_said_in_words(call, said):
    with pytest.raises((ValueError, TypeError)) as error: call()
    assert said in str(error.value), error.value
