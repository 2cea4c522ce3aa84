"""PyTorch, eager, with its fused Adam and its fused attention: convolutions, norms, recurrent layers, attention."""

import numpy as np
import torch
from libraries.pytorch import set_threads, versions  # noqa: F401  a contender is asked for both
from networks import Cnn, Gpt, Norm
from problem import BETAS, EPS, LR
from torch import nn
from torch.nn import functional as F


def theirs(name, a):
    "An array of ours as PyTorch has it: (n_out, n_in), (n_out, n_in, height, width)."
    if a.ndim == 4: return a.transpose(3, 2, 0, 1)
    return a.T if a.ndim == 2 and name not in ("embedding.weight", "positions.weight") else a


class Block(nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.heads, self.norm1, self.norm2 = heads, nn.LayerNorm(d), nn.LayerNorm(d)
        self.into, self.out, self.linear1, self.linear2 = nn.Linear(d, 3 * d), nn.Linear(d, d), nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(self, x):
        n, t, d = x.shape
        q, k, v = self.into(self.norm1(x)).view(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(n, t, d)
        x = x + self.out(a)
        return x + self.linear2(F.gelu(self.linear1(self.norm2(x)), approximate="tanh"))


class SmallGpt(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.embedding, self.positions = nn.Embedding(net.k, net.d), nn.Embedding(net.t, net.d)
        self.blocks, self.norm = nn.Sequential(*[Block(net.d, net.heads) for _ in range(net.layers)]), nn.LayerNorm(net.d)

    def forward(self, x):
        h = self.norm(self.blocks(self.embedding(x) + self.positions.weight[:x.shape[1]]))
        return F.linear(h, self.embedding.weight).flatten(0, 1)


class Reader(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.body, self.head = getattr(nn, net.layer)(net.n_in, net.d, batch_first=True), nn.Linear(net.d, net.k)

    def forward(self, x): return self.head(self.body(x)[0][:, -1])


def build(net, p):
    if isinstance(net, Gpt): return SmallGpt(net)
    if isinstance(net, Cnn):
        layers, n_in = [], net.image[2]
        for n_out in net.kernels:
            layers += [nn.Conv2d(n_in, n_out, net.size), nn.ReLU(), nn.MaxPool2d(2)]
            n_in = n_out
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(net.flat(), net.hidden), nn.ReLU(), nn.Linear(net.hidden, net.k))
    if isinstance(net, Norm):
        layers = []
        for n_in, n_out in zip(net.sizes[:-1], net.sizes[1:], strict=True):
            layers += [nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out), nn.ReLU(), nn.Dropout(p)]
        return nn.Sequential(*layers[:-3])
    return Reader(net)


class Network:
    def __init__(self, problem):
        self.problem, self.p = problem, getattr(problem.net, "p", 0.0)

    def begin(self):
        self.model = build(self.problem.net, self.p)
        parameters = list(self.model.parameters())
        by_shape = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, a in self.problem.start().items():
                known = name.replace("self_attn.in_proj_", "into.").replace("self_attn.out_proj.", "out.")
                by_shape[known].copy_(torch.from_numpy(np.ascontiguousarray(theirs(name, a))))
        self.optimizer = torch.optim.Adam(parameters, lr=LR, betas=BETAS, eps=EPS, fused=True)

    def own(self, x, y):
        if isinstance(self.problem.net, Cnn): x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))  # as PyTorch has images
        return torch.from_numpy(x), torch.from_numpy(y.reshape(-1))

    def step(self, x, y):
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return loss
