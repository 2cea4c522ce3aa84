"""Tests of the pictures: each draws on the axes it is given, shows the numbers it was given, and answers mistakes in words."""

import re
import subprocess
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from PIL import Image

from nn_from_scratch import plots
from nn_from_scratch.plots import (
    COLORS,
    LINES,
    MARKERS,
    animate_boundary,
    boundary_grid,
    plot_activations,
    plot_confusion_matrix,
    plot_decision_boundary,
    plot_graph,
    plot_half_plane,
    plot_histograms,
    plot_history,
    plot_images,
    plot_learning_rates,
    plot_loss_surface,
    plot_network,
    plot_schedule,
)


def says(*parts):
    "A pattern for `pytest.raises`: these texts, in this order."
    return "(?s)" + ".*".join(re.escape(str(part)) for part in parts)


@pytest.fixture(autouse=True)
def no_figure_left():
    plt.close("all")
    yield
    plt.close("all")


def corners():
    return np.array([[0, 0], [1, 0], [0, 1], [1, 1]], dtype=np.float32), np.array([0, 1, 1, 0])


def line(p): return 2 * p[:, 0] - p[:, 1] - 0.3  # the logit of a neuron


def texts(ax): return [text.get_text() for text in ax.texts]


def labels(ax): return [text.get_text() for text in ax.get_legend().get_texts()]


HISTORY = {
    "train_loss": [2.0, 1.0, 0.5, 0.25],
    "valid_loss": [2.1, 1.2, 0.9, 1.1],
    "metrics": {"accuracy": {"train": [0.1, 0.5, 0.8, 0.9], "valid": [0.1, 0.4, 0.7, 0.6]}},
}
NODES = [("x", [], 2.0, -4.0), ("w", [], -3.0, None), {"label": "product", "inputs": [0, 1], "value": -6.0, "gradient": 1.5}]

# name -> how many axes it draws on, and a call with these axes
CALLS = {
    "plot_decision_boundary": (1, lambda ax: plot_decision_boundary(line, *corners(), ax=ax, resolution=20)),
    "plot_half_plane": (1, lambda ax: plot_half_plane([1, 2], -1, ax=ax)),
    "plot_loss_surface": (1, lambda ax: plot_loss_surface(lambda t: t[0] ** 2 + t[1] ** 2, ax=ax, resolution=12)),
    "plot_network": (1, lambda ax: plot_network([3, 2], ax=ax)),
    "plot_graph": (1, lambda ax: plot_graph(NODES, ax=ax)),
    "plot_history": (2, lambda ax: plot_history(HISTORY, ax=ax)),
    "plot_schedule": (1, lambda ax: plot_schedule({"constant": 0.1}, 5, ax=ax)),
    "plot_learning_rates": (1, lambda ax: plot_learning_rates([0.1, 1], [2, 1], ax=ax)),
    "plot_activations": (2, lambda ax: plot_activations({"tanh": np.tanh, "sin": np.sin}, axes=ax)),
    "plot_histograms": (2, lambda ax: plot_histograms([np.arange(5), np.arange(9)], axes=ax)),
    "plot_images": (2, lambda ax: plot_images(np.arange(8).reshape(2, 4), ["a", "b"], axes=ax)),
    "plot_confusion_matrix": (1, lambda ax: plot_confusion_matrix([[3, 1], [0, 5]], ax=ax)),
}


# ---------------------------------------------------------------- what all of them promise

@pytest.mark.parametrize("name", CALLS)
def test_draws_on_the_given_axes_and_nowhere_else(name):
    n, call = CALLS[name]
    figure, axes = plt.subplots(1, 3)
    given = axes[0] if n == 1 else axes[:n]
    drawn = call(given)
    if n == 1: assert drawn is given
    else: assert isinstance(drawn, np.ndarray) and list(drawn) == list(given)
    assert all(a.has_data() or a.texts or a.patches for a in axes[:n])
    assert not axes[2].has_data() and len(figure.axes) == 3  # not even a colour bar
    assert plt.get_fignums() == [figure.number]


@pytest.mark.parametrize("name", CALLS)
def test_makes_one_white_figure_without_axes(name):
    drawn = CALLS[name][1](None)
    figure = np.atleast_1d(drawn)[0].figure
    assert plt.get_fignums() == [figure.number]
    assert figure.get_facecolor() == (1, 1, 1, 1)


@pytest.mark.parametrize("name", CALLS)
def test_the_figure_is_opaque_where_the_page_would_show_through(name):
    with plt.rc_context({"figure.facecolor": (1, 1, 1, 0)}): drawn = CALLS[name][1](None)
    assert np.atleast_1d(drawn)[0].figure.get_facecolor() == (1, 1, 1, 1)


@pytest.mark.parametrize("name", CALLS)
def test_texts_have_nine_points_or_more(name):
    figure = np.atleast_1d(CALLS[name][1](None))[0].figure
    figure.canvas.draw()
    sizes = {text.get_text(): text.get_fontsize() for text in figure.findobj(matplotlib.text.Text) if text.get_text()}
    assert sizes and min(sizes.values()) >= 9, sizes


@pytest.mark.parametrize("name", [name for name in CALLS if name not in ("plot_network", "plot_graph", "plot_images")])
def test_axes_are_labelled(name):
    for ax in np.atleast_1d(CALLS[name][1](None)):
        assert ax.get_xlabel()
        assert ax.get_ylabel() or ax.get_title()


def test_import_does_not_import_matplotlib():
    code = "import sys, nn_from_scratch.plots; sys.exit(any(name.split('.')[0] == 'matplotlib' for name in sys.modules))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_it_needs_no_other_module_of_the_package():
    for path in Path(plots.__file__).parent.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        if path.name == "convolution.py": text = text.replace("from ..gradients import grad\n", "")  # what is drawn there is a gradient
        assert not re.search(r"^\s*(from|import) (nn_from_scratch|\.\.)", text, re.M), path.name


def test_the_palette_repeats_nothing():
    assert len(set(COLORS)) == len(COLORS) and len(set(MARKERS)) == len(MARKERS) and len(set(LINES)) == len(LINES)


def lightness(rgb):
    light = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]
    return np.where(light > 0.008856, 116 * np.cbrt(light) - 16, 903.3 * light)


@pytest.mark.parametrize("cmap, start, end", [("white_to_blue", 0, 1), ("vermillion_to_blue", 0.5, 0), ("vermillion_to_blue", 0.5, 1)])
def test_colour_maps_fall_evenly_in_lightness(cmap, start, end):
    steps = np.diff(lightness(getattr(plots.figures, cmap)()(np.linspace(start, end, 9))[:, :3]))
    assert (steps < 0).all()
    assert np.ptp(steps) < 0.5 * -steps.mean()


# ---------------------------------------------------------------- the decision boundary

def test_grid_covers_the_points_row_by_row():
    grid = boundary_grid([[0, 10], [4, 30]], resolution=3, margin=0.25)
    assert grid.dtype == np.float32
    np.testing.assert_allclose(grid, [(a, b) for b in (5, 20, 35) for a in (-1, 2, 5)])


def test_grid_of_points_in_a_line_has_a_height():
    assert np.ptp(boundary_grid([[0, 1], [4, 1]], resolution=2)[:, 1]) > 0


def winners(ax, k):
    "The class that each pixel's hue stands for."
    image = np.asarray(ax.images[0].get_array())
    away = 1 - image  # a tint is white minus a share of (white minus the colour)
    hues = np.array([1 - np.array(to_rgb(color)) for color in COLORS[:k]])
    cosine = (away @ hues.T) / np.linalg.norm(away, axis=-1, keepdims=True) / np.linalg.norm(hues, axis=1)
    return cosine.argmax(axis=-1)


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_the_regions_are_what_one_logit_says(shape):
    x, y = corners()
    ax = plot_decision_boundary(lambda p: line(p).reshape(shape), x, y, resolution=30)
    np.testing.assert_array_equal(winners(ax, 2), (line(boundary_grid(x, 30)) > 0).reshape(30, 30))


def test_the_regions_are_what_three_scores_say():
    x = np.random.default_rng(0).normal(size=(30, 2))
    scores = lambda p: p @ np.array([[1, -1, 0], [0.5, 0.5, -1]]) + [0, 0.1, 0.2]
    y = scores(x).argmax(axis=1)
    ax = plot_decision_boundary(scores, x, y, resolution=25)
    np.testing.assert_array_equal(winners(ax, 3), scores(boundary_grid(x, 25)).argmax(axis=1).reshape(25, 25))


def test_the_regions_are_what_classes_say():
    x, y = corners()
    ax = plot_decision_boundary(lambda p: (line(p) > 0).astype(np.int64), x, y, resolution=30)
    np.testing.assert_array_equal(winners(ax, 2), (line(boundary_grid(x, 30)) > 0).reshape(30, 30))


def test_a_surer_model_has_deeper_colours_and_nan_is_grey():
    x, y = corners()
    def depth(scale): return 1 - np.asarray(plot_decision_boundary(lambda p: scale * line(p), x, y).images[0].get_array()).mean()
    assert depth(0.1) < depth(1) < depth(10)
    ax = plot_decision_boundary(lambda p: np.where(p[:, 0] > 0.5, np.nan, 1), x, y, resolution=10)
    np.testing.assert_allclose(np.asarray(ax.images[0].get_array())[:, -1], 0.7)


def test_scores_of_any_size_are_drawn_without_a_warning():
    x, y = corners()
    for scale in (0, 1e-30, 1e5, 1e300, np.inf):
        plot_decision_boundary(lambda p, scale=scale: np.where(line(p) > 0, scale, -scale), x, y, resolution=10)
        plt.close("all")


def test_predict_gets_one_batch_of_float32_points():
    asked = []
    def predict(p):
        asked.append((p.shape, p.dtype))
        return line(p)
    plot_decision_boundary(predict, *corners(), resolution=7)
    assert asked == [((49, 2), np.float32)]


def test_each_class_has_its_points_its_colour_and_its_marker():
    x = np.random.default_rng(0).normal(size=(50, 2))
    y = np.arange(50) % 10
    ax = plot_decision_boundary(lambda p: np.zeros((len(p), 10)) + p[:, :1] * np.arange(10), x, y, resolution=10, title="ten")
    drawn = [c for c in ax.collections if c.get_label().startswith("class")]
    assert ax.get_title() == "ten" and labels(ax) == [f"class {k}" for k in range(10)]
    for k, points in enumerate(drawn): np.testing.assert_allclose(points.get_offsets(), x[y == k])
    looks = {(tuple(c.get_facecolor()[0]), c.get_paths()[0].vertices.tobytes()) for c in drawn}
    assert len(drawn) == 10 and len(looks) == 10


def test_labels_may_be_a_column_of_floats():
    x, y = corners()
    plot_decision_boundary(line, x, y[:, None].astype(np.float32), resolution=5)


@pytest.mark.parametrize("x, y, predict, error, parts", [
    (np.zeros((4, 3)), [0, 1, 1, 0], line, ValueError, ["two features", "(4, 3)"]),
    (np.zeros((0, 2)), [], line, ValueError, ["x is empty", "(0, 2)"]),
    ([["a", "b"]], [0], line, TypeError, ["x must be numbers"]),
    ([[0, 1], [2]], [0, 1], line, ValueError, ["rows of different lengths"]),
    ([[0, np.nan], [1, 1]], [0, 1], line, ValueError, ["not finite", "1 of 4"]),
    (corners()[0], [0, 1, 1], line, ValueError, ["x has 4 points", "(4,)", "y is (3,)"]),
    (corners()[0], [0, 1, 0.5, 1], line, ValueError, ["classes 0, 1, 2", "0.5"]),
    (corners()[0], [-1, 1, 1, -1], line, ValueError, ["classes 0, 1, 2", "-1"]),
    (corners()[0], [0, 1, 2, 1], line, ValueError, ["y goes up to class 2", "2 classes"]),
    (corners()[0], [0, 1, 1, 0], lambda p: p[:5], ValueError, ["400 points", "(400, k)", "shape (5, 2)"]),
    (corners()[0], [0, 1, 1, 0], lambda p: 1.0, ValueError, ["400 points", "shape ()"]),
    (corners()[0], [0, 1, 1, 0], lambda p: p[None], ValueError, ["shape (1, 400, 2)"]),
])
def test_boundary_mistakes(x, y, predict, error, parts):
    with pytest.raises(error, match=says("plot_decision_boundary", *parts)): plot_decision_boundary(predict, x, y, resolution=20)
    assert not plt.get_fignums()


def test_grid_mistakes():
    with pytest.raises(ValueError, match=says("resolution must be at least 2, not 1")): boundary_grid(corners()[0], resolution=1)


# ---------------------------------------------------------------- the half-plane

@pytest.mark.parametrize("w, b", [([1, 1], -1.5), ([0, 2], 1), ([-3, 0.5], 0), ([0.01, 0.02], 0.05), ([[2], [1]], [4])])
def test_the_line_the_normal_and_the_positive_side(w, b):
    ax = plot_half_plane(w, b)
    w, b = np.ravel(np.asarray(w, dtype=float)), float(np.ravel(b)[0])
    ends = ax.lines[0].get_xydata()
    np.testing.assert_allclose(ends @ w + b, 0, atol=1e-9 * np.abs(ends).max())
    shaded = ax.patches[0].get_xy()[:4]
    assert np.all(shaded @ w + b > -1e-9 * np.abs(shaded).max()) and np.any(shaded @ w + b > 1e-6)
    arrow = ax.texts[0]
    np.testing.assert_allclose(np.subtract(arrow.xy, arrow.get_position()), w)
    (low, high), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    assert low < min(arrow.xy) and max(arrow.xy) < high and (low, high) == (bottom, top)


@pytest.mark.parametrize("w, b, parts", [
    ([1, 2, 3], 0, ["two weights", "w has 3"]),
    ([0, 0], 1, ["both weights are 0", "no line"]),
    ([1, 2], [1, 2], ["one bias", "b has 2"]),
])
def test_half_plane_mistakes(w, b, parts):
    with pytest.raises(ValueError, match=says("plot_half_plane", *parts)): plot_half_plane(w, b)


# ---------------------------------------------------------------- the loss surface

def bowl(t): return t[0] ** 2 + 10 * t[1] ** 2


def test_f_is_asked_for_the_whole_grid_where_it_can_take_it():
    shapes = []
    def f(t):
        shapes.append(np.shape(t))
        return bowl(t)
    plot_loss_surface(f, resolution=15)
    assert shapes.count((2, 15, 15)) == 1 and len(shapes) == 10


@pytest.mark.parametrize("f", [
    lambda t: float(t @ np.diag([1.0, 10.0]) @ t),  # fails on a grid
    lambda t: np.sum(t**2 * np.array([1, 10])),  # fails, or adds everything up
    lambda t: np.array([bowl(t)]).reshape(-1)[:1],  # an array of one number
    lambda t: bowl(t) if np.ndim(t) == 1 else np.zeros(t.shape[1:]),  # a wrong grid of the right shape
])
def test_single_points_give_the_same_surface(f):
    xs, ys = np.linspace(-1, 1, 10), np.linspace(0, 2, 12)
    np.testing.assert_allclose(plots.surface.heights(f, xs, ys), bowl(np.meshgrid(xs, ys)))


def test_contours_are_a_constant_factor_apart_or_even(monkeypatch):
    drawn, contourf = [], matplotlib.axes.Axes.contourf
    monkeypatch.setattr(matplotlib.axes.Axes, "contourf", lambda *args, **options: drawn.append(contourf(*args, **options)) or drawn[-1])
    heights = lambda ax: drawn[-1].levels
    levels = heights(plot_loss_surface(bowl, resolution=30))
    np.testing.assert_allclose(levels[1:] / levels[:-1], (levels[-1] / levels[0]) ** (1 / 19))
    steps = np.diff(heights(plot_loss_surface(bowl, resolution=30, log=False)))
    np.testing.assert_allclose(steps, steps[0])
    steps = np.diff(heights(plot_loss_surface(lambda t: t[0] ** 2 - t[1] ** 2, resolution=30)))  # below 0
    np.testing.assert_allclose(steps, steps[0])
    np.testing.assert_allclose(heights(plot_loss_surface(bowl, levels=[1, 2, 5], log=False)), [1, 2, 5])


def test_paths_are_drawn_with_start_and_end():
    paths = {"one": np.array([[1, 1], [0.5, 0.2], [0, 0.1]]), "two": [[-1, 1], [0, 0]]}
    ax = plot_loss_surface(bowl, paths=paths, resolution=10)
    assert labels(ax) == ["one", "two"]
    lines = [a.get_xydata().tolist() for a in ax.lines]
    markers = [a.get_marker() for a in ax.lines]
    for path in paths.values():
        path = np.asarray(path, dtype=float).tolist()
        assert path in lines
        assert [path[0]] in [xy for xy, marker in zip(lines, markers) if marker == "o"]
        assert [path[-1]] in [xy for xy, marker in zip(lines, markers) if marker == "*"]
    assert len({a.get_linestyle() for a in ax.lines if a.get_label() in paths}) == 2
    assert plot_loss_surface(bowl, paths=paths["one"], resolution=10).get_legend() is None


def test_a_path_that_diverges_ends_where_the_numbers_end():
    ax = plot_loss_surface(bowl, paths={"lost": [[1, 1], [0, 1], [np.inf, 0], [0, 0]]}, resolution=10)
    assert ax.lines[0].get_xydata().tolist() == [[1, 1], [0, 1]]


@pytest.mark.parametrize("f", [lambda t: 0 * t[0], lambda t: 0 * t[0] + 3, lambda t: np.where(t[0] > 0, np.nan, bowl(t)),
                               lambda t: 1e6 + bowl(t), lambda t: 1e-9 * bowl(t)])
@pytest.mark.parametrize("log", [True, False])
def test_odd_surfaces_draw(f, log):
    plot_loss_surface(f, resolution=12, log=log).figure.canvas.draw()


@pytest.mark.parametrize("change, parts", [
    (dict(f=lambda t: t), ["one number", "(2,)", "an array (2,)"]),
    (dict(f=lambda t: np.nan), ["not finite anywhere"]),
    (dict(paths={"sgd": np.zeros((5, 3))}), ["'sgd'", "(steps + 1, 2)", "(5, 3)"]),
    (dict(paths={"sgd": np.zeros(2)}), ["'sgd'", "(2,)"]),
    (dict(x_range=(1, -1)), ["x_range", "from 1 to -1"]),
])
def test_surface_mistakes(change, parts):
    with pytest.raises(ValueError, match=says("plot_loss_surface", *parts)):
        plot_loss_surface(**(dict(f=bowl, resolution=10) | change))
    assert not plt.get_fignums()


# ---------------------------------------------------------------- the network and the graph

def circles(ax): return [len(c.get_offsets()) for c in ax.collections if isinstance(c, PathCollection) and c.get_sizes()[0] > 100]


def test_network_shows_shapes_units_and_connections():
    ax = plot_network([3, 4, 2])
    assert circles(ax) == [3, 4, 2]
    assert [len(c.get_segments()) for c in ax.collections if isinstance(c, LineCollection)] == [12, 8]
    assert {"w (3, 4)\nb (4,)", "w (4, 2)\nb (2,)", "input\n3 units", "hidden\n4 units", "output\n2 units"} <= set(texts(ax))


def test_large_layers_get_an_ellipsis():
    ax = plot_network([784, 8, 9, 1], max_units=8)
    assert circles(ax) == [7, 8, 7, 1]
    assert len([c for c in ax.collections if isinstance(c, PathCollection) and c.get_sizes()[0] < 100]) == 2
    assert {"w (784, 8)\nb (8,)", "hidden 2\n9 units", "output\n1 unit"} <= set(texts(ax))
    assert circles(plot_network([5, 4], max_units=4)) == [3, 4]


def test_weights_give_sign_and_size():
    w = np.array([[1.0, -2.0], [0.0, 4.0]])
    ax = plot_network([2, 2], weights=[w])
    drawn = next(c for c in ax.collections if isinstance(c, LineCollection))
    widths, colors = drawn.get_linewidths(), drawn.get_colors()
    assert np.argsort(widths).tolist() == np.argsort(np.abs(w).ravel()).tolist()
    assert [tuple(c) == to_rgba(COLORS[0]) for c in colors] == [True, False, True, True]


def test_weights_of_a_shortened_layer_are_those_of_the_units_drawn():
    w = np.arange(10.0)[:, None] + 1
    drawn = next(c for c in plot_network([10, 1], weights=[w], max_units=5).collections if isinstance(c, LineCollection))
    np.testing.assert_allclose((np.array(drawn.get_linewidths()) - 0.3) / 3.2 * 10, [1, 2, 9, 10])


@pytest.mark.parametrize("sizes, options, parts", [
    ([4], {}, ["two or more", "[4]"]),
    ([4, 0], {}, ["positive", "[4, 0]"]),
    ([4, 2], {"labels": ["a"]}, ["2 layers need 2 labels", "1"]),
    ([4, 2], {"weights": [np.zeros((2, 4))]}, ["[(4, 2)]", "[(2, 4)]"]),
    ([4, 2], {"max_units": 2}, ["max_units must be 3 or more", "2"]),
])
def test_network_mistakes(sizes, options, parts):
    with pytest.raises(ValueError, match=says("plot_network", *parts)): plot_network(sizes, **options)


def boxes(ax):
    return [p.get_bbox() for p in ax.patches if isinstance(p, FancyBboxPatch)]


def arrows(ax): return [p for p in ax.patches if isinstance(p, FancyArrowPatch)]


def test_graph_shows_label_value_and_gradient():
    ax = plot_graph(NODES)
    assert texts(ax) == ["x", "value 2", "grad −4", "w", "value −3", "product", "value −6", "grad 1.5"]
    assert len(arrows(ax)) == 2


def test_graph_writes_arrays_short():
    ax = plot_graph([("w", (), np.zeros((64, 32)), np.array([1.0, -2.5])), ("n", (0,), "many", np.float32(0.5))])
    assert texts(ax) == ["w", "value (64, 32)", "grad [1, −2.5]", "n", "value many", "grad 0.5"]


def random_graph(seed, n):
    rng = np.random.default_rng(seed)
    inputs = [rng.integers(0, i, rng.integers(0, 4)).tolist() if i else [] for i in range(n)]
    return [(f"node {i}", js, float(rng.normal()), float(rng.normal())) for i, js in enumerate(inputs)]


@pytest.mark.parametrize("nodes", [NODES, [("alone",)], [("a",), ("b", [0, 0]), ("c", [1, 1]), ("d", [0, 2])],
                                   *(random_graph(seed, n) for seed, n in enumerate((5, 10, 20, 40)))])
def test_graph_goes_left_to_right_without_overlap(nodes):
    ax = plot_graph(nodes)
    places = boxes(ax)
    assert len(places) == len(nodes)
    for i, a in enumerate(places):
        for b in places[:i]: assert a.x1 < b.x0 or b.x1 < a.x0 or a.y1 < b.y0 or b.y1 < a.y0
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    assert all(left < p.x0 and p.x1 < right and low < p.y0 and p.y1 < high for p in places)
    inputs = [(i, j) for i, node in enumerate(nodes) for j in ((node.get("inputs") if isinstance(node, dict) else (*node, [])[1]) or [])]
    assert len(arrows(ax)) == len(inputs)
    for i, j in inputs: assert places[j].x1 < places[i].x0
    for arrow in arrows(ax):  # no arrow runs through a box
        line = arrow._path_original.interpolated(40).vertices if hasattr(arrow, "_path_original") else arrow.get_path().vertices
        inside = [(p.x0 + 0.02 < a < p.x1 - 0.02) and (p.y0 + 0.02 < b < p.y1 - 0.02) for a, b in line for p in places]
        assert not any(inside)


def test_graph_texts_fit_their_boxes():
    ax = plot_graph([("cross_entropy", [], np.zeros((128, 784)), np.zeros((128, 784))), ("WWWWMMMM", [0], -1.234e-5, 1e10)])
    ax.figure.canvas.draw()
    for box, lines in zip(boxes(ax), (ax.texts[:3], ax.texts[3:])):
        for text in lines:
            extent = text.get_window_extent().transformed(ax.transData.inverted())
            assert box.x0 <= extent.x0 and extent.x1 <= box.x1 and box.y0 <= extent.y0 and extent.y1 <= box.y1, text.get_text()


@pytest.mark.parametrize("nodes, parts", [
    ([], ["no nodes"]),
    ([("a", [0])], ["node 0 (a)", "input 0"]),
    ([("a",), ("b", [5])], ["node 1 (b)", "input 5", "0 to 0"]),
    ([("a", [], 1, 2, 3)], ["node 0", "(label, inputs, value, gradient)"]),
    (["a"], ["node 0", "'a'"]),
    ([{"label": "a", "grad": 1}], ["node 0", "'grad'", "gradient"]),
])
def test_graph_mistakes(nodes, parts):
    with pytest.raises(ValueError, match=says("plot_graph", *parts)): plot_graph(nodes)


# ---------------------------------------------------------------- curves

def test_history_has_the_numbers_from_epoch_one():
    losses, metrics = plot_history(HISTORY)
    assert losses.lines[0].get_xdata().tolist() == [1, 2, 3, 4]
    assert losses.lines[0].get_ydata().tolist() == HISTORY["train_loss"]
    assert losses.lines[1].get_ydata().tolist() == HISTORY["valid_loss"]
    assert losses.lines[0].get_linestyle() != losses.lines[1].get_linestyle()
    assert losses.lines[2].get_xydata().tolist() == [[3, 0.9]] and "best: 0.9 at epoch 3" in labels(losses)
    assert metrics.lines[0].get_ydata().tolist() == HISTORY["metrics"]["accuracy"]["train"]
    assert metrics.lines[1].get_ydata().tolist() == HISTORY["metrics"]["accuracy"]["valid"]
    assert metrics.get_ylabel() == "accuracy" and labels(metrics) == ["training", "validation"]


def test_history_with_less_in_it():
    (ax,) = plot_history({"train_loss": [1.0]})
    assert ax.lines[0].get_marker() == "." and labels(ax) == ["training"]
    no_metrics = {"accuracy": {"train": [], "valid": []}}
    (ax,) = plot_history({"train_loss": np.array([1.0, 0.5]), "valid_loss": [], "metrics": no_metrics}, log=True)
    assert ax.get_yscale() == "log"
    (ax,) = plot_history({"train_loss": [1.0, 0.5, np.nan], "valid_loss": [np.nan, 2.0], "metrics": None})
    assert "best: 2 at epoch 2" in labels(ax)


def test_history_of_several_metrics_and_one_axes():
    history = HISTORY | {"metrics": {"accuracy": HISTORY["metrics"]["accuracy"], "top 3": {"train": [0.5, 0.6, 0.7, 0.8]}}}
    metrics = plot_history(history)[1]
    assert labels(metrics) == ["accuracy, training", "accuracy, validation", "top 3, training"]
    _, ax = plt.subplots()
    (drawn,) = plot_history(history, ax)
    assert drawn is ax


def test_history_mistakes():
    with pytest.raises(ValueError, match=says("plot_history", "needs train_loss", "loss")): plot_history({"loss": [1]})
    with pytest.raises(TypeError, match=says("plot_history", "to_dict()", "list")): plot_history([1.0, 0.5])
    with pytest.raises(ValueError, match=says("plot_history", "is empty")): plot_history({"train_loss": [], "valid_loss": []})


def test_schedules_are_asked_at_each_step():
    ax = plot_schedule({"half": lambda step: 0.5**step, "constant": 0.1}, 4)
    assert ax.lines[0].get_xdata().tolist() == [0, 1, 2, 3]
    assert ax.lines[0].get_ydata().tolist() == [1, 0.5, 0.25, 0.125]
    assert ax.lines[1].get_ydata().tolist() == [0.1] * 4
    assert labels(ax) == ["half", "constant"]
    assert plot_schedule(lambda step: step, 3).get_legend() is None
    with pytest.raises(ValueError, match=says("plot_schedule", "at least 1, not 0")): plot_schedule(0.1, 0)


def test_learning_rates_are_drawn_where_there_is_a_loss():
    ax = plot_learning_rates([0.001, 0.01, 0.1, 1, 10], [3, 2, 1, 5, np.inf])
    assert ax.lines[0].get_xydata().tolist() == [[0.001, 3], [0.01, 2], [0.1, 1], [1, 5]]
    assert ax.lines[1].get_xydata().tolist() == [[0.1, 1]] and ax.lines[2].get_xdata() == pytest.approx([0.01, 0.01])
    assert ax.get_xscale() == "log"


@pytest.mark.parametrize("rates, losses, parts", [
    ([1, 2], [1], ["2 rates and 1 losses"]),
    ([0, 1], [1, 2], ["above 0", "0.0"]),
    ([1, 2], [np.nan, np.inf], ["no loss is finite"]),
    ([], [], ["rates is empty"]),
])
def test_learning_rate_mistakes(rates, losses, parts):
    with pytest.raises(ValueError, match=says("plot_learning_rates", *parts)): plot_learning_rates(rates, losses)


def test_activations_show_the_function_and_its_slope():
    functions = {"sin": np.sin, "square": np.square, "step": lambda z: 1.0 * (z > 0)}
    axes = plot_activations(functions, slopes={"square": lambda z: 2 * z}, columns=2)
    sin, square, step = axes
    z = sin.lines[1].get_xdata()
    np.testing.assert_allclose(sin.lines[1].get_ydata(), np.sin(z))
    np.testing.assert_allclose(sin.lines[2].get_ydata(), np.cos(z), atol=1e-6)
    np.testing.assert_array_equal(square.lines[2].get_ydata(), 2 * z)
    assert [a.get_title() for a in axes] == ["sin", "square", "step"]
    shaded = square.collections[0].get_paths()[0].vertices[:, 0]
    assert -0.03 < shaded.min() < 0 < shaded.max() < 0.03
    with pytest.raises(TypeError, match=says("plot_activations", "dict")): plot_activations([np.tanh])
    with pytest.raises(ValueError, match=says("plot_activations", "'cos'", "'sin'")): plot_activations({"sin": np.sin}, {"cos": np.sin})


def test_histograms_share_their_axes_and_count_everything():
    a, b = np.linspace(-1, 1, 100).reshape(10, 10), np.array([3.0, 3.0, 3.0, np.nan])
    left, right = plot_histograms({"wide": a, "lost": b}, bins=8)
    assert left.get_xlim() == right.get_xlim() and left.get_ylim() == right.get_ylim()
    assert np.isclose(sum(p.get_height() for p in left.patches), 100)
    assert np.isclose(sum(p.get_height() for p in right.patches), 75)
    assert "std 0.58" in left.get_title() and "1 of 4\nnot finite" in right.get_title()
    plot_histograms([np.zeros(5)])  # all in one place
    plot_histograms([np.full(5, np.nan)])  # nowhere
    with pytest.raises(ValueError, match=says("plot_histograms", "no layers")): plot_histograms([])
    with pytest.raises(ValueError, match=says("plot_histograms", "layer 2 is empty")): plot_histograms([[1], []])


# ---------------------------------------------------------------- images and the confusion matrix

@pytest.mark.parametrize("shape, size, given", [((3, 64), (8, 8), None), ((3, 784), (28, 28), None), ((3, 5, 7), (5, 7), None),
                                                ((3, 12), (3, 4), (3, 4))])
def test_images_have_their_pixels_and_one_scale(shape, size, given):
    images = np.random.default_rng(0).normal(size=shape) * np.array([1, 2, 3]).reshape(-1, *[1] * (len(shape) - 1))
    axes = plot_images(images, shape=given, columns=2)
    assert axes.shape == (3,)
    for ax, image in zip(axes, images):
        np.testing.assert_array_equal(ax.images[0].get_array(), image.reshape(size))
        assert ax.images[0].get_clim() == (images.min(), images.max())


def test_images_of_both_signs_have_zero_in_the_middle():
    axes = plot_images([[0.0, 1.0, 2.0, -4.0], [0, 0, 0, 0]], diverging=True)
    assert {ax.images[0].get_clim() for ax in axes} == {(-4, 4)}
    assert np.allclose(axes[0].images[0].cmap(0.5)[:3], 1, atol=0.02)
    assert plot_images(np.zeros((1, 4)), diverging=True)[0].images[0].get_clim() == (-1, 1)
    assert plot_images(np.ones((1, 4)), limits=(0, 16))[0].images[0].get_clim() == (0, 16)


def test_wrong_images_stand_out_without_colour():
    right, wrong = plot_images(np.eye(4).reshape(2, 8), ["1", "7, is 1"], shape=(2, 4), wrong=[False, True])
    assert right.title.get_weight() == "normal" and wrong.title.get_weight() == "bold"
    assert wrong.spines["top"].get_linewidth() > right.spines["top"].get_linewidth()


@pytest.mark.parametrize("images, options, parts", [
    (np.zeros((2, 10)), {}, ["10 pixels make no square", "shape=(h, w)"]),
    (np.zeros((2, 10)), {"shape": (3, 4)}, ["(3, 4) has 12 pixels", "10"]),
    (np.zeros(64), {}, ["(n, pixels) or (n, h, w)", "(64,)"]),
    (np.zeros((2, 4)), {"titles": ["a"]}, ["2 images need 2", "titles", "1"]),
    (np.zeros((2, 4)), {"wrong": [True] * 3}, ["2 images need 2", "wrong", "3"]),
    (np.zeros((0, 4)), {}, ["empty", "(0, 4)"]),
])
def test_image_mistakes(images, options, parts):
    with pytest.raises(ValueError, match=says("plot_images", *parts)): plot_images(images, **options)
    assert not plt.get_fignums()


def test_too_few_axes():
    _, ax = plt.subplots()
    with pytest.raises(ValueError, match=says("plot_images", "2 images need 2 axes, but 1")): plot_images(np.zeros((2, 4)), axes=ax)
    with pytest.raises(ValueError, match=says("plot_histograms", "2 layers need 2 axes, but 1")): plot_histograms([[1], [2]], axes=ax)


def test_confusion_matrix_has_every_count_in_its_cell():
    matrix = np.array([[50, 2, 0], [1, 3, 0], [0, 0, 1000]])
    ax = plot_confusion_matrix(matrix, labels=["cat", "dog", "zebra"])
    assert {(int(t.get_position()[1]), int(t.get_position()[0])): t.get_text() for t in ax.texts} == {
        place: str(count) for place, count in np.ndenumerate(matrix)}
    np.testing.assert_allclose(ax.images[0].get_array(), matrix / matrix.sum(axis=1, keepdims=True))
    assert [t.get_text() for t in ax.get_xticklabels()] == ["cat", "dog", "zebra"]
    assert ax.get_ylabel() == "true class" and ax.get_xlabel() == "predicted class"


def test_counts_contrast_with_their_cells():
    "The contrast of each number with its cell is at least 4.5 to 1 (WCAG 2.1 AA), for every share there is."
    def light(rgb): return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]
    for share in range(0, 101):
        ax = plot_confusion_matrix([[share, 100 - share], [0, 1]])
        image = ax.images[0]
        cells = image.cmap(image.norm(image.get_array()))[..., :3]
        for t in ax.texts:
            j, i = t.get_position()
            a, b = sorted([light(cells[i, j]), light(np.array(to_rgb(t.get_color())))])
            assert (b + 0.05) / (a + 0.05) >= 4.5, (share, t.get_text())
        plt.close("all")


@pytest.mark.parametrize("matrix, options, parts", [
    ([[1, 2, 3], [4, 5, 6]], {}, ["square", "(2, 3)"]),
    ([1, 2], {}, ["2 dimensions", "(2,)"]),
    ([[1, -2], [0, 1]], {}, ["negative", "-2"]),
    ([[1, 2], [0, 1]], {"labels": "abc"}, ["2 classes need 2 labels", "3"]),
])
def test_confusion_mistakes(matrix, options, parts):
    with pytest.raises(ValueError, match=says("plot_confusion_matrix", *parts)): plot_confusion_matrix(matrix, **options)


def test_an_empty_class_is_drawn():
    plot_confusion_matrix([[0, 0], [1, 0.5]])


# ---------------------------------------------------------------- the film

def film(n): return [(f"step {k}", lambda p, k=k: (k + 1) * line(p)) for k in range(n)]


def test_the_gif_has_as_many_frames_as_were_asked(tmp_path):
    x, y = corners()
    path = animate_boundary(film(5), x, y, tmp_path / "film.gif", fps=4, resolution=20)
    with Image.open(path) as gif:
        assert gif.format == "GIF" and gif.n_frames == 5 and gif.info["duration"] == 250
    assert path == tmp_path / "film.gif" and path.stat().st_size < 200_000
    assert not plt.get_fignums()


def test_frames_may_be_scores_on_the_grid(tmp_path):
    x, y = corners()
    grid = boundary_grid(x, 20)
    animate_boundary(film(2), x, y, tmp_path / "asked.gif", resolution=20)
    animate_boundary([(caption, predict(grid)) for caption, predict in film(2)], x, y, str(tmp_path / "scores.gif"), resolution=20)
    assert (tmp_path / "asked.gif").read_bytes() == (tmp_path / "scores.gif").read_bytes()


def test_html_stands_alone(tmp_path):
    path = animate_boundary(film(3), *corners(), tmp_path / "film.html", resolution=20)
    text = path.read_text(encoding="utf-8")
    assert text.count("data:image/png;base64") == 3
    assert [p.name for p in tmp_path.iterdir()] == ["film.html"]


def test_film_mistakes(tmp_path):
    x, y = corners()
    with pytest.raises(ValueError, match=says(".gif, .html or .mp4", "film.avi")): animate_boundary(film(1), x, y, tmp_path / "film.avi")
    with pytest.raises(ValueError, match=says("no frames")): animate_boundary([], x, y, tmp_path / "film.gif")
    with pytest.raises(ValueError, match=says("animate_boundary", "x has 4 points")):
        animate_boundary(film(1), x, y[:3], tmp_path / "film.gif")
    with pytest.raises(ValueError, match=says("animate_boundary", "400 points", "(3,)")):
        animate_boundary([("", np.zeros(3))], x, y, tmp_path / "film.gif", resolution=20)
    assert not list(tmp_path.iterdir())


def test_mp4_without_ffmpeg_says_so(tmp_path, monkeypatch):
    from matplotlib.animation import FFMpegWriter
    monkeypatch.setattr(FFMpegWriter, "isAvailable", classmethod(lambda cls: False))
    with pytest.raises(RuntimeError, match=says("ffmpeg", ".gif and .html")): animate_boundary(film(1), *corners(), tmp_path / "film.mp4")


# ---------------------------------------------------------------- names stay text, grids keep their points

ODD = ["$10_$20", "a$^", "_under", "\\frac", "100%"]
NAMED = {
    "plot_loss_surface": lambda n: plot_loss_surface(bowl, paths={n: [[1, 1], [0, 0]], "b": [[1, 0], [0, 0]]}, resolution=8),
    "plot_network": lambda n: plot_network([2, 1], labels=[n, n]),
    "plot_graph": lambda n: plot_graph([(n, [], 1.0)]),
    "plot_history": lambda n: plot_history({"train_loss": [1.0, 0.5], "metrics": {n: {"train": [0.1, 0.2]}}}),
    "plot_history of two": lambda n: plot_history({"train_loss": [1.0], "metrics": {n: {"train": [0.1]}, "b": {"train": [1]}}}),
    "plot_schedule": lambda n: plot_schedule({n: 0.1, "b": 0.2}, 3),
    "plot_activations": lambda n: plot_activations({n: np.tanh}),
    "plot_histograms": lambda n: plot_histograms({n: np.arange(9.0)}),
    "plot_images": lambda n: plot_images(np.arange(8).reshape(2, 4), [n, n]),
    "plot_confusion_matrix": lambda n: plot_confusion_matrix([[3, 1], [0, 5]], labels=[n, "b"]),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("plot", NAMED)
def test_names_reach_the_picture_as_they_are(plot, name, recwarn):
    figure = np.atleast_1d(NAMED[plot](name))[0].figure
    figure.canvas.draw()
    found = [text for text in figure.findobj(matplotlib.text.Text) if name in text.get_text()]
    assert found, [text.get_text() for text in figure.findobj(matplotlib.text.Text)]
    assert all(not text.get_parse_math() for text in found if "$" in name)
    assert not recwarn.list


@pytest.mark.parametrize("low, reach", [(1.7e9, 11), (1.7e9, 0.5), (-3e7, 4), (1e12, 100)])
def test_a_grid_far_from_0_keeps_its_points(low, reach):
    x = low + reach * np.random.default_rng(0).random((30, 2))
    grid = boundary_grid(x, 200)
    assert grid.dtype == np.float64 and len(np.unique(grid, axis=0)) == 200 * 200
    y = (x[:, 0] > low + reach / 2).astype(int)
    ax = plot_decision_boundary(lambda p: p[:, 0] - low - reach / 2, x, y, resolution=50)
    np.testing.assert_array_equal(winners(ax, 2)[0], boundary_grid(x, 50)[:50, 0] > low + reach / 2)
    ax.figure.canvas.draw()


def test_a_legend_hides_no_point():
    corner = np.array([[1, 1], [0, 1], [1, 0], [0, 0], [0.5, 0.5]])
    free = plot_decision_boundary(line, corner[[1, 2, 3, 4]], [0, 1, 0, 1], resolution=10)  # the upper right is free
    taken = plot_decision_boundary(line, corner, [0, 1, 0, 1, 0], resolution=10)
    for ax, points in ((free, corner[1:]), (taken, corner)):
        ax.figure.canvas.draw()
        box = ax.get_legend().get_window_extent()
        assert not any(box.contains(*ax.transData.transform(p)) for p in points)
