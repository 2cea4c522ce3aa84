"""The optimizers, the schedules and clipping: against stored walks of PyTorch's, and against their definitions."""

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest

from nn_from_scratch import optim, quick_steps, schedules
from nn_from_scratch import optimizer as optimizer_room
from nn_from_scratch.gradients import value_and_grad
from nn_from_scratch.layers import mlp
from nn_from_scratch.losses import mse
from nn_from_scratch.modules import Module
from nn_from_scratch.optim import SGD, Adagrad, Adam, AdamW, RMSprop, clip_grad_norm, gradient_descent
from nn_from_scratch.parameters import Parameters
from nn_from_scratch.schedules import cosine_decay, exponential_decay, one_cycle, step_decay, warmup

FIXTURE = np.load(Path(__file__).parent / "fixtures" / "optim.npz")  # made by tools/make_torch_fixtures.py
MADE = {name: value for room in (optim, schedules) for name, value in vars(room).items() if name in room.__all__}
WALKS = [key for key in FIXTURE.files if key.partition("(")[0] in ("SGD", "Adagrad", "RMSprop", "Adam", "AdamW")]
RATES = [key for key in FIXTURE.files if key.startswith("rates of ")]

EVERY = [lambda: SGD(0.1), lambda: SGD(0.1, weight_decay=0.1), lambda: SGD(0.1, momentum=0.9),
         lambda: SGD(0.1, momentum=0.9, nesterov=True), lambda: Adagrad(0.1, weight_decay=0.1), lambda: RMSprop(0.1, weight_decay=0.1), lambda: RMSprop(0.1, momentum=0.5),
         lambda: Adam(0.1), lambda: Adam(0.1, weight_decay=0.1), lambda: AdamW(0.1), lambda: AdamW(one_cycle(0.1, 10))]
every = pytest.mark.parametrize("make", EVERY, ids=lambda make: repr(make()))

SCHEDULES = [step_decay(0.5, 3), exponential_decay(0.5, 0.9), cosine_decay(0.5, 10, 0.1), one_cycle(0.5, 10), warmup(0.5, 3),
             warmup(cosine_decay(0.5, 10), 3)]


# ---------------------------------------------------------------- the same walks as PyTorch

def test_the_fixture_covers_every_optimizer_and_schedule():
    assert len(WALKS) >= 30 and len(RATES) >= 9
    for name in ("SGD", "Adagrad", "RMSprop", "Adam", "AdamW"): assert any(key.startswith(name + "(") for key in WALKS)
    for name in ("step_decay", "exponential_decay", "cosine_decay", "one_cycle", "warmup"): assert any(f" {name}(" in key for key in RATES)


def walk(optimizer):
    theta, matrix = FIXTURE["start"].copy(), FIXTURE["matrix"]
    path = [theta.copy()]
    for noise in FIXTURE["noise"]:
        optimizer.update(theta, matrix @ theta + np.sin(5 * theta) + noise)
        path.append(theta.copy())
    return np.array(path)


@pytest.mark.parametrize("call", WALKS)
def test_150_steps_as_in_pytorch(call):
    theirs = FIXTURE[call]
    ours = walk(eval(call, dict(MADE)))
    assert ours.shape == theirs.shape == (151, 3) and ours.dtype == np.float64
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("key", RATES)
def test_learning_rates_as_in_pytorch(key):
    schedule = eval(key.removeprefix("rates of "), dict(MADE))
    np.testing.assert_allclose([schedule(step) for step in range(150)], FIXTURE[key], rtol=1e-9)


# ---------------------------------------------------------------- what can be updated

@every
def test_array_dict_module_and_blocks_agree(make, monkeypatch):
    model = mlp([3, 4, 2], rng=0, dtype=np.float64)
    theta = model.parameters()
    vector, arrays = theta.vector.copy(), {name: a.copy() for name, a in theta.items()}
    blocks, column = vector.copy(), np.zeros((len(vector), 3))
    column[:, 1] = vector
    optimizers = [make() for _ in range(5)]
    rng = np.random.default_rng(0)
    for _ in range(5):
        grads = theta.empty_like()
        grads.vector[:] = rng.normal(size=len(vector))
        before = grads.vector.copy()
        optimizers[0].update(model, grads)
        optimizers[1].update(vector, grads.vector)
        optimizers[2].update(arrays, dict(grads))
        optimizers[3].update(column[:, 1], grads.vector[::-1][::-1])
        with monkeypatch.context() as m:
            m.setattr(quick_steps, "block", 7)
            optimizers[4].update(blocks, grads.vector)
        assert np.array_equal(grads.vector, before), "the gradients are not changed"
    assert np.array_equal(model.parameters().vector, vector)
    assert all(np.array_equal(arrays[name], a) for name, a in model.parameters().items())
    assert np.array_equal(column[:, 1], vector) and not column[:, ::2].any()
    np.testing.assert_allclose(blocks, vector, rtol=1e-13)


@every
def test_arrays_of_any_layout(make):
    rng = np.random.default_rng(0)
    plain = rng.normal(size=(4, 6))
    views = [plain.copy("F"), np.repeat(plain, 2, axis=0)[::2], plain.copy()[::-1, ::-1][::-1, ::-1], plain.T.copy().T]
    optimizers, first = [make() for _ in views], make()
    for _ in range(3):
        g = rng.normal(size=(4, 6))
        first.update(plain, g)
        for optimizer, view in zip(optimizers, views): optimizer.update(view, np.asfortranarray(g))
    for view in views: assert np.array_equal(view, plain)


@every
@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 0, 3)])
def test_zero_dimensions_and_no_numbers(make, shape):
    theta, optimizer = np.ones(shape), make()
    optimizer.update(theta, np.ones(shape))
    optimizer.update(theta, np.ones(shape))
    assert theta.shape == shape and np.all(theta < 1)


def test_a_slice_of_a_parameter_vector_is_trained_alone():
    model = mlp([2, 3, 1], rng=0)
    last, before = model[2], model[0].weight.copy()
    _, grads = value_and_grad(lambda part, x, y: mse(model(x), y))(last, np.ones((4, 2), np.float32), np.zeros((4, 1), np.float32))
    weight = last.weight.copy()
    SGD(0.1).update(last, grads)
    assert np.array_equal(model[0].weight, before) and not np.array_equal(last.weight, weight)


# ---------------------------------------------------------------- float32 stays float32

class Strict(np.ndarray):
    "An array that refuses to meet float64."

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **kwargs):
        for a in (*inputs, *out):
            assert getattr(a, "dtype", None) != np.float64, f"float64 in {ufunc.__name__}: {inputs}"
        plain = [a.view(np.ndarray) if isinstance(a, Strict) else a for a in inputs]
        if out: kwargs["out"] = tuple(a.view(np.ndarray) if isinstance(a, Strict) else a for a in out)
        result = getattr(ufunc, method)(*plain, **kwargs)
        assert result.dtype != np.float64, f"{ufunc.__name__} made float64 of {inputs}"
        return out[0] if out else np.asarray(result).view(Strict)


@pytest.mark.parametrize("number", [float, np.float32, np.float64])
def test_no_float64_creeps_into_float32(number):
    n = number
    for optimizer in (SGD(n(0.1), momentum=n(0.9), weight_decay=n(0.1)), SGD(n(0.1), n(0.9), True), Adagrad(n(0.1), n(0.1), n(1e-10)),
                      RMSprop(n(0.1), n(0.99), n(1e-8), n(0.1), n(0.9)), Adam(n(0.1), (n(0.9), n(0.999)), n(1e-8), n(0.1)),
                      AdamW(n(0.1), weight_decay=n(0.1)), SGD(lambda step: n(0.1)), AdamW(cosine_decay(n(0.1), 5)),
                      Adam(warmup(one_cycle(n(0.1), 5), 2))):
        theta = np.ones(5, np.float32).view(Strict)
        for _ in range(3): optimizer.update(theta, np.ones(5, np.float32).view(Strict))
        assert theta.dtype == np.float32 and all(m.dtype == np.float32 for m in optimizer.memory.values())
    g = np.ones(5, np.float32).view(Strict)
    assert isinstance(clip_grad_norm(g, n(0.1)), float) and g.dtype == np.float32


@every
def test_float32_follows_float64(make):
    low, high = np.linspace(-1, 1, 9, dtype=np.float32), np.linspace(-1, 1, 9)
    a, b = make(), make()
    for _ in range(20):
        a.update(low, 2 * low + np.float32(0.3))
        b.update(high, 2 * high + 0.3)
    assert low.dtype == np.float32
    np.testing.assert_allclose(low, high, atol=2e-4)


# ---------------------------------------------------------------- copies, pickles, another model

@every
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))], ids=["deepcopy", "pickle"])
def test_a_copy_goes_on_where_the_original_was(make, duplicate):
    model = mlp([2, 3, 1], rng=0, dtype=np.float64)
    optimizer, grads = make(), copy.deepcopy(model.parameters())
    for _ in range(3): optimizer.update(model, grads)
    other, twin = duplicate(optimizer), copy.deepcopy(model)
    assert repr(other) == repr(optimizer) and other.steps == 3 and other == optimizer
    other.update(twin, grads)
    assert optimizer.steps == 3 and not np.array_equal(model.parameters().vector, twin.parameters().vector)
    optimizer.update(model, grads)
    assert np.array_equal(model.parameters().vector, twin.parameters().vector)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_schedules_are_values(schedule):
    for twin in (copy.deepcopy(schedule), pickle.loads(pickle.dumps(schedule)), eval(repr(schedule), dict(MADE))):
        assert twin == schedule and hash(twin) == hash(schedule) and [twin(s) for s in range(20)] == [schedule(s) for s in range(20)]
    with pytest.raises(AttributeError): schedule.steps = 3


@every
def test_an_optimizer_serves_one_model(make):
    a, b = mlp([2, 3, 1], rng=0), mlp([2, 3, 1], rng=1)
    optimizer = make()
    for _ in range(2): optimizer.update(a, a.parameters())
    before = b.parameters().vector.copy()
    with pytest.raises(ValueError, match="has taken 2 steps with another model: make one optimizer for each"):
        optimizer.update(b, b.parameters())
    assert np.array_equal(b.parameters().vector, before) and optimizer.steps == 2
    del a
    with pytest.raises(ValueError, match="another model"): optimizer.update(b, b.parameters())  # though the first one is gone
    optimizer.reset()
    fresh, twin = make(), copy.deepcopy(b)
    optimizer.update(b, b.parameters())
    fresh.update(twin, twin.parameters())
    assert np.array_equal(b.parameters().vector, twin.parameters().vector)


def test_the_same_model_goes_on_after_an_array_was_replaced():
    model, optimizer = mlp([2, 3, 1], rng=0), Adam(0.1)
    optimizer.update(model, model.parameters())
    model[0].weight = model[0].weight * 2
    optimizer.update(model, model.parameters())
    assert optimizer.steps == 2


@every
def test_an_optimizer_refuses_another_size_or_name(make):
    optimizer = make()
    optimizer.update({"w": np.zeros(3)}, {"w": np.zeros(3)})
    with pytest.raises(ValueError, match="1 step with w of size 3, and now meets w of size 4"):
        optimizer.update({"w": np.zeros(4)}, {"w": np.zeros(4)})
    with pytest.raises(ValueError, match="now meets v of size 3"): optimizer.update({"v": np.zeros(3)}, {"v": np.zeros(3)})
    assert optimizer.steps == 1


# ---------------------------------------------------------------- mistakes

def test_mistakes_in_update():
    model = mlp([2, 3, 1], rng=0)
    other = mlp([3, 2, 1], rng=0)  # as many numbers with other shapes would be the worst case
    optimizer = SGD(0.1)
    with pytest.raises(ValueError, match="gradients of another model"): optimizer.update(model, other.parameters())
    swapped = Parameters(dict(reversed(model.parameters().shapes.items())), model.parameters().vector.copy())
    with pytest.raises(ValueError, match="gradients of another model"): optimizer.update(model, swapped)
    with pytest.raises(TypeError, match="second argument is a model"): optimizer.update(model, model)
    with pytest.raises(TypeError, match="the gradients are a list"): optimizer.update(model, [1.0])
    with pytest.raises(ValueError, match=r"the array has the shape \(3,\), but its gradient \(2,\)"):
        optimizer.update(np.zeros(3), np.zeros(2))
    with pytest.raises(ValueError, match="the parameters are a, b, but the gradients a"):
        optimizer.update({"a": np.zeros(2), "b": np.zeros(2)}, {"a": np.zeros(2)})
    with pytest.raises(TypeError, match="in place, but the array is float"): optimizer.update(1.0, 2.0)
    with pytest.raises(TypeError, match="in place, but the array is list"): optimizer.update([1.0], [2.0])
    with pytest.raises(TypeError, match="floating-point numbers in place, but the array is int"):
        optimizer.update(np.arange(3), np.zeros(3))
    assert optimizer.steps == 0
    with pytest.raises(NotImplementedError, match="define step"):
        class Idle(SGD): step = optim.Optimizer.step
        Idle(0.1).update(np.zeros(2), np.zeros(2))


@pytest.mark.parametrize(("make", "message"), [
    (lambda: SGD(-1), "SGD: lr must be a number of at least 0, not -1"),
    (lambda: SGD(float("nan")), "SGD: lr must be a number of at least 0, not nan"),
    (lambda: SGD(float("inf")), "not inf"),
    (lambda: SGD("0.1"), "SGD: lr must be a number of at least 0, not '0.1'"),
    (lambda: SGD(lambda step: None), r"lr is a schedule, step -> number, but lr\(0\) must be a number of at least 0, not None"),
    (lambda: SGD(lambda step: -0.1), "not -0.1"),
    (lambda: SGD(0.1, momentum=1), "SGD: momentum must be a number of at least 0 and below 1, not 1"),
    (lambda: SGD(0.1, momentum=-0.1), "momentum"),
    (lambda: SGD(0.1, nesterov=True), "nesterov needs a momentum above 0"),
    (lambda: SGD(0.1, weight_decay=-1), "SGD: weight_decay must be"),
    (lambda: Adagrad(eps=-1), "Adagrad: eps"),
    (lambda: RMSprop(alpha=1), "RMSprop: alpha must be a number of at least 0 and below 1, not 1"),
    (lambda: Adam(betas=0.9), r"Adam: betas must be two numbers, \(0.9, 0.999\) say, not 0.9"),
    (lambda: AdamW(betas=(0.9, 1.0)), "AdamW: each of betas must be a number of at least 0 and below 1, not 1.0"),
    (lambda: Adam(betas=("a", 0.9)), "not 'a'"),
    (lambda: step_decay(0.1, every=0), "step_decay: every must be a whole number of at least 1, not 0"),
    (lambda: step_decay(0.1, every=2.5), "not 2.5"),
    (lambda: step_decay(0.1, 10, factor=0), "step_decay: factor must be a number above 0 and at most 1, not 0"),
    (lambda: step_decay(-0.1, 10), "step_decay: lr must be"),
    (lambda: exponential_decay(0.1, factor=1.1), "exponential_decay: factor must be a number above 0 and at most 1, not 1.1"),
    (lambda: cosine_decay(0.1, steps=0), "cosine_decay: steps must be a whole number of at least 1, not 0"),
    (lambda: cosine_decay(0.1, 10, final=-1), "cosine_decay: final"),
    (lambda: one_cycle(0.1, steps=0), "one_cycle: steps must be a whole number of at least 1, not 0"),
    (lambda: one_cycle(0.1, 10, rise=0), "one_cycle: rise must be a number above 0 and below 1, not 0"),
    (lambda: one_cycle(0.1, 10, rise=1), "one_cycle: rise"),
    (lambda: one_cycle(0.1, 10, div=0), "one_cycle: div must be a positive number, not 0"),
    (lambda: warmup(0.1, steps=0), "warmup: steps must be a whole number of at least 1, not 0"),
    (lambda: warmup(-0.1, steps=3), "warmup: then must be a number of at least 0, not -0.1"),
    (lambda: clip_grad_norm(np.ones(2), 0), "clip_grad_norm: max_norm must be a positive number, not 0"),
])
def test_settings_that_make_no_sense(make, message):
    with pytest.raises(ValueError, match=message): make()


def test_an_update_that_fails_leaves_everything_as_it_was():
    a, optimizer = {"w": np.ones(2), "v": np.ones(3)}, Adam(0.1)
    with pytest.raises(ValueError, match="v has the shape"): optimizer.update(a, {"w": np.ones(2), "v": np.ones(4)})
    assert optimizer.steps == 0 and np.all(a["w"] == 1)
    optimizer.update(a, {"w": np.ones(2), "v": np.ones(3)})
    assert np.allclose(a["w"], 0.9)


# ---------------------------------------------------------------- schedules at their ends

def test_schedules_at_their_ends():
    for steps in range(1, 30):
        assert cosine_decay(0.5, steps, 0.1)(steps) == cosine_decay(0.5, steps, 0.1)(10 * steps) == 0.1
        ramp = warmup(0.5, steps)
        assert ramp(0) == pytest.approx(0.5 / steps) and ramp(steps - 1) == ramp(steps) == ramp(10 * steps) == 0.5
        for rise in (0.05, 0.1, 0.3, 0.5, 0.95):
            rates = [one_cycle(0.5, steps, rise)(step) for step in range(steps + 5)]
            assert all(0 < rate <= 0.5 for rate in rates) and rates[-1] == pytest.approx(0.5 / 25 / 1e4)


def test_a_schedule_is_asked_once_a_step_from_0():
    asked = []
    optimizer = SGD(lambda step: asked.append(step) or 0.1)
    asked.clear()
    for _ in range(4): optimizer.update(np.ones(2), np.ones(2))
    assert asked == [0, 1, 2, 3]


def test_a_learning_rate_can_be_changed_on_the_way():
    theta, optimizer = np.zeros(1), SGD(0.1)
    optimizer.update(theta, np.ones(1))
    optimizer.lr = 0.5
    optimizer.update(theta, np.ones(1))
    assert theta[0] == pytest.approx(-0.6)


# ---------------------------------------------------------------- clipping

@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("max_norm", [0.5, 1e9])
def test_clip_grad_norm_is_its_definition(dtype, max_norm):
    parameters = mlp([3, 4, 2], rng=0, dtype=dtype).parameters()
    vector = parameters.vector.copy()
    norm = np.linalg.norm(vector.astype(np.float64))
    wanted = vector * min(1, max_norm / norm)
    for grads in (parameters, {name: a.copy() for name, a in parameters.items()}, vector.copy(), np.asfortranarray(vector.reshape(2, -1))):
        flat = grads.vector if isinstance(grads, Parameters) else grads
        assert clip_grad_norm(grads, max_norm) == pytest.approx(norm, rel=1e-6)
        flat = np.concatenate([a.ravel() for a in flat.values()]) if isinstance(flat, dict) else flat.ravel()
        assert flat.dtype == dtype
        np.testing.assert_allclose(flat, wanted, rtol=3e-6)


def test_clip_grad_norm_of_enormous_zero_and_wrong_gradients():
    g = np.full(4, 1e30, np.float32)  # whose squares float32 cannot hold
    assert clip_grad_norm(g, 1) == pytest.approx(2e30)
    np.testing.assert_allclose(g, 0.5, rtol=1e-5)
    g = np.zeros(3)
    assert clip_grad_norm(g, 1) == 0 and not g.any()
    assert np.isnan(clip_grad_norm(np.array([np.nan, 1.0]), 1))
    with pytest.raises(TypeError, match="given a list"): clip_grad_norm([1.0, 2.0], 1)


# ---------------------------------------------------------------- paths

def test_gradient_descent_starts_afresh_and_changes_nothing():
    optimizer, start = Adam(0.1), np.array([1, 2], np.float32)
    def f(t): return (t[0] ** 2 + 5 * t[1] ** 2) / 2
    first, second = (gradient_descent(f, start, optimizer, 10) for _ in range(2))
    assert np.array_equal(first, second) and first.shape == (11, 2) and first.dtype == np.float64
    assert optimizer.steps == 0 and not optimizer.memory and np.array_equal(start, [1, 2])
    optimizer.update(np.ones(3), np.ones(3))
    assert np.array_equal(first, gradient_descent(f, start, optimizer, 10)) and optimizer.steps == 1


def test_an_optimizer_of_three_lines():
    from dataclasses import dataclass

    @dataclass
    class Heavy(optim.Optimizer):
        lr: float
        memories = ("velocity",)

        def step(self, theta, g, lr, velocity):
            velocity *= 0.9
            velocity += g
            theta -= lr * velocity

    assert np.array_equal(walk(Heavy(0.02)), walk(SGD(0.02, momentum=0.9)))


def test_every_optimizer_trains_a_module_of_its_users():
    class Line(Module):
        def __init__(self): self.w, self.b = np.zeros(1), np.zeros(())
        def __call__(self, x): return x * self.w + self.b

    x = np.linspace(-1, 1, 20)
    for make in EVERY[:-1]:
        line, optimizer = Line(), make()
        for _ in range(400):
            _, grads = value_and_grad(lambda m: mse(m(x), 0.3 * x + 0.1))(line)
            optimizer.update(line, grads)
        assert mse(line(x), 0.3 * x + 0.1) < 2e-3, optimizer


# ---------------------------------------------------------------- the text and its quicker form

@every
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_quicker_form_is_the_formula(make, dtype, monkeypatch):
    rng = np.random.default_rng(0)
    quick, plain = (rng.normal(size=500).astype(dtype) for _ in range(2))
    plain[:] = quick
    a, b = make(), make()
    monkeypatch.setattr(quick_steps, "block", 64)
    assert type(a).step in optimizer_room.quicker
    for _ in range(30):
        g = (rng.normal(size=500) * 10 ** rng.uniform(-6, 2, 500)).astype(dtype)
        a.update(quick, g)
        with monkeypatch.context() as m:
            m.setattr(optimizer_room, "quicker", {})
            b.update(plain, g)
    np.testing.assert_allclose(quick, plain, rtol=2e-5 if dtype == np.float32 else 1e-12, atol=1e-6 if dtype == np.float32 else 1e-14)
    for name in a.memory: np.testing.assert_allclose(a.memory[name], b.memory[name], rtol=1e-5 if dtype == np.float32 else 1e-13)


def test_the_forms_can_change_in_the_middle_of_a_run(monkeypatch):
    a, b = walk(Adam(0.1)), np.array(FIXTURE["start"])
    optimizer, matrix, path = Adam(0.1), FIXTURE["matrix"], [b.copy()]
    for i, noise in enumerate(FIXTURE["noise"]):
        with monkeypatch.context() as m:
            if i % 2: m.setattr(optimizer_room, "quicker", {})
            optimizer.update(b, matrix @ b + np.sin(5 * b) + noise)
        path.append(b.copy())
    np.testing.assert_allclose(path, a, rtol=1e-9)


def test_a_rule_of_ones_own_is_not_replaced_by_a_quicker_form_of_its_parent():
    class Still(Adam):
        def step(self, theta, g, lr, sums, squares): theta -= 1
    class Halved(AdamW):
        def decay(self, theta, g, lr): return g / 2
    theta = np.ones(3)
    Still().update(theta, np.ones(3))
    assert not theta.any()
    optimizer = Halved()
    optimizer.update(np.ones(3), np.ones(3))
    assert np.all(optimizer.memory["the array"][0] == 0.5)


# ---------------------------------------------------------------- memory belongs to its layer

@every
def test_a_new_layer_of_the_same_size_does_not_take_over_a_memory(make):
    from nn_from_scratch.layers import Linear
    model, optimizer = mlp([2, 3, 3, 1], rng=0), make()
    for _ in range(3): optimizer.update(model, model.parameters())
    kept = model[4]
    model.layers[2] = Linear(3, 3, rng=5)
    before = model.parameters().vector.copy()
    with pytest.raises(ValueError, match=r"has taken 3 steps and the model has Linear\(3, 3\) only since then: make a new optimizer, or call its reset"):
        optimizer.update(model, model.parameters())
    assert optimizer.steps == 3 and np.array_equal(before, model.parameters().vector) and model[4] is kept
    optimizer.reset()
    optimizer.update(model, model.parameters())
    assert optimizer.steps == 1


def test_parts_without_parameters_may_come_and_go():
    model, optimizer = mlp([2, 3, 1], rng=0), Adam(0.1)
    optimizer.update(model, model.parameters())
    model.layers[1] = lambda x: x
    model[0].weight = model[0].weight * 2
    optimizer.update(model, model.parameters())
    assert optimizer.steps == 2


# ---------------------------------------------------------------- finite

@pytest.mark.parametrize("make", [Adam, AdamW, RMSprop, Adagrad])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("eps", [None, 0])
def test_no_gradient_is_no_step_and_never_nan(make, dtype, eps):
    theta = np.ones(6, dtype)
    optimizer = make(**({} if eps is None else {"eps": eps}), weight_decay=0)
    tiny = float(np.finfo(dtype).smallest_subnormal)
    for _ in range(5):
        with np.errstate(invalid="raise", divide="raise"): optimizer.update(theta, np.array([0, tiny, 1e-6, 1, -1, 100], dtype))
    assert np.isfinite(theta).all() and theta[0] == 1 and theta.dtype == dtype
    assert abs(theta[1] - 1) <= 5 * 10 * optimizer.lr and theta[3] < 1 < theta[4]


def test_float16_steps_as_float32():
    low, high = np.linspace(-1, 1, 9, dtype=np.float16), np.linspace(-1, 1, 9, dtype=np.float32)
    a, b = Adam(0.01), Adam(0.01)
    for _ in range(50):
        g = (1e-4 * high).astype(np.float16)
        a.update(low, g)
        b.update(high, g.astype(np.float32))
    np.testing.assert_allclose(low, high, atol=0.02)


@pytest.mark.parametrize("scale", [1e200, 1e-200, 1e30, 1e-30, 1.0])
def test_clip_grad_norm_at_any_scale(scale):
    g = np.array([1, 1]) * scale
    assert clip_grad_norm(g, scale / 10) == pytest.approx(np.sqrt(2) * scale, rel=1e-12)
    if scale > 1e-3: np.testing.assert_allclose(g, scale / 10 / np.sqrt(2), rtol=1e-5)
    small = {"a": np.full(3, 1e-25, np.float32), "b": np.full(1, 1e-25, np.float32)}
    assert clip_grad_norm(small, 1) == pytest.approx(2e-25, rel=1e-6) and small["a"][0] == np.float32(1e-25)


def test_clip_grad_norm_leaves_what_is_not_finite():
    for bad in (np.inf, -np.inf, np.nan):
        g = np.array([bad, 1.0])
        norm = clip_grad_norm(g, 1)
        assert not np.isfinite(norm) and g[1] == 1


def test_betas_are_settings_of_a_whole_run():
    "Adam's memories are sums that belong to its betas: who wants others begins anew."
    optimizer = Adam(0.1)
    theta = np.ones(2)
    optimizer.update(theta, theta)
    optimizer.betas = (0.5, 0.9)
    optimizer.reset()
    fresh, twin = Adam(0.1, betas=(0.5, 0.9)), theta.copy()
    optimizer.update(theta, theta)
    fresh.update(twin, twin)
    assert np.array_equal(theta, twin)
