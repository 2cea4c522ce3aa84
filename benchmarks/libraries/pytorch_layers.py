"""PyTorch, eager, with its fused Adam and its fused attention: convolutions, norms, recurrent layers, attention.

A text is written as one does it with modules and a cache that grows (torch.cat); option lean: with the bare functions, weights at hand, a
cache with room, in inference mode."""

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

    def go_on(self, x, cache):
        "The same, for places that come after those in the cache (keys, values)."
        n, t, d = x.shape
        q, k, v = self.into(self.norm1(x)).view(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        if cache: k, v = torch.cat([cache[0], k], 2), torch.cat([cache[1], v], 2)
        cache[:] = k, v
        a = F.scaled_dot_product_attention(q, k, v, is_causal=t > 1).transpose(1, 2).reshape(n, t, d)
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

    def go_on(self, x, caches, start):
        h = self.embedding(x) + self.positions.weight[start:start + x.shape[1]]
        for block, cache in zip(self.blocks, caches, strict=True): h = block.go_on(h, cache)
        return F.linear(self.norm(h)[:, -1], self.embedding.weight)


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

    def write(self, temperature):
        return self.lean(temperature) if self.problem.options.get("lean") else self.usual(temperature)

    @torch.no_grad()
    def usual(self, temperature):
        "A text as long as the model can see, in modules, with a cache that grows."
        tokens, caches, seen = torch.zeros((1, 1), dtype=torch.long), [[] for _ in self.model.blocks], 0
        for _ in range(self.problem.net.t - 1):
            logits = self.model.go_on(tokens[:, seen:], caches, seen)
            seen = tokens.shape[1]
            new = torch.multinomial(F.softmax(logits / temperature, -1), 1) if temperature else logits.argmax(-1, keepdim=True)
            tokens = torch.cat([tokens, new], 1)
        return tokens[0]

    @torch.inference_mode()
    def lean(self, temperature):
        "The same in as few calls as there are."
        net, model, shape = self.problem.net, self.model, (self.problem.net.d,)
        layers = [(b.norm1.weight, b.norm1.bias, b.into.weight, b.into.bias, b.out.weight.T, b.out.bias, b.norm2.weight, b.norm2.bias,
                   b.linear1.weight, b.linear1.bias, b.linear2.weight.T, b.linear2.bias) for b in model.blocks]
        table, last = model.embedding.weight, (model.norm.weight, model.norm.bias)
        starts = model.positions.weight
        room = torch.empty((net.layers, 2, net.heads, net.t, net.d // net.heads))
        tokens = torch.zeros(net.t, dtype=torch.long)
        for place in range(net.t - 1):
            x = (table[tokens[place]] + starts[place])[None]
            for (g1, c1, wi, bi, wo, bo, g2, c2, w1, b1, w2, b2), kept in zip(layers, room, strict=True):
                q, new = F.linear(F.layer_norm(x, shape, g1, c1), wi, bi).view(3, net.heads, -1).split((1, 2))
                kept[:, :, place] = new
                k, v = kept[:, :, :place + 1].unbind()
                a = F.scaled_dot_product_attention(q.transpose(0, 1), k, v)
                x = torch.addmm(x + bo, a.view(1, -1), wo)
                h = F.gelu(F.linear(F.layer_norm(x, shape, g2, c2), w1, b1), approximate="tanh")
                x = torch.addmm(x + b2, h, w2)
            logits = F.linear(F.layer_norm(x, shape, *last), table)
            tokens[place + 1] = torch.multinomial(F.softmax(logits / temperature, -1), 1)[0, 0] if temperature else logits.argmax()
        return tokens

    def step(self, x, y):
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return loss
