"""What is asked of arguments: every demand, the table, and what the table must not do."""

import inspect

import numpy as np
import pytest

import nn_from_scratch as nn
from nn_from_scratch import checks, functions
from nn_from_scratch.asking import ask, wishes
from nn_from_scratch.functions import asked, checked, operation, quicker

fits = [  # (demand, what it takes, what it makes of it)
    (checks.whole, 3, 3), (checks.whole, np.int64(3), 3), (checks.count_or_none, None, None), (checks.count_or_none, 2, 2),
    (checks.at_least_0, 0, 0), (checks.at_least_0, np.float32(0.5), 0.5), (checks.below_1, 0.0, 0.0), (checks.share, 0.5, 0.5),
    (checks.at_most_1, 1, 1), (checks.above_0, 1e-9, 1e-9), (checks.positive, np.array(2.0), 2.0), (checks.number, -1, -1),
    (checks.flag, True, True), (checks.flag, np.bool_(False), False), (checks.function, nn.relu, nn.relu),
    (checks.floating, "float32", "float32"), (checks.sizes_of_layers, [2, 1], [2, 1]), (checks.all_callable, [nn.relu], [nn.relu]),
]
refusals = [  # (demand, what it refuses, with which error, words)
    (checks.whole, 0, ValueError, "f: n must be a whole number of at least 1, not 0"), (checks.whole, 2.0, ValueError, "not 2.0"),
    (checks.whole, "3", ValueError, "not '3'"), (checks.whole, None, ValueError, "not None"), (checks.count_or_none, -1, ValueError, "at least 1"),
    (checks.at_least_0, -1, ValueError, "f: n must be a number of at least 0, not -1"), (checks.at_least_0, np.nan, ValueError, "not nan"),
    (checks.at_least_0, np.inf, ValueError, "not inf"), (checks.at_least_0, "0.1", ValueError, "not '0.1'"),
    (checks.below_1, 1, ValueError, "of at least 0 and below 1"), (checks.share, 0, ValueError, "above 0 and below 1"),
    (checks.at_most_1, 1.1, ValueError, "above 0 and at most 1"), (checks.above_0, 0, ValueError, "f: n must be a positive number, not 0"),
    (checks.positive, -1.0, ValueError, "f: n must be positive, not -1.0"), (checks.positive, np.nan, ValueError, "not nan"),
    (checks.flag, 1, TypeError, "f: n must be True or False, not 1"), (checks.function, "relu", TypeError, "a callable such as relu, not 'relu'"),
    (checks.floating, int, ValueError, "f: n must be a floating-point type, np.float32 say, not int64"),
    (checks.sizes_of_layers, 64, TypeError, "a list of numbers of units"), (checks.sizes_of_layers, [64], ValueError, "[64]"),
    (checks.all_callable, [nn.relu, 3], TypeError, "f: layer 1 is not callable: 3"),
    (checks.array, [1, 2], TypeError, "f: n must be an array, but it is of type list: try np.array(...)"),
    (checks.floats, np.arange(3), TypeError, "f: the n must be floating-point numbers, not int64: try n.astype(float)"),
]


@pytest.mark.parametrize("demand, value, made", fits, ids=lambda v: getattr(v, "__name__", None))
def test_what_fits_comes_back_as_it_is_wanted(demand, value, made):
    got = demand("f", "n", value)
    assert got == made and not isinstance(got, (np.generic, np.ndarray))


@pytest.mark.parametrize("demand, value, error, words", refusals)
def test_what_does_not_fit_is_refused_in_words(demand, value, error, words):
    with pytest.raises(error) as caught: demand("f", "n", value)
    assert words in str(caught.value)


def test_every_demand_says_in_words_what_it_asks():
    demands = [f for name, f in vars(checks).items() if name in checks.__all__ and callable(f)
               and list(inspect.signature(f).parameters)[:1] == ["who"]]
    assert len(demands) > 20 and all(f.__doc__ for f in demands)


@pytest.mark.parametrize("a, words", [
    (np.array([1.0, np.nan, 2.0]), "f: x is not finite in 1 of 3 places, first nan in row 1 (counted from 0)"),
    (np.array([[0, 0], [0, -np.inf]]), "first -inf in row 1, column 1"),
])
def test_the_first_place_that_is_not_finite_is_named(a, words):
    with pytest.raises(ValueError) as caught: checks.finite("f", "x", a)
    assert words in str(caught.value)
    assert checks.finite("f", "x", np.array([1e200, 1e200])) is not None  # large is not infinite


def test_lengths():
    ones = np.ones
    checks.lengths("f", [ones(3), ones((3, 2))])
    with pytest.raises(ValueError, match=r"f: x and y must have one row for each sample, but x is \(3,\), y is \(2,\)"): checks.lengths("f", [ones(3), ones(2)])
    with pytest.raises(ValueError, match="f: there are no samples"): checks.lengths("f", [ones(0), ones(0)])
    with pytest.raises(ValueError, match="x and y and weight"): checks.lengths("f", [ones(3), ones(3), np.array(1.0)])


# ---------------------------------------------------------------- the table

def test_a_row_asks_in_order_and_shows_each_demand_what_it_wants_to_see():
    seen = []

    def first(who, name, value):
        seen.append((who, name, value))
        return value + 1

    def second(who, name, value, a):
        seen.append((who, name, value, a))
        return value

    def rest(who, name, value, *before):
        seen.append((name, value, before))
        return value

    @checked
    def f(a, b=2, c=3, *others): return a, b, c, others
    ask(f, first, second, None, rest)
    assert f(1) == (2, 2, 3, ()) and seen[:2] == [("test_a_row_asks_in_order_and_shows_each_demand_what_it_wants_to_see", "a", 1), (seen[1][0], "b", 2, 2)]
    assert f(1, c=5) == (2, 2, 5, ()) and f(1, 2, 3, 4, 5) == (2, 2, 3, (4, 5)) and seen[-1] == ("others", (4, 5), (2, 2, 3))
    with pytest.raises(TypeError): f()
    with pytest.raises(TypeError): f(1, d=2)
    assert inspect.signature(f).parameters["c"].default == 3


def test_wishes_are_the_words_of_the_demands():
    assert wishes(nn.linear) == {"x": checks.array.__doc__, "w": checks.weights_of.__doc__, "b": checks.bias_of.__doc__}
    assert wishes(nn.relu) == {} and wishes(nn.Linear.__init__)["n_in"] == "a whole number of at least 1"


@pytest.mark.parametrize("f", [f for f in asked if callable(asked[f])], ids=lambda f: f.__qualname__)
def test_a_row_keeps_the_signature_of_its_function(f):
    assert list(inspect.signature(asked[f]).parameters) == list(inspect.signature(f).parameters)


numbers = np.random.default_rng(0).normal(size=(4, 3))
good = {  # arguments that fit, for each function of chapter 1
    nn.weighted_sum: (numbers, np.ones((3, 2)), np.zeros(2)), nn.linear: (numbers, np.ones((3, 2)), np.zeros(2)),
    nn.leaky_relu: (numbers, 0.2), nn.elu: (numbers, 2.0),
}


@pytest.mark.parametrize("f", good, ids=lambda f: f.__name__)
def test_a_demand_may_refuse_or_cast_but_never_decide(f, monkeypatch):
    "On arguments that fit, a function gives with its row what it gives without, to the bit."
    with_row = f(*good[f])
    monkeypatch.delitem(asked, f)
    monkeypatch.setattr(functions, "quicker", {})
    assert np.array_equal(f(*good[f]), with_row)


def test_a_quicker_form_is_taken_only_where_the_table_names_it():
    @operation
    def double(x): return 2 * x
    quicker[double] = lambda x: x + x + 1e-9
    try: assert double(np.array(1.0)) == 2 + 1e-9
    finally: del quicker[double]
    assert double(np.array(1.0)) == 2


def test_a_number_of_numpy_does_not_turn_float32_into_float64():
    x = np.ones(2, np.float32)
    assert nn.leaky_relu(x, np.float64(0.1)).dtype == nn.elu(x, np.float64(1)).dtype == np.float32
