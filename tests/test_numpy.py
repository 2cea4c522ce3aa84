"""NumPy as people write it, on Tensors: right, or refused in a sentence; never a gradient that is wrong, or other words."""

import inspect
import operator

import numpy as np
import pytest

import nn_from_scratch as nn
from nn_from_scratch import calls

pytestmark = pytest.mark.usefixtures("pace")
rng = np.random.default_rng(0)
A, B, ROW, CUBE = rng.normal(size=(3, 4)), rng.normal(size=(3, 4)), rng.normal(size=4), rng.normal(size=(2, 3, 4))


def scalar(f):
    "A number made of what f returns, whatever its shape."
    def g(x):
        y = f(x)
        return np.sum(y * np.cos(np.arange(np.size(y))).reshape(np.shape(y)))
    return g


def right(f, x, tol=1e-6):
    np.testing.assert_allclose(nn.grad(scalar(f))(x), nn.numeric_grad(scalar(f), x), atol=tol, rtol=tol)


OPTIONS = {  # by position, as NumPy allows them, and by name
    "reshape F": (lambda x: np.reshape(x, (4, 3), "F"), A), "reshape order": (lambda x: np.reshape(x, (4, 3), order="F"), A), "reshape C": (lambda x: np.reshape(x, (4, 3), "C"), A),
    "sum all": (lambda x: np.sum(x, 0, None, None, True), A), "sum None": (lambda x: np.sum(x, None, None), A), "mean": (lambda x: np.mean(x, 1, None, None, True), A),
    "max keepdims": (lambda x: np.max(x, 1, None, True), A), "var": (lambda x: np.var(x, 0, None, None, 1), A), "std": (lambda x: np.std(x, 1, None, None, 1, True), A),
    "prod": (lambda x: np.prod(x, 0, None, None, True), A), "ravel F": (lambda x: np.ravel(x, "F"), A), "cumsum": (lambda x: np.cumsum(x, 1, None), A),
    "take": (lambda x: np.take(x, [0, 2], 1, None), A), "norm": (lambda x: np.linalg.norm(x, None, 1, True), A), "clip": (lambda x: np.clip(x, -0.5, 0.5), A),
    "copy": (lambda x: np.copy(x, "K"), A), "sum a=": (lambda x: np.sum(a=x, axis=1), A), "transpose": (lambda x: np.transpose(x, (1, 0)), A), "concatenate": (lambda x: np.concatenate((x, x), 1), A),
    "squeeze": (lambda x: np.squeeze(x[:1], 0), A), "roll": (lambda x: np.roll(x, 1, 0), A), "repeat": (lambda x: np.repeat(x, 2, 0), A), "diff": (lambda x: np.diff(x, 1, 0), A),
    "trace": (lambda x: np.trace(x, 1, 0, 1), A), "tril": (lambda x: np.tril(x, -1), A), "sort": (lambda x: np.sort(x, 0, "stable"), A), "round": (lambda x: x * np.round(x, 1), A),
    "average": (lambda x: np.average(x, 0, np.array([1.0, 2, 3])), A), "tensordot": (lambda x: np.tensordot(x, B, ([0, 1], [0, 1])), A), "pad": (lambda x: np.pad(x, 1, "constant", constant_values=2.0), A),
    "einsum": (lambda x: np.einsum("ij,kj->ik", x, B, optimize="greedy"), A), "flip": (lambda x: np.flip(x, (0, 1)), A), "expand_dims": (lambda x: np.expand_dims(x, (0, 2)), A),
    "stack": (lambda x: np.stack([x, x], 1), A), "split": (lambda x: np.split(x, 2, 1)[1], A), "mod": (lambda x: x % 0.3, A), "rmod": (lambda x: 3.0 % (x * x + 1), A), "floordiv": (lambda x: x * (x // 0.3), A),
    "mT": (lambda x: x.mT @ B, A), "append": (lambda x: np.append(x, [[1.0] * 4], 0), A), "in place of a number": (lambda x: np.where(A > 0, x, 0.0), A), "swap": (lambda x: np.moveaxis(x, 0, 1), A),
    "0-d sum": (lambda x: np.sum(x, axis=0), np.array(2.0)), "0-d max": (lambda x: np.max(x, axis=-1), np.array(2.0)), "0-d prod": (lambda x: np.prod(x, axis=0) * 3, np.array(2.0)),
    "0-d cumsum": (lambda x: np.cumsum(x, axis=0), np.array(2.0)), "0-d ravel": (np.ravel, np.array(2.0)), "0-d stack": (lambda x: np.stack([x, x * x]), np.array(2.0)),
    "0-d hstack": (lambda x: np.hstack([x, 2 * x]), np.array(2.0)), "0-d atleast": (np.atleast_2d, np.array(2.0)), "0-d repeat": (lambda x: np.repeat(x, 3), np.array(2.0)), "0-d sort": (lambda x: np.sort(x, axis=None), np.array(2.0)),
    "sum where": (lambda x: np.sum(x, 1, where=A > 0), A), "sum dtype": (lambda x: np.sum(x, 1, np.float64), A), "max initial": (lambda x: np.max(x, 1, initial=0.3), A), "prod all": (lambda x: np.prod(x, 0, None, None, True, 2.0, A > 0), A), "mean where": (lambda x: x.mean(0, where=B > -1), A),
    "norm 1": (lambda x: np.linalg.norm(x, 1), A), "norm inf": (lambda x: np.linalg.norm(x, np.inf, 1), A), "norm nuc": (lambda x: np.linalg.norm(x, "nuc"), A), "norm 3": (lambda x: np.linalg.norm(x, ord=3, axis=0, keepdims=True), A),
    "reduce": (np.add.reduce, A), "sum method": (lambda x: x.sum(0, None, None, True), A), "var correction": (lambda x: np.var(x, 0, ddof=1, where=B > -1), A), "reshape method": (lambda x: x.reshape(4, 3, order="F"), A), "ravel F method": (lambda x: x.ravel("F"), A), "flatten F": (lambda x: x.flatten("F"), A),
    "built-in round": (lambda x: round(x[0, 0]) * x[0], A), "lists in arctan2": (lambda x: np.arctan2(x[0], [1.0, 2, 3, 4]), A), "take of bools": (lambda x: np.take(x[0], [True, False, True]), A), "take of a tuple": (lambda x: np.take(x, (0, 5)), A), "transpose a row": (lambda x: np.transpose(x[0], 0), A),
    "diff 0": (lambda x: np.diff(x, 0, prepend=0.0), A), "columns of cubes": (lambda x: np.column_stack([x, x * 2]), CUBE), "array by name": (lambda x: np.roll(a=x, shift=1), A), "median of a list of axes": (lambda x: np.median(x, [0, 1]), A), "bincount": (lambda x: np.bincount([0, 1, 1, 3], weights=x[0]), A),
    "order A": (lambda x: np.reshape(x, (4, 3), "A"), A), "order K, turned": (lambda x: np.ravel(x.T, "K"), A), "take, clipped": (lambda x: np.take(x, [9, -2, 30], mode="clip"), A), "take, wrapped": (lambda x: x.take([9, -2, 3], 1, mode="wrap"), A), "interp of lists": (lambda x: np.interp([0.3, 5.0], [0, 1, 2, 3], x[0]), A),
    "trace, float32": (lambda x: np.trace(x, 0, 0, 1, np.float64), A), "clip min=": (lambda x: x.clip(min=0.1), A),
    "no axis": (lambda x: np.sum(x, axis=()), A), "real": (lambda x: np.real(x), A), "conj": (lambda x: np.conj(x), A),
}


@pytest.mark.parametrize("what", OPTIONS)
def test_options_as_numpy_allows_them(what):
    if what == "mT" and not hasattr(A, "mT"): pytest.skip("NumPy 1 has no mT")
    right(*OPTIONS[what])


REFUSED = {  # what -> (the call, words of the sentence)
    "ufunc dtype": (lambda x: np.add(x, x, dtype=np.float32), "does not know the option 'dtype'"), "ufunc where": (lambda x: np.add(x, x, where=A > 0), "'where'"),
    "order Z": (lambda x: np.reshape(x, (4, 3), "Z"), "order"), "order K": (lambda x: np.ravel(np.broadcast_to(x[0], (2, 4)), "K"), "of an array that is neither"), "a bound that is a Tensor": (lambda x: np.clip(x, x[0, 0], 1.0), "'a_min' is not known"), "take, mode": (lambda x: np.take(x, [1], mode="about"), "mode"),
    "mean in whole numbers": (lambda x: np.mean(x, dtype=int), "no slope"), "std in whole numbers": (lambda x: np.std(x, dtype="int8"), "no slope"), "svd of one half": (lambda x: np.linalg.svd(x @ x.T, compute_uv=False, hermitian=True), "one half"),
    "so often": (lambda x: np.tile(A, x[0, 0]), "'reps' is not known"), "so many parts": (lambda x: np.split(A, x[0, 0])[0], "'indices_or_sections' is not known"), "put in here": (lambda x: np.insert(A, x[0, 0], 1.0), "'obj' is not known"), "left out": (lambda x: np.delete(A, x[0, 0]), "'obj' is not known"),
    "one alone": (lambda x: np.gradient(x[:1, 0]), "2 numbers"), "diff -1": (lambda x: np.diff(x, -1), "at least 0"), "linspace of -1": (lambda x: np.linspace(x[0], 1.0, -1), "at least 0"), "item 0": (lambda x: x.item(0), r"tensor\.value"), "trace out": (lambda x: np.trace(x, out=np.zeros(())), "written into"),
    "clip out": (lambda x: x.clip(0, 1, out=np.zeros((3, 4))), "written into"), "take out": (lambda x: x.take([0], out=np.zeros(1)), "written into"),
    "norm of text": (lambda x: np.linalg.norm(x, "abc"), "no norm of matrices 'abc'"), "norm of a cube": (lambda x: np.linalg.norm(x[None], 1), "needs a vector or a matrix"), "at": (lambda x: np.add.at(np.zeros(3), [0], x[0, :1]), r"np\.add\.at has no derivative"),
    "reduce out": (lambda x: np.add.reduce(x, out=np.zeros(4)), "written into"), "round out": (lambda x: np.round(np.ones((3, 4)), 1, x), "written into"), "median out": (lambda x: np.median(x, 0, np.zeros(4)), "written into"),
    "quantile's method": (lambda x: np.quantile(x, 0.5, method="weibull"), "known for the methods linear"), "quantile 50": (lambda x: np.quantile(x, 50), "between 0 and 1"), "svd": (np.linalg.svd, "compute_uv=False"),
    "nan_to_num in place": (lambda x: np.nan_to_num(x, copy=False), "in place"), "fill": (lambda x: x.fill(0), "in place"), "a mask as a bound": (lambda x: np.clip(x, np.ma.masked_array(A, A > 0), 9.0), "MaskedArray"),
    "pad mean": (lambda x: np.pad(x, 1, "mean"), "mode 'mean'"), "sort by": (lambda x: np.vstack([x, x], dtype=np.float32), "does not know these options"),
    "format": (lambda x: f"{x[0, 0]:.3f}", r"loss\.value:\.3f"), "item": (lambda x: x[0, 0].item(), r"tensor\.value"), "tolist": (lambda x: x.tolist(), r"tensor\.value"), "array of": (lambda x: np.array([x[0, 0], x[0, 1]]), r"np\.stack"),
    "items set": (lambda x: operator.setitem(np.zeros(3), slice(2), x[0, :2]), r"np\.stack"), "full": (lambda x: np.full((2, 2), x[0, 0]), r"np\.stack"), "full_like": (lambda x: np.full_like(A, x[0, 0]), r"np\.broadcast_to"),
    "complex": (lambda x: x.astype(complex), "no array of complex128"), "object": (lambda x: x.astype(object), "no array of object"), "text": (lambda x: x.astype(str), "no array of <U"),
    "out": (lambda x: np.add(x, x, out=np.zeros((3, 4))), "written into"), "einsum": (lambda x: np.einsum("ij,jk", x), "names 2 operands"), "cross": (lambda x: np.cross(x[0], x[1]), "three numbers"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refusals_are_sentences(what):
    call, says = REFUSED[what]
    with pytest.raises((TypeError, ValueError), match=says): nn.grad(scalar(call))(A)


DTYPES = {  # what -> a call whose answer has NumPy's dtype, in float32 as in float64
    "outer": lambda x: np.add.outer(x, 2.0), "outer, of both": lambda x: np.multiply.outer(x, x), "inner": lambda x: np.inner(x, 2.0), "insert": lambda x: np.insert(x, 1, 5.0), "ediff1d": lambda x: np.ediff1d(x, 1.0), "ldexp": lambda x: np.ldexp(x, 2),
    "linspace": lambda x: np.linspace(x, x + 1, 3), "logspace": lambda x: np.logspace(x, x, 3), "cov": lambda x: np.cov(x), "corrcoef": lambda x: np.corrcoef(np.stack([x, x * x])), "bincount": lambda x: np.bincount([0, 1, 1, 2], x), "interp": lambda x: np.interp([0.5], [0.0, 1, 2, 3], x),
    "quantile": lambda x: np.quantile(x, [0.1, 0.6]), "percentile": lambda x: np.nanpercentile(x, 30), "polyval": lambda x: np.polyval([3.0, 1.0], x), "trapezoid": lambda x: vars(np)["trapezoid" if hasattr(np, "trapezoid") else "trapz"](x), "astype None": lambda x: x.astype(None), "trace": lambda x: np.trace(x.reshape(2, 2), dtype=np.float64),
    "take": lambda x: np.take(x, [9], mode="clip"), "gradient": lambda x: np.gradient(x), "mean": lambda x: np.mean(x, dtype=np.float64), "maximum.accumulate": lambda x: np.maximum.accumulate(x)}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("what", DTYPES)
def test_the_answer_has_numpys_dtype_and_the_gradient_that_of_x(what, dtype):
    x, seen = np.array([0.3, 1.0, -0.7, 0.5], dtype), []
    gradient = nn.grad(lambda x: (seen.append(DTYPES[what](x)), np.sum(seen[0]))[1])(x)
    plain = DTYPES[what](x)
    assert seen[0].dtype == np.asarray(plain).dtype and gradient.dtype == dtype
    np.testing.assert_allclose(seen[0].value, plain, rtol=1e-6)


def test_a_quantile_that_may_overwrite_leaves_the_tensor_alone():
    x = np.array([3.0, 1.0, 2.0, 5.0])
    for q in (0.0, [0.2, 0.9]):
        gradient = nn.grad(lambda x: np.sum(np.quantile(x, q, overwrite_input=True) * x[0]))(x)  # noqa: B023
        np.testing.assert_allclose(gradient, nn.numeric_grad(lambda x: np.sum(np.quantile(x, q) * x[0]), x), atol=1e-6)  # noqa: B023
    assert x.tolist() == [3, 1, 2, 5]


def test_where_a_function_has_no_slope_it_is_0_not_nan():
    for f in (lambda x: np.arctan2(x, x), lambda x: np.hypot(x, x), lambda x: np.interp(x, np.array([1.0]), np.array([4.0]))):
        assert nn.grad(lambda x: np.sum(f(x)))(np.zeros(2)).tolist() == [0, 0]  # noqa: B023


def test_a_nan_goes_on_in_running_extremes():
    x, seen = np.array([1.0, 3.0, np.nan, 4.0, np.nan, 2.0]), []
    nn.grad(lambda x: (seen.extend([np.maximum.accumulate(x), np.minimum.accumulate(x)]), np.sum(x))[1])(x)
    for y, extreme in zip(seen, (np.maximum, np.minimum), strict=True): np.testing.assert_array_equal(y.value, extreme.accumulate(x))


@pytest.mark.parametrize("call", [lambda x: np.add(x, x, dtype=np.float32), lambda x: np.exp(x, where=x.value > 0), lambda x: np.multiply(x, 2, casting="unsafe"), lambda x: np.sum(np.subtract(x, x, subok=False))])
def test_an_option_that_a_rule_does_not_know_is_named_on_every_numpy(call, monkeypatch):
    "An older NumPy keeps the signatures of its ufuncs to itself."
    def signature_of(function):
        if isinstance(function, np.ufunc): raise ValueError("no signature found")
        return inspect.signature(function)
    monkeypatch.setattr(calls, "signature_of", signature_of)
    calls.defaults_of.cache_clear()
    with pytest.raises(TypeError, match="does not know the option '(dtype|where|casting|subok)'"): nn.grad(lambda x: np.sum(call(x)))(np.ones(3))
    assert nn.grad(lambda x: np.sum(np.add(x, x, order="K", dtype=None)))(np.ones(3)).tolist() == [2, 2, 2]
    calls.defaults_of.cache_clear()


@pytest.mark.parametrize("f", [
    lambda x: np.abs(x * (1 + 2j)), lambda x: np.real(x * 1j * 1j), lambda x: np.real(np.exp(1j * x)), lambda x: (x + 0j) * 2, lambda x: x * np.array(1j), lambda x: np.sum(np.where(x > 0, x, 1j)),
    lambda x: np.real(np.fft.fft(x * np.ones(4)))[0], lambda x: nn.operation(lambda z: z * 1j)(x), lambda x: np.power(x, 1j), lambda x: np.dot(x, np.array(2j)), lambda x: np.einsum(",", x, np.array(2j)),
    lambda x: np.stack([x, np.array(1j)])[0], lambda x: np.concatenate([x[None], np.array([1j])])[0]])
def test_complex_numbers_on_the_way_are_refused(f):
    with pytest.raises(TypeError, match="complex|has no rule"): nn.grad(f)(np.array(1.0))


def test_what_a_tensor_has_not_is_said():
    with pytest.raises(AttributeError, match=r"tensor\.value\.strides"): nn.grad(lambda x: np.sum(x.strides))(A)
    assert not hasattr(nn.Tensor, "strides")


def test_an_item_set_says_how_to_collect_them():
    with pytest.raises((TypeError, ValueError)) as told: nn.grad(lambda x: operator.setitem(np.zeros(3), 0, x[0]) or x[0])(np.ones(2))
    assert "np.stack" in f"{told.value} {told.value.__cause__ or told.value.__context__}"  # NumPy says "with a sequence", and ours as the cause


def test_python_objects_on_the_way_are_refused():
    from fractions import Fraction
    with pytest.raises(TypeError, match="Python objects"): nn.grad(lambda x: np.sum(x * np.array([Fraction(1, 2), 1], object)))(np.ones(2))
    assert nn.grad(lambda x: x * Fraction(1, 2))(1.0) == 0.5  # a number is a number
    step = nn.operation(lambda z: [z])
    nn.defvjp(step, lambda g, y, x: g)
    with pytest.raises(TypeError, match="gave a list"): nn.grad(step)(1.0)


def test_masked_arrays_and_matrices_are_refused_wherever_they_stand():
    masked = np.ma.masked_array([1.0, 2.0], [False, True])
    for f in (lambda x: np.sum(x * masked), lambda x: np.sum(masked * x), lambda x: np.sum(np.where(masked > 1, x, 0)), lambda x: x @ masked, lambda x: np.sum(np.maximum(x, masked))):
        with pytest.raises(TypeError, match="MaskedArray|does not become a plain array"): nn.grad(f)(np.ones(2))
    with pytest.raises(TypeError, match="MaskedArray"): nn.grad(lambda x: x.sum())(masked)
    with pytest.warns(PendingDeprecationWarning), pytest.raises(TypeError, match="matrix"): nn.grad(lambda x: np.sum(x * np.matrix(np.eye(2))))(np.ones((2, 2)))
    assert (nn.grad(lambda x: np.sum(x * masked.filled(0.0)))(np.ones(2)) == [1, 0]).all()


def test_a_file_mapped_into_memory_is_an_array(tmp_path):
    there = np.memmap(tmp_path / "x", np.float64, "w+", shape=(2,))
    there[:] = 3.0
    assert (nn.grad(lambda x: np.sum(x * there))(np.ones(2)) == 3).all() and (nn.grad(lambda x: np.sum(x * x))(there) == 6).all()


def test_columns_of_a_table_are_their_values():
    pandas = pytest.importorskip("pandas")
    column = pandas.Series([1.0, 2.0], index=["b", "a"])
    assert (nn.grad(lambda x: np.sum(x * column))(np.ones(2)) == [1, 2]).all()
    assert (nn.grad(lambda x: nn.mse(x, column))(np.ones(2)) == [0, -1]).all()
    assert (nn.grad(lambda x: np.sum(x * column.values))(np.ones(2)) == [1, 2]).all()
    try: assert (nn.grad(lambda x: np.sum(column * x))(np.ones(2)) == [1, 2]).all()
    except (TypeError, ValueError): pass  # pandas has the first word; refused is fine, another number is not


def test_plain_answers_are_on_the_list_of_the_appendix():
    "All that makes a plain value of a Tensor says so, or is piecewise constant: on this list, or whole numbers."
    from nn_from_scratch.calls import plain_functions
    x = np.array([0.3, -1.2, 2.7])
    for f in plain_functions:
        if not isinstance(f, np.ufunc) or f.nin > 2: continue
        arguments = [x] * f.nin
        try: a, b = f(*arguments), f(arguments[0] + 1e-7, *arguments[1:])
        except TypeError: continue
        assert np.array_equal(a, b) or f in (np.equal, np.not_equal, np.greater, np.greater_equal, np.less, np.less_equal, np.floor_divide), f


# ---------------------------------------------------------------- several things at once

def test_lists_tuples_and_nested_dicts_of_arrays():
    f = nn.value_and_grad(lambda t: np.sum(t[0] * t[1]["b"]) + t[1]["c"][0] ** 2)
    first = (np.array([1.0, 2.0]), {"b": np.array([3.0, 4.0]), "c": [np.array(5.0)]})
    value, g = f(first)
    assert value == 36 and type(g) is tuple and type(g[1]["c"]) is list
    assert (g[0] == [3, 4]).all() and (g[1]["b"] == [1, 2]).all() and g[1]["c"][0] == 10
    again = f(first, out=g)[1]
    assert again is g and (g[0] == [3, 4]).all()
    from collections import namedtuple
    Pair = namedtuple("Pair", "w b")
    assert type(nn.grad(lambda p: np.sum(p.w) * p.b)(Pair(np.ones(2), np.array(3.0)))) is Pair
    assert nn.grad(lambda t: t[0] * t[1])([np.float32(2), np.array(3.0)])[0].dtype == np.float32
    for bad, says in (([1.0, 2.0], "list of plain numbers"), ((1, 2), "tuple of plain numbers"), ({"a": [1.0]}, "'a' is list of plain"), ([np.ones(2), "x"], "number 1 of the first argument is str"), ({"a": {"b": None}}, "'b' is NoneType")):
        with pytest.raises(TypeError, match=says): nn.grad(lambda t: 0.0)(bad)
    for out, says in (((np.zeros(2),), "tuple of 2"), ((np.zeros(3), g[1]), "does not fit"), ((first[0], g[1]), "parameters themselves"), ((g[0], {"x": 1}), "the arrays are b, c")):
        with pytest.raises(ValueError, match=says): f(first, out=out)
    with pytest.raises(ValueError, match="shares memory"): nn.value_and_grad(lambda t: np.sum(t[0] * t[1]))([np.ones(2), np.ones(2)], out=[both := np.zeros(2), both])


def models():
    encoder, decoder = nn.mlp([3, 4, 2], nn.tanh, rng=0, dtype=np.float64), nn.mlp([2, 4, 3], nn.tanh, rng=1, dtype=np.float64)
    return encoder, decoder, np.random.default_rng(2).normal(size=(5, 3))


def test_several_models_at_once():
    encoder, decoder, x = models()
    def loss(both, x): return nn.mse(both[1](both[0](x)), x)
    whole = nn.Sequential(encoder, decoder)
    value, (of_encoder, of_decoder) = nn.value_and_grad(loss)((encoder, decoder), x)
    expected = nn.grad(lambda m: nn.mse(m(x), x))(whole)
    assert type(of_encoder) is nn.Parameters and list(of_encoder) == list(encoder.parameters())
    assert np.allclose(np.concatenate([of_encoder.vector, of_decoder.vector]), expected.vector, atol=1e-15)
    first = loss((encoder, decoder), x)
    optimizers = nn.Adam(0.01), nn.Adam(0.01)
    out = None
    for _ in range(50):
        value, out = nn.value_and_grad(loss)((encoder, decoder), x, out=out)
        for optimizer, model, g in zip(optimizers, (encoder, decoder), out, strict=True): optimizer.update(model, g)
    assert value < 0.9 * first and type(encoder(x)) is np.ndarray


def test_models_that_share_a_layer_and_arrays_beside_them():
    encoder, decoder, x = models()
    encoder.layers.append(shared := nn.Linear(2, 2, rng=5, dtype=np.float64))
    decoder.layers.insert(0, shared)
    def loss(t, x): return nn.mse(t["models"][1](t["models"][0](x)) * t["scale"], x)
    first = {"models": [encoder, decoder], "scale": np.array(0.7)}
    g = nn.grad(loss)(first, x)
    assert np.allclose(g["models"][0]["3.weight"], g["models"][1]["0.weight"]) and g["scale"].shape == ()
    numeric = nn.numeric_grad(lambda w: (shared.weight.__setitem__(..., w), loss(first, x))[1], shared.weight.copy())
    assert np.allclose(g["models"][0]["3.weight"], numeric, atol=1e-8)
    assert np.isclose(g["scale"], nn.numeric_grad(lambda s: loss({**first, "scale": s}, x), 0.7), atol=1e-8)
    assert nn.grad(lambda t: np.sum(t[0][0].weight))([encoder, encoder])[1].vector.sum() == encoder[0].weight.size


def test_several_models_are_whole_after_an_exception():
    encoder, decoder, x = models()
    before = encoder(x)
    with pytest.raises(ZeroDivisionError): nn.grad(lambda both: 1 / 0)((encoder, decoder))
    with pytest.raises(RuntimeError, match="one at a time"): nn.grad(lambda both: nn.grad(lambda m: np.sum(m(x)))(decoder))([encoder, decoder])
    assert (encoder(x) == before).all() and type(decoder(encoder(x))) is np.ndarray


def test_gradients_in_many_threads_at_once():
    "The engine knows no other thread: each function has a tape of its own."
    from concurrent.futures import ThreadPoolExecutor
    f = nn.grad(lambda x: np.sum(np.tanh(x @ x.T) ** 2))
    xs = [np.random.default_rng(i).normal(size=(6, 6)) for i in range(64)]
    alone = [f(x) for x in xs]
    with ThreadPoolExecutor(8) as pool:
        for a, b in zip(pool.map(f, xs * 4), alone * 4, strict=True): assert (a == b).all()
