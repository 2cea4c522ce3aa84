"""Layers for pictures against PyTorch: values, gradients, files; and what onnxruntime makes of them."""

import numpy as np
import pytest

import nn_from_scratch as nn
from nn_from_scratch import fast

torch = pytest.importorskip("torch")
pytest.importorskip("hypothesis")
from hypothesis import strategies as st  # noqa: E402

F = torch.nn.functional
pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")]
PACES = pytest.mark.parametrize("switch", [fast.enable, fast.disable], ids=["quicker forms", "as the chapters write it"])
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


def turned(x): return np.moveaxis(x, -1, 1)
def back(x): return np.moveaxis(x, 1, -1)


def agree(ours, theirs, arrays, layouts, tol=1e-10):
    "Value and all gradients; `layouts` bring our arrays into PyTorch's order of axes."
    tensors = [torch.tensor(np.ascontiguousarray(lay(a)), requires_grad=True) for a, lay in zip(arrays, layouts)]
    y = theirs(*tensors)
    mine = ours(*arrays)
    np.testing.assert_allclose(turned(mine), y.detach().numpy(), atol=tol, rtol=tol)
    direction = np.random.default_rng(1).normal(size=mine.shape)
    (y * torch.tensor(np.ascontiguousarray(turned(direction)))).sum().backward()
    slopes = nn.grad(lambda p: np.sum(ours(*p) * direction))(list(arrays))
    for slope, tensor, lay in zip(slopes, tensors, layouts):
        np.testing.assert_allclose(lay(slope), tensor.grad.numpy(), atol=tol, rtol=tol)


def kernels(w): return w.transpose(3, 2, 0, 1)
def same(b): return b


@PACES
def test_conv2d(on_examples, switch):
    switch()

    def check(data):
        draw = data.draw
        groups, c, o, n = (draw(st.integers(1, 3)) for _ in range(4))
        size, stride, dilation, spare = (draw(pairs) for _ in range(4))
        padding = draw(st.sampled_from([0, 1, (0, 2), (2, 1), "valid", "same"]))
        if padding == "same": stride = (1, 1)
        extent = [d * (k - 1) + s for d, k, s in zip(dilation, size, spare)]
        rng = np.random.default_rng(draw(st.integers(0, 2**32)))
        x, w, b = (rng.normal(size=shape) for shape in ((n, *extent, c * groups), (*size, c, o * groups), (o * groups,)))
        if draw(st.booleans()): x = np.asfortranarray(x)
        options = dict(stride=stride, padding=padding, dilation=dilation, groups=groups)
        agree(lambda *a: nn.conv2d(*a, **options), lambda *a: F.conv2d(*a, **options), (x, w, b), (turned, kernels, same))

    on_examples(check, 0.3, data=st.data())


@PACES
@pytest.mark.parametrize("layers", [lambda conv: [conv, nn.relu, nn.MaxPool2d(2)], lambda conv: [conv, nn.MaxPool2d(2), nn.relu]],
                         ids=["relu first", "pool first"])
def test_stages(switch, layers):
    "Convolution, relu and pool, which the quicker form takes as one stage."
    switch()
    rng = np.random.default_rng(0)
    for padding, image, c in [(0, (8, 9), 1), (1, (7, 6), 3), (2, (5, 5), 2)]:
        conv = nn.Conv2d(c, 4, 3, padding=padding, rng=1, dtype=np.float64)
        model, x = nn.Sequential(*layers(conv)), rng.normal(size=(3, *image, c))
        w, b = conv.weight, conv.bias
        value, grads = nn.value_and_grad(lambda model, x: np.sum(model(x) ** 2))(model, x)
        tw, tb = (torch.tensor(np.ascontiguousarray(a), requires_grad=True) for a in (kernels(w), b))
        y = F.max_pool2d(F.relu(F.conv2d(torch.tensor(np.ascontiguousarray(turned(x))), tw, tb, padding=padding)), 2)
        (y**2).sum().backward()
        np.testing.assert_allclose(value, float((y**2).sum().detach()), rtol=1e-12)
        np.testing.assert_allclose(kernels(grads["0.weight"]), tw.grad.numpy(), rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(grads["0.bias"], tb.grad.numpy(), rtol=1e-10, atol=1e-10)


@PACES
def test_conv_transpose2d(on_examples, switch):
    switch()

    def check(data):
        draw = data.draw
        groups, c, o, n = (draw(st.integers(1, 3)) for _ in range(4))
        size, stride, dilation, shape = (draw(pairs) for _ in range(4))
        more = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation))
        padding = tuple(draw(st.integers(0, (d * (k - 1)) // 2)) for d, k in zip(dilation, size))
        rng = np.random.default_rng(draw(st.integers(0, 2**32)))
        x, w, b = (rng.normal(size=shape) for shape in ((n, *shape, c * groups), (*size, o, c * groups), (o * groups,)))
        options = dict(stride=stride, padding=padding, output_padding=more, groups=groups, dilation=dilation)
        agree(lambda *a: nn.conv_transpose2d(*a, **options), lambda *a: F.conv_transpose2d(*a, **options), (x, w, b), (turned, kernels, same))

    on_examples(check, 0.2, data=st.data())


@PACES
def test_conv1d(on_examples, switch):
    switch()

    def check(data):
        draw = data.draw
        groups, c, o, n, k, stride, dilation, spare = (draw(st.integers(1, 3)) for _ in range(8))
        padding = draw(st.integers(0, 2))
        rng = np.random.default_rng(draw(st.integers(0, 2**32)))
        x, w, b = rng.normal(size=(n, dilation * (k - 1) + spare, c * groups)), rng.normal(size=(k, c, o * groups)), rng.normal(size=o * groups)
        options = dict(stride=stride, padding=padding, dilation=dilation, groups=groups)
        agree(lambda *a: nn.conv1d(*a, **options), lambda *a: F.conv1d(*a, **options), (x, w, b), (turned, lambda w: w.transpose(2, 1, 0), same))

    on_examples(check, 0.1, data=st.data())


@PACES
@pytest.mark.parametrize("ours, theirs", [(nn.max_pool2d, F.max_pool2d), (nn.avg_pool2d, F.avg_pool2d)], ids=["max", "avg"])
def test_pooling(on_examples, switch, ours, theirs):
    "Whole numbers: many of them equal, and of equal ones both give the first the gradient."
    switch()

    def check(data):
        draw = data.draw
        size, spare = draw(pairs), draw(pairs)
        stride = draw(st.none() | pairs)
        n, c = draw(st.integers(1, 3)), draw(st.integers(1, 3))
        rng = np.random.default_rng(draw(st.integers(0, 2**32)))
        x = rng.integers(0, 3, (n, *(k + 2 * s for k, s in zip(size, spare)), c)).astype(float)
        agree(lambda x: ours(x, size, stride), lambda x: theirs(x, size, stride), (x,), (turned,))

    on_examples(check, 0.2, data=st.data())


@PACES
def test_float32(switch):
    switch()
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(16, 12, 12, 8)).astype(np.float32), rng.normal(size=(3, 3, 8, 16)).astype(np.float32)
    y = nn.conv2d(x, w, padding=1)
    assert y.dtype == np.float32
    theirs = F.conv2d(torch.tensor(turned(x).copy()), torch.tensor(kernels(w).copy()), padding=1).numpy()
    np.testing.assert_allclose(turned(y), theirs, rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------- files

def both(dtype=np.float32):
    kind = getattr(torch, np.dtype(dtype).name)
    ours = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, rng=0, dtype=dtype), nn.relu, nn.MaxPool2d(2), nn.Flatten(),
                         nn.Linear(8 * 5 * 4, 10, rng=1, dtype=dtype))
    theirs = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(),
                                 torch.nn.Linear(8 * 5 * 4, 10)).to(kind)
    ours[0].bias[:] = np.random.default_rng(3).normal(size=8)
    return ours, theirs, np.random.default_rng(2).normal(size=(6, 10, 9, 3)).astype(dtype)


def answers(model, x):
    with torch.no_grad(): return model(torch.tensor(np.ascontiguousarray(turned(x)))).numpy()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_file_loads_into_pytorch_as_it_is(tmp_path, dtype):
    load_file = pytest.importorskip("safetensors.torch").load_file
    ours, theirs, x = both(dtype)
    nn.save(ours, tmp_path / "m")
    theirs.load_state_dict(load_file(tmp_path / "m"), strict=True)
    np.testing.assert_allclose(ours(x), answers(theirs, x), rtol=1e-5, atol=1e-5 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_file_of_pytorch_fills_a_model(tmp_path, dtype):
    save_file = pytest.importorskip("safetensors.torch").save_file
    ours, theirs, x = both(dtype)
    save_file(theirs.state_dict(), tmp_path / "m")
    nn.load(tmp_path / "m", into=ours)
    np.testing.assert_allclose(ours(x), answers(theirs, x), rtol=1e-5, atol=1e-5 if dtype == np.float32 else 1e-12)


LAYERS = {
    "Conv2d": (nn.Conv2d(4, 6, (3, 2), stride=(1, 2), padding=1, dilation=2, groups=2, rng=0), torch.nn.Conv2d(
        4, 6, (3, 2), stride=(1, 2), padding=1, dilation=2, groups=2)),
    "ConvTranspose2d": (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2, rng=0),
                        torch.nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2)),
    "Conv1d": (nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2, rng=0), torch.nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_each_layer_of_kernels(tmp_path, name):
    torch_files = pytest.importorskip("safetensors.torch")
    ours, theirs = LAYERS[name]
    x = np.random.default_rng(0).normal(size=(2, 9, 8, 4) if name[-2] == "2" else (2, 9, 4)).astype(np.float32)
    nn.save(ours, tmp_path / "m")
    theirs.load_state_dict(torch_files.load_file(tmp_path / "m"), strict=True)
    np.testing.assert_allclose(turned(ours(x)), answers(theirs, x), rtol=1e-5, atol=1e-5)
    ours.weight[:] = 0
    torch_files.save_file(theirs.state_dict(), tmp_path / "m")
    np.testing.assert_allclose(turned(nn.load(tmp_path / "m", into=ours)(x)), answers(theirs, x), rtol=1e-5, atol=1e-5)


MODELS = {
    "plain": lambda: both()[0],
    "all": lambda: nn.Sequential(nn.Conv2d(3, 4, 3, padding="same", rng=0), nn.relu, nn.AvgPool2d(2), nn.ConvTranspose2d(
        4, 6, 3, stride=2, padding=1, output_padding=1, groups=2, rng=1), nn.MaxPool2d(3, stride=2), nn.Conv2d(
            6, 6, (2, 1), stride=(1, 2), dilation=(2, 1), groups=3, bias=False, rng=2), nn.relu, nn.global_avg_pool, nn.Linear(6, 3, rng=3)),
    "flat": lambda: nn.Sequential(nn.Conv2d(3, 2, 9, rng=0), nn.Flatten(), nn.Flatten(), nn.Linear(4, 2, rng=1)),
}


@pytest.mark.parametrize("name", MODELS)
def test_onnxruntime_gives_the_same_answers(tmp_path, name):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    model, x = MODELS[name](), both()[2]
    nn.export_onnx(model, tmp_path / "m.onnx", x[:1])
    found, = runtime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"]).run(None, {"x": x})
    np.testing.assert_allclose(found, model(x), rtol=1e-4, atol=1e-5)


def test_onnx_of_sequences_and_of_float64(tmp_path):
    onnx = pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator
    rng = np.random.default_rng(0)
    for model, x in ((nn.Sequential(nn.Conv1d(3, 4, 3, stride=2, padding=1, rng=0, dtype=np.float64), nn.relu, nn.Flatten()), rng.normal(size=(2, 9, 3))),
                     (both(np.float64)[0], both(np.float64)[2])):
        nn.export_onnx(model, tmp_path / "m.onnx", x[:1])
        found, = ReferenceEvaluator(onnx.load(tmp_path / "m.onnx")).run(None, {"x": x})
        np.testing.assert_allclose(found, model(x), rtol=1e-10, atol=1e-10)
