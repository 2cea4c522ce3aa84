"""What several workers save: python benchmarks/ranks.py [workers ...], 1 2 without any. Needs the extra mpi.

A line for each network and number of workers, as processes and as threads: milliseconds of a step of `fit` from the batch to the update
(its quickest, and its median), of the sum of the gradients of processes alone, and the share of one worker's step that is not shared out,
the update. Beside it, where PyTorch is there, the same step by its DistributedDataParallel on gloo, with fused Adam; the two take turns,
and each has its best of three runs. One BLAS thread each.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from networks import NETWORKS, Cnn

RUNS = 3
MLPS = {"MLP 784-1024-1024-10, batch 512": ([784, 1024, 1024, 10], 512, 40), "MLP 64-128-10, batch 256": ([64, 128, 10], 256, 400)}
OTHERS = {"CNN 16-32, batch 128": 40, "GPT 2 x 64": 40, "GPT 4 x 128": 8}  # -> steps


def problems():
    "name -> the network's sizes or description, a batch of it four times over, steps."
    rng = np.random.default_rng(0)
    for name, (sizes, batch, steps) in MLPS.items():
        yield name, sizes, (rng.random((batch * 4, sizes[0]), np.float32), rng.integers(0, sizes[-1], batch * 4)), batch, steps
    for name, steps in OTHERS.items():
        parts = [NETWORKS[name].draw(rng) for _ in range(4)]
        yield name, NETWORKS[name], tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True)), NETWORKS[name].batch, steps


def tell(name, parameters, times, gradient, sums):
    print(json.dumps({"network": name, "parameters": parameters, "step": min(times), "median": float(np.median(times)),
                      "gradient": gradient, "sum": min(sums, default=0.0)}), flush=True)


def rank(threads):
    "What each process does; with threads it is the only one."
    from libraries.ours_layers import build
    from mpi4py import MPI

    import nn_from_scratch as nn
    from nn_from_scratch.ranks import add_in_order

    class Clock(nn.Callback):
        "Notes how long each step takes, and its parts."
        def __init__(self): self.steps, self.gradients, self.start = [], [], 0.0
        def on_step_start(self, run): self.start = time.perf_counter()
        def on_gradient(self, run): self.gradients.append(time.perf_counter() - self.start)
        def on_step_end(self, run): self.steps.append(time.perf_counter() - self.start)

    comm = MPI.COMM_WORLD
    sharing = {"comm": comm} if threads == 1 else {"workers": threads}
    for name, net, data, batch, steps in problems():
        model, clock = nn.mlp(net, rng=0) if isinstance(net, list) else build(net, 0.0), Clock()
        nn.fit(model, nn.cross_entropy, nn.Adam(1e-3), data, epochs=10**6, max_steps=steps, batch_size=batch,
               callbacks=[clock], progress=False, **sharing)
        vector, sums = model.parameters().vector.copy(), []
        for _ in range(steps):
            comm.Barrier()
            start = time.perf_counter()
            add_in_order(comm, vector)
            sums.append(time.perf_counter() - start)
        if comm.rank == 0: tell(name, len(vector), clock.steps, min(clock.gradients), sums)


def theirs(place):
    "The same by PyTorch's DistributedDataParallel; the processes find each other by a file."
    import torch
    from libraries.pytorch_layers import build
    from torch import distributed, nn
    from torch.nn import functional as F

    torch.set_num_threads(1)
    rank, size = int(os.environ["PMI_RANK"]), int(os.environ["PMI_SIZE"])
    distributed.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=size)
    for name, net, (x, y), batch, steps in problems():
        if isinstance(net, list):
            layers = [layer for n_in, n_out in zip(net[:-1], net[1:], strict=True) for layer in (nn.Linear(n_in, n_out), nn.ReLU())]
            model = nn.Sequential(*layers[:-1])
        else: model = build(net, 0.0)
        if isinstance(net, Cnn): x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
        model = nn.parallel.DistributedDataParallel(model)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
        share, times, gradients = batch // size, [], []
        for step in range(steps):
            first = step % 4 * batch + rank * share
            xs, ys = torch.from_numpy(x[first:first + share]), torch.from_numpy(y[first:first + share].reshape(-1))
            start = time.perf_counter()
            optimizer.zero_grad()
            F.cross_entropy(model(xs), ys).backward()
            gradients.append(time.perf_counter() - start)
            optimizer.step()
            times.append(time.perf_counter() - start)
        if rank == 0: tell(name, sum(p.numel() for p in model.parameters()), times, min(gradients), [])
    distributed.destroy_process_group()


def run(n, *how):
    "network -> what was found, by n processes that do this."
    mpiexec = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    one = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([mpiexec, "-n", str(n), sys.executable, "-m", "mpi4py", __file__, *how], env=os.environ | one,
                          capture_output=True, text=True)
    if done.returncode: return {}  # PyTorch is not there, say
    return {found["network"]: found for found in map(json.loads, done.stdout.splitlines())}


def best(runs):
    "Of several runs, what the quickest step was; network by network."
    found = {}
    for one in runs:
        for name, new in one.items():
            known = found.setdefault(name, new)
            found[name] = {key: value if key == "network" else min(value, known[key]) for key, value in new.items()}
    return found


def main(counts):
    alone, torch_alone = {}, {}
    for n, threads in [(n, 1) for n in counts] + [(1, n) for n in counts if n > 1]:
        ours, torch = [], []
        for _ in range(RUNS):
            ours.append(run(n, "rank", str(threads)))
            if threads == 1:
                with tempfile.TemporaryDirectory() as folder: torch.append(run(n, "theirs", str(Path(folder) / "meet")))
        ours, torch = best(ours), best(torch)
        alone, torch_alone = alone or ours, torch_alone or torch
        what = f"{n} processes" if threads == 1 else f"{threads} threads"
        for name, found in ours.items():
            first = alone[name]
            line = (f"{name:32} {what:11}: step {found['step'] * 1e3:7.2f} ms (median {found['median'] * 1e3:7.2f}), "
                    f"speed-up {first['step'] / found['step']:.2f}, sum {found['sum'] * 1e3:.2f} ms, "
                    f"not shared out {1 - first['gradient'] / first['step']:.3f}, {found['parameters']:,} parameters")
            if name in torch:
                line += (f"; PyTorch {torch[name]['step'] * 1e3:7.2f} ms, speed-up "
                         f"{torch_alone[name]['step'] / torch[name]['step']:.2f}")
            print(line, flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["rank"]: rank(int(sys.argv[2]))
    elif sys.argv[1:2] == ["theirs"]: theirs(sys.argv[2])
    else: main([int(n) for n in sys.argv[1:]] or [1, 2])
