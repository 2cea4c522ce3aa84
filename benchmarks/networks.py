"""Networks of other layers than the linear ones, for every contender: the same start, the same batches, from the same seeds.

Weights stand as (n_in, n_out), kernels as (height, width, n_in, n_out), images as (n, height, width, channels), under this library's
names; a contender turns them over where it wants them otherwise.
"""

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Cnn:
    "Convolution, relu, maxima of 2 x 2, twice; then two linear layers."
    image: tuple
    kernels: tuple
    size: int
    batch: int
    hidden: int = 128
    k: int = 10

    def flat(self):
        "Numbers that are left for the linear layers."
        sides = list(self.image[:2])
        for _ in self.kernels: sides = [(n - self.size + 1) // 2 for n in sides]
        return sides[0] * sides[1] * self.kernels[-1]

    def shapes(self):
        found, n_in = {}, self.image[2]
        for i, n_out in enumerate(self.kernels):
            found |= {f"{3 * i}.weight": (self.size, self.size, n_in, n_out), f"{3 * i}.bias": (n_out,)}
            n_in = n_out
        return found | {"7.weight": (self.flat(), self.hidden), "7.bias": (self.hidden,),
                        "9.weight": (self.hidden, self.k), "9.bias": (self.k,)}

    def draw(self, rng): return rng.random((self.batch, *self.image), np.float32), rng.integers(0, self.k, self.batch)


@dataclass(frozen=True)
class Norm:
    "Linear layers, after each but the last batch norm, relu and dropout."
    sizes: tuple
    batch: int
    p: float = 0.2

    def shapes(self):
        found = {}
        for i, (n_in, n_out) in enumerate(zip(self.sizes[:-1], self.sizes[1:], strict=True)):
            found |= {f"{4 * i}.weight": (n_in, n_out), f"{4 * i}.bias": (n_out,)}
            if i < len(self.sizes) - 2: found |= {f"{4 * i + 1}.weight": (n_out,), f"{4 * i + 1}.bias": (n_out,)}
        return found

    def norms(self): return [f"{4 * i + 1}" for i in range(len(self.sizes) - 2)]
    def draw(self, rng): return rng.normal(size=(self.batch, self.sizes[0])).astype("f4"), rng.integers(0, self.sizes[-1], self.batch)


@dataclass(frozen=True)
class Recurrent:
    "A recurrent layer that reads a sequence, and a linear one of its last output."
    layer: str
    batch: int = 32
    t: int = 100
    n_in: int = 32
    d: int = 128
    k: int = 10

    def shapes(self):
        gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[self.layer] * self.d
        return {"body.weight_ih_l0": (self.n_in, gates), "body.weight_hh_l0": (self.d, gates), "body.bias_ih_l0": (gates,),
                "body.bias_hh_l0": (gates,), "head.weight": (self.d, self.k), "head.bias": (self.k,)}

    def draw(self, rng):
        return rng.normal(size=(self.batch, self.t, self.n_in)).astype("f4"), rng.integers(0, self.k, self.batch)


@dataclass(frozen=True)
class Gpt:
    "A small GPT whose embedding is its last layer, too; the next letter of every place."
    layers: int
    d: int
    batch: int
    heads: int = 4
    t: int = 64
    k: int = 65

    def shapes(self):
        d, found = self.d, {"embedding.weight": (self.k, self.d), "positions.weight": (self.t, self.d)}
        for i in range(self.layers):
            found |= {f"blocks.{i}.{name}": shape for name, shape in {
                "norm1.weight": (d,), "norm1.bias": (d,), "self_attn.in_proj_weight": (d, 3 * d), "self_attn.in_proj_bias": (3 * d,),
                "self_attn.out_proj.weight": (d, d), "self_attn.out_proj.bias": (d,), "norm2.weight": (d,), "norm2.bias": (d,),
                "linear1.weight": (d, 4 * d), "linear1.bias": (4 * d,), "linear2.weight": (4 * d, d), "linear2.bias": (d,)}.items()}
        return found | {"norm.weight": (d,), "norm.bias": (d,)}

    def draw(self, rng): return tuple(rng.integers(0, self.k, (2, self.batch, self.t)))


NETWORKS = {
    "CNN 8-16, batch 128": Cnn((28, 28, 1), (8, 16), 5, 128),
    "CNN 16-32, batch 32": Cnn((28, 28, 1), (16, 32), 3, 32),
    "CNN 16-32, batch 128": Cnn((28, 28, 1), (16, 32), 3, 128),
    "CNN 32-64 on 32x32x3": Cnn((32, 32, 3), (32, 64), 3, 32),
    "norm and dropout": Norm((784, 256, 128, 10), 128),
    "RNN": Recurrent("RNN"),
    "GRU": Recurrent("GRU"),
    "LSTM": Recurrent("LSTM"),
    "GPT 2 x 64": Gpt(2, 64, 16),
    "GPT 4 x 128": Gpt(4, 128, 32),
}


@dataclass
class LayersProblem:
    "Training steps of one of `NETWORKS`, or texts that a GPT writes."

    kind: str  # "step" or "write"
    network: str  # its name
    options: dict = field(default_factory=dict)  # which of its ways a library is to take: its file says what there is

    @property
    def net(self): return NETWORKS[self.network]

    def start(self) -> dict[str, np.ndarray]:
        "The first weights by name: small ones of a normal distribution, 1 and 0 for the norms."
        rng, found = np.random.default_rng(1), {}
        for name, shape in self.net.shapes().items():
            is_norm = "norm" in name or getattr(self.net, "norms", list)().count(name.partition(".")[0])
            spread = 0.02 if isinstance(self.net, Gpt) or len(shape) == 1 else np.prod(shape[:-1]) ** -0.5
            a = rng.normal(0, spread, shape)
            found[name] = (a + bool(is_norm and name.endswith("weight"))).astype("f4")
        return found

    def batches(self, n: int = 8) -> list[tuple[np.ndarray, np.ndarray]]:
        rng = np.random.default_rng(2)
        return [self.net.draw(rng) for _ in range(n)]
