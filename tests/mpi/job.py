"""What the ranks of the tests do: mpiexec -n 4 python [-m mpi4py] job.py SETTINGS (as JSON).

Trains a small network with a layer that draws numbers and keeps a running mean, and prints `rank digest stopped` at its end. Settings: dir (for
checkpoints), epochs, kind of data, resume, and who gets into which trouble at which step.
"""

import hashlib
import json
import os
import resource
import signal
import sys
import time

import numpy as np

import nn_from_scratch as nn


class Noise(nn.Module):
    "A layer with a generator and a running mean."
    def __init__(self, rng): self._rng, self._mean = np.random.default_rng(rng), np.zeros(8, np.float32)
    def __call__(self, x):
        if not self.training: return x - self._mean
        value = getattr(x, "value", x)
        self._mean *= 0.9
        self._mean += 0.1 * value.mean(axis=0)
        return x * (self._rng.random(x.shape) < 0.8).astype(x.dtype)


class Shifted:
    "Batches that are other ones in each epoch, and remember where they are."
    def __init__(self, x, y, rng): self.x, self.y, self.rng = x, y, np.random.default_rng(rng)
    def __len__(self): return 7
    def __iter__(self):
        for rows in np.array_split(self.rng.permutation(len(self.x)), 7):
            yield self.x[rows] + self.rng.normal(0, 0.01, (len(rows), 2)).astype(np.float32), self.y[rows]
    def state_dict(self): return {"rng": self.rng}
    def load_state_dict(self, state): self.rng.bit_generator.state = state["rng"].bit_generator.state


class Trouble(nn.Callback):
    "What happens on one rank at one step."
    def __init__(self, rank, who, what, at, pause): self.mine, self.what, self.at, self.pause = rank == who, what, at, pause
    def on_step_end(self, run):
        time.sleep(self.pause)
        if not self.mine or run.step != self.at: return None
        if self.what == "raise": raise ValueError("a drop too much")
        if self.what == "exit": sys.exit(3)
        if self.what == "kill": os.kill(os.getpid(), signal.SIGKILL)
        if self.what == "interrupt": os.kill(os.getpid(), signal.SIGINT)
        if self.what == "a callback's interrupt": raise KeyboardInterrupt
        if self.what == "full": resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
        if self.what == "drift": run.model.parameters().vector[0] += 1
        if self.what == "branch": run.feed.data = run.feed.data[:1]
        return self.what == "stop"


def digest(model, history):
    said = hashlib.sha256(model.parameters().vector.tobytes() + model.layers[2]._mean.tobytes())
    said.update(repr((model.layers[2]._rng.random(), history.to_dict())).encode())
    return said.hexdigest()[:16]


def job(settings, comm=None, workers=1):
    rank = 0 if comm is None else comm.rank
    trouble = settings.get("trouble") if rank == settings.get("who", 0) else None
    x, y = nn.moons(203, noise=0.1, rng=rank if trouble == "data" else 0)
    weight = np.random.default_rng(0).random(203)
    data = {"arrays": (x, y), "weights": (x, y, weight), "batches": [(x[i:i + 30], y[i:i + 30]) for i in range(0, 203, 30)],
            "shifted": Shifted(x, y, 5 + rank if trouble == "seed" else 5)}[settings.get("data", "arrays")]
    first = rank if settings.get("apart") else 0  # other weights at the start
    model = nn.Sequential(nn.Linear(2, 8, rng=first), nn.tanh, Noise(first), nn.Linear(8, 2, rng=1))
    stop = [nn.EarlyStopping(2)] if settings.get("early") else []
    callbacks = [Trouble(rank, settings.get("who", 0), settings.get("trouble"), settings.get("at", 0), settings.get("pause", 0)), *stop]
    if trouble == "argument": model = None
    if trouble == "load": raise OSError("no such file")
    history = nn.fit(model, nn.cross_entropy, nn.Adam(0.01), data, nn.moons(50, noise=0.1, rng=1), epochs=settings.get("epochs", 3), batch_size=32,
                     accumulate=settings.get("accumulate", 1), metrics=[nn.accuracy], callbacks=callbacks, checkpoint=settings.get("dir"),
                     resume=settings.get("resume", False), checkpoint_every=settings.get("every", 2), comm=comm, workers=workers,
                     rng=rank if settings.get("apart") else 0, progress=False)
    return digest(model, history), history


if __name__ == "__main__":
    from mpi4py import MPI
    found, history = job(json.loads(sys.argv[1]), MPI.COMM_WORLD)
    sys.stdout.write(f"{MPI.COMM_WORLD.rank} {found} {history.stopped}\n")
    sys.stdout.flush()
    sys.exit(130 if history.stopped == "interrupted" else 0)
