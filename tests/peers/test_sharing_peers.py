"""Files go to PyTorch and come back; ONNX files run in onnxruntime; the answers are those of the model."""

import contextlib
import json
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import nn_from_scratch as nn
from nn_from_scratch.architecture import recipes
from nn_from_scratch.functions import activations
from nn_from_scratch.onnx import to_onnx

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
safetensors_torch = pytest.importorskip("safetensors.torch")

pytestmark = pytest.mark.peers
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
PAIRS = {
    "sigmoid": (nn.sigmoid, torch.nn.Sigmoid()), "tanh": (nn.tanh, torch.nn.Tanh()), "relu": (nn.relu, torch.nn.ReLU()),
    "leaky_relu": (nn.leaky_relu, torch.nn.LeakyReLU()), "leaky_relu 0.3": (partial(nn.leaky_relu, slope=0.3), torch.nn.LeakyReLU(0.3)),
    "elu": (nn.elu, torch.nn.ELU()), "elu 0.5": (partial(nn.elu, alpha=0.5), torch.nn.ELU(0.5)), "gelu": (nn.gelu, torch.nn.GELU("tanh")),
    "silu": (nn.silu, torch.nn.SiLU()), "softplus": (nn.softplus, torch.nn.Softplus()), "identity": (nn.identity, torch.nn.Identity()),
    "softmax": (nn.softmax, torch.nn.Softmax(-1)), "log_softmax": (nn.log_softmax, torch.nn.LogSoftmax(-1)),
}
EACH = pytest.mark.parametrize("name", PAIRS)


def inputs(dtype, *shape): return np.random.default_rng(0).normal(size=shape or (9, 6)).astype(dtype)


def answers(theirs, x):
    with torch.no_grad(): return theirs(torch.tensor(x)).numpy()


def close(a, b):
    assert a.dtype == b.dtype and a.shape == b.shape
    np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_every_function_of_the_file_is_here():
    functions = {function for function in recipes if not isinstance(function, type)} - {nn.global_avg_pool}  # of images: test_convolution_peers
    assert {name.split()[0] for name in PAIRS} == {function.__name__ for function in functions}
    assert functions == {function for function in to_onnx if not isinstance(function, type)} - {nn.global_avg_pool}
    assert set(activations.values()) <= functions


# ---------------------------------------------------------------- PyTorch

def both(name, dtype):
    "The same network, twice: nested, with a layer without bias."
    ours, theirs = PAIRS[name]
    sizes = [(6, 8), (8, 8), (8, 3)]
    a, b, c = (nn.Linear(*size, bias=size != (8, 8), rng=i, dtype=dtype) for i, size in enumerate(sizes))
    for layer in a, c: layer.bias[:] = np.random.default_rng(5).normal(size=layer.bias.shape)
    x, y, z = (torch.nn.Linear(*size, bias=size != (8, 8), dtype=getattr(torch, np.dtype(dtype).name)) for size in sizes)
    return nn.Sequential(a, ours, nn.Sequential(b, ours), c), torch.nn.Sequential(x, theirs, torch.nn.Sequential(y, theirs), z)


@DTYPES
@EACH
def test_pytorch_takes_the_file_as_it_is(tmp_path, name, dtype):
    ours, theirs = both(name, dtype)
    nn.save(ours, tmp_path / "m")
    tensors = safetensors_torch.load_file(tmp_path / "m")
    assert {key: t.shape for key, t in tensors.items()} == {key: t.shape for key, t in theirs.state_dict().items()}
    theirs.load_state_dict(tensors, strict=True)
    close(ours(inputs(dtype)), answers(theirs, inputs(dtype)))


@DTYPES
@EACH
def test_a_file_from_pytorch_fills_a_model(tmp_path, name, dtype):
    ours, theirs = both(name, dtype)
    safetensors_torch.save_file(theirs.state_dict(), tmp_path / "m")
    nn.load(tmp_path / "m", into=ours)
    close(ours(inputs(dtype)), answers(theirs, inputs(dtype)))
    with pytest.raises(ValueError, match="into=model"): nn.load(tmp_path / "m")


def test_standardize_becomes_an_identity(tmp_path):
    ruler = nn.Standardize(inputs(np.float32, 50, 6) * 3 + 1)
    ours = nn.Sequential(ruler, nn.Linear(6, 2, rng=0))
    nn.save(ours, tmp_path / "m")
    theirs = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(6, 2))
    theirs.load_state_dict(safetensors_torch.load_file(tmp_path / "m"))
    close(ours(inputs(np.float32)), answers(theirs, ruler(inputs(np.float32))))


def test_a_shared_layer(tmp_path):
    mine, its = nn.Linear(6, 6, rng=0), torch.nn.Linear(6, 6)
    ours, theirs = nn.Sequential(mine, nn.tanh, mine), torch.nn.Sequential(its, torch.nn.Tanh(), its)
    nn.save(ours, tmp_path / "m")
    theirs.load_state_dict(safetensors_torch.load_file(tmp_path / "m"))
    close(ours(inputs(np.float32)), answers(theirs, inputs(np.float32)))
    with torch.no_grad(): its.weight *= 2
    safetensors_torch.save_model(theirs, tmp_path / "theirs")  # writes the shared one once
    close(nn.load(tmp_path / "theirs", into=ours)(inputs(np.float32)), answers(theirs, inputs(np.float32)))


class Named(nn.Module):
    def __init__(self): self.encoder, self.head = nn.mlp([6, 4, 4], nn.relu, rng=0), nn.Linear(4, 2, rng=1)
    def __call__(self, x): return self.head(nn.tanh(self.encoder(x)))


class TorchNamed(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.ReLU(), torch.nn.Linear(4, 4))
        self.head = torch.nn.Linear(4, 2)

    def forward(self, x): return self.head(torch.tanh(self.encoder(x)))


def test_a_class_of_ones_own_goes_there_and_back(tmp_path):
    ours, theirs = Named(), TorchNamed()
    nn.save(ours, tmp_path / "m")
    theirs.load_state_dict(safetensors_torch.load_file(tmp_path / "m"))
    close(ours(inputs(np.float32)), answers(theirs, inputs(np.float32)))
    safetensors_torch.save_file(TorchNamed().state_dict(), tmp_path / "m")
    theirs.load_state_dict(safetensors_torch.load_file(tmp_path / "m"))
    close(nn.load(tmp_path / "m", into=Named())(inputs(np.float32)), answers(theirs, inputs(np.float32)))


def test_half_precision_is_refused_by_name(tmp_path):
    for dtype in torch.float16, torch.bfloat16:
        safetensors_torch.save_file({"0.weight": torch.zeros(2, 6, dtype=dtype), "0.bias": torch.zeros(2)}, tmp_path / "m")
        with pytest.raises(ValueError, match="'0.weight' is of type B?F16"): nn.load(tmp_path / "m", into=nn.mlp([6, 2]))


# ---------------------------------------------------------------- ONNX

def run(path, x):
    onnx.checker.check_model(onnx.load(path), full_check=True)
    session = onnxruntime.InferenceSession(path)
    assert [i.name for i in session.get_inputs()] == ["x"] and [o.name for o in session.get_outputs()] == ["y"]
    assert session.get_inputs()[0].shape[0] == session.get_outputs()[0].shape[0] == "batch"
    return session.run(["y"], {"x": x})[0]


@DTYPES
@EACH
def test_every_function_in_onnxruntime(tmp_path, name, dtype):
    function = PAIRS[name][0]
    model = nn.Sequential(nn.Linear(6, 5, rng=0, dtype=dtype), function, nn.Linear(5, 4, bias=False, rng=1, dtype=dtype), function)
    nn.export_onnx(model, tmp_path / "m.onnx", inputs(dtype, 1, 6))
    for n in 1, 2, 50: close(run(tmp_path / "m.onnx", inputs(dtype, n, 6)), model(inputs(dtype, n, 6)))


@DTYPES
@EACH
def test_far_out(tmp_path, name, dtype):
    "Each function alone, where an exponential would overflow."
    x = np.linspace(-2000, 2000, 401, dtype=dtype).reshape(-1, 1) / np.array([1, 100, 1000], dtype)
    model = nn.Sequential(PAIRS[name][0])
    nn.export_onnx(model, tmp_path / "m.onnx", x[:2])
    close(run(tmp_path / "m.onnx", x), model(x))


@DTYPES
@pytest.mark.parametrize("data_dtype", [np.float32, np.float64])
def test_standardize_nesting_and_a_shared_layer(tmp_path, dtype, data_dtype):
    again = nn.Linear(6, 6, rng=0, dtype=dtype)
    train = np.random.default_rng(1).normal(5, 3, (40, 6))
    train[:, 2] = 7
    model = nn.Sequential(nn.Standardize(train), again, nn.Sequential(nn.relu, nn.Sequential(again)), nn.softmax)
    x = inputs(data_dtype)
    nn.export_onnx(model, tmp_path / "m.onnx", x)
    close(run(tmp_path / "m.onnx", x), model(x))


def test_more_axes(tmp_path):
    model = nn.mlp([6, 5, 4], nn.gelu, rng=0)
    x = inputs(np.float32, 3, 7, 6)
    nn.export_onnx(model, tmp_path / "m.onnx", x[:1])
    close(run(tmp_path / "m.onnx", x), model(x))


def test_a_single_layer_and_an_empty_model(tmp_path):
    for model in nn.Linear(6, 2, rng=0), nn.Sequential():
        nn.export_onnx(model, tmp_path / "m.onnx", inputs(np.float32))
        close(run(tmp_path / "m.onnx", inputs(np.float32)), model(inputs(np.float32)))


def test_the_digits(tmp_path):
    x, y = nn.load_digits()
    model = nn.Sequential(nn.Standardize(x), *nn.mlp([64, 32, 10], rng=0))
    nn.fit(model, nn.cross_entropy, nn.Adam(0.003), (x, y), epochs=3, progress=False)
    nn.export_onnx(model, tmp_path / "m.onnx", x[:1])
    logits = run(tmp_path / "m.onnx", x)
    np.testing.assert_allclose(logits, nn.predict(model, x), rtol=1e-6, atol=1e-6 * abs(logits).max())
    assert (logits.argmax(1) == nn.predict(model, x).argmax(1)).all()


def test_what_cannot_be_exported(tmp_path):
    path = tmp_path / "m.onnx"
    for model, x, kind, word in [
        (nn.Sequential(nn.Linear(6, 4), nn.Sequential(nn.relu, Named())), inputs(np.float32), ValueError, "layer '1.1' is Named"),
        (Named(), inputs(np.float32), ValueError, "it is Named"),
        (nn.Sequential(nn.Linear(6, 4), np.tanh), inputs(np.float32), ValueError, "layer '1' is <ufunc 'tanh'>"),
        (nn.Sequential(nn.Linear(6, 4), partial(nn.softmax, axis=0)), inputs(np.float32), ValueError, "layer '1'"),
        (nn.relu, inputs(np.float32), TypeError, "expected a model"),
        (nn.mlp([6, 2]), inputs(np.float32)[0], ValueError, "must be a batch"),
        (nn.mlp([6, 2]), np.ones((2, 6), np.int32), ValueError, "int32"),
        (nn.mlp([6, 2]), inputs(np.float32, 2, 5), ValueError, "x has 5 features but the weight expects 6"),
    ]:
        with pytest.raises(kind, match=word): nn.export_onnx(model, path, x)
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- the chapter

def test_the_cells_of_the_chapter_run():
    "All of its code, in order, with the cells that need other libraries."
    path = Path(__file__).resolve().parents[2] / "nbs" / "20_sharing.ipynb"
    if not path.exists(): pytest.skip("the notebooks are not there")
    pytest.importorskip("nbdev")
    cells = [c for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
    codes = ["".join(c["source"]) for c in cells]
    assert sum("eval: false" in code for code in codes) >= 3
    names = {"__name__": "chapter"}
    with warnings.catch_warnings(), contextlib.redirect_stdout(None):
        warnings.simplefilter("ignore")
        for code in codes:
            if "show_doc(" not in code and "nbdev" not in code.splitlines()[-1]: exec(compile(code, "20_sharing", "exec"), names)
    assert names["session"].get_inputs()[0].name == "x"
