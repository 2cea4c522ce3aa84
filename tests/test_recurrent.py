"""RNN, GRU and LSTM: their gradients, their states, and what is said of what does not fit. Against PyTorch: tests/peers."""

import numpy as np
import pytest

import nn_from_scratch as nn
from nn_from_scratch import fast
from nn_from_scratch.recurrent import gru_states, lstm_states, rnn_states

KINDS = [nn.RNN, nn.GRU, nn.LSTM]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def layer(kind, n_in=3, hidden=4, layers=1): return kind(n_in, hidden, layers, rng=0, dtype=np.float64)
def inputs(n=2, t=5, n_in=3): return np.random.default_rng(1).normal(size=(n, t, n_in))
def flat(state): return np.concatenate([np.ravel(s) for s in (state if isinstance(state, tuple) else (state,))])


def total(model, x, state=None):
    outputs, state = model(x, state)
    return np.sum(np.sin(outputs)) + np.sum(np.cos(flat(state)))


@pytest.mark.usefixtures("pace")
@each_kind
@pytest.mark.parametrize("n, t, hidden, layers", [(2, 5, 4, 1), (1, 1, 1, 1), (3, 2, 2, 3), (2, 1, 3, 2)])
def test_gradients_are_those_of_finite_differences(kind, n, t, hidden, layers):
    model, x = layer(kind, hidden=hidden, layers=layers), inputs(n, t)
    nn.grad_check(lambda x: total(model, x), x, tol=1e-6)
    vector = model.parameters().vector

    def loss(theta):
        "Of all parameters as one vector."
        kept = vector.copy()
        vector[:] = theta
        try: return float(total(model, x))
        finally: vector[:] = kept

    numeric = nn.numeric_grad(loss, vector.copy())
    _, g = nn.value_and_grad(total)(model, x)
    np.testing.assert_allclose(g.vector, numeric, atol=1e-7)


@each_kind
def test_the_rule_computes_what_the_text_says(kind):
    model, x, found = layer(kind, layers=2), inputs(), []
    for pace in (fast.disable, fast.enable):
        pace()
        found.append(flat(model(x)))
    np.testing.assert_allclose(*found, rtol=1e-12)


@pytest.mark.usefixtures("pace")
@each_kind
def test_a_sequence_in_pieces_gives_the_same_outputs(kind):
    "The state that a call gives is where the next one goes on."
    model, x = layer(kind, layers=2), inputs(t=7)
    whole, last = model(x)
    state, parts = None, []
    for part in np.split(x, [1, 4], axis=1):
        outputs, state = model(part, state)
        parts.append(outputs)
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, rtol=1e-12)
    np.testing.assert_allclose(flat(state), flat(last), rtol=1e-12)


@each_kind
def test_the_gradient_reaches_the_first_state(kind):
    model, x = layer(kind), inputs()
    zeros = np.full((1, 2, 4), 0.1)
    state = (zeros, zeros) if kind is nn.LSTM else zeros
    if kind is nn.LSTM: nn.grad_check(lambda h, c: total(model, x, (h, c)), *state, tol=1e-6)
    else: nn.grad_check(lambda h: total(model, x, h), state, tol=1e-6)


@each_kind
def test_samples_do_not_mix_and_the_future_does_not_look_back(kind):
    model, x = layer(kind), inputs(n=3, t=6)
    before, _ = model(x)
    x[1], x[0, 4:] = 9, 9
    after, _ = model(x)
    assert np.array_equal(before[2], after[2]) and np.array_equal(before[0, :4], after[0, :4])
    assert not np.array_equal(before[0, 4:], after[0, 4:])


@each_kind
def test_a_tensor_kept_as_state_is_an_error_by_name(kind):
    "In the next step the tape is another one: to go on from a state without its past, take stop_gradient of it."
    model, x, kept = layer(kind), inputs(), {}

    def step(model, x):
        outputs, kept["state"] = model(x, kept.get("state"))
        return np.sum(outputs)

    take = nn.value_and_grad(step)
    take(model, x)
    with pytest.raises(TypeError, match=f"{kind.__name__}: the state.* is a Tensor that was kept from an earlier gradient: keep stop_gradient"): take(model, x)
    kept["state"] = nn.stop_gradient(kept["state"])
    value, _ = take(model, x)
    assert np.isfinite(value)


@each_kind
def test_what_does_not_fit_is_said_with_its_numbers(kind):
    model, name = layer(kind), kind.__name__
    with pytest.raises(ValueError, match=rf"{name}: x must be \(n, t, 3\), t of at least 1, but it is \(2, 5, 4\)"): model(inputs(n_in=4))
    with pytest.raises(ValueError, match=rf"{name}: x must be"): model(inputs(t=0))
    with pytest.raises(ValueError, match=rf"{name}: x must be"): model(inputs()[0])
    wrong = np.zeros((1, 3, 4))
    with pytest.raises(ValueError, match=rf"{name}: the state.* must be \(layers, n, hidden\), \(1, 2, 4\), but it is \(1, 3, 4\)"):
        model(inputs(), (wrong, wrong) if kind is nn.LSTM else wrong)
    if kind is nn.LSTM:
        with pytest.raises(TypeError, match="LSTM: the state must be the pair"): model(inputs(), np.zeros((1, 2, 4)))
    with pytest.raises(ValueError, match="n_hidden must be a whole number"): kind(3, 0)
    with pytest.raises(ValueError, match="layers must be a whole number"): kind(3, 2, layers=1.5)


@each_kind
def test_dtypes_and_reprs(kind):
    model = kind(3, 4, rng=0)
    outputs, state = model(inputs())
    assert outputs.dtype == np.float32 and flat(state).dtype == np.float32
    assert repr(model) == f"{kind.__name__}(3, 4)" and repr(kind(3, 4, 2)) == f"{kind.__name__}(3, 4, layers=2)"
    assert model(inputs().tolist())[0].shape == (2, 5, 4)


@each_kind
@pytest.mark.parametrize("layers", [1, 2])
def test_a_layer_is_rebuilt_from_its_file(kind, layers, tmp_path):
    model = layer(kind, layers=layers)
    nn.save(model, tmp_path / "m.safetensors")
    again = nn.load(tmp_path / "m.safetensors")
    assert repr(again) == repr(model) and np.array_equal(again(inputs())[0], model(inputs())[0])


class Counts(nn.Module):
    "The last state, and a number made of it."

    def __init__(self, kind):
        self.states, self.out = kind(1, 8, rng=0), nn.Linear(8, 1, rng=1)

    def __call__(self, x): return self.out(self.states(x)[0][:, -1])


@each_kind
def test_killed_and_resumed_it_goes_on_to_the_same_bits(kind, tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 6, 1)).astype(np.float32)
    y = x.sum(axis=1)

    def run(steps, **more):
        model = Counts(kind)
        history = nn.fit(model, nn.mse, nn.Adam(0.01), (x, y), epochs=6, max_steps=steps, batch_size=16, clip_norm=1.0, rng=0, progress=False, **more)
        return model.parameters().vector.copy(), history

    whole, history = run(None)
    assert history.train_loss[-1] < 0.8 * history.train_loss[0]
    run(9, checkpoint=tmp_path, checkpoint_every=1)
    resumed, _ = run(None, checkpoint=tmp_path, resume=True)
    assert np.array_equal(whole, resumed)


def test_the_texts_are_the_formulas_one_step_at_a_time():
    rng = np.random.default_rng(3)
    h, w, z = rng.normal(size=(2, 3)), rng.normal(size=(3, 3)), rng.normal(size=(2, 1, 3))
    np.testing.assert_allclose(rnn_states(z, w, h)[:, 0], np.tanh(z[:, 0] + h @ w))
    shut = np.concatenate([z, np.full_like(z, 50.0), z], axis=2)  # a GRU whose gate keeps all
    assert np.allclose(gru_states(shut, np.zeros((3, 9)), np.zeros(3), h)[:, 0], h)
    open_at = np.concatenate([np.full_like(z, -50.0), np.full_like(z, 50.0), z, z], axis=2)  # an LSTM that neither forgets nor writes
    assert np.allclose(lstm_states(open_at, np.zeros((3, 12)), h, h)[:, 1], h)
