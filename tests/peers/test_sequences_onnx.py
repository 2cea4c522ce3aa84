"""Sequences as ONNX: recurrent layers, attention, blocks and a GPT answer in onnxruntime as they do here; a tied table stands in the file once."""

import numpy as np
import pytest

import nn_from_scratch as nn

pytestmark = pytest.mark.peers
onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")


def answers(path, x):
    y, = runtime.InferenceSession(path).run(None, {"x": x})
    return y


def drawn(model, rng=0):
    "All arrays away from where they begin, biases and norms too."
    vector = model.parameters().vector
    vector += np.random.default_rng(rng).normal(0, 0.3, vector.size).astype(vector.dtype)
    return model


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("t", [1, 7])
def test_recurrent_layers(kind, layers, t, tmp_path):
    model = drawn(getattr(nn, kind)(3, 5, layers, rng=0))
    for n in 1, 4:
        x = np.random.default_rng(n).normal(size=(n, t, 3)).astype("f4")
        nn.export_onnx(model, tmp_path / "m.onnx", x[:1])
        np.testing.assert_allclose(answers(tmp_path / "m.onnx", x), model(x)[0], atol=2e-6)


@pytest.mark.parametrize("options", [{}, {"causal": False}, {"rotary": True}, {"kv_heads": 2}, {"kv_heads": 1, "rotary": True}, {"bias": False}], ids=str)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_attention(options, dtype, tmp_path):
    model = drawn(nn.MultiHeadAttention(16, 4, rng=0, dtype=np.dtype(dtype), **options))
    for t in 1, 6:
        x = np.random.default_rng(t).normal(size=(3, t, 16)).astype(dtype)
        nn.export_onnx(model, tmp_path / "m.onnx", x[:1])
        np.testing.assert_allclose(answers(tmp_path / "m.onnx", x), model(x), atol=5e-6 if dtype == "f4" else 1e-12)


@pytest.mark.parametrize("options", [{}, {"norm": "rms"}, {"norm": None, "activation": nn.relu}, {"causal": False, "dropout": 0.3},
                                     {"kv_heads": 1, "rotary": True}], ids=str)
def test_blocks(options, tmp_path):
    model = drawn(nn.TransformerBlock(16, 4, rng=0, **options)).eval()
    x = np.random.default_rng(1).normal(size=(3, 5, 16)).astype("f4")
    nn.export_onnx(model, tmp_path / "m.onnx", x[:1])
    np.testing.assert_allclose(answers(tmp_path / "m.onnx", x), model(x), atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"positions": "rotary"}, {"positions": None, "norm": "rms"}, {"tie": False}, {"kv_heads": 1},
                                     {"activation": nn.silu, "dropout": 0.1}], ids=str)
@pytest.mark.parametrize("t", [1, 8])
def test_gpts(options, t, tmp_path):
    model = drawn(nn.GPT(11, 8, 16, 4, 2, rng=0, **options)).eval()
    x = np.random.default_rng(0).integers(11, size=(3, t))
    nn.export_onnx(model, tmp_path / "m.onnx", x[:1])
    np.testing.assert_allclose(answers(tmp_path / "m.onnx", x), model(x), rtol=1e-4, atol=1e-4)
    tables = [a.name for a in onnx.load(tmp_path / "m.onnx").graph.initializer if a.dims == [11, 16]]
    assert tables == ["GPT.embedding.weight"], "a tied table stands in the file once; one that is not tied is (16, 11)"
