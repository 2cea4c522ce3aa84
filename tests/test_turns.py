"""A gradient succeeds or changes nothing: whatever tears it away, at whichever bytecode, the model is whole at its next use."""

import copy
import os
import pickle
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import nn_from_scratch as nn
from nn_from_scratch.modules import evaluating
from nn_from_scratch.turns import exchanges

x = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
EXCHANGE = ("gradients.py", "layout.py", "turns.py", "modules.py")


class Memory(nn.Module):
    "A model with parameters in a list and a dict, a part, and state that each call replaces."

    def __init__(self):
        self.net, self.gains, self.table = nn.mlp([2, 4, 3], rng=0), [np.ones(3, np.float32)], {"k": np.ones(3, np.float32)}
        self._seen = 0

    def __call__(self, x):
        self._seen = self._seen + 1
        return self.net(x) * self.gains[0] + self.table["k"]


def loss(model, x): return np.mean(model(x) ** 2)


def whole(model):
    "The model holds arrays, computes, and a gradient of it can be taken."
    parameters = model.parameters()
    assert not exchanges and type(model(x)) is np.ndarray
    assert all(type(a) is np.ndarray for a in (model.net[0].weight, model.net[2].bias, model.gains[0], model.table["k"]))
    assert np.shares_memory(model.net[0].weight, parameters.vector)
    nn.grad(loss)(model, x)
    return True


class Interrupt(KeyboardInterrupt): pass


def interrupted_at(n, call):
    "Run `call` with an interrupt at the n-th bytecode of those that exchange parameters and numbers; whether it came to that."
    left = n

    def trace(frame, event, arg):
        nonlocal left
        if not frame.f_code.co_filename.endswith(EXCHANGE): return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            left -= 1
            if left < 0: raise Interrupt
        return trace

    old = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except (Interrupt, ZeroDivisionError):
        pass
    finally:
        sys.settrace(old)
    return left < 0


@pytest.mark.parametrize("f", [loss, lambda m, x: loss(m, x) * (1 / 0)], ids=["to its end", "has to roll back"])
def test_an_interrupt_at_any_bytecode_leaves_a_whole_model(f):
    model, tried, wrong = Memory(), 0, []
    before = model.parameters().vector.copy()

    def attack():
        nonlocal tried
        while interrupted_at(tried, lambda: nn.value_and_grad(f)(model, x)):
            try: assert whole(model) and np.array_equal(model.parameters().vector, before)
            except BaseException as error: wrong.append((tried, repr(error)))
            tried += 1

    thread = threading.Thread(target=attack)  # one of its own: what tracing does to it ends with it
    thread.start()
    thread.join()
    print(f"{tried} interrupts, one at each bytecode of a gradient")
    assert not wrong and tried > 300


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")
def test_real_interrupts_at_random_instants_leave_a_whole_model():
    "NN_FROM_SCRATCH_INTERRUPTS: how many; 300 without it."
    model, rng, n = Memory(), np.random.default_rng(0), int(os.environ.get("NN_FROM_SCRATCH_INTERRUPTS", 300))
    before, gradient, inside = model.parameters().vector.copy(), nn.value_and_grad(loss), 0

    def interrupt(*_): raise Interrupt

    old = signal.signal(signal.SIGALRM, interrupt)
    try:
        for i in range(n):
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(2e-5, 1e-3))
                while True: gradient(model, x)
            except Interrupt:
                pass
            inside += bool(exchanges)  # what even the way out has not put back: the next use does
            assert whole(model) and np.array_equal(model.parameters().vector, before), i
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    print(f"{n} interrupts at random instants, {inside} of them left to the next use")


@pytest.mark.parametrize("use", [lambda m: m.parameters(), copy.deepcopy, pickle.dumps, lambda m: m.net.parameters(), lambda m: nn.grad(loss)(m, x)],
                         ids=["parameters", "deepcopy", "pickle", "a part", "gradient"])
def test_the_next_use_mends_what_nothing_could_roll_back(use):
    model = Memory()
    layout = model.layout()

    def taken():
        assert layout.lock.acquire()
        layout.put([Stands() for _ in layout.arrays])
        raise KeyboardInterrupt  # and nobody rolls back, and nobody releases

    with pytest.raises(KeyboardInterrupt): taken()
    assert exchanges
    use(model)
    assert whole(model)


class Stands:
    "Stands for the numbers that a gradient puts into the places."
    def __operation__(self, step, args, kwargs): raise AssertionError("a step on what was left behind")


def test_inside_a_gradient_nothing_is_mended():
    model = nn.mlp([2, 3, 1], rng=0)

    def f(m):
        with pytest.raises(RuntimeError, match="a gradient of this model is being taken"): m.parameters()
        assert exchanges
        return np.mean(m(x) ** 2)

    nn.grad(f)(model)
    assert not exchanges


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_while_a_thread_takes_a_gradient_gives_the_child_a_whole_model():
    model, inside, go_on = Memory(), threading.Event(), threading.Event()

    def slow(m, x):
        inside.set()
        go_on.wait(10)
        return loss(m, x)

    thread = threading.Thread(target=lambda: nn.grad(slow)(model, x))
    thread.start()
    inside.wait(10)
    child = os.fork()
    if child == 0:
        try: os._exit(0 if whole(model) else 1)
        except BaseException: os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    go_on.set()
    thread.join()
    assert whole(model)


def beside(first, second):
    """Whether `second`, begun in a thread of its own while `first` is inside, waits until it has left. `first(inside)` calls inside() once.

    Nothing depends on time: `first` is let go when `second` has ended, or is seen to wait for its turn."""
    begun, let_go, order = threading.Event(), threading.Event(), []

    def inside():
        begun.set()
        assert let_go.wait(30)
        order.append("first")

    def go():
        second()
        order.append("second")

    one, two = threading.Thread(target=first, args=(inside,)), threading.Thread(target=go)
    one.start()
    assert begun.wait(30)
    two.start()
    while two.is_alive() and not waits(two): time.sleep(0.001)
    let_go.set()
    one.join(30)
    two.join(30)
    assert not one.is_alive() and not two.is_alive()
    return order == ["first", "second"]


def waits(thread):
    "Whether a thread waits, in a turn, for its end."
    frame, files = sys._current_frames().get(thread.ident), []
    while frame:
        files.append(Path(frame.f_code.co_filename).name)
        frame = frame.f_back
    return "turns.py" in files and files[0] == "threading.py"


def slowly(model):
    "A gradient that calls inside() while its Tensors stand in the model."
    return lambda inside: nn.grad(lambda m, x: inside() or loss(m, x))(model, x)


def test_a_reader_waits_for_a_gradient():
    model, said = Memory(), []
    expected = model(x)

    def read():
        with model.reading(): said.append(model(x))

    assert beside(slowly(model), read)
    assert type(said[0]) is np.ndarray and np.array_equal(said[0], expected) and whole(model)


def test_a_gradient_waits_for_a_reader():
    model = Memory()

    def read(inside):
        with model.reading(): inside()

    assert beside(read, lambda: nn.grad(loss)(model, x))
    assert whole(model)


def test_readers_do_not_wait_for_each_other():
    model = Memory()

    def read(inside=lambda: None):
        with model.reading(): inside()

    assert not beside(read, read)


def test_a_file_is_written_between_two_gradients(tmp_path):
    model = nn.mlp([2, 3, 1], rng=0)
    assert beside(slowly(model), lambda: nn.save(model, tmp_path / "m.safetensors"))
    assert np.array_equal(nn.load(tmp_path / "m.safetensors").parameters().vector, model.parameters().vector)


@pytest.mark.parametrize("copied", [copy.deepcopy, pickle.dumps], ids=lambda f: f.__name__)
@pytest.mark.parametrize("what", [lambda m: m, lambda m: m.net, lambda m: m.gains, lambda m: m.net[0].weight], ids=["model", "part", "list", "Tensor"])
def test_a_copy_is_not_made_of_tensors(copied, what):
    model = Memory()

    def f(m, x):
        with pytest.raises(RuntimeError, match="a gradient (of this model )?is being taken|is not copied"): copied(what(m))
        return loss(m, x)

    nn.grad(f)(model, x)
    assert whole(model)
    copied(what(model))


@pytest.mark.parametrize("compiled", [False, "auto"])
def test_predictions_beside_a_training_are_those_of_a_moment(compiled):
    "With state that training changes as well (batch normalisation): each is one that the model gave between two steps."
    x, y = nn.moons(64, noise=0.1, rng=0)
    model = nn.Sequential(nn.Linear(2, 8, rng=0), nn.BatchNorm(8), nn.relu, nn.Dropout(0.3, rng=1), nn.Linear(8, 2, rng=2))
    known, found, over = {nn.predict(model, x, 20).tobytes()}, [], threading.Event()

    def serve():
        while not over.is_set() and len(found) < 1000: found.append(nn.predict(model, x, 20).tobytes())

    class Note(nn.Callback):
        def on_gradient(self, run): known.add(nn.predict(copy.deepcopy(run.model), x, 20).tobytes())
        def on_step_end(self, run): self.on_gradient(run)

    servers = [threading.Thread(target=serve) for _ in range(3)]
    for server in servers: server.start()
    nn.fit(model, nn.cross_entropy, nn.Adam(0.01), (x, y), epochs=15, batch_size=16, callbacks=[Note()], progress=False, compile=compiled)
    over.set()
    for server in servers: server.join(30)
    assert found and set(found) <= known, f"{sum(one not in known for one in found)} of {len(found)}"


def test_reading_inside_a_gradient_of_the_same_thread_is_refused():
    model = nn.mlp([2, 3, 1], rng=0)

    def f(m):
        with m.reading(): return np.mean(m(x))

    with pytest.raises(RuntimeError, match="before it or after it"): nn.grad(f)(model)
    with model.reading(), pytest.raises(RuntimeError): nn.grad(lambda m: np.mean(m(x)))(model)
    assert nn.grad(lambda m: np.mean(m(x)))(model)


def test_evaluating_changes_no_model_and_no_other_thread():
    model, seen = nn.mlp([2, 3, 1], rng=0), []
    before = dict(vars(model))
    with evaluating():
        assert not model.training and not model[0].training
        thread = threading.Thread(target=lambda: seen.append(model.training))
        thread.start()
        thread.join()
        model.train()
        assert not model.training
    assert model.training and seen == [True] and vars(model).keys() <= before.keys() | {"training"}
    assert not model.eval().training and not copy.deepcopy(model).training
