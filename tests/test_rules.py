"""The table of derivatives: every row has a check, every step of the package has a row, and a broken rule is noticed.

CHECKS has an entry for each operation of the table: calls (f, *arguments) in which that operation is used, each of which
passes `grad_check` in float64 at 1e-6. A row without an entry fails, and so does an entry without a row.
"""

import contextlib
import importlib
import inspect
import operator
import pkgutil

import numpy as np
import pytest

import nn_from_scratch as nn
from nn_from_scratch.rules import table
from nn_from_scratch.forward import _cast
from nn_from_scratch.numpy_rules import _concatenate

rng = np.random.default_rng(0)
TOL = 1e-6


def normal(*shape): return rng.normal(size=shape)
def positive(*shape): return rng.uniform(0.3, 1.3, size=shape)


a, b, row, cube = normal(3, 4), normal(3, 4), normal(4), normal(2, 3, 4)
p, q = positive(3, 4), positive(3, 4)
labels, probabilities, weight = np.array([0, 3, 1]), nn.softmax(normal(3, 4)), np.array([1.0, 0.0, 2.0])


def of_one(f, x=p): return [(f, x), (f, x[0, 0]), (f, x[:0])]
def of_two(f, x=a, y=b): return [(f, x, y), (f, x, y[0]), (f, x[:, :1], y[:1]), (f, x[0, 0], y), (f, x[:, :0], y[:, :0])]


def reduction(f):
    "Over all axes, over one and over two, with and without keeping them."
    options = [dict(axis=axis, keepdims=keep) for axis in (None, 0, -1, (0, 2)) for keep in (False, True)]
    return [(lambda x, o=o: f(x, **o), cube) for o in options] + [(f, a), (f, np.array(2.0))]


def products(f, shapes): return [(f, normal(*left), normal(*right)) for left, right in shapes]


CHECKS = {
    np.add: of_two(np.add), np.subtract: of_two(np.subtract), np.multiply: of_two(np.multiply), np.true_divide: of_two(np.true_divide, a, q),
    np.power: [*of_two(np.power, p, b), (lambda x: x**2, a), (lambda x: x**3, a), (lambda x: x**0, a), (lambda x: 2**x, a), (lambda x: 0.0**x, p)],
    np.maximum: of_two(np.maximum), np.minimum: of_two(np.minimum), np.logaddexp: of_two(np.logaddexp),
    np.where: [(lambda x, y: np.where(a > 0, x, y), a, b), (lambda x, y: np.where(a > 0, x, y), row, 2.0)],
    np.clip: [(lambda x: np.clip(x, -0.5, 0.5), a), (lambda x: np.clip(x, None, 0.5), a), (lambda x: x.clip(-0.5), a)],
    np.positive: of_one(np.positive), np.negative: of_one(np.negative), np.absolute: of_one(np.absolute, a), np.reciprocal: of_one(np.reciprocal),
    np.square: of_one(np.square, a), np.sqrt: of_one(np.sqrt), np.exp: of_one(np.exp, a), np.expm1: of_one(np.expm1, a), np.log: of_one(np.log),
    np.log1p: of_one(np.log1p), np.log2: of_one(np.log2), np.log10: of_one(np.log10), np.sin: of_one(np.sin, a), np.cos: of_one(np.cos, a),
    np.tan: of_one(np.tan), np.arctan: of_one(np.arctan, a), np.sinh: of_one(np.sinh, a), np.cosh: of_one(np.cosh, a), np.tanh: of_one(np.tanh, a),
    nn.identity: of_one(nn.identity, a), _cast: [(lambda x: _cast(x, np.float64), a)],

    np.sum: reduction(np.sum), np.mean: reduction(np.mean), np.max: reduction(np.max), np.min: reduction(np.min), np.prod: reduction(np.prod),
    np.var: [*reduction(np.var), (lambda x: x.var(axis=1, ddof=1), a)], np.std: [*reduction(np.std)[:-1], (lambda x: x.std(axis=1, ddof=1), a)],
    np.linalg.norm: [(np.linalg.norm, a), (lambda x: np.linalg.norm(x, axis=1), a), (lambda x: np.linalg.norm(x, axis=0, keepdims=True), a)],

    np.reshape: [(lambda x: x.reshape(4, 3), a), (lambda x: x.reshape((2, -1)), a), (lambda x: x.T.reshape(12), a)],
    np.ravel: [(np.ravel, a), (lambda x: np.ravel(x.T), a)], np.squeeze: [(lambda x: np.squeeze(x), cube[:1]), (lambda x: x.squeeze(axis=0), cube[:1])],
    np.expand_dims: [(lambda x: np.expand_dims(x, 1), a), (lambda x: np.expand_dims(x, (0, -1)), a)],
    np.transpose: [(np.transpose, cube), (lambda x: x.transpose(2, 0, 1), cube), (lambda x: x.transpose(-1, 0, 1), cube)],
    np.swapaxes: [(lambda x: x.swapaxes(0, 2), cube)], np.moveaxis: [(lambda x: np.moveaxis(x, 0, -1), cube), (lambda x: np.moveaxis(x, [0, 1], [2, 0]), cube)],
    np.flip: [(np.flip, a), (lambda x: np.flip(x, 1), a)], np.broadcast_to: [(lambda x: np.broadcast_to(x, (5, 3, 4)), row)], np.copy: [(np.copy, a)],
    np.cumsum: [(np.cumsum, a), (lambda x: x.cumsum(axis=0), a)],

    np.matmul: products(np.matmul, [((3, 4), (4, 2)), ((4,), (4, 2)), ((3, 4), (4,)), ((4,), (4,)), ((2, 3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)),
                                    ((3, 4), (2, 4, 5)), ((2, 3, 4), (4,)), ((4,), (2, 4, 5)), ((0, 4), (4, 2))]),
    np.dot: products(np.dot, [((), ()), ((), (3,)), ((2, 3), ()), ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((2, 3), (3, 4)), ((2, 5, 3), (3,)),
                              ((3,), (2, 3, 4)), ((2, 5, 3), (4, 3, 2))]),
    np.outer: products(np.outer, [((3,), (4,)), ((2, 2), (3,))]),
    np.einsum: [(lambda x, y, s=s: np.einsum(s, x, y), normal(*left), normal(*right)) for s, left, right in [
        ("ij,jk->ik", (2, 3), (3, 4)), ("ij,j->i", (2, 3), (3,)), ("ij,ij->", (2, 3), (2, 3)), ("i,j->ji", (2,), (3,)), ("bij,bjk->bki", (2, 3, 4), (2, 4, 2)),
        ("ij,kl->i", (2, 3), (4, 2))]] + [(lambda x: np.einsum("ijk->ki", x), cube)],
    operator.getitem: [(lambda x, i=i: x[i], a) for i in (1, -1, (1, 2), (slice(None), slice(None, None, 2)), slice(None, None, -1), (..., None, 1), [0, 0, 2],
                                                           ([0, 0, 1], [1, 1, 2]), (slice(None), (0, 0, 1)), a > 0, [True, False, True], slice(0, 0))],
    np.take: [(lambda x: np.take(x, [[0, 7], [2, 2]]), a), (lambda x: x.take([0, 2, 2], axis=-1), a), (lambda x: np.take(x.T, [5, 5, 1]), a)],
    _concatenate: [(lambda x, y, k=k: np.concatenate([x, y, x], axis=k), a, b) for k in (0, -1, None)] + [(lambda x, y: np.stack([x, y], axis=1), a, b)],

    nn.sigmoid: of_one(nn.sigmoid, a), nn.tanh: of_one(nn.tanh, a), nn.relu: of_one(nn.relu, a), nn.elu: [*of_one(nn.elu, a), (lambda x: nn.elu(x, 0.5), a)],
    nn.leaky_relu: [*of_one(nn.leaky_relu, a), (lambda x: nn.leaky_relu(x, slope=0.3), a)], nn.gelu: of_one(nn.gelu, 3 * a), nn.silu: of_one(nn.silu, 3 * a),
    nn.softplus: of_one(nn.softplus, 3 * a), nn.softmax: [(nn.softmax, a), (lambda x: nn.softmax(x, axis=0), a)],
    nn.log_softmax: [(nn.log_softmax, a), (lambda x: nn.log_softmax(x, axis=0), a)],
    nn.linear: [(nn.linear, a, normal(4, 2), normal(2)), (nn.linear, a, normal(4, 2)), (nn.linear, row, normal(4, 2), normal(2)),
                (nn.linear, cube, normal(4, 2), normal(2))],
    nn.mse: [(nn.mse, a, b), (lambda x, y: nn.mse(x, y, weight), a, b)], nn.mae: [(nn.mae, a, b), (lambda x, y: nn.mae(x, y, weight), a, b)],
    nn.huber: [(nn.huber, a, b), (lambda x, y: nn.huber(x, y, weight, delta=0.5), a, b)],
    nn.cross_entropy: [(nn.cross_entropy, a, labels), (lambda z: nn.cross_entropy(z, probabilities), a),
                       (lambda z: nn.cross_entropy(z, labels, weight, label_smoothing=0.1), a)],
    nn.binary_cross_entropy: [(lambda z: nn.binary_cross_entropy(z, probabilities), a), (lambda z: nn.binary_cross_entropy(z, probabilities, weight), a)],
}


def name(op): return getattr(op, "__module__", "").rpartition(".")[2] + "." + getattr(op, "__name__", repr(op))


each_row = pytest.mark.parametrize("op", list(table), ids=name)


def worst(op): return max(nn.grad_check(*check, tol=TOL) for check in CHECKS[op])


@contextlib.contextmanager
def row_of(op, rules):
    "The table with another row for `op`."
    right = table[op]
    table[op] = rules
    try: yield
    finally: table[op] = right


# ---------------------------------------------------------------- complete

def test_every_row_has_a_check_and_every_check_a_row():
    assert [name(op) for op in table if op not in CHECKS] == [], "add calls of it to CHECKS"
    assert [name(op) for op in CHECKS if op not in table] == []


def test_every_step_of_the_package_has_a_row():
    "What stands under @operation, in any module of the package, private or not."
    modules = []
    for found in pkgutil.iter_modules(nn.__path__):
        with contextlib.suppress(ImportError):  # an extra that is not installed
            if found.name != "__main__": modules.append(importlib.import_module(f"nn_from_scratch.{found.name}"))
    assert {"forward", "losses", "numpy_rules"} <= {module.__name__.rpartition(".")[2] for module in modules}
    steps = {step for module in modules for step in vars(module).values() if inspect.isfunction(step) and hasattr(step, "plain")}
    assert len(steps) > 15
    assert [name(step) for step in steps if step not in table] == [], "add a row with defvjp"


def test_the_promised_operations_have_a_row():
    promised = """add subtract multiply true_divide power matmul negative exp log log1p expm1 sqrt square abs tanh sin cos maximum minimum logaddexp where clip
                  sum mean max min var std prod reshape ravel transpose swapaxes squeeze expand_dims broadcast_to dot outer einsum take""".split()
    assert [f for f in promised if getattr(np, f) not in table] == [] and np.linalg.norm in table and operator.getitem in table
    assert {np.concatenate, np.stack} <= set(nn.unpacked)


@each_row
def test_the_rules_name_their_arguments_as_numpy_does(op):
    "In NumPy's order, as far as they go by position: otherwise `np.sum(x, 0, float)` would give a wrong gradient and no error."
    if isinstance(op, np.ufunc) or op in (operator.getitem, np.einsum, np.where, np.dot) or op is _concatenate: return
    known = list(inspect.signature(getattr(op, "plain", op)).parameters)
    for rule in filter(None, table[op]):
        parameters = list(inspect.signature(rule).parameters.values())[3:]  # after g, y and the first argument
        by_position = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "out"]
        if op in (np.reshape, np.expand_dims, np.broadcast_to, np.outer): continue  # their one further argument has had several names
        assert by_position == known[1:1 + len(by_position)]


# ---------------------------------------------------------------- right

@each_row
def test_a_rule_passes_grad_check(op):
    assert worst(op) <= TOL


@each_row
def test_a_broken_rule_is_noticed(op):
    "The checks of a row really test it: a rule that is one percent off fails, each argument's by itself."
    def off(rule): return lambda g, y, *args, **kwargs: 1.01 * rule(g, y, *args, **kwargs)

    rules = table[op]
    if isinstance(rules, tuple):
        broken = [(*rules[:i], off(rule), *rules[i + 1:]) for i, rule in enumerate(rules) if rule is not None]
    else:
        broken = [type(rules)(lambda i, *args, **kwargs: 1.01 * rules.rule(i, *args, **kwargs))]
    for row in broken:
        with row_of(op, row), pytest.raises(AssertionError, match="grad_check"): worst(op)


@each_row
def test_a_missing_rule_is_noticed(op):
    rules = table.pop(op)
    try:
        with pytest.raises(TypeError, match="has no rule for its derivative"): worst(op)
    finally: table[op] = rules


@each_row
def test_a_rule_leaves_its_gradient_and_arguments_alone(op):
    "Addition hands one g to both of its inputs: who writes into it changes the other's."
    def watched(rule):
        def run(g, y, *args, out=None, **kwargs):
            held = [v for v in (g, y, *args) if isinstance(v, np.ndarray)]
            before = [v.copy() for v in held]
            new = rule(g, y, *args, **kwargs)
            assert all(np.array_equal(v, w, equal_nan=v.dtype.kind == "f") for v, w in zip(held, before))
            return new
        return run

    rules = table[op]
    if isinstance(rules, tuple):
        with row_of(op, tuple(rule and watched(rule) for rule in rules)): worst(op)


@each_row
def test_float32_stays_float32(op):
    "The value, and the gradient for each argument."
    for f, *args in CHECKS[op]:
        if op is _cast: continue
        single = [x.astype(np.float32) if isinstance(x, np.ndarray) and x.dtype == np.float64 else x for x in args]
        value = f(*single)
        if all(isinstance(x, np.ndarray) for x in single) and not (op is np.mean and np.ndim(value) == 0):
            assert np.asarray(value).dtype == np.float32
        gradient = nn.grad(lambda x: np.sum(f(x, *single[1:])))(single[0])  # noqa: B023
        assert np.asarray(gradient).dtype == np.asarray(single[0]).dtype


# ---------------------------------------------------------------- at the edges

def test_where_there_is_no_slope():
    "Ties are shared, corners get 0: as in PyTorch."
    assert nn.grad(lambda x: x**0)(0.0) == 0 and nn.grad(lambda x: x**1)(0.0) == 1 and nn.grad(lambda x: x**2)(0.0) == 0
    assert nn.grad(lambda x: 0.0**x)(2.0) == 0 and nn.grad(lambda x: 0.0**x)(0.0) == 0
    with np.errstate(invalid="ignore"): assert np.isnan(nn.grad(lambda x: np.power(-2.0, x))(3.0))
    assert nn.grad(np.abs)(0.0) == 0 and nn.grad(nn.relu)(0.0) == 0
    assert nn.grad(lambda x: np.maximum(x, 1.0))(1.0) == 0.5 and nn.grad(lambda x: np.minimum(x, 1.0))(1.0) == 0.5
    assert nn.grad(np.max)(np.array([3.0, 1, 3, 3])).tolist() == [1 / 3, 0, 1 / 3, 1 / 3]
    assert nn.grad(np.min)(np.ones((2, 2))).tolist() == [[0.25, 0.25], [0.25, 0.25]]
    assert nn.grad(np.linalg.norm)(np.zeros(3)).tolist() == [0, 0, 0] and nn.grad(np.std)(np.ones(3)).tolist() == [0, 0, 0]
    assert nn.grad(lambda x: np.sum(np.clip(x, -1, 1)))(np.array([-2.0, -1, 0, 1, 2])).tolist() == [0, 1, 1, 1, 0]
    assert nn.grad(np.prod)(np.array([2.0, 0, 5])).tolist() == [0, 10, 0] and nn.grad(np.prod)(np.array([2.0, 0, 0])).tolist() == [0, 0, 0]


@pytest.mark.parametrize("f", [np.sum, np.prod, lambda x: np.mean(x, axis=1).sum(), lambda x: np.concatenate([x, x]).sum(), lambda x: (x @ x.T).sum(),
                               lambda x: np.max(x, axis=1).sum(), lambda x: np.prod(x, axis=1).sum(), lambda x: x[:, [0, 0]].sum(), lambda x: np.cumsum(x).sum(),
                               lambda x: np.var(x, axis=1).sum(), lambda x: np.einsum("ij,ij->", x, x)])
def test_arrays_of_size_zero(f):
    assert nn.grad(f)(np.zeros((0, 3))).shape == (0, 3)


def test_a_value_used_many_times():
    def doubled(x):
        for _ in range(20): x = x + x
        return x
    assert nn.grad(doubled)(1.0) == 2**20
    assert nn.grad(lambda x: x * x * x + x.sum() * x - x)(np.array(2.0)) == 3 * 4 + 2 * 2 - 1
    w = normal(3, 3)
    nn.grad_check(lambda w: nn.linear(nn.tanh(nn.linear(a[:, :3], w, w[0])), w, w[1]) @ w, w)
