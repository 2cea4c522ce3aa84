"""Mistakes of someone new to the library that once passed in silence, or were answered in words that misled."""

import numpy as np
import pytest

import nn_from_scratch as nn
from nn_from_scratch.architecture import Recipe, recipes
from nn_from_scratch.symptoms import gradients
from nn_from_scratch.trial import Setup


def cube():
    @nn.operation
    def cube(x): return x**3
    return cube


@pytest.mark.parametrize("rule, takes", [(lambda g, x: g, r"\(g, x\)"), (lambda g, y, x, z: g, r"\(g, y, x, z\)")])
def test_a_rule_of_other_arguments_is_told_when_it_is_given(rule, takes):
    with pytest.raises(TypeError, match=rf"the rule of cube is called as rule\(g, y, x\), but takes {takes}"):
        nn.defvjp(cube(), rule)


def test_a_joint_rule_of_other_arguments_too():
    with pytest.raises(TypeError, match=r"joint rule of cube is called as together\(x\), but takes \(a, b\)"):
        nn.defvjp(cube(), together=lambda a, b: (a, None))
    with pytest.raises(TypeError, match="a rule of cube is a function, .* not 3"):
        nn.defvjp(cube(), 3)


def test_rules_with_defaults_and_any_arguments_are_taken():
    @nn.operation
    def power(x, n=2): return x**n
    nn.defvjp(power, lambda g, y, x, n=2: g * n * x ** (n - 1))
    assert nn.grad(power)(3.0) == 6 and nn.grad(lambda x: power(x, 3))(3.0) == 27
    nn.defvjp(power, lambda g, y, *args: g)
    assert nn.grad(power)(3.0) == 1


def test_a_kink_is_called_one():
    with pytest.raises(AssertionError, match="There is a kink: the slope is 0 to its left and .* to its right"):
        nn.grad_check(nn.relu, np.array([1.0, 0.0]))
    wrong = cube()
    nn.defvjp(wrong, lambda g, y, x: 2 * g * x**2)
    with pytest.raises(AssertionError, match="differences") as error: nn.grad_check(wrong, 2.0)
    assert "kink" not in str(error.value)


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_a_weight_of_whole_numbers_is_not_left_behind_by_save(tmp_path, name):
    pytest.importorskip("safetensors")
    model = nn.mlp([2, 3, 1], rng=0)
    setattr(model[0], name, np.ones_like(getattr(model[0], name), int))
    with pytest.raises(ValueError, match=rf"save: '0.{name}' is an array of int64, and so no parameter: {name}.astype"):
        nn.save(model, tmp_path / "model.safetensors")
    assert not (tmp_path / "model.safetensors").exists()


def test_whole_numbers_of_a_module_of_ones_own_are_its_own_business(tmp_path):
    pytest.importorskip("safetensors")

    class Shuffled(nn.Module):
        def __init__(self): self.order, self.layer = np.array([1, 0]), nn.Linear(2, 2, rng=0)
        def __call__(self, x): return self.layer(x[:, self.order])

    nn.save(Shuffled(), tmp_path / "model.safetensors")
    assert nn.load(tmp_path / "model.safetensors", into=Shuffled()).order.tolist() == [1, 0]


def test_a_file_that_names_one_of_two_is_not_guessed_at(tmp_path):
    pytest.importorskip("safetensors")
    nn.save(nn.mlp([2, 3, 1], rng=0), tmp_path / "model.safetensors")

    @nn.operation
    def relu(x): return -x
    recipes[relu] = Recipe()
    try:
        with pytest.raises(ValueError, match="layer '1' is relu, and 2 rows of recipes have that name"):
            nn.load(tmp_path / "model.safetensors")
    finally:
        del recipes[relu]
    nn.load(tmp_path / "model.safetensors")


def test_messages_on_files_name_the_tables(tmp_path):
    pytest.importorskip("safetensors")

    class Mine(nn.Module):
        def __init__(self): self.w = np.ones(2, np.float32)
        def __call__(self, x): return x * self.w

    model = nn.Sequential(Mine())
    nn.save(model, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="layer '0' is Mine .a row of nn_from_scratch.architecture.recipes"):
        nn.load(tmp_path / "model.safetensors")
    pytest.importorskip("onnx")
    with pytest.raises(ValueError, match="A row of nn_from_scratch.onnx.to_onnx gives it one"):
        nn.export_onnx(model, tmp_path / "model.onnx", np.ones((1, 2), np.float32))


def test_parameters_that_the_model_has_left_are_not_stepped():
    model = nn.mlp([2, 3, 1], rng=0)
    then = model.parameters()
    grads = then.empty_like()
    grads.vector[...] = 1
    nn.SGD(1.0).update(then, grads)  # as long as they are the model's
    model[0].weight = np.zeros((2, 3), np.float32)
    now = model.parameters()
    with pytest.raises(ValueError, match="the model has other arrays since these Parameters were taken"):
        nn.SGD(1.0).update(then, grads)
    nn.SGD(1.0).update(now, grads)
    assert (model[0].weight == -1).all()


def test_a_part_in_float32_that_is_no_parameter_is_no_wrong_gradient():
    class OnFeatures(nn.Module):
        def __init__(self): self.first, self._kept = nn.Linear(4, 8, rng=0), nn.mlp([8, 8, 3], nn.tanh, rng=1)
        def __call__(self, x): return self._kept(nn.tanh(self.first(x)))

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(100, 4)), rng.integers(0, 3, 100)
    found = list(gradients(Setup(OnFeatures(), nn.cross_entropy, nn.Adam(0.01), (x, y))))
    assert found == [], found


def test_options_by_keyword_are_no_arguments_a_rule_must_have():
    @nn.operation
    def scaled(x, *, by=2.0): return x * by
    nn.defvjp(scaled, lambda g, y, x: g * 2)
    assert nn.grad(scaled)(3.0) == 2

    @nn.operation
    def told(x, *, by): return x * by
    nn.defvjp(told, lambda g, y, x, by: g * by)


def test_a_rule_may_take_the_options_that_have_a_default():
    "linear's bias has one; a rule of all three arguments is called with all three."
    from nn_from_scratch.rules import defvjp, table
    right = table[nn.linear]
    try:
        defvjp(nn.linear, lambda g, y, x, w, b: g @ w.T, lambda g, y, x, w, b: x.T @ g, lambda g, y, x, w, b: g.sum(axis=0))
        nn.grad_check(nn.linear, np.ones((2, 3)), np.ones((3, 4)), np.zeros(4))
    finally: table[nn.linear] = right
