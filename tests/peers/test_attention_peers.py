"Attention and the layers made of it against PyTorch, in float64 to 1e-9: values, gradients, files both ways."
import numpy as np
import pytest

import nn_from_scratch as nn
from nn_from_scratch import fast
from nn_from_scratch.attention import MultiHeadAttention, attention

torch = pytest.importorskip("torch")
hypothesis = pytest.importorskip("hypothesis")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402


def close(ours, theirs, tol=1e-9):
    theirs = theirs.detach().numpy() if hasattr(theirs, "detach") else theirs
    assert np.shape(ours) == np.shape(theirs) and np.allclose(ours, theirs, rtol=tol, atol=tol)


@settings(deadline=None, max_examples=80)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 6), st.integers(1, 6), st.integers(1, 5), st.integers(1, 4),
       st.sampled_from(["none", "causal", "mask"]), st.booleans(), st.integers(0, 9))
def test_attention_and_its_gradients(n, heads, t, s, d, width, kind, quick, seed):
    (fast.enable if quick else fast.disable)()
    rng = np.random.default_rng(seed)
    if kind == "causal": s = t  # where there are more keys than queries, PyTorch's is_causal means something else
    q, k, v, g = (rng.standard_normal((n, heads, *shape)) for shape in ((t, d), (s, d), (s, width), (t, width)))
    mask = None
    if kind == "mask":
        mask = rng.random((n, 1, t, s)) < 0.6
        mask[..., 0] |= ~mask.any(axis=-1)  # every query sees a key
    tq, tk, tv = (torch.tensor(a, requires_grad=True) for a in (q, k, v))
    theirs = torch.nn.functional.scaled_dot_product_attention(
        tq, tk, tv, attn_mask=None if mask is None else torch.tensor(mask), is_causal=kind == "causal")
    theirs.backward(torch.tensor(g))
    ours, grads = nn.value_and_grad(lambda three: np.sum(attention(*three, kind == "causal", mask) * g))([q, k, v])
    close(attention(q, k, v, kind == "causal", mask), theirs)
    for a, b in zip(grads, (tq, tk, tv)): close(a, b.grad)
    fast.enable()


def test_rows_that_are_all_mask_are_zeros_as_in_pytorch():
    q = np.random.default_rng(0).standard_normal((1, 1, 3, 4))
    mask = np.array([[True, False, False], [False] * 3, [True] * 3])
    tq = torch.tensor(q, requires_grad=True)
    from torch.nn.attention import SDPBackend, sdpa_kernel
    with sdpa_kernel(SDPBackend.MATH):
        theirs = torch.nn.functional.scaled_dot_product_attention(tq, tq, tq, attn_mask=torch.tensor(mask))
    close(attention(q, q, q, mask=mask), theirs)


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("t", [1, 2, 7])
def test_multi_head_attention(t, bias, causal, quick, tmp_path):
    (fast.enable if quick else fast.disable)()
    theirs = torch.nn.MultiheadAttention(12, 3, bias=bias, batch_first=True, dtype=torch.float64)
    for p in theirs.parameters(): torch.nn.init.normal_(p, std=0.5)
    from safetensors.torch import load_file, save_file
    save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    ours = nn.load(tmp_path / "theirs.safetensors", into=MultiHeadAttention(12, 3, causal, bias=bias, dtype=np.float64))
    x, g = np.random.default_rng(1).standard_normal((2, 4, t, 12))
    tx = torch.tensor(x, requires_grad=True)
    hidden = torch.triu(torch.ones(t, t, dtype=torch.bool), 1) if causal else None  # True: may not look
    y = theirs(tx, tx, tx, attn_mask=hidden, need_weights=False)[0]
    y.backward(torch.tensor(g))
    _, grads = nn.value_and_grad(lambda m: np.sum(m(x) * g))(ours)
    close(ours(x), y)
    close(nn.grad(lambda x: np.sum(ours(x) * g))(x), tx.grad)
    close(grads["in_proj_weight"].T, theirs.in_proj_weight.grad)
    close(grads["out_proj.weight"].T, theirs.out_proj.weight.grad)
    if bias: close(grads["in_proj_bias"], theirs.in_proj_bias.grad)
    nn.save(ours, tmp_path / "ours.safetensors")
    theirs.load_state_dict(load_file(tmp_path / "ours.safetensors"))
    again = nn.load(tmp_path / "ours.safetensors")  # the layer in words
    assert repr(again) == repr(ours) and (again(x) == ours(x)).all()
    fast.enable()


# ---------------------------------------------------------------- a block and a GPT

@pytest.mark.parametrize("quick", [True, False])
def test_a_block_is_pytorchs_encoder_layer(quick, tmp_path):
    (fast.enable if quick else fast.disable)()
    from safetensors.torch import load_file

    from nn_from_scratch.gpt import TransformerBlock
    ours = TransformerBlock(12, 3, activation=nn.relu, rng=0, dtype=np.float64)
    ours.parameters().vector[...] *= 5
    nn.save(ours, tmp_path / "block.safetensors")
    theirs = torch.nn.TransformerEncoderLayer(12, 3, 48, 0.0, "relu", batch_first=True, norm_first=True, dtype=torch.float64)
    theirs.load_state_dict(load_file(tmp_path / "block.safetensors"))  # the names are PyTorch's
    x, g = np.random.default_rng(1).standard_normal((2, 4, 7, 12))
    y = theirs(torch.tensor(x), torch.triu(torch.ones(7, 7, dtype=torch.bool), 1))
    y.backward(torch.tensor(g))
    close(ours(x), y)
    grads = nn.grad(lambda m: np.sum(m(x) * g))(ours)
    for name, p in theirs.named_parameters():
        mine = grads[name]
        close(mine.T if p.ndim == 2 else mine, p.grad)
    fast.enable()


class GPT2(torch.nn.Module):
    "GPT-2 as its authors' checkpoints have it, in PyTorch."

    class Conv1D(torch.nn.Module):
        def __init__(self, n_in, n_out):
            super().__init__()
            self.weight, self.bias = torch.nn.Parameter(0.1 * torch.randn(n_in, n_out)), torch.nn.Parameter(0.1 * torch.randn(n_out))

        def forward(self, x): return x @ self.weight + self.bias

    def __init__(self, vocabulary, context, d, heads, layers, inner=Conv1D):
        super().__init__()
        self.heads = heads
        self.wte, self.wpe = torch.nn.Embedding(vocabulary, d), torch.nn.Embedding(context, d)
        self.h = torch.nn.ModuleList(torch.nn.ModuleDict({
            "ln_1": torch.nn.LayerNorm(d), "attn": torch.nn.ModuleDict({"c_attn": inner(d, 3 * d), "c_proj": inner(d, d)}),
            "ln_2": torch.nn.LayerNorm(d), "mlp": torch.nn.ModuleDict({"c_fc": inner(d, 4 * d), "c_proj": inner(4 * d, d)})})
            for _ in range(layers))
        self.ln_f = torch.nn.LayerNorm(d)

    def forward(self, tokens):
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for b in self.h:
            q, k, v = (a.unflatten(-1, (self.heads, -1)).transpose(1, 2) for a in b["attn"]["c_attn"](b["ln_1"](x)).chunk(3, dim=-1))
            y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + b["attn"]["c_proj"](y.transpose(1, 2).flatten(-2))
            x = x + b["mlp"]["c_proj"](torch.nn.functional.gelu(b["mlp"]["c_fc"](b["ln_2"](x)), approximate="tanh"))
        return self.ln_f(x) @ self.wte.weight.T


@pytest.mark.parametrize("inner", [GPT2.Conv1D, torch.nn.Linear])
@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_a_checkpoint_with_gpt2s_names(inner, prefix, tmp_path):
    from safetensors.numpy import load_file, save_file

    from nn_from_scratch.gpt_files import from_gpt2, to_gpt2
    torch.manual_seed(0)
    theirs = GPT2(31, 12, 16, 4, 3, inner).double()
    save_file({prefix + name: np.ascontiguousarray(p.detach().numpy()) for name, p in theirs.named_parameters()}, tmp_path / "gpt2.safetensors")
    ours = from_gpt2(load_file(tmp_path / "gpt2.safetensors"), heads=4)
    x = np.random.default_rng(0).integers(31, size=(2, 12))  # the context at its limit
    y = theirs(torch.tensor(x))
    close(ours(x), y)
    target = np.random.default_rng(1).integers(31, size=(2, 12))
    torch.nn.functional.cross_entropy(y.flatten(0, 1), torch.tensor(target).flatten()).backward()
    grads = nn.grad(lambda m: nn.cross_entropy(m(x), target))(ours)
    close(grads["embedding.weight"], theirs.wte.weight.grad)
    close(grads["positions.weight"], theirs.wpe.weight.grad)
    back = GPT2(31, 12, 16, 4, 3).double()
    back.load_state_dict({name: torch.tensor(a) for name, a in to_gpt2(ours).items()})
    close(ours(x[:1, :1]), back(torch.tensor(x[:1, :1])))


def test_ten_steps_of_adamw_go_the_same_way():
    from nn_from_scratch.gpt_files import from_gpt2
    torch.manual_seed(0)
    theirs = GPT2(13, 8, 16, 2, 2).double()
    ours = from_gpt2({name: p.detach().numpy().copy() for name, p in theirs.named_parameters()}, heads=2)
    mine = nn.AdamW(0.003, weight_decay=0.01)
    other = torch.optim.AdamW(theirs.parameters(), lr=0.003, weight_decay=0.01)
    rng, step = np.random.default_rng(0), nn.value_and_grad(lambda m, x, y: nn.cross_entropy(m(x), y))
    for _ in range(10):
        x, y = rng.integers(13, size=(2, 4, 8))
        loss, grads = step(ours, x, y)
        mine.update(ours, grads)
        other.zero_grad()
        found = torch.nn.functional.cross_entropy(theirs(torch.tensor(x)).flatten(0, 1), torch.tensor(y).flatten())
        found.backward()
        other.step()
        assert abs(loss - found.item()) < 1e-8


def test_rotary_turns_pairs_of_features_as_complex_numbers_do():
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(2, 5, 8)), rng.normal(size=(2, 5, 8))
    t = torch.tensor(x, requires_grad=True)
    angle = torch.arange(5.0, dtype=torch.float64)[:, None] * 10_000.0 ** (-torch.arange(4, dtype=torch.float64) / 4)
    turned = torch.complex(t[..., :4], t[..., 4:]) * torch.polar(torch.ones_like(angle), angle)
    theirs = torch.cat([turned.real, turned.imag], -1)
    (theirs * torch.tensor(weight)).sum().backward()
    np.testing.assert_allclose(nn.rotary(x), theirs.detach().numpy(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(nn.grad(lambda x: np.sum(nn.rotary(x) * weight))(x), t.grad.numpy(), rtol=1e-9, atol=1e-12)
