"""The engine's joints: where parameters are found, where gradients land, and what must not go wrong in silence."""

import copy
import gc
import pickle
import subprocess
import sys
import threading
import tracemalloc

import numpy as np
import pytest

import nn_from_scratch as nn
from nn_from_scratch.rules import table


def same(a, b):
    "Bit for bit, dtype and shape included."
    a, b = np.asarray(a), np.asarray(b)
    return a.dtype == b.dtype and a.shape == b.shape and bool(np.array_equal(a, b))


class Bag(nn.Module):
    "A module of whatever attributes it is given; it computes the sum of the squares of `use(self)`."

    def __init__(self, **attributes):
        for name, value in attributes.items(): setattr(self, name, value)

    def __call__(self, x): return x


def names(model): return list(model.parameters())


def numbers(rng, *shape, dtype=np.float64): return np.random.default_rng(rng).normal(size=shape).astype(dtype)


class Residual(nn.Module):
    "A skip connection, a layer used twice, an array of its own, and state."

    def __init__(self, dtype=np.float64, rng=0):
        rng = np.random.default_rng(rng)
        self.inner = nn.Linear(4, 4, rng=rng, dtype=dtype)
        self.outer = nn.Linear(4, 3, rng=rng, dtype=dtype)
        self.scale = np.ones(4, dtype)
        self._seen = np.zeros(2, dtype)

    def __call__(self, x):
        for _ in range(2): x = x + nn.tanh(self.inner(x))
        return self.outer(x * self.scale)


def objective(model, x, y): return nn.cross_entropy(model(x), y)


@pytest.fixture
def model(): return Residual()


@pytest.fixture
def batch(): return numbers(1, 6, 4), np.array([0, 1, 2, 0, 1, 2])


# Which arrays are parameters, and what they are called


def test_names_are_those_of_pytorch():
    assert names(nn.mlp([3, 4, 2], rng=0)) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    tree = Bag(encoder=nn.mlp([3, 4, 2], rng=0), heads=[nn.Linear(2, 1, rng=0), nn.Linear(2, 1, bias=False, rng=0)],
               table={"a": np.ones(2, np.float32), 7: nn.Linear(1, 1, rng=0)}, pair=(nn.Linear(1, 2, rng=0), nn.relu), scale=np.ones(1, np.float32))
    assert names(tree) == ["encoder.0.weight", "encoder.0.bias", "encoder.2.weight", "encoder.2.bias", "heads.0.weight", "heads.0.bias",
                           "heads.1.weight", "table.a", "table.7.weight", "table.7.bias", "pair.0.weight", "pair.0.bias", "scale"]


def test_nested_lists_and_a_sequential_in_a_sequential():
    nested = nn.Sequential(nn.Sequential(nn.Linear(1, 2, rng=0), nn.relu), nn.Linear(2, 1, rng=0))
    assert names(nested) == ["0.0.weight", "0.0.bias", "1.weight", "1.bias"]
    assert names(Bag(a=[[np.ones(1), [np.ones(2)]], {"k": [np.ones(3)]}])) == ["a.0.0", "a.0.1.0", "a.1.k.0"]


def test_a_sequential_subclass_with_attributes_of_its_own():
    class Scaled(nn.Sequential):
        def __init__(self, *layers):
            super().__init__(*layers)
            self.gain = np.full(2, 3.0, np.float32)

        def __call__(self, x): return super().__call__(x) * self.gain

    model = Scaled(nn.Linear(3, 2, rng=0))
    assert names(model) == ["0.weight", "0.bias", "gain"]
    grads = nn.grad(lambda m: m(np.ones((5, 3), np.float32)).sum())(model)
    assert same(grads["0.bias"], np.full(2, 15, np.float32)) and grads["gain"].any()


@pytest.mark.parametrize("value", [np.ones(3, int), np.ones(3, bool), 1.5, "text", None, np.ones(2, complex)], ids=repr)
def test_what_is_no_float_array_is_no_parameter(value):
    assert names(Bag(w=np.ones(1), other=value)) == ["w"]


def test_state_is_not_trained_but_copied_and_pickled(model):
    assert "_seen" not in model.parameters()
    model._seen[...] = 5
    for twin in copy.deepcopy(model), pickle.loads(pickle.dumps(model)):
        assert same(twin._seen, [5.0, 5.0])
        twin._seen[...] = 0
    assert same(model._seen, [5.0, 5.0])


def test_a_shared_layer_counts_once_and_its_gradients_add_up():
    layer = nn.Linear(2, 2, rng=0, dtype=np.float64)
    twice, x = nn.Sequential(layer, nn.tanh, layer), numbers(0, 3, 2)
    assert names(twice) == ["0.weight", "0.bias"]
    apart = nn.Sequential(copy.deepcopy(layer), nn.tanh, copy.deepcopy(layer))
    shared, single = (nn.grad(lambda m: np.sum(m(x) ** 2))(m) for m in (twice, apart))
    np.testing.assert_allclose(shared["0.weight"], single["0.weight"] + single["2.weight"], rtol=1e-12)
    assert nn.grad_check(lambda m: np.sum(m(x) ** 2), twice) < 1e-6


def test_one_array_in_two_places_stays_one_array():
    w = numbers(0, 2, 2)
    tied = Bag(a=w, b=nn.Linear(2, 2, rng=0, dtype=np.float64), c=[w])
    tied.b.weight = w
    assert names(tied) == ["a", "b.bias"]
    assert tied.a is tied.b.weight is tied.c[0]
    grads = nn.grad(lambda m: np.sum(m.a) + 2 * np.sum(m.b.weight) + 3 * np.sum(m.c[0]))(tied)
    assert same(grads["a"], np.full((2, 2), 6.0))
    nn.SGD(1.0).update(tied, grads)
    np.testing.assert_allclose(tied.b.weight, w - 6)
    twin = pickle.loads(pickle.dumps(copy.deepcopy(tied)))
    assert names(twin) == ["a", "b.bias"] and twin.a is twin.b.weight is twin.c[0]


def test_a_tie_by_a_view_is_kept_or_refused():
    "w and w.T: two parameters of their own would be a tie that silently comes undone."
    tied = Bag(encoder=numbers(0, 2, 3))
    tied.decoder = tied.encoder.T
    try:
        tied.parameters()
    except ValueError as error:
        assert "decoder" in str(error) and "encoder" in str(error)
    else:
        tied.encoder[...] = 5
        assert (tied.decoder == 5).all()


def test_a_cycle_is_an_error_that_names_it(model):
    model.child = Bag(parent=model)
    with pytest.raises(ValueError, match=r"contains itself.*child\.parent.*Residual"): model.parameters()
    loop: list = []
    loop.append(loop)
    with pytest.raises(ValueError, match="contains itself"): Bag(items=loop).parameters()


def test_the_same_part_twice_is_no_cycle():
    part = Bag(w=np.ones(1))
    assert names(Bag(a=part, b=[part, part], c={"x": part})) == ["a.w"]


def test_parts_shared_at_every_level_are_visited_once():
    "Forty levels, each holding the one below twice: along every path it would be 2**40 visits."
    tower = Bag(w=np.ones(1))
    for _ in range(40): tower = Bag(left=tower, right=tower)
    assert names(tower) == [".".join(["left"] * 40) + ".w"]
    assert len(tower.train().modules()) == 41 and tower.parameters() is tower.parameters()
    assert nn.grad(lambda m: 2 * np.sum(tower_bottom(m).w))(tower).vector == 2


def tower_bottom(node): return tower_bottom(node.right) if hasattr(node, "right") else node


def test_one_name_for_two_parameters_is_an_error_that_names_it():
    with pytest.raises(ValueError, match=r"d\.0"): Bag(d={"0": np.ones(2), 0: np.zeros(2)}).parameters()
    with pytest.raises(ValueError, match=r"d\.0"): Bag(d={"0": np.ones(2), 0: np.zeros(3)}).parameters()


def test_mixed_dtypes_are_an_error_that_names_them():
    with pytest.raises(TypeError, match="'a' is float32.*'b' is float64"): Bag(a=np.ones(1, np.float32), b=np.ones(1)).parameters()


def test_a_parameter_in_a_tuple_is_an_error_that_says_use_a_list():
    with pytest.raises(TypeError, match=r"'pair\.0'.*tuple.*list"): Bag(pair=(np.ones(2),)).parameters()


def test_parameters_without_axes_and_without_numbers():
    odd = Bag(zero=np.array(2.0), none=np.zeros((0, 3)), some=np.ones((2, 1)), nothing=np.zeros(0))
    assert {k: v.shape for k, v in odd.parameters().items()} == {"zero": (), "none": (0, 3), "some": (2, 1), "nothing": (0,)}
    assert odd.parameters().vector.shape == (3,)
    grads = nn.grad(lambda m: m.zero ** 2 * np.sum(m.some) + np.sum(m.none) + np.sum(m.nothing))(odd)
    assert same(grads.vector, [8.0, 4.0, 4.0])
    nn.SGD(0.5).update(odd, grads)
    assert same(odd.zero, np.array(-2.0)) and same(odd.some, -np.ones((2, 1)))
    twin = pickle.loads(pickle.dumps(odd))
    assert {k: v.shape for k, v in twin.parameters().items()} == odd.parameters().shapes
    assert odd.parameters() is odd.parameters()
    assert Bag().parameters().vector.shape == (0,)
    assert Bag(a=np.zeros(0), b=np.zeros((2, 0))).parameters().shapes == {"a": (0,), "b": (2, 0)}


def test_arrays_of_any_memory_order_are_taken_as_they_read():
    values = numbers(0, 3, 4)
    odd = Bag(t=values.T, strided=values[::2, ::-1].copy()[:, ::2], wide=np.broadcast_to(1.5, (2, 2)))
    expected = [values.T.copy(), odd.strided.copy(), np.full((2, 2), 1.5)]
    for array, then in zip(odd.parameters().values(), expected, strict=True): assert same(array, then)
    odd.wide[0, 0] = 9
    assert odd.parameters()["wide"].tolist() == [[9.0, 1.5], [1.5, 1.5]]


# One vector


def test_the_vector_is_the_parameters_one_after_the_other(model):
    p = model.parameters()
    assert same(p.vector, np.concatenate([a.ravel() for a in p.values()]))
    assert all(np.shares_memory(a, p.vector) for a in p.values())
    assert all(p[name] is array for name, array in (("scale", model.scale), ("inner.weight", model.inner.weight)))
    p.vector[...] = 7
    assert (model.inner.weight == 7).all() and (model.scale == 7).all()
    model.scale[1] = -1
    assert p["scale"][1] == -1 and -1 in p.vector


@pytest.mark.parametrize("part_first", [False, True])
def test_the_parameters_of_a_part_are_a_slice_of_the_whole(model, part_first):
    if part_first: model.outer.parameters()
    whole = model.parameters()
    part = model.outer.parameters()
    assert np.shares_memory(part.vector, whole.vector) and part.vector.size == 15
    part.vector[...] = 3
    assert (model.outer.weight == 3).all() and (whole["outer.bias"] == 3).all() and (model.inner.weight != 3).all()
    assert model.parameters() is whole, "asking for a part moved the whole"
    whole.vector[...] = 4
    assert (part["weight"] == 4).all() and model.outer.parameters() is part


def test_slices_of_a_sequential_share_the_vector():
    m = nn.mlp([3, 4, 4, 2], rng=0)
    whole, head, tail = m.parameters(), m[:2].parameters(), m[2:].parameters()
    assert head.vector.size + tail.vector.size == whole.vector.size
    head.vector[...], tail.vector[...] = 1, 2
    assert same(whole.vector, np.r_[np.full(16, 1), np.full(30, 2)].astype(np.float32)) and m.parameters() is whole


def test_a_part_of_a_part_and_a_list_of_parts():
    tree = Bag(block=Bag(layers=[nn.Linear(2, 2, rng=0), nn.Linear(2, 2, rng=1)]), last=nn.Linear(2, 1, rng=2))
    whole = tree.parameters()
    for part in tree.block, tree.block.layers[1], tree.last:
        part.parameters().vector[...] = np.arange(part.parameters().vector.size)
        assert np.shares_memory(part.parameters().vector, whole.vector)
    assert same(whole["block.layers.1.bias"], np.array([4, 5], np.float32)) and same(whole["last.bias"], np.array([2], np.float32))


def test_a_layer_shared_by_two_parts_keeps_its_values_whoever_asks():
    shared = nn.Linear(2, 2, rng=0)
    a, b = nn.Sequential(nn.Linear(2, 2, rng=1), shared), nn.Sequential(shared, nn.Linear(2, 2, rng=2))
    tree = Bag(a=a, b=b)
    for turn, asked in enumerate([tree, a, b, tree, b, a, tree, shared, b]):
        p = asked.parameters()
        p.vector[...] = turn
        assert (shared.weight == turn).all() and (shared.bias == turn).all()
        assert a[1].weight is b[0].weight
        assert all(np.shares_memory(array, p.vector) for array in p.values())
    assert names(tree) == ["a.0.weight", "a.0.bias", "a.1.weight", "a.1.bias", "b.1.weight", "b.1.bias"]


def test_two_models_that_share_a_layer_train_in_turn():
    x, y = numbers(0, 8, 3), np.arange(8) % 2
    encoder = nn.Linear(3, 4, rng=0, dtype=np.float64)
    one, two = (nn.Sequential(encoder, nn.tanh, nn.Linear(4, 2, rng=i, dtype=np.float64)) for i in (1, 2))
    reference = [copy.deepcopy(encoder), copy.deepcopy(one[2]), copy.deepcopy(two[2])]
    for model in (one, two) * 3: nn.SGD(0.1).update(model, nn.grad(objective)(model, x, y))
    e, heads = reference[0], reference[1:]
    for i in range(6):  # the same by hand, on one flat tree of three layers
        tree = Bag(e=e, h=heads[i % 2])
        nn.SGD(0.1).update(tree, nn.grad(lambda m: nn.cross_entropy(m.h(nn.tanh(m.e(x))), y))(tree))
    np.testing.assert_allclose(encoder.weight, e.weight, rtol=1e-12)
    np.testing.assert_allclose(two[2].weight, heads[1].weight, rtol=1e-12)


def test_assigning_to_vector_moves_the_model_or_is_refused(model):
    "θ ← θ − η ∇L, as one writes it: it must never set an attribute that the model knows nothing of."
    p = model.parameters()
    try:
        p.vector = p.vector * 0
    except (AttributeError, TypeError):
        pass
    else:
        assert not model.scale.any() and not p["scale"].any()
    p.vector -= p.vector - 2
    assert (model.scale == 2).all() and (model.inner.weight == 2).all()


def test_parameters_cannot_be_assigned_by_name(model):
    with pytest.raises(TypeError): model.parameters()["scale"] = np.zeros(4)
    with pytest.raises(KeyError, match="no parameter 'weight'.*inner.weight"): model.parameters()["weight"]


@pytest.mark.parametrize("change", [
    lambda m: setattr(m, "scale", np.full(4, 2.0)), lambda m: setattr(m.inner, "weight", np.full((4, 4), 2.0)),
    lambda m: setattr(m, "outer", nn.Linear(4, 3, rng=9, dtype=np.float64)), lambda m: setattr(m, "more", [np.ones(2)]),
    lambda m: setattr(m.inner, "bias", None), lambda m: delattr(m, "scale"), lambda m: setattr(m, "scale", np.ones(7)),
])
def test_what_is_assigned_later_is_noticed(model, change):
    model.parameters()
    model.inner.parameters()
    change(model)
    arrays = [model.inner.weight, *([model.inner.bias] if model.inner.bias is not None else []), model.outer.weight, model.outer.bias,
              *([model.scale] if hasattr(model, "scale") else []), *getattr(model, "more", [])]
    expected = np.concatenate([a.ravel() for a in arrays])
    assert sorted(model.parameters().vector.tolist()) == sorted(expected.tolist())
    model.parameters().vector[...] = 11
    assert (model.inner.weight == 11).all() and (model.outer.weight == 11).all()


def test_what_is_appended_inserted_or_taken_out_of_a_list_or_dict_is_noticed():
    bag = Bag(items=[np.full(1, 1.0)], table={"a": np.full(1, 2.0)})
    assert same(bag.parameters().vector, [1.0, 2.0])
    bag.items.append(np.full(1, 3.0))
    assert same(bag.parameters().vector, [1.0, 3.0, 2.0])
    bag.items.insert(0, Bag(w=np.full(1, 4.0)))
    bag.table["b"] = [np.full(1, 5.0)]
    assert same(bag.parameters().vector, [4.0, 1.0, 3.0, 2.0, 5.0]) and names(bag)[0] == "items.0.w"
    bag.items[1], bag.items[2] = bag.items[2], bag.items[1]
    assert same(bag.parameters().vector, [4.0, 3.0, 1.0, 2.0, 5.0])
    del bag.items[0]
    bag.table["b"].append(np.full(1, 6.0))
    assert same(bag.parameters().vector, [3.0, 1.0, 2.0, 5.0, 6.0])
    bag.parameters().vector[...] = 0
    assert not bag.items[0].any() and not bag.table["b"][1].any()


def test_a_sequential_takes_a_new_layer():
    m = nn.mlp([2, 3], rng=0)
    m.parameters()
    m.layers += [nn.relu, nn.Linear(3, 1, rng=1)]
    assert names(m) == ["0.weight", "0.bias", "2.weight", "2.bias"] and m.parameters().vector.size == 13


def test_benign_changes_keep_the_views_and_the_optimizers_memory(model, batch):
    optimizer, reference, other = nn.Adam(0.1), copy.deepcopy(model), nn.Adam(0.1)
    p = model.parameters()
    for i in range(4):
        optimizer.update(model, nn.grad(objective)(model, *batch))
        other.update(reference, nn.grad(objective)(reference, *batch))
        model.note, model._seen, model.training = f"step {i}", np.full(2, i), bool(i % 2)  # no parameter among them
        model.outer.parameters(), model.summary(), repr(model), model.train(), copy.deepcopy(model), pickle.dumps(model)
        assert model.parameters() is p
    assert same(p.vector, reference.parameters().vector)


def test_the_optimizers_memory_survives_a_new_array_of_the_same_shape(model, batch):
    optimizer, reference, other = nn.SGD(0.1, momentum=0.9), copy.deepcopy(model), nn.SGD(0.1, momentum=0.9)
    for i in range(3):
        optimizer.update(model, nn.grad(objective)(model, *batch))
        other.update(reference, nn.grad(objective)(reference, *batch))
        if i == 1: model.inner.weight = model.inner.weight.copy()
    assert same(model.parameters().vector, reference.parameters().vector)


def test_parameters_refuse_a_vector_of_another_length():
    with pytest.raises(ValueError, match="need 6 numbers.*(7,)"): nn.Parameters({"a": (2, 3)}, np.zeros(7))
    with pytest.raises(ValueError, match="need 6 numbers"): nn.Parameters({"a": (2, 3)}, np.zeros((6, 1)))


# Copies and pickles


def twins(model):
    yield "deepcopy", copy.deepcopy(model)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1): yield f"pickle {protocol}", pickle.loads(pickle.dumps(model, protocol))
    yield "copy of a copy", copy.deepcopy(pickle.loads(pickle.dumps(model)))


@pytest.mark.parametrize("before", [lambda m: None, lambda m: m.parameters(), lambda m: m.outer.parameters(),
                                    lambda m: nn.grad(lambda m: np.sum(m.scale))(m)], ids=["new", "asked", "part asked", "gradient taken"])
def test_copies_of_a_model_are_independent_and_work(model, batch, before):
    before(model)
    values = {name: a.copy() for name, a in model.parameters().items()}
    expected = nn.grad(objective)(model, *batch).vector
    for how, twin in twins(model):
        assert names(twin) == names(model), how
        assert not np.shares_memory(twin.parameters().vector, model.parameters().vector), how
        assert all(same(a, values[name]) for name, a in twin.parameters().items()), how
        assert same(nn.grad(objective)(twin, *batch).vector, expected), how
        twin.parameters().vector[...] = 0
        assert not twin.scale.any() and not twin.inner.weight.any(), how
        assert all(same(a, values[name]) for name, a in model.parameters().items()), how
        nn.Adam(0.1).update(twin, nn.grad(objective)(twin, *batch))


def test_a_shallow_copy_of_a_model_works_and_shares_its_arrays(model, batch):
    model.parameters()
    twin = copy.copy(model)
    assert type(twin) is Residual and twin.scale is model.scale
    assert same(nn.grad(objective)(twin, *batch).vector, nn.grad(objective)(model, *batch).vector)
    twin.scale = np.zeros(4)
    assert same(twin.parameters()["scale"], np.zeros(4)) and same(model.parameters()["scale"], np.ones(4))
    assert same(model(batch[0]), Residual()(batch[0]))


@pytest.mark.parametrize("part", [lambda m: m.parameters(), lambda m: m.outer.parameters()], ids=["whole", "part"])
def test_copies_of_parameters_and_gradients(model, batch, part):
    model.parameters()
    for p in part(model), nn.grad(objective)(model, *batch):
        for how, twin in twins(p):
            assert isinstance(twin, nn.Parameters) and twin.shapes == p.shapes and list(twin) == list(p), how
            assert same(twin.vector, p.vector) and not np.shares_memory(twin.vector, p.vector), how
            assert twin.vector.size == p.vector.size
            twin.vector[...] = 3
            assert all((a == 3).all() for a in twin.values()) and not (p.vector == 3).all(), how
        shallow = copy.copy(p)
        assert all(np.shares_memory(a, shallow.vector) for a in shallow.values() if a.size)


def test_a_restored_checkpoint_goes_on_bit_for_bit(model, batch):
    optimizer = nn.Adam(0.05)
    for _ in range(3): optimizer.update(model, nn.grad(objective)(model, *batch))
    twin, its = pickle.loads(pickle.dumps((model, optimizer)))
    for _ in range(3):
        optimizer.update(model, nn.grad(objective)(model, *batch))
        its.update(twin, nn.grad(objective)(twin, *batch))
    assert same(model.parameters().vector, twin.parameters().vector)


# What f does to the model


def contents(node):
    "Everything in a model, by identity: to see that it is as it was."
    node = vars(node) if isinstance(node, nn.Module) else node
    items = node.items() if isinstance(node, dict) else enumerate(node)
    return {k: contents(v) if isinstance(v, (nn.Module, list, tuple, dict)) else (id(v), type(v)) for k, v in items}


def deep():
    return Bag(w=np.ones(3), items=[np.ones(2), np.ones(2)], table={"k": np.ones(2)}, inner=Bag(b=np.ones(2), _state=np.zeros(1)), _log=[], _memo={},
               _nested={"list": [[]]}, _helper=Bag(last=None), last=np.ones(1))


misdeeds = {
    "raises": (lambda m: 1 / 0, ZeroDivisionError, "division"),
    "interrupted": (lambda m: (_ for _ in ()).throw(KeyboardInterrupt()), KeyboardInterrupt, None),
    "array reassigned": (lambda m: setattr(m, "w", np.zeros(3)), RuntimeError, "'w'"),
    "tensor reassigned": (lambda m: setattr(m, "w", m.w * 2), RuntimeError, "'w'"),
    "in place": (lambda m: setattr(m, "w", m.w.__iadd__(1) if hasattr(m.w, "__iadd__") else m.w + 1), RuntimeError, "'w'"),
    "list item reassigned": (lambda m: m.items.__setitem__(1, m.items[1] * 2), RuntimeError, "'items.1'"),
    "dict item reassigned": (lambda m: m.table.__setitem__("k", np.zeros(2)), RuntimeError, r"'table\.k'"),
    "inner reassigned": (lambda m: setattr(m.inner, "b", None), RuntimeError, r"'inner\.b'"),
    "deleted": (lambda m: delattr(m, "last"), RuntimeError, "'last'"),
    "popped": (lambda m: m.items.pop(), RuntimeError, "'items.1'"),
    "list emptied": (lambda m: m.items.clear(), RuntimeError, r"'items\.0'"),
    "dict emptied": (lambda m: m.table.clear(), RuntimeError, r"'table\.k'"),
    "list replaced": (lambda m: setattr(m, "items", [np.zeros(2), np.zeros(2)]), RuntimeError, "items"),
    "part replaced": (lambda m: setattr(m, "inner", Bag(b=np.zeros(2))), RuntimeError, "inner"),
    "popped and raised": (lambda m: (m.items.pop(), 1 / 0), ZeroDivisionError, "division"),
    "tensor in a new attribute": (lambda m: setattr(m, "hidden", m.w * 2), RuntimeError, "'hidden'"),
    "tensor in a list": (lambda m: m.items.append(m.w * 2), RuntimeError, "items"),
    "tensor in a dict": (lambda m: m.table.__setitem__("h", m.w * 2), RuntimeError, r"table\.h"),
    "tensor in a part": (lambda m: setattr(m.inner, "h", (m.w * 2, 1)), RuntimeError, r"'inner\.h'"),
    "tensor in state": (lambda m: setattr(m, "_last", m.w.sum()), RuntimeError, "'_last'"),
    "tensor in a part's state": (lambda m: setattr(m.inner, "_state", m.w.sum()), RuntimeError, r"inner\._state"),
    "tensor in a list of state": (lambda m: m._log.append(m.w), RuntimeError, "_log"),
    "tensor in a dict of state": (lambda m: m._memo.update(h=[m.w]), RuntimeError, "_memo"),
    "tensor deep in state": (lambda m: m._nested["list"][0].append(m.w), RuntimeError, "_nested"),
    "tensor in a private part": (lambda m: setattr(m._helper, "last", m.w), RuntimeError, "_helper"),
}


@pytest.mark.parametrize("what", misdeeds)
def test_whatever_f_does_the_model_is_as_it_was(what):
    do, error, says = misdeeds[what]
    model = deep()
    model.parameters()
    before, vector = contents(model), model.parameters().vector.copy()

    def f(m):
        loss = sum(np.sum(a * a) for a in (m.w, *m.items, m.table["k"], m.inner.b, m.last))
        do(m)
        return loss

    with pytest.raises(error, match=says): nn.grad(f)(model)
    assert contents(model) == before
    assert same(model.parameters().vector, vector)
    assert same(nn.grad(lambda m: np.sum(m.w) + np.sum(m.items[1]) + np.sum(m.last))(model).vector, [1.0] * 3 + [0.0] * 2 + [1.0] * 2 + [0.0] * 4 + [1.0])


@pytest.mark.parametrize("keep", [lambda m, t: setattr(m, "_seen", t.value.copy()), lambda m, t: setattr(m, "_seen", nn.stop_gradient(t)),
                                  lambda m, t: m._log.append(float(t.value.sum())), lambda m, t: setattr(m, "_count", 1)])
def test_plain_values_may_be_kept(keep):
    model = deep()

    def f(m):
        keep(m, m.w * 2)
        return np.sum(m.w * m.w)

    model.parameters()
    before = model.w
    assert same(nn.grad(f)(model)["w"], [2.0, 2.0, 2.0]) and model.w is before
    assert same(nn.grad(f)(model)["w"], [2.0, 2.0, 2.0])


def test_running_statistics_are_kept_and_not_differentiated():
    class Centred(nn.Module):
        def __init__(self): self.gain, self._mean = np.ones(2), np.zeros(2)

        def __call__(self, x):
            h = x * self.gain
            if self.training: self._mean = 0.5 * self._mean + 0.5 * nn.stop_gradient(h).mean(axis=0)
            return h - self._mean

    model, x = Centred(), np.array([[1.0, 2.0], [3.0, 4.0]])
    grads = nn.grad(lambda m: np.sum(m(x)))(model)
    assert same(grads["gain"], [4.0, 6.0]) and same(model._mean, [1.0, 1.5])
    model.eval()(x)
    assert same(model._mean, [1.0, 1.5]) and "_mean" not in model.parameters()


def test_the_parameters_themselves_inside_f_are_a_clear_error_or_work(model):
    "The penalty as a user of PyTorch writes it: the sum over model.parameters()."
    f = nn.grad(lambda m: sum(np.sum(p * p) for p in m.parameters().values()))
    vector = model.parameters().vector.copy()
    before = contents(model)
    try:
        assert same(f(model).vector, 2 * vector)
    except RuntimeError as error:
        assert "parameters()" in str(error)
    assert contents(model) == before


# Gradients as values, and out=


def test_gradients_are_fresh_by_default(model, batch):
    f = nn.value_and_grad(objective)
    (_, one), (_, two) = f(model, *batch), f(model, *batch)
    assert one is not two and not np.shares_memory(one.vector, two.vector) and same(one.vector, two.vector)
    assert isinstance(one, nn.Parameters) and one.shapes == model.parameters().shapes
    assert all(np.shares_memory(a, one.vector) for a in one.values())
    assert not np.shares_memory(one.vector, model.parameters().vector)
    a = numbers(0, 3)
    g = nn.grad(lambda a: np.sum(a))
    assert g(a) is not g(a) and not np.shares_memory(g(a), a)


def test_out_is_written_into_and_returned(model, batch):
    f = nn.value_and_grad(objective)
    value, fresh = f(model, *batch)
    out = fresh.empty_like()
    out.vector[...] = np.nan
    again, result = f(model, *batch, out=out)
    assert result is out and value == again and same(out.vector, fresh.vector)
    f(model, batch[0] * 2, batch[1], out=out)
    assert same(out.vector, f(model, batch[0] * 2, batch[1])[1].vector)
    a, slot = numbers(0, 3), np.full(3, np.nan)
    assert nn.value_and_grad(lambda a: np.sum(a * a))(a, out=slot)[1] is slot and same(slot, 2 * a)
    slots = {"a": np.full(3, np.nan), "b": np.full(3, np.nan)}
    assert nn.grad(lambda d: np.sum(d["a"]) + 0 * np.sum(d["b"]))({"a": a, "b": a + 1}, out=slots) is slots
    assert same(slots["a"], np.ones(3)) and same(slots["b"], np.zeros(3))


def test_out_is_overwritten_where_the_loss_does_not_depend_on_a_parameter(model):
    out = model.parameters().empty_like()
    for f, slope in (lambda m: np.sum(m.scale), 1.0), (lambda m: 3.0, 0.0), (lambda m: np.sum(nn.stop_gradient(m.scale)), 0.0):
        out.vector[...] = 99
        grads = nn.grad(f)(model, out=out)
        assert same(grads["scale"], np.full(4, slope)) and not grads["inner.weight"].any() and not grads["outer.bias"].any()


def test_out_of_an_identical_model_in_another_order_is_refused_or_right():
    "The same names and shapes, but defined in another order: a gradient under the wrong name is the worst answer."
    one, two = Bag(a=np.ones(2), b=np.ones(2)), Bag(b=np.ones(2), a=np.ones(2))

    def f(m): return np.sum(m.a) + 5 * np.sum(m.b)

    out = nn.grad(f)(two)
    try:
        grads = nn.grad(f)(one, out=out)
    except ValueError as error:
        assert "out does not fit" in str(error)
    else:
        assert same(grads["a"], np.ones(2)) and same(grads["b"], np.full(2, 5.0))


def test_out_that_does_not_fit_is_refused(model, batch):
    f = nn.value_and_grad(objective)
    other = nn.grad(lambda m: np.sum(m.layers[0].weight))(nn.mlp([4, 3], rng=0, dtype=np.float64))
    narrow = nn.Parameters(model.parameters().shapes, np.zeros(model.parameters().vector.size, np.float32))
    for wrong in other, narrow, np.zeros(39), {}, model.parameters(), "grads":
        with pytest.raises(ValueError, match="out"): f(model, *batch, out=wrong)
    half = nn.Parameters(model.parameters().shapes, model.parameters().vector)
    with pytest.raises(ValueError, match="parameters themselves"): f(model, *batch, out=half)
    a = numbers(0, 3)
    for wrong in np.zeros(4), np.zeros((3, 1)), np.zeros(3, np.float32), [0.0] * 3, a, a[::-1]:
        with pytest.raises(ValueError, match="out"): nn.value_and_grad(lambda a: np.sum(a))(a, out=wrong)
    d = {"a": a, "b": a + 1}
    for wrong in {"a": np.zeros(3)}, {"b": np.zeros(3), "a": np.zeros(3)}, {"a": np.zeros(2), "b": np.zeros(3)}, {"a": d["b"], "b": d["a"]}:
        with pytest.raises(ValueError, match="out"): nn.value_and_grad(lambda d: np.sum(d["a"] * d["b"]))(d, out=wrong)
    slot = np.zeros(3)
    with pytest.raises(ValueError, match="out"): nn.value_and_grad(lambda d: np.sum(d["a"] * d["b"]))(d, out={"a": slot, "b": slot})
    assert same(d["a"], numbers(0, 3)) and same(d["b"], numbers(0, 3) + 1)


def test_out_after_the_model_changed_its_shape_is_refused(model, batch):
    out = nn.grad(objective)(model, *batch)
    model.scale = np.ones((1, 4))
    with pytest.raises(ValueError, match="out does not fit"): nn.grad(objective)(model, *batch, out=out)


# What f may be called with, and return


def test_the_first_argument_decides_the_form_of_the_gradient():
    for number in 2.0, 2, np.float64(2):
        value, g = nn.value_and_grad(lambda a: a * a * a)(number)
        assert value == 8 and g == 12 and np.ndim(g) == 0 and not isinstance(g, np.ndarray)
    g = nn.grad(lambda a: a * a)(np.float32(3))
    assert type(g) is np.float32 and g == 6
    g = nn.grad(lambda a: a * a)(np.array(3.0))
    assert isinstance(g, np.ndarray) and g.shape == () and g == 6
    g = nn.grad(lambda d: np.sum(d["a"]) * d["b"])({"a": np.ones(2), "b": 3.0})
    assert list(g) == ["a", "b"] and same(g["a"], [3.0, 3.0]) and g["b"] == 2
    p = nn.mlp([2, 1], rng=0).parameters()
    g = nn.grad(lambda d: np.sum(d["0.weight"]))(p)
    assert isinstance(g, nn.Parameters) and same(g.vector, np.array([1, 1, 0], np.float32))


@pytest.mark.parametrize("bad, says", [([1.0, 2.0], "list"), ("text", "str"), (None, "NoneType"), (True, "bool"), (np.array([1, 2]), "int"), (1j, "complex"),
                                       (np.array([True]), "bool"), (np.array([1j]), "complex"), ({"a": [1.0]}, "'a' is list"), ({"a": np.array([1])}, "'a' is int")])
def test_what_has_no_gradient_is_refused_in_words(bad, says):
    with pytest.raises(TypeError, match=says): nn.grad(lambda a: a)(bad)


@pytest.mark.parametrize("f, says", [
    (lambda a: a * 2, r"shape \(3,\)"), (lambda a: a[:1], r"shape \(1,\)"), (lambda a: None, "NoneType"), (lambda a: "text", "str"), (lambda a: a.value, r"shape \(3,\)"),
    (lambda a: (a.sum(), a), "has_aux"), (lambda a: [a.sum(), a.sum()], "single number"), (lambda a: {"loss": a.sum()}, "dict")])
def test_f_must_return_a_single_number(f, says):
    with pytest.raises(ValueError, match=says): nn.value_and_grad(f)(np.ones(3))


@pytest.mark.parametrize("f", [lambda a: a.sum(), lambda a: a[:2] * 3, lambda a: (a.sum(), 1, 2), lambda a: None], ids=["number", "array of two", "three", "None"])
def test_has_aux_needs_a_pair(f):
    with pytest.raises((ValueError, TypeError), match="has_aux|pair|loss, anything"): nn.value_and_grad(f, has_aux=True)(np.ones(2))


def test_aux_comes_back_plain_however_deep(model, batch):
    def f(m, x, y):
        z = m(x)
        return nn.cross_entropy(z, y), {"logits": z, "list": [z.sum(), (z, 3)], "text": "t", "deep": {"er": [m.scale]}}

    (value, aux), grads = nn.value_and_grad(f, has_aux=True)(model, *batch)
    assert same(grads.vector, nn.grad(objective)(model, *batch).vector) and isinstance(value, float)
    assert same(aux["logits"], model(batch[0])) and type(aux["list"][0]) is np.float64 and type(aux["list"][1][0]) is np.ndarray
    assert aux["text"] == "t" and type(aux["deep"]["er"][0]) is np.ndarray


def test_a_loss_that_does_not_depend_on_the_argument_has_gradient_zero(model):
    assert nn.value_and_grad(lambda a: 3.0)(1.0) == (3.0, 0.0)
    assert nn.value_and_grad(lambda a: 3)(np.ones(2))[1].tolist() == [0, 0]
    assert not nn.grad(lambda m: np.float32(1))(model).vector.any()
    assert nn.grad(lambda a: a)(2.5) == 1 and nn.grad(lambda d: d["b"])({"a": 1.0, "b": 2.0}) == {"a": 0, "b": 1}


def test_keyword_arguments_and_more_arguments_go_to_f():
    assert nn.grad(lambda a, b, *, c: a * b * c)(2.0, 3.0, c=5.0) == 15
    assert nn.grad(lambda a, b: a * b)(2.0, b=7.0) == 7


def test_the_value_is_a_plain_number():
    value, _ = nn.value_and_grad(lambda a: np.sum(a))(np.ones(3, np.float32))
    assert type(value) is np.float32 and value == 3


# Two gradients at once


def test_a_gradient_of_a_gradient_is_refused(model, batch):
    cases = [lambda: nn.grad(lambda a: nn.grad(lambda c: c * a)(1.0))(2.0), lambda: nn.grad(lambda a: nn.grad(lambda c: c * c)(a))(2.0),
             lambda: nn.grad(lambda a: nn.grad(lambda c: a * 2)(1.0))(2.0), lambda: nn.grad(lambda a: nn.grad(lambda d: d["x"])({"x": a}))(2.0)]
    for case in cases:
        with pytest.raises(TypeError, match="gradient of a gradient"): case()
    model.parameters()
    before = contents(model)
    with pytest.raises(RuntimeError, match="one at a time"): nn.grad(lambda m: nn.grad(lambda m: np.sum(m.scale))(m)["scale"].sum())(model)
    with pytest.raises(RuntimeError, match="one at a time"): nn.grad(lambda m: nn.grad(lambda p: np.sum(p.bias))(m.outer)["bias"].sum())(model)
    assert contents(model) == before


def test_aux_of_an_inner_gradient_does_not_swallow_the_outer_one():
    def f(a):
        (_, aux), _ = nn.value_and_grad(lambda c: (c * c, a * 3), has_aux=True)(1.0)
        return aux

    try:
        assert nn.grad(f)(2.0) == 3
    except TypeError as error:
        assert "gradient" in str(error)


def test_an_inner_gradient_of_other_things_is_plain():
    assert nn.grad(lambda a: a * nn.grad(lambda c: c * c)(3.0))(2.0) == 6


def test_a_tensor_that_got_away_is_refused_later():
    kept = []
    nn.grad(lambda a: kept.append(a * 2) or a)(1.0)
    with pytest.raises(TypeError, match="two different gradients"): nn.grad(lambda a: a * kept[0])(1.0)
    with pytest.raises(TypeError, match="another gradient"): nn.grad(lambda a: kept[0])(1.0)
    assert kept[0].tape.steps == [], "it holds on to what was computed"


def test_stop_gradient():
    assert nn.grad(lambda a: a * nn.stop_gradient(a))(3.0) == 3
    assert nn.grad(lambda a: nn.stop_gradient(a * a))(3.0) == 0
    assert nn.grad(lambda a: a * nn.stop_gradient({"k": [a]})["k"][0])(3.0) == 3
    assert nn.stop_gradient(4.0) == 4.0


# What would lose the gradient in silence


def fill(a): np.zeros(3).fill(a[0])
def put_slice(a): np.zeros(3)[...] = a
def put_item(a): np.zeros(3)[0] = a[0]
def add_to(a): z = np.zeros(3); z += a  # noqa: E702
def matmul_to(a): z = np.ones((3, 3)); z @= a  # noqa: E702
def add_item(a): z = np.zeros(3); z[0] += a[0]  # noqa: E702
def change(a): a[0] = 1.0
def change_slice(a): a[:] = np.zeros(3)


@pytest.mark.parametrize("lose", [
    np.asarray, np.array, np.ascontiguousarray, lambda a: np.array([a[0], a[1]]), lambda a: np.array([a, a]), lambda a: np.asarray(a, np.float32), lambda a: np.sum([a[0], a[1]]),
    lambda a: np.max([a[0], 0.0]), lambda a: np.full(3, a[0]), lambda a: np.ones(3).dot(a), lambda a: np.float64(a[0]), lambda a: np.add(a, 1, out=np.zeros(3)),
    lambda a: np.sum(a, out=np.zeros(())), lambda a: np.copyto(np.zeros(3), a), lambda a: np.put(np.zeros(3), 0, a[0]), lambda a: np.add.at(np.zeros(3), [0], a[0]),
    lambda a: np.geomspace(1, a[0], 3), lambda a: np.add.reduceat(a, [0, 2]), lambda a: np.hypot.accumulate(a), lambda a: np.add.reduce([a, a]), lambda a: np.round(np.ones(3), 1, a),
    lambda a: float(a[0]), lambda a: int(a[0]), lambda a: complex(a[0]), lambda a: list(range(a[0])), lambda a: np.nan_to_num(a, copy=False), lambda a: f"{a[0]:.3f}", lambda a: np.arange(9)[a[0]],
    lambda a: nn.Linear(3, 1, rng=0).weight.__setitem__(0, a[0]), fill, put_slice, put_item, add_to, matmul_to, add_item, change, change_slice], ids=lambda f: getattr(f, "__name__", ""))
def test_what_would_lose_the_gradient_is_an_error(lose):
    with pytest.raises((TypeError, ValueError)): nn.grad(lambda a: lose(a) or a.sum())(np.ones(3))


@pytest.mark.parametrize("lose", [np.asarray, lambda a: float(a[0]), change, add_to, put_slice])
def test_these_errors_say_what_to_do(lose):
    with pytest.raises(TypeError, match=r"tensor\.value|np\.where"): nn.grad(lambda a: lose(a) or a.sum())(np.ones(3))


def test_a_new_tensor_by_plus_equals_is_fine():
    def f(a):
        b = a
        b += a
        b *= 3.0
        return np.sum(b)
    assert same(nn.grad(f)(np.ones(2)), [6.0, 6.0])


def test_questions_about_a_tensor_have_plain_answers():
    x = np.array([[1.0, -2.0, 0.0], [3.0, -2.5, np.inf]])
    questions = [lambda a: a > 0, lambda a: a < a[0], lambda a: a >= 1, lambda a: a <= 1, lambda a: a == 0, lambda a: a != 0, lambda a: 0 < a, lambda a: x == a, lambda a: x > a,
                 np.sign, np.argmax, lambda a: np.argmax(a, axis=1), lambda a: a.argmax(axis=0), lambda a: a.argmin(), np.shape, np.ndim, np.size, lambda a: a.shape, lambda a: a.ndim,
                 lambda a: a.size, lambda a: a.dtype, len, np.isfinite, np.isnan, np.floor, np.ceil, np.rint, np.round, np.zeros_like, np.ones_like, lambda a: np.full_like(a, 2), np.any,
                 np.all, np.count_nonzero, lambda a: np.array_equal(a, x), lambda a: np.allclose(a, a), lambda a: np.argsort(a, axis=1), lambda a: bool(a[0, 0] > 0), lambda a: bool(a[0, 0]),
                 np.signbit, lambda a: np.logical_and(a > 0, a < 2), lambda a: np.nonzero(a)[0], lambda a: np.less(a, 1), lambda a: np.floor_divide(a, 2.0)]

    def f(a):
        with np.errstate(invalid="ignore"):
            for question in questions:
                answer, plain = question(a), question(x)
                assert type(answer) is type(plain) and np.array_equal(answer, plain, equal_nan=True) if isinstance(plain, np.ndarray) and plain.dtype.kind == "f" \
                    else np.array_equal(answer, plain), question
                assert not isinstance(answer, nn.Tensor), question
        return a[0, 0]

    assert nn.grad(f)(x)[0, 0] == 1


def test_branches_and_masks_follow_the_value():
    assert nn.grad(lambda a: a * 2 if a > 1 else a * 5)(3.0) == 2 and nn.grad(lambda a: a * 2 if a > 1 else a * 5)(0.5) == 5
    assert nn.grad(lambda a: max(a, 2.0) + min(a, 2.0))(3.0) == 1
    assert same(nn.grad(lambda a: np.sum(a * (a > 0)))(np.array([1.0, -1.0])), [1.0, 0.0])
    assert same(nn.grad(lambda a: np.sum(a[a > 0] * 3))(np.array([1.0, -1.0])), [3.0, 0.0])
    assert nn.grad(lambda a: sum(b * b for b in a))(np.array([1.0, 2.0])).tolist() == [2, 4]


def test_the_methods_are_numpys():
    x = numbers(0, 2, 3, 4)
    methods = [lambda a: a.sum(), lambda a: a.sum(0), lambda a: a.sum(axis=(0, 2), keepdims=True), lambda a: a.mean(-1), lambda a: a.max(1), lambda a: a.min(axis=2, keepdims=True),
               lambda a: a.prod(axis=0), lambda a: a.var(axis=1), lambda a: a.std(axis=1, ddof=1), lambda a: a.reshape(6, 4), lambda a: a.reshape((4, -1)), lambda a: a.reshape(-1),
               lambda a: a.ravel(), lambda a: a.flatten(), lambda a: a.T, lambda a: a.transpose(), lambda a: a.transpose(1, 0, 2), lambda a: a.transpose((2, 0, 1)),
               lambda a: a.swapaxes(0, 2), lambda a: a[:, :1].squeeze(), lambda a: a[:, :1].squeeze(axis=1), lambda a: a.clip(-0.5, 0.5), lambda a: a.dot(np.ones(4)),
               lambda a: a.take([0, 2], axis=1), lambda a: a.astype(np.float32), lambda a: abs(a), lambda a: -a, lambda a: +a, lambda a: a @ np.ones(4), lambda a: np.ones(2) @ a.T[0, 0],
               lambda a: 2 / (a + 9), lambda a: 2 ** a, lambda a: 1 - a, lambda a: a[..., None], lambda a: a[1, :, ::-2], lambda a: a[[0, 0], :, 1]]
    for method in methods:
        seen = []
        nn.grad(lambda a: seen.append(method(a)) or np.sum(seen[0]) * 1.0)(x)  # noqa: B023
        assert same(seen[0].value, method(x))


def test_equal_values_share_a_gradient():
    "Where the derivative jumps there is a choice: that of PyTorch, written down here."
    assert same(nn.grad(lambda a: np.max(a))(np.array([2.0, 1.0, 2.0])), [0.5, 0.0, 0.5])
    assert same(nn.grad(lambda a: np.sum(np.min(a, axis=1)))(np.array([[1.0, 1.0, 1.0, 1.0], [3.0, 2.0, 3.0, 3.0]])), [[0.25] * 4, [0.0, 1.0, 0.0, 0.0]])
    assert same(nn.grad(lambda a: np.sum(np.maximum(a, 2.0)))(np.array([1.0, 2.0, 3.0])), [0.0, 0.5, 1.0])
    assert same(nn.grad(lambda a: np.sum(np.minimum(a, 2.0)))(np.array([1.0, 2.0, 3.0])), [1.0, 0.5, 0.0])
    assert same(nn.grad(lambda a: np.sum(np.clip(a, 1.0, 3.0)))(np.array([0.0, 1.0, 3.0, 4.0])), [0.0, 1.0, 1.0, 0.0])
    assert same(nn.grad(lambda a: np.sum(np.abs(a) + nn.relu(a)))(np.zeros(2)), [0.0, 0.0])
    assert nn.grad(lambda a: a ** 0)(0.0) == 0 and nn.grad(lambda b: 0.0 ** b)(2.0) == 0 and nn.grad(np.linalg.norm)(np.zeros(2)).tolist() == [0, 0]


def test_whole_numbers_have_no_slope():
    "A cast to whole numbers is a staircase, like floor and round."
    assert nn.grad(lambda a: np.sum(np.floor(a) * a))(np.array([2.5])) == 2
    assert nn.grad(lambda a: np.sum(a.astype(int) * 1.7) + 0 * np.sum(a))(np.array([2.5])) == 0
    assert nn.grad(lambda a: np.sum(a.astype(int) * a))(np.array([2.5])) == 2
    assert nn.grad(lambda a: np.sum(a.astype(bool) * a))(np.array([2.5])) == 1
    assert nn.grad(lambda a: np.sum(a.astype(np.float32) * 2))(np.array([2.5])) == 2


# Silent wrong answers that were found


silent = {
    "take from an array in column order": (lambda a: np.take(a.T, [0, 2, 4]), numbers(0, 3, 3)),
    "take, flattened, twice the same": (lambda a: np.take(a, [[0, 0], [4, -1]]), numbers(0, 3, 3)),
    "take from a transposed array, along an axis": (lambda a: np.take(a.T, [[0, 1], [1, 1]], axis=1), numbers(0, 3, 2)),
    "a tuple as an index array": (lambda a: a[(0, 0, 1),], numbers(0, 3)),
    "a tuple as an index array in a tuple": (lambda a: a[:, (0, 0, 1)], numbers(0, 3, 3)),
    "a range as an index array": (lambda a: a[range(0, 3, 2)], numbers(0, 3)),
    "an index array from a column order": (lambda a: a.T[[0, 0], [1, 1]], numbers(0, 3, 3)),
    "index array and mask": (lambda a: a[[0, 0], np.array([True, False, True])], numbers(0, 2, 3)),
    "a mask of another rank": (lambda a: a[np.array([[True, False], [True, True]])], numbers(0, 2, 2, 3)),
    "an index of no axes": (lambda a: a[np.array(1)] * a[np.int64(1)], numbers(0, 2, 3)),
    "matmul of a transposed array": (lambda a: a.T @ a, numbers(0, 3, 4)),
    "product of a transposed array": (lambda a: a.T.prod(axis=0), numbers(0, 3, 4)),
    "product with zeros": (lambda a: (a * np.array([0.0, 1, 0, 2])).prod() + (a * np.array([0.0, 1, 3, 2])).prod(), numbers(0, 4)),
    "norm of a matrix": (lambda a: np.linalg.norm(a), numbers(0, 3, 3)),
    "norm over two axes": (lambda a: np.linalg.norm(a, axis=(0, 1)), numbers(0, 2, 3, 2)),
    "reshape of a transposed array": (lambda a: np.reshape(a.T, (2, 6)) * np.arange(12).reshape(2, 6), numbers(0, 3, 4)),
    "ravel of a transposed array": (lambda a: a.T.ravel() * np.arange(12), numbers(0, 3, 4)),
    "cumulative sum over all": (lambda a: np.cumsum(a.T) * np.arange(12), numbers(0, 3, 4)),
    "a number with an array": (lambda a: a[0] * np.ones((2, 3)) + a, numbers(0, 3)),
    "broadcast in two places": (lambda a: a[:, None] + a[None, :] * a[:, None], numbers(0, 3)),
    "batches of matrices, broadcast": (lambda a: a[:, None] @ a[None, 0], numbers(0, 2, 3, 3)),
    "linear with many leading axes": (lambda a: nn.linear(a, np.ones((4, 2)), np.ones(2)), numbers(0, 2, 3, 4)),
    "linear of one sample": (lambda a: nn.linear(a, numbers(1, 4, 2), np.ones(2)), numbers(0, 4)),
    "linear with one array as x and w": (lambda a: nn.linear(a, a, a[0]), numbers(0, 3, 3)),
    "linear with a transposed weight": (lambda a: nn.linear(np.ones((5, 4)), a.T), numbers(0, 3, 4)),
    "a power of itself": (lambda a: a ** a, np.array([0.5, 2.0, 1.0])),
    "var over two axes": (lambda a: np.var(a, axis=(0, -1), ddof=1), numbers(0, 2, 3, 4)),
    "stack of numbers": (lambda a: np.stack([a[0], a[1], 2.0 * a[0]]), numbers(0, 2)),
    "concatenate with a list": (lambda a: np.concatenate([[1.0, 2.0], a, a]), numbers(0, 2)),
    "concatenate along the last axis": (lambda a: np.concatenate([a, a * 2, a[:, :1]], axis=-1), numbers(0, 2, 2)),
    "mean of an axis and all": (lambda a: a.mean(axis=0).mean() + np.mean(a), numbers(0, 3, 2)),
    "softmax along another axis": (lambda a: nn.softmax(a, axis=0) * numbers(1, 3, 4), numbers(0, 3, 4)),
    "log_softmax along another axis": (lambda a: nn.log_softmax(a, axis=0) * numbers(1, 3, 4), numbers(0, 3, 4)),
    "one array in a dict twice": (lambda a: np.einsum("ij,ji->", a, a), numbers(0, 3, 3)),
    "einsum, a letter summed alone": (lambda a: np.einsum("ij,kl->k", a, a), numbers(0, 3, 3)),
    "mse of an array with itself moved": (lambda a: nn.mse(a, a[::-1], np.array([1.0, 2, 0])), numbers(0, 3, 2)),
    "activations with options": (lambda a: nn.leaky_relu(a, 0.2) + nn.elu(a, alpha=2.0) + nn.leaky_relu(a, slope=-0.5), numbers(0, 5)),
    "cast down and up": (lambda a: (a.astype(np.float64) * 2), numbers(0, 3)),
}


@pytest.mark.parametrize("what", silent)
def test_gradients_where_they_could_go_wrong_unseen(what):
    f, x = silent[what]
    nn.grad_check(f, x, tol=1e-7)
    nn.grad_check(f, x * 1.3 + 0.1, tol=1e-7)


@pytest.mark.parametrize("f", [
    lambda a: np.sum(a, 1, np.float64), lambda a: np.mean(a, 1, np.float64), lambda a: np.prod(a, 1, np.float64), lambda a: np.max(a, 1, None), lambda a: np.var(a, 1, None),
    lambda a: np.std(a, 1, np.float64), lambda a: np.cumsum(a, 1, np.float64), lambda a: np.sum(a, 1, None, None, True), lambda a: np.linalg.norm(a, 2, (0, 1)), lambda a: np.linalg.norm(a, 2),
    lambda a: np.linalg.norm(a, 1, 1), lambda a: np.reshape(a, (9,), order="F"), lambda a: np.ravel(a, "F"), lambda a: np.sum(a, where=np.eye(3) > 0), lambda a: np.sum(a, initial=3.0),
    lambda a: np.max(a, axis=1, initial=9.0), lambda a: np.add(a, a, where=np.eye(3) > 0), lambda a: np.multiply(a, a, dtype=np.float64), lambda a: np.sum(a, dtype=np.float64, axis=1),
    lambda a: np.concatenate([a, a], axis=None), lambda a: np.einsum("ii->i", a), lambda a: np.einsum("...i,i", a, a[0]), lambda a: np.clip(a, a * 0, 1.0), lambda a: a.sum(1, np.float64)])
def test_options_without_a_rule_are_an_error_or_right(f):
    "An option of NumPy's that a derivative does not know may be refused; it may not give a wrong number."
    x, direction = numbers(0, 3, 3), np.array([1.0, 2.0, 3.0])

    def scalar(a):
        y = f(a)
        return np.sum(y * (np.arange(1.0, 1 + np.size(y)).reshape(np.shape(y)) if np.size(y) != 3 else direction.reshape(np.shape(y))))

    try:
        g = nn.grad(scalar)(x)
    except (TypeError, ValueError):
        return
    np.testing.assert_allclose(g, nn.numeric_grad(scalar, x), atol=1e-7)


def test_an_update_does_not_disturb_gradients_that_were_taken_before(model, batch):
    value, grads = nn.value_and_grad(objective)(model, *batch)
    kept = grads.vector.copy()
    nn.Adam(0.5).update(model, grads)
    nn.grad(objective)(model, *batch)
    assert same(grads.vector, kept)


def test_x_and_y_are_left_alone(model, batch):
    x, y = batch[0].copy(), batch[1].copy()
    x.flags.writeable = y.flags.writeable = False
    nn.grad(objective)(model, x, y)
    weight = np.array([1.0, 2, 3, 0, 1, 1])
    weight.flags.writeable = False
    nn.grad(lambda m: nn.cross_entropy(m(x), y, weight, label_smoothing=0.1))(model)
    nn.grad(lambda a: nn.mse(a, x[:, :1] * 0, weight) + nn.mae(a, x[:, :1]) + nn.huber(a, x[:, 1:2]))(numbers(0, 6, 1))


def test_no_rule_writes_into_the_gradient_it_is_given(model, batch):
    "Every g that goes into a rule is made read-only; a rule that writes into it would raise."
    from nn_from_scratch import rules as room

    def guarded(rule):
        def run(g, *args, **kwargs):
            if isinstance(g, np.ndarray):
                g = g.view()
                g.flags.writeable = False
            return rule(g, *args, **kwargs)
        return run

    plain = dict(room.table)
    try:
        for op, rules in plain.items():
            if isinstance(rules, tuple): room.table[op] = tuple(rule and guarded(rule) for rule in rules)
        for f, x in silent.values(): nn.grad(lambda a: np.sum(f(a)))(x)  # noqa: B023
        nn.grad(objective)(model, *batch)
        z, t = numbers(0, 6, 3), np.full((6, 3), 0.5)
        for activation in nn.sigmoid, nn.tanh, nn.relu, nn.gelu, nn.silu, nn.softplus, nn.identity, nn.log_softmax: nn.grad(lambda a: np.sum(activation(a * 2)))(z)  # noqa: B023
        for loss in nn.mse, nn.mae, nn.huber, nn.binary_cross_entropy, nn.cross_entropy: nn.grad(lambda a: loss(a * 2, t))(z)  # noqa: B023
        for f in np.exp, np.log1p, np.sqrt, np.square, np.abs, np.negative, np.sin, np.std, np.prod, np.max: nn.grad(lambda a: np.sum(f(a * 2)))(np.abs(z) + 0.1)  # noqa: B023
    finally:
        room.table.update(plain)


# grad_check itself


def wrong_square(a, _wrong=[]):  # noqa: B006
    if not _wrong:
        @nn.operation
        def square_of(x): return x * x
        nn.defvjp(square_of, lambda g, y, x: g * x)
        _wrong.append(square_of)
    return _wrong[0](a)


def test_grad_check_finds_a_wrong_rule_and_names_the_place():
    with pytest.raises(AssertionError, match=r"argument 1 at \(0, 1\).*3.*6"): nn.grad_check(lambda a, b: wrong_square(b) + a, np.ones((1, 2)), np.array([[0.0, 3.0]]))
    model = nn.Sequential(nn.Linear(2, 2, rng=0, dtype=np.float64), wrong_square)
    with pytest.raises(AssertionError, match=r"argument 0, parameter '0\.(weight|bias)'"): nn.grad_check(lambda m: m(np.ones((3, 2))), model)
    table.pop(next(op for op in table if getattr(op, "__name__", "") == "square_of"))
    wrong_square.__defaults__[0].clear()


def test_grad_check_does_not_pass_when_it_has_checked_nothing():
    for nothing in (2,), (np.array([1, 2]),), ([1.0, 2.0],), ():
        with pytest.raises((TypeError, ValueError)): nn.grad_check(lambda *a: 1.0, *nothing)


def test_grad_check_does_not_forget_a_nan():
    def f(a, b): return np.sqrt(a) + b
    with np.errstate(all="ignore"), pytest.raises(AssertionError, match="argument 0"): nn.grad_check(f, np.array([0.0, 1.0]), np.array([1.0, 2.0]))


def test_grad_check_leaves_the_model_as_it_was_even_when_f_fails():
    model, calls = Residual(), []
    before = model.parameters().vector.copy()

    def f(m):
        calls.append(1)
        if len(calls) > 5: raise ZeroDivisionError
        return np.sum(m.scale)

    with pytest.raises(ZeroDivisionError): nn.grad_check(f, model)
    assert same(model.parameters().vector, before)
    nn.grad_check(lambda m: np.sum(m.scale ** 2), model)
    assert same(model.parameters().vector, before)


def test_numeric_grad_leaves_its_argument_alone():
    x = numbers(0, 2, 3)
    np.testing.assert_allclose(nn.numeric_grad(lambda a: np.sum(a ** 3), x), 3 * x ** 2, atol=1e-8)
    assert same(x, numbers(0, 2, 3)) and abs(nn.numeric_grad(lambda a: a ** 3, 2) - 12) < 1e-6
    assert nn.numeric_grad(lambda a: np.sum(a), np.ones(3, np.float32)).dtype == np.float64


# A user's own operation


def own(f, *rules):
    op = nn.operation(f)
    nn.defvjp(op, *rules)
    return op


def test_an_operation_of_ones_own_in_three_lines():
    cube = own(lambda x: x ** 3, lambda g, y, x: g * 3 * x ** 2)
    assert nn.grad(cube)(2.0) == 12 and cube(2) == 8 and nn.grad_check(cube, numbers(0, 4)) < 1e-6
    scaled = own(lambda x, k=2.0, *, shift=0.0: x * k + shift, lambda g, y, x, k=2.0, shift=0.0: g * k, lambda g, y, x, k=2.0, shift=0.0: g * x)
    assert nn.grad(lambda a: scaled(a, shift=1.0))(3.0) == 2 and nn.grad(lambda a: scaled(3.0, k=a))(4.0) == 3 and nn.grad(lambda a: scaled(a, a))(4.0) == 8


def test_a_rule_for_an_argument_that_needs_no_gradient_is_not_run():
    def never(*_): raise AssertionError("this rule was not needed")
    product = own(lambda a, b: a * b, lambda g, y, a, b: g * b, never)
    assert nn.grad(lambda a: product(a, 5.0))(2.0) == 5


def test_an_operation_without_a_rule_says_so():
    @nn.operation
    def strange(x): return x * x

    with pytest.raises(TypeError, match=r"strange has no rule.*defvjp\(strange"): nn.grad(strange)(1.0)
    with pytest.raises(TypeError, match=r"spacing has no rule"): nn.grad(lambda a: np.spacing(a))(1.0)
    with pytest.raises(TypeError, match="i0 has no rule"): nn.grad(lambda a: np.i0(a).sum())(np.ones(2))
    with pytest.raises(TypeError, match="no derivative for its argument"): nn.grad(lambda a: nn.leaky_relu(1.0, a))(0.5)
    with pytest.raises(TypeError, match="no derivative for its argument"): nn.grad(lambda a: nn.cross_entropy(np.zeros((1, 2)), np.array([[0.5, 0.5]]) * a))(1.0)
    with pytest.raises(TypeError, match="@operation"): nn.defvjp(lambda x: x, lambda g, y, x: g)


def test_a_rule_of_a_wrong_shape_is_named():
    bad = own(lambda x: np.sum(x), lambda g, y, x: g)
    with pytest.raises(ValueError, match=r"rule of <lambda> gave a gradient of shape \(\) for an argument of shape \(3,\)"): nn.grad(bad)(np.ones(3))


def test_a_tensor_for_a_keyword_only_argument_is_followed_or_refused():
    scale = own(lambda x, *, by: x * by, lambda g, y, x, by: g * by)
    for f, right in ((lambda a: scale(a, by=a * 2), 12.0), (lambda a: scale(1.0, by=a * 2), 2.0)):
        try:
            assert nn.grad(f)(3.0) == right
        except TypeError as error:
            assert "by" in str(error)


def test_an_operation_that_returns_a_plain_number():
    assert nn.grad(lambda a: a * own(lambda x: 3, lambda g, y, x: g * 0)(a))(5.0) == 3
    assert nn.grad(lambda a: own(lambda x: float(x) * 2, lambda g, y, x: g * 2)(a) * a)(5.0) == 20


# Types


def spy_on_rules(monkeypatch):
    "Every (operation, dtype of the argument, dtype of what its rule gave) of the walks back from now on."
    from nn_from_scratch import walk
    seen, plain = [], walk.sum_to

    def like(g, x, op):
        seen.append((getattr(op, "__name__", str(op)), x.dtype, np.asarray(g).dtype))
        return plain(g, x, op)

    monkeypatch.setattr(walk, "sum_to", like)
    return seen


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("x_dtype", [np.float32, np.float64, np.int64, np.float16])
def test_a_model_computes_in_its_own_precision(dtype, x_dtype):
    model, x = Residual(dtype), np.ones((6, 4), x_dtype)
    y, target = np.array([0, 1, 2, 0, 1, 2]), np.full((6, 3), 0.3)
    losses = [lambda z: nn.cross_entropy(z, y), lambda z: nn.cross_entropy(z, y, np.arange(6.0), 0.1), lambda z: nn.cross_entropy(z, target), lambda z: nn.mse(z, target),
              lambda z: nn.mse(z, target, np.arange(6)), lambda z: nn.mae(z, target), lambda z: nn.huber(z, target, delta=0.5), lambda z: nn.binary_cross_entropy(z, target)]
    assert model(x).dtype == dtype
    for loss in losses:
        assert loss(model(x)).dtype == dtype
        value, grads = nn.value_and_grad(lambda m: loss(m(x)))(model)  # noqa: B023
        assert value.dtype == dtype and grads.vector.dtype == dtype and all(g.dtype == dtype for g in grads.values())


@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "2.0.0", reason="NumPy 1 promotes float32 numbers with Python's to float64")
def test_no_float64_inside_float32_work(monkeypatch):
    "Values and gradients on the whole tape, those inside the rules included: half of float32's speed is lost otherwise, silently."
    seen = spy_on_rules(monkeypatch)
    x, y, t = numbers(0, 6, 4, dtype=np.float32), np.array([0, 1, 2, 0, 1, 2]), np.full((6, 3), 0.3)
    activations = [nn.sigmoid, nn.tanh, nn.relu, nn.leaky_relu, nn.elu, nn.gelu, nn.silu, nn.softplus, nn.identity, nn.softmax, nn.log_softmax]
    losses = [lambda z: nn.cross_entropy(z, y), lambda z: nn.cross_entropy(z, y, np.arange(6.0), 0.1), lambda z: nn.mse(z, t), lambda z: nn.mse(z, t, np.arange(6)), lambda z: nn.mae(z, t),
              lambda z: nn.huber(z, t), lambda z: nn.binary_cross_entropy(z, t), lambda z: np.mean((z - 0.5) ** 2), lambda z: np.sum(2 * z.std(axis=0) / 3), lambda z: 1 - np.mean(z)]
    from nn_from_scratch.tape import Tape
    tape = Tape()

    def whole(f, *args):
        leaves = [tape.leaf(a) for a in args]
        f(*leaves)
        found = [(step[0].__name__, step[4].dtype) for step in tape.steps if step is not None]
        return {name for name, kind in found if kind == np.float64}

    w = numbers(1, 4, 3, dtype=np.float32)
    for activation in activations:
        assert not whole(lambda w: activation(nn.linear(x, w)), w)  # noqa: B023
        nn.grad(lambda w: np.sum(activation(nn.linear(x, w))))(w)  # noqa: B023
    for loss in losses:
        assert not whole(lambda w: loss(nn.linear(x, w)), w)  # noqa: B023
        nn.grad(lambda w: loss(nn.linear(x, w)))(w)  # noqa: B023
    assert not {op for op, kind, given in seen if kind == np.float32 and given == np.float64}


def test_each_gradient_on_the_tape_has_the_type_of_its_value():
    "A step in float64 in the midst of float32 does not make what comes before it float64 on the way back."
    x = np.ones((2, 3), np.float32)
    for node in nn.graph(lambda a: np.sum(nn.tanh(nn.tanh(a * 2).astype(np.float64) * np.ones(3)) * 0.5), x):
        assert node["gradient"].dtype == node["value"].dtype, node["label"]


def test_numbers_of_numpys_float64_as_options_do_not_change_the_precision():
    x, y = np.ones((3, 2), np.float32), np.array([0, 1, 1])
    number = np.float64(0.1)  # as from linspace
    for value in (nn.leaky_relu(x, number), nn.elu(x, number), nn.cross_entropy(x, y, label_smoothing=number), nn.huber(x, x * 0, delta=number)): assert value.dtype == np.float32


# Threads


def run_in_thread(f):
    result: list = []

    def run():
        try:
            result.append(f())
        except BaseException as error:
            result.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    return result[0]


def test_a_second_thread_on_the_same_model_gets_a_clear_error(model, batch):  # (predict waits: test_a_prediction_…)
    errors = []

    def f(m, x, y):
        z = m(x)
        for other in (lambda: nn.grad(objective)(model, *batch), lambda: model(batch[0]), lambda: model.parameters(), lambda: nn.grad(
                lambda p: np.sum(p.weight))(model.outer)): errors.append(run_in_thread(other))
        return nn.cross_entropy(z, y)

    expected = nn.grad(objective)(model, *batch).vector
    before = contents(model)
    assert same(nn.grad(f)(model, *batch).vector, expected)
    assert contents(model) == before
    assert all(isinstance(e, RuntimeError) for e in errors), errors
    assert all("one at a time" in str(e) for e in errors), errors


def test_afterwards_another_thread_may(model, batch):
    expected = nn.grad(objective)(model, *batch).vector
    assert same(run_in_thread(lambda: nn.grad(objective)(model, *batch).vector), expected)
    with pytest.raises(ZeroDivisionError): nn.grad(lambda m: 1 / 0)(model)
    assert same(run_in_thread(lambda: nn.grad(objective)(model, *batch).vector), expected), "the lock was not given back"


def test_a_model_for_each_thread_trains_as_if_alone():
    x, y = numbers(0, 64, 4), np.arange(64) % 3

    def train(model):
        nn.fit(model, nn.cross_entropy, nn.Adam(0.01), (x, y), epochs=5, rng=1, progress=False)
        return model.parameters().vector

    original = Residual()
    expected = train(copy.deepcopy(original))
    models = [copy.deepcopy(original) for _ in range(3)] + [Residual()]
    threads = [threading.Thread(target=train, args=(m,)) for m in models]
    for t in threads: t.start()
    for t in threads: t.join(60)
    for m in models: np.testing.assert_allclose(m.parameters().vector, expected, rtol=1e-9)


# Memory


def test_a_step_leaves_no_reference_cycles(model, batch):
    optimizer, out = nn.Adam(0.01), None
    f = nn.value_and_grad(objective)

    def step():
        nonlocal out
        _, out = f(model, *batch, out=out)
        optimizer.update(model, out)

    step()
    gc.collect()
    gc.disable()
    try:
        for _ in range(5): step()
        nn.grad(lambda a: np.sum(a[0] * np.exp(a)) + np.concatenate([a, a]).max())(np.ones(3))
        nn.value_and_grad(lambda m: (np.sum(m.scale), {"a": [m.scale]}), has_aux=True)(model)
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_memory_stays_flat_over_thousands_of_steps(batch):
    model, optimizer, out = nn.mlp([4, 3], rng=0, dtype=np.float64), nn.SGD(0.001, momentum=0.9), None
    f = nn.value_and_grad(objective)

    def steps(n):
        nonlocal out
        for i in range(n):
            _, out = f(model, *batch, out=out)
            optimizer.update(model, out)
            if i % 10 == 0: model.note = i  # a change of no consequence: the model is walked through anew

    def in_use():
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    steps(20)
    tracemalloc.start()
    try:
        steps(20)
        before = in_use()
        steps(2000)
        after = in_use()
    finally:
        tracemalloc.stop()
    assert after - before < 20_000, f"{after - before:,} bytes more after 2,000 steps"


def test_a_hundred_thousand_operations_deep():
    def deep(a):
        b = a
        for _ in range(100_000): b = b + a
        return b

    assert nn.grad(deep)(1.0) == 100_001


def test_a_value_used_again_and_again_is_visited_once():
    "Sixty doublings: a walk that went along every path would take 2**60 steps."
    def doubled(a):
        for _ in range(60): a = a + a
        return a

    assert nn.grad(doubled)(1.0) == 2.0 ** 60


# Networks drawn at random


def random_model(rng):
    "A network of the API's parts: any depth, widths, activations, skips, shared layers, arrays of its own."
    width, n_in, n_out = (int(rng.integers(1, 5)) for _ in range(3))
    smooth = [nn.sigmoid, nn.tanh, nn.gelu, nn.silu, nn.softplus, nn.elu, nn.identity, nn.leaky_relu, nn.softmax]
    inits = [nn.he_normal, nn.glorot_uniform, nn.lecun_normal, nn.he_uniform, nn.glorot_normal]

    def layer(a, b):
        return nn.Linear(a, b, bias=bool(rng.integers(2)), init=inits[rng.integers(len(inits))], rng=rng, dtype=np.float64)

    class Net(nn.Module):
        def __init__(self):
            self.first = nn.Sequential(layer(n_in, width), smooth[rng.integers(len(smooth))])
            self.blocks = [nn.mlp([width, int(rng.integers(1, 5)), width], smooth[rng.integers(len(smooth))], rng=rng, dtype=np.float64) for _ in range(rng.integers(0, 3))]
            self.options = {"scale": rng.normal(size=width), "shift": rng.normal(size=(1, width))}
            self.head = layer(width, n_out)
            self.skip, self.twice = rng.integers(2, size=2)
            if rng.integers(2) and width == n_out: self.blocks.append(self.head)  # shared

        def __call__(self, x):
            h = self.first(x)
            for block in self.blocks * (1 + self.twice): h = h + block(h) if self.skip else block(h)
            return self.head(h * self.options["scale"] + self.options["shift"])

    return Net(), n_in, n_out


@pytest.mark.parametrize("seed", range(25))
def test_random_networks_agree_with_finite_differences(seed):
    rng = np.random.default_rng(seed)
    model, n_in, n_out = random_model(rng)
    n = int(rng.integers(1, 5))
    x, weight = rng.normal(size=(n, n_in)), rng.uniform(0.1, 1, size=n)
    losses = [lambda z: nn.mse(z, np.ones((n, n_out)), weight), lambda z: nn.huber(z, np.full((n, n_out), 0.3)), lambda z: nn.binary_cross_entropy(z, np.full((n, n_out), 0.3), weight),
              lambda z: np.sum(z ** 2) + np.mean(z)]
    if n_out > 1: losses.append(lambda z: nn.cross_entropy(z, np.arange(n) % n_out, weight, label_smoothing=0.1))
    loss = losses[rng.integers(len(losses))]
    assert nn.grad_check(lambda m, x: loss(m(x)), model, x) < 1e-6
    assert names(copy.deepcopy(model)) == names(model)


def random_program(rng):
    "A function of two arrays: some dozen of NumPy's functions, methods and indices, each on results of earlier ones."
    unary = [np.tanh, np.sin, np.cos, np.exp, np.square, np.negative, lambda a: np.log(2 + np.sin(a)), lambda a: np.sqrt(2 + np.cos(a)), lambda a: 1 / (2 + np.sin(a)), nn.gelu, nn.softplus,
             nn.sigmoid, lambda a: abs(a + 7.5), lambda a: (2 + np.sin(a)) ** 2.5, lambda a: 1.5 ** a, lambda a: np.where(a > 100, a, 3 * a), lambda a: a.astype(np.float64)]
    binary = [np.add, np.subtract, np.multiply, lambda a, b: a / (2 + np.sin(b)), lambda a, b: (2 + np.sin(a)) ** b, np.logaddexp, lambda a, b: np.maximum(a, b + 50), lambda a, b: np.where(b > 100, a, b)]
    axes = [None, 0, -1]
    reduce = [lambda a, k: np.sum(a, axis=k), lambda a, k: a.mean(axis=k, keepdims=True), lambda a, k: a - a.var(axis=k, keepdims=True), lambda a, k: np.prod(np.cos(a), axis=k), lambda a, k: np.std(a * a + np.arange(
        a.size).reshape(a.shape), axis=k), lambda a, k: np.cumsum(a, axis=k), lambda a, k: np.linalg.norm(a + 4.0, axis=k), lambda a, k: nn.softmax(a, axis=-1 if k is None else k)]
    shape = [lambda a: a.T, lambda a: a[::-1], lambda a: a.ravel(), lambda a: a[..., None], lambda a: a[[0, 0, -1]], lambda a: a[-1:], lambda a: np.concatenate([a, a * 2], axis=0), lambda a: np.stack([a, -a], axis=-1),
             lambda a: a.reshape(-1, 1), lambda a: np.swapaxes(a, 0, -1), lambda a: np.take(a, [0, 0], axis=-1), lambda a: np.take(a, [[0, -1]]), lambda a: np.flip(a), lambda a: np.expand_dims(a, 0),
             lambda a: a.T @ a if a.ndim == 2 else a * a, lambda a: np.einsum("i...->i" if a.ndim == 1 else "ij->ji", a) if a.ndim == 2 else a, lambda a: np.outer(a, a[0]) if a.ndim == 1 else a,
             lambda a: a[np.arange(len(a)) % 2 == 0]]
    steps = [(int(rng.integers(4)), int(rng.integers(100)), int(rng.integers(100)), int(rng.integers(100)), int(rng.integers(3))) for _ in range(rng.integers(4, 14))]

    def program(a, b):
        results = [a, b]
        for kind, which, i, j, k in steps:
            x, y = results[i % len(results)], results[j % len(results)]
            if kind == 0: z = unary[which % len(unary)](x)
            elif kind == 1:
                try: np.broadcast_shapes(x.shape, y.shape)
                except ValueError: y = np.sum(y)
                z = binary[which % len(binary)](x, y)
            elif x.ndim == 0: z = x * 2
            elif kind == 2: z = reduce[which % len(reduce)](x, axes[k])
            else: z = shape[which % len(shape)](x)
            results.append(nn.tanh(z / 3) * 2 if np.size(z) <= 64 else np.mean(z))
        return sum(np.mean(r) * (n + 1) for n, r in enumerate(results))

    return program


@pytest.mark.parametrize("seed", range(80))
def test_random_programs_agree_with_finite_differences(seed):
    rng = np.random.default_rng(1000 + seed)
    a, b = rng.normal(size=rng.integers(1, 4, size=rng.integers(1, 3))), rng.normal(size=rng.integers(1, 4, size=rng.integers(1, 4)))
    nn.grad_check(random_program(rng), a, b, tol=1e-6)


# A clean run


def test_the_whole_circle_prints_no_warning():
    script = """if True:
        import numpy as np, nn_from_scratch as nn, copy, pickle
        m = nn.mlp([2, 8, 2], rng=0)
        x, y = nn.moons(64, noise=0.1, rng=0)
        h = nn.fit(m, nn.cross_entropy, nn.Adam(0.01), (x, y), (x, y), epochs=3, metrics=[nn.accuracy], progress=False)
        nn.evaluate(m, nn.cross_entropy, (x, y), [nn.accuracy]); nn.predict(m, x.astype(float)); repr(m); m.summary(); repr(h)
        pickle.loads(pickle.dumps(copy.deepcopy(m)))
        z = np.array([-1000., -50., 0., 50., 1000.])
        for f in nn.sigmoid, nn.tanh, nn.relu, nn.leaky_relu, nn.elu, nn.gelu, nn.silu, nn.softplus, nn.softmax, nn.log_softmax:
            for dtype in np.float32, np.float64:
                assert np.isfinite(f(z.astype(dtype))).all() and np.isfinite(nn.grad(lambda a: np.sum(f(a)))(z.astype(dtype))).all(), f
        nn.grad(lambda a: nn.cross_entropy(a, np.array([0])))(np.array([[1000., -1000.]]))
        nn.grad(lambda a: nn.binary_cross_entropy(a, np.array([0., 1.])))(np.array([1000., -1000.]))
    """
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_a_rule_with_another_default_than_its_operation_is_refused():
    @nn.operation
    def times(x, k=2.0): return x * k

    with pytest.raises(ValueError, match="'k' of times is 2.0 where it is not given, but its rule takes 5.0"):
        nn.defvjp(times, lambda g, y, x, k=5.0: g * k)
    nn.defvjp(times, lambda g, y, x, k=2.0: g * k)
    assert nn.grad(times)(1.0) == 2 and nn.grad(lambda x: times(x, k=7.0))(1.0) == 7


def test_one_rule_for_all_arguments_may_remember_what_was_computed():
    calls = []

    @nn.operation
    def scaled_exp(x, scale): return scale * np.exp(x)

    def together(x, scale):
        e = np.exp(x)
        def back(g, homes):
            calls.append(sorted(homes))
            return {0: g * scale * e, 1: g * e}
        return scale * e, back

    nn.defvjp(scaled_exp, together=together)
    assert scaled_exp(1.0, 2.0) == 2 * np.exp(1.0) and not calls  # on plain values, the operation itself
    assert nn.grad(scaled_exp)(0.5, 2.0) == pytest.approx(2 * np.exp(0.5), rel=1e-12) and calls == [[0]]
    nn.grad_check(scaled_exp, np.array([0.1, -1.0]), 3.0)
    nn.grad_check(lambda x: scaled_exp(x, x[0]) + scaled_exp(1.0, x), np.array([0.1, -1.0]))
    with pytest.raises(ValueError, match="other default|must be the same"): nn.defvjp(nn.elu, together=lambda x, alpha=2.0: None)


def test_named_tuples_in_aux_become_plain():
    from collections import namedtuple
    Aux = namedtuple("Aux", "hidden loss")

    (_, aux), _ = nn.value_and_grad(lambda x: (np.sum(x * x), Aux(x + 1, np.sum(x))), has_aux=True)(np.ones(2))
    assert type(aux) is Aux and type(aux.hidden) is np.ndarray and aux.loss == 2
