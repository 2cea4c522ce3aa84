"""A gradient succeeds or changes nothing: whatever tears it away, at whichever bytecode, the model is whole at its next use."""

import copy
import os
import pickle
import signal
import sys
import threading

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


def test_readers_wait_for_a_gradient_and_a_gradient_waits_for_readers():
    model, wrong, done = Memory(), [], threading.Event()
    expected = model(x)

    def read():
        while not done.is_set():
            with model.reading():
                if type(y := model(x)) is not np.ndarray or not np.array_equal(y, expected): wrong.append(y)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers: reader.start()
    gradient = nn.value_and_grad(loss)
    for _ in range(200): gradient(model, x)
    done.set()
    for reader in readers: reader.join(10)
    assert not wrong and whole(model)


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
