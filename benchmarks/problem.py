"""What every contender is given: the same network, the same start, the same batches, made from the same seeds."""

from dataclasses import dataclass, field

import numpy as np

LR, BETAS, EPS = 1e-4, (0.9, 0.999), 1e-8  # of Adam, for all; small, so that the losses stay far from where rounding decides


@dataclass
class Problem:
    "A network and what is to be done with it. All numbers are float32, labels int64."

    kind: str  # "step": training steps, "epoch": epochs of a data set, "predict": outputs
    sizes: list[int]  # numbers of units, from the inputs to the outputs
    activation: str  # "relu" or "tanh", after every layer but the last
    batch: int  # rows in a batch, in a training step or of an epoch
    rows: int = 0  # rows of the data set of an epoch, or rows to predict
    options: dict = field(default_factory=dict)  # which of its ways a library is to take: its file says what there is

    def start(self) -> list[tuple[np.ndarray, np.ndarray]]:
        "The first weights (n_in, n_out) and biases (n_out,) of each layer: He's for relu, Glorot's for tanh."
        rng = np.random.default_rng(1)
        layers = []
        for n_in, n_out in zip(self.sizes[:-1], self.sizes[1:], strict=True):
            spread = (2 / n_in) ** 0.5 if self.activation == "relu" else (2 / (n_in + n_out)) ** 0.5
            layers.append((rng.normal(0, spread, (n_in, n_out)).astype(np.float32), np.zeros(n_out, np.float32)))
        return layers

    def batches(self, n: int = 8) -> list[tuple[np.ndarray, np.ndarray]]:
        "`n` batches (x, labels), which training steps go through again and again."
        rng = np.random.default_rng(2)
        return [(rng.normal(size=(self.batch, self.sizes[0])).astype(np.float32), rng.integers(0, self.sizes[-1], self.batch))
                for _ in range(n)]

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        "A data set (x, labels) of `rows` rows, x in 0..1 like the pixels of MNIST; the labels are drawn at random."
        rng = np.random.default_rng(3)
        return rng.random((self.rows, self.sizes[0]), np.float32), rng.integers(0, self.sizes[-1], self.rows)


class Cannot(Exception):
    "A library cannot do this problem; says why."
