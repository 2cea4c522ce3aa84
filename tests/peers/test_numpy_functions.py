"Gradients of NumPy's functions against PyTorch's, where it has the function."

import numpy as np
import pytest

import nn_from_scratch as nn

torch = pytest.importorskip("torch")
rng = np.random.default_rng(0)
A, B, S = rng.normal(size=(3, 4)), rng.uniform(0.3, 0.9, (3, 4)), rng.normal(size=(3, 3)) + 2 * np.eye(3)

PAIRS = {  # name -> (ours, PyTorch's, where)
    **{name: (getattr(np, name), getattr(torch, name), B) for name in "arcsin arccos arctan arcsinh arctanh exp2 tan log2 log10 expm1 sinh cosh".split()},
    "arccosh": (np.arccosh, torch.arccosh, B + 1), "hypot": (lambda x: np.hypot(x, B), lambda x: torch.hypot(x, torch.tensor(B)), A),
    "arctan2": (lambda x: np.arctan2(x, B), lambda x: torch.atan2(x, torch.tensor(B)), A), "mod": (lambda x: x % 0.4, lambda x: torch.remainder(x, 0.4), A),
    "fmod": (lambda x: np.fmod(x, 0.4), lambda x: torch.fmod(x, 0.4), A), "fmax": (lambda x: np.fmax(x, B), lambda x: torch.fmax(x, torch.tensor(B)), A),
    "logaddexp2": (lambda x: np.logaddexp2(x, B), lambda x: torch.logaddexp2(x, torch.tensor(B)), A), "sort": (lambda x: np.sort(x, 0), lambda x: torch.sort(x, 0)[0], A),
    "median": (lambda x: np.median(x, 0), lambda x: torch.median(x, 0)[0], A), "repeat": (lambda x: np.repeat(x, 2, 1), lambda x: torch.repeat_interleave(x, 2, 1), A),
    "tile": (lambda x: np.tile(x, (2, 3)), lambda x: torch.tile(x, (2, 3)), A), "roll": (lambda x: np.roll(x, 2, 1), lambda x: torch.roll(x, 2, 1), A), "diff": (lambda x: np.diff(x, 2), lambda x: torch.diff(x, 2), A),
    "tril": (np.tril, torch.tril, A), "triu": (np.triu, torch.triu, A), "diag": (np.diag, torch.diag, A[:, :3]), "trace": (np.trace, torch.trace, S), "kron": (lambda x: np.kron(x, B), lambda x: torch.kron(x, torch.tensor(B)), A),
    "tensordot": (lambda x: np.tensordot(x, B, ([1], [1])), lambda x: torch.tensordot(x, torch.tensor(B), ([1], [1])), A), "inner": (lambda x: np.inner(x, B), lambda x: torch.inner(x, torch.tensor(B)), A),
    "einsum": (lambda x: np.einsum("...ij,kj->ki...", x, B), lambda x: torch.einsum("...ij,kj->ki...", x, torch.tensor(B)), rng.normal(size=(2, 3, 4))),
    "einsum of a diagonal": (lambda x: np.einsum("ii->i", x), lambda x: torch.einsum("ii->i", x), S), "inv": (np.linalg.inv, torch.linalg.inv, S), "det": (np.linalg.det, torch.linalg.det, S),
    "slogdet": (lambda x: np.linalg.slogdet(x)[1], lambda x: torch.linalg.slogdet(x)[1], S), "solve": (lambda x: np.linalg.solve(x, A), lambda x: torch.linalg.solve(x, torch.tensor(A)), S),
    "take_along_axis": (lambda x: np.take_along_axis(x, np.array([[0, 0], [1, 3], [2, 2]]), 1), lambda x: torch.gather(x, 1, torch.tensor([[0, 0], [1, 3], [2, 2]])), A),
    "pad": (lambda x: np.pad(x, ((0, 0), (2, 1)), "reflect"), lambda x: torch.nn.functional.pad(x[None], (2, 1), "reflect")[0], A), "nan_to_num": (np.nan_to_num, torch.nan_to_num, A),
    "cross": (lambda x: np.cross(x, B[:, :3]), lambda x: torch.linalg.cross(x, torch.tensor(B[:, :3])), A[:, :3]), "stack": (lambda x: np.stack([x, x * x], 1), lambda x: torch.stack([x, x * x], 1), A),
    "amax": (lambda x: np.amax(x, 1), lambda x: torch.amax(x, 1), A), "amin": (lambda x: np.amin(x, 0), lambda x: torch.amin(x, 0), A),
    "cbrt": (np.cbrt, lambda x: x ** (1 / 3), B), "conjugate": (np.conjugate, torch.conj, A), "real": (np.real, torch.real, A),
    **{name: (getattr(np, name), torch.deg2rad, A) for name in ("deg2rad", "radians")}, **{name: (getattr(np, name), torch.rad2deg, A) for name in ("rad2deg", "degrees")},
    "fabs": (np.fabs, torch.abs, A), "fmin": (lambda x: np.fmin(x, B), lambda x: torch.fmin(x, torch.tensor(B)), A),
    "float_power": (lambda x: np.float_power(x, 2.5), lambda x: torch.float_power(x, 2.5), B), "remainder": (lambda x: np.remainder(x, 0.4), lambda x: torch.remainder(x, 0.4), A),
    "norm 1": (lambda x: np.linalg.norm(x, 1), lambda x: torch.linalg.norm(x, 1), A), "norm 2": (lambda x: np.linalg.norm(x, 2), lambda x: torch.linalg.norm(x, 2), A), "norm -2": (lambda x: np.linalg.norm(x, -2), lambda x: torch.linalg.norm(x, -2), A),
    "norm nuc": (lambda x: np.linalg.norm(x, "nuc"), lambda x: torch.linalg.norm(x, "nuc"), A), "norm inf": (lambda x: np.linalg.norm(x, np.inf), lambda x: torch.linalg.norm(x, float("inf")), A),
    "norm 3": (lambda x: np.linalg.norm(x, 3, 1), lambda x: torch.linalg.norm(x, 3, 1), A), "norm 0.5": (lambda x: np.linalg.norm(x, 0.5, 0), lambda x: torch.linalg.norm(x, 0.5, 0), A),
    "singular values": (lambda x: np.linalg.svd(x, compute_uv=False), torch.linalg.svdvals, A), "cumprod": (lambda x: np.cumprod(x, 1), lambda x: torch.cumprod(x, 1), np.round(A)),
    "cholesky": (lambda x: np.linalg.cholesky(x @ x.T), lambda x: torch.linalg.cholesky(x @ x.T), S), "eigvalsh": (lambda x: np.linalg.eigvalsh(x @ x.T), lambda x: torch.linalg.eigvalsh(x @ x.T), S),
    "matrix_power": (lambda x: np.linalg.matrix_power(x, -3), lambda x: torch.linalg.matrix_power(x, -3), S), "quantile": (lambda x: np.quantile(x, [0.1, 0.6], 1), lambda x: torch.quantile(x, torch.tensor([0.1, 0.6], dtype=torch.float64), 1), A),
    "nanmean": (lambda x: np.nanmean(np.where(A > 0, x, np.nan), 0), lambda x: torch.nanmean(torch.where(torch.tensor(A > 0), x, torch.nan), 0), np.abs(A)), "logaddexp.reduce": (lambda x: np.logaddexp.reduce(x, 1), lambda x: torch.logsumexp(x, 1), A),
    "copysign": (lambda x: np.copysign(x, -B), lambda x: torch.copysign(x, -torch.tensor(B)), A), "sinc": (np.sinc, torch.sinc, A), "cov": (np.cov, torch.cov, A), "corrcoef": (np.corrcoef, torch.corrcoef, A),
    "heaviside": (lambda x: x * np.heaviside(x, 0.5), lambda x: x * (x.detach() > 0), A), "maximum.accumulate": (lambda x: np.maximum.accumulate(x, 1), lambda x: torch.cummax(x, 1)[0], A),
    "gradient": (lambda x: np.gradient(x, axis=1), lambda x: torch.gradient(x, dim=1)[0], A), "unwrapped": (lambda x: np.unwrap(x), lambda x: x * 1, A),
    "bincount": (lambda x: np.bincount([0, 2, 2, 1], x[0]), lambda x: torch.zeros(3, dtype=torch.float64).index_add(0, torch.tensor([0, 2, 2, 1]), x[0]), A),
    "var where": (lambda x: np.var(x, where=A > 0, ddof=1), lambda x: torch.var(x[torch.tensor(A > 0)]), A), "std correction": (lambda x: np.std(x, 1, ddof=1), lambda x: torch.std(x, 1), A),
    "insert": (lambda x: np.insert(x, 1, 5.0, axis=0), lambda x: torch.cat([x[:1], torch.full((1, 4), 5.0), x[1:]]), A), "convolve": (lambda x: np.convolve(x[0], B[0]), lambda x: torch.nn.functional.conv1d(x[:1][None], torch.tensor(B[0, ::-1].copy())[None, None], padding=3)[0, 0], A),
}
ALSO = {"singular_values": "singular values", "sums_by_place": "bincount", "contract": "einsum", "log_abs_det": "slogdet"}  # steps of the library that these names are made of


@pytest.mark.parametrize("name", PAIRS)
def test_gradients_are_those_of_pytorch(name):
    ours, theirs, x = PAIRS[name]
    weight = rng.normal(size=np.shape(ours(x)))
    t = torch.tensor(x, requires_grad=True)
    (theirs(t) * torch.tensor(weight)).sum().backward()
    np.testing.assert_allclose(nn.grad(lambda x: np.sum(ours(x) * weight))(x), t.grad.numpy(), rtol=1e-9, atol=1e-11)
