"""JAX: the whole step, forward, backward and Adam, compiled by jit, the old state's buffers donated to the new one."""

from functools import partial

import jax
import jax.numpy as jnp
from problem import BETAS, EPS, LR


def forward(params, x, activation):
    for w, b in params[:-1]:
        x = activation(x @ w + b)
    w, b = params[-1]
    return x @ w + b


def objective(params, x, y, activation):
    logits = forward(params, x, activation)
    return -jnp.mean(jnp.sum(jax.nn.one_hot(y, logits.shape[1]) * jax.nn.log_softmax(logits), axis=1))


@partial(jax.jit, static_argnums=3, donate_argnums=0)
def train_step(state, x, y, activation):
    params, m, v, t = state
    loss, g = jax.value_and_grad(objective)(params, x, y, activation)
    t += 1
    (b1, b2), tree = BETAS, jax.tree.map
    m = tree(lambda m, g: b1 * m + (1 - b1) * g, m, g)
    v = tree(lambda v, g: b2 * v + (1 - b2) * g * g, v, g)
    rate, root = LR / (1 - b1 ** t), jnp.sqrt(1 - b2 ** t)
    params = tree(lambda p, m, v: p - rate * m / (jnp.sqrt(v) / root + EPS), params, m, v)
    return (params, m, v, t), loss


class Network:
    def __init__(self, problem):
        self.start, self.trains = problem.start(), problem.kind != "predict"
        self.activation = {"relu": jax.nn.relu, "tanh": jnp.tanh}[problem.activation]
        self.forward = jax.jit(partial(forward, activation=self.activation))

    def begin(self):
        self.params = [(jnp.array(w), jnp.array(b)) for w, b in self.start]
        zeros = [jax.tree.map(jnp.zeros_like, self.params) for _ in range(2)]
        self.state = self.params, *zeros, jnp.zeros((), jnp.float32)
        if self.trains: del self.params  # the first step gives their buffers away

    def own(self, *arrays): return tuple(jnp.array(a) for a in arrays)

    def step(self, x, y):
        self.state, loss = train_step(self.state, x, y, self.activation)
        return loss

    def predict(self, x): return self.forward(self.params, x).block_until_ready()

    def wait(self, loss): jax.block_until_ready((self.state, loss))  # steps are started before the last one has ended


def versions():
    return {"JAX": jax.__version__}
