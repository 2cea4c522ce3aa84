"""The same step in bare NumPy calls: the products, the passes over arrays and Adam, written down for these networks alone, into
arrays that are kept. No tape, no checks, no names. What a step takes beyond this is what a library of it costs."""

import numpy as np
from problem import BETAS, EPS, LR

BLOCK = 65_536  # numbers that Adam treats at a time


class Network:
    def __init__(self, problem):
        self.shapes, self.first, self.relu = [w.shape for w, _ in problem.start()], problem.start(), problem.activation == "relu"
        rows, sizes = problem.batch if problem.kind == "step" else problem.rows, problem.sizes
        ends = np.cumsum([0, *(size for n_in, n_out in self.shapes for size in (n_in * n_out, n_out))])
        self.theta, self.g = np.zeros((2, ends[-1]), np.float32)
        cut = lambda vector: [vector[start:end] for start, end in zip(ends, ends[1:])]
        in_shape = lambda arrays: [a.reshape(shape) for a, shape in zip(arrays, self.shapes)]
        (self.w, self.b), (self.gw, self.gb) = ((in_shape(a[::2]), a[1::2]) for a in map(cut, (self.theta, self.g)))
        self.outputs = [np.zeros((rows, n), np.float32) for n in sizes[1:]]
        self.backs = [np.zeros((rows, n), np.float32) for n in sizes[:-1]]
        self.masks = [np.zeros((rows, n), bool) for n in sizes[1:]]
        self.zeros = [np.zeros((rows, n), np.float32) for n in sizes[1:]]  # NumPy compares two arrays faster than one with a number
        self.ones, self.share, self.samples = np.ones(rows, np.float32), np.full(rows, 1 / rows, np.float32), np.arange(rows)
        self.classes, self.e = np.ones(sizes[-1], np.float32), np.zeros((sizes[-1], rows), np.float32)

    def begin(self):
        for (w, b), to_w, to_b in zip(self.first, self.w, self.b, strict=True): to_w[...], to_b[...] = w, b
        self.sums, self.squares, self.t = np.zeros_like(self.theta), np.zeros_like(self.theta), 0

    def own(self, *arrays): return arrays

    def predict(self, x):
        last = len(self.w) - 1
        for i, (w, b, out) in enumerate(zip(self.w, self.b, self.outputs)):
            x = x.dot(w, out)
            x += b
            if i < last:
                if self.relu: np.maximum(x, self.zeros[i], out=x)
                else: np.tanh(x, out=x)
        return x

    def step(self, x, y):
        logits, e, flat = self.predict(x), self.e, self.e.reshape(-1)
        np.subtract(logits.T, np.maximum.reduce(logits.T, axis=0), out=e)
        true = y * len(y) + self.samples
        picked = flat[true]
        np.exp(e, out=e)
        total = self.classes.dot(e)
        loss = (np.log(total) - picked).dot(self.share)
        e /= total * len(y)
        flat[true] -= 1 / len(y)
        g, inputs = e.T, [x, *self.outputs]
        for i in reversed(range(len(self.w))):
            self.ones.dot(g, self.gb[i])
            if self.gw[i].size < 16_384 or len(g) == 1: inputs[i].T.dot(g, self.gw[i])
            else: np.matmul(inputs[i].T, g, out=self.gw[i])  # dot fills its result with zeros first
            if i == 0: break
            g, h = g.dot(self.w[i].T, self.backs[i]), inputs[i]
            if self.relu: g *= np.greater(h, self.zeros[i - 1], out=self.masks[i - 1])
            else:
                h *= h
                g *= np.subtract(1, h, out=h)
        self.adam()
        return loss

    def adam(self):
        self.t += 1
        (b1, b2), t = BETAS, self.t
        root = ((1 - b2 ** t) / (1 - b2)) ** 0.5
        rate = LR * root * (1 - b1) / (1 - b1 ** t)
        for start in range(0, len(self.theta), BLOCK):
            part = slice(start, start + BLOCK)
            m, v, g = self.sums[part], self.squares[part], self.g[part]
            m *= b1
            m += g
            v *= b2
            v += g * g
            move = np.sqrt(v)
            move += EPS * root
            np.divide(m, move, out=move)
            move *= rate
            self.theta[part] -= move


def versions():
    return {"NumPy": np.__version__}
