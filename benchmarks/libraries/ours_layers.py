"""This library, with convolutions, norms, recurrent layers and attention. Option: compile (the step is traced and replayed)."""

from libraries.ours import objective, versions  # noqa: F401  a contender is asked for them
from networks import Cnn, Gpt, Norm
from problem import LR, Cannot

import nn_from_scratch as nn


class Reader(nn.Module):
    def __init__(self, net):
        self.body, self.head = getattr(nn, net.layer)(net.n_in, net.d, rng=0), nn.Linear(net.d, net.k, rng=0)

    def __call__(self, x): return self.head(self.body(x)[0][:, -1])


def build(net, p):
    if isinstance(net, Gpt): return nn.GPT(net.k, net.t, net.d, net.heads, net.layers, rng=0)
    if isinstance(net, Cnn):
        layers, n_in = [], net.image[2]
        for n_out in net.kernels:
            layers += [nn.Conv2d(n_in, n_out, net.size, rng=0), nn.relu, nn.MaxPool2d(2)]
            n_in = n_out
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(net.flat(), net.hidden, rng=0), nn.relu, nn.Linear(net.hidden, net.k, rng=0))
    if isinstance(net, Norm):
        layers = []
        for n_in, n_out in zip(net.sizes[:-1], net.sizes[1:], strict=True):
            layers += [nn.Linear(n_in, n_out, rng=0), nn.BatchNorm(n_out), nn.relu, nn.Dropout(p, rng=0)]
        return nn.Sequential(*layers[:-3])
    return Reader(net)


class Network:
    def __init__(self, problem):
        self.problem, self.p = problem, getattr(problem.net, "p", 0.0)

    def begin(self):
        self.model = build(self.problem.net, self.p)
        for (name, a), (known, first) in zip(self.model.parameters().items(), self.problem.start().items(), strict=True):
            if name != known: raise Cannot(f"the parameter {name} stands where {known} should")
            a[...] = first
        self.optimizer, self.gradient, self.grads = nn.Adam(LR), nn.value_and_grad(objective), None
        if self.problem.options.get("compile"):
            self.step = nn.training_step(self.model, nn.cross_entropy, self.optimizer, compile=True)

    def own(self, *arrays): return arrays

    def write(self, temperature):
        "As many tokens as the model can see, after a first one: nothing is asked twice."
        return nn.generate(self.model, [0], self.problem.net.t - 1, temperature, rng=0)

    def step(self, x, y):
        loss, self.grads = self.gradient(self.model, x, y, out=self.grads)
        self.optimizer.update(self.model, self.grads)
        return loss
