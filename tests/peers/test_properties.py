"""On examples drawn at random, the same numbers as PyTorch: 1e-9 apart at most in float64, 1e-4 in float32.

Operations over shapes, broadcasting, axes and options; activations, losses, optimizers, schedules over their settings; networks
over depth, widths, activations, skips and sharing. NN_FROM_SCRATCH_EXAMPLES sets how many examples there are (600): a long run is
NN_FROM_SCRATCH_EXAMPLES=10000. The counts are printed at the end.

Where the two libraries differ by design, DIFFERENCES says so, and why.
"""

import math
import operator
from pathlib import Path

import numpy as np
import pytest

import nn_from_scratch as nn
from nn_from_scratch.functions import cast
from nn_from_scratch.joining_rules import join as _concatenate
from nn_from_scratch.rules import table

torch = pytest.importorskip("torch", reason='PyTorch is not installed (pip install ".[peers]")')
pytest.importorskip("hypothesis", reason='hypothesis is not installed (pip install ".[peers]")')
from hypothesis import assume  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from hypothesis.extra import numpy as hnp  # noqa: E402
from test_numpy_functions import ALSO, PAIRS  # noqa: E402

pytestmark = pytest.mark.peers
F = torch.nn.functional
DTYPES = st.sampled_from([np.float64, np.float32])
TOL = {np.dtype(np.float64): 1e-9, np.dtype(np.float32): 1e-4}
THEIRS = {np.dtype(np.float64): torch.float64, np.dtype(np.float32): torch.float32}


# ---------------------------------------------------------------- numbers

GRID = [k / 8 for k in (-16, -9, -8, -4, -1, 0, 1, 4, 8, 9, 16)]  # sums and ties come out exact
TINY = [-1e-40, 1e-45, 1e-30, -1e-30, -0.0]  # in float32 the first two are subnormal


def domain(low, high, *special):
    "For a dtype, numbers from low to high, those of a grid, and the special ones: in float64 a subnormal, too."
    def of(dtype):
        smallest = [float(np.finfo(dtype).smallest_subnormal)] if 1e-30 in special else []
        chosen = [float(dtype(v)) for v in (*GRID, *special, *smallest) if low <= v <= high or v in special]
        return st.sampled_from(chosen) | st.floats(float(np.float32(low)), float(np.float32(high)), width=np.finfo(dtype).bits)
    return of


PLAIN = domain(-3, 3)
REAL = domain(-3, 3, *TINY)
LOGITS = domain(-30, 30, -1e4, 1e4, *TINY)
POSITIVE = domain(0.125, 4)
NOT_NEGATIVE = domain(0.125, 4, 0.0, 1e-30, 1e-40, 1e4)
ABOVE_MINUS_1 = domain(-0.875, 4, *TINY, 1e4)
ON_GRID = domain(0, 0, *GRID)


def WIDE(dtype):
    top = float(np.finfo(dtype).max)
    return domain(-3, 3, *TINY, -top, top, -1e4, 1e4)(dtype) | st.floats(-top, top, width=np.finfo(dtype).bits)


def FAR(dtype): return st.sampled_from([1e8, -1e8, 0.0]) | LOGITS(dtype)


class Draw:
    "What a case draws its arguments with."
    def __init__(self, data): self.draw, self.dtype = data.draw, data.draw(DTYPES)

    def __call__(self, strategy): return self.draw(strategy)

    def array(self, shape=None, numbers=REAL):
        "An array, stored row by row or column by column."
        shape = self.shape() if shape is None else shape
        array = self.draw(hnp.arrays(self.dtype, shape, elements=numbers(self.dtype)))
        return np.asfortranarray(array) if array.ndim > 1 and self.draw(st.booleans()) else array

    def shape(self, dims=0, side=1): return self.draw(hnp.array_shapes(min_dims=dims, max_dims=3, min_side=side, max_side=4))
    def axis(self, ndim): return self.draw(st.integers(-ndim, ndim - 1))
    def axes(self, ndim): return self.draw(st.none() | st.integers(-ndim, ndim - 1) | hnp.valid_tuple_axes(ndim, min_size=1))


# ---------------------------------------------------------------- agreement

def close(ours, theirs, rtol, atol, what):
    theirs = theirs.detach().numpy() if isinstance(theirs, torch.Tensor) else np.asarray(theirs)
    assert np.shape(ours) == theirs.shape and np.asarray(ours).dtype == theirs.dtype, what
    near = np.isclose(ours, theirs, rtol=rtol, atol=atol, equal_nan=True)
    assert near.all(), f"{what}: {np.asarray(ours)[~near][:5]} and not {theirs[~near][:5]}"


def agree(ours, theirs, *arrays, value_atol=None, grad_atol=None):
    """The value of f, as plain code and as recorded, and its gradients for each array along a direction drawn at random.
    What may come out as 0 from larger numbers is compared to that of a number of size 1, unless told otherwise."""
    tol = TOL[arrays[0].dtype]
    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    expected = theirs(*tensors)
    direction = np.random.default_rng(0).uniform(0.5, 1.5, expected.shape) * np.random.default_rng(1).choice([-1, 1], expected.shape)
    direction = np.asarray(direction, str(expected.dtype).removeprefix("torch."))
    expected.backward(torch.tensor(direction))

    def f(p):
        result = ours(*p.values())
        return np.sum(result * direction), result

    with np.errstate(all="ignore"):  # infinities and NaN are compared, too; tests/test_numerics.py looks for what should not be
        (_, recorded), grads = nn.value_and_grad(f, has_aux=True)({str(i): a for i, a in enumerate(arrays)})
        close(ours(*arrays), expected, tol, tol if value_atol is None else value_atol, "value")
    np.testing.assert_array_equal(recorded, ours(*arrays) if np.isfinite(recorded).all() else recorded)
    for i, (g, tensor) in enumerate(zip(grads.values(), tensors)):
        close(g, torch.zeros_like(tensor) if tensor.grad is None else tensor.grad, tol, tol if grad_atol is None else grad_atol, f"gradient for argument {i}")


# ---------------------------------------------------------------- operations

def one(ours, theirs, numbers=REAL, exact=True):
    "Number by number. `exact`: every number to the tolerance relative to itself, however small it is."
    def case(draw):
        atol = dict.fromkeys(["value_atol", "grad_atol"], 4 * float(np.finfo(draw.dtype).tiny)) if exact else {}
        return ours, theirs, [draw.array(draw.shape(side=0), numbers)], atol
    return case


def two(ours, theirs, left=REAL, right=REAL):
    "Number by number, with broadcasting."
    def case(draw):
        a, b = draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3)).input_shapes
        return ours, theirs, [draw.array(a, left), draw.array(b, right)]
    return case


def reduction(ours, theirs, numbers=REAL, ddof=False):
    def case(draw):
        x = draw.array(draw.shape(dims=1), numbers)
        axis, keep = draw.axes(x.ndim), draw(st.booleans())
        dim = tuple(range(x.ndim)) if axis is None else axis
        n = x.size if axis is None else math.prod(np.array(x.shape)[np.atleast_1d(axis)])
        extra = draw(st.integers(0, min(n - 1, 1))) if ddof else 0
        ours_too, theirs_too = (dict(ddof=extra), dict(correction=extra)) if ddof else ({}, {})
        return lambda x: ours(x, axis=axis, keepdims=keep, **ours_too), lambda x: theirs(x, dim=dim, keepdim=keep, **theirs_too), [x]
    return case


def prod(x, dim, keepdim):
    "torch.prod over several axes."
    for d in sorted(np.atleast_1d(dim) % x.ndim, reverse=True): x = torch.prod(x, int(d), keepdim)
    return x


def clip(draw):
    low, high = sorted(draw(st.tuples(st.sampled_from(GRID), st.sampled_from(GRID))))
    low, high = draw(st.sampled_from([(low, high), (None, high), (low, None)]))
    return lambda x: np.clip(x, low, high), lambda x: torch.clamp(x, low, high), [draw.array()]


def where(draw):
    shapes = draw(hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3)).input_shapes
    condition = draw(hnp.arrays(bool, shapes[0]))
    return lambda a, b: np.where(condition, a, b), lambda a, b: torch.where(torch.tensor(condition), a, b), [draw.array(s) for s in shapes[1:]]


def reshape(draw):
    x = draw.array(draw.shape(side=1))
    shape = draw(st.sampled_from([(-1,), (1, -1), (x.size, 1), x.shape[::-1], (*x.shape, 1), (-1, *x.shape[1:])]))
    return lambda x: np.reshape(x, shape), lambda x: torch.reshape(x, shape), [x]


def squeeze(draw):
    x = draw.array(draw(hnp.array_shapes(max_dims=4, max_side=2)))
    ones = [i for i, n in enumerate(x.shape) if n == 1]
    axis = draw(st.sampled_from([None, *ones, *(i - x.ndim for i in ones), *([tuple(ones)] if ones else [])]))
    return lambda x: np.squeeze(x, axis=axis), lambda x: torch.squeeze(x) if axis is None else torch.squeeze(x, axis), [x]


def expand_dims(draw):
    x = draw.array()
    axis = draw(st.integers(-x.ndim - 1, x.ndim))
    return lambda x: np.expand_dims(x, axis), lambda x: torch.unsqueeze(x, axis), [x]


def transpose(draw):
    x = draw.array(draw.shape(dims=1))
    order = draw(st.permutations(range(x.ndim)))
    order = [i - x.ndim for i in order] if draw(st.booleans()) else order
    return lambda x: np.transpose(x, order), lambda x: torch.permute(x, order), [x]


def two_axes(ours, theirs):
    def case(draw):
        x = draw.array(draw.shape(dims=1))
        i, j = draw.axis(x.ndim), draw.axis(x.ndim)
        return lambda x: ours(x, i, j), lambda x: theirs(x, i, j), [x]
    return case


def flip(draw):
    x = draw.array(draw.shape(dims=1))
    axis = draw.axes(x.ndim)
    return lambda x: np.flip(x, axis), lambda x: torch.flip(x, list(range(x.ndim)) if axis is None else np.atleast_1d(axis).tolist()), [x]


def broadcast_to(draw):
    shapes = draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3))
    return lambda x: np.broadcast_to(x, shapes.result_shape), lambda x: torch.broadcast_to(x, shapes.result_shape), [draw.array(shapes.input_shapes[0])]


def cumsum(draw):
    x = draw.array(draw.shape(dims=1))
    axis = draw(st.none() | st.integers(-x.ndim, x.ndim - 1))
    return lambda x: np.cumsum(x, axis=axis), lambda x: torch.cumsum(x.reshape(-1), 0) if axis is None else torch.cumsum(x, axis), [x]


def joined(draw):
    shape, parts = draw.shape(dims=1), draw(st.integers(1, 3))
    if draw(st.booleans()):
        axis = draw(st.integers(-len(shape) - 1, len(shape)))
        return lambda *a: np.stack(a, axis=axis), lambda *a: torch.stack(a, axis), [draw.array(shape) for _ in range(parts)]
    axis = draw.axis(len(shape))
    lengths = [[*shape[:axis % len(shape)], draw(st.integers(1, 3)), *shape[axis % len(shape) + 1:]] for _ in range(parts)]
    return lambda *a: np.concatenate(a, axis=axis), lambda *a: torch.cat(a, axis), [draw.array(tuple(s)) for s in lengths]


def matmul(draw):
    shapes = draw(hnp.mutually_broadcastable_shapes(signature=np.matmul.signature, max_dims=2, max_side=3)).input_shapes
    return np.matmul, torch.matmul, [draw.array(s) for s in shapes]


def dot(draw):
    left, right, n = draw.shape(), draw.shape(), draw(st.integers(1, 4))
    if left and right:
        left = (*left[:-1], n)
        right = (*right[:-2], n, right[-1]) if len(right) > 1 else (n,)

    def theirs(a, b): return a * b if a.ndim == 0 or b.ndim == 0 else torch.tensordot(a, b, dims=([a.ndim - 1], [max(b.ndim - 2, 0)]))
    return np.dot, theirs, [draw.array(left), draw.array(right)]


def einsum(draw):
    sizes = dict(zip("ijkl", draw(st.tuples(*[st.integers(1, 3)] * 4))))
    operands = [draw(st.lists(st.sampled_from("ijkl"), min_size=1, max_size=3, unique=True)) for _ in range(draw(st.integers(1, 2)))]
    result = draw(st.lists(st.sampled_from(sorted({c for o in operands for c in o})), unique=True))
    subscripts = ",".join("".join(o) for o in operands) + "->" + "".join(result)
    return lambda *a: np.einsum(subscripts, *a), lambda *a: torch.einsum(subscripts, *a), [draw.array(tuple(sizes[c] for c in o)) for o in operands]


def picked(ours, x):
    "Any way to pick numbers, as the flat positions that it picks."
    positions = torch.tensor(np.array(ours(np.arange(x.size).reshape(x.shape)), order="C"))
    return ours, lambda x: x.reshape(-1)[positions], [x]


def getitem(draw):
    x = draw.array(draw.shape(dims=1))
    index = draw(hnp.basic_indices(x.shape, allow_newaxis=True) | hnp.integer_array_indices(x.shape) | hnp.arrays(bool, x.shape)
                 | hnp.integer_array_indices(x.shape[:1]).map(lambda i: i[0]) | hnp.integer_array_indices(x.shape[-1:]).map(lambda i: (..., i[0])))
    return picked(lambda x: x[index], x)


def take(draw):
    x = draw.array(draw.shape(dims=1))
    axis = draw(st.none() | st.integers(-x.ndim, x.ndim - 1))
    n = x.size if axis is None else x.shape[axis]
    indices = draw(hnp.arrays(np.int64, draw.shape(), elements=st.integers(-n, n - 1)))
    return picked(lambda x: np.take(x, indices, axis=axis), x)


def linear(draw):
    n_in, n_out, lead = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw.shape(side=0)
    arrays = [draw.array((*lead, n_in)), draw.array((n_in, n_out)), draw.array((n_out,))]
    return nn.linear, lambda x, w, b=None: F.linear(x, w.T, b), arrays[:draw(st.integers(2, 3))]


def along_an_axis(ours, theirs):
    def case(draw):
        x = draw.array(draw.shape(dims=1), LOGITS)
        axis = draw.axis(x.ndim)
        return lambda x: ours(x, axis=axis), lambda x: theirs(x, axis), [x]
    return case


ANGLES, MODEST = domain(-3, 3, *TINY, 1e4, -1e4), domain(-30, 30, *TINY)
OPERATIONS = {
    np.add: two(np.add, torch.add), np.subtract: two(np.subtract, torch.subtract), np.multiply: two(np.multiply, torch.multiply),
    np.true_divide: two(np.true_divide, torch.true_divide, REAL, POSITIVE), np.power: two(np.power, torch.pow, POSITIVE, PLAIN),
    np.maximum: two(np.maximum, torch.maximum), np.minimum: two(np.minimum, torch.minimum), np.logaddexp: two(np.logaddexp, torch.logaddexp, FAR, FAR),
    np.where: where, np.clip: clip,
    np.positive: one(np.positive, torch.positive), np.negative: one(np.negative, torch.negative), np.absolute: one(np.absolute, torch.abs),
    np.reciprocal: one(np.reciprocal, torch.reciprocal, NOT_NEGATIVE), np.square: one(np.square, torch.square), np.sqrt: one(np.sqrt, torch.sqrt, NOT_NEGATIVE),
    np.exp: one(np.exp, torch.exp, LOGITS), np.expm1: one(np.expm1, torch.expm1, MODEST, exact=False), np.log: one(np.log, torch.log, NOT_NEGATIVE),
    np.log1p: one(np.log1p, torch.log1p, ABOVE_MINUS_1), np.log2: one(np.log2, torch.log2, NOT_NEGATIVE), np.log10: one(np.log10, torch.log10, NOT_NEGATIVE),
    np.sin: one(np.sin, torch.sin, ANGLES), np.cos: one(np.cos, torch.cos, ANGLES), np.tan: one(np.tan, torch.tan, ANGLES), np.arctan: one(np.arctan, torch.arctan, ANGLES),
    np.sinh: one(np.sinh, torch.sinh, MODEST), np.cosh: one(np.cosh, torch.cosh, MODEST), np.tanh: one(np.tanh, torch.tanh, LOGITS, exact=False),
    np.copy: one(np.copy, torch.clone), cast: one(lambda x: cast(x, np.float64), lambda x: x.to(torch.float64)),
    np.sum: reduction(np.sum, torch.sum), np.mean: reduction(np.mean, torch.mean), np.max: reduction(np.max, torch.amax, ON_GRID), np.min: reduction(np.min, torch.amin),
    np.prod: reduction(np.prod, prod, PLAIN), np.var: reduction(np.var, torch.var, ddof=True), np.std: reduction(np.std, torch.std, ON_GRID, ddof=True),
    np.linalg.norm: lambda draw: euclidean(draw),
    np.reshape: reshape, np.ravel: one(np.ravel, torch.ravel), np.squeeze: squeeze, np.expand_dims: expand_dims, np.transpose: transpose,
    np.swapaxes: two_axes(np.swapaxes, torch.swapaxes), np.moveaxis: two_axes(np.moveaxis, torch.moveaxis), np.flip: flip, np.broadcast_to: broadcast_to,
    np.cumsum: cumsum, _concatenate: joined, np.matmul: matmul, np.dot: dot, np.einsum: einsum, operator.getitem: getitem, np.take: take,
    np.outer: lambda draw: (np.outer, lambda a, b: torch.outer(a.reshape(-1), b.reshape(-1)), [draw.array(), draw.array()]),
    nn.linear: linear, nn.softmax: along_an_axis(nn.softmax, torch.softmax), nn.log_softmax: along_an_axis(nn.log_softmax, torch.log_softmax),
}


def euclidean(draw):
    "The length of the whole, or along an axis. (NumPy squares numbers that PyTorch scales first: none so small that the square is 0.)"
    x = draw.array(draw.shape(dims=1), PLAIN)
    assume(not ((x != 0) & (np.abs(x) < 1e-12)).any())
    axis, keep = draw(st.none() | st.integers(-x.ndim, x.ndim - 1)), draw(st.booleans())
    return lambda x: np.linalg.norm(x, axis=axis, keepdims=keep), lambda x: torch.linalg.vector_norm(x, dim=axis, keepdim=keep), [x]


def name(op): return getattr(op, "__name__", repr(op)).strip("_")


@pytest.mark.parametrize("op", OPERATIONS, ids=name)
def test_operations(op, on_examples):
    def check(data):
        ours, theirs, arrays, *options = OPERATIONS[op](Draw(data))
        agree(ours, theirs, *arrays, **(options[0] if options else {}))
    on_examples(check, 0.41 / len(OPERATIONS), data=st.data())


# ---------------------------------------------------------------- activations

SLOPES = st.sampled_from([0.0, 0.01, 0.3, 1.0])
ACTIVATIONS = {
    nn.sigmoid: torch.sigmoid, nn.tanh: torch.tanh, nn.relu: torch.relu, nn.leaky_relu: F.leaky_relu, nn.elu: F.elu, nn.gelu: lambda x: F.gelu(x, approximate="tanh"),
    nn.silu: F.silu, nn.softplus: lambda x: torch.logaddexp(x, torch.zeros_like(x)), nn.identity: torch.clone,
}


@pytest.mark.parametrize("ours", ACTIVATIONS, ids=name)
def test_activations(ours, on_examples):
    "From the smallest subnormal number to the largest there is, each value relative to itself or to its x."
    def check(data):
        draw, theirs = Draw(data), ACTIVATIONS[ours]
        x = draw.array(draw.shape(side=0), LOGITS if ours is nn.gelu else WIDE)
        if ours in (nn.leaky_relu, nn.elu):
            slope = draw(SLOPES)
            f, g = (lambda x: ours(x, slope)), (lambda x: theirs(x, slope))
        else: f, g = ours, theirs
        agree(f, g, x, value_atol=TOL[x.dtype] * np.minimum(np.abs(x), 1) + 4 * np.finfo(x.dtype).tiny)
    on_examples(check, 0.12 / len(ACTIVATIONS), data=st.data())


# ---------------------------------------------------------------- losses

def weights(draw, n):
    "None, or a weight for each sample: some may be 0, but not all."
    if n == 0 or draw(st.booleans()): return None
    w = draw.array((n,), NOT_NEGATIVE)
    assume(w.sum() > 1e-3)
    return w


def mean(losses, weight):
    "The weighted mean over the batch of a loss for each sample (n, ...)."
    if weight is None: return losses.mean()
    w = torch.tensor(weight)
    return (losses.reshape(len(losses), -1).mean(1) * w).sum() / w.sum()


def regression(ours, theirs):
    def case(draw):
        shape = draw.shape()
        options = {"delta": draw(st.sampled_from([1e-3, 0.5, 1.0, 100.0]))} if ours is nn.huber else {}
        p, t, w = draw.array(shape, LOGITS), draw.array(shape, LOGITS), weights(draw, shape[0] if shape else 0)
        return lambda p, t: ours(p, t, w, **options), lambda p, t: mean(theirs(p, t, reduction="none", **options), w), [p, t]
    return case


def cross_entropy(draw):
    n, k = draw(st.integers(1, 5)), draw(st.integers(2, 5))
    z, w, s = draw.array((n, k), LOGITS), weights(draw, n), draw(st.sampled_from([0.0, 0.1, 0.9]))
    if draw(st.booleans()): z[draw(st.integers(0, n - 1))] = 0
    if draw(st.booleans()): target = draw(hnp.arrays(np.int64, n, elements=st.integers(0, k - 1)))
    else: target = draw(hnp.arrays(z.dtype, (n, k), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])))  # not only those that add up to 1
    return (lambda z: nn.cross_entropy(z, target, w, label_smoothing=s),
            lambda z: mean(F.cross_entropy(z, torch.tensor(target), reduction="none", label_smoothing=s), w), [z])


def binary_cross_entropy(draw):
    shape = draw.shape(dims=1)
    z, w = draw.array(shape, LOGITS), weights(draw, shape[0])
    target = draw(hnp.arrays(z.dtype, shape, elements=st.sampled_from([0.0, 0.25, 1.0])))
    return (lambda z: nn.binary_cross_entropy(z, target, w),
            lambda z: mean(F.binary_cross_entropy_with_logits(z, torch.tensor(target), reduction="none"), w), [z])


LOSSES = {nn.mse: regression(nn.mse, F.mse_loss), nn.mae: regression(nn.mae, F.l1_loss), nn.huber: regression(nn.huber, F.huber_loss),
          nn.cross_entropy: cross_entropy, nn.binary_cross_entropy: binary_cross_entropy}


@pytest.mark.parametrize("loss", LOSSES, ids=name)
def test_losses(loss, on_examples):
    "Batches of one and more, logits to 1e4 either way, rows of zeros, labels that never occur, weights of zero, probabilities, smoothing."
    def check(data):
        ours, theirs, arrays = LOSSES[loss](Draw(data))
        agree(ours, theirs, *arrays)
    on_examples(check, 0.15 / len(LOSSES), data=st.data())


def test_every_row_of_the_table_is_compared():
    own = {op for op in table if getattr(op, "__module__", "").partition(".")[0] in ("numpy", "nn_from_scratch", "_operator") or isinstance(op, np.ufunc)}
    left = [op for op in own if op not in {*OPERATIONS, *ACTIVATIONS, *LOSSES}]
    folder = Path(__file__).parent
    of_numpy = {"chain", *ALSO, *PAIRS}  # chain is compared wherever a network is
    rest = [op for op in left if name(op).rpartition(".")[2] not in of_numpy]
    layers = "".join((folder / f"test_{kind}_peers.py").read_text(encoding="utf-8") for kind in ("attention", "convolution", "layers", "recurrent"))
    in_layers = {"joint_heads": "MultiHeadAttention", "rnn_states": "RNN", "gru_states": "GRU", "lstm_states": "LSTM"}
    assert [name(op) for op in rest if in_layers.get(name(op), name(op)) not in layers] == []


# ---------------------------------------------------------------- networks

class Network(nn.Module):
    "Layers by a plan, a list of (kind, layer, activation): the layer alone, around it a skip that adds or one that joins, or the layer twice."

    def __init__(self, plan, widths, bias, rng, dtype):
        self._plan = plan
        self.layers = [nn.Linear(*w, bias=bias, init=nn.lecun_normal, rng=rng, dtype=dtype) for w in widths]
        for layer in self.layers:
            if bias: layer.bias[...] = rng.normal(size=layer.bias.shape)

    def __call__(self, x): return walk(self._plan, self.layers, x, lambda a, b: np.concatenate([a, b], axis=1), lambda f: f)


def walk(plan, layers, x, join, activation_of, seen=None):
    "The same walk for both libraries; `seen` collects the weighted sums."
    def step(x):
        z = layer(x)
        if seen is not None: seen.append(z)
        return activation(z)

    for kind, i, activation in plan:
        layer, activation = layers[i], activation_of(activation)
        y = step(x)
        x = x + y if kind == "add" else join(x, y) if kind == "join" else step(y) if kind == "twice" else y
    return x


def plans(draw):
    "A plan, and the (n_in, n_out) of the layers it names. Square layers may come back later."
    width = first = draw(st.integers(1, 6))
    plan, widths = [], []
    for _ in range(draw(st.integers(0, 5))):
        kind, activation = draw(st.sampled_from(["plain", "add", "join", "twice", "again"])), draw(st.sampled_from(list(ACTIVATIONS)))
        fitting = [i for i, w in enumerate(widths) if w == (width, width)]
        if kind == "again" and fitting: plan.append(("add", draw(st.sampled_from(fitting)), activation))
        else:
            n_out = draw(st.integers(1, 6)) if kind in ("plain", "join", "again") else width
            widths.append((width, n_out))
            plan.append((kind, len(widths) - 1, activation))
            width = width + n_out if kind == "join" else n_out
    widths.append((width, draw(st.integers(2, 5))))
    return [*plan, ("plain", len(widths) - 1, nn.identity)], widths, first


def twin(model):
    "The layers of a network in PyTorch, with the same parameters, in the same order."
    layers = []
    for ours in model.layers:
        theirs = torch.nn.Linear(*ours.weight.shape, bias=ours.bias is not None, dtype=THEIRS[ours.weight.dtype])
        theirs.weight.data[...] = torch.tensor(ours.weight.T.copy())
        if ours.bias is not None: theirs.bias.data[...] = torch.tensor(ours.bias)
        layers.append(theirs)
    return layers


def pairs(model, layers, grads=None):
    "(name, ours, theirs) for each parameter, or for each gradient."
    arrays = model.parameters() if grads is None else grads
    tensors = {f"layers.{i}.{key}": tensor for i, layer in enumerate(layers) for key, tensor in layer.named_parameters()}
    assert list(arrays) == list(tensors)
    return [(key, arrays[key].T, tensor.detach() if grads is None else tensor.grad) for key, tensor in tensors.items()]


def objective(draw, n, k, dtype):
    "A loss in both libraries, with a target for n samples and k outputs."
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    labels, numbers, yes = rng.integers(0, k, n), rng.normal(size=(n, k)).astype(dtype), rng.integers(0, 2, (n, k)).astype(dtype)
    return draw(st.sampled_from([
        (lambda z: nn.cross_entropy(z, labels), lambda z: F.cross_entropy(z, torch.tensor(labels))),
        (lambda z: nn.mse(z, numbers), lambda z: F.mse_loss(z, torch.tensor(numbers))),
        (lambda z: nn.huber(z, numbers), lambda z: F.huber_loss(z, torch.tensor(numbers))),
        (lambda z: nn.binary_cross_entropy(z, yes), lambda z: F.binary_cross_entropy_with_logits(z, torch.tensor(yes)))]))


def network_case(draw, scales=(1e-3, 1.0)):
    plan, widths, n_in = plans(draw)
    rng, n = np.random.default_rng(draw(st.integers(0, 2**32 - 1))), draw(st.integers(1, 5))
    model = Network(plan, widths, draw(st.booleans()), rng, draw.dtype)
    x = (rng.normal(size=(n, n_in)) * draw(st.sampled_from(scales))).astype(draw.dtype)
    if draw(st.booleans()): x[0] = 0
    return model, x, *objective(draw, n, widths[-1][1], draw.dtype)


def their_output(model, layers, x): return walk(model._plan, layers, torch.tensor(x), lambda a, b: torch.cat([a, b], 1), ACTIVATIONS.get)


def near_a_corner(model, x):
    "Whether a weighted sum is so near 0 that rounding decides on which side of relu's corner it lies."
    seen = []
    walk(model._plan, model.layers, x, lambda a, b: np.concatenate([a, b], axis=1), lambda f: f, seen)
    limit = 100 * np.finfo(x.dtype).eps * max(1, *(np.abs(z).max() for z in seen))
    return any(((z != 0) & (np.abs(z) < limit)).any() for z in seen)


def test_networks(on_examples):
    "Of any depth, widths and activations, with skips and shared layers: the loss and the gradient of every parameter and of x."
    def check(data):
        draw = Draw(data)
        model, x, loss, their_loss = network_case(draw, (1e-3, 1.0, 1e3) if draw.dtype == np.float64 else (1e-3, 1.0))
        assume(not near_a_corner(model, x))
        layers, tol = twin(model), TOL[x.dtype]
        value, grads = nn.value_and_grad(lambda model: loss(model(x)))(model)
        expected = their_loss(their_output(model, layers, x))
        expected.backward()
        close(value, expected, tol, tol, "loss")
        scale = max([1, *(float(g.abs().max()) for _, _, g in pairs(model, layers, grads))])
        for key, g, theirs in pairs(model, layers, grads): close(g, theirs, tol, tol * scale, key)
    on_examples(check, 0.16, data=st.data())


# ---------------------------------------------------------------- optimizers, clipping and schedules

DECAYS, MOMENTA, BELOW_1 = st.sampled_from([0.0, 0.01, 0.5]), st.sampled_from([0.0, 0.5, 0.9]), st.sampled_from([0.0, 0.5, 0.9, 0.999])
EPS = st.sampled_from([1e-10, 1e-8, 1e-3])
SETTINGS = {
    nn.SGD: st.fixed_dictionaries({"momentum": MOMENTA, "nesterov": st.booleans(), "weight_decay": DECAYS}).map(lambda o: o | {"nesterov": o["nesterov"] and o["momentum"] > 0}),
    nn.Adagrad: st.fixed_dictionaries({"weight_decay": DECAYS, "eps": EPS}),
    nn.RMSprop: st.fixed_dictionaries({"alpha": BELOW_1, "eps": EPS, "weight_decay": DECAYS, "momentum": MOMENTA}),
    nn.Adam: st.fixed_dictionaries({"betas": st.tuples(BELOW_1, BELOW_1), "eps": EPS, "weight_decay": DECAYS}),
    nn.AdamW: st.fixed_dictionaries({"betas": st.tuples(BELOW_1, BELOW_1), "eps": EPS, "weight_decay": DECAYS}),
}


@pytest.mark.parametrize("ours", SETTINGS, ids=name)
def test_optimizers(ours, on_examples):
    "Ten steps with any settings, with gradients large, small and 0."
    def check(data):
        draw = Draw(data)
        rng, shape, options, lr = np.random.default_rng(draw(st.integers(0, 2**32 - 1))), draw.shape(dims=1), draw(SETTINGS[ours]), draw(st.sampled_from([1e-3, 0.1]))
        theta = rng.normal(size=shape).astype(draw.dtype)
        tensor = torch.nn.Parameter(torch.tensor(theta))
        optimizer, theirs = ours(lr, **options), getattr(torch.optim, ours.__name__)([tensor], lr, **options)
        for scale in draw(st.lists(st.sampled_from([0.0, 1e-6, 1.0, 1e3]), min_size=10, max_size=10)):
            g = (scale * rng.normal(size=shape) * rng.integers(0, 2, shape)).astype(draw.dtype)
            optimizer.update(theta, g)
            tensor.grad = torch.tensor(g)
            theirs.step()
            close(theta, tensor, TOL[theta.dtype], TOL[theta.dtype], f"step {optimizer.steps}")
    on_examples(check, 0.08 / len(SETTINGS), data=st.data())


def test_clip_grad_norm(on_examples):
    def check(data):
        draw = Draw(data)
        rng, scale, limit = np.random.default_rng(draw(st.integers(0, 2**32 - 1))), draw(st.sampled_from([0.0, 1e-3, 1.0, 1e4])), draw(st.sampled_from([1e-3, 1.0, 5.0, 1e5]))
        grads = {str(i): (scale * rng.normal(size=draw.shape(dims=1))).astype(draw.dtype) for i in range(draw(st.integers(1, 3)))}
        tensors = [torch.nn.Parameter(torch.tensor(g)) for g in grads.values()]
        for tensor in tensors: tensor.grad = tensor.detach().clone()
        norm = torch.nn.utils.clip_grad_norm_(tensors, limit)
        assume(not limit - 2e-6 < float(norm) <= limit)
        tol = TOL[np.dtype(draw.dtype)]
        assert math.isclose(nn.clip_grad_norm(grads, limit), float(norm), rel_tol=tol)
        for g, tensor in zip(grads.values(), tensors): close(g, tensor.grad, tol, 0, "gradient")
    on_examples(check, 0.02, data=st.data())


def rates(their_schedule, lr, steps):
    "The first learning rates of a schedule of PyTorch's."
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr)
    schedule, found = their_schedule(optimizer), []
    for step in range(steps):
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        if step + 1 < steps: schedule.step()
    return found


LR, COUNT, FACTOR = st.floats(1e-5, 10), st.integers(1, 50), st.floats(0.01, 1)
torch_schedules = torch.optim.lr_scheduler


def step_decay(draw):
    lr, every, factor = draw(LR), draw(COUNT), draw(FACTOR)
    return nn.step_decay(lr, every, factor), rates(lambda o: torch_schedules.StepLR(o, every, factor), lr, 50)


def exponential_decay(draw):
    lr, factor = draw(LR), draw(FACTOR)
    return nn.exponential_decay(lr, factor), rates(lambda o: torch_schedules.ExponentialLR(o, factor), lr, 50)


def cosine_decay(draw):
    lr, steps, final = draw(LR), draw(COUNT), draw(st.sampled_from([0.0, 1e-6, 1e-3]))
    return nn.cosine_decay(lr, steps, final), rates(lambda o: torch_schedules.CosineAnnealingLR(o, steps, final), lr, steps + 1)


def one_cycle(draw):
    lr, steps, rise, div, final_div = draw(LR), draw(COUNT), draw(st.floats(0.01, 0.99)), draw(st.floats(1, 100)), draw(st.floats(1, 1e5))
    assume(abs(rise * steps - 1) > 1e-9)  # there PyTorch divides by zero
    return nn.one_cycle(lr, steps, rise, div, final_div), rates(lambda o: torch_schedules.OneCycleLR(
        o, lr, total_steps=steps, pct_start=rise, div_factor=div, final_div_factor=final_div, cycle_momentum=False), lr, steps)


def warmup(draw):
    then, after = draw(st.sampled_from([step_decay, exponential_decay, cosine_decay]))(draw)
    steps = draw(st.integers(2, 50))
    return nn.warmup(then, steps), rates(lambda o: torch_schedules.LinearLR(o, 1 / steps, total_iters=steps - 1), after[0], steps) + after


SCHEDULES = [step_decay, exponential_decay, cosine_decay, one_cycle, warmup]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
def test_schedules(schedule, on_examples):
    def check(data):
        ours, theirs = schedule(data.draw)
        np.testing.assert_allclose([ours(step) for step in range(len(theirs))], theirs, rtol=1e-9, atol=1e-15)
    on_examples(check, 0.07 / len(SCHEDULES), data=st.data())


def test_trainings(on_examples):
    "Any network, optimizer and schedule: after 200 steps, the same loss at every step and the same parameters at the end."
    def check(data):
        draw = Draw(data)
        draw.dtype = np.float64
        model, x, loss, their_loss = network_case(draw, (1.0,))
        kind = draw(st.sampled_from(list(SETTINGS)))
        options, lr = draw(SETTINGS[kind]), draw(st.sampled_from([1e-3, 0.02]))
        usual = {"eps": 1e-8, "alpha": 0.99, "betas": (0.9, 0.999)}  # a step without memory jumps with the sign of its gradient, and so with its last digit
        options |= {key: usual[key] for key in options if key in usual}
        layers = twin(model)
        optimizer = kind(nn.cosine_decay(lr, 200), **options)
        theirs = getattr(torch.optim, kind.__name__)([p for layer in layers for p in layer.parameters()], lr, **options)
        schedule = torch_schedules.CosineAnnealingLR(theirs, 200)
        step = nn.value_and_grad(lambda model: loss(model(x)))
        for i in range(200):
            value, grads = step(model)
            optimizer.update(model, grads)
            theirs.zero_grad()
            expected = their_loss(their_output(model, layers, x))
            expected.backward()
            theirs.step()
            schedule.step()
            close(value, expected, 1e-9, 1e-9, f"loss at step {i}")
        for key, array, tensor in pairs(model, layers): close(array, tensor, 1e-9, 1e-9, key)
    on_examples(check, 0.005, data=st.data())


# ---------------------------------------------------------------- different by design

def t(*numbers): return torch.tensor(numbers, dtype=torch.float64)


def their_slope(f, x):
    x = t(x).requires_grad_()
    f(x).sum().backward()
    return x.grad.item()


def softplus(): return F.softplus(t(30.0)).item() == 30 < nn.softplus(30.0) == torch.logaddexp(t(30.0), t(0.0)).item()


def gelu():
    x = t(0.5)
    return nn.gelu(0.5) != F.gelu(x).item() and math.isclose(nn.gelu(0.5), F.gelu(x, approximate="tanh").item())


def gelu_far_out(): return nn.grad(nn.gelu)(1e200) == 1 and nn.grad(nn.gelu)(-1e200) == 0 and math.isnan(their_slope(lambda x: F.gelu(x, approximate="tanh"), 1e200))


def weight_of_cross_entropy():
    z, labels, of_class = np.random.default_rng(0).normal(size=(5, 3)), np.array([0, 2, 1, 1, 0]), np.array([1.0, 2.0, 0.5])
    theirs = F.cross_entropy(torch.tensor(z), torch.tensor(labels), torch.tensor(of_class)).item()
    return math.isclose(nn.cross_entropy(z, labels, of_class[labels]), theirs) and not math.isclose(nn.cross_entropy(z, labels), theirs)


def shapes_of_mse():
    with pytest.warns(UserWarning, match="broadcasting"): F.mse_loss(torch.zeros(3, 1), torch.zeros(3))
    with pytest.raises(ValueError, match="same shape"): nn.mse(np.zeros((3, 1)), np.zeros(3))
    return True


def logits_of_binary_cross_entropy():
    return math.isclose(nn.binary_cross_entropy(np.array([0.3]), np.array([1.0])), F.binary_cross_entropy(torch.sigmoid(t(0.3)), t(1.0)).item())


def correction_of_std(): return np.std([1.0, 3.0]) == 1 and torch.std(t(1.0, 3.0)).item() == math.sqrt(2)


def ties_of_max():
    x = t(2.0, 2.0).requires_grad_()
    torch.max(x, 0).values.backward()
    return nn.grad(lambda x: np.max(x, axis=0))(np.array([2.0, 2.0])).tolist() == [0.5, 0.5] and sorted(x.grad.tolist()) == [0, 1]


def after_cosine_decay():
    theirs = rates(lambda o: torch_schedules.CosineAnnealingLR(o, 10), 0.1, 16)
    return nn.cosine_decay(0.1, 10)(15) == nn.cosine_decay(0.1, 10)(10) == 0 < theirs[15]


def after_one_cycle():
    schedule = nn.one_cycle(0.1, 10)
    with pytest.raises(ValueError, match="total"): rates(lambda o: torch_schedules.OneCycleLR(o, 0.1, total_steps=10, cycle_momentum=False), 0.1, 12)
    return schedule(20) == schedule(9)


def length_just_below_the_limit():
    g, tensor = np.array([3.0, 4.0]), torch.nn.Parameter(t(0.0, 0.0))
    tensor.grad = t(3.0, 4.0)
    nn.clip_grad_norm(g, 5.0)
    torch.nn.utils.clip_grad_norm_([tensor], 5.0)
    return g.tolist() == [3, 4] and 0 < 4 - tensor.grad[1].item() < 1e-6


def first_weights():
    spread = nn.Linear(100, 400, rng=0).weight.std()
    return math.isclose(spread, math.sqrt(2 / 100), rel_tol=0.05) and math.isclose(torch.nn.Linear(100, 400).weight.std().item(), math.sqrt(1 / 300), rel_tol=0.05)


def shape_of_a_weight(): return nn.Linear(3, 2).weight.shape == (3, 2) and torch.nn.Linear(3, 2).weight.shape == (2, 3)


DIFFERENCES = {
    softplus: "F.softplus returns x itself above a threshold of 20; here the logarithm is taken everywhere",
    gelu: "gelu here is the tanh form; F.gelu takes the error function unless told approximate='tanh'",
    gelu_far_out: "the gradient of PyTorch's gelu is NaN where x squared overflows; here it is 0 or 1",
    weight_of_cross_entropy: "a weight here belongs to a sample, in F.cross_entropy to a class: there weight, here weight[labels]",
    shapes_of_mse: "(n, 1) against (n,) is an error here; PyTorch warns, and compares all with all",
    logits_of_binary_cross_entropy: "binary_cross_entropy takes logits, as F.binary_cross_entropy_with_logits does; F.binary_cross_entropy takes probabilities",
    correction_of_std: "np.std divides by n, torch.std by n - 1 unless told correction=0; the same holds for var",
    ties_of_max: "the gradient of np.max is shared among ties, as by torch.amax; torch.max along an axis gives it to one of them",
    after_cosine_decay: "cosine_decay stays at its end; CosineAnnealingLR climbs again",
    after_one_cycle: "one_cycle stays at its end, and leaves the momentum alone; OneCycleLR raises an error after its last step, and moves the momentum unless told not to",
    length_just_below_the_limit: "clip_grad_norm leaves a gradient alone that is not longer than the limit; PyTorch shortens it if it is less than 1e-6 below",
    first_weights: "Linear begins with He et al.'s normal weights and a bias of 0; torch.nn.Linear with uniform numbers of variance 1/(3 n_in)",
    shape_of_a_weight: "a weight is (n_in, n_out), so that a layer reads x @ w + b; PyTorch stores (n_out, n_in)",
}


@pytest.mark.parametrize("difference", DIFFERENCES, ids=name)
def test_differences(difference):
    assert difference(), DIFFERENCES[difference]
