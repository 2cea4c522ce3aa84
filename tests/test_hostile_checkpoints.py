"""Checkpoints that somebody made: a file chooses nothing, costs what it weighs, and is quoted in few plain characters; folders, locks, old files."""

import copy
import errno
import io
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import warnings
import zipfile
from collections import deque
from pathlib import Path

import numpy as np
import pytest

import nn_from_scratch as nn
from nn_from_scratch import checkpoints, files, packing

X, Y = nn.moons(60, noise=0.1, rng=0)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def train(folder, model=None, **settings):
    model = model or nn.mlp([2, 4, 2], rng=0)
    return nn.fit(model, nn.cross_entropy, nn.Adam(0.01), (X, Y), progress=False, checkpoint=folder, **{"epochs": 4} | settings)


def newest(folder): return checkpoints.files(Path(folder))[-1]


def archive(note, arrays=None) -> bytes:
    "A file with a right checksum and any contents."
    arrays = dict(arrays or {})
    arrays["text"] = np.frombuffer(json.dumps(note).encode(), np.uint8)
    file = io.BytesIO()
    np.savez(file, sha256=np.array(packing._digest(arrays)), **arrays)
    return file.getvalue()


def changed(folder, change):
    "The newest checkpoint with a changed state, and a right checksum."
    path = newest(folder)
    state = packing.from_bytes(path.read_bytes())
    change(state)
    path.write_bytes(packing.to_bytes(state))


# ---------------------------------------------------------------- a file chooses nothing

@pytest.mark.parametrize("name", ["test", "seed", "default_rng", "Generator", "RandomState", "__loader__", "os", "", None, 3, ["PCG64"]])
def test_a_generator_is_named_in_a_table(name):
    note = {"version": packing.VERSION, "state": {"generator": {"dict": [["bit_generator", name], ["state", 1]]}}}
    with pytest.raises(packing.Damaged, match="names a generator that is not known|not what a checkpoint holds"): packing.from_bytes(archive(note))


def generator_states():
    for kind in (np.random.MT19937, np.random.PCG64, np.random.PCG64DXSM, np.random.Philox, np.random.SFC64):
        yield np.random.Generator(kind(3)).bit_generator.state


@pytest.mark.parametrize("state", list(generator_states()), ids=lambda state: state["bit_generator"])
def test_the_state_of_a_generator_has_its_form(state):
    rng = packing.generator_of(copy.deepcopy(state))
    assert rng.bit_generator.state["bit_generator"] == state["bit_generator"]
    def spoil(node, path=()):
        for key in node:
            for wrong in (None, -1, 2**200, 1.5, "x", [], {}, np.zeros(3), np.zeros(1, np.uint64), True):
                changed = copy.deepcopy(state)
                place = changed
                for step in path: place = place[step]
                place[key] = wrong
                yield changed
            less = copy.deepcopy(state)
            place = less
            for step in path: place = place[step]
            del place[key]
            yield less
            if isinstance(node[key], dict): yield from spoil(node[key], (*path, key))
    for wrong in spoil(state):
        with pytest.raises(ValueError, match="a checkpoint"): packing.generator_of(wrong)
    if "pos" in state.get("state", {}):
        far = copy.deepcopy(state)
        far["state"]["pos"] = 100_000  # NumPy would take it, and read beyond its array
        with pytest.raises(ValueError, match="a state that no MT19937 has"): packing.generator_of(far)


@pytest.mark.parametrize("note", [
    {"array": "array9"}, {"array": ["x"]}, {"number": "big"}, {"function": "os.system"}, {"list": 3}, {"dict": {}}, {"dict": [[1]]}, {"dict": [[{"list": []}, 1]]},
    {}, {"list": [], "tuple": []}, [1, 2], {"generator": None}])
def test_notes_that_nobody_wrote(note):
    with pytest.raises(packing.Damaged): packing.from_bytes(archive({"version": packing.VERSION, "state": note}, {"big": np.zeros(3)}))


@pytest.mark.parametrize("change", [
    lambda s: s["optimizer"].update(step="no method any more"), lambda s: s["optimizer"].update({"update": 1}), lambda s: s["optimizer"].update({3: 4}),
    lambda s: s["model"][0].update(__class__="x"), lambda s: s["model"][0].update(training=False, parameters=3), lambda s: s["model"].append({}),
    lambda s: s.update(parameters=np.zeros(3)), lambda s: s.update(parameters="text"), lambda s: s["history"].update(evil=1), lambda s: s["history"].update(train_loss="text"), lambda s: s["history"].update(metrics={"recall": {}}), lambda s: s.pop("feed"),
    lambda s: s["feed"].pop("began"), lambda s: s["feed"].update(done="many"), lambda s: s.update(step="7"), lambda s: s.update(epoch=None),
    lambda s: s["seen"].pop("loss"), lambda s: s["feed"].update(began={"order": 3, "data": None}), lambda s: s.update(callbacks=[1])])
def test_a_state_that_does_not_fit_is_answered_in_words(tmp_path, change):
    train(tmp_path)
    changed(tmp_path, change)
    model = nn.mlp([2, 4, 2], rng=5)
    before = model.parameters().vector.copy()
    with pytest.raises(ValueError, match="fit: .*not what a run has saved"): train(tmp_path, model, resume=True, epochs=6)
    assert np.array_equal(model.parameters().vector, before) and callable(model.parameters) and callable(nn.Adam(0.1).step)


# ---------------------------------------------------------------- costs

def npz(member: bytes, compress=zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compress) as out: out.writestr("array0.npy", member)
    return file.getvalue()


def head(shape, descr="<f8"):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


BOMBS = {
    "512 GB claimed": lambda: npz(head((2**36,)) + bytes(64)),
    "more than there can be": lambda: npz(head((2**62, 2**62)) + bytes(64)),
    "a negative axis": lambda: npz(head((-1, 8)) + bytes(64)),
    "compressed": lambda: npz(head((10**8,)) + bytes(8 * 10**7), zipfile.ZIP_DEFLATED),
    "objects": lambda: npz(head((1,), "|O") + b"cos\nsystem\n"),
    "deep": lambda: _deep(),
    "no zip": lambda: b"PK" * 1000,
}


def _deep():
    arrays = {"text": np.frombuffer(b'{"version": %d, "state": ' % packing.VERSION + b'{"list": [' * 50_000, np.uint8)}
    file = io.BytesIO()
    np.savez(file, sha256=np.array(packing._digest(arrays)), **arrays)
    return file.getvalue()


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_gives_way_to_the_checkpoint_before(tmp_path, name):
    train(tmp_path, max_steps=5, checkpoint_every=1)
    newest(tmp_path).write_bytes(BOMBS[name]())
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * 4096 if sys.platform == "linux" else 0
    try:
        if size: resource.setrlimit(resource.RLIMIT_AS, (size + 2**28, limits[1]))
        with pytest.warns(UserWarning, match="damaged: .*going on from the checkpoint step-000000004.npz"): history = train(tmp_path, resume=True)
    finally: resource.setrlimit(resource.RLIMIT_AS, limits)
    assert history == train(tmp_path / "other")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_named_like_a_checkpoint_is_passed_over(tmp_path):
    train(tmp_path, epochs=2)
    os.mkfifo(tmp_path / "step-999999999.npz")
    (tmp_path / "step-888888888.npz").mkdir()
    assert train(tmp_path, resume=True) == train(tmp_path / "other")


def test_what_is_quoted_is_short_and_plain(tmp_path):
    evil = "\x1b[2J\x1b]0;evil\x07" + "x" * 1_000_000
    for where, change in {"first": lambda s: (s["first"].update({evil: evil}), s["last"].update({evil: evil})), "last": lambda s: (s["first"].update(loss="a"), s["last"].update(loss=evil))}.items():
        train(tmp_path / where)
        changed(tmp_path / where, change)
        with pytest.raises(ValueError) as caught: train(tmp_path / where, resume=True)
        assert "\x1b" not in str(caught.value) and len(str(caught.value)) < 3000
    path = newest(tmp_path / "first")
    path.write_bytes(archive({"version": evil, "state": None}))
    with pytest.raises(ValueError, match="has the format") as caught: train(tmp_path / "first", resume=True)
    assert "\x1b" not in str(caught.value) and len(str(caught.value)) < 300
    for path in checkpoints.files(tmp_path / "first"): path.write_bytes(archive({"version": packing.VERSION, "state": {evil: 1}}))
    with pytest.raises(ValueError, match="are damaged") as caught: train(tmp_path / "first", resume=True)
    assert "\x1b" not in str(caught.value) and len(str(caught.value)) < 600


def test_mutated_files_end_in_words(tmp_path):
    train(tmp_path, max_steps=5, checkpoint_every=1)
    data, rng = newest(tmp_path).read_bytes(), np.random.default_rng(0)
    for _ in range(int(os.environ.get("NN_FROM_SCRATCH_MUTATIONS", 300))):
        wrong = bytearray(data)
        for place in rng.integers(len(data), size=rng.integers(1, 9)): wrong[place] = rng.integers(256)
        try: packing.from_bytes(bytes(wrong[:rng.integers(len(data))] if rng.random() < 0.3 else wrong))
        except packing.Damaged as why: assert len(str(why)) <= 200


# ---------------------------------------------------------------- what cannot be saved

@pytest.mark.parametrize("value", [np.random.RandomState(0), deque([1.0]), {1, 2}, bytearray(3), iter([1]), [deque()], np.array([None])],
                         ids=lambda value: type(value).__name__)
def test_state_that_cannot_be_saved_is_named(tmp_path, value):
    class Layer(nn.Module):
        def __init__(self): self.inner, self._memory = nn.Linear(2, 2, rng=0), value
        def __call__(self, x): return self.inner(x)
    with pytest.warns(UserWarning, match=r"a checkpoint cannot hold Layer._memory \(a \w+\): a run that goes on from one may have other bits"):
        train(tmp_path, Layer(), epochs=1)


def test_what_is_no_state_is_no_warning(tmp_path):
    class Layer(nn.Module):
        def __init__(self):
            self.layers, self.activation, self.kind, self.names = [nn.Linear(2, 2, rng=0), nn.relu], nn.tanh, np.dtype("f4"), ("a", "b")
            self._seen, self.parts = {"x": np.zeros(2), "y": [1, None]}, {"head": nn.Linear(2, 2, rng=1)}
        def __call__(self, x): return self.parts["head"](self.layers[0](x))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(tmp_path, Layer(), epochs=1)


# ---------------------------------------------------------------- folders and files

def test_two_runs_in_one_folder(tmp_path):
    found = []
    def second(run):
        if run.epoch != 2: return
        for settings in ({}, {"resume": True}):
            with pytest.raises(ValueError, match="another run is saving to .* at this moment") as caught: train(tmp_path, **settings)
            found.append(caught)
        code = ("import sys, nn_from_scratch as nn\n"
                f"try: nn.fit(nn.mlp([2, 4, 2], rng=0), nn.cross_entropy, nn.Adam(0.01), nn.moons(60), epochs=1, checkpoint={str(tmp_path)!r}, resume=True)\n"
                "except ValueError as error: print(error)")
        environment = os.environ | {"PYTHONPATH": str(Path(nn.__file__).parent.parent)}
        found.append(subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True).stdout)
    history = train(tmp_path, callbacks=[second])
    assert len(found) == 3 and "another run is saving to" in found[-1] and history == train(tmp_path / "other")
    assert train(tmp_path, resume=True) == history  # the folder is free again
    with pytest.raises(ZeroDivisionError): train(tmp_path / "third", callbacks=[lambda run: 1 / 0])
    train(tmp_path / "third", resume=True)


def test_a_folder_that_cannot_be_synchronised(tmp_path, monkeypatch):
    def fsync(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode): raise OSError(errno.EINVAL, "Invalid argument")
    monkeypatch.setattr(os, "fsync", fsync)
    assert train(tmp_path, epochs=2).stopped == "epochs" and checkpoints.files(tmp_path)
    def broken(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode): raise OSError(errno.EIO, "Input/output error")
    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="could not be written"): train(tmp_path / "other", epochs=2)


@pytest.mark.skipif(os.name != "posix", reason="modes and pipes")
def test_write(tmp_path):
    path = tmp_path / "file"
    files.write(path, b"one")
    path.chmod(0o600)
    files.write(path, b"two")
    assert path.read_bytes() == b"two" and stat.S_IMODE(path.stat().st_mode) == 0o600
    link = tmp_path / "link"
    link.symlink_to(path)
    files.write(link, b"three")
    assert link.is_symlink() and path.read_bytes() == b"three"
    os.mkfifo(tmp_path / "pipe")
    for odd in (tmp_path / "pipe", tmp_path, "/dev/null"):
        with pytest.raises(ValueError, match="is no ordinary file, and is left alone"): files.write(odd, b"four")
    with pytest.raises(TypeError): files.write(path, object())
    assert path.read_bytes() == b"three" and sorted(os.listdir(tmp_path)) == ["file", "link", "pipe"]


def test_write_tidies_up_after_a_process_that_was_killed(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / f".a[b].npz.{dead.pid}-1.tmp").write_bytes(b"half")
    (tmp_path / f".a[b].npz.{os.getppid()}-1.tmp").write_bytes(b"half")  # still alive
    (tmp_path / f".other.{dead.pid}-1.tmp").write_bytes(b"half")
    files.write(tmp_path / "a[b].npz", b"whole")
    assert sorted(os.listdir(tmp_path)) == sorted(["a[b].npz", f".a[b].npz.{os.getppid()}-1.tmp", f".other.{dead.pid}-1.tmp"])


def test_writes_of_several_threads(tmp_path):
    path, wrong = tmp_path / "file", []
    def work(i):
        for _ in range(50):
            files.write(path, bytes([i]) * 10_000)
            if len(set(data := path.read_bytes())) != 1 or len(data) != 10_000: wrong.append(data)
    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert not wrong and os.listdir(tmp_path) == ["file"]


# ---------------------------------------------------------------- interrupts at any moment

@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer to interrupt with")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")  # of Python, where a file was just being opened
def test_interrupts_at_random_moments_of_a_run_with_checkpoints(tmp_path, capsys):
    "Each leaves whole files, a model of arrays, a folder that is free; the run that goes on has the bits of one that nothing stopped."
    wanted, rng, hits, runs = int(os.environ.get("NN_FROM_SCRATCH_INTERRUPTS", 60)), np.random.default_rng(0), 0, 0
    def interrupt(*_): raise KeyboardInterrupt
    def run(folder, model):
        early = nn.EarlyStopping(20)
        settings = dict(epochs=6, checkpoint=folder, checkpoint_every=1, resume=True) if folder else dict(epochs=6)
        return nn.fit(model, nn.cross_entropy, nn.Adam(0.01), (X, Y), (X, Y), progress=False, metrics=[nn.accuracy], callbacks=[early], **settings)
    straight = nn.mlp([2, 4, 2], rng=0)
    history = run(None, straight)
    before = signal.signal(signal.SIGALRM, interrupt)
    longest = 0.02
    try:
        while hits < wanted:
            folder, done = tmp_path / str(runs), False
            while not done:
                model = nn.mlp([2, 4, 2], rng=0)
                try:
                    signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-4, longest) if hits < wanted else 0)
                    found = run(folder, model)
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    done = found.stopped == "epochs"
                except KeyboardInterrupt: found = None  # before the run had begun, or after its end
                hits += not done
                longest *= 0.9 if done else 1.02
                assert np.isfinite(model.parameters().vector).all() and type(model(X)) is np.ndarray
                for path in checkpoints.files(folder): packing.from_bytes(path.read_bytes())
            assert found == history and np.array_equal(model.parameters().vector, straight.parameters().vector)
            runs += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    with capsys.disabled(): print(f"\n{hits} interrupts, {runs} runs, all with the same bits ", end="")


@pytest.mark.skipif(sys.platform != "linux", reason="files with holes, and a limit of memory")
def test_a_file_larger_than_the_memory_is_passed_over(tmp_path):
    code = """
import resource, sys, warnings, nn_from_scratch as nn
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (2 * 2**30,) * 2)
folder, data = Path(sys.argv[1]), nn.moons(40, rng=0)
def run(epochs, resume): return nn.fit(nn.mlp([2, 4, 2], rng=0), nn.cross_entropy, nn.Adam(), data, epochs=epochs, progress=False, checkpoint=folder, resume=resume)
run(1, False)
with open(folder / "step-000000099.npz", "wb") as file: file.truncate(512 * 2**30)
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    print(len(run(2, True).train_loss), *[one.message for one in told])
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(Path(nn.__file__).parent.parent)})
    assert done.stdout.startswith("2 damaged:") and "step-000000002" in done.stdout, done.stderr
