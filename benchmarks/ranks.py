"""What several workers save: python benchmarks/ranks.py [workers ...], 1 2 without any. Needs the extra mpi.

A line for each network and number of workers, as processes and as threads: milliseconds of a step of `fit` from the batch to the update
(its quickest, and its median), of the sum of the gradients of processes alone, and the share of one worker's step that is not shared out,
the update. One BLAS thread each.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import nn_from_scratch as nn


def networks():
    "name -> model, shape of a sample, batch size, steps."
    def cnn():
        return nn.Sequential(nn.Conv2d(1, 16, 3, rng=0), nn.relu, nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, rng=1), nn.relu, nn.MaxPool2d(2),
                             nn.Flatten(), nn.Linear(800, 128, rng=2), nn.relu, nn.Linear(128, 10, rng=3))
    return {"CNN 16-32, batch 128": (cnn, (28, 28, 1), 128, 40),
            "MLP 784-1024-1024-10, batch 512": (lambda: nn.mlp([784, 1024, 1024, 10], rng=0), (784,), 512, 40),
            "MLP 64-128-10, batch 256": (lambda: nn.mlp([64, 128, 10], rng=0), (64,), 256, 400)}


class Clock(nn.Callback):
    "Notes how long each step takes, and its parts."
    def __init__(self): self.steps, self.gradients, self.start = [], [], 0.0
    def on_step_start(self, run): self.start = time.perf_counter()
    def on_gradient(self, run): self.gradients.append(time.perf_counter() - self.start)
    def on_step_end(self, run): self.steps.append(time.perf_counter() - self.start)


def rank(threads):
    "What each process does; with threads it is the only one."
    from mpi4py import MPI

    from nn_from_scratch.ranks import add_in_order
    comm, rng = MPI.COMM_WORLD, np.random.default_rng(0)
    sharing = {"comm": comm} if threads == 1 else {"workers": threads}
    for name, (make, shape, batch, steps) in networks().items():
        model, clock = make(), Clock()
        x, y = rng.random((batch * 4, *shape), np.float32), rng.integers(0, 10, batch * 4)
        nn.fit(model, nn.cross_entropy, nn.Adam(1e-3), (x, y), epochs=10**6, max_steps=steps, batch_size=batch,
               callbacks=[clock], progress=False, **sharing)
        vector, sums = model.parameters().vector.copy(), []
        for _ in range(steps):
            comm.Barrier()
            start = time.perf_counter()
            add_in_order(comm, vector)
            sums.append(time.perf_counter() - start)
        found = {"network": name, "parameters": len(vector), "step": min(clock.steps), "median": float(np.median(clock.steps)),
                 "gradient": min(clock.gradients), "sum": min(sums)}
        if comm.rank == 0: print(json.dumps(found), flush=True)


def main(counts):
    mpiexec = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    alone, one = {}, {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    for n, threads in [(n, 1) for n in counts] + [(1, n) for n in counts if n > 1]:
        job = [mpiexec, "-n", str(n), sys.executable, "-m", "mpi4py", __file__, "rank", str(threads)]
        what = f"{n} processes" if threads == 1 else f"{threads} threads"
        for line in subprocess.run(job, env=os.environ | one, capture_output=True, text=True, check=True).stdout.splitlines():
            found = json.loads(line)
            first = alone.setdefault(found["network"], found)
            print(f"{found['network']:32} {what:11}: step {found['step'] * 1e3:7.2f} ms (median "
                  f"{found['median'] * 1e3:7.2f}), speed-up {first['step'] / found['step']:.2f}, sum {found['sum'] * 1e3:.2f} ms, "
                  f"not shared out {1 - first['gradient'] / first['step']:.3f}, {found['parameters']:,} parameters", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["rank"]: rank(int(sys.argv[2]))
    else: main([int(n) for n in sys.argv[1:]] or [1, 2])
