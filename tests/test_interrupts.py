"""An interrupt at any instruction leaves a whole model: no Tensor in it, its turn not held, its answers those of before.

Once by force: KeyboardInterrupt is raised at each bytecode, one after the other, of all that exchanges parameters and Tensors.
Once by chance: real signals at random instants, as many as NN_FROM_SCRATCH_INTERRUPTS says (300).
"""

import contextlib
import dis
import functools
import os
import random
import signal
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import nn_from_scratch as nn
from nn_from_scratch import gradients, layout, packing, parameters, turns
from nn_from_scratch.compiler import replay, tracing

INTERRUPTS = int(os.environ.get("NN_FROM_SCRATCH_INTERRUPTS", "300"))
EXCHANGE = {Path(module.__file__).name for module in (gradients, layout, parameters, turns, replay, tracing)}  # where parameters and Tensors change places
X, Y = np.random.default_rng(0).normal(size=(4, 3)), np.array([0, 1, 1, 0])


pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # where a file or a generator is just being closed
sys._getframe().f_trace_opcodes = True  # Python 3.12 reports bytecodes only where some frame asked for them before settrace


def a_model(): return nn.mlp([3, 4, 2], nn.tanh, rng=0, dtype=np.float64)


def loss(model, x, y): return nn.cross_entropy(model(x), y)


def whole(model, answers, vector, taken_again=True):
    "The model is as if nothing had been begun."
    assert not turns.exchanges and not model.layout().lock.locked()
    for part in model.modules():
        for name, value in vars(part).items(): assert not isinstance(value, nn.Tensor), name
    assert type(model(X)) is np.ndarray and (model(X) == answers).all()
    assert (model.parameters().vector == vector).all()
    if taken_again: assert type(nn.grad(loss)(model, X, Y)) is nn.Parameters


@functools.cache
def bytes_of(code): return code.co_code


def is_no_operation(frame):
    "Where nothing is done, as where a `try` begins, Python looks for no signals."
    return bytes_of(frame.f_code)[frame.f_lasti] == dis.opmap["NOP"]


class Bomb:
    "Raises KeyboardInterrupt at the `n`-th bytecode that runs in some files, those of the exchange."

    def __init__(self, n, files=EXCHANGE): self.left, self.seen, self.files = n, 0, files

    def __call__(self, frame, event, arg):
        if event == "call" and os.path.basename(frame.f_code.co_filename) not in self.files: return None
        frame.f_trace_opcodes = True
        if event == "opcode" and not is_no_operation(frame):
            self.seen += 1
            if self.seen == self.left:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self


def bytecodes(act, files=EXCHANGE):
    "How many bytecodes of the exchange `act` runs through."
    counter = Bomb(-1, files)
    before = sys.gettrace()
    sys.settrace(counter)
    try: act()
    finally: sys.settrace(before)
    return counter.seen


def torn(act, n, files=EXCHANGE):
    "Whether KeyboardInterrupt at the n-th bytecode has ended `act`."
    before = sys.gettrace()
    sys.settrace(Bomb(n, files))
    try: act()
    except KeyboardInterrupt: return True
    finally: sys.settrace(before)
    return False


def interrupted(model, x, y):
    loss(model, x, y)
    raise KeyboardInterrupt


ROOM = nn.grad(loss)(a_model(), X, Y)
ACTS = {
    "a gradient": lambda m: nn.grad(loss)(m, X, Y),
    "a gradient into room": lambda m: nn.value_and_grad(loss)(m, X, Y, out=ROOM),
    "a function that is interrupted, too": lambda m: nn.grad(interrupted)(m, X, Y),
    "a function that fails": lambda m: pytest.raises(ZeroDivisionError, nn.grad(lambda m: 1 / 0), m),
    "a parameter replaced": lambda m: pytest.raises(RuntimeError, nn.grad(lambda m: setattr(m[0], "weight", m[0].weight * 2) or np.sum(m[0].weight)), m),
    "two models": lambda m: nn.grad(lambda both: loss(both[0], both[1](X), Y))((m, nn.mlp([3, 3], rng=1, dtype=np.float64))),
    "a dict with a model": lambda m: nn.grad(lambda d: loss(d["m"], X * d["scale"], Y))({"m": m, "scale": 2.0}),
}


@pytest.mark.parametrize("what", ACTS)
def test_an_interrupt_at_each_bytecode_leaves_a_whole_model(what):
    def act(m):
        try: ACTS[what](m)
        except KeyboardInterrupt:
            if what != "a function that is interrupted, too" or sys.gettrace() is None: raise  # by the bomb
    model = a_model()
    with contextlib.suppress(KeyboardInterrupt): act(model)
    answers, vector = model(X), model.parameters().vector.copy()
    total = bytecodes(lambda: act(model))
    assert total > 100
    stopped = 0
    tried = range(1, total + 1, 1 if what == "a gradient" else max(7, total // 300))
    for n in tried:
        stopped += torn(lambda: act(model), n)
        whole(model, answers, vector, taken_again=n % 50 == 1)
    assert stopped > 0.9 * len(tried), "the bombs went off"


def test_an_interrupt_in_the_midst_of_a_save_stays_one():
    stopped = 0
    files = {"zipfile.py", "__init__.py", "_npyio_impl.py", "npyio.py", "packing.py"}
    def save(): packing.to_bytes({"a": np.ones(3)})
    for n in range(1, bytecodes(save, files) + 1, 3):
        stopped += torn(save, n, files)  # and nothing else
    assert stopped > 0.9 * n / 3


def test_an_interrupt_while_another_has_the_turn_leaves_it_to_the_other():
    model = a_model()
    answers, vector = model(X), model.parameters().vector.copy()

    def inside(m, x, y):
        before = sys.gettrace()
        n = 0
        while True:
            n += 1
            sys.settrace(Bomb(n))
            try:
                with pytest.raises(RuntimeError, match="one at a time"): gradients.exclusively(layout, (layout.lock,), None, [], [], False)
                break
            except KeyboardInterrupt: pass
            finally: sys.settrace(before)
            assert layout.lock.locked() and isinstance(m[0].weight, nn.Tensor)
        assert n > 20
        return loss(m, x, y)

    layout = model.layout()
    expected = nn.grad(loss)(model, X, Y).vector
    assert (nn.grad(inside)(model, X, Y).vector == expected).all()
    whole(model, answers, vector)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")
def test_signals_at_random_instants_leave_a_whole_model(capsys):
    model, rng = a_model(), random.Random(0)
    step = nn.value_and_grad(loss)
    answers, vector, out = model(X), model.parameters().vector.copy(), nn.grad(loss)(model, X, Y)
    caught, old = 0, signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        while caught < INTERRUPTS:
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, 6e-4))
                for _ in range(10_000): step(model, X, Y, out=out)
            except KeyboardInterrupt: caught += 1
            finally: signal.setitimer(signal.ITIMER_REAL, 0)
            if caught % 10 == 0: whole(model, answers, vector)
            assert type(model[0].weight) is np.ndarray and not turns.exchanges
    finally: signal.signal(signal.SIGALRM, old)
    whole(model, answers, vector)
    with capsys.disabled(): print(f" {caught} signals", end="")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_process_has_a_whole_model_whatever_the_parents_threads_did():
    model, going = a_model(), True
    answers = model(X)

    def train():
        while going: nn.grad(loss)(model, X, Y)

    thread = threading.Thread(target=train)
    thread.start()
    try:
        results = []
        for _ in range(20):
            time.sleep(0.002)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads
                child = os.fork()
            if child == 0:
                try:
                    right = type(model(X)) is np.ndarray and (model(X) == answers).all() and not turns.exchanges
                    right = right and type(nn.grad(loss)(model, X, Y)) is nn.Parameters
                    os._exit(0 if right else 1)
                except BaseException: os._exit(2)
            results.append(os.waitpid(child, 0)[1])
    finally:
        going = False
        thread.join()
    assert results == [0] * 20


def test_a_fork_within_a_gradient_goes_on_with_it_in_both():
    if not hasattr(os, "fork"): pytest.skip("no fork here")
    model = a_model()
    expected = nn.grad(loss)(model, X, Y).vector
    child = []

    def f(m, x, y):
        z = m(x)
        child.append(os.fork())
        return nn.cross_entropy(z, y)

    try: right = (nn.grad(f)(model, X, Y).vector == expected).all()
    except BaseException: right = False
    if child[0] == 0: os._exit(0 if right else 1)
    assert right and os.waitpid(child[0], 0)[1] == 0


@pytest.mark.parametrize("what", ["predict", "evaluate"])
def test_an_interrupted_reader_does_not_keep_the_turn(what):
    model = a_model()
    act = {"predict": lambda: nn.predict(model, X), "evaluate": lambda: nn.evaluate(model, nn.cross_entropy, (X, Y))}[what]
    files = {"turns.py", "evaluation.py", "modules.py", Path(contextlib.__file__).name}
    for n in range(1, bytecodes(act, files) + 1):
        torn(act, n, files)
        nn.grad(loss)(model, X, Y)  # refused if a reader that is no more were still waited for
        assert model.training and not model.layout().lock.locked()


@pytest.mark.parametrize("f", [nn.value_and_grad(loss), lambda m, x, y: loss(m, x, y)], ids=["a gradient", "a function"])
def test_an_interrupt_at_each_bytecode_leaves_a_compiled_function_that_can_be_called(f):
    model = a_model()
    def answer(f):
        value = f(model, X, Y)
        return (float(value[0]), *value[1].vector) if isinstance(value, tuple) else (float(value),)
    known = nn.compile(f)
    answers, vector, expected = model(X), model.parameters().vector.copy(), answer(known)
    stopped, total = 0, bytecodes(lambda: nn.compile(f)(model, X, Y))
    tried = range(1, total + 1, total // 150)
    for n in tried:
        f_now = nn.compile(f) if n % 2 else known  # traced in this call, or called again
        stopped += torn(lambda f=f_now: f(model, X, Y), n)
        whole(model, answers, vector, taken_again=n % 50 == 1)
        assert answer(f_now) == expected
    assert stopped > len(tried) / 4


def test_an_interrupt_while_a_step_is_traced_puts_state_back():
    def net(): return nn.Sequential(nn.Linear(3, 4, rng=0, dtype=np.float64), nn.BatchNorm(4, dtype=np.float64), nn.tanh, nn.Linear(4, 2, rng=1, dtype=np.float64))
    total = bytecodes(lambda: nn.compile(nn.value_and_grad(loss))(net(), X, Y))
    for n in range(1, total + 1, total // 150):
        model = net()
        torn(lambda model=model: nn.compile(nn.value_and_grad(loss))(model, X, Y), n)
        assert all(type(part) is np.ndarray for part in (model(X), nn.predict(model, X)))
        assert all(type(a) is np.ndarray for a in vars(model[1]).values() if hasattr(a, "shape"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # a fork beside threads
def test_a_child_process_is_not_kept_by_what_the_parents_threads_held():
    model, held, go_on = a_model(), threading.Event(), threading.Event()
    answers, step = model(X), nn.compile(nn.value_and_grad(loss))
    step(model, X, Y)
    def hold():
        with model.reading()._change:  # inside a wait, say, or a release
            step.busy.acquire()
            held.set()
            go_on.wait(20)
    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(20)
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(10)
            right = (nn.predict(model, X) == answers).all() and type(step(model, X, Y)) is tuple
            os._exit(0 if right else 1)
        except BaseException: os._exit(2)
    try: assert os.waitpid(child, 0)[1] == 0
    finally:
        go_on.set()
        thread.join()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")
@pytest.mark.parametrize("how", [
    {"compile": False}, {"compile": "auto"},
    pytest.param({"workers": 2}, marks=pytest.mark.skipif(INTERRUPTS < 1000, reason="interrupts within Python's own pool of threads can leave one "
                                                          "that waits for ever, and keeps the process: in long runs only")),
], ids=["plain", "auto", "two workers"])
def test_one_interrupt_after_the_other_leaves_a_whole_model_at_once(how, capsys, monkeypatch):
    "Every 0.02 to 2 ms, all the way out: a model that is called straight afterwards answers with arrays."
    monkeypatch.setattr(sys, "unraisablehook", lambda *_: None)  # which would be interrupted, too
    model, rng, caught, alive, armed = a_model(), random.Random(0), 0, 0, [True]
    def handler(*_):
        if armed: raise KeyboardInterrupt
    old = signal.signal(signal.SIGALRM, handler)
    def quiet():
        armed.clear()
        signal.setitimer(signal.ITIMER_REAL, 0)
        armed.append(True)
    try:
        while caught < INTERRUPTS // 2:
            try:
                try:
                    signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-4, 5e-3), rng.uniform(2e-5, 2e-3))
                    nn.fit(model, nn.cross_entropy, nn.Adam(0.01), (X, Y), epochs=10_000, progress=False, **how)
                    armed.clear()
                except KeyboardInterrupt: armed.clear()
                except RuntimeError as error:  # of Python's own queues, which two interrupts can break
                    armed.clear()
                    if "lock" not in str(error): raise
            except KeyboardInterrupt: armed.clear()
            quiet()
            caught += 1
            assert type(model(X)) is np.ndarray
            left = [thread for thread in threading.enumerate() if "ThreadPool" in thread.name and thread.is_alive()]
            alive += len(left)
            for thread in left: thread.join(5)
            with model.reading(): pass  # a note of what had been exchanged may be left until the next use
            answers, vector = model(X), model.parameters().vector.copy()
            whole(model, answers, vector, taken_again=caught % 10 == 0)
            assert model.training
    finally:
        quiet()
        signal.signal(signal.SIGALRM, old)
    with capsys.disabled(): print(f" {caught} rows of interrupts, {alive} threads that were still ending", end="")


def test_what_must_be_done_is_done_however_often_an_interrupt_comes():
    tried = []
    def stubborn():
        tried.append(0)
        if len(tried) < 4: raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): turns.surely(stubborn)
    assert len(tried) == 4 and turns.surely(stubborn) is None
    with pytest.raises(ZeroDivisionError): turns.surely(lambda: 1 / 0)


@pytest.mark.parametrize("files", [{"states.py"}, {"stopping.py"}, {"run.py"}, {"training.py"}, {"contextlib.py"}, {"turns.py"}], ids=lambda files: min(files))
def test_an_interrupt_leaves_no_search_half_undone(files):
    model, optimizer = a_model(), nn.SGD(0.123)
    vector = model.parameters().vector.copy()
    def search(): nn.fit(model, nn.cross_entropy, optimizer, (X, Y), epochs=9, progress=False, compile=False, callbacks=[nn.LearningRateFinder(steps=3)])
    total = bytecodes(search, files)
    for n in range(1, total + 1, 1 + total // 300):
        torn(search, n, files)
        assert (model.parameters().vector == vector).all() and optimizer.lr == 0.123, n


def test_those_whose_end_must_come_are_told_again_and_the_others_once():
    told = []
    class Last:
        def __init__(self, name, surely, error=None): self.name, self.ends_surely, self.error = name, surely, error
        def on_fit_end(self, run):
            told.append(self.name)
            if self.error and told.count(self.name) == 1: raise self.error
    def run(*callbacks): return nn.fit(a_model(), nn.cross_entropy, nn.SGD(0.1), (X, Y), epochs=1, progress=False, callbacks=callbacks)
    found = run(Last("a", False), Last("b", True, KeyboardInterrupt), Last("c", False, KeyboardInterrupt), Last("d", False))
    assert told == ["a", "b", "b", "c", "d"] and found.stopped == "interrupted"
    told.clear()
    with pytest.raises(ZeroDivisionError): run(Last("a", False), Last("b", True, ZeroDivisionError()), Last("c", False))
    assert told == ["a", "b", "c"]


@pytest.mark.parametrize("what", ["WeightAverage", "ScheduleFree"])
def test_an_interrupt_while_an_average_is_judged_leaves_the_numbers_of_the_run(what):
    model = nn.Sequential(nn.Linear(3, 4, rng=0), nn.BatchNorm(4), nn.Linear(4, 2, rng=1))
    average = nn.WeightAverage(0.9) if what == "WeightAverage" else nn.ScheduleFree(0.1)
    more = {"callbacks": [average]} if what == "WeightAverage" else {}
    nn.fit(model, nn.cross_entropy, nn.SGD(0.1) if more else average, (X, Y), epochs=3, progress=False, **more)
    model[0].weight += 1
    def numbers(): return [model.parameters().vector.copy(), model[1]._running_mean.copy(), model[1]._running_var.copy()]
    known = numbers()
    def judge():
        with average.averaged(model): pass
    files = {"averaging.py", "modern.py", "contextlib.py", "turns.py"}
    for n in range(1, bytecodes(judge, files) + 1):
        torn(judge, n, files)
        assert all(map(np.array_equal, numbers(), known)), n


def test_no_worker_outlives_its_run():
    model = a_model()
    files = {"parallel.py", "training.py"}
    def train(): nn.fit(model, nn.cross_entropy, nn.SGD(0.1), (X, Y), epochs=2, progress=False, workers=2)
    total = bytecodes(train, files)
    for n in range(1, total + 1, 1 + total // 200):
        torn(train, n, files)
        limit = time.monotonic() + 5  # one that is at its end may take a moment on a machine with other work
        while (left := [thread for thread in threading.enumerate() if "ThreadPool" in thread.name]) and time.monotonic() < limit: time.sleep(0.01)
        assert not left, n


@pytest.mark.parametrize("step", ["update", "training_step", "compiled"])
def test_predictions_beside_a_loop_by_hand_are_those_of_one_step(step):
    class Slow(nn.Optimizer):
        def step(self, theta, g, lr):
            half = len(theta) // 2
            theta[:half] -= lr * g[:half]
            time.sleep(0.0005)  # so that another thread comes in between
            theta[half:] -= lr * g[half:]
    model, optimizer, going = a_model(), Slow(0.1), threading.Event()
    known, found, errors = {model(X).tobytes()}, [], []
    take = {"update": None, "training_step": nn.training_step(model, nn.cross_entropy, optimizer), "compiled": nn.training_step(model, nn.cross_entropy, optimizer, compile=True)}[step]
    def ask():
        going.wait(10)
        try:
            while going.is_set(): found.append(nn.predict(model, X).tobytes())
        except Exception as error: errors.append(error)
    thread = threading.Thread(target=ask)
    thread.start()
    going.set()
    try:
        for _ in range(200):
            if take: take(X, Y)
            else: optimizer.update(model, nn.grad(loss)(model, X, Y))
            known.add(model(X).tobytes())
    finally:
        going.clear()
        thread.join()
    assert not errors and len(found) > 20 and set(found) <= known


def test_an_update_within_a_reading_is_an_error_in_words():
    model, optimizer = a_model(), nn.SGD(0.1)
    grads = nn.grad(loss)(model, X, Y)
    with model.reading(), pytest.raises(RuntimeError, match="one at a time"): optimizer.update(model, grads)
    assert optimizer.steps == 0
    optimizer.update(model, grads)
