"""The optimizers after Adam, groups of parameters and wsd: against references written here from the papers."""

import copy
import pickle

import numpy as np
import pytest

from nn_from_scratch.functions import tanh
from nn_from_scratch.gradients import value_and_grad
from nn_from_scratch.layers import mlp
from nn_from_scratch.losses import mse
from nn_from_scratch.modern import Lion, Muon, ScheduleFree, orthogonal, wsd
from nn_from_scratch.optim import SGD, Adagrad, Adam, AdamW, RMSprop
from nn_from_scratch.schedules import warmup


def noisy(shape, steps=60, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape), rng.normal(size=(steps, *shape))


def walk(optimizer, start, noise):
    theta, path = start.copy(), []
    for e in noise:
        optimizer.update(theta, np.sin(3 * theta) + e)
        path.append(theta.copy())
    return np.array(path)


# ---------------------------------------------------------------- Lion

@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_lion_is_the_program_of_its_paper(decay):
    "Chen et al. (2023), program 1: update = sign(interp(g, m, β₁)), m = interp(g, m, β₂), θ -= η (update + λ θ)."
    start, noise = noisy((5, 3))
    theta, m, path = start.copy(), np.zeros((5, 3)), []
    for e in noise:
        g = np.sin(3 * theta) + e
        update = np.sign((1 - 0.9) * g + 0.9 * m)
        m = (1 - 0.99) * g + 0.99 * m
        theta = theta - 0.02 * (update + decay * theta)
        path.append(theta)
    np.testing.assert_allclose(walk(Lion(0.02, weight_decay=decay), start, noise), path, rtol=1e-12, atol=1e-14)


def test_lion_moves_every_parameter_alike():
    theta = np.zeros(4)
    Lion(0.1).update(theta, np.array([1e-9, -3.0, 1e9, 0.0]))
    np.testing.assert_allclose(theta, [-0.1, 0.1, -0.1, 0])


# ---------------------------------------------------------------- Muon

@pytest.mark.parametrize("shape", [(6, 6), (3, 9), (9, 3), (1, 5), (40, 24)])
def test_orthogonal_keeps_directions_and_evens_out_lengths(shape):
    g = np.random.default_rng(0).normal(size=shape)
    x = orthogonal(g)
    u, s, v = np.linalg.svd(g, full_matrices=False)
    there = u.T @ x @ v.T
    assert x.shape == shape and np.allclose(there, np.diag(np.diag(there)), atol=1e-9), "the same singular vectors"
    lengths = np.diag(there)
    assert 0.6 < lengths[s > 0.05 * s[0]].min() and lengths.max() < 1.25
    assert not orthogonal(np.zeros(shape)).any() and np.allclose(orthogonal(1e3 * g), x)
    assert orthogonal(g.astype(np.float32)).dtype == np.float32


def muon(theta, m, g, lr, decay=0.1, mu=0.95, nesterov=True):
    "One step of a matrix as in PyTorch's documentation, whose matrices are (out, in)."
    m[...] = mu * m + g
    x = (g + mu * m if nesterov else m).T
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / max(np.sqrt((x ** 2).sum()), 1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    x = x.T if tall else x
    out, n_in = x.shape
    return (1 - lr * decay) * theta - lr * max(1, out / n_in) ** 0.5 * x.T


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("shape", [(4, 7), (7, 4)])
def test_muon_on_a_matrix(shape, nesterov):
    start, noise = noisy(shape)
    theta, m, path = start.copy(), np.zeros(shape), []
    for e in noise:
        theta = muon(theta, m, np.sin(3 * theta) + e, 0.05, nesterov=nesterov)
        path.append(theta)
    np.testing.assert_allclose(walk(Muon(0.05, nesterov=nesterov), start, noise), path, rtol=1e-9, atol=1e-11)


def pairs_of(model, seed=0, steps=8):
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        grads = model.parameters().empty_like()
        grads.vector[:] = rng.normal(size=grads.vector.size)
        yield grads


def test_muon_takes_hidden_matrices_and_leaves_all_else_to_the_other():
    model = mlp([3, 5, 6, 7, 2], rng=0, dtype=np.float64)
    arrays = {name: a.copy() for name, a in model.parameters().items()}
    optimizer, others = Muon(0.05, others=AdamW(0.01)), AdamW(0.01)
    hidden = {"2.weight", "4.weight"}
    memories = {name: np.zeros(arrays[name].shape) for name in hidden}
    for grads in pairs_of(model):
        optimizer.update(model, grads)
        others.update({k: a for k, a in arrays.items() if k not in hidden}, {k: grads[k] for k in grads if k not in hidden})
        for name in hidden: arrays[name] = muon(arrays[name], memories[name], grads[name], 0.05)
    for name, a in model.parameters().items(): np.testing.assert_allclose(a, arrays[name], rtol=1e-9, atol=1e-12, err_msg=name)
    assert optimizer.others == others and optimizer.others.steps == 0, "the other one is asked, and not changed"


def test_muon_by_name():
    model = mlp([3, 5, 2], rng=0, dtype=np.float64)
    arrays = {name: a.copy() for name, a in model.parameters().items()}
    by_model, by_dict = Muon(0.05, matrices="0.*"), Muon(0.05, matrices=["0.weight"])
    for grads in pairs_of(model):
        by_model.update(model, grads)
        by_dict.update(arrays, dict(grads))
    for name, a in model.parameters().items(): np.testing.assert_allclose(a, arrays[name], rtol=1e-12)
    with pytest.raises(ValueError, match=r"no hidden matrix among 0.weight, 0.bias, 2.weight, 2.bias: name some with matrices="):
        Muon(0.05).update(model, model.parameters())
    with pytest.raises(ValueError, match="no hidden matrix"): Muon(0.05, matrices="9.*").update(model, model.parameters())
    with pytest.raises(TypeError, match="others must be an optimizer, AdamW"): Muon(0.05, others=0.1)


# ---------------------------------------------------------------- ScheduleFree

@pytest.mark.parametrize("lr", [0.02, warmup(0.02, 20)], ids=["constant", "warm-up"])
@pytest.mark.parametrize("decay", [0.0, 0.2])
def test_schedule_free_is_the_reference(lr, decay):
    "AdamW with x, y and z written out, as in Defazio et al. (2024), its weights the squares of the learning rates."
    start, noise = noisy((7,))
    y, z, x, v, total, path = start.copy(), start.copy(), start.copy(), np.zeros(7), 0.0, []
    for k, e in enumerate(noise):
        g, now = np.sin(3 * y) + e, lr(k) if callable(lr) else lr
        total += now ** 2
        c = now ** 2 / total
        z = z - now * decay * y
        v = 0.999 * v + 0.001 * g * g
        z = z - now * g / (np.sqrt(v / (1 - 0.999 ** (k + 1))) + 1e-8)
        x = (1 - c) * x + c * z
        y = 0.9 * x + 0.1 * z
        path.append(y)
    optimizer = ScheduleFree(lr, weight_decay=decay)
    ours = walk(optimizer, start, noise)
    np.testing.assert_allclose(ours, path, rtol=1e-9, atol=1e-11)
    theta = ours[-1].copy()
    with optimizer.averaged(theta): np.testing.assert_allclose(theta, x, rtol=1e-9)
    assert np.array_equal(theta, ours[-1]), "then it goes on from y, to the bit"
    optimizer.average(theta)
    np.testing.assert_allclose(theta, x, rtol=1e-9)


def test_schedule_free_puts_the_model_back_after_an_error():
    model, optimizer = mlp([2, 3, 1], rng=0), ScheduleFree(0.1)
    for grads in pairs_of(model): optimizer.update(model, grads)
    before = model.parameters().vector.copy()
    with pytest.raises(RuntimeError), optimizer.averaged(model):
        assert not np.array_equal(model.parameters().vector, before)
        raise RuntimeError
    assert np.array_equal(model.parameters().vector, before)
    total = optimizer.total
    with pytest.raises(ValueError): optimizer.update(model, mlp([2, 4, 1], rng=0).parameters())
    assert optimizer.total == total and optimizer.steps == 8


# ---------------------------------------------------------------- copies, states

EVERY = [lambda: Lion(0.01), lambda: Muon(0.01), lambda: ScheduleFree(0.01), lambda: Muon(0.01, groups={"*.bias": {"lr": 0.5}}),
         lambda: AdamW(0.01, groups={"*.bias": {"weight_decay": 0}, "6.*": {"lr": 0.1}}), lambda: SGD(0.1, momentum=0.9)]
every = pytest.mark.parametrize("make", EVERY, ids=lambda make: type(make()).__name__)


@every
@pytest.mark.parametrize("how", ["deepcopy", "pickle", "state"])
def test_goes_on_to_the_same_bits(make, how):
    model = mlp([3, 5, 6, 7, 2], rng=0)
    optimizer = make()
    grads = list(pairs_of(model))
    for g in grads[:4]: optimizer.update(model, g)
    twin = copy.deepcopy(model)
    if how == "state":
        other = make()
        other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    else: other = copy.deepcopy(optimizer) if how == "deepcopy" else pickle.loads(pickle.dumps(optimizer))
    for g in grads[4:]:
        optimizer.update(model, g)
        other.update(twin, g)
    assert other.steps == 8 and np.array_equal(model.parameters().vector, twin.parameters().vector)


@every
def test_float32_stays(make):
    model, optimizer = mlp([3, 5, 6, 7, 2], rng=0), make()
    for g in pairs_of(model): optimizer.update(model, g)
    assert model.parameters().vector.dtype == np.float32 and all(m.dtype == np.float32 for m in optimizer.memory.values())
    assert np.isfinite(model.parameters().vector).all()


@every
def test_trains(make):
    x = np.random.default_rng(0).normal(size=(64, 3))
    y = np.stack([np.sin(x[:, 0]), x[:, 1] * x[:, 2]], axis=1)
    model, optimizer = mlp([3, 16, 16, 16, 2], tanh, rng=0, dtype=np.float64), make()
    first = mse(model(x), y)
    for _ in range(300):
        _, g = value_and_grad(lambda m: mse(m(x), y))(model)
        optimizer.update(model, g)
    assert mse(model(x), y) < 0.3 * first


# ---------------------------------------------------------------- groups

@pytest.mark.parametrize("make", [AdamW, lambda *a, **k: SGD(*a, momentum=0.9, **k), RMSprop, Adagrad, Lion, ScheduleFree])
def test_groups_are_optimizers_side_by_side(make):
    model = mlp([3, 5, 4, 2], rng=0, dtype=np.float64)
    arrays = {name: a.copy() for name, a in model.parameters().items()}
    grouped = make(0.01, weight_decay=0.3, groups={"2.bias": {"lr": 0.5}, "*.bias": {"weight_decay": 0}, "4.*": {"lr": warmup(0.1, 5)}})
    settings = {"0.weight": (0.01, 0.3), "0.bias": (0.01, 0), "2.weight": (0.01, 0.3), "2.bias": (0.5, 0.3),
                "4.weight": (warmup(0.1, 5), 0.3), "4.bias": (0.01, 0)}
    alone = {name: make(lr, weight_decay=decay) for name, (lr, decay) in settings.items()}
    for grads in pairs_of(model):
        grouped.update(model, grads)
        for name, optimizer in alone.items(): optimizer.update(arrays[name], grads[name])
    for name, a in model.parameters().items():
        if make is ScheduleFree and name == "4.weight": continue  # the mean weighs by the learning rate of all
        np.testing.assert_allclose(a, arrays[name], rtol=1e-12, atol=1e-15, err_msg=name)


def test_a_rate_of_0_freezes():
    model = mlp([3, 5, 4, 2], rng=0)
    before = model.parameters().vector.copy()
    optimizer = AdamW(0.01, groups={"0.*": {"lr": 0}, "2.*": {"lr": 0}})
    for grads in pairs_of(model): optimizer.update(model, grads)
    n = sum(model.parameters()[name].size for name in ("0.weight", "0.bias", "2.weight", "2.bias"))
    after = model.parameters().vector
    assert np.array_equal(after[:n], before[:n]) and not np.isclose(after[n:], before[n:]).any()


def test_groups_of_a_dict_of_arrays_and_of_an_array():
    a, b = {"w": np.ones(3), "b": np.ones(3)}, np.ones(3)
    SGD(0.1, groups={"b": {"lr": 0.5}}).update(a, {"w": np.ones(3), "b": np.ones(3)})
    assert np.allclose(a["w"], 0.9) and np.allclose(a["b"], 0.5)
    with pytest.raises(ValueError, match="no parameter fits the group 'b'; there are the array"):
        SGD(0.1, groups={"b": {"lr": 0.5}}).update(b, np.ones(3))
    assert np.all(b == 1)


@pytest.mark.parametrize(("groups", "message"), [
    ({"*.bias": {"momentum": 0}}, r"SGD: groups gives patterns of names their own lr and weight_decay, {'\*.bias': {'weight_decay': 0}} say"),
    ({"*.bias": 0}, "groups gives patterns"),
    ([("*.bias", {})], "groups gives patterns"),
    ({"*.bias": {"lr": -1}}, r"SGD: lr of '\*.bias' must be a number of at least 0, not -1"),
    ({"*.bias": {"weight_decay": "0"}}, r"SGD: weight_decay of '\*.bias' must be a number of at least 0, not '0'"),
])
def test_groups_that_make_no_sense(groups, message):
    with pytest.raises(ValueError, match=message): SGD(0.1, groups=groups)


def test_a_group_that_fits_nothing_changes_nothing():
    model = mlp([2, 3, 1], rng=0)
    before, optimizer = model.parameters().vector.copy(), SGD(0.1, groups={"*.biass": {"lr": 0}})
    with pytest.raises(ValueError, match=r"no parameter fits the group '\*.biass'; there are 0.weight, 0.bias, 2.weight, 2.bias"):
        optimizer.update(model, model.parameters())
    assert optimizer.steps == 0 and np.array_equal(before, model.parameters().vector)


def test_a_schedule_is_asked_once_a_step_for_all_groups():
    asked = []
    optimizer = Adam(lambda step: asked.append(step) or 0.1, groups={"*.bias": {"weight_decay": 0.1}})
    model = mlp([2, 3, 4, 1], rng=0)
    asked.clear()
    for grads in pairs_of(model, steps=3): optimizer.update(model, grads)
    assert sorted(set(asked)) == [0, 1, 2] and len(asked) <= 2 * 3  # once for each kind of settings


# ---------------------------------------------------------------- wsd

def test_wsd_rises_stays_and_falls():
    s = wsd(0.5, steps=100, warmup=10, decay=0.2, final=0.1)
    assert s(0) == pytest.approx(0.05) and s(9) == s(10) == s(80) == 0.5
    assert s(90) == pytest.approx(0.3) and s(100) == pytest.approx(0.1) == s(1000)
    assert wsd(0.5, 10)(0) == 0.5 and wsd(0.5, 10, decay=1)(5) == pytest.approx(0.25)
    for twin in (copy.deepcopy(s), pickle.loads(pickle.dumps(s)), eval(repr(s))): assert twin == s and hash(twin) == hash(s)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: wsd(-1, 10), "wsd: lr must be a number of at least 0, not -1"),
    (lambda: wsd(1, 0), "wsd: steps must be a whole number of at least 1, not 0"),
    (lambda: wsd(1, 10, warmup=-1), "wsd: warmup must be a whole number of at least 0, not -1"),
    (lambda: wsd(1, 10, decay=0), "wsd: decay must be a number above 0 and at most 1, not 0"),
    (lambda: Lion(betas=(0.9, 1)), "Lion: each of betas"), (lambda: Muon(momentum=1), "Muon: momentum"),
    (lambda: ScheduleFree(betas=(0, 0.9)), "ScheduleFree: the first of betas must be a positive number, not 0"),
])
def test_settings_that_make_no_sense(make, message):
    with pytest.raises(ValueError, match=message): make()


# ---------------------------------------------------------------- frozen

@every
def test_what_is_frozen_stays_and_the_rest_goes_on(make):
    model, alone = (mlp([3, 5, 6, 7, 2], rng=0) for _ in range(2))
    a, b = make(), make()
    for i, grads in enumerate(pairs_of(model)):
        before = {name: p.copy() for name, p in model.parameters().items()}
        if i == 4: model.freeze("0.*", "6.bias")
        a.update(model, grads)
        if i < 4: b.update(alone, grads)
        if i >= 4:
            for name, p in model.parameters().items(): assert np.array_equal(p, before[name]) == (name in model.frozen), name
        else: assert np.array_equal(model.parameters().vector, alone.parameters().vector)
    model.unfreeze()
    a.update(model, grads)
    assert not np.array_equal(model.parameters()["0.weight"], before["0.weight"])
