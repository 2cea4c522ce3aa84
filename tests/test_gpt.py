"A small GPT without PyTorch: gradients, causality, the cache, tokenizers, files, runs that go on to the same bits."
import collections
import itertools
import math
import re

import numpy as np
import pytest

import nn_from_scratch as nn
from nn_from_scratch import attention_demands, fast, fast_attention, fast_gpt, gpt_files  # noqa: F401
from nn_from_scratch.attention import Cache
from nn_from_scratch.evaluation import asking
from nn_from_scratch.functions import quicker
from nn_from_scratch.gpt import GPT, Listener, TransformerBlock, bits_per_byte, draw, generate
from nn_from_scratch.gpt_files import from_gpt2, to_gpt2
from nn_from_scratch.tokens import BytePairs, Characters, Windows

fast.enable()
TEXT = "the theme of the thesis is there; the other one, then, is this. " * 20
OPTIONS = [{}, {"positions": "rotary"}, {"positions": None}, {"norm": "rms"}, {"norm": None}, {"tie": False}, {"kv_heads": 1},
           {"activation": nn.relu, "positions": "rotary", "kv_heads": 2, "tie": False}]


def small(context=8, rng=0, dtype=np.float64, vocabulary=11, heads=2, **options):
    model = GPT(vocabulary, context, 8, heads, 2, rng=rng, dtype=dtype, **options)
    model.parameters().vector[...] *= 5  # as if it had been trained: GPT-2's start says almost nothing
    return model


def tokens(*shape, n=11, rng=0): return np.random.default_rng(rng).integers(n, size=shape)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_gradient(options):
    model, x, y = small(**options), tokens(2, 5), tokens(2, 5, rng=1)
    y[0, 1] = -1
    assert nn.grad_check(lambda m: nn.cross_entropy(m(x), y, None, 0.0, -1), model) < 1e-6


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_no_place_hears_of_later_ones_to_the_bit(options):
    model, x = small(dtype=np.float32, **options), tokens(3, 8)
    before = model(x)
    for place in range(1, 8):
        changed = x.copy()
        changed[:, place:] = (changed[:, place:] + 1 + tokens(3, 8 - place, n=9)) % 11
        after = model(changed)
        assert (after[:, :place] == before[:, :place]).all() and (after[:, place:] != before[:, place:]).any()


def test_first_loss_is_that_of_guessing():
    model = GPT(27, 16, 32, 4, 2, rng=0)
    x, y = tokens(64, 16, n=27), tokens(64, 16, n=27, rng=1)
    assert abs(nn.cross_entropy(model(x), y) - math.log(27)) < 0.02


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("start", [(1,), (5,), (3, 4), (2, 8), (13,)], ids=str)
def test_the_same_tokens_with_and_without_a_cache(options, start):
    model, x = small(**options), tokens(*start)
    for draws in {}, {"temperature": 0}, {"temperature": 0.7, "top_k": 4}, {"top_p": 0.6}:
        y = generate(model, x, 25, rng=1, **draws)
        assert (y == generate(model, x, 25, rng=1, cache=False, **draws)).all()
        assert y.shape == (*start[:-1], start[-1] + 25) and (y[..., :start[-1]] == x).all()


def test_logits_through_a_cache():
    model, x, caches = small(context=40), tokens(2, 40), [Cache(), Cache()]
    parts = [model(part, caches) for part in np.split(x, [3, 4, 20], axis=1)]
    assert np.allclose(np.concatenate(parts, axis=1), model(x), atol=1e-12)
    with pytest.raises(ValueError, match="41 places, and it sees 40"): model(x[:, :1], caches)


def moved(model, rng=0):
    "As if it had been trained: no norm, no bias stands where it began."
    vector = model.parameters().vector
    vector[...] += np.random.default_rng(rng).normal(0, 0.3, vector.size)
    return model


def said(hear, model, parts):
    with asking(model): return np.stack([hear(part, i == 0) for i, part in enumerate(parts)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("options", [*OPTIONS, {"heads": 4, "kv_heads": 2}, {"dropout": 0.3}, {"norm": "rms", "activation": nn.tanh, "tie": False}], ids=str)
def test_the_prepared_listener_says_what_the_text_says(options, dtype):
    model = moved(small(context=70, dtype=dtype, **options))
    precise = small(context=70, **options)
    precise.parameters().vector[...] = model.parameters().vector
    quick, plain = quicker[Listener](model), Listener(model)
    assert type(quick) is not Listener
    for n, first in (3, 2), (1, 1), (1, 5):  # rows, and places of the beginning; then one place at a time, to the last one
        parts = np.split(tokens(n, 70, rng=first), range(first, 70), axis=1)
        found, right = said(quick, model, parts), said(plain, model, parts)
        exact = said(Listener(precise), precise, parts)  # the same weights, in float64
        assert found.dtype == right.dtype == dtype and found.shape == (70 - first + 1, n, 11)
        assert np.abs(found - exact).max() < 4 * np.abs(right - exact).max() + {np.float32: 1e-5, np.float64: 1e-11}[dtype] * np.abs(exact).max()


def test_weights_that_change_between_two_texts_are_heard():
    model = moved(small())
    for rng in range(3):
        y = generate(moved(model, rng), tokens(2, 3), 30, rng=rng)
        assert (y == generate(model, tokens(2, 3), 30, rng=rng, cache=False)).all()


class Own(GPT): pass


def another(part, value):
    "A GPT with a part that the text does not have."
    model = small(context=12, norm="rms" if part == "blocks.0.norm1" else "layer")
    *way, last = part.split(".")
    thing = model
    for name in way: thing = thing[int(name)] if name.isdigit() else getattr(thing, name)
    setattr(thing, last, value(getattr(thing, last)))
    return model


class Halved(nn.Linear):
    def __call__(self, x): return super().__call__(x) / 2


def halved(layer):
    new = Halved(*layer.weight.shape, dtype=layer.weight.dtype)
    new.weight, new.bias = layer.weight, layer.bias
    return new


@pytest.mark.parametrize("make", [
    lambda: Own(11, 12, 8, 2, 2, rng=0), lambda: another("blocks.1.linear1", halved), lambda: another("blocks.0.self_attn.out_proj", halved),
    lambda: another("blocks.0.norm1", lambda norm: nn.LayerNorm(8, dtype=np.float64)), lambda: another("blocks.1.self_attn.causal", lambda yes: False),
    lambda: another("norm", lambda norm: nn.identity), lambda: another("dropout", lambda f: lambda x: 2 * x),
    lambda: GPT(11, 12, 8, 2, 2, rng=0, dtype=np.float16)], ids=["GPT", "linear", "out", "norms", "causal", "last norm", "dropout", "float16"])
def test_models_with_parts_of_their_own_are_heard_in_full(make):
    assert type(quicker[Listener](make())) is Listener
    assert generate(make(), tokens(2, 3), 5, rng=0).shape == (2, 8)


def test_a_call_that_was_replaced_is_called(monkeypatch):
    monkeypatch.setattr(nn.Linear, "__call__", lambda layer, x: x @ layer.weight)
    assert type(quicker[Listener](small())) is Listener


def test_without_quicker_forms_the_same_tokens():
    y = generate(moved(small()), tokens(2, 3), 30, rng=0)
    fast.disable()
    try: assert (generate(moved(small()), tokens(2, 3), 30, rng=0) == y).all()
    finally: fast.enable()


def test_nothing_is_drawn_from_what_is_no_number():
    for wrong in np.nan, np.inf:
        for temperature in 0, 1:
            with pytest.raises(ValueError, match=f"the largest logit is {wrong}"): draw(np.array([[0.0, wrong]]), temperature)
    model = small()
    model.blocks[0].linear1.weight[...] = np.nan
    with pytest.raises(ValueError, match="diverged"): generate(model, [1], 3)
    for temperature in 1e-3, 1e-300, 5e-324:  # so cold that nothing but the likeliest is left
        assert (draw(np.array([[1.0, 3.0, 2.9, -np.inf]] * 50), temperature, rng=0) == 1).all()


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.uint64])
def test_tokens_of_every_whole_kind(kind):
    y = generate(small(), tokens(2, 3).astype(kind), 9, rng=0)
    assert y.dtype == np.int64 and (y == generate(small(), tokens(2, 3), 9, rng=0)).all()


def test_what_is_drawn():
    logits = np.log(np.array([[0.5, 0.1, 0.3, 0.1]])).repeat(20_000, axis=0)
    def shares(**options): return np.bincount(draw(logits, rng=0, **options), minlength=4) / 20_000
    assert np.allclose(shares(), [0.5, 0.1, 0.3, 0.1], atol=0.02)
    assert np.allclose(shares(top_k=2), [0.625, 0, 0.375, 0], atol=0.02)
    assert np.allclose(shares(top_p=0.7), [0.625, 0, 0.375, 0], atol=0.02)
    assert np.allclose(shares(top_p=0.49), [1, 0, 0, 0])  # at 0.5 rounding decides
    assert np.allclose(shares(top_k=1), [1, 0, 0, 0]) and np.allclose(shares(temperature=0), [1, 0, 0, 0])
    squares = np.array([0.5, 0.1, 0.3, 0.1]) ** 2
    assert np.allclose(shares(temperature=0.5), squares / squares.sum(), atol=0.02)
    assert (draw(np.array([[0.0, -np.inf, -np.inf]]).repeat(9, axis=0), rng=0) == 0).all()


def test_generating_leaves_the_model_as_it_was():
    model = small(dropout=0.5)
    before = model.parameters().vector.copy()
    first, again = generate(model, tokens(3), 9, rng=0), generate(model, tokens(3), 9, rng=0)
    assert (first == again).all() and model.training and (model.parameters().vector == before).all()


@pytest.mark.parametrize("call, said", [
    (lambda: GPT(11, 8, 10, 3, 1), "10 features cannot be shared out among 3 heads"),
    (lambda: GPT(11, 0, 8, 2, 1), "context must be a whole number"),
    (lambda: GPT(11, 8, 8, 2, 1, norm="batch"), 'norm must be "layer"'),
    (lambda: GPT(11, 8, 8, 2, 1, positions="sine"), "positions must be"),
    (lambda: small()(tokens(1, 9)), "9 places, and it sees 8"),
    (lambda: generate(small(), "the", 3), "no tokenizer"),
    (lambda: generate(small(), [], 3), "no token to begin with"),
    (lambda: generate(small(), [0.5], 3), "whole numbers (t,) or (n, t), not float64 (1, 1)"),
    (lambda: generate(small(), [[[1]]], 3), "not int64 (1, 1, 1)"),
    (lambda: generate(small(), [11], 3), "index 11 has no row"),
    (lambda: generate(small(), [-1], 3), "index -1 has no row"),
    (lambda: generate(small(), [1], -3), "n must be"),
    (lambda: generate(small(), [1], 3, temperature=-1), "temperature"),
    (lambda: generate(small(), [1], 3, top_k=0), "top_k"),
    (lambda: generate(small(), [1], 3, top_p=0.0), "top_p"),
    (lambda: Characters("abc").encode("abd"), "'d' is none of the 3 letters"),
    (lambda: Characters("abc").decode([3]), "0 to 2"),
    (lambda: Characters(""), "empty"),
    (lambda: BytePairs([(1, 300)]), "cannot be joined"),
    (lambda: Windows(np.arange(8), 8), "no window of 8"),
    (lambda: Windows(np.arange(9), 0), "context must be a whole number"),
    (lambda: Windows(np.arange(9), 3, 0), "batch_size must be"),
    (lambda: Windows(np.arange(9), 3, 2, 2.5), "steps must be"),
    (lambda: Windows("some text", 3), "whole numbers (n,), not <U9 ()"),
    (lambda: Windows(np.arange(9.0), 3), "not float64 (9,)"),
    (lambda: Windows(np.ones((9, 9), int), 3), "(9, 9)"),
    (lambda: Characters(b"abc"), "text must be a text, a str, not"),
    (lambda: Characters("abc").encode(None), "text must be a text"),
    (lambda: BytePairs().encode(b"abc"), "text must be a text"),
    (lambda: BytePairs.train(b"abc", 300), "text must be a text"),
    (lambda: BytePairs.train("abc", 255), "no room for the 256 bytes"),
    (lambda: small(tokenizer=Characters("abcdefghijkl")), "the tokenizer has 12 tokens, and the vocabulary 11"),
    (lambda: small()(tokens(2, 0)), "1 at least"),
    (lambda: small()(3), "(n, t) or (t,)"),
    (lambda: generate(nn.mlp([2, 2]), [1], 3), "model must be a GPT, not"),
    (lambda: generate(small(), [1], None), "n must be a whole number"),
    (lambda: generate(small(), [1], 0.0), "n must be a whole number"),
    (lambda: bits_per_byte(GPT(256, 8, 8, 2, 1, tokenizer=BytePairs(), rng=0), ""), "0 tokens; to predict one"),
    (lambda: bits_per_byte(GPT(256, 8, 8, 2, 1, tokenizer=BytePairs(), rng=0), "a"), "1 token; to predict one"),
])
def test_mistakes_are_said_in_words(call, said):
    with pytest.raises((ValueError, TypeError, IndexError)) as error: call()
    assert said in str(error.value), error.value


# ---------------------------------------------------------------- tokenizers

def reference(text, vocabulary):
    "Byte pairs in the plainest way: all words anew for each pair, on pieces of bytes."
    words = [[bytes([b]) for b in word.encode("utf-8", "surrogatepass")] for word in pieces(text)]
    number = {bytes([i]): [i] for i in range(256)}
    names, merges = [bytes([i]) for i in range(256)], []
    words = [[i for (i,) in (number[b] for b in word)] for word in words]
    while len(names) < vocabulary:
        seen = collections.Counter(pair for word in words for pair in zip(word, word[1:]))
        if not seen or max(seen.values()) < 2: break
        most = max(seen.values())
        a, b = min(pair for pair, n in seen.items() if n == most)
        new = len(names)
        names.append(names[a] + names[b])
        merges.append((a, b))
        for i, word in enumerate(words):
            text_of = " ".join(map(str, word))
            words[i] = [int(part) for part in re.sub(rf"(?<!\d){a} {b}(?!\d)", str(new), text_of).split()]
    return merges, words


def pieces(text):
    "Chunks by a little automaton, without regular expressions."
    found, i = [], 0
    def kind(c):
        if c.isspace(): return "s"
        if c.isdecimal(): return "d"
        return "l" if (c.isalnum()) else "o"
    while i < len(text):
        start = i
        if text[i] == " " and i + 1 < len(text) and kind(text[i + 1]) != "s": i += 1
        what, first = kind(text[i]), i
        most = 3 if what == "d" else 32
        while i < len(text) and kind(text[i]) == what and i - first < most: i += 1
        found.append(text[start:i])
    return found


HOSTILE = ["", " ", "a", "\n\n  \t x", "naïve café, 日本語のテキスト", "👩‍👩‍👧‍👦🏳️‍🌈" * 9, "\ud800", "x\udfff\ud800y", "\x00\x01\uffff", "١٢٣٤٥٦ 123456",
           "_under_score__", "aaaaaaaaaaaaaaaaaaaa" * 5, "e\u0301" * 50, "\u2028 \u00a0 \u3000", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐀀"]


@pytest.mark.parametrize("text", [TEXT, TEXT + "aaaa aaaa aaaaaa", "abab abab cdcd cdcd", "".join(HOSTILE) * 3], ids=["words", "runs", "ties", "hostile"])
def test_byte_pairs_are_those_of_a_plain_reference(text):
    merges, words = reference(text, 300)
    tokenizer = BytePairs.train(text, 300)
    assert tokenizer._merges.tolist() == [list(pair) for pair in merges]
    assert tokenizer.encode(text).tolist() == list(itertools.chain(*words))


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_every_text_comes_back(text):
    for tokenizer in BytePairs(), BytePairs.train(TEXT, 280), BytePairs.train("".join(HOSTILE) * 3, 400):
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert len(tokenizer.encode(text)) <= len(text.encode("utf-8", "surrogatepass"))
    if text: assert Characters("".join(HOSTILE)).decode(Characters("".join(HOSTILE)).encode(text)) == text


def test_a_megabyte_of_blanks_takes_a_moment():
    text = " " * 2**20
    tokenizer = BytePairs.train(text, 512)
    found = tokenizer.encode(text)
    assert tokenizer.decode(found) == text and len(found) == 2**15  # no piece is longer than 32 letters


def test_bytes_that_are_no_text_are_shown_as_such():
    assert BytePairs().decode([0x68, 0xff, 0x69]) == "h\ufffdi"


def test_windows_go_on():
    windows = Windows(np.arange(100), 5, 3, 4, rng=0)
    x, y = next(iter(windows))
    assert x.shape == y.shape == (3, 5) and (y == x + 1).all()
    list(windows)
    state = {"rng": np.random.default_rng()}
    state["rng"].bit_generator.state = windows.state_dict()["rng"].bit_generator.state
    after = list(windows)
    windows.load_state_dict(state)
    assert all((a == b).all() for p, q in zip(after, windows) for a, b in zip(p, q))


# ---------------------------------------------------------------- training and files

@pytest.mark.parametrize("options", [{}, {"dropout": 0.2}, {"tie": False, "positions": "rotary"}], ids=str)
def test_killed_and_resumed_to_the_same_bits(options, tmp_path):
    tokenizer = Characters(TEXT)

    class Killed(Exception): pass

    class Kill(nn.Callback):
        def on_step_end(self, run):
            if run.step == 13: raise Killed

    def train(folder, resume=False, callbacks=()):
        model = GPT(len(tokenizer), 8, 8, 2, 1, tokenizer=tokenizer, rng=0, **options)
        windows = Windows(tokenizer.encode(TEXT), 8, 4, steps=10, rng=1)
        nn.fit(model, nn.cross_entropy, nn.AdamW(0.01), windows, epochs=3, progress=False, checkpoint=folder, resume=resume,
               checkpoint_every=5, callbacks=callbacks)
        return model

    whole = train(tmp_path / "whole")
    with pytest.raises(Killed): train(tmp_path / "killed", callbacks=[Kill()])
    again = train(tmp_path / "killed", resume=True)
    assert (again.parameters().vector == whole.parameters().vector).all()
    assert generate(again, "the", 20, rng=0) == generate(whole, "the", 20, rng=0)


def test_arrays_with_an_ignored_label_train():
    rng = np.random.default_rng(0)
    x = rng.integers(5, size=(64, 6))
    y = np.where(np.arange(6) < 4, (x + 1) % 5, -1)
    model = GPT(5, 6, 16, 2, 1, rng=0)
    def loss(logits, labels): return nn.cross_entropy(logits, labels, None, 0.0, -1)
    history = nn.fit(model, loss, nn.Adam(0.01), (x, y), epochs=20, progress=False)
    assert history.train_loss[-1] < 0.1 < history.train_loss[0]


@pytest.mark.parametrize("options", OPTIONS + [{"dropout": 0.25}], ids=str)
@pytest.mark.parametrize("made", [Characters, lambda text: BytePairs.train(text, 270), lambda text: None], ids=["letters", "pairs", "none"])
def test_a_file_gives_the_model_again(options, made, tmp_path):
    tokenizer = made(TEXT)
    model = small(tokenizer=tokenizer, dtype=np.float32, vocabulary=len(tokenizer or range(11)), **options)
    nn.save(model, tmp_path / "gpt.safetensors")
    again = nn.load(tmp_path / "gpt.safetensors")
    assert repr(again) == repr(model) and list(again.parameters()) == list(model.parameters())
    x = tokens(2, 7)
    with nn.modules.evaluating(): assert (again(x) == model(x)).all()
    if tokenizer:
        assert repr(again.tokenizer) == repr(tokenizer) and again.tokenizer.encode("the other").tolist() == tokenizer.encode("the other").tolist()
        assert generate(again, "the ", 20, rng=0) == generate(model, "the ", 20, rng=0)


def test_a_tied_table_is_one_array():
    model, free = small(), small(tie=False)
    assert free.parameters().vector.size - model.parameters().vector.size == 11 * 8
    grads = nn.grad(lambda m: nn.cross_entropy(m(tokens(2, 5)), tokens(2, 5, rng=1)))(model)
    assert (grads["embedding.weight"] != 0).all()  # each row is asked for by the output


def test_gpt2s_names_and_back():
    for options in {}, {"tie": False}:
        model = small(**options)
        again = from_gpt2(to_gpt2(model), heads=2)
        assert (again.parameters().vector == model.parameters().vector).all()
        assert (again(tokens(2, 8)) == model(tokens(2, 8))).all()


@pytest.mark.parametrize("change, said", [
    (lambda words: words["settings"].update(heads=3), "do not fit"), (lambda words: words["settings"].update(context=9), "positions"),
    (lambda words: words["settings"].update(context=2**40), "no layer"), (lambda words: words["settings"].update(activation="system"), "no layer"),
    (lambda words: words["settings"].update(norm=["layer"]), "no layer"), (lambda words: words.update(settings=3), "no layer"),
    (lambda words: words["settings"].update(dropout="0"), "no layer"), (lambda words: words["settings"].pop("norm"), "no layer")])
def test_a_hostile_file_is_refused(change, said, tmp_path):
    from nn_from_scratch.architecture import build, describe
    model = small()
    words = describe(model)
    words = {**words, "settings": dict(words["settings"])}
    change(words)
    arrays = {name: (a.T if a.ndim == 2 and "blocks" in name else a) for name, a in model.parameters().items()}
    with pytest.raises(ValueError, match=said): build(words, arrays)


def test_hostile_merges_are_refused():
    doubling = [(32, 32), *((i, i) for i in range(256, 290))]
    with pytest.raises(ValueError, match="cannot be joined"): BytePairs(doubling)


def test_bits_per_byte():
    tokenizer = BytePairs()
    model = GPT(256, 16, 8, 2, 1, tokenizer=tokenizer, rng=0)
    assert abs(bits_per_byte(model, TEXT) - 8) < 0.05  # a model that knows nothing, on bytes
    pairs = BytePairs.train(TEXT, 300)
    model = GPT(len(pairs), 16, 8, 2, 1, tokenizer=pairs, rng=0)
    tokens = pairs.encode(TEXT)
    least = math.log2(300) * (len(tokens) - 1) / len(pairs.decode(tokens[1:]))
    assert abs(bits_per_byte(model, TEXT) - least) < 0.05 * least


def test_a_block_alone():
    block = TransformerBlock(8, 2, rng=0, dtype=np.float64)
    assert repr(block) == "TransformerBlock(8, 2)"
    assert nn.grad_check(lambda b, x: b(x), block, np.random.default_rng(0).standard_normal((2, 3, 8))) < 1e-6


@pytest.mark.parametrize("options", [{}, {"norm": "rms"}, {"norm": None}, {"causal": False}, {"kv_heads": 2, "rotary": True},
                                     {"activation": nn.relu, "dropout": 0.2}], ids=str)
def test_a_block_alone_is_made_again_from_its_file(options, tmp_path):
    block = TransformerBlock(16, 4, rng=0, **options).eval()
    nn.save(block, tmp_path / "block.safetensors")
    again, x = nn.load(tmp_path / "block.safetensors").eval(), np.random.default_rng(0).normal(size=(2, 5, 16)).astype("f4")
    assert again.settings == block.settings and again.self_attn.causal == block.self_attn.causal
    assert (again(x) == block(x)).all()
