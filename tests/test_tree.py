"""The walk through a model: names, order, each part once, state last; and what is a parameter."""

import copy
import pickle

import numpy as np
import pytest

import nn_from_scratch as nn
from nn_from_scratch.tree import Part, slots


class Holder(nn.Module):
    def __init__(self, **parts): vars(self).update(parts)


def f32(*shape): return np.ones(shape, np.float32)


def test_names_order_and_state():
    inner = nn.Linear(2, 3, rng=0)
    model = Holder(b=f32(2), parts=[inner, {"k": f32(1)}], _memory={"h": f32(3)}, again=inner, net=nn.Sequential(nn.Linear(1, 1, rng=0), nn.relu))
    found = [(name, is_state) for name, _, _, _, is_state in slots(model)]
    assert found == [("b", False), ("parts", False), ("parts.0", False), ("parts.0.weight", False), ("parts.0.bias", False), ("parts.1", False),
                     ("parts.1.k", False), ("again", False), ("net", False), ("net", False), ("net.0", False), ("net.0.weight", False),
                     ("net.0.bias", False), ("net.1", False), ("_memory", True), ("_memory.h", True)]
    assert list(model.parameters()) == ["b", "parts.0.weight", "parts.0.bias", "parts.1.k", "net.0.weight", "net.0.bias"]


def test_every_slot_says_where_the_thing_stands():
    model = Holder(a=[f32(1), {"k": f32(2)}], t=(3, 4), net=nn.mlp([2, 3, 1], rng=0), _s=[1, 2])
    for _, holder, key, value, _ in slots(model): assert holder[key] is value


def test_a_part_of_ones_own_that_is_no_module():
    class Pair(Part):
        unnamed = ("left",)
        def __init__(self): self.left, self.right = [f32(1)], f32(2)
    assert list(Holder(pair=Pair()).parameters()) == ["pair.0", "pair.right"]


def test_a_cycle_is_named():
    model = Holder(a=[])
    model.a.append(model)
    with pytest.raises(ValueError, match=r"the model contains itself: 'a.0' leads back to the Holder"): list(slots(model))
    state = Holder(w=f32(1))
    state._me = [state]
    assert list(state.parameters()) == ["w"]  # state may look back


def test_modules_are_found_once_in_the_order_of_definition():
    one = nn.Linear(1, 1, rng=0)
    model = Holder(a=one, b=[one, nn.relu], c=nn.Sequential(one))
    assert model.modules() == [model, one, model.c]


class Scaled(nn.Module):
    def __init__(self, scale, place=None):
        self.scale = scale
        self.items, self.table = [np.array(1.0, np.float32)], {"k": np.array(2.0, np.float32)}

    def __call__(self, x): return x * self.scale * self.items[0] * self.table["k"]


def test_a_parameter_without_axes_stays_one():
    model = Scaled(np.array(3.0, np.float32))
    assert list(model.parameters()) == ["scale", "items.0", "table.k"] and model.parameters()["scale"].shape == ()
    model.scale = model.scale * 2  # a np.float32 for NumPy
    model.items[0] = model.items[0] * 2
    model.table["k"] = model.table["k"] * 2
    assert list(model.parameters()) == ["scale", "items.0", "table.k"] and same(model.parameters().vector, [6, 2, 4])
    grads = nn.grad(lambda m: m(np.float32(1)))(model)
    assert same(grads.vector, [8, 24, 12])
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        twin.scale = twin.scale * 2
        assert same(twin.parameters().vector, [12, 2, 4])
    if np.__version__ < "2": return  # there a float32 times 2 is float64, and must stay a parameter
    model.scale = np.float64(1)
    with pytest.raises(TypeError, match="'scale' is float64"): model.parameters()


def test_numbers_that_never_were_parameters_are_none():
    class Fixed(nn.Module):
        def __init__(self): self.w, self.std = f32(2), np.float32(3)
    model = Fixed()
    model.std = np.float32(4)
    assert list(model.parameters()) == ["w"]


def same(a, b): return np.array_equal(np.asarray(a, float), np.asarray(b, float))


def test_a_layout_of_several_modules():
    from nn_from_scratch.layout import Layout
    one, other = nn.Linear(2, 2, rng=0), nn.mlp([2, 1], rng=0)
    assert Layout([one, other]).names == ["0.weight", "0.bias", "1.0.weight", "1.0.bias"]
    assert Layout({"a": one, "b": (other,)}).names == ["a.weight", "a.bias", "b.0.0.weight", "b.0.0.bias"]
    assert Layout([one, other]).arrays[0] is one.weight and len(Layout((one, one)).arrays) == 2


def test_thousands_of_parameters_are_gathered_in_a_moment():
    model = Holder(a=[f32(2) for _ in range(20_000)])
    assert model.parameters().vector.size == 40_000


def test_summary_counts_what_stands_again_once():
    shared = nn.Linear(2, 2, rng=0)
    block = nn.Sequential(nn.Linear(2, 2, rng=0), nn.tanh)
    text = Holder(a=shared, b=shared, c=block, d=block, scale=f32(2), _rng=None).summary()
    rows = [line.split() for line in text.splitlines()]
    assert [row[0] for row in rows[:-1]] == ["a", "b", "c.0", "c.1", "d", "scale"]
    assert rows[1][-2:] == ["again", "0"] and rows[4][-2:] == ["again", "0"] and rows[-1][0] == "14"


def test_what_is_frozen_is_named_kept_and_copied():
    model = nn.mlp([2, 3, 1], rng=0)
    assert model.frozen == frozenset() and model.freeze("0.*").frozen == {"0.weight", "0.bias"}
    assert copy.deepcopy(model).frozen == model.frozen == pickle.loads(pickle.dumps(model)).frozen
    assert model.unfreeze("0.bias").frozen == {"0.weight"} and model.freeze().frozen == set(model.parameters()) and not model.unfreeze().frozen
    with pytest.raises(ValueError, match=r"no parameter is called '7\.\*'; there are 0.weight, 0.bias"): model.freeze("7.*")
    assert not model.frozen and list(model.parameters()) == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_a_frozen_part_is_not_trained():
    model, x, y = nn.mlp([2, 3, 1], rng=0).freeze("0.*"), f32(4, 2), f32(4, 1)
    before = {name: a.copy() for name, a in model.parameters().items()}
    nn.fit(model, nn.mse, nn.Adam(0.1), (x, y), epochs=2, progress=False)
    assert [name for name, a in model.parameters().items() if not np.array_equal(a, before[name])] == ["2.weight", "2.bias"]


@pytest.mark.parametrize("new", [3.0, np.float32(3), np.float64(3)])
def test_a_number_for_a_parameter_without_axes(new):
    class Scaled(nn.Module):
        def __init__(self): self.scale = np.array(2, np.float32)
    model = Scaled()
    model.scale = new
    assert list(model.parameters()) == ["scale"] and model.scale == 3


def test_a_number_in_the_place_of_a_parameter_without_axes_stays_one():
    class Scaled(nn.Module):
        def __init__(self): self.scale, self.parts, self.table = np.ones((), np.float32), [np.ones((), np.float32)], {"k": np.ones((), np.float32)}
    for new in (2, 2.0, np.float32(2), np.int64(2)):
        model = Scaled()
        names = list(model.parameters())
        model.scale, model.parts[0], model.table["k"] = new, new, new
        assert list(model.parameters()) == names and model.parameters().vector.tolist() == [2, 2, 2]
        assert model.parameters().vector.dtype.kind == "f" and type(model.table["k"]) is np.ndarray


# ---------------------------------------------------------------- frozen in a part

def trained(model, names, fit=False):
    "Which parameters a step changes."
    before = {name: a.copy() for name, a in model.parameters().items()}
    x, y = np.ones((4, 2), np.float32), np.ones((4, 1), np.float32)
    if fit: nn.fit(model, nn.mse, nn.SGD(0.1), (x, y), epochs=2, progress=False)
    else:
        grads = nn.value_and_grad(lambda m: nn.mse(m(x) ** 2, y))(model)[1]
        nn.SGD(0.1).update(model, grads)
    return {name for name in names if not np.array_equal(model.parameters()[name], before[name])}


@pytest.mark.parametrize("fit", [False, True])
def test_what_a_part_froze_stays_where_the_whole_is_trained(fit):
    model = nn.mlp([2, 3, 1], activation=nn.tanh, rng=0)
    model[0].freeze("weight")
    assert model.frozen == {"0.weight"} and model[0].frozen == {"weight"} and not model[2].frozen
    assert trained(model, list(model.parameters()), fit) == {"0.bias", "2.weight", "2.bias"}
    assert copy.deepcopy(model).frozen == pickle.loads(pickle.dumps(model)).frozen == {"0.weight"}


def test_a_part_frozen_after_steps_is_noticed_and_let_go_again():
    model, optimizer = nn.Sequential(nn.Linear(2, 2, rng=0), nn.Sequential(nn.tanh, nn.Linear(2, 1, rng=1))), nn.Adam(0.1)
    x, y = np.ones((4, 2), np.float32), np.ones((4, 1), np.float32)

    def step():
        before = model[1][1].weight.copy()
        optimizer.update(model, nn.value_and_grad(lambda m: nn.mse(m(x), y))(model)[1])
        return not np.array_equal(model[1][1].weight, before)
    assert step()
    model[1][1].freeze("weight")
    assert not step() and model[1].frozen == {"1.weight"} and model.frozen == {"1.1.weight"}
    model[1][1].unfreeze()
    assert step()
    model[1].freeze("*.weight")
    assert not step()
    model.unfreeze("1.1.weight")  # the whole lets go what a part has frozen
    assert step() and not model.frozen and not model[1].frozen


def test_a_whole_keeps_what_it_froze_itself_when_a_part_lets_go():
    model = nn.mlp([2, 3, 1], rng=0).freeze("0.weight")
    model[0].freeze()
    model[0].unfreeze()
    assert model.frozen == {"0.weight"} and not model[0].frozen


def test_a_shared_part_is_frozen_in_both_its_places():
    shared = nn.Linear(2, 2, rng=0)
    model = nn.Sequential(shared, nn.tanh, shared, nn.Linear(2, 1, rng=1))
    shared.freeze("weight")
    tied = Holder(a=nn.Linear(2, 2, rng=0), b=nn.Linear(2, 2, rng=1))
    tied.b.weight = tied.a.weight
    tied.b.freeze("weight")
    assert model.frozen == {"0.weight"} and tied.frozen == {"a.weight"}
    assert trained(model, ["0.weight", "0.bias"]) == {"0.bias"}


def test_freezing_a_part_leaves_the_vector_of_the_whole_and_what_is_tied():
    model = nn.mlp([2, 3, 1], rng=0)
    vector = model.parameters().vector
    model[0].freeze("weight")
    assert model.parameters().vector is vector
    tied = Holder(a=nn.Linear(2, 2, rng=0), b=nn.Linear(2, 2, rng=1))
    tied.b.weight = tied.a.weight
    tied.b.freeze("weight")
    assert tied.b.weight is tied.a.weight


def test_frozen_parts_come_back_with_a_snapshot():
    from nn_from_scratch.states import put_back, state_of
    model = nn.mlp([2, 3, 1], rng=0)
    model[2].freeze("bias")
    other = nn.mlp([2, 3, 1], rng=1)
    put_back(other, state_of(model))
    assert other.frozen == {"2.bias"} and "2.bias" not in trained(other, list(other.parameters()))


def test_summary_marks_what_is_frozen():
    model = nn.mlp([2, 3, 1], rng=0)
    assert "frozen" not in model.summary()
    model[0].freeze()
    model.freeze("2.bias")
    lines = str(model.summary()).splitlines()
    assert lines[0].endswith("9  frozen") and lines[2].endswith("4  partly frozen") and "frozen" not in lines[1] + lines[3]


def test_frozen_may_be_asked_while_a_gradient_is_taken():
    model, said = nn.mlp([2, 3, 1], rng=0), []
    model[0].freeze()

    def loss(m):
        said.append(m.frozen)
        return m(np.ones((1, 2), np.float32)).sum()
    nn.value_and_grad(loss)(model)
    assert said == [{"0.weight", "0.bias"}]
