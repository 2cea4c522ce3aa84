"""Checkpoints: the same bits after any interruption, kills and full disks survived, other runs refused; and what else a run must survive.

NN_FROM_SCRATCH_KILLS is the number of processes to kill (20; 1,000 in a long run), NN_FROM_SCRATCH_STEPS the length of the runs in which
memory may not grow (4,000; 100,000 in a long run).
"""

import errno
import gc
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

import nn_from_scratch as nn
from nn_from_scratch import checkpoints, packing, states
from nn_from_scratch import files as writer  # noqa: F401  (for the processes that are killed)

X, Y = nn.moons(100, noise=0.1, rng=0)  # four batches of 32
VALID = nn.moons(40, noise=0.1, rng=1)
WEIGHT = np.random.default_rng(0).random(100).astype(np.float32)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    "Nobody pulls the plug in these tests: they need not wait for the disk."
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


class Crash(Exception): pass


class Crashing:
    "Raises at a step of the run."
    def __init__(self, step): self.at = step
    def on_step_end(self, run):
        if run.step == self.at: raise Crash


class Noise(nn.Module):
    "A layer with all kinds of state: a generator, a running mean that begins as None, a count, a dict."
    def __init__(self, rng): self._rng, self._mean, self._count, self._seen = np.random.default_rng(rng), None, 0, {"largest": np.zeros(1)}
    def __call__(self, x):
        if not self.training: return x
        value = getattr(x, "value", x)
        self._mean = value.mean(0) if self._mean is None else 0.9 * self._mean + 0.1 * value.mean(0)
        self._count += 1
        self._seen["largest"] = np.maximum(self._seen["largest"], value.max())
        return x + (self._rng.normal(0, 0.1, x.shape) + 0.01 * self._mean).astype(x.dtype)


class Shuffled:
    "An iterable with a generator of its own."
    def __init__(self, rng): self.rng = np.random.default_rng(rng)
    def __iter__(self): return nn.batches(X, Y, 30, self.rng)
    def state_dict(self): return {"rng": self.rng}
    def load_state_dict(self, state): self.rng = state["rng"]


class Halving:
    "A callback without a state that changes the optimizer on the way."
    def on_epoch_end(self, run): run.optimizer.lr *= 0.5


def network(rng=0, **settings): return nn.mlp([2, 8, 2], rng=rng, **settings)
def noisy(rng=5): return nn.Sequential(nn.Linear(2, 8, rng=0), nn.relu, Noise(rng), nn.Linear(8, 2, rng=1))


def bits(model, optimizer, history):
    "Everything that must be the same, as text."
    arrays, state = {}, [model.parameters().vector, states.state_of(model), optimizer.memory, optimizer.steps, optimizer.learning_rate()]
    return json.dumps([history.to_dict(), packing.pack(state, arrays), {name: a.tobytes().hex() for name, a in arrays.items()}])


def train(model=None, optimizer=None, data=(X, Y), **settings):
    model, optimizer = model or network(), optimizer or nn.Adam(0.01)
    settings = {"epochs": 4, "progress": False} | settings
    history = nn.fit(model, nn.cross_entropy, optimizer, data, **settings)
    return bits(model, optimizer, history)


def shared_generator():
    rng = np.random.default_rng(3)
    return dict(model=noisy(rng), rng=rng)


RUNS = {  # each makes everything anew, as a new process would
    "plain": lambda: {},
    "weights": lambda: dict(data=(X, Y, WEIGHT)),
    "weights, some batches without any": lambda: dict(data=(X, Y, (np.arange(100) == 7).astype(np.float32))),
    "metrics and validation": lambda: dict(valid=VALID, metrics=[nn.accuracy]),
    "metrics, validation and weights": lambda: dict(data=(X, Y, WEIGHT), valid=(*VALID, WEIGHT[:40]), metrics=[nn.accuracy]),
    "clip_norm": lambda: dict(clip_norm=0.1, optimizer=nn.SGD(0.5, momentum=0.9)),
    "cosine_decay": lambda: dict(optimizer=nn.AdamW(nn.cosine_decay(0.05, 16))),
    "one_cycle": lambda: dict(optimizer=nn.SGD(nn.one_cycle(0.05, steps=16), momentum=0.9, nesterov=True)),
    "a schedule of one's own": lambda: dict(optimizer=nn.SGD(lambda step: 0.1 / (1 + step))),
    "SGD": lambda: dict(optimizer=nn.SGD(0.1)),
    "Adagrad": lambda: dict(optimizer=nn.Adagrad(0.1)),
    "RMSprop": lambda: dict(optimizer=nn.RMSprop(0.01, momentum=0.9)),
    "early stopping": lambda: dict(valid=VALID, callbacks=[nn.EarlyStopping(2, min_delta=0.05)], epochs=8),
    "converges": lambda: dict(tol=0.9, patience=1, epochs=8),
    "a callback changes the learning rate": lambda: dict(callbacks=[Halving()]),
    "a callback stops within an epoch": lambda: dict(callbacks=[type("Stop", (), {"on_step_end": lambda self, run: run.step == 10})()]),
    "float64": lambda: dict(model=network(dtype=np.float64)),
    "state": lambda: dict(model=noisy()),
    "state and evaluation": lambda: dict(model=noisy(), valid=VALID, metrics=[nn.accuracy]),
    "one generator for all": shared_generator,
    "MT19937": lambda: dict(rng=np.random.Generator(np.random.MT19937(4))),
    "max_steps": lambda: dict(max_steps=10),
    "max_steps at the end of an epoch": lambda: dict(max_steps=8),
    "a list of batches": lambda: dict(data=list(nn.batches(X, Y, 30, rng=0)), valid=[VALID], metrics=[nn.accuracy]),
    "a generator of batches": lambda: dict(data=nn.batches(X, Y, 6, rng=0), epochs=1),
    "an iterable that remembers": lambda: dict(data=Shuffled(0)),
}


def with_callback(settings, *more): return settings | {"callbacks": [*settings.get("callbacks", []), *more]}


# ---------------------------------------------------------------- the same bits

@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_crashes_anywhere_goes_on_to_the_same_bits(tmp_path, name):
    make = RUNS[name]
    straight = train(**make())
    steps = int(straight.split('"steps": ')[1].split(",")[0])
    for step, every in zip(range(1, steps + 1), itertools.cycle([1, 2, 3, 100])):
        keep = dict(checkpoint=tmp_path / str(step), checkpoint_every=every, resume=True)
        with pytest.raises(Crash): train(**with_callback(make(), Crashing(step)), **keep)
        assert train(**make(), **keep) == straight, (step, every)
    assert train(**make(), **keep) == straight  # it is done; asking again gives the same
    assert train(**make(), checkpoint=tmp_path / "never stopped") == straight  # saving changes nothing


def test_a_run_that_crashes_again_and_again(tmp_path):
    make, keep = RUNS["metrics, validation and weights"], dict(checkpoint=tmp_path, checkpoint_every=2, resume=True, epochs=10)
    for step in (1, 2, 3, 6, 7, 11, 12, 12, 13, 25, 40):
        with pytest.raises(Crash): train(**with_callback(make(), Crashing(step)), **keep)
    assert train(**make(), **keep) == train(**make(), epochs=10)


@pytest.mark.parametrize("first, then", [(dict(epochs=3), dict(epochs=6)), (dict(max_steps=6), dict(max_steps=15)),
                                         (dict(max_steps=8), dict(epochs=4)), (dict(max_steps=9), dict()),
                                         (dict(tol=0.9, patience=1), dict(tol=0.001, patience=2)), (dict(tol=0.9, patience=1), dict())])
@pytest.mark.parametrize("name", ["metrics and validation", "state", "a list of batches"])
def test_a_run_that_is_done_goes_on_to_more(tmp_path, name, first, then):
    make, keep = RUNS[name], dict(checkpoint=tmp_path, resume=True)
    train(**make() | first, **keep)
    assert train(**make() | then, **keep) == train(**make() | then)


def test_early_stopping_goes_on_to_more_epochs(tmp_path):
    make, keep = (lambda epochs: dict(valid=VALID, callbacks=[nn.EarlyStopping(50)], epochs=epochs)), dict(checkpoint=tmp_path, resume=True)
    train(**make(3), **keep)  # at its end the model goes back to the best parameters; the checkpoint has the last ones
    assert train(**make(6), **keep) == train(**make(6))


@pytest.mark.parametrize("again", [1, 2])
def test_the_same_objects_go_on_after_an_error_or_an_interrupt(tmp_path, again):
    model, optimizer, straight = noisy(), nn.Adam(0.01), train(noisy())
    keep = dict(checkpoint=tmp_path, checkpoint_every=2, resume=True)
    for step in (3, 7)[:again]:
        with pytest.raises(Crash): train(model, optimizer, callbacks=[Crashing(step)], **keep)
        def interrupt(run): raise KeyboardInterrupt
        assert '"interrupted"' in train(model, optimizer, callbacks=[interrupt], **keep)
    assert train(model, optimizer, **keep) == straight


def test_a_model_without_a_seed_goes_on(tmp_path):
    keep = dict(checkpoint=tmp_path, resume=True, checkpoint_every=100)
    model = network(rng=None)
    start = model.parameters().vector.copy()
    with pytest.raises(Crash): train(model, callbacks=[Crashing(2)], **keep)
    straight = network()
    straight.parameters().vector[...] = start
    assert train(network(rng=None), **keep) == train(straight)  # the very first checkpoint has the first weights


def test_what_callbacks_hear(tmp_path):
    heard = []
    class Listener(nn.Callback): pass
    for name in [name for name in vars(nn.Callback) if name.startswith("on_")]:
        setattr(Listener, name, lambda self, run, name=name: heard.append((name, run.epoch, run.step)) and None)
    train(callbacks=[Listener()])
    straight, heard[:] = heard[:], []
    keep = dict(checkpoint=tmp_path, checkpoint_every=2, resume=True)
    with pytest.raises(Crash): train(callbacks=[Listener(), Crashing(7)], **keep)
    assert heard.pop() == ("on_fit_end", 2, 7)
    before = heard[:heard.index(("on_step_end", 2, 6)) + 1]
    heard.clear()
    train(callbacks=[Listener()], **keep)
    assert heard.pop(0) == ("on_fit_start", 0, 0) and before + heard == straight


def test_what_is_shared_stays_shared(tmp_path):
    class Shared(nn.Module):
        def __init__(self):
            self.layer, rng, memory = nn.Linear(2, 2, rng=0), np.random.default_rng(0), {"n": 0}
            self._a, self._b, self._c, self._d, self._e = rng, rng, memory, memory, [np.zeros(2)]
            self._f = self._e[0]
        def __call__(self, x):
            self._c["n"] += 1
            self._e[0] += self._a.normal() + self._b.normal()
            return self.layer(x)
    keep = dict(checkpoint=tmp_path, resume=True)
    straight = train(Shared())
    with pytest.raises(Crash): train(Shared(), callbacks=[Crashing(6)], **keep)
    model = Shared()
    assert train(model, **keep) == straight
    assert model._a is model._b and model._c is model._d and model._f is model._e[0]


def test_files(tmp_path):
    train(checkpoint=tmp_path / "a" / "b", checkpoint_every=3)
    assert sorted(os.listdir(tmp_path / "a" / "b")) == [f"step-{step:09}.npz" for step in (12, 15, 16)]
    for path in (tmp_path / "a" / "b").iterdir():  # an ordinary archive, with nothing in it that could run
        with np.load(path, allow_pickle=False) as file: assert json.loads(file["text"].tobytes())["version"] == packing.VERSION
        assert zipfile.ZipFile(path).testzip() is None
    train(checkpoint=str(tmp_path / "text"))


# ---------------------------------------------------------------- what is refused, and what is not

@pytest.mark.parametrize("change, message", [
    (dict(model=nn.mlp([2, 9, 2], rng=0)), "parameter 0.weight: now float32 (2, 9); then float32 (2, 8)"),
    (dict(model=nn.mlp([2, 8, 8, 2], rng=0)), "parameter 4.weight: now float32 (8, 2); then none"),
    (dict(model=network(dtype=np.float64)), "parameter 0.weight: now float64 (2, 8); then float32 (2, 8)"),
    (dict(model=nn.mlp([2, 8, 2], nn.tanh, rng=0)), "model: now Sequential(Linear(2, 8), tanh, Linear(8, 2)); then Sequential(Linear(2, 8), relu"),
    (dict(optimizer=nn.SGD(0.01)), "optimizer: now SGD(lr=0.01"),
    (dict(optimizer=nn.Adam(0.02)), "optimizer: now Adam(lr=0.02, "),
    (dict(optimizer=nn.Adam(nn.cosine_decay(0.01, 10))), "lr=cosine_decay(lr=0.01, steps=10, final=0.0)"),
    (dict(batch_size=16), "batch size: now 16; then 32"),
    (dict(data=(X[:90], Y[:90])), "training data: now x float32 (90, 2), y int64 (90,) with"),
    (dict(data=(X + 1, Y)), "training data: now x float32 (100, 2), y int64 (100,) with the checksum"),
    (dict(data=(X, Y, WEIGHT)), "weight float32 (100,)"),
    (dict(data=[(X, Y)]), "batch size: now that of the batches; then 32\n  training data: now 1 batches"),
    (dict(valid=None), "validation data: now none; then x float32 (40, 2)"),
    (dict(clip_norm=1.0), "clip_norm: now 1.0; then None"),
    (dict(metrics=[]), "metrics: now none; then accuracy"),
    (dict(callbacks=[nn.EarlyStopping()]), "callbacks with a state: now EarlyStopping; then none"),
    (dict(rng=np.random.Generator(np.random.MT19937(0))), "generator: now MT19937; then PCG64"),
])
def test_another_run_is_refused_before_anything_is_changed(tmp_path, change, message):
    settings = dict(valid=VALID, metrics=[nn.accuracy], checkpoint=tmp_path)
    train(**settings)
    files = {path: path.read_bytes() for path in tmp_path.iterdir()}
    changed = dict(model=network(rng=9), optimizer=nn.Adam(0.01)) | settings | change
    changed["model"].eval()
    before = changed["model"].parameters().vector.copy()
    with pytest.raises(ValueError) as caught: train(**changed, resume=True)
    assert message in str(caught.value) and "another folder" in str(caught.value)
    assert np.array_equal(changed["model"].parameters().vector, before) and changed["optimizer"].steps == 0
    assert changed["model"].training is False and files == {path: path.read_bytes() for path in tmp_path.iterdir()}


def test_another_loss_is_refused(tmp_path):
    x, y = nn.regression(50, rng=0)
    run = lambda loss: nn.fit(nn.mlp([1, 4, 1], rng=0), loss, nn.SGD(0.1), (x, y), progress=False, epochs=1, checkpoint=tmp_path, resume=True)
    run(nn.mse)
    with pytest.raises(ValueError, match="loss: now mae; then mse"): run(nn.mae)


def test_a_new_run_does_not_write_over_an_old_one(tmp_path):
    train(checkpoint=tmp_path)
    with pytest.raises(ValueError, match="holds the checkpoints of a run, the newest step-000000016.npz: resume=True goes on with it"):
        train(checkpoint=tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="must be a folder"): train(checkpoint=tmp_path / "file", resume=True)
    with pytest.raises(ValueError, match="say where it is"): train(resume=True)
    with pytest.raises(TypeError, match="checkpoint must be the name of a folder, not True"): train(checkpoint=True)
    with pytest.raises(ValueError, match="checkpoint_every must be a whole number of at least 1, not 0"): train(checkpoint=tmp_path / "c", checkpoint_every=0)


def test_resuming_in_an_empty_folder_starts_afresh(tmp_path):
    assert train(checkpoint=tmp_path / "not there", resume=True) == train(checkpoint=tmp_path, resume=True) == train()


def test_what_does_not_matter(tmp_path):
    train(checkpoint=tmp_path, rng=3)
    straight = train(rng=3, epochs=6)
    assert train(checkpoint=tmp_path, rng=8, epochs=6, progress=True, callbacks=[lambda run: None], resume=True) == straight


def test_a_callback_that_cannot_be_saved_is_refused_at_the_start(tmp_path):
    class Odd(nn.Callback):
        def state_dict(self): return {"file": sys.stdout}
    for kind, callback, message in [(TypeError, Odd(), "the state of Odd: a checkpoint holds numbers, text, arrays"),
                                    (ValueError, nn.LearningRateFinder(), "run it without checkpoint")]:
        model = network()
        before = model.parameters().vector.copy()
        with pytest.raises(kind, match=message): train(model, callbacks=[callback], checkpoint=tmp_path)
        assert np.array_equal(model.parameters().vector, before) and not list(tmp_path.iterdir())


def test_training_data_that_ends_earlier_than_before(tmp_path):
    data = lambda n: nn.batches(X[:n], Y[:n], 10, shuffle=False)
    train(data=data(100), max_steps=8, checkpoint=tmp_path)
    with pytest.raises(ValueError, match="8 batches of epoch 1 were done when the run was saved, but now the training data has only 5"):
        train(data=data(50), checkpoint=tmp_path, resume=True)


# ---------------------------------------------------------------- damage

def damaged(data: bytes, how: str) -> bytes:
    if how == "empty": return b""
    if how == "cut": return data[:len(data) // 2]
    if how == "noise": return np.random.default_rng(0).bytes(len(data))
    if how == "zeros": return bytes(len(data))
    place = len(data) // 3  # one bit
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1:]


@pytest.mark.parametrize("how", ["empty", "cut", "noise", "zeros", "one bit"])
@pytest.mark.parametrize("count", [1, 2])
def test_a_damaged_file_gives_way_to_the_one_before(tmp_path, how, count):
    train(checkpoint=tmp_path, checkpoint_every=2, max_steps=13)
    files = sorted(tmp_path.iterdir())
    for path in files[-count:]: path.write_bytes(damaged(path.read_bytes(), how))
    with pytest.warns(UserWarning, match=f"damaged: .*{files[-1].name}.*; going on from the checkpoint {files[-1 - count].name}"):
        assert train(checkpoint=tmp_path, resume=True) == train()
    assert len(list(tmp_path.glob("*.damaged"))) == count and len(list(tmp_path.glob("*.npz"))) == 3


def test_when_all_are_damaged_the_run_does_not_begin_anew(tmp_path):
    train(checkpoint=tmp_path)
    for path in tmp_path.iterdir(): path.write_bytes(b"noise")
    with pytest.raises(ValueError, match="all 3 checkpoints in .* are damaged"): train(checkpoint=tmp_path, resume=True)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_later_format_is_not_taken_for_damage(tmp_path, monkeypatch):
    with monkeypatch.context() as later:
        later.setattr(packing, "VERSION", packing.VERSION + 1)
        train(checkpoint=tmp_path)
    with pytest.raises(ValueError, match="has the format 4, and this version of the library reads 3"): train(checkpoint=tmp_path, resume=True)


def test_a_pickle_is_not_opened(tmp_path):
    train(checkpoint=tmp_path)
    class Evil:
        def __reduce__(self): return os.mkdir, (str(tmp_path / "opened"),)
    for path in list(tmp_path.glob("*.npz")):
        np.savez(path, sha256=np.array("0"), text=np.array([Evil()], dtype=object))
    with pytest.raises(ValueError, match="damaged"): train(checkpoint=tmp_path, resume=True)
    assert not (tmp_path / "opened").exists()


# ---------------------------------------------------------------- full disks, and a write that is broken off

def whole(folder) -> list[int]:
    "The steps of the checkpoints in a folder, each read in full; an error where one is not whole."
    return [packing.from_bytes(path.read_bytes())["step"] for path in checkpoints.files(Path(folder))]


def check_full_disk(folder, room):
    "Train until a checkpoint cannot be written; then make room, and go on."
    model, optimizer = network(), nn.Adam(0.01)
    with pytest.raises(OSError) as caught: train(model, optimizer, checkpoint=folder, checkpoint_every=1)
    message, history = str(caught.value), caught.value.history
    assert "could not be written; the one before, step-" in message and "resume=True goes on" in message
    assert history.stopped == "error" and history.steps == optimizer.steps == whole(folder)[-1] + 1
    assert not list(Path(folder).glob(".*"))
    assert np.isfinite(model.parameters().vector).all() and nn.predict(model, X).shape == (100, 2)
    room()
    assert train(checkpoint=folder, resume=True) == train()
    return caught.value


def test_a_disk_that_is_full(tmp_path, monkeypatch):
    sync, calls = os.fsync, itertools.count()
    def full(descriptor):
        if next(calls) == 12: raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)
    monkeypatch.setattr(os, "fsync", full)
    assert check_full_disk(tmp_path, monkeypatch.undo).errno == errno.ENOSPC


def test_a_limit_to_the_size_of_files(tmp_path):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit = lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    class Limit:
        def on_step_end(self, run):
            if run.step == 5: limit(1000)
    try:
        with pytest.raises(OSError, match="the one before, step-000000004.npz, is whole") as caught:
            train(callbacks=[Limit()], checkpoint=tmp_path, checkpoint_every=1)
    finally: limit(before[0])
    assert caught.value.errno == errno.EFBIG and caught.value.history.steps == 5 and whole(tmp_path) == [2, 3, 4]
    assert train(checkpoint=tmp_path, resume=True) == train()


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounting a small disk needs Linux and root")
def test_a_small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode: pytest.skip("no disk can be mounted here")
    try:
        filler = disk / "filler"
        filler.write_bytes(bytes(28_000))  # 20 kB are left: room for two or three checkpoints, not for four
        assert check_full_disk(disk / "run", filler.unlink).errno == errno.ENOSPC
    finally: subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("place", ["fsync", "replace"])
def test_an_interrupt_within_the_write(tmp_path, monkeypatch, place):
    real, calls = getattr(os, place), itertools.count()
    def interrupted(*args):
        if next(calls) == 5: raise KeyboardInterrupt
        return real(*args)
    monkeypatch.setattr(os, place, interrupted)
    assert '"interrupted"' in train(checkpoint=tmp_path, checkpoint_every=1)
    monkeypatch.undo()
    assert len(whole(tmp_path)) == 3 and not list(tmp_path.glob(".*"))
    assert train(checkpoint=tmp_path, resume=True) == train()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError): train(checkpoint=tmp_path / "file" / "folder")


# ---------------------------------------------------------------- killed processes

CHILD = """
import builtins, json, os, signal, sys, time, traceback
sys.path.insert(0, {tests!r})
from test_checkpoints import Noise, VALID, WEIGHT, X, Y, bits, nn, writer

class Slow:
    "A file that is written in two halves, so that a kill may come between them."
    def __init__(self, file): self.file = file
    def __enter__(self): return self
    def __exit__(self, *error): self.file.close()
    def write(self, data):
        self.file.write(data[:len(data) // 2])
        self.file.flush()
        time.sleep(0.002)
        self.file.write(data[len(data) // 2:])
    def flush(self): self.file.flush()
    def fileno(self): return self.file.fileno()

def slowly(function):
    def slow(*args):
        time.sleep(0.001)
        return function(*args)
    return slow

writer.open = lambda path, mode: Slow(builtins.open(path, mode))
os.fsync, os.replace = slowly(os.fsync), slowly(os.replace)

def train(folder, result):
    model = nn.Sequential(nn.Linear(2, 8, rng=0), nn.relu, Noise(5), nn.Linear(8, 2, rng=1))
    optimizer = nn.AdamW(nn.cosine_decay(0.05, 40))
    keep = dict(checkpoint=folder, checkpoint_every=3, resume=True) if folder else dict()
    history = nn.fit(model, nn.cross_entropy, optimizer, (X, Y, WEIGHT), VALID, epochs=10, metrics=[nn.accuracy], clip_norm=0.5,
                     callbacks=[nn.EarlyStopping(8)], progress=False, **keep)
    with builtins.open(result + ".part", "w") as file: file.write(bits(model, optimizer, history))
    os.rename(result + ".part", result)

print("ready", flush=True)
for line in sys.stdin:
    folder, result, seconds = json.loads(line)
    process = os.fork()
    if process == 0:
        code = 1
        try:
            train(folder, result)
            code = 0
        except BaseException: traceback.print_exc()
        finally: os._exit(code)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(process, signal.SIGKILL)  # it may have ended, but its number is not given away before the next line
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot kill a process at once")
def test_killed_processes_go_on_to_the_same_bits(tmp_path, capsys):
    wanted, rng = int(os.environ.get("NN_FROM_SCRATCH_KILLS", 20)), random.Random(0)
    straight, kills, within, runs, longest = tmp_path / "straight", 0, 0, 0, 0.3
    environment = os.environ | {"PYTHONPATH": str(Path(nn.__file__).parent.parent), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", "-c", CHILD.format(tests=str(Path(__file__).parent))]  # a warning, of damage say, is an error
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as server:
        def child(folder, result, seconds=None):
            "A process that trains with checkpoints (without, where `folder` is empty) and is killed after so many seconds; its exit code."
            print(json.dumps([str(folder), str(result), seconds]), file=server.stdin, flush=True)
            return int(server.stdout.readline())
        assert server.stdout.readline() == "ready\n" and child("", straight) == 0
        while kills < wanted:  # one run after the other, each killed until it is done
            folder, result, newest = tmp_path / f"run{runs}", tmp_path / f"result{runs}", -1
            while not result.exists():
                code = child(folder, result, rng.uniform(0, longest) if kills < wanted else None)
                assert code in (0, -signal.SIGKILL), code
                longest *= 0.8 if code == 0 else 1.03  # so that most are killed before they are done, and all get somewhere
                kills += code != 0
                within += any(folder.glob(".*.tmp"))
                steps = whole(folder)  # each file can be read, whenever the kill came
                assert (steps or [-1])[-1] >= newest  # and nothing that was finished is lost
                newest = (steps or [-1])[-1]
            assert result.read_text() == straight.read_text() and len(steps) == 3 and not any(folder.glob(".*"))
            shutil.rmtree(folder)
            runs += 1
        server.stdin.close()
    with capsys.disabled(): print(f"\n{kills} processes killed, {within} of them within a write; {runs} runs, all with the same bits ", end="")
    assert kills == wanted and within > 0


# ---------------------------------------------------------------- what else a run survives

@pytest.mark.parametrize("keep", [False, True])
def test_data_that_raises_in_the_middle_of_an_epoch(tmp_path, keep):
    class Broken:
        def __init__(self, fails): self.fails = fails
        def __iter__(self):
            for i, batch in enumerate(nn.batches(X, Y, 20, rng=0)):
                if self.fails and i == 3: raise OSError("connection lost")
                yield batch
    model, settings = network(), dict(checkpoint=tmp_path, checkpoint_every=1, resume=True) if keep else {}
    with pytest.raises(OSError, match="connection lost") as caught: train(model, data=Broken(True), **settings)
    history = caught.value.history
    assert (history.stopped, history.steps, history.train_loss) == ("error", 3, []) and "in epoch 1, after 3 steps" in history.stopped_because
    assert nn.predict(model, X).shape == (100, 2)
    if keep: assert train(data=Broken(False), **settings) == train(data=Broken(False))
    else: assert '"epochs"' in train(model)


def test_divergence_leaves_the_last_checkpoint(tmp_path):
    class Jump:
        def on_step_start(self, run):
            if run.step == 6: run.optimizer.lr = 1e39
    model = network()
    assert '"diverged"' in train(model, nn.SGD(0.1), callbacks=[Jump()], checkpoint=tmp_path, checkpoint_every=2)
    assert np.isfinite(model.parameters().vector).all() and whole(tmp_path)[-1] == 6
    assert train(optimizer=nn.SGD(0.1), checkpoint=tmp_path, resume=True) == train(optimizer=nn.SGD(0.1))


def test_a_callback_that_raises_when_its_state_is_given_back(tmp_path):
    class Picky(nn.Callback):
        def state_dict(self): return {}
        def load_state_dict(self, state): raise RuntimeError("not mine")
    train(callbacks=[Picky()], checkpoint=tmp_path)
    model = network(rng=9)
    before = model.parameters().vector.copy()
    with pytest.raises(RuntimeError, match="not mine") as caught: train(model, callbacks=[Picky()], checkpoint=tmp_path, resume=True)
    assert caught.value.history.stopped == "error" and np.array_equal(model.parameters().vector, before)


# ---------------------------------------------------------------- long runs do not grow

def pages():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") if sys.platform == "linux" else 0


@pytest.mark.parametrize("how", ["one epoch", "one epoch, with checkpoints", "many epochs"])
def test_memory_is_flat(tmp_path, how, capsys):
    steps, seen = int(os.environ.get("NN_FROM_SCRATCH_STEPS", 4000)), []
    class Watch:
        def on_step_end(self, run):
            if run.step == max(2500, steps // 3): tracemalloc.start()  # NumPy's own caches are full by now
            elif run.step not in (max(2500, steps // 3) + 1, steps): return
            gc.collect()
            seen.append((tracemalloc.get_traced_memory()[0], pages()))
    data = (X, Y) if how == "many epochs" else itertools.repeat((X[:32], Y[:32]))
    keep = dict(checkpoint=tmp_path, checkpoint_every=steps // 20) if "checkpoints" in how else {}
    try: nn.fit(network(), nn.cross_entropy, nn.Adam(1e-4), data, epochs=steps, max_steps=steps, callbacks=[Watch()], progress=False, **keep)
    finally: tracemalloc.stop()
    grown, process = (last - first for first, last in zip(seen[1], seen[-1]))
    with capsys.disabled(): print(f"\n{steps:,} steps, {how}: {grown:+,} bytes, {process / 1e6:+.1f} MB of the process ", end="")
    history = steps // 4 * 48 if how == "many epochs" else 0  # a number for each epoch
    assert grown < 20_000 + history and process < 20e6


def test_a_step_leaves_no_reference_cycle(tmp_path):
    found = []
    class Watch:
        def on_step_end(self, run): found.append(gc.collect())
    gc.disable()
    try:
        for settings in ({}, dict(valid=VALID, metrics=[nn.accuracy], clip_norm=0.1), dict(checkpoint=tmp_path, checkpoint_every=1)):
            found.clear()
            train(model=noisy(), callbacks=[Watch()], **settings)
            assert len(found) == 16 and not any(found[1:]), found
    finally: gc.enable()
