"""Processes that train together: equal to the bit to threads and to each other; and when one dies, all end, soon, with its reason told once.

They need the extra `mpi`. NN_FROM_SCRATCH_RANK_KILLS is the number of ranks to kill (6; 200 in a long run).
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import nn_from_scratch as nn
from nn_from_scratch.checkpoints import newest

pytest.importorskip("mpi4py")
HERE = Path(__file__).resolve().parent
MPIEXEC = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
if MPIEXEC is None: pytest.skip("there is no mpiexec", allow_module_level=True)
sys.path.insert(0, str(HERE))
from job import job  # noqa: E402

SOON = 20  # seconds a job may take to end once something has died; it is one or two, on a machine with nothing else to do
LONG = 120
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def start(n, settings, *, runner=("-m", "mpi4py"), script=HERE / "job.py"):
    "A job of n ranks, in a session of its own."
    path = os.pathsep.join([str(Path(nn.__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen([MPIEXEC, "-n", str(n), sys.executable, *runner, str(script), json.dumps(settings)], text=True, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, env=os.environ | ONE_THREAD | {"PYTHONPATH": path})


def ended(process, limit=LONG):
    "What it printed; a job that hangs is ended, and the test fails."
    try:
        return process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        pytest.fail(f"still there after {limit} s\n{out}\n{err}")


def said(out): return [line for line in out.splitlines() if line[:1].isdigit() and len(line.split()) == 3]
def digests(out): return {line.split()[1] for line in said(out)}


@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("settings", [{}, {"data": "weights", "accumulate": 2}, {"data": "batches"}, {"data": "shifted", "early": True}, {"apart": True}],
                         ids=["arrays", "weights", "batches", "iterable", "other weights and seeds at the start"])
def test_ranks_are_threads_to_the_bit(n, settings):
    process = start(n, settings)
    out, err = ended(process)
    assert process.returncode == 0, err
    assert len(said(out)) == n and digests(out) == {job(settings, workers=n)[0]}, out


def test_one_rank_is_fit():
    out, err = ended(start(1, {}))
    assert digests(out) == {job({})[0]}, err


@pytest.mark.parametrize("runner", [("-m", "mpi4py"), ()], ids=["under mpi4py", "plain"])
@pytest.mark.parametrize(("settings", "words"), [
    ({"trouble": "raise", "who": 1, "at": 5}, "ValueError: a drop too much"),
    ({"trouble": "raise", "who": 0, "at": 8}, "ValueError: a drop too much"),
    ({"trouble": "argument", "who": 2}, "TypeError: fit: model must be a Module"),
    ({"trouble": "full", "who": 0, "at": 5}, "could not be written; the one before, step-000000004.npz, is whole"),
    ({"trouble": "data", "who": 2}, "ValueError: fit: rank 2 was given another run than rank 0"),
    ({"trouble": "seed", "who": 1, "data": "shifted"}, "RuntimeError: fit: the ranks have drawn different batches"),
    ({"trouble": "drift", "who": 1, "at": 3}, "RuntimeError: fit: the parameters are no longer the same on all ranks"),
], ids=lambda value: f"{value['trouble']} on {value['who']}" if isinstance(value, dict) else "")
def test_an_error_on_one_rank_ends_all_and_is_told_once(tmp_path, runner, settings, words):
    began = time.time()
    process = start(3, settings | {"dir": str(tmp_path / "run"), "epochs": 1000}, runner=runner)
    out, err = ended(process, SOON)
    assert process.returncode != 0 and out == ""
    assert err.count(words) == 1 and err.count("Traceback") == err.count("The above exception") + 1, err
    assert time.time() - began < SOON
    if settings["trouble"] in ("raise", "full"): assert newest(tmp_path / "run")[2] == []


def test_an_exit_on_one_rank_ends_all():
    process = start(3, {"trouble": "exit", "who": 1, "at": 5, "epochs": 1000})
    out, err = ended(process, SOON)
    assert process.returncode == 3 and "Traceback" not in err


def test_an_error_before_fit_ends_all_under_mpi4py():
    process = start(3, {"trouble": "load", "who": 1, "epochs": 1000})
    _, err = ended(process, SOON)
    assert process.returncode != 0 and err.count("OSError: no such file") == 1


@pytest.mark.parametrize("trouble", ["interrupt", "a callback's interrupt"])
def test_an_interrupt_of_one_rank_stops_all_at_the_same_step(trouble):
    process = start(3, {"trouble": trouble, "who": 2, "at": 9, "epochs": 1000}, runner=())
    out, err = ended(process, SOON)
    assert process.returncode == 130 and err == "", err
    assert len(digests(out)) == 1 and out.count("interrupted") == 3


def test_one_that_wants_to_stop_stops_all():
    process = start(3, {"trouble": "stop", "who": 2, "at": 9, "epochs": 1000})
    out, err = ended(process, SOON)
    assert process.returncode == 0, err
    assert len(digests(out)) == 1 and out.count("callback") == 3


def test_ranks_at_different_places_are_told_so():
    "Where one has fewer batches than the others, it comes to the end of the epoch while they wait in a step."
    process = start(2, {}, script=HERE / "branches.py")
    _, err = ended(process, SOON)
    assert process.returncode != 0 and err.count("RuntimeError: fit: rank 0 has come to the gradient of a step, and rank 1 to the end of an epoch") == 1, err


def test_a_run_goes_on_as_threads_and_as_ranks(tmp_path):
    "Three epochs at once; and one on ranks, one in threads, one on ranks again."
    whole = job({"epochs": 3}, workers=3)[0]
    settings = {"dir": str(tmp_path / "run"), "resume": True}
    for epochs in (1, 2, 3):
        if epochs == 2: found = {job(settings | {"epochs": 2}, workers=3)[0]}
        else:
            out, err = ended(start(3, settings | {"epochs": epochs}))
            found = digests(out)
    assert found == {whole}, err


def kills(): return int(os.environ.get("NN_FROM_SCRATCH_RANK_KILLS", "6"))


def test_killed_ranks_end_all_and_the_run_goes_on_to_the_same_bits(tmp_path):
    "A random rank is killed at a random moment, again and again."
    whole, draw, done = job({"epochs": 4}, workers=3)[0], random.Random(0), 0
    while done < kills():
        folder = tmp_path / f"run-{done}"
        settings = {"dir": str(folder), "resume": True, "epochs": 4, "every": 1}
        for _ in range(3):  # kills of one run
            process = start(3, settings | {"pause": 0.01})
            limit = time.time() + LONG
            while not any(folder.glob("step-*.npz")) and process.poll() is None and time.time() < limit: time.sleep(0.01)
            time.sleep(draw.random() * 0.4)
            ranks = [pid for pid in children(process.pid) if b"job.py" in command(pid)]
            if process.poll() is not None or len(ranks) < 3: break  # it was quicker
            os.kill(draw.choice(ranks), draw.choice([signal.SIGKILL, signal.SIGTERM]))
            began = time.time()
            out, err = ended(process, SOON)
            if digests(out): break  # it had come to its end
            done += 1
            assert process.returncode != 0 and time.time() - began < SOON, err
            assert newest(folder)[2] == [], err
        ended(process)
        out, err = ended(start(3, settings))
        assert digests(out) == {whole}, err
        shutil.rmtree(folder)


def command(pid):
    try: return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError: return b""


def children(pid):
    "All processes below one, by /proc."
    found, above = [], {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try: above[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError: pass
    new = [pid]
    while new := [child for child, parent in above.items() if parent in new]: found += new
    return found


def test_the_sum_is_that_of_numpy_in_order():
    "Vectors of any length and precision, with fewer numbers than ranks as well."
    process = start(3, {}, script=HERE / "sums.py")
    out, err = ended(process)
    assert process.returncode == 0 and out.count("equal") == 3, err


def command_line(folder, *arguments):
    return subprocess.run(arguments, text=True, capture_output=True, timeout=LONG, cwd=folder,
                          env=os.environ | ONE_THREAD | {"PYTHONPATH": str(Path(nn.__file__).parent.parent)})


@pytest.mark.parametrize("form", ["mpiexec", "--processes"])
def test_the_command(tmp_path, form):
    "Both forms train the same network, and say so once."
    settings = ["--epochs", "2", "--output", str(tmp_path / "run")]
    by_hand = [MPIEXEC, "-n", "2", sys.executable, "-m", "mpi4py", "-m", "nn_from_scratch", *settings]
    done = command_line(tmp_path, *(by_hand if form == "mpiexec" else [sys.executable, "-m", "nn_from_scratch", "--processes", "2", *settings]))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("model, settings, history and pictures are in") == 1
    x, y = nn.load_digits()
    assert nn.accuracy(nn.predict(nn.load(tmp_path / "run" / "model.safetensors"), x), y) > 0.8
    again = command_line(tmp_path, sys.executable, "-m", "nn_from_scratch", "--processes", "2", *settings)
    assert again.returncode != 0 and again.stderr.count("it exists and is not empty") == 1, again.stderr
    wrong = command_line(tmp_path, sys.executable, "-m", "nn_from_scratch", "--processes=2", "--epochs", "0")
    assert wrong.returncode == 2 and wrong.stderr.count("nn_train: --epochs 0: at least 1") == 1, wrong.stderr


def test_an_interrupted_command_goes_on(tmp_path):
    "Ctrl-C in a terminal reaches every process of the foreground."
    run = [sys.executable, "-m", "nn_from_scratch", "--processes", "2"]
    settings = ["--epochs", "12", "--output", str(tmp_path / "run")]
    environment = os.environ | ONE_THREAD | {"PYTHONPATH": str(Path(nn.__file__).parent.parent)}
    process = subprocess.Popen([*run, *settings], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, cwd=tmp_path,
                               env=environment)
    limit = time.time() + LONG
    while len(list((tmp_path / "run").glob("checkpoints/step-*.npz"))) < 2 and time.time() < limit: time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    out, err = ended(process, SOON)
    assert process.returncode == 130 and f"to go on: nn_train --resume {tmp_path / 'run'} --processes 2" in out, (out, err)
    done = command_line(tmp_path, *run, "--resume", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
