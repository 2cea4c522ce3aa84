"""Files of models: the same bits come back, what PyTorch expects stands in them, and a bad file is an error and nothing more.

NN_FROM_SCRATCH_HOSTILE sets how many mutated files are tried (500), NN_FROM_SCRATCH_KILLS how many saves are killed (5).
"""

import base64
import copy
import json
import os
import random
import signal
import subprocess
import sys
import time
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import nn_from_scratch as nn
from nn_from_scratch.architecture import Recipe, describe, recipes

pytest.importorskip("safetensors", reason="saving needs the library safetensors")
import safetensors.numpy

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
ACTIVATIONS = [nn.sigmoid, nn.tanh, nn.relu, nn.leaky_relu, nn.elu, nn.gelu, nn.silu, nn.softplus, nn.identity, nn.softmax, nn.log_softmax,
               partial(nn.leaky_relu, slope=0.3), partial(nn.elu, alpha=0.5)]


def inputs(dtype=np.float32, n=7): return np.random.default_rng(0).normal(size=(n, 6)).astype(dtype)


def everything(dtype=np.float32):
    "A model with each layer that a file can name, nested, one of them in two places."
    again = nn.Linear(5, 5, rng=1, dtype=dtype)
    return nn.Sequential(
        nn.Standardize(np.random.default_rng(2).normal(3, 4, (50, 6))), nn.Linear(6, 5, rng=3, dtype=dtype),
        nn.Sequential(again, *ACTIVATIONS, nn.Sequential(nn.Linear(5, 5, bias=False, rng=4, dtype=dtype), nn.tanh)), again)


def header(path) -> tuple[dict, bytes]:
    data = Path(path).read_bytes()
    stop = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:stop]), data[stop:]


def write(path, head, numbers: bytes):
    head = head if isinstance(head, bytes) else json.dumps(head).encode()
    Path(path).write_bytes(len(head).to_bytes(8, "little") + head + numbers)


def with_note(path, change):
    "Rewrite the metadata of the file; `change` is given the note."
    head, numbers = header(path)
    note = json.loads(head["__metadata__"]["nn_from_scratch"])
    note = change(note) or note
    head["__metadata__"]["nn_from_scratch"] = note if isinstance(note, str) else json.dumps(note)
    write(path, head, numbers)


class Residual(nn.Module):
    def __init__(self, width, rng=None):
        self.inner, self.scale = nn.mlp([width, 4, width], rng=rng), np.ones(width, np.float32)
        self._seen = np.zeros(3, np.int64)

    def __call__(self, x): return x + self.inner(x) * self.scale


# ---------------------------------------------------------------- there and back

@DTYPES
def test_the_same_bits_come_back(tmp_path, dtype):
    model = everything(dtype)
    nn.save(model, tmp_path / "m.safetensors")
    again = nn.load(tmp_path / "m.safetensors")
    assert repr(again) == repr(model) and again[1] is not model[1] and again[2][0] is again[3]
    assert list(again.parameters()) == list(model.parameters()) and again.parameters().vector.dtype == dtype
    assert again.parameters().vector.tobytes() == model.parameters().vector.tobytes()
    assert again(inputs(dtype)).tobytes() == model(inputs(dtype)).tobytes()
    for name in "mean", "std", "constant":
        assert getattr(again[0], name).tobytes() == getattr(model[0], name).tobytes()


def test_a_loaded_model_trains(tmp_path):
    nn.save(nn.mlp([6, 4, 1], rng=0), tmp_path / "m")
    history = nn.fit(nn.load(tmp_path / "m"), nn.mse, nn.Adam(), (inputs(), np.ones((7, 1))), epochs=3, progress=False)
    assert history.train_loss[-1] < history.train_loss[0]


def test_names_and_layouts_are_those_of_pytorch(tmp_path):
    model = nn.Sequential(nn.Linear(3, 2, rng=0), nn.relu, nn.Sequential(nn.Linear(2, 4, rng=1), nn.tanh), nn.Linear(4, 4, bias=False, rng=2))
    model.parameters()["0.bias"][:] = 1, 2
    nn.save(model, tmp_path / "m")
    tensors = safetensors.numpy.load_file(tmp_path / "m")
    assert {name: a.shape for name, a in tensors.items()} == {
        "0.weight": (2, 3), "0.bias": (2,), "2.0.weight": (4, 2), "2.0.bias": (4,), "3.weight": (4, 4)}
    assert np.array_equal(tensors["0.weight"], model[0].weight.T) and np.array_equal(tensors["3.weight"], model[3].weight.T)
    assert np.array_equal(tensors["0.bias"], [1, 2])
    assert set(header(tmp_path / "m")[0]["__metadata__"]) == {"nn_from_scratch"}


def test_state_stays_out_of_the_tensors(tmp_path):
    nn.save(everything(), tmp_path / "m")
    assert not [name for name in safetensors.numpy.load_file(tmp_path / "m") if "_" in name]


def test_a_shared_layer_is_there_under_each_of_its_names(tmp_path):
    layer = nn.Linear(3, 3, rng=0)
    nn.save(nn.Sequential(layer, nn.relu, layer), tmp_path / "m")
    tensors = safetensors.numpy.load_file(tmp_path / "m")
    assert list(tensors) == ["0.bias", "0.weight", "2.bias", "2.weight"] and np.array_equal(tensors["0.weight"], tensors["2.weight"])
    del tensors["2.weight"], tensors["2.bias"]  # as others write them
    safetensors.numpy.save_file(tensors, tmp_path / "once")
    other = nn.Linear(3, 3, rng=1)
    nn.load(tmp_path / "once", into=nn.Sequential(other, nn.relu, other))
    assert np.array_equal(other.weight, layer.weight)


def test_a_shared_sequential(tmp_path):
    part = nn.mlp([3, 3], rng=0)
    nn.save(nn.Sequential(part, nn.tanh, part), tmp_path / "m")
    again = nn.load(tmp_path / "m")
    assert again[0][0] is again[2][0] and again.parameters().vector.size == 12


def test_saving_twice_gives_the_same_bytes(tmp_path):
    for name in "ab": nn.save(everything(), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_file_of_another_program_fills_a_model(tmp_path):
    rng = np.random.default_rng(0)
    tensors = {"0.weight": rng.normal(size=(4, 6)).astype(np.float32), "0.bias": rng.normal(size=4).astype(np.float32)}
    safetensors.numpy.save_file(tensors, tmp_path / "m")
    model = nn.mlp([6, 4])
    assert nn.load(tmp_path / "m", into=model) is model
    np.testing.assert_allclose(model(inputs()), inputs() @ tensors["0.weight"].T + tensors["0.bias"], atol=1e-6)
    with pytest.raises(ValueError, match="another program wrote.*into=model"): nn.load(tmp_path / "m")


def test_a_class_of_ones_own(tmp_path):
    model = nn.Sequential(nn.Linear(6, 3, rng=0), Residual(3, rng=1))
    model[1]._seen = np.array([7, 8, 9])
    nn.save(model, tmp_path / "m")
    with pytest.raises(ValueError, match=r"layer '1' is Residual.*load\(path, into=model\)"): nn.load(tmp_path / "m")
    other = nn.load(tmp_path / "m", into=nn.Sequential(nn.Linear(6, 3), Residual(3)))
    assert np.array_equal(other(inputs()), model(inputs())) and list(other[1]._seen) == [7, 8, 9]


@pytest.mark.parametrize("make", [lambda: nn.Sequential(nn.Linear(3, 3), np.tanh), lambda: nn.Sequential(nn.Linear(3, 3), lambda x: x),
                                  lambda: nn.Sequential(nn.Linear(3, 3), partial(nn.softmax, axis=0)), lambda: Residual(3),
                                  lambda: nn.Sequential(nn.Linear(3, 3), partial(nn.leaky_relu, slope=np.full(3, 0.1))),
                                  lambda: nn.Sequential(type("MyLinear", (nn.Linear,), {})(3, 3))])
def test_what_cannot_be_named_is_not_rebuilt(tmp_path, make):
    nn.save(make(), tmp_path / "m")
    with pytest.raises(ValueError, match="cannot be rebuilt"): nn.load(tmp_path / "m")
    assert isinstance(nn.load(tmp_path / "m", into=make()), nn.Module)


def test_tied_and_additional_arrays_are_not_described_as_ordinary_layers(tmp_path):
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    more = nn.mlp([3, 3])
    more[0].scale = np.ones(3, np.float32)
    for model in tied, more:
        nn.save(model, tmp_path / "m")
        with pytest.raises(ValueError, match="cannot be rebuilt"): nn.load(tmp_path / "m")
        nn.load(tmp_path / "m", into=copy.deepcopy(model))


# ---------------------------------------------------------------- what cannot be saved, and what does not fit

def test_what_cannot_be_saved(tmp_path):
    path = tmp_path / "m"
    half, objects = nn.mlp([2, 2], dtype=np.float16), Residual(3)
    objects._seen = np.array([object()])
    for model, kind, word in (nn.relu, TypeError, "expected a model"), (half, ValueError, "float16"), (objects, ValueError, "_seen"):
        with pytest.raises(kind, match=word): nn.save(model, path)
    assert not list(tmp_path.iterdir())


def file_for(tmp_path, **tensors):
    safetensors.numpy.save_file({name.replace("_", "."): a for name, a in tensors.items()}, tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


W, B = np.ones((4, 6), np.float32), np.ones(4, np.float32)


@pytest.mark.parametrize("tensors, word", [
    (dict(_0_weight=W), "'0.bias' is missing"),
    (dict(_0_weight=W, _0_bias=B, _1_weight=W), "the file has '1.weight'"),
    (dict(_0_weight=W.T.copy(), _0_bias=B), r"'0.weight' is float32 \(6, 4\) in the file and float32 \(4, 6\) in the model"),
    (dict(_0_weight=W, _0_bias=B[:3]), r"'0.bias' is float32 \(3,\)"),
    (dict(_0_weight=W.astype(np.float64), _0_bias=B), "'0.weight' is float64"),
    (dict(_0_weight=W.astype(np.float16), _0_bias=B), "'0.weight' is of type F16"),
    (dict(_0_weight=W.astype(np.int64), _0_bias=B), "'0.weight' is of type I64"),
], ids=["missing", "too many", "turned", "too short", "dtype", "float16", "int64"])
def test_what_does_not_fit_is_named_and_nothing_changes(tmp_path, tensors, word):
    model = nn.mlp([6, 4], rng=0)
    before = model.parameters().vector.copy()
    with pytest.raises(ValueError, match=f"m.safetensors.*{word}"):
        nn.load(file_for(tmp_path, **{name[1:]: a for name, a in tensors.items()}), into=model)
    assert np.array_equal(model.parameters().vector, before)


def test_state_that_does_not_fit_changes_nothing(tmp_path):
    make = lambda features, seed: nn.Sequential(nn.Standardize(np.random.default_rng(seed).normal(size=(9, features))), nn.Linear(6, 2, rng=seed))
    nn.save(make(6, 0), tmp_path / "m")
    model = make(5, 1)
    before = copy.deepcopy(model)
    with pytest.raises(ValueError, match=r"'0._mean' is float64 \(6,\)"): nn.load(tmp_path / "m", into=model)
    assert np.array_equal(model[1].weight, before[1].weight) and np.array_equal(model[0].mean, before[0].mean)


def test_a_shared_layer_cannot_take_two_values(tmp_path):
    nn.save(nn.mlp([3, 3, 3], nn.tanh, rng=0), tmp_path / "m")
    layer = nn.Linear(3, 3)
    with pytest.raises(ValueError, match="one array in the model and two in the file"):
        nn.load(tmp_path / "m", into=nn.Sequential(layer, nn.tanh, layer))


def test_wrong_arguments(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"): nn.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError): nn.load(tmp_path)
    with pytest.raises(TypeError, match="into must be a model"): nn.load(tmp_path, into=nn.relu)


@pytest.mark.parametrize("library, call", [
    ("safetensors", "nn.save(nn.mlp([2, 2]), 'm')"), ("safetensors", "open('m', 'w').close(); nn.load('m')"),
    ("onnx", "nn.export_onnx(nn.mlp([2, 2]), 'm', np.ones((1, 2)))")])
def test_a_missing_library_is_named(tmp_path, library, call):
    code = f"import sys; sys.modules[{library!r}] = sys.modules['{library}.numpy'] = None\nimport numpy as np, nn_from_scratch as nn\n{call}"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, text=True, capture_output=True,
                          env=os.environ | {"PYTHONPATH": str(Path(nn.__file__).parent.parent)})
    assert f"pip install {library}" in done.stderr.splitlines()[-1], done.stderr


# ---------------------------------------------------------------- a write that is cut short

@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch, step):
    def fail(*args): raise OSError("the disk is full")
    nn.save(nn.mlp([3, 2], rng=0), tmp_path / "m")
    before = (tmp_path / "m").read_bytes()
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="the disk is full"): nn.save(nn.mlp([3, 2], rng=1), tmp_path / "m")
    assert (tmp_path / "m").read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["m"]


def test_a_link_is_followed(tmp_path):
    (tmp_path / "sub").mkdir()
    try: (tmp_path / "link").symlink_to(tmp_path / "sub" / "m")
    except OSError: pytest.skip("no symbolic links here")
    nn.save(nn.mlp([3, 2]), tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "sub" / "m").is_file()


@pytest.mark.skipif(os.name != "posix", reason="kills a process with a signal")
def test_a_killed_save_leaves_a_whole_file(tmp_path, capsys):
    path, rng = tmp_path / "m", random.Random(0)
    models = [nn.mlp([300, 500, 300], rng=seed) for seed in (0, 1)]
    nn.save(models[0], path)
    code = ("import nn_from_scratch as nn, itertools\nmodels = [nn.mlp([300, 500, 300], rng=seed) for seed in (0, 1)]\nprint('go', flush=True)\n"
            f"for i in itertools.count(): nn.save(models[i % 2], {str(path)!r})")
    kills = int(os.environ.get("NN_FROM_SCRATCH_KILLS", 5))
    for _ in range(kills):
        env = os.environ | {"PYTHONPATH": str(Path(nn.__file__).parent.parent)}
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=env) as child:
            child.stdout.readline()
            time.sleep(rng.uniform(0.01, 0.2))
            child.send_signal(signal.SIGKILL)
        vector = nn.load(path).parameters().vector
        assert any(np.array_equal(vector, model.parameters().vector) for model in models)
    with capsys.disabled(): print(f"\n{kills} saves killed, {kills} whole files", end=" ")


# ---------------------------------------------------------------- damaged and hostile files

def refused(path, word="", into=None):
    with pytest.raises(ValueError, match=word or ".") as caught: nn.load(path, into=into)
    assert str(path) in str(caught.value) and len(str(caught.value)) < 2000


def test_truncated_files(tmp_path):
    nn.save(everything(), tmp_path / "m")
    data = (tmp_path / "m").read_bytes()
    for length in {0, 1, 7, 8, 9, 100, len(data) // 2, len(data) - 1}:
        (tmp_path / "m").write_bytes(data[:length])
        refused(tmp_path / "m")


HUGE = [{"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}, {"dtype": "F32", "shape": [2**32, 2**32], "data_offsets": [0, 0]},
        {"dtype": "F32", "shape": [0, 2**62], "data_offsets": [0, 0]}, {"dtype": "F32", "shape": [10**30], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}, {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}]


@pytest.mark.parametrize("entry", HUGE)
def test_huge_claims_are_not_believed(tmp_path, entry):
    note = json.dumps({"version": 1, "state": {}, "model": {"layer": "Linear", "bias": False}})
    tracemalloc.start()
    write(tmp_path / "m", {"__metadata__": {"nn_from_scratch": note}, "weight": entry}, b"\0" * 4)
    refused(tmp_path / "m")
    refused(tmp_path / "m", into=nn.Linear(1, 1, bias=False))
    (tmp_path / "m").write_bytes((2**63).to_bytes(8, "little") + b"{}")
    refused(tmp_path / "m")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6


def nested(depth):
    return json.dumps({"version": 1, "state": {}, "model": "@"}).replace('"@"', '{"layer": "Sequential", "layers": [' * depth + "]}" * depth)


def of(**entry): return lambda note: note["model"]["layers"].__setitem__(1, entry)


@pytest.mark.parametrize("change, word", [
    (lambda note: "not JSON", ""), (lambda note: "[]", "metadata"), (lambda note: '{"version": 1}', "metadata"),
    (lambda note: note | {"version": 2}, "version"), (lambda note: note | {"state": []}, "metadata"), (lambda note: "[" * 100_000, ""),
    (lambda note: nested(60), "levels deep"), (lambda note: nested(5000), ""), (lambda note: '{"version": ' + "9" * 10_000 + "}", ""),
    (lambda note: note | {"model": None}, "no layer"), (lambda note: note | {"model": {"layer": "relu"}}, "a function, not a model"),
    (lambda note: note | {"model": {"layer": "Sequential", "layers": 3}}, "no layer"),
    (of(layer="os.system"), "no layer"), (of(layer="__import__"), "no layer"), (of(layer=["relu"]), "no layer"), (of(layer={}), "no layer"),
    (of(layer="leaky_relu", slope="a"), "no layer"), (of(layer="leaky_relu", slope=float("nan")), "no layer"),
    (of(layer="leaky_relu", slope=True), "no layer"), (of(layer="relu", out=1), "no layer"), (of(layer="softmax", axis=0), "no layer"),
    (of(layer="again", of="9"), "no layer"), (of(layer="again", of=["1"]), "no layer"), (of(layer="again"), "no layer"),
    (of(layer="Linear"), "1.weight' is missing"), (of(layer="Standardize"), "1._mean' is missing"), (of(nothing=1), "no layer"),
    (lambda note: note["model"]["layers"].pop(), "the file has '2.bias'"),
    (lambda note: note["state"].update({"0._mean": 5}), "0._mean"), (lambda note: note["state"].pop("0._mean") and None, "0._mean"),
    (lambda note: note["state"].update({"7._x": note["state"]["0._mean"]}), "7._x"),
], ids=lambda value: None)
def test_hostile_metadata(tmp_path, change, word):
    nn.save(nn.Sequential(nn.Standardize(inputs()), nn.relu, nn.Linear(6, 2)), tmp_path / "m")
    def keep(note):
        changed = change(note)
        return changed if isinstance(changed, str) or isinstance(changed, dict) and "version" in changed else None
    with_note(tmp_path / "m", keep)
    refused(tmp_path / "m", word)


@pytest.mark.parametrize("entry", [
    {"dtype": "object"}, {"dtype": "O"}, {"dtype": "S1000000000"}, {"dtype": None}, {"dtype": ["f8"]}, {"shape": [2**39]}, {"shape": [-6]},
    {"shape": [True]}, {"shape": [6, 2**39, 0]}, {"shape": [6.0]}, {"shape": "6"}, {"shape": [1] * 70}, {"shape": []}, {"data": "!!!!"}, {"data": 5},
    {"data": ""}, {"data": "é"}, {"data": base64.b64encode(np.full(6, np.nan).tobytes()).decode()}, {"data": None}])
def test_hostile_state(tmp_path, entry):
    nn.save(nn.Sequential(nn.Standardize(inputs()), nn.Linear(6, 2)), tmp_path / "m")
    with_note(tmp_path / "m", lambda note: note["state"]["0._mean"].update(entry))
    refused(tmp_path / "m")


def test_weights_without_layers_and_layers_without_weights(tmp_path):
    note = json.dumps({"version": 1, "state": {}, "model": {"layer": "Sequential", "layers": [{"layer": "Linear"}]}})
    for tensors in {}, {"0.weight": B}, {"0.weight": W, "0.bias": W}, {"0.weight": W, "0.bias": B.astype(float)}, {"1.weight": W, "1.bias": B}:
        safetensors.numpy.save_file(tensors, tmp_path / "m", metadata={"nn_from_scratch": note})
        refused(tmp_path / "m")


TOKENS = [b"null", b"true", b"-1", b"0", b"1e400", b"9" * 30, b'""', b"[]", b"{}", b"[[[[", b'"\\u0000"', b'"Linear"', b'"again"', b'"Sequential"',
          b'"__class__"', b'"F64"', b'"BF16"', b"NaN", b"Infinity", b'"' + b"x" * 5000 + b'"', b"\xff\xfe", b"18446744073709551615"]


def mutated(data: bytes, rng: random.Random) -> bytes:
    "The file with one to four faults, most of them in its header."
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        size = min(8 + int.from_bytes(data[:8], "little"), len(data)) if rng.random() < 0.85 else len(data)
        at = rng.randrange(max(size, 1)) if rng.random() < 0.9 else rng.randrange(8)
        kind = rng.choice([0, 1, 2, 3, 4, 5, 5, 5, 5, 6, 7])
        if not data: return b""
        at = min(at, len(data) - 1)
        if kind == 0: data[at] ^= 1 << rng.randrange(8)
        elif kind == 1: data[at] = rng.randrange(256)
        elif kind == 2: del data[at:at + rng.choice([1, 2, 8, 100, len(data)])]
        elif kind == 3: data[at:at] = bytes(rng.randrange(256) for _ in range(rng.choice([1, 2, 8, 100])))
        elif kind == 4: data[:8] = rng.choice([0, 1, 2, len(data), len(data) - 8, 2**31, 2**63, 2**64 - 1, rng.randrange(2**20)]).to_bytes(8, "little")
        elif kind == 5:  # a value of the header, or of the JSON in its metadata, exchanged; the length made right again
            stop = 8 + int.from_bytes(data[:8], "little")
            inside = bytes(data[8:stop]) if stop <= len(data) else b""
            places = [i for i, c in enumerate(inside) if c in b':,['][:-1]
            if places:
                i = rng.choice(places) + 1
                end = next((j for j in range(i + 1, len(inside)) if inside[j] in b',]}'), len(inside))
                token = rng.choice(TOKENS)
                if b'\\"' in inside[i:end] or rng.random() < 0.3: token = token.replace(b'"', b'\\"')
                inside = inside[:i] + token + inside[end:]
                data[:stop] = len(inside).to_bytes(8, "little") + inside
        elif kind == 6: data[at:at + 8] = data[rng.randrange(len(data)):][:8]
        elif kind == 7: data += data[at:at + 1000]
    return bytes(data)


VALUES = [None, True, -1, 0, 1, 2**40, 1e300, float("nan"), "", "0", "Linear", "again", "Sequential", "Standardize", "softmax", "__class__",
          "float32", "object", "AAAA", [], {}, [[]], {"layer": "relu"}, {"layer": "Linear", "bias": True}, {"layer": "again", "of": "1"}]


def with_mutated_note(data: bytes, rng: random.Random) -> bytes:
    "A file that is right by its format, but for one to three values of its metadata exchanged, removed or doubled."
    stop = 8 + int.from_bytes(data[:8], "little")
    head = json.loads(data[8:stop])
    note = json.loads(head["__metadata__"]["nn_from_scratch"])

    def places(node):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield node, key
            if isinstance(value, (dict, list)): yield from places(value)

    for _ in range(rng.choice([1, 1, 2, 3])):
        node, key = rng.choice(list(places(note)) or [({}, "")])
        kind = rng.randrange(4)
        if kind < 2: node[key] = copy.deepcopy(rng.choice(VALUES))
        elif kind == 2: node.pop(key, None) if isinstance(node, dict) else node.pop(key)
        elif isinstance(node, list): node.insert(key, copy.deepcopy(rng.choice([*node, *VALUES])))
        else: node[rng.choice(["slope", "alpha", "of", "layers", "layer", "0._mean", "bias", key])] = node.get(key)
    head["__metadata__"]["nn_from_scratch"] = json.dumps(note)
    text = json.dumps(head).encode()
    return len(text).to_bytes(8, "little") + text + data[stop:]


def peak_memory() -> float:
    "The most memory that this process has had so far, in bytes; 0 where that is not known."
    try:
        import resource
    except ImportError: return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def test_mutated_files_are_refused_or_loaded(tmp_path, capsys):
    "Nothing but a model or a ValueError that names the file; no memory beyond the size of the file; `into` is left alone."
    rng, path = random.Random(20), tmp_path / "hostile.safetensors"
    sources = []
    for model in everything(), nn.mlp([6, 4, 3], rng=0), nn.Sequential(nn.Linear(6, 3, rng=0), Residual(3, rng=1)):
        nn.save(model, path)
        sources.append((path.read_bytes(), model))
    count, loaded, damaged = int(os.environ.get("NN_FROM_SCRATCH_HOSTILE", 500)), 0, 0
    before = peak_memory()
    for number in range(count):
        data, model = sources[number % len(sources)]
        path.write_bytes((mutated if number % 7 < 4 else with_mutated_note)(data, rng))
        into = copy.deepcopy(model) if number % 2 or model is sources[-1][1] else None
        try:
            found = nn.load(path, into=into)
            loaded += 1
            assert isinstance(found, nn.Module) and found.parameters().vector.nbytes <= path.stat().st_size
        except ValueError as error:
            assert str(path) in str(error) and len(str(error)) < 20_000
            damaged += "or damaged" in str(error)
            if into is not None: assert into.parameters().vector.tobytes() == model.parameters().vector.tobytes()
    assert peak_memory() - before < 200e6
    assert 0 < loaded < count / 2
    with capsys.disabled():
        print(f"\n{count} mutated files: {damaged} refused by safetensors, {count - loaded - damaged} by load; {loaded} loaded", end=" ")


# ---------------------------------------------------------------- cost in proportion, words that can be printed

class Scaled(nn.Module):
    def __init__(self): self.scale, self.inner, self._count = np.array(2.0, np.float32), nn.Linear(3, 3, rng=0), np.array(7)
    def __call__(self, x): return self.inner(x) * self.scale


def test_a_parameter_without_axes(tmp_path):
    model = Scaled()
    nn.save(model, tmp_path / "m")
    assert safetensors.numpy.load_file(tmp_path / "m")["scale"].shape == ()
    other = Scaled()
    other.scale[...], other._count = 5, np.array(0)
    nn.load(tmp_path / "m", into=other)
    assert other.scale == 2 and other.scale.shape == () and other._count == 7 and other._count.shape == ()


def test_the_cost_of_loading_is_linear_in_the_number_of_arrays(tmp_path):
    def seconds(n):
        nn.save(nn.Sequential(*(nn.Linear(1, 1, rng=0) for _ in range(n))), tmp_path / "m")
        times = []
        for _ in range(3):
            start = time.perf_counter()
            nn.load(tmp_path / "m")
            times.append(time.perf_counter() - start)
        return min(times)
    seconds(50)
    assert seconds(3200) < 24 * seconds(400)  # eight times as many; squared it would be 64


@pytest.mark.parametrize("text", ['{"version": 1, "state": {}, "model": [' + "[]," * 3_000_000 + "[]]}", '{"version": 1, "state": {}, "x": "' + "y" * 70_000_000 + '"}'],
                         ids=["many lists", "one long text"])
def test_metadata_that_would_fill_the_memory(tmp_path, text):
    write(tmp_path / "m", {"__metadata__": {"nn_from_scratch": text}, "weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"\0" * 4)
    tracemalloc.start()
    refused(tmp_path / "m", "more than `save` would write")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * (tmp_path / "m").stat().st_size + 10e6


NASTY = "\x1b[31m" + "x" * 100_000 + "\x07"


@pytest.mark.parametrize("change", [
    lambda head: head.update({NASTY: {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}),
    lambda head: head.update({NASTY: {"dtype": "F16", "shape": [0], "data_offsets": [0, 0]}}),
    lambda head: head.update({NASTY: {"dtype": NASTY, "shape": [0], "data_offsets": [0, 0]}}),
    lambda head: head["__metadata__"].update(nn_from_scratch=json.dumps({"version": NASTY})),
    lambda head: head["__metadata__"].update(nn_from_scratch=json.dumps({"version": 1, "state": {NASTY: 3}})),
    lambda head: head["__metadata__"].update(nn_from_scratch=json.dumps({"version": 1, "state": {}, "unknown": NASTY})),
    lambda head: head["__metadata__"].update(nn_from_scratch=json.dumps({"version": 1, "state": {}, "model": {"layer": NASTY}})),
    lambda head: head["__metadata__"].update(nn_from_scratch=json.dumps({"version": 1, "state": {}, "model": {"layer": "again", "of": NASTY}}))])
def test_what_is_quoted_is_short_and_printable(tmp_path, change):
    nn.save(nn.mlp([2, 2], rng=0), tmp_path / "m")
    head, numbers = header(tmp_path / "m")
    change(head)
    write(tmp_path / "m", head, numbers)
    for into in None, nn.mlp([2, 2]):
        try: nn.load(tmp_path / "m", into=into)
        except ValueError as error: assert len(str(error)) < 1500 and str(error).isprintable(), str(error)[:200]


@pytest.mark.skipif(os.name != "posix", reason="pipes and modes of POSIX")
def test_pipes_devices_and_modes(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in tmp_path / "pipe", Path("/dev/zero"):
        with pytest.raises(ValueError, match="no regular file"): nn.load(path)
        with pytest.raises(ValueError, match="no ordinary file"): nn.save(nn.mlp([2, 2]), path)
    nn.save(nn.mlp([2, 2]), tmp_path / "m")
    (tmp_path / "m").chmod(0o600)
    nn.save(nn.mlp([2, 2]), tmp_path / "m")
    assert (tmp_path / "m").stat().st_mode & 0o777 == 0o600


def test_what_a_killed_save_left_is_tidied(tmp_path):
    code = f"import os, nn_from_scratch as nn\nos.fsync = lambda file: os._exit(9)\nnn.save(nn.mlp([3, 2]), {str(tmp_path / 'm')!r})"
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(Path(nn.__file__).parent.parent)})
    assert len(list(tmp_path.iterdir())) == 1 and not (tmp_path / "m").exists()
    nn.save(nn.mlp([3, 2]), tmp_path / "m")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_an_unreadable_file_is_not_a_missing_one(tmp_path, monkeypatch):
    def denied(path): raise PermissionError(13, "Permission denied", str(path))
    nn.save(nn.mlp([3, 2]), tmp_path / "m")
    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(PermissionError): nn.load(tmp_path / "m")


# ---------------------------------------------------------------- a row of one's own

def test_a_function_of_ones_own_is_a_row_in_each_table(tmp_path):
    from nn_from_scratch.architecture import Recipe, finite_number, recipes
    from nn_from_scratch.onnx import to_onnx

    @nn.operation
    def shrink(x, by=0.5): return np.sign(x) * np.maximum(np.abs(x) - by, 0)

    model = nn.Sequential(nn.Linear(4, 3, rng=0), partial(shrink, by=0.1), nn.Linear(3, 2, rng=1), shrink)
    try:
        recipes[shrink] = Recipe(options={"by": finite_number})
        to_onnx[shrink] = lambda g, x, by=0.5: g.add("Mul", g.add("Sign", x), g.add("Relu", g.add("Sub", g.add("Abs", x), g.number(by))))
        nn.save(model, tmp_path / "m")
        x = inputs()[:, :4]
        assert np.array_equal(nn.load(tmp_path / "m")(x), model(x))
        onnxruntime = pytest.importorskip("onnxruntime")
        nn.export_onnx(model, tmp_path / "m.onnx", x)
        np.testing.assert_allclose(onnxruntime.InferenceSession(tmp_path / "m.onnx").run(["y"], {"x": x})[0], model(x), atol=1e-6)
    finally: recipes.pop(shrink), to_onnx.pop(shrink, None)
    with pytest.raises(ValueError, match="no layer of this library"): nn.load(tmp_path / "m")


# ---------------------------------------------------------------- the command

def test_the_command_leaves_a_model(tmp_path, monkeypatch, capsys):
    from nn_from_scratch import cli

    main = cli.main.__wrapped__  # the function itself, whatever called the tests
    x = np.random.default_rng(0).uniform(0, 10, (60, 2))
    rows = [f"{a},{b},{1000 + 50 * a - 20 * b}" for a, b in x]
    (tmp_path / "table.csv").write_text("\n".join(["a,b,price", *rows]))
    main(data=str(tmp_path / "table.csv"), target="price", epochs=40, hidden="16", lr=0.02, output=str(tmp_path / "run"))
    assert "model, settings" in capsys.readouterr().out
    prediction = nn.load(tmp_path / "run" / "model.safetensors")(x.astype(np.float32))
    assert nn.r2_score(prediction, 1000 + 50 * x[:, :1] - 20 * x[:, 1:]) > 0.9  # in the target's own units
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    main(data=str(tmp_path / "table.csv"), target="price", epochs=1, output=str(tmp_path / "without"))
    assert "pip install safetensors" in capsys.readouterr().out and not (tmp_path / "without" / "model.safetensors").exists()


# ---------------------------------------------------------------- two of one name

@pytest.fixture
def rows_as_they_were():
    before = dict(recipes)
    yield
    recipes.clear()
    recipes.update(before)


def own_relu():
    def relu(x): return np.maximum(x, 0) * 2
    return relu


def own_layer():
    class Twice(nn.Module):
        def __call__(self, x): return 2 * x
    recipes[Twice] = Recipe(lambda arrays: Twice())
    return Twice()


def lambda_():
    recipes[f := lambda x: x + 1] = Recipe()
    return f


def defined(factor):
    def mine(x): return x * factor
    recipes[mine] = Recipe()
    return mine


def with_row(f):
    recipes[f] = Recipe()
    return f


@pytest.mark.parametrize("name, make", [
    ("relu", lambda: with_row(own_relu())), ("relu", lambda: with_row(own_relu()) and nn.relu), ("<lambda>", lambda: [lambda_(), lambda_()][1]),
    ("mine", lambda: [defined(1), defined(2)][1]), ("Twice", lambda: [own_layer(), own_layer()][1]),
    ("elu", lambda: recipes.update({type("elu", (), {}): Recipe()}) or partial(nn.elu, alpha=0.5))])
def test_a_name_that_two_have_is_refused_before_a_file_is_written(tmp_path, rows_as_they_were, name, make):
    model = nn.Sequential(nn.Linear(6, 3, rng=0), make())
    words = f"layer '1' is {name}, but a file knows functions by name, and another {name} is in recipes: rename yours, or del recipes"
    with pytest.raises(ValueError, match=f"^save: {words}"): nn.save(model, tmp_path / "m")
    with pytest.raises(ValueError, match=f"^{words}"): describe(model)
    assert not (tmp_path / "m").exists()


def test_a_definition_run_twice_is_saved_when_the_old_row_is_taken_out(tmp_path, rows_as_they_were):
    defined(1)
    model = nn.Sequential(nn.Linear(6, 3, rng=0), defined(2))
    del recipes[[f for f in recipes if f.__name__ == "mine"][0]]  # as the message says
    nn.save(model, tmp_path / "m")
    assert np.array_equal(nn.load(tmp_path / "m")(inputs()), model(inputs()))


def test_another_ones_row_of_one_name_does_not_stop_a_model_without_it(tmp_path, rows_as_they_were):
    with_row(own_relu())
    nn.save(nn.Sequential(nn.Linear(6, 3, rng=0), nn.tanh), tmp_path / "m")
    assert isinstance(nn.load(tmp_path / "m"), nn.Module)


def test_the_help_of_a_recipe_says_what_each_field_is():
    said = Recipe.__doc__
    for line in ("make: make(arrays, **options) -> layer; None: function", "options: name -> what checks its value",
                 "axes: parameter -> order of its axes in a file", "state: attribute -> its name among the arrays"): assert line in said
