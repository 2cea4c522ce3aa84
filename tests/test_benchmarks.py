"""The benchmark's harness: statistics on made-up rounds, contenders that run in turn only, verdicts, targets that name what
there is. Nothing here takes the time of anything: a test that does fails on a busy machine."""

import itertools
import json
import math
import random
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.project
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))
harness, run = pytest.importorskip("harness"), pytest.importorskip("run")
networks, ours_layers = pytest.importorskip("networks"), pytest.importorskip("libraries.ours_layers")
sys.path.remove(str(ROOT / "benchmarks"))

# A contender that counts, whenever it is allowed to run, how often it does; and tells it, or the round's length it was given.
DUMMY = """
import json, sys, threading
count = 0
def work():
    global count
    while True: count += 1
threading.Thread(target=work, daemon=True).start()
print(json.dumps({"ready": True}), flush=True)
rounds = 0
for line in sys.stdin:
    question = json.loads(line)
    rounds += 1
    if question["do"] == "count": print(json.dumps({"count": count}), flush=True)
    else: print(json.dumps({"seconds": float(sys.argv[1]) * rounds, **question}), flush=True)
"""


def dummies(*units):
    return {f"dummy {i}": ([sys.executable, "-c", DUMMY, str(unit)], None, None) for i, unit in enumerate(units)}


def state(contender):
    "What the system says of the process: T is stopped."
    stat = Path(f"/proc/{contender.process.pid}/stat")
    if not stat.exists(): pytest.skip("no /proc here")
    return stat.read_text().rpartition(")")[2].split()[0]


# ---------------------------------------------------------------- statistics

@pytest.mark.parametrize("n, k", [(6, 1), (9, 2), (15, 4), (31, 10), (50, 18)])
def test_interval_is_the_tables(n, k):
    "The ranks for 95% that the tables of the sign test give."
    values = list(range(1, n + 1))
    random.Random(0).shuffle(values)
    assert harness.interval(values) == ((n + 1) / 2, k, n + 1 - k)


@pytest.mark.parametrize("n", range(6, 80))
def test_interval_holds_the_median_often_enough_and_is_no_wider_than_needed(n):
    _, low, high = harness.interval(range(n))
    coverage = lambda low: 1 - 2 * sum(math.comb(n, k) for k in range(low + 1)) / 2**n
    assert high == n - 1 - low and coverage(low) >= 0.95 > coverage(low + 1)


@pytest.mark.parametrize("n", range(1, 6))
def test_interval_of_few_values_is_all_of_them(n):
    assert harness.interval(range(n)) == ((n - 1) / 2, 0, n - 1)


def test_ratio_is_of_pairs():
    "A machine that becomes three times slower changes no ratio; the medians alone would say 0.5 as well, their quotient by chance not."
    drift = [1, 3, 1, 2, 3, 1, 2, 2, 1]
    times = {"a": [d * 1.0 for d in drift], "b": [d * 2.0 for d in drift]}
    assert harness.ratio(times, "a", "b") == {"median": 0.5, "low": 0.5, "high": 0.5}
    times["b"][4] = 30.0  # one round in which something else ran
    assert harness.ratio(times, "a", "b") == {"median": 0.5, "low": 0.5, "high": 0.5}
    with pytest.raises(ValueError): harness.ratio({"a": [1.0], "b": [1.0, 2.0]}, "a", "b")


def test_disagreement():
    assert harness.disagreement({"a": [2.0, 1.0], "b": [2.0, 1.0], "floor": None}) == 0
    assert harness.disagreement({"a": [2.0, 1.0], "b": [2.0, 0.9]}) == pytest.approx(0.1)
    assert harness.disagreement({"a": [1e-9], "b": [0.0]}) == pytest.approx(1e-6)  # small numbers: to 1/1000
    assert harness.disagreement({"floor": None}) == 0


@pytest.mark.parametrize("low, median, high, said", [(0.2, 0.3, 0.4, "reached"), (0.3, 0.33, 0.4, "reached"), (0.32, 0.35, 0.4, "within the noise"),
                                                     (0.33, 0.35, 0.4, "within the noise"), (0.34, 0.35, 0.4, "missed")])
def test_verdict(low, median, high, said):
    assert harness.verdict({"low": low, "median": median, "high": high}, 0.33) == said


# ---------------------------------------------------------------- turns

def test_only_the_one_whose_turn_it_is_runs():
    with harness.contenders(dummies(1, 1)) as (ready, missing):
        assert list(ready) == ["dummy 0", "dummy 1"] and missing == {}
        one, other = ready.values()
        assert [state(c) for c in (one, other)] == ["T", "T"]
        for _ in range(3):
            with one.turn():
                time.sleep(0.02)
                assert state(one) != "T" and state(other) == "T"
            assert state(one) == "T"
        assert one.ask(do="count")["count"] > 0
        assert [state(c) for c in (one, other)] == ["T", "T"]
    assert all(c.process.poll() is not None for c in (one, other)), "they end with the block, though they were stopped"


def test_rounds_are_paired_and_warm():
    with harness.contenders(dummies(1e-3, 2e-3)) as (ready, _):
        times = harness.measure(ready, rounds=4, seconds=0.004)
        assert [len(t) for t in times.values()] == [4, 4]
        assert all(b > a for t in times.values() for a, b in itertools.pairwise(t)), "each was asked once a round"
        times = harness.measure(ready, rounds=9, seconds=1e-3, until=time.monotonic() - 1)
        assert [len(t) for t in times.values()] == [5, 5], "at least 5 rounds, though the time is up"
        answer = ready["dummy 0"].ask(do="round", n=3, warm=2)
        assert (answer["n"], answer["warm"]) == (3, 2)


def test_calibrate_fills_a_round():
    class Steady:
        def ask(self, do, n, warm): return {"seconds": 1e-5}
    assert harness.calibrate(Steady(), 0.1) == 10_000
    assert harness.calibrate(Steady(), 1e-6) == 1


def test_what_cannot_take_part_says_why():
    commands = {"absent": ([sys.executable, "-c", "print('{\"unavailable\": \"no module\"}')"], None, None),
                "broken": ([sys.executable, "-c", "1 / 0"], None, None), **dummies(1)}
    with harness.contenders(commands) as (ready, missing):
        assert list(ready) == ["dummy 0"]
        assert missing["absent"] == "no module" and "ZeroDivisionError" in missing["broken"]


# ---------------------------------------------------------------- the benchmark itself

def test_contenders_of_this_library_and_the_floor():
    "The real contender, asked for a round of a tiny network: it replies, and its losses fall."
    problem = {"kind": "step", "sizes": [2, 16, 16, 2], "activation": "tanh", "batch": 32}
    commands = {name: run.command(file, 1, problem, options) for name, (file, options) in run.LIBRARIES.items() if file in ("ours", "floor")}
    with harness.contenders(commands) as (ready, missing):
        assert set(missing) <= {"compiled, numba"} and all("numba is not installed" in why for why in missing.values())
        check = ready["nn_from_scratch"].ask(do="check")["check"]
        assert len(check) == 10 and check[8] < check[0]
        assert check == ready["nn_from_scratch"].ask(do="check")["check"], "it begins anew each time"
        assert ready["matrix products"].ask(do="check")["check"] is None
        assert all(c.ask(do="round", n=3, warm=1)["seconds"] > 0 for c in ready.values())
        about = ready["nn_from_scratch"].ask(do="about")
        assert about["versions"]["nn_from_scratch"] and about["memory"]["peak_mb"] >= about["memory"]["before_mb"] > 1


@pytest.mark.parametrize("network", run.OF_LAYERS)
def test_the_networks_of_layers_train(network):
    "Two steps of this library's, with first weights and batches that fit it."
    problem = networks.LayersProblem("step", network)
    net = ours_layers.Network(problem)
    net.begin()
    (x, y), = problem.batches(1)
    x, y = x[:2], y[:2]
    first = float(net.step(x, y))
    assert 0.5 < first < 10 and float(net.step(x, y)) < first + 0.5
    assert {name: a.shape for name, a in net.model.parameters().items()} == problem.net.shapes()


def test_the_environment_of_a_contender(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("OPENBLAS_L2_SIZE", "262144")
    env = run.environment(1)
    assert env["OPENBLAS_NUM_THREADS"] == env["OMP_NUM_THREADS"] == "1"
    assert not {"OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"} & set(env)


def test_targets_name_what_is_measured():
    known = {"step": (run.NETWORKS, run.LIBRARIES), "layers": (run.OF_LAYERS, run.LAYERS), "epoch": (["medium"], run.EPOCHS), "predict": (["1 row", "10,000 rows"], run.MANY_ROWS),
             "memory": ([name + more for name in run.HUNGRY for more in ("", ", above the imports")], run.MEMORY)}
    for target in json.loads((ROOT / "benchmarks" / "targets.json").read_text(encoding="utf-8")):
        assert 0 < target["target"] < 3 and target["threads"] in ("one", "all")
        names, libraries = known.get(target["section"], ([target["name"]], [target["to"]]))
        assert target["name"] in names and target["to"] in libraries and target.get("of", run.OURS) in (*libraries, run.OURS)


def test_targets_are_judged():
    ratio = {"of": run.OURS, "to": "PyTorch, fused Adam", "median": 0.5, "low": 0.45, "high": 0.55}
    results = {"sections": {"step": [{"name": "tiny", "threads": 1, "ratios": [ratio]}, {"name": "large", "threads": 4, "ratios": [ratio]}],
                            "memory": [{"name": "large", "threads": 1, "ratios": [ratio], "ratios_above_imports": [ratio | {"median": 2, "low": 1.9}]}]}}
    said = {(t["section"], t["name"], t["threads"]): t["verdict"] for t in run.judge(results)}
    assert said == {("step", "tiny", 1): "missed", ("step", "large", 4): "within the noise",
                    ("memory", "large", 1): "reached", ("memory", "large, above the imports", 1): "missed"}


@pytest.mark.parametrize("arguments", [["--networks", "huge"], ["--sections", "stp"], ["--peers", "PyTorch fused"]])
def test_a_name_that_is_not_there_is_an_error(arguments, capsys):
    with pytest.raises(SystemExit): run.parse(arguments)
    assert "is none of" in capsys.readouterr().err


def test_options():
    options = run.parse(["--quick", "--sections", "step,growth", "--peers", "PyTorch, fused Adam;JAX, jit", "--threads", "1"])
    assert options.sections == ["step", "growth"] and options.threads == [1] and options.minutes == 3
    assert list(run.wanted(run.LIBRARIES, options)) == [run.OURS, "PyTorch, fused Adam", "JAX, jit"]
