"""HIPS autograd: gradients of plain NumPy code, and Adam written in plain NumPy."""

import autograd
import autograd.numpy as np
import numpy
from problem import BETAS, EPS, LR


def forward(params, x, activation):
    for w, b in params[:-1]:
        x = activation(np.dot(x, w) + b)
    w, b = params[-1]
    return np.dot(x, w) + b


def objective(params, x, true, activation):  # true: one row a sample, 1 at its class
    logits = forward(params, x, activation)
    logits = logits - np.max(logits, axis=1, keepdims=True)
    log_p = logits - np.log(np.sum(np.exp(logits), axis=1, keepdims=True))
    return -np.sum(true * log_p) / len(x)


gradient = autograd.value_and_grad(objective)


class Network:
    def __init__(self, problem):
        self.start, self.classes = problem.start(), problem.sizes[-1]
        self.activation = {"relu": lambda z: np.maximum(z, 0), "tanh": np.tanh}[problem.activation]

    def begin(self):
        self.params = [(w.copy(), b.copy()) for w, b in self.start]
        self.memories = [tuple((numpy.zeros_like(p), numpy.zeros_like(p)) for p in layer) for layer in self.start]
        self.t = 0

    def own(self, *arrays):
        if len(arrays) == 1: return arrays
        x, y = arrays
        return x, numpy.eye(self.classes, dtype=x.dtype)[y]

    def step(self, x, true):
        loss, grads = gradient(self.params, x, true, self.activation)
        self.t += 1
        b1, b2 = BETAS
        rate, root = LR / (1 - b1 ** self.t), (1 - b2 ** self.t) ** 0.5
        for layer, memories, gs in zip(self.params, self.memories, grads, strict=True):
            for p, (m, v), g in zip(layer, memories, gs, strict=True):
                m *= b1
                m += (1 - b1) * g
                v *= b2
                v += (1 - b2) * g * g
                p -= rate * m / (numpy.sqrt(v) / root + EPS)
        return loss

    def predict(self, x): return forward(self.params, x, self.activation)


def versions():
    return {"HIPS autograd": getattr(autograd, "__version__", None) or __import__("importlib.metadata").metadata.version("autograd")}
