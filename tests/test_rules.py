"""The table of derivatives: every row has a check, every step of the package has a row, and a broken rule is noticed.

CHECKS has an entry for each operation of the table: calls (f, *arguments) in which that operation is used, each of which
passes `grad_check` in float64 at 1e-6. A row without an entry fails, and so does an entry without a row. COMPOSED is the same
for what is said in other words. All of it twice: as the chapters write it, and with the quicker forms.
"""

import contextlib
import importlib
import inspect
import operator
import pkgutil

import numpy as np
import pytest

import nn_from_scratch as nn
from nn_from_scratch.calls import composed, plain_functions
from nn_from_scratch.compiler.trace import drawn
from nn_from_scratch.fast import chain
from nn_from_scratch.fast_attention import joint_heads
from nn_from_scratch.fast_stages import stage
from nn_from_scratch.functions import cast
from nn_from_scratch.joining_rules import join
from nn_from_scratch.linalg_rules import contract, log_abs_det
from nn_from_scratch.matrix_rules import singular_values
from nn_from_scratch.recurrent import gru_states, lstm_states, rnn_states
from nn_from_scratch.rules import table
from nn_from_scratch.series_rules import sums_by_place, trapezoid

pytestmark = pytest.mark.usefixtures("pace")

rng = np.random.default_rng(0)
TOL = 1e-6


def normal(*shape): return rng.normal(size=shape)
def positive(*shape): return rng.uniform(0.3, 1.3, size=shape)


a, b, row, cube = normal(3, 4), normal(3, 4), normal(4), normal(2, 3, 4)
p, q, part = positive(3, 4), positive(3, 4), rng.uniform(-0.9, 0.9, (3, 4))
square, many = normal(3, 3) + 2 * np.eye(3), normal(2, 3, 3) + 2 * np.eye(3)
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
    np.arcsin: of_one(np.arcsin, part), np.arccos: of_one(np.arccos, part), np.arctanh: of_one(np.arctanh, part), np.arcsinh: of_one(np.arcsinh, a),
    np.arccosh: of_one(np.arccosh, p + 1), np.cbrt: [*of_one(np.cbrt), (np.cbrt, -p)], np.exp2: of_one(np.exp2, a), np.fabs: of_one(np.fabs, a),
    **{f: of_one(f, a) for f in (np.radians, np.deg2rad, np.degrees, np.rad2deg, np.conjugate, np.real)},
    np.float_power: of_two(np.float_power, p, b), np.fmax: of_two(np.fmax), np.fmin: of_two(np.fmin), np.logaddexp2: of_two(np.logaddexp2),
    np.hypot: of_two(np.hypot), np.arctan2: of_two(np.arctan2), np.remainder: [*of_two(np.remainder, a, q), (lambda x: x % 0.7, a)], np.fmod: of_two(np.fmod, a, q),
    np.nan_to_num: [(np.nan_to_num, a)], np.amax: reduction(np.amax), np.amin: reduction(np.amin),
    np.pad: [(lambda x, m=m: np.pad(x, 2, m), a) for m in ("constant", "edge", "reflect", "symmetric", "wrap")]
            + [(lambda x: np.pad(x, ((1, 0), (0, 3)), constant_values=7.0), a), (lambda x: np.pad(x, (1, 2)), row)],
    np.linalg.inv: [(np.linalg.inv, square), (np.linalg.inv, many)],
    np.linalg.det: [(np.linalg.det, square), (np.linalg.det, many), (np.linalg.det, np.diag([1.0, 2.0, 0.0])), (np.linalg.det, np.diag([1.0, 0, 0])),
                    (np.linalg.det, -square)],
    np.linalg.solve: products(np.linalg.solve, [((3, 3), (3,)), ((3, 3), (3, 2)), ((2, 3, 3), (2, 3, 2)), ((3, 3), (2, 3, 1))]),
    log_abs_det: [(lambda x: np.linalg.slogdet(x)[1], square), (lambda x: np.linalg.slogdet(x)[1], many), (lambda x: np.linalg.slogdet(-x)[1], square)],
    np.square: of_one(np.square, a), np.sqrt: of_one(np.sqrt), np.exp: of_one(np.exp, a), np.expm1: of_one(np.expm1, a), np.log: of_one(np.log),
    np.log1p: of_one(np.log1p), np.log2: of_one(np.log2), np.log10: of_one(np.log10), np.sin: of_one(np.sin, a), np.cos: of_one(np.cos, a),
    np.tan: of_one(np.tan), np.arctan: of_one(np.arctan, a), np.sinh: of_one(np.sinh, a), np.cosh: of_one(np.cosh, a), np.tanh: of_one(np.tanh, a),
    nn.identity: of_one(nn.identity, a), cast: [(lambda x: cast(x, np.float64), a)],

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
    contract: [(lambda x, y, s=s: np.einsum(s, x, y), normal(*left), normal(*right)) for s, left, right in [
        ("ij,jk->ik", (2, 3), (3, 4)), ("ij,j->i", (2, 3), (3,)), ("ij,ij->", (2, 3), (2, 3)), ("i,j->ji", (2,), (3,)), ("bij,bjk->bki", (2, 3, 4), (2, 4, 2)),
        ("ij,kl->i", (2, 3), (4, 2)), ("ij,jk", (2, 3), (3, 4)), ("ba,cb", (2, 3), (4, 2)), ("...ij,...jk->...ik", (2, 3, 4), (4, 2)), ("i...,i", (3, 2, 2), (3,)),
        ("ij...,jk...->ik...", (2, 3, 4), (3, 2, 4)), ("ii,i->i", (3, 3), (3,)), ("iij,jk->k", (2, 2, 3), (3, 4)), ("ij,ij->ij", (1, 3), (2, 3)), ("ij,ij->j", (1, 3), (2, 3)),
        ("ij,ij->", (2, 1), (2, 3)), ("ij , jk -> ik", (2, 3), (3, 4)), (",ij", (), (2, 3)), ("...,...", (2, 1, 3), (4, 3))]]
        + [(lambda x: np.einsum("ijk->ki", x), cube), (lambda x: np.einsum("ii", x), square), (lambda x: np.einsum("...ii->...", x), many), (lambda x: np.einsum("ijk", x), cube),
           (lambda x, y, z: np.einsum("ij,jk,kl->il", x, y, z), normal(2, 3), normal(3, 2), normal(2, 4)), (lambda x: np.einsum("ij,jk,kl", x, x, x, optimize=True), square),
           (lambda x, y: np.einsum(x, [0, 1], y, [1, 2], [0, 2]), normal(2, 3), normal(3, 4)), (lambda x, y: np.einsum(x, [..., 0], y, [0]), cube, row)],
    chain: [(lambda x, w, b, v, c, f=f, h=h: chain(x, w, b, f, v, c, h), a, normal(4, 5), normal(5), normal(5, 2), normal(2)) for f in (nn.tanh, nn.gelu, nn.sigmoid, None) for h in (None, nn.relu)]
           + [(lambda x, w, v: chain(x, w, None, nn.silu, v, None, nn.elu), a, normal(4, 3), normal(3, 2)), (lambda x, w: chain(x, w, w[0], nn.tanh, w, w[1], nn.softplus), a[:, :3], normal(3, 3)),
              (lambda x, w: chain(x, w, None, None), a[:1], normal(4, 1)), (lambda x, w: chain(x, w, None, nn.tanh), a[:, :1], normal(1, 1))],
    operator.getitem: [(lambda x, i=i: x[i], a) for i in (1, -1, (1, 2), (slice(None), slice(None, None, 2)), slice(None, None, -1), (..., None, 1), [0, 0, 2],
                                                           ([0, 0, 1], [1, 1, 2]), (slice(None), (0, 0, 1)), a > 0, [True, False, True], slice(0, 0))],
    np.take: [(lambda x: np.take(x, [[0, 7], [2, 2]]), a), (lambda x: x.take([0, 2, 2], axis=-1), a), (lambda x: np.take(x.T, [5, 5, 1]), a)],
    join: [(lambda x, y, k=k: np.concatenate([x, y, x], axis=k), a, b) for k in (0, -1, None)] + [(lambda x, y: np.stack([x, y], axis=1), a, b)],

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


pictures = normal(2, 5, 4, 2)
CHECKS |= {
    nn.conv2d: [(lambda x, w, b, o=o: nn.conv2d(x, w, b, **o), pictures, normal(2, 3, 2, 3), normal(3)) for o in (
        {}, {"stride": 2, "padding": 1}, {"padding": "same"}, {"dilation": (2, 1)})]
    + [(lambda x, w: nn.conv2d(x, w, groups=2), pictures, normal(2, 2, 1, 4))],
    nn.conv_transpose2d: [(lambda x, w, b, o=o: nn.conv_transpose2d(x, w, b, **o), pictures, normal(2, 3, 3, 2), normal(3)) for o in (
        {}, {"stride": 2, "padding": 1, "output_padding": 1})],
    stage: [(lambda x, w, b, p=p: stage(x, w, b, p), pictures, normal(2, 3, 2, 3), normal(3)) for p in (0, 1, "same")]
    + [(lambda x, w: stage(x, w), pictures, normal(2, 2, 2, 4))],
    nn.max_pool2d: [(lambda x, o=o: nn.max_pool2d(x, *o), pictures) for o in ((), ((2, 3), 1), (3, 2))],
    nn.avg_pool2d: [(lambda x, o=o: nn.avg_pool2d(x, *o), pictures) for o in ((), ((2, 3), 1), (3, 2))],
}
CHECKS |= {  # sequences
    nn.batch_norm: [(nn.batch_norm, x, normal(3), normal(3)) for x in (normal(5, 3), normal(2, 2, 3))],
    nn.layer_norm: [(nn.layer_norm, x, normal(3), normal(3)) for x in (normal(5, 3), normal(2, 2, 3), normal(3))],
    nn.rms_norm: [(nn.rms_norm, x, normal(3)) for x in (normal(5, 3), normal(2, 2, 3), normal(3))],
    nn.attention: [(lambda q, k, v, c=causal: nn.attention(q, k, v, c), normal(2, 3, 4), normal(2, 5, 4), normal(2, 5, 2)) for causal in (False, True)],
    nn.rotary: [(nn.rotary, normal(2, 3, 4)), (lambda x: nn.rotary(x, 5, 100.0), normal(3, 6))],
    joint_heads: [(lambda h, c=c, r=r: joint_heads(h, 2, c, r), normal(2, 3, 12)) for c in (False, True) for r in (False, True)],
    nn.embedding: [(lambda table, i=i: nn.embedding(np.array(i, int), table), a) for i in (1, [0, 2, 2, 0], [[2, 1], [2, 2]], [])],
    rnn_states: [(rnn_states, normal(n, t, 3), normal(3, 3), normal(n, 3)) for n, t in ((2, 4), (1, 1))],
    gru_states: [(gru_states, normal(n, t, 9), normal(3, 9), normal(3), normal(n, 3)) for n, t in ((2, 4), (1, 1))],
    lstm_states: [(lstm_states, normal(n, t, 12), normal(3, 12), normal(n, 3), normal(n, 3)) for n, t in ((2, 4), (1, 1))],
}


def moves(name, *calls): return [(lambda x, c=c: c(getattr(np, name), x), x) for c, x in calls]


def all_of(parts): return np.concatenate([np.ravel(part) for part in parts])


COMPOSED = {
    np.average: [(np.average, a), (lambda x: np.average(x, axis=1, weights=q), a), (lambda x, w: np.average(x, 0, w), a, positive(3)), (lambda x: np.average(x, -1, keepdims=True), a),
                 (lambda x: np.average(x, 1, row + 9, True)[0], a)],
    np.median: [(np.median, a), (lambda x: np.median(x, axis=0), a), (lambda x: np.median(x, 1, keepdims=True), a), (np.median, row[:3]), (lambda x: np.median(x, 2), cube)],
    np.ptp: [(np.ptp, a), (lambda x: np.ptp(x, 1), a)], np.nansum: [(np.nansum, a), (lambda x: np.nansum(np.where(a > 0, x, np.nan), axis=0), a)],
    np.nanmean: [(lambda x: np.nanmean(np.where(a > -9, x, np.nan), axis=1, keepdims=True), a)], np.full_like: [(lambda x: np.full_like(x, x[0] * 2), a)], np.copyto: [],
    np.repeat: moves("repeat", (lambda f, x: f(x, 2), a), (lambda f, x: f(x, [1, 0, 3], axis=0), a), (lambda f, x: x.repeat(2, axis=1), a)), np.tile: moves("tile", (lambda f, x: f(x, (2, 1, 3)), a)),
    np.roll: moves("roll", (lambda f, x: f(x, 3), a), (lambda f, x: f(x, (1, -1), (0, 1)), a)), np.rot90: moves("rot90", (lambda f, x: f(x), a), (lambda f, x: f(x, 3), a)),
    np.flipud: moves("flipud", (lambda f, x: f(x), a)), np.fliplr: moves("fliplr", (lambda f, x: f(x), a)), np.rollaxis: moves("rollaxis", (lambda f, x: f(x, 2), cube)),
    np.diagonal: moves("diagonal", (lambda f, x: f(x, 1), a), (lambda f, x: f(x, 0, 1, 2), cube), (lambda f, x: x.diagonal(), a)), np.delete: moves("delete", (lambda f, x: f(x, 1, axis=1), a)),
    np.resize: moves("resize", (lambda f, x: f(x, (2, 9)), a)), np.split: moves("split", (lambda f, x: all_of(f(x, 2, axis=1)[::-1]), a), (lambda f, x: all_of(f(x, [1, 2])), a)),
    np.array_split: moves("array_split", (lambda f, x: all_of(f(x, 3, axis=1)[::-1]), a)), np.hsplit: moves("hsplit", (lambda f, x: f(x, 2)[1], a)), np.vsplit: moves("vsplit", (lambda f, x: f(x, 3)[1], a)),
    np.dsplit: moves("dsplit", (lambda f, x: f(x, 2)[1], cube)), np.atleast_1d: moves("atleast_1d", (lambda f, x: f(x), 2.0), (lambda f, x: f(1.0, x)[1], row)),
    np.atleast_2d: moves("atleast_2d", (lambda f, x: f(x), row)), np.atleast_3d: moves("atleast_3d", (lambda f, x: f(x), a)),
    np.sort: moves("sort", (lambda f, x: f(x), a), (lambda f, x: f(x, 0), a), (lambda f, x: f(x, axis=None), a)),
    np.take_along_axis: [(lambda x: np.take_along_axis(x, np.array([[0, 0, 3], [1, 1, 1], [2, 0, 2]]), 1), a), (lambda x: np.take_along_axis(x, np.array([[0, 2, 2, 1]]), axis=0), a),
                         (lambda x: np.take_along_axis(x, np.array([5, 5, 1]), None), a)],
    np.tril: moves("tril", (lambda f, x: f(x), a), (lambda f, x: f(x, 1), cube)), np.triu: moves("triu", (lambda f, x: f(x), a), (lambda f, x: f(x, -1), cube)),
    np.diag: moves("diag", (lambda f, x: f(x), row), (lambda f, x: f(x, -1), row), (lambda f, x: f(x, k=1), a)), np.trace: moves("trace", (lambda f, x: f(x), a), (lambda f, x: f(x, 1, 1, 2), cube), (lambda f, x: x.trace(), a)),
    np.select: [(lambda x, y: np.select([a > 1, a > 0], [x, y * x], 7.0), a, b), (lambda x: np.select([a > 0], [x], x.sum()), a)],
    np.concatenate: [(lambda x: np.concatenate([x, x * x], 1), a)], np.stack: [(lambda x, y: np.stack([x, y, x], -1), a, b)], np.vstack: [(lambda x, y: np.vstack([x, y[0]]), a, b)],
    np.hstack: [(lambda x, y: np.hstack([x, y]), a, b), (lambda x: np.hstack([x, 2 * x]), row)], np.dstack: [(lambda x, y: np.dstack((x, y)), a, b)],
    np.column_stack: [(lambda x, y: np.column_stack([x, y]), a, normal(3))], np.append: [(np.append, a, b), (lambda x, y: np.append(x, y, axis=1), a, b)],
    np.diff: [(np.diff, a), (lambda x: np.diff(x, 2), a), (lambda x: np.diff(x, axis=0), a), (lambda x: np.diff(x, prepend=0.0), a), (lambda x, y: np.diff(x, 1, -1, y[:, :1], 2.0), a, b)],
    np.broadcast_arrays: [(lambda x, y: np.broadcast_arrays(x, y)[0] * np.broadcast_arrays(x, y)[1], a, row)], np.einsum: [],
    np.tensordot: [(lambda x, y, k=k: np.tensordot(x, y, k), normal(2, 3, 4), normal(*right)) for k, right in [(1, (4, 2)), (2, (3, 4, 2)), (([1, 2], [1, 0]), (4, 3)), ((0, 1), (3, 2)), (0, (2,))]],
    np.inner: products(np.inner, [((3,), (3,)), ((2, 3), (3,)), ((2, 3), (4, 3)), ((), (3,)), ((2, 2, 3), (4, 3))]), np.vdot: products(np.vdot, [((3,), (3,)), ((2, 3), (2, 3))]),
    np.kron: products(np.kron, [((2,), (3,)), ((2, 3), (3, 2)), ((2,), (2, 3)), ((2, 2, 2), (2, 2))]), np.cross: products(np.cross, [((3,), (3,)), ((4, 3), (3,)), ((2, 4, 3), (4, 3))]),
    np.linalg.multi_dot: [(lambda x, y, z: np.linalg.multi_dot([x, y, z]), normal(2, 3), normal(3, 2), normal(2, 4))], np.linalg.slogdet: [],
}


symmetric = square @ square.T


def old_or_new(*names):
    "The functions of NumPy that it has under these names."
    return {f for n in names if (f := getattr(np.linalg if n.startswith("linalg.") else np, n.rpartition(".")[2], None))}


CHECKS |= {
    np.copysign: of_two(np.copysign), np.heaviside: [*of_two(np.heaviside), (lambda h: np.heaviside(0.0, h), row)], np.sinc: [*of_one(np.sinc, a), (np.sinc, 0.0)],
    np.cumprod: [(np.cumprod, a), (lambda x: x.cumprod(axis=0), a), (lambda x: np.cumprod(x, axis=1), np.round(cube)), (np.cumprod, 2.0), (np.cumprod, a[:0])],
    singular_values: [(lambda x: np.linalg.svd(x, compute_uv=False), a), (lambda x: np.linalg.svd(x, compute_uv=False), many)],
    np.linalg.cholesky: [(np.linalg.cholesky, symmetric), (np.linalg.cholesky, many @ np.swapaxes(many, -1, -2))],
    np.linalg.eigvalsh: [(np.linalg.eigvalsh, symmetric), (np.linalg.eigvalsh, many), (lambda x: np.linalg.eigvalsh(x, "U"), square)],
    sums_by_place: [(lambda w: np.bincount([0, 2, 0, 1], w), row), (lambda w: np.bincount([1, 1, 1, 1], w, 5), row)],
}
COMPOSED |= {
    np.divmod: [(lambda x: all_of(np.divmod(x, 0.3)), a), (lambda x: divmod(x, 0.3)[1], a), (lambda x: divmod(3.0, x)[1], p)], np.modf: [(lambda x: all_of(np.modf(x)), a)],
    np.ldexp: [(lambda x: np.ldexp(x, 3), a)], np.unwrap: [(lambda x: np.unwrap(9 * x), a)], np.real_if_close: [(np.real_if_close, a)],
    np.diagflat: [(np.diagflat, a), (lambda x: np.diagflat(x, 1), row)], np.partition: [(lambda x: np.partition(x, 2), a), (lambda x: np.partition(x, 2, axis=0), a)],
    np.compress: [(lambda x: np.compress([True, False, True], x, axis=0), a), (lambda x: x.compress([1, 0, 1]), row)], np.extract: [(lambda x: np.extract(a > 0, x), a)],
    np.choose: [(lambda x, y: np.choose(np.array([0, 1, 1, 0]), [x, y]), row, row * 2)], np.ediff1d: [(np.ediff1d, a), (lambda x: np.ediff1d(x, 1.0, [2.0, 3.0]), row)],
    np.insert: [(lambda x: np.insert(x, 1, 7.0), row), (lambda x: np.insert(x, [1, 3], 7.0, axis=1), a), (lambda x, y: np.insert(x, 1, y, axis=0), a, row), (lambda x, y: np.insert(x, [0, 2], y[:2], axis=0), a, b),
                (lambda x, y: np.insert(x, -1, y, axis=1), a, normal(3)), (lambda x: np.insert(x, slice(0, 2), x[:2]), row)],
    np.block: [(lambda x, y: np.block([[x, y], [y, x * 2]]), a, b), (lambda x: np.block([x, 1.0, x]), row), (lambda x, y: np.block([[x], [y]]), a, row), (np.block, a)],
    np.meshgrid: [(lambda x, y: all_of(np.meshgrid(x, y)), row, normal(3)), (lambda x, y: all_of(np.meshgrid(x, y, indexing="ij", sparse=True)), row, normal(3))],
    **{f: [(f, a), (lambda x, f=f: f(np.where(a > 0, x, np.nan), axis=1), np.abs(a)), (lambda x, f=f: f(x, axis=(0, 2), keepdims=True), cube)]
       for f in (np.nansum, np.nanmean, np.nanprod, np.nanvar, np.nanstd, np.nanmax, np.nanmin, np.nanmedian)},
    **{f: [(f, a), (lambda x, f=f: f(np.where(a > 0, x, np.nan), axis=1), np.abs(a))] for f in (np.nancumsum, np.nancumprod)},
    **{f: [(lambda x, f=f, m=m: f(x, 0.3, axis=1, method=m), a) for m in ("linear", "lower", "higher", "nearest", "midpoint")] for f in (np.quantile, np.nanquantile)},
    **{f: [(lambda x, f=f: f(x, 75), a), (lambda x, f=f: f(x, [10.0, 50], axis=(0, 2), keepdims=True), cube)] for f in (np.percentile, np.nanpercentile)},
    np.linalg.svd: [], np.linalg.matrix_power: [(lambda x, n=n: np.linalg.matrix_power(x, n), square) for n in (1, 3, -2)],
    np.interp: [(lambda x: np.interp(x, [-1.0, 0, 1], [2.0, 5, 3]), a), (lambda x: np.interp(a, [-1.0, 0, 1], x), normal(3)), (lambda x: np.interp([0.3, 1.7], x, [1.0, 5, 2]), np.array([0.0, 1, 2]))],
    np.linspace: [(lambda x, y: np.linspace(x, y, 5), 1.0, 3.0), (lambda x: np.linspace(x, 1.0, 4, endpoint=False, axis=1), row)], np.logspace: [(lambda x: np.logspace(x, 1.0, 4), 0.3)],
    **{f: [(lambda x, y, f=f, m=m: f(x, y, m), normal(n), normal(k)) for m in ("full", "same", "valid") for n, k in ((5, 3), (3, 5), (4, 2), (1, 4))] for f in (np.convolve, np.correlate)},
    trapezoid: [(trapezoid, a), (lambda x: trapezoid(x, dx=0.5, axis=0), a), (lambda x, t: trapezoid(x, t), a, row)],
    np.gradient: [(np.gradient, row), (lambda x: np.gradient(x, 0.5, axis=1), a), (lambda x: all_of(np.gradient(x)), a)], np.polyval: [(lambda c, x: np.polyval(c, x), row, 0.7)],
    np.cov: [(np.cov, a), (lambda x: np.cov(x, rowvar=False, bias=True), a), (lambda x, y: np.cov(x, y), row, row**2)], np.corrcoef: [(np.corrcoef, a)],
    np.bincount: [(lambda w: np.bincount([0, 2, 0, 1], w), row)],
}
for found, calls in (  # what NumPy 2 brought
        (old_or_new("unstack"), lambda f: [(lambda x: f(x, axis=1)[2] * 2, a)]), (old_or_new("matrix_transpose", "linalg.matrix_transpose"), lambda f: [(f, cube)]),
        (old_or_new("cumulative_sum", "cumulative_prod"), lambda f: [(f, row), (lambda x: f(x, axis=1, include_initial=True), a)]),
        (old_or_new("vecdot", "linalg.vecdot"), lambda f: products(f, [((3,), (3,)), ((2, 3), (3,))]) + [(lambda x: f(x, x, axis=0), a)]),
        (old_or_new("matvec"), lambda f: products(f, [((2, 3), (3,)), ((4, 2, 3), (4, 3))])), (old_or_new("vecmat"), lambda f: products(f, [((3,), (3, 2))])),
        (old_or_new("linalg.matmul"), lambda f: products(f, [((2, 3), (3, 2))])), (old_or_new("linalg.outer"), lambda f: products(f, [((2,), (3,))])),
        (old_or_new("linalg.tensordot"), lambda f: products(f, [((2, 3, 4), (3, 4))])), (old_or_new("linalg.cross"), lambda f: products(f, [((2, 3), (3,))])),
        (old_or_new("linalg.diagonal", "linalg.trace"), lambda f: [(f, cube), (lambda x: f(x, offset=1), a)]), (old_or_new("linalg.svdvals"), lambda f: [(f, a)]),
        (old_or_new("linalg.vector_norm"), lambda f: [(lambda x, o=o, k=k: f(x, ord=o, axis=k, keepdims=True), cube) for o in (1, 2, 3, np.inf) for k in (None, 1, (0, 2))]),
        (old_or_new("linalg.matrix_norm"), lambda f: [(lambda x, o=o: f(x, ord=o), cube) for o in ("fro", "nuc", 1, 2, -2, np.inf, -np.inf)]),
        (old_or_new("astype"), lambda f: [(lambda x: f(x, x.dtype), a)])):
    COMPOSED |= {f: calls(f) for f in found if not isinstance(f, np.ufunc) or f in composed}
METHODS = {
    **{u.reduce: [(u.reduce, a), (lambda x, u=u: u.reduce(x, axis=1, keepdims=True), cube), (lambda x, u=u: u.reduce(x, axis=None, initial=0.5, where=a > 0), a)] for u in (np.add, np.multiply, np.maximum, np.minimum, np.logaddexp)},
    **{u.reduce: [(u.reduce, a)] for u in (np.fmax, np.fmin)}, np.logaddexp.reduce: [(np.logaddexp.reduce, a), (lambda x: np.logaddexp.reduce(1000 * x, axis=1, keepdims=True), a)],
    **{u.accumulate: [(u.accumulate, a), (lambda x, u=u: u.accumulate(x, axis=1), cube)] for u in (np.add, np.multiply, np.maximum, np.minimum)},
    **{u.outer: [(u.outer, p, row**2 + 1)] for u in table if isinstance(u, np.ufunc) and u.nin == 2 and u.signature is None},
    **{getattr(u, m): [] for u in plain_functions if isinstance(u, np.ufunc) and u.nin == 2 for m in ("reduce", "accumulate", "outer")},
}
COMPOSED |= METHODS


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
    assert {"functions", "losses", "numpy_rules"} <= {module.__name__.rpartition(".")[2] for module in modules}
    steps = {step for module in modules for step in vars(module).values() if inspect.isfunction(step) and hasattr(step, "plain")}
    assert len(steps) > 15
    assert [name(step) for step in steps if step not in table and step not in drawn] == [], "add a row with defvjp"


def test_the_promised_operations_have_a_row():
    promised = """add subtract multiply true_divide power matmul negative exp log log1p expm1 sqrt square abs tanh sin cos maximum minimum logaddexp where clip
                  sum mean max min var std prod reshape ravel transpose swapaxes squeeze expand_dims broadcast_to dot outer take""".split()
    assert [f for f in promised if getattr(np, f) not in table] == [] and np.linalg.norm in table and operator.getitem in table
    assert {np.concatenate, np.stack} <= set(composed)


@each_row
def test_the_rules_name_their_options_as_numpy_does(op):
    "An option goes to a rule by its name in NumPy: one that is called otherwise there would never arrive."
    if isinstance(op, np.ufunc) or callable(table[op]) or op is operator.getitem: return
    if np.__version__ < "2" and (op.__module__ or "").startswith("numpy"): pytest.skip("the names are those of NumPy 2")
    known = inspect.signature(getattr(op, "plain", op)).parameters
    by_position = len(table[op])
    for rule in filter(None, table[op]):
        options = list(inspect.signature(rule).parameters.values())[2 + by_position:]
        others = {"newshape", "constant_values"}  # of another version of NumPy; among the further options of np.pad
        assert [p.name for p in options if p.kind is not p.VAR_POSITIONAL and p.name not in known and p.name not in others] == []


def test_everything_in_other_words_has_a_check():
    assert [f.__name__ for f in composed if f not in COMPOSED] == [] and [f.__name__ for f in COMPOSED if f not in composed] == []
    assert not set(composed) & set(table) and not set(composed) & plain_functions and not set(table) & plain_functions


@pytest.mark.parametrize("function", list(COMPOSED), ids=lambda f: f"{getattr(f, '__self__', f).__name__ if f in METHODS else ''}.{f.__name__}")
def test_what_is_said_in_other_words(function):
    "The value is NumPy's, the gradient that of finite differences, and float32 stays float32."
    for f, *args in COMPOSED[function]:
        assert nn.grad_check(f, *args, tol=TOL) <= TOL
        single = [np.asarray(x, np.float32) for x in args]
        seen = []
        nn.grad(lambda x: seen.append(f(x, *single[1:])) or np.sum(seen[0]))(single[0])  # noqa: B023
        plain = np.asarray(f(*single))
        np.testing.assert_allclose(seen[0].value, plain, rtol=1e-5, atol=1e-6)
        assert seen[0].shape == plain.shape


# ---------------------------------------------------------------- right

@each_row
def test_a_rule_passes_grad_check(op):
    assert worst(op) <= TOL


FLAT = {(np.copysign, 1), (np.heaviside, 0)}  # a percent of 0 is nothing


def off(rule): return lambda g, y, *args, **kwargs: 1.01 * rule(g, y, *args, **kwargs)


def off_together(together, position):
    def run(*args, **kwargs):
        y, back = together(*args, **kwargs)
        return y, lambda g, homes: {p: new if p != position else 1.01 * new for p, new in back(g, homes).items()}
    return run


def positions(op):
    "For which arguments the joint rule of `op` is asked in its checks."
    asked, together = set(), table[op]
    def run(*args, **kwargs):
        y, back = together(*args, **kwargs)
        return y, lambda g, homes: asked.update(homes) or back(g, homes)
    with row_of(op, run): worst(op)
    return sorted(asked)


@each_row
def test_a_broken_rule_is_noticed(op):
    "The checks of a row really test it: a rule that is one percent off fails, each argument's by itself."
    rules = table[op]
    if isinstance(rules, tuple):
        broken = [(*rules[:i], off(rule) if (op, i) not in FLAT else lambda g, y, *args: g, *rules[i + 1:]) for i, rule in enumerate(rules) if rule is not None]
    else:
        broken = [off_together(rules, position) for position in positions(op)]
        assert broken
    for row in broken:
        with row_of(op, row), pytest.raises(AssertionError, match="grad_check"): worst(op)


@each_row
def test_a_missing_rule_is_noticed(op):
    rules = table.pop(op)
    try:
        with pytest.raises(TypeError, match="has no rule for its derivative"): worst(op)
    finally: table[op] = rules


@contextlib.contextmanager
def untouched(*values):
    held = [v for v in values if isinstance(v, np.ndarray)]
    before = [v.copy() for v in held]
    yield
    assert all(np.array_equal(v, w, equal_nan=v.dtype.kind == "f") for v, w in zip(held, before, strict=True))


@each_row
def test_a_rule_leaves_its_gradient_and_arguments_alone(op):
    "Addition hands one g to both of its inputs: who writes into it changes the other's."
    def watched(rule):
        def run(g, y, *args, **kwargs):
            with untouched(g, y, *args): return rule(g, y, *args, **kwargs)
        return run

    def watched_together(*args, **kwargs):
        with untouched(*args): y, back = rules(*args, **kwargs)
        def run(g, homes):
            with untouched(g, y, *args): return back(g, homes)
        return y, run

    rules = table[op]
    with row_of(op, tuple(rule and watched(rule) for rule in rules) if isinstance(rules, tuple) else watched_together): worst(op)


@each_row
def test_float32_stays_float32(op):
    "The value, and the gradient for each argument."
    for f, *args in CHECKS[op]:
        if op in (cast, np.float_power, sums_by_place): continue  # which is of float64
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
