"""This library. Options: through = "predict" (predict in place of a call of the model), bare (an epoch of bare steps in
place of fit), metrics (whether fit computes the accuracy of the epoch), compile ("calls": traced and replayed as NumPy's calls;
"loops": with numba's loops between the products, and for Adam)."""

import os
import sys

from problem import LR, Cannot

import nn_from_scratch as nn
from nn_from_scratch.compiler.loops import has_numba


class Screen:
    "A terminal that nobody looks at, so that fit draws its progress bar."
    encoding = "utf-8"

    def __init__(self): self.file = os.open(os.devnull, os.O_WRONLY)
    def write(self, text): os.write(self.file, text.encode())
    def flush(self): pass
    def isatty(self): return True


def objective(model, x, y):
    return nn.cross_entropy(model(x), y)


class Network:
    def __init__(self, problem):
        self.start, self.batch, self.options = problem.start(), problem.batch, problem.options
        self.model = nn.mlp(problem.sizes, getattr(nn, problem.activation))
        self.gradient, self.compile = nn.value_and_grad(objective), problem.options.get("compile")
        self.grads = None
        if self.compile == "loops" and not has_numba: raise Cannot("numba is not installed")

    def begin(self):
        arrays = iter(self.model.parameters().values())
        for w, b in self.start:
            next(arrays)[...] = w
            next(arrays)[...] = b
        self.optimizer = nn.Adam(LR)
        if self.compile == "loops":
            self.step = nn.training_step(self.model, nn.cross_entropy, self.optimizer, compile=True)
        elif self.compile:
            self.gradient = nn.compile(nn.value_and_grad(objective))
            self.grads = self.model.parameters().empty_like()

    def own(self, *arrays): return arrays

    def step(self, x, y):
        loss, self.grads = self.gradient(self.model, x, y, out=self.grads)
        self.optimizer.update(self.model, self.grads)
        return loss

    def predict(self, x):
        return nn.predict(self.model, x) if self.options.get("through") == "predict" else self.model(x)

    def epochs(self, x, y, n):
        if not self.options.get("bare"):
            metrics = [nn.accuracy] if self.options.get("metrics") else []
            errors, sys.stderr = sys.stderr, Screen()
            history = nn.fit(self.model, nn.cross_entropy, self.optimizer, (x, y), epochs=n, batch_size=self.batch, metrics=metrics)
            sys.stderr = errors
            return history.train_loss[0]
        total = 0.0
        for epoch in range(n):
            for i in range(0, len(x), self.batch):  # no shuffling, no copies, nothing noted
                loss = self.step(x[i:i + self.batch], y[i:i + self.batch])
                if epoch == 0: total += float(loss) * len(x[i:i + self.batch])
        return total / len(x)


def versions():
    return {"nn_from_scratch": nn.__version__}
