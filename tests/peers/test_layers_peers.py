"""Norms and dropout against PyTorch, in float64: values, gradients, running statistics, runs of training with the same masks; and files both ways."""

import numpy as np
import pytest

import nn_from_scratch as nn
from nn_from_scratch import fast
from nn_from_scratch.dropout import dropout_mask
from nn_from_scratch.norms import batch_norm, layer_norm, rms_norm

torch = pytest.importorskip("torch")
hypothesis = pytest.importorskip("hypothesis")
from hypothesis import strategies as st  # noqa: E402

pytestmark = pytest.mark.peers
F = torch.nn.functional


def turned(f):
    "A function of (n, features, …), for numbers (n, …, features)."
    return lambda x, *rest: torch.movedim(f(torch.movedim(x, -1, 1), *rest), 1, -1)


PAIRS = {
    "batch_norm": (batch_norm, turned(lambda x, w, b, eps: F.batch_norm(x, None, None, w, b, True, 0.1, eps))),
    "layer_norm": (layer_norm, lambda x, w, b, eps: F.layer_norm(x, x.shape[-1:], w, b, eps)),
    "rms_norm": (rms_norm, lambda x, w, eps: F.rms_norm(x, x.shape[-1:], w, eps)),
}


def close(ours, theirs, tol=1e-9):
    theirs = theirs.detach().numpy() if isinstance(theirs, torch.Tensor) else theirs
    assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=tol, atol=tol)


@pytest.mark.parametrize("quick", [True, False], ids=["quick", "text"])
@pytest.mark.parametrize("name", PAIRS)
def test_values_and_gradients(name, quick, on_examples):
    ours, theirs = PAIRS[name]

    def check(seed, shape, eps, scale):
        if name == "rms_norm" and not hasattr(F, "rms_norm"): pytest.skip("an older PyTorch")
        rng = np.random.default_rng(seed)
        x = rng.normal(rng.normal(), scale, shape)
        args = [x, *(rng.normal(size=shape[-1]) for _ in range(1 if name == "rms_norm" else 2))]
        tensors = [torch.tensor(a, requires_grad=True) for a in args]
        direction = rng.normal(size=shape)
        value = theirs(*tensors, eps)
        value.backward(torch.tensor(direction))
        close(ours(*args, eps), value)
        grads = nn.grad(lambda p: np.sum(ours(*p, eps) * direction))(args)
        for g, t in zip(grads, tensors, strict=True):
            np.testing.assert_allclose(g, t.grad.numpy(), rtol=1e-9, atol=1e-9 * max(1, np.abs(g).max()))

    if not quick: fast.disable()
    try:
        on_examples(check, 0.05, seed=st.integers(0, 2**31), eps=st.sampled_from([1e-5, 1e-3, 0.1]), scale=st.sampled_from([0.1, 1.0, 30.0]),
                    shape=st.lists(st.integers(1, 6), min_size=0, max_size=2).flatmap(lambda inner: st.tuples(
                        st.integers(2, 20), *map(st.just, inner), st.integers(2, 40))))
    finally: fast.enable()


@pytest.mark.parametrize("momentum", [0.1, 0.9])
@pytest.mark.parametrize("shape", [(8, 5), (4, 3, 5)])
def test_running_statistics(momentum, shape):
    ours, theirs = nn.BatchNorm(5, momentum, dtype=np.float64), torch.nn.BatchNorm1d(5, momentum=momentum, dtype=torch.float64)
    rng = np.random.default_rng(0)
    for i in range(10):
        x = rng.normal(i, i + 1, shape)
        close(ours(x), turned(theirs)(torch.tensor(x)), 1e-10)
        close(ours._running_mean, theirs.running_mean, 1e-12)
        close(ours._running_var, theirs.running_var, 1e-12)
    close(ours.eval()(x), turned(theirs.eval())(torch.tensor(x)), 1e-10)


class Masked(torch.nn.Module):
    "Dropout whose masks are drawn as ours are."
    def __init__(self, p, rng):
        super().__init__()
        self.p, self.rng = p, rng

    def forward(self, x):
        return x * torch.tensor(dropout_mask(x.detach().numpy(), self.p, self.rng)) if self.training else x


def both(dtype=np.float64):
    "One network, twice."
    ours = nn.Sequential(
        nn.Linear(6, 16, rng=0, dtype=dtype), nn.BatchNorm(16, dtype=dtype), nn.relu, nn.Dropout(0.3, rng=9),
        nn.Linear(16, 8, rng=1, dtype=dtype), nn.LayerNorm(8, dtype=dtype), nn.tanh, nn.Linear(8, 3, rng=2, dtype=dtype))
    t = torch.nn
    theirs = t.Sequential(t.Linear(6, 16), t.BatchNorm1d(16), t.ReLU(), Masked(0.3, np.random.default_rng(9)),
                          t.Linear(16, 8), t.LayerNorm(8), t.Tanh(), t.Linear(8, 3)).to(getattr(torch, np.dtype(dtype).name))
    with torch.no_grad():
        for i in (0, 4, 7):
            theirs[i].weight.copy_(torch.tensor(ours[i].weight.T.copy()))
            theirs[i].bias.copy_(torch.tensor(ours[i].bias))
    return ours, theirs


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_a_run_of_training(name):
    ours, theirs = both()
    rng = np.random.default_rng(0)
    x, y = rng.normal(2, 3, (96, 6)), rng.integers(0, 3, 96)
    mine = {"SGD": nn.SGD(0.1, momentum=0.9), "Adam": nn.Adam(0.01), "AdamW": nn.AdamW(0.01, weight_decay=0.1)}[name]
    its = {"SGD": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9), "Adam": lambda p: torch.optim.Adam(p, 0.01),
           "AdamW": lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1)}[name](theirs.parameters())
    history = []
    nn.fit(ours, nn.cross_entropy, mine, [(x[i:i + 24], y[i:i + 24]) for i in range(0, 96, 24)], epochs=10, progress=False,
           callbacks=[lambda run: history.append(run.model.parameters().vector.copy())])
    for epoch in range(10):
        for i in range(0, 96, 24):
            its.zero_grad()
            F.cross_entropy(theirs(torch.tensor(x[i:i + 24])), torch.tensor(y[i:i + 24])).backward()
            its.step()
        vector = np.concatenate([(p.T if p.ndim == 2 else p).detach().numpy().ravel() for p in theirs.parameters()])
        np.testing.assert_allclose(history[epoch], vector, rtol=1e-9, atol=1e-9)
    close(ours[1]._running_mean, theirs[1].running_mean)
    close(ours[1]._running_var, theirs[1].running_var)
    theirs.eval()
    close(nn.predict(ours, x), theirs(torch.tensor(x)))


# ---------------------------------------------------------------- files

def trained(dtype):
    ours, theirs = both(dtype)
    x, y = np.random.default_rng(1).normal(2, 3, (64, 6)).astype(dtype), np.random.default_rng(1).integers(0, 3, 64)
    nn.fit(ours, nn.cross_entropy, nn.Adam(0.01), (x, y), epochs=3, progress=False)
    return ours, theirs.eval(), x


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pytorch_takes_the_file_as_it_is(tmp_path, dtype):
    safetensors_torch = pytest.importorskip("safetensors.torch")
    ours, theirs, x = trained(dtype)
    nn.save(ours, tmp_path / "m")
    tensors = safetensors_torch.load_file(tmp_path / "m")
    assert {*tensors} == {*theirs.state_dict()} - {"1.num_batches_tracked"}
    theirs.load_state_dict(tensors, strict=True)
    close(nn.predict(ours, x), theirs(torch.tensor(x)), 1e-5 if dtype == np.float32 else 1e-12)
    safetensors_torch.load_model(theirs, tmp_path / "m")  # strict as well


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_file_from_pytorch_fills_a_model(tmp_path, dtype):
    safetensors_torch = pytest.importorskip("safetensors.torch")
    ours, theirs, x = trained(dtype)
    theirs.train()(torch.tensor(x))
    safetensors_torch.save_file(theirs.state_dict(), tmp_path / "m")
    nn.load(tmp_path / "m", into=ours)
    close(nn.predict(ours, x), theirs.eval()(torch.tensor(x)), 1e-5 if dtype == np.float32 else 1e-12)
    assert (ours[1]._running_var == theirs[1].running_var.numpy()).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_onnxruntime_computes_the_same(tmp_path, dtype):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    ours, _, x = trained(dtype)
    ours.layers.append(nn.RMSNorm(3, dtype=dtype))
    nn.export_onnx(ours.eval(), tmp_path / "m", x[:1])
    found = onnxruntime.InferenceSession(tmp_path / "m").run(["y"], {"x": x})[0]
    close(nn.predict(ours, x), found, 1e-5 if dtype == np.float32 else 1e-12)


def test_onnx_of_a_model_in_training_mode_is_that_of_evaluation(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    ours, _, x = trained(np.float32)
    before = ours[1]._running_mean.copy()
    nn.export_onnx(ours.train(), tmp_path / "m", x[:1])  # one row: no batch to take a mean of
    found = onnxruntime.InferenceSession(tmp_path / "m").run(["y"], {"x": x})[0]
    close(nn.predict(ours, x), found, 1e-5)
    assert (ours[1]._running_mean == before).all()
