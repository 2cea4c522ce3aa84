"""What the playground trains: a network of this package, a step at a time, and what there is to see of it.

Runs in the page's worker. `worker.js` calls `start`, `change` and `run`; each returns what the page draws.
"""

import time

import numpy as np

import nn_from_scratch as nn

DATA = {"moons": nn.moons, "circles": nn.circles, "spiral": nn.spiral, "xor": nn.xor}
ACTIVATIONS = {f.__name__: f for f in (nn.tanh, nn.relu, nn.sigmoid, nn.gelu, nn.identity)}
OPTIMIZERS = {
    "sgd": nn.SGD,
    "momentum": lambda lr, weight_decay: nn.SGD(lr, momentum=0.9, weight_decay=weight_decay),
    "rmsprop": lambda lr, weight_decay: nn.RMSprop(lr, weight_decay=weight_decay),
    "adam": lambda lr, weight_decay: nn.AdamW(lr, weight_decay=weight_decay),  # without decay this is Adam
}
SIDE, REACH = 40, 2.4  # the plane is drawn on SIDE x SIDE points, from -REACH to REACH in both directions


class Session:
    def __init__(self, data="moons", noise=0.15, sizes=(4, 4), activation="tanh", seed=0, **how):
        x, y = DATA[data](300, noise=noise, rng=seed)
        y = y[:, None].astype(np.float32)  # one logit: is it class 1?
        (x, y), (x_valid, y_valid) = nn.train_valid_split(x, y, valid=1 / 3, rng=seed)
        standardize = nn.Standardize(x)
        self.train, self.valid = (standardize(x), y), (standardize(x_valid), y_valid)
        self.model = nn.mlp([2, *sizes, 1], ACTIVATIONS[activation], rng=seed)
        self.gradient = nn.value_and_grad(lambda model, x, y: nn.binary_cross_entropy(model(x), y))
        self.rng, self.steps, self.diverged = np.random.default_rng(seed), 0, False
        _, self.grads = self.gradient(self.model, *self.train)
        self.rule = self.batch = None
        self.use(**how)
        across = np.linspace(-REACH, REACH, SIDE, dtype=np.float32)
        self.plane = np.stack(np.meshgrid(across, -across), axis=-1).reshape(-1, 2)  # row by row, from the top left

    def use(self, optimizer="sgd", lr=1.0, decay=0.0, batch=32):
        "How to step from now on. The same optimizer with another rate or decay keeps its memory."
        if optimizer != self.rule:
            self.rule, self.optimizer = optimizer, OPTIMIZERS[optimizer](lr, weight_decay=decay)
        self.optimizer.lr, self.optimizer.weight_decay = lr, decay
        if batch != self.batch:
            self.batch, self.batches = batch, self.endless_batches(batch)

    def endless_batches(self, batch):
        while True: yield from nn.batches(*self.train, batch, self.rng)

    def step(self):
        x, y = next(self.batches)
        loss, self.grads = self.gradient(self.model, x, y, out=self.grads)
        self.diverged = not np.isfinite(loss)
        if not self.diverged:
            self.optimizer.update(self.model, self.grads)
            self.steps += 1

    def run(self, steps, milliseconds):
        "Takes steps until there are `steps` or the time is over."
        end = time.perf_counter() + milliseconds / 1000
        while steps > 0 and not self.diverged:
            self.step()
            steps -= 1
            if time.perf_counter() > end: break

    def pictures(self):
        "What each unit, and at last the whole network, answers on the plane: int8, -127 to 127."
        values, shown = self.plane, []
        for layer in self.model:
            values = layer(values)
            if not isinstance(layer, nn.Linear): shown.append(values / (np.abs(values).max(axis=0) + 1e-9))
        shown.append(2 * nn.sigmoid(values) - 1)
        return np.nan_to_num(127 * np.concatenate(shown, axis=1)).astype(np.int8).T

    def loss_and_accuracy(self, data):
        x, y = data
        logits = nn.predict(self.model, x)
        return float(nn.binary_cross_entropy(logits, y)), float(nn.accuracy(logits, y))

    def view(self):
        (train_loss, _), (valid_loss, accuracy) = self.loss_and_accuracy(self.train), self.loss_and_accuracy(self.valid)
        return {
            "steps": self.steps, "diverged": self.diverged,
            "trainLoss": train_loss, "validLoss": valid_loss, "accuracy": accuracy,
            "weights": self.model.parameters().vector.astype(np.float32).tobytes(),
            "grads": self.grads.vector.astype(np.float32).tobytes(),
            "pictures": self.pictures().tobytes(),
        }

    def points(self):
        "x, y, class and 1 for training or 0 for validation, of each point."
        rows = [np.hstack([x, y, np.full_like(y, part)]) for part, (x, y) in ((1, self.train), (0, self.valid))]
        return np.concatenate(rows).astype(np.float32).tobytes()


session = None


def start(**choices):
    global session
    session = Session(**choices)
    return session.view() | {"points": session.points()}


def change(**how):
    session.use(**how)
    return session.view()


def run(steps, milliseconds):
    session.run(steps, milliseconds)
    return session.view()
