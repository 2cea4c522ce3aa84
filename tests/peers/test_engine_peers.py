"""Values and gradients, number for number, beside PyTorch's: operations, activations, losses, layers."""

import numpy as np
import pytest

import nn_from_scratch as nn

torch = pytest.importorskip("torch", reason='PyTorch is not installed (pip install ".[peers]")')
F = torch.nn.functional


def numbers(rng, *shape): return np.random.default_rng(rng).normal(size=shape)


def agree(ours, theirs, *arrays, tol=1e-9):
    "The value of f, and its gradients for each array along a direction drawn at random, agree to `tol`."
    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    result = theirs(*tensors)
    np.testing.assert_allclose(ours(*arrays), result.detach().numpy(), rtol=tol, atol=tol)
    direction = np.random.default_rng(99).normal(size=tuple(result.shape))
    (result * torch.tensor(direction)).sum().backward()
    for i, t in enumerate(tensors):
        g = nn.grad(lambda x: np.sum(ours(*arrays[:i], x, *arrays[i + 1:]) * direction))(arrays[i])  # noqa: B023
        expected = np.zeros_like(arrays[i]) if t.grad is None else t.grad.numpy()
        np.testing.assert_allclose(g, expected, rtol=tol, atol=tol, err_msg=f"gradient for argument {i}")


A, B, V, P = numbers(0, 3, 4), numbers(1, 4, 2), numbers(2, 4), np.abs(numbers(3, 3, 4)) + 0.1
C, S = numbers(4, 2, 3, 4), numbers(5, 3, 3)
mask = numbers(6, 3, 4) > 0
ties = np.array([[1.0, 2.0, 2.0], [3.0, 3.0, 3.0]])

operations = {
    "+": (lambda a, b: a + b, lambda a, b: a + b, A, V), "-": (lambda a, b: a - b, lambda a, b: a - b, V, A), "*": (lambda a, b: a * b, lambda a, b: a * b, A, V),
    "/": (lambda a, b: a / b, lambda a, b: a / b, A, P), "/ broadcast": (lambda a, b: a / b, lambda a, b: a / b, V, P), "**": (lambda a, b: a ** b, lambda a, b: a ** b, P, A),
    "** number": (lambda a: a ** 3, lambda a: a ** 3, A), "number **": (lambda a: 2.0 ** a, lambda a: 2.0 ** a, A), "** 0 at 0": (lambda a: a ** 0, lambda a: a ** 0, np.zeros(2)),
    "0 **": (lambda b: np.power(0.0, b), lambda b: torch.pow(torch.tensor(0.0, dtype=b.dtype), b), np.array([1.0, 2.0])),
    "negative": (lambda a: -a, lambda a: -a, A), "exp": (np.exp, torch.exp, A), "log": (np.log, torch.log, P), "log1p": (np.log1p, torch.log1p, P), "expm1": (np.expm1, torch.expm1, A),
    "sqrt": (np.sqrt, torch.sqrt, P), "square": (np.square, torch.square, A), "abs": (np.abs, torch.abs, np.r_[A.ravel(), 0.0]), "tanh": (np.tanh, torch.tanh, A), "sin": (np.sin, torch.sin, A),
    "cos": (np.cos, torch.cos, A), "reciprocal": (np.reciprocal, torch.reciprocal, P), "log2": (np.log2, torch.log2, P), "log10": (np.log10, torch.log10, P), "sinh": (np.sinh, torch.sinh, A),
    "cosh": (np.cosh, torch.cosh, A), "tan": (np.tan, torch.tan, A), "arctan": (np.arctan, torch.arctan, A),
    "maximum": (np.maximum, torch.maximum, A, P), "minimum": (np.minimum, torch.minimum, A, P), "maximum, ties": (np.maximum, torch.maximum, ties, ties[::-1].copy()),
    "minimum, ties": (np.minimum, torch.minimum, ties, ties * 1.0), "logaddexp": (np.logaddexp, torch.logaddexp, A * 100, P), "where": (lambda a, b: np.where(mask, a, b), lambda a, b: torch.where(
        torch.tensor(mask), a, b), A, V), "clip": (lambda a: np.clip(a, -0.5, 0.7), lambda a: torch.clamp(a, -0.5, 0.7), np.r_[A.ravel(), -0.5, 0.7]),
    "sum": (np.sum, torch.sum, A), "sum axis": (lambda a: np.sum(a, axis=1, keepdims=True), lambda a: a.sum(1, keepdim=True), A), "sum axes": (lambda a: np.sum(a, axis=(0, -1)), lambda a: a.sum((0, -1)), C),
    "mean": (lambda a: np.mean(a, axis=0), lambda a: a.mean(0), C), "mean all": (np.mean, torch.mean, A), "max": (lambda a: np.max(a, axis=1), lambda a: torch.amax(a, 1), A),
    "max, ties": (lambda a: np.max(a, axis=1), lambda a: torch.amax(a, 1), ties), "min all": (np.min, torch.amin, A), "min, ties": (lambda a: np.min(a, axis=0), lambda a: torch.amin(a, 0), ties[:, [0, 0, 2]]),
    "var": (lambda a: np.var(a, axis=1), lambda a: torch.var(a, 1, correction=0), A), "var ddof": (lambda a: np.var(a, axis=(0, 2), ddof=1), lambda a: torch.var(a, (0, 2), correction=1), C),
    "std": (lambda a: np.std(a, axis=0), lambda a: torch.std(a, 0, correction=0), A), "std all": (lambda a: np.std(a, ddof=1), lambda a: torch.std(a), A),
    "prod": (lambda a: np.prod(a, axis=1), lambda a: torch.prod(a, 1), A), "prod with zeros": (np.prod, torch.prod, np.array([2.0, 0.0, 3.0])), "prod with two zeros": (np.prod, torch.prod, np.array([2.0, 0.0, 0.0])),
    "reshape": (lambda a: np.reshape(a, (2, -1)), lambda a: a.reshape(2, -1), A), "reshape of T": (lambda a: a.T.reshape(2, 6), lambda a: a.T.reshape(2, 6), A), "ravel": (np.ravel, torch.ravel, C),
    "transpose": (lambda a: np.transpose(a, (2, 0, 1)), lambda a: a.permute(2, 0, 1), C), "T": (lambda a: a.T, lambda a: a.T, A), "swapaxes": (lambda a: np.swapaxes(a, 0, 2), lambda a: a.swapaxes(0, 2), C),
    "moveaxis": (lambda a: np.moveaxis(a, 0, -1), lambda a: torch.moveaxis(a, 0, -1), C), "flip": (lambda a: np.flip(a, 1), lambda a: torch.flip(a, [1]), A),
    "squeeze": (lambda a: np.squeeze(a[:, :1], axis=1), lambda a: a[:, :1].squeeze(1), A), "expand_dims": (lambda a: np.expand_dims(a, 1) * C[0], lambda a: a.unsqueeze(1) * torch.tensor(C[0]), V[:3]),
    "concatenate": (lambda a, b: np.concatenate([a, b], axis=1), lambda a, b: torch.cat([a, b], 1), A, S), "stack": (lambda a, b: np.stack([a, b], axis=-1), lambda a, b: torch.stack([a, b], -1), A, P),
    "broadcast_to": (lambda a: np.broadcast_to(a, (2, 3, 4)), lambda a: a.broadcast_to(2, 3, 4), V), "cumsum": (lambda a: np.cumsum(a, axis=1), lambda a: torch.cumsum(a, 1), A),
    "matmul": (np.matmul, torch.matmul, A, B), "matrix @ vector": (np.matmul, torch.matmul, A, V), "vector @ matrix": (np.matmul, torch.matmul, V, B), "vector @ vector": (np.matmul, torch.matmul, V, V + 1),
    "batch @ matrix": (np.matmul, torch.matmul, C, B), "batch @ batch": (np.matmul, torch.matmul, C, numbers(7, 2, 4, 5)), "batch @ batch, broadcast": (np.matmul, torch.matmul, C[:, None], numbers(7, 5, 4, 2)),
    "batch @ vector": (np.matmul, torch.matmul, C, V), "vector @ batch": (np.matmul, torch.matmul, V[:3], C), "dot": (np.dot, torch.matmul, A, B), "dot vectors": (np.dot, torch.dot, V, V + 1),
    "dot, many axes": (np.dot, lambda a, b: torch.einsum("nij,kjl->nikl", a, b), C, numbers(7, 5, 4, 2)), "outer": (np.outer, torch.outer, V, V[:3]),
    "einsum": (lambda a, b: np.einsum("nij,jk->nki", a, b), lambda a, b: torch.einsum("nij,jk->nki", a, b), C, B), "einsum, to a number": (lambda a, b: np.einsum("ij,ij->", a, b), lambda a, b: (a * b).sum(), A, P),
    "einsum of one": (lambda a: np.einsum("nij->jn", a), lambda a: torch.einsum("nij->jn", a), C), "take": (lambda a: np.take(a, [0, 2, 2], axis=1), lambda a: a[:, [0, 2, 2]], A),
    "take, flat": (lambda a: np.take(a, [[0, 7], [7, 11]]), lambda a: torch.take(a, torch.tensor([[0, 7], [7, 11]])), A), "norm": (np.linalg.norm, torch.linalg.norm, A),
    "norm axis": (lambda a: np.linalg.norm(a, axis=1), lambda a: torch.linalg.norm(a, dim=1), A), "norm at 0": (np.linalg.norm, torch.linalg.norm, np.zeros(3)),
    "slices": (lambda a: a[1:, ::2], lambda a: a[1:, ::2], A), "None and ...": (lambda a: a[..., None, 0], lambda a: a[..., None, 0], C), "integers": (lambda a: a[[0, 0, 2], [1, 1, 3]], lambda a: a[[0, 0, 2], [1, 1, 3]], A),
    "an integer": (lambda a: a[-1], lambda a: a[-1], A), "mask": (lambda a: a[mask], lambda a: a[torch.tensor(mask)], A), "mask of rows": (lambda a: a[mask[:, 0]], lambda a: a[torch.tensor(mask[:, 0])], A),
    "integers beside a slice": (lambda a: a[:, [1, 1], :2], lambda a: a[:, [1, 1], :2], C),
    "used many times": (lambda a: (lambda b: b + b * b + np.exp(b) @ b.T @ b)(a * a), lambda a: (lambda b: b + b * b + torch.exp(b) @ b.T @ b)(a * a), S / 2),
}


@pytest.mark.parametrize("name", operations)
def test_operations(name): agree(*operations[name])


wide = np.r_[numbers(0, 20) * 3, -800.0, -90.0, -20.0, 20.0, 90.0, 800.0]
activations = {
    "sigmoid": (nn.sigmoid, torch.sigmoid), "tanh": (nn.tanh, torch.tanh), "relu": (nn.relu, torch.relu), "leaky_relu": (nn.leaky_relu, F.leaky_relu), "elu": (nn.elu, F.elu), "silu": (nn.silu, F.silu),
    "gelu": (nn.gelu, lambda x: F.gelu(x, approximate="tanh")), "softplus": (nn.softplus, lambda x: torch.logaddexp(x, torch.zeros_like(x))), "identity": (nn.identity, lambda x: x * 1),
    "leaky_relu with a slope": (lambda x: nn.leaky_relu(x, slope=0.3), lambda x: F.leaky_relu(x, 0.3)), "elu with alpha": (lambda x: nn.elu(x, 0.5), lambda x: F.elu(x, 0.5)),
}


@pytest.mark.parametrize("name", activations)
def test_activations(name): agree(*activations[name], wide)


@pytest.mark.parametrize("name", ["relu", "leaky_relu"])
def test_activations_at_the_corner(name): agree(*activations[name], np.array([0.0, -0.0]))


def test_softmax():
    for ours, theirs in (nn.softmax, F.softmax), (nn.log_softmax, F.log_softmax):
        for z in A * 5, A * 1000, C: agree(ours, lambda x: theirs(x, -1), z)  # noqa: B023
        agree(lambda x: ours(x, axis=0), lambda x: theirs(x, 0), C)  # noqa: B023


labels, weight = np.array([1, 3, 0]), np.array([1.0, 0.0, 2.5])
soft = np.exp(numbers(8, 3, 4)) / np.exp(numbers(8, 3, 4)).sum(axis=1, keepdims=True)


def weighted(losses, w=weight):
    "The weighted mean over the batch of a loss for each sample."
    w = torch.tensor(w)
    return (losses.reshape(len(losses), -1).mean(1) * w).sum() / w.sum()


t_labels, t_soft = torch.tensor(labels), torch.tensor(soft)
losses = {
    "mse": (lambda p, t: nn.mse(p, t), lambda p, t: F.mse_loss(p, t), A, P), "mae": (lambda p, t: nn.mae(p, t), lambda p, t: F.l1_loss(p, t), A, P),
    "huber": (lambda p, t: nn.huber(p, t), lambda p, t: F.huber_loss(p, t), A * 2, P), "huber, delta": (lambda p, t: nn.huber(p, t, delta=0.3), lambda p, t: F.huber_loss(p, t, delta=0.3), A, P),
    "mse, weights": (lambda p, t: nn.mse(p, t, weight), lambda p, t: weighted((p - t) ** 2), A, P), "mae, weights": (lambda p, t: nn.mae(p, t, weight), lambda p, t: weighted((p - t).abs()), A, P),
    "huber, weights": (lambda p, t: nn.huber(p, t, weight, 0.5), lambda p, t: weighted(F.huber_loss(p, t, delta=0.5, reduction="none")), A, P),
    "mse, many axes, weights": (lambda p: nn.mse(p, C * 0, weight[[0, 2]]), lambda p: weighted(p ** 2, weight[[0, 2]]), C),
    "binary_cross_entropy": (lambda z: nn.binary_cross_entropy(z, soft), lambda z: F.binary_cross_entropy_with_logits(z, t_soft), A * 30),
    "binary_cross_entropy, weights": (lambda z: nn.binary_cross_entropy(z, soft, weight), lambda z: weighted(F.binary_cross_entropy_with_logits(z, t_soft, reduction="none")), A),
    "cross_entropy": (lambda z: nn.cross_entropy(z, labels), lambda z: F.cross_entropy(z, t_labels), A * 5), "cross_entropy, large": (lambda z: nn.cross_entropy(z, labels), lambda z: F.cross_entropy(z, t_labels), A * 1000),
    "cross_entropy, smoothing": (lambda z: nn.cross_entropy(z, labels, label_smoothing=0.2), lambda z: F.cross_entropy(z, t_labels, label_smoothing=0.2), A),
    "cross_entropy, weights": (lambda z: nn.cross_entropy(z, labels, weight), lambda z: weighted(F.cross_entropy(z, t_labels, reduction="none")), A),
    "cross_entropy, both": (lambda z: nn.cross_entropy(z, labels, weight, 0.1), lambda z: weighted(F.cross_entropy(z, t_labels, reduction="none", label_smoothing=0.1)), A),
    "cross_entropy, probabilities": (lambda z: nn.cross_entropy(z, soft), lambda z: F.cross_entropy(z, t_soft), A),
    "cross_entropy, probabilities and both": (lambda z: nn.cross_entropy(z, soft, weight, 0.1), lambda z: weighted(F.cross_entropy(z, t_soft, reduction="none", label_smoothing=0.1)), A),
}


@pytest.mark.parametrize("name", losses)
def test_losses(name): agree(*losses[name])


@pytest.mark.parametrize("shape", [(5, 4), (4,), (2, 5, 4)], ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_linear(shape, bias):
    arrays = [numbers(0, *shape), numbers(1, 4, 3), *([numbers(2, 3)] if bias else [])]
    agree(nn.linear, lambda x, w, b=None: F.linear(x, w.T, b), *arrays)


@pytest.mark.parametrize("n", [0, 1])
def test_linear_of_an_empty_batch_and_of_one_sample(n): agree(nn.linear, lambda x, w, b: F.linear(x, w.T, b), numbers(0, n, 4), numbers(1, 4, 3), numbers(2, 3))


ours_to_theirs = {nn.relu: torch.nn.ReLU(), nn.tanh: torch.nn.Tanh(), nn.sigmoid: torch.nn.Sigmoid(), nn.gelu: torch.nn.GELU(approximate="tanh"), nn.silu: torch.nn.SiLU(), nn.elu: torch.nn.ELU(),
                  nn.leaky_relu: torch.nn.LeakyReLU()}


def twin(model):
    "The same network in PyTorch, with the same parameters, and its gradients by our names."
    layers = []
    for layer in model:
        if not isinstance(layer, nn.Linear):
            layers.append(ours_to_theirs[layer])
            continue
        theirs = torch.nn.Linear(*layer.weight.shape, bias=layer.bias is not None, dtype=torch.float64)
        theirs.weight.data[...] = torch.tensor(layer.weight.T.copy())
        if layer.bias is not None: theirs.bias.data[...] = torch.tensor(layer.bias)
        layers.append(theirs)
    return torch.nn.Sequential(*layers)


@pytest.mark.parametrize("activation", ours_to_theirs, ids=lambda f: f.__name__)
def test_networks_and_their_names(activation):
    model = nn.Sequential(*nn.mlp([5, 7, 6, 4], activation, rng=0, dtype=np.float64), activation, nn.Linear(4, 3, bias=False, rng=1, dtype=np.float64))
    theirs = twin(model)
    x, y = numbers(2, 8, 5), np.arange(8) % 3
    assert list(model.parameters()) == [name for name, _ in theirs.named_parameters()]
    value, grads = nn.value_and_grad(lambda m: nn.cross_entropy(m(x), y, label_smoothing=0.1))(model)
    loss = F.cross_entropy(theirs(torch.tensor(x)), torch.tensor(y), label_smoothing=0.1)
    loss.backward()
    assert abs(value - loss.item()) < 1e-9
    for name, p in theirs.named_parameters():
        np.testing.assert_allclose(grads[name], p.grad.numpy().T, rtol=1e-9, atol=1e-9, err_msg=name)


def test_a_shared_layer_and_a_skip():
    layer, x = nn.Linear(4, 4, rng=0, dtype=np.float64), numbers(1, 6, 4)

    class Skip(nn.Module):
        def __init__(self): self.layer, self.scale = layer, numbers(2, 4)

        def __call__(self, x):
            for _ in range(3): x = x + nn.tanh(self.layer(x))
            return x * self.scale

    model = Skip()
    grads = nn.grad(lambda m: np.mean(m(x) ** 2))(model)
    w, b, scale = (torch.tensor(a.copy(), requires_grad=True) for a in (layer.weight, layer.bias, model.scale))
    h = torch.tensor(x)
    for _ in range(3): h = h + torch.tanh(h @ w + b)
    ((h * scale) ** 2).mean().backward()
    for name, t in ("layer.weight", w), ("layer.bias", b), ("scale", scale):
        np.testing.assert_allclose(grads[name], t.grad.numpy(), rtol=1e-9, atol=1e-9, err_msg=name)


def test_tied_weights():
    w, x = numbers(0, 4, 3), numbers(1, 5, 4)
    agree(lambda w: nn.mse(nn.tanh(x @ w) @ w.T, x), lambda w: F.mse_loss(torch.tanh(torch.tensor(x) @ w) @ w.T, torch.tensor(x)), w)


def test_float32_is_as_exact_as_theirs():
    model = nn.mlp([20, 30, 5], rng=0)
    x, y = numbers(0, 16, 20).astype(np.float32), np.arange(16) % 5
    grads = nn.grad(lambda m: nn.cross_entropy(m(x), y))(model)
    theirs = twin(nn.Sequential(*model)).float()
    F.cross_entropy(theirs(torch.tensor(x)), torch.tensor(y)).backward()
    for name, p in theirs.named_parameters(): np.testing.assert_allclose(grads[name], p.grad.numpy().T, rtol=2e-4, atol=1e-6, err_msg=name)
