"""JAX: the whole step compiled by jit, with convolutions, norms, recurrent layers and attention."""

from functools import partial

import jax
import jax.numpy as jnp
from libraries.jax_jit import versions  # noqa: F401  a contender is asked for them
from networks import Cnn, Gpt, Norm
from problem import BETAS, EPS, LR


def cnn(net, p, x):
    for i in range(len(net.kernels)):
        x = jax.lax.conv_general_dilated(x, p[f"{3 * i}.weight"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = jax.nn.relu(x + p[f"{3 * i}.bias"])
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
    return jax.nn.relu(x @ p["7.weight"] + p["7.bias"]) @ p["9.weight"] + p["9.bias"]


def normed(net, drop, p, x, key):
    for i in range(len(net.sizes) - 2):
        x = x @ p[f"{4 * i}.weight"] + p[f"{4 * i}.bias"]
        x = x - x.mean(0)
        x = jax.nn.relu(x / jnp.sqrt((x * x).mean(0) + 1e-5) * p[f"{4 * i + 1}.weight"] + p[f"{4 * i + 1}.bias"])
        if drop:
            key, own = jax.random.split(key)
            x = jnp.where(jax.random.bernoulli(own, 1 - drop, x.shape), x / (1 - drop), 0)
    last = 4 * (len(net.sizes) - 2)
    return x @ p[f"{last}.weight"] + p[f"{last}.bias"]


def recurrent(net, p, x):
    z = x @ p["body.weight_ih_l0"] + p["body.bias_ih_l0"]
    u, b, h, sigmoid = p["body.weight_hh_l0"], p["body.bias_hh_l0"], jnp.zeros((net.batch, net.d), jnp.float32), jax.nn.sigmoid

    def one(state, z):
        if net.layer == "RNN": return (jnp.tanh(z + state[0] @ u + b),), None
        if net.layer == "LSTM":
            i, f, new, o = jnp.split(z + state[0] @ u + b, 4, axis=1)
            c = sigmoid(f) * state[1] + sigmoid(i) * jnp.tanh(new)
            return (sigmoid(o) * jnp.tanh(c), c), None
        (r, keep, new), (hr, hk, hn) = jnp.split(z, 3, axis=1), jnp.split(state[0] @ u + b, 3, axis=1)
        keep = sigmoid(keep + hk)
        return (keep * state[0] + (1 - keep) * jnp.tanh(new + sigmoid(r + hr) * hn),), None

    last = jax.lax.scan(one, (h, h) if net.layer == "LSTM" else (h,), z.swapaxes(0, 1))[0][0]
    return last @ p["head.weight"] + p["head.bias"]


def norm(x, w, b):
    x = x - x.mean(-1, keepdims=True)
    return x / jnp.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * w + b


def gpt(net, p, x):
    h = p["embedding.weight"][x] + p["positions.weight"]
    for i in range(net.layers):
        def of(name, i=i): return p[f"blocks.{i}.{name}"]
        a = norm(h, of("norm1.weight"), of("norm1.bias")) @ of("self_attn.in_proj_weight") + of("self_attn.in_proj_bias")
        a = a.reshape(net.batch, net.t, 3, net.heads, net.d // net.heads)
        a = jax.nn.dot_product_attention(a[:, :, 0], a[:, :, 1], a[:, :, 2], is_causal=True).reshape(h.shape)
        h = h + a @ of("self_attn.out_proj.weight") + of("self_attn.out_proj.bias")
        a = jax.nn.gelu(norm(h, of("norm2.weight"), of("norm2.bias")) @ of("linear1.weight") + of("linear1.bias"))
        h = h + a @ of("linear2.weight") + of("linear2.bias")
    return (norm(h, p["norm.weight"], p["norm.bias"]) @ p["embedding.weight"].T).reshape(-1, net.k)


def logits(net, drop, p, x, key):
    if isinstance(net, Norm): return normed(net, drop, p, x, key)
    return (cnn if isinstance(net, Cnn) else gpt if isinstance(net, Gpt) else recurrent)(net, p, x)


def objective(p, x, y, key, net, drop):
    log_p = jax.nn.log_softmax(logits(net, drop, p, x, key))
    return -jnp.take_along_axis(log_p, y.reshape(-1, 1), axis=1).mean()


@partial(jax.jit, static_argnums=(3, 4), donate_argnums=0)
def train_step(state, x, y, net, drop):
    p, m, v, t, key = state
    key, own = jax.random.split(key)
    loss, g = jax.value_and_grad(objective)(p, x, y, own, net, drop)
    t, (b1, b2), tree = t + 1, BETAS, jax.tree.map
    m = tree(lambda m, g: b1 * m + (1 - b1) * g, m, g)
    v = tree(lambda v, g: b2 * v + (1 - b2) * g * g, v, g)
    rate, root = LR / (1 - b1 ** t), jnp.sqrt(1 - b2 ** t)
    p = tree(lambda p, m, v: p - rate * m / (jnp.sqrt(v) / root + EPS), p, m, v)
    return (p, m, v, t, key), loss


class Network:
    def __init__(self, problem):
        self.problem, self.p = problem, getattr(problem.net, "p", 0.0)

    def begin(self):
        self.drop, p = self.p, {name: jnp.array(a) for name, a in self.problem.start().items()}
        zeros = [jax.tree.map(jnp.zeros_like, p) for _ in range(2)]
        self.state = p, *zeros, jnp.zeros((), jnp.float32), jax.random.key(0)

    def own(self, *arrays): return tuple(jnp.array(a) for a in arrays)

    def step(self, x, y):
        self.state, loss = train_step(self.state, x, y, self.problem.net, self.drop)
        return loss

    def wait(self, loss): jax.block_until_ready((self.state, loss))
