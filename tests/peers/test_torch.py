"""Every operation, activation, loss, optimizer and schedule against PyTorch: values, gradients, trajectories.

Where the two differ by design, the test says so: the gradient of abs, max and the like where the slope is not defined
is shared or 0 in both; the points here are drawn where it is defined.
"""

import numpy as np
import pytest

import nn_from_scratch as nn

torch = pytest.importorskip("torch")
hypothesis = pytest.importorskip("hypothesis")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

pytestmark = pytest.mark.peers
F = torch.nn.functional
DTYPES = pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
TOL = {np.float64: 1e-9, np.float32: 1e-4}


def close(ours, theirs, tol):
    theirs = theirs.detach().numpy() if isinstance(theirs, torch.Tensor) else np.asarray(theirs)
    assert np.shape(ours) == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=tol, atol=tol)


def compare(ours, theirs, *args, tol=1e-10):
    "The value and the gradients of both for the same arguments and the same direction of the result."
    tensors = [torch.tensor(a, requires_grad=True) for a in args]
    value = theirs(*tensors)
    direction = np.random.default_rng(1).normal(size=value.shape).astype(args[0].dtype)
    value.backward(torch.tensor(direction))
    close(ours(*args), value, tol)
    _, grads = nn.value_and_grad(lambda p: np.sum(ours(*p.values()) * direction))({str(i): a for i, a in enumerate(args)})
    for g, tensor in zip(grads.values(), tensors, strict=True):
        assert g.dtype == args[0].dtype
        close(g, tensor.grad, tol)


def normal(*shape, seed=0): return np.random.default_rng(seed).normal(size=shape)
def positive(*shape, seed=0): return np.random.default_rng(seed).uniform(0.5, 2, size=shape)


OPERATIONS = {
    "add": (np.add, torch.add, normal(3, 4), normal(4)),
    "subtract": (np.subtract, torch.subtract, normal(3, 1), normal(4)),
    "multiply": (np.multiply, torch.multiply, normal(2, 3, 4), normal(3, 1)),
    "divide": (np.true_divide, torch.divide, normal(3, 4), positive(3, 4)),
    "power": (np.power, torch.pow, positive(3, 4), normal(4)),
    "negative": (np.negative, torch.negative, normal(3)),
    "exp": (np.exp, torch.exp, normal(3, 4)),
    "log": (np.log, torch.log, positive(3, 4)),
    "log1p": (np.log1p, torch.log1p, positive(3)),
    "log2": (np.log2, torch.log2, positive(3)),
    "log10": (np.log10, torch.log10, positive(3)),
    "expm1": (np.expm1, torch.expm1, normal(3)),
    "sqrt": (np.sqrt, torch.sqrt, positive(3)),
    "square": (np.square, torch.square, normal(3)),
    "reciprocal": (np.reciprocal, torch.reciprocal, positive(3)),
    "abs": (np.abs, torch.abs, normal(3, 4)),
    "tanh": (np.tanh, torch.tanh, normal(3)),
    "sinh": (np.sinh, torch.sinh, normal(3)),
    "cosh": (np.cosh, torch.cosh, normal(3)),
    "sin": (np.sin, torch.sin, normal(3)),
    "cos": (np.cos, torch.cos, normal(3)),
    "tan": (np.tan, torch.tan, normal(3)),
    "arctan": (np.arctan, torch.arctan, normal(3)),
    "maximum": (np.maximum, torch.maximum, normal(3, 4), normal(4, seed=2)),
    "maximum, tie": (np.maximum, torch.maximum, np.ones(3), np.ones(3)),
    "minimum": (np.minimum, torch.minimum, normal(3, 4), normal(4, seed=2)),
    "logaddexp": (np.logaddexp, torch.logaddexp, normal(3, 4), normal(4, seed=2)),
    "where": (lambda a, b: np.where(normal(3, 4) > 0, a, b), lambda a, b: torch.where(torch.tensor(normal(3, 4) > 0), a, b),
              normal(3, 4), normal(4, seed=2)),
    "clip": (lambda a: np.clip(a, -0.5, 0.5), lambda a: torch.clip(a, -0.5, 0.5), normal(3, 4)),
    "sum": (np.sum, torch.sum, normal(3, 4)),
    "sum, axis": (lambda a: np.sum(a, axis=(0, 2)), lambda a: torch.sum(a, dim=(0, 2)), normal(2, 3, 4)),
    "mean": (lambda a: np.mean(a, axis=1, keepdims=True), lambda a: torch.mean(a, dim=1, keepdim=True), normal(2, 3, 4)),
    "max": (lambda a: np.max(a, axis=1), lambda a: torch.amax(a, dim=1), normal(3, 4)),
    "max, tie": (lambda a: np.max(a, axis=1), lambda a: torch.amax(a, dim=1), np.ones((3, 4))),
    "min": (np.min, torch.amin, normal(3, 4)),
    "var": (lambda a: np.var(a, axis=0), lambda a: torch.var(a, dim=0, correction=0), normal(3, 4)),
    "std, ddof": (lambda a: np.std(a, axis=0, ddof=1), lambda a: torch.std(a, dim=0), normal(3, 4)),
    "prod": (lambda a: np.prod(a, axis=1), lambda a: torch.prod(a, dim=1), normal(3, 4)),
    "prod with a 0": (np.prod, torch.prod, np.array([2.0, 0.0, 3.0])),
    "cumsum": (lambda a: np.cumsum(a, axis=1), lambda a: torch.cumsum(a, dim=1), normal(3, 4)),
    "reshape": (lambda a: np.reshape(a, (4, 3)), lambda a: torch.reshape(a, (4, 3)), normal(3, 4)),
    "ravel": (np.ravel, torch.ravel, normal(3, 4)),
    "transpose": (lambda a: np.transpose(a, (2, 0, 1)), lambda a: torch.permute(a, (2, 0, 1)), normal(2, 3, 4)),
    "swapaxes": (lambda a: np.swapaxes(a, 0, 2), lambda a: torch.swapaxes(a, 0, 2), normal(2, 3, 4)),
    "moveaxis": (lambda a: np.moveaxis(a, 0, 2), lambda a: torch.moveaxis(a, 0, 2), normal(2, 3, 4)),
    "squeeze": (lambda a: np.squeeze(a, axis=1), lambda a: torch.squeeze(a, dim=1), normal(3, 1, 4)),
    "expand_dims": (lambda a: np.expand_dims(a, 1), lambda a: torch.unsqueeze(a, 1), normal(3, 4)),
    "flip": (lambda a: np.flip(a, 1), lambda a: torch.flip(a, (1,)), normal(3, 4)),
    "broadcast_to": (lambda a: np.broadcast_to(a, (2, 3, 4)), lambda a: torch.broadcast_to(a, (2, 3, 4)), normal(3, 1)),
    "concatenate": (lambda a, b: np.concatenate([a, b], axis=1), lambda a, b: torch.cat([a, b], dim=1), normal(3, 4), normal(3, 2)),
    "stack": (lambda a, b: np.stack([a, b], axis=1), lambda a, b: torch.stack([a, b], dim=1), normal(3, 4), normal(3, 4, seed=2)),
    "matmul": (np.matmul, torch.matmul, normal(3, 4), normal(4, 5)),
    "matmul, batch": (np.matmul, torch.matmul, normal(2, 1, 3, 4), normal(6, 4, 5)),
    "matmul, vector": (np.matmul, torch.matmul, normal(2, 3, 4), normal(4)),
    "vector, matmul": (np.matmul, torch.matmul, normal(3), normal(2, 3, 4)),
    "vector @ vector": (np.matmul, torch.matmul, normal(3), normal(3, seed=2)),
    "dot": (np.dot, torch.mm, normal(3, 4), normal(4, 5)),
    "outer": (np.outer, torch.outer, normal(3), normal(4)),
    "einsum": (lambda a, b: np.einsum("bij,bjk->bk", a, b),
               lambda a, b: torch.einsum("bij,bjk->bk", a, b), normal(2, 3, 4), normal(2, 4, 5)),
    "take": (lambda a: np.take(a, [2, 0, 2], axis=1), lambda a: torch.index_select(a, 1, torch.tensor([2, 0, 2])), normal(3, 4)),
    "index, slice": (lambda a: a[1:, ::2], lambda a: a[1:, ::2], normal(3, 4)),
    "index, integers": (lambda a: a[[0, 2, 0], [1, 1, 1]], lambda a: a[[0, 2, 0], [1, 1, 1]], normal(3, 4)),
    "index, boolean": (lambda a: a[normal(3, 4) > 0], lambda a: a[torch.tensor(normal(3, 4) > 0)], normal(3, 4)),
    "norm": (np.linalg.norm, torch.linalg.norm, normal(3, 4)),
    "norm, axis": (lambda a: np.linalg.norm(a, axis=1), lambda a: torch.linalg.norm(a, dim=1), normal(3, 4)),
}
ACTIVATIONS = {
    "sigmoid": (nn.sigmoid, torch.sigmoid), "tanh": (nn.tanh, torch.tanh), "relu": (nn.relu, torch.relu),
    "leaky_relu": (nn.leaky_relu, F.leaky_relu), "elu": (nn.elu, F.elu), "gelu": (nn.gelu, lambda x: F.gelu(x, approximate="tanh")),
    "silu": (nn.silu, F.silu), "softplus": (nn.softplus, lambda x: F.softplus(x, threshold=1e9)),
    "identity": (nn.identity, lambda x: 1 * x),
    "softmax": (nn.softmax, lambda x: torch.softmax(x, -1)), "log_softmax": (nn.log_softmax, lambda x: torch.log_softmax(x, -1)),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation(name):
    compare(*OPERATIONS[name])


@DTYPES
@pytest.mark.parametrize("scale", [1, 30])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name, scale, dtype):
    compare(*ACTIVATIONS[name], (scale * normal(6, 5)).astype(dtype), tol=1e-10 if dtype == np.float64 else 2e-5)


LOGITS, LABELS, WEIGHTS = 3 * normal(7, 4), np.array([0, 1, 2, 3, 0, 0, 2]), positive(7, seed=3)


def weighted(losses, weight):
    "The weighted mean over the batch."
    return losses.mean() if weight is None else (losses * torch.tensor(weight)).sum() / weight.sum()


@pytest.mark.parametrize("weight", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy(weight, smoothing):
    compare(lambda z: nn.cross_entropy(z, LABELS, weight, label_smoothing=smoothing),
            lambda z: weighted(F.cross_entropy(z, torch.tensor(LABELS), reduction="none", label_smoothing=smoothing), weight), LOGITS)


@pytest.mark.parametrize("weight", [None, WEIGHTS], ids=["plain", "weighted"])
def test_binary_cross_entropy(weight):
    target = (LABELS % 2).astype(float)
    compare(lambda z: nn.binary_cross_entropy(z, target, weight),
            lambda z: weighted(F.binary_cross_entropy_with_logits(z, torch.tensor(target), reduction="none"), weight), 30 * normal(7))


@pytest.mark.parametrize("weight", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("ours, theirs", [(nn.mse, F.mse_loss), (nn.mae, F.l1_loss), (nn.huber, F.huber_loss)], ids=["mse", "mae", "huber"])
def test_regression_loss(ours, theirs, weight):
    target = normal(7, 3, seed=5)
    compare(lambda p: ours(p, target, weight),
            lambda p: weighted(theirs(p, torch.tensor(target), reduction="none").mean(dim=1), weight), 2 * normal(7, 3))


# ---------------------------------------------------------------- training

OPTIMIZERS = {
    "SGD": (lambda: nn.SGD(0.05), lambda p: torch.optim.SGD(p, 0.05)),
    "momentum": (lambda: nn.SGD(0.05, momentum=0.9), lambda p: torch.optim.SGD(p, 0.05, momentum=0.9)),
    "nesterov": (lambda: nn.SGD(0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
                 lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, nesterov=True, weight_decay=0.01)),
    "Adagrad": (lambda: nn.Adagrad(weight_decay=0.01), lambda p: torch.optim.Adagrad(p, weight_decay=0.01)),
    "RMSprop": (lambda: nn.RMSprop(), lambda p: torch.optim.RMSprop(p)),
    "RMSprop, momentum": (lambda: nn.RMSprop(0.001, momentum=0.5, weight_decay=0.01),
                          lambda p: torch.optim.RMSprop(p, 0.001, momentum=0.5, weight_decay=0.01)),
    "Adam": (lambda: nn.Adam(), lambda p: torch.optim.Adam(p)),
    "Adam, weight decay": (lambda: nn.Adam(0.01, weight_decay=0.01), lambda p: torch.optim.Adam(p, 0.01, weight_decay=0.01)),
    "AdamW": (lambda: nn.AdamW(0.01), lambda p: torch.optim.AdamW(p, 0.01)),
}


def twins(sizes, dtype, activation=torch.nn.Tanh, rng=0):
    "A network of this library and one of PyTorch with the same parameters."
    ours = nn.mlp(sizes, activation=nn.tanh if activation is torch.nn.Tanh else nn.relu, rng=rng, dtype=dtype)
    layers = []
    for n_in, n_out in zip(sizes, sizes[1:], strict=False): layers += [torch.nn.Linear(n_in, n_out), activation()]
    theirs = torch.nn.Sequential(*layers[:-1]).to({np.float64: torch.float64, np.float32: torch.float32}[dtype])
    for (name, array), (their_name, tensor) in zip(ours.parameters().items(), theirs.named_parameters(), strict=True):
        assert name == their_name
        tensor.data = torch.tensor(array.T.copy())
    return ours, theirs


@DTYPES
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_training_run_of_200_steps(name, dtype):
    ours, theirs = twins([5, 8, 3], dtype)
    x, y = normal(40, 5).astype(dtype), np.random.default_rng(1).integers(0, 3, 40)
    optimizer, their_optimizer = OPTIMIZERS[name][0](), OPTIMIZERS[name][1](theirs.parameters())
    step = nn.value_and_grad(lambda model, x, y: nn.cross_entropy(model(x), y))
    for i in range(200):
        batch = slice(i % 4 * 10, i % 4 * 10 + 10)
        loss, grads = step(ours, x[batch], y[batch])
        optimizer.update(ours, grads)
        their_optimizer.zero_grad()
        their_loss = F.cross_entropy(theirs(torch.tensor(x[batch])), torch.tensor(y[batch]))
        their_loss.backward()
        their_optimizer.step()
        close(loss, their_loss, TOL[dtype])
    for array, tensor in zip(ours.parameters().values(), theirs.parameters(), strict=True):
        close(array.T, tensor, TOL[dtype])


def test_clip_grad_norm():
    grads = {"a": normal(3, 4), "b": normal(5)}
    tensors = [torch.nn.Parameter(torch.zeros(a.shape)) for a in grads.values()]
    for tensor, a in zip(tensors, grads.values(), strict=True): tensor.grad = torch.tensor(a.astype(np.float32))
    norm = nn.clip_grad_norm(grads, 1.0)
    close(norm, torch.nn.utils.clip_grad_norm_(tensors, 1.0), 1e-6)
    for a, tensor in zip(grads.values(), tensors, strict=True): close(a, tensor.grad, 1e-6)


SCHEDULES = {
    "step_decay": (nn.step_decay(0.1, 7, 0.5), lambda o: torch.optim.lr_scheduler.StepLR(o, 7, 0.5)),
    "exponential_decay": (nn.exponential_decay(0.1, 0.9), lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.9)),
    "cosine_decay": (nn.cosine_decay(0.1, 40, 0.001), lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 40, 0.001)),
    "one_cycle": (nn.one_cycle(0.1, 40), lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=40, cycle_momentum=False)),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule(name):
    ours, theirs = SCHEDULES[name]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.1)
    scheduler = theirs(optimizer)
    rates = []
    for _ in range(40):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        if len(rates) < 40: scheduler.step()
    close([ours(step) for step in range(40)], rates, 1e-9)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(inside=st.lists(st.integers(1, 6), min_size=1, max_size=4), classes=st.integers(2, 6), n=st.integers(1, 5), seed=st.integers(0, 2**31),
       scale=st.sampled_from([1e-3, 1.0, 1e3]), activation=st.sampled_from([torch.nn.Tanh, torch.nn.ReLU]))
def test_any_network(inside, classes, n, seed, scale, activation):
    "Value and gradients of networks drawn at random, on batches of one and more, at three scales."
    sizes = [*inside, classes]
    ours, theirs = twins(sizes, np.float64, activation, rng=seed)
    rng = np.random.default_rng(seed)
    x, y = scale * rng.normal(size=(n, sizes[0])), rng.integers(0, sizes[-1], n)
    loss, grads = nn.value_and_grad(lambda model: nn.cross_entropy(model(x), y))(ours)
    their_loss = F.cross_entropy(theirs(torch.tensor(x)), torch.tensor(y))
    their_loss.backward()
    close(loss, their_loss, 1e-9)
    for g, tensor in zip(grads.values(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(g.T, tensor.grad.numpy(), rtol=1e-9, atol=1e-9 * scale)
