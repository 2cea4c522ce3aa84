"""One contender, in a process of its own. It is started and asked by run.py, one line of JSON a question, one a reply:

    python contender.py pytorch 1 '{"kind": "step", "sizes": [64, 128, 10], "activation": "relu", "batch": 32}'

library (a file in libraries/), number of threads, problem. The first reply says that it is ready, or why it is not.
    {"do": "check"}                       what it computes, to be compared with the others: losses, or outputs
    {"do": "round", "n": 100, "warm": 9}  {"seconds": ...} for a unit (step, epoch, prediction, text), the mean of n after 9 untimed
    {"do": "about"}                       versions, BLAS, and the most memory it has had
"""

import importlib
import json
import os
import sys
import time
from contextlib import nullcontext
from pathlib import Path


def environment(threads: int) -> dict:
    "What must stand in the environment before NumPy, PyTorch or JAX are imported."
    env = {name: value for name, value in os.environ.items() if name not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}
    names = "OPENBLAS OMP MKL BLIS VECLIB_MAXIMUM NUMEXPR"
    env |= {f"{name}_NUM_THREADS": str(threads) for name in names.split()}
    if threads == 1: env["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    return env | {"JAX_PLATFORMS": "cpu", "PYTHONWARNINGS": "ignore"}


def memory() -> dict:
    "Megabytes in use now, and the most there were, in this process."
    status = Path("/proc/self/status")
    if status.exists():
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        now, peak = (int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
        return {"now_mb": now, "peak_mb": peak}
    import resource
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return {"now_mb": peak, "peak_mb": peak}


def blas() -> dict:
    "The BLAS that NumPy uses: what it says of itself where threadpoolctl can ask it, else what NumPy was built with."
    import numpy as np
    try:
        from threadpoolctl import threadpool_info
        found = [lib for lib in threadpool_info() if lib["user_api"] == "blas" and "numpy" in lib["filepath"]] or threadpool_info()
        return {name: found[0].get(name) for name in ("internal_api", "version", "architecture", "threading_layer", "num_threads")}
    except (ImportError, IndexError):
        built = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
        return {"internal_api": built.get("name"), "version": built.get("version")}


class Task:
    "A problem in the hands of a library."

    def __init__(self, library, problem):
        self.kind, self.network = problem.kind, library.Network(problem)
        self.wait = getattr(self.network, "wait", lambda loss: None)
        if self.kind == "step":
            self.batches = [self.network.own(x, y) for x, y in problem.batches()]
        elif self.kind != "write":
            x, y = problem.data()
            self.data = self.network.own(x, y) if self.kind == "epoch" else self.network.own(x)
        self.context = getattr(self.network, "predicting", nullcontext)

    def begin(self): self.network.begin()

    def run(self, n):
        if self.kind == "step":
            step, batches, loss = self.network.step, self.batches, None
            for i in range(n): loss = step(*batches[i % len(batches)])
            self.wait(loss)
        elif self.kind == "epoch":
            self.network.epochs(*self.data, n)
        elif self.kind == "write":
            for _ in range(n): self.network.write(temperature=1.0)
        else:
            with self.context():
                for _ in range(n): self.network.predict(*self.data)

    def check(self):
        import numpy as np
        drop, self.network.p = getattr(self.network, "p", 0), 0  # what is left out at random differs: compared without it
        self.begin()
        self.network.p = drop
        if self.kind == "step":
            losses = [self.network.step(*self.batches[i % len(self.batches)]) for i in range(10)]
            return None if losses[0] is None else [float(loss) for loss in losses]
        if self.kind == "epoch": return [float(self.network.epochs(*self.data, 1))]
        if self.kind == "write": return [float(token) for token in self.network.write(temperature=0)]
        with self.context(): output = self.network.predict(*self.data)
        if output is None: return None
        output = np.asarray(output, np.float64)[:3]
        if getattr(self.network, "gives", "") != "probabilities":
            output = np.exp(output - output.max(axis=1, keepdims=True))
            output /= output.sum(axis=1, keepdims=True)
        return output.ravel().tolist()

    def round(self, n, warm):
        self.begin()  # from the same start each time: the same work
        if warm: self.run(warm)
        start = time.perf_counter()
        self.run(n)
        return (time.perf_counter() - start) / n


def main(name, threads, spec):
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints does not get among the replies

    def reply(**answer): print(json.dumps(answer), file=replies, flush=True)

    if threads == 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    from networks import LayersProblem
    from problem import Cannot, Problem
    try:
        library = importlib.import_module(f"libraries.{name}")
        getattr(library, "set_threads", lambda n: None)(threads)
        before = memory()["now_mb"]
        task = Task(library, (LayersProblem if "network" in spec else Problem)(**spec))
    except (ImportError, Cannot) as why:
        return reply(unavailable=str(why))
    reply(ready=True)
    for line in sys.stdin:
        question = json.loads(line)
        if question["do"] == "check": reply(check=task.check())
        elif question["do"] == "round": reply(seconds=task.round(question["n"], question["warm"]))
        elif question["do"] == "about":
            import platform

            import numpy
            reply(versions={"Python": platform.python_version(), "NumPy": numpy.__version__} | library.versions(), blas=blas(),
                  memory=memory() | {"before_mb": before})


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3]))
