"""Tests of the data chapter: toy sets, the digits, IDX files and the download, splitting, standardising."""

import copy
import functools
import gzip
import hashlib
import http.server
import pickle
import re
import struct
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import nn_from_scratch
from nn_from_scratch.data import (
    Standardize,
    circles,
    load_digits,
    load_mnist,
    mnist,
    moons,
    read_idx,
    regression,
    spiral,
    train_valid_split,
    xor,
)

TOYS = [moons, circles, spiral, xor, regression]
CLASSES = {moons: 2, circles: 2, spiral: 2, xor: 2}
NAMES = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]


def says(*parts):
    "A pattern for `pytest.raises`: these texts, in this order."
    return "(?s)" + ".*".join(re.escape(str(part)) for part in parts)


# ---------------------------------------------------------------- toys


@pytest.mark.parametrize("toy", TOYS)
def test_toys_have_the_shapes_and_types_of_the_book(toy):
    x, y = toy(101, 0.1, 0)
    assert x.dtype == np.float32 and len(x) == len(y) == 101
    if toy is regression:
        assert x.shape == y.shape == (101, 1) and y.dtype == np.float32
    else:
        assert x.shape == (101, 2) and y.shape == (101,) and y.dtype == np.int64
        counts = np.bincount(y)
        assert len(counts) == CLASSES[toy] and np.ptp(counts) <= 1


@pytest.mark.parametrize("toy", TOYS)
def test_toys_draw_from_the_given_rng_and_nothing_else(toy):
    np.random.seed(0)  # noqa: NPY002  the global seed must not matter, nor be moved
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, second, other = toy(50, 0.1, 7), toy(50, 0.1, np.random.default_rng(7)), toy(50, 0.1, 8)
    assert all(np.array_equal(a, b) for a, b in zip(first, second))
    assert not np.array_equal(first[0], other[0])
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    generator = np.random.default_rng(7)
    assert not np.array_equal(toy(50, 0.1, generator)[0], toy(50, 0.1, generator)[0])  # one already under way goes on


@pytest.mark.parametrize("toy", TOYS)
def test_toys_have_defaults(toy):
    x, y = toy()
    assert len(x) >= 100 and np.isfinite(x).all() and np.isfinite(y).all()


def test_without_noise_the_points_lie_on_their_curves():
    x, y = moons(500, 0, 1)
    upper = x[y == 0]
    lower = np.array([1, 0.5], dtype=np.float32) - x[y == 1]
    for arc in (upper, lower):
        np.testing.assert_allclose(np.hypot(*arc.T), 1, atol=1e-6)
        assert (arc[:, 1] >= 0).all() and np.ptp(arc[:, 0]) > 1.9
    x, y = circles(500, 0, 1)
    np.testing.assert_allclose(np.hypot(*x.T), np.where(y == 0, 1, 0.4), atol=1e-6)
    x, y = spiral(600, 0, 1, classes=3)
    radius, angle = np.hypot(*x.T), np.arctan2(x[:, 1], x[:, 0])
    turn = (radius - 0.2) / 1.8 + y / 3  # how far round the arm has come, in turns
    np.testing.assert_allclose(np.exp(1j * angle), np.exp(2j * np.pi * turn), atol=1e-5)
    assert set(np.unique(y)) == {0, 1, 2}
    x, y = xor(400, 0, 1)
    np.testing.assert_array_equal(y, x[:, 0] != x[:, 1])
    assert len(np.unique(x, axis=0)) == 4
    x, y = regression(500, 0, 1)
    np.testing.assert_allclose(y, np.sin(x), atol=1e-6)
    assert x.min() < -3 and x.max() > 3 and np.abs(x).max() <= np.float32(np.pi)


@pytest.mark.parametrize("noise", [0.05, 0.3])
def test_noise_is_the_standard_deviation(noise):
    x, y = regression(20_000, noise, 1)
    assert abs(np.std(y - np.sin(x)) / noise - 1) < 0.03
    clean, noisy = xor(20_000, 0, 1)[0], xor(20_000, noise, 1)[0]
    assert abs(np.std(noisy - clean) / noise - 1) < 0.03


def test_toys_come_shuffled():
    for toy in CLASSES:
        _, y = toy(1000, 0.1, 0)
        assert 0.35 < y[::2].mean() < 0.65 and 0.35 < y[:500].mean() < 0.65 and (y[1:] != y[:-1]).mean() < 0.7


def test_xor_of_four_points_is_the_truth_table():
    x, y = xor(4, 0, 3)
    assert {(*row, label) for row, label in zip(x.tolist(), y.tolist())} == {(0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0)}


@pytest.mark.parametrize("toy", TOYS)
@pytest.mark.parametrize(
    ("arguments", "error", "parts"),
    [
        (dict(n=0), ValueError, ["n is 0"]),
        (dict(n=-3), ValueError, ["n is -3"]),
        (dict(n=10.0), TypeError, ["n is 10.0", "whole number"]),
        (dict(n="many"), TypeError, ["n is 'many'"]),
        (dict(noise=-0.1), ValueError, ["noise is -0.1", "0 or more"]),
        (dict(noise=float("nan")), ValueError, ["noise is nan"]),
        (dict(noise=float("inf")), ValueError, ["noise is inf"]),
        (dict(noise="loud"), TypeError, ["noise is 'loud'"]),
        (dict(rng=None), TypeError, ["rng is None", "Generator"]),
        (dict(rng=1.5), TypeError, ["rng is 1.5"]),
        (dict(rng=-1), ValueError, ["rng is -1", "0 or more"]),
        (dict(rng=np.random.RandomState(0)), TypeError, ["rng is", "np.random.Generator"]),
    ],
)
def test_toys_answer_a_wrong_argument_with_its_name_and_value(toy, arguments, error, parts):
    with pytest.raises(error, match=says(f"{toy.__name__}:", *parts)):
        toy(**arguments)


def test_too_few_points_for_the_classes():
    with pytest.raises(ValueError, match=says("xor: n is 3; pass 4 or more")):
        xor(3)
    with pytest.raises(ValueError, match=says("spiral: n is 4; pass 5 or more")):
        spiral(4, classes=5)
    with pytest.raises(ValueError, match=says("spiral: classes is 0")):
        spiral(classes=0)
    with pytest.raises(ValueError, match=says("spiral: classes is 2.5")):
        spiral(classes=2.5)


# ---------------------------------------------------------------- digits


def test_digits_are_scikit_learns():
    theirs = pytest.importorskip("sklearn.datasets").load_digits()
    x, y = load_digits()
    assert x.shape == (1797, 64) and x.dtype == np.float32 and x.min() == 0 and x.max() == 1
    assert y.shape == (1797,) and y.dtype == np.int64
    np.testing.assert_array_equal(x, (theirs.data / 16).astype(np.float32))
    np.testing.assert_array_equal(y, theirs.target)


def test_digits_can_be_written_to_and_are_fresh_each_time():
    x, _ = load_digits()
    x[:] = 0
    assert load_digits()[0].max() == 1


def test_the_digits_source_is_named_beside_the_file():
    notice = (Path(nn_from_scratch.__file__).parent / "digits.NOTICE.txt").read_text(encoding="utf-8")
    for text in (notice, load_digits.__doc__):
        assert "Alpaydin" in text and "Kaynak" in text and "CC BY 4.0" in text and "10.24432/C50P49" in text


def test_the_digits_file_is_what_its_script_makes(tmp_path):
    pytest.importorskip("sklearn")
    script = Path(__file__).parents[1] / "tools" / "make_digits.py"
    source = script.read_text(encoding="utf-8")
    made = tmp_path / "digits.npz"
    code = source.replace('Path(__file__).parents[1] / "nn_from_scratch" / "digits.npz"', f"Path({str(made)!r})")
    assert code != source
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    ours, again = np.load(Path(nn_from_scratch.__file__).parent / "digits.npz"), np.load(made)
    assert set(ours) == set(again) == {"images", "labels"}
    for name in ours:
        assert ours[name].dtype == again[name].dtype == np.uint8
        np.testing.assert_array_equal(ours[name], again[name])


# ---------------------------------------------------------------- IDX files


def idx(array):
    "The bytes of an IDX file with this array of unsigned bytes."
    array = np.asarray(array, dtype=np.uint8)
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_mnist(folder, n_train=7, n_test=3, compress=False, seed=0):
    "Four small files as MNIST's; returns the arrays in them."
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for part, n in [("train", n_train), ("t10k", n_test)]:
        arrays[f"{part}-images-idx3-ubyte"] = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        arrays[f"{part}-labels-idx1-ubyte"] = rng.integers(0, 10, n, dtype=np.uint8)
    for name, array in arrays.items():
        if compress:
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
        else:
            (folder / name).write_bytes(idx(array))
    return arrays


def check_mnist(loaded, arrays):
    for part, (x, y) in zip(("train", "t10k"), loaded):
        images, labels = arrays[f"{part}-images-idx3-ubyte"], arrays[f"{part}-labels-idx1-ubyte"]
        assert x.dtype == np.float32 and y.dtype == np.int64
        np.testing.assert_allclose(x, images.reshape(len(images), 784) / 255, rtol=1e-6)
        np.testing.assert_array_equal(y, labels)


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 4), (2, 3, 4, 5), (0,), (0, 28, 28)])
@pytest.mark.parametrize("compress", [False, True])
def test_idx_round_trip(tmp_path, shape, compress):
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    path = tmp_path / ("a-idx.gz" if compress else "a-idx")
    path.write_bytes(gzip.compress(idx(array)) if compress else idx(array))
    found = read_idx(path)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, array)
    found += 1  # it can be written to
    np.testing.assert_array_equal(read_idx(str(path)), array)


def test_a_name_in_gz_that_is_not_compressed(tmp_path):
    (tmp_path / "a.gz").write_bytes(idx([1, 2, 3]))
    np.testing.assert_array_equal(read_idx(tmp_path / "a.gz"), [1, 2, 3])


GOOD = idx(np.arange(24).reshape(2, 3, 4))
SQUEEZED = gzip.compress(GOOD)
DAMAGED = {
    "empty": (b"", ["not an IDX file", "nothing"]),
    "one byte": (b"\0", ["not an IDX file", "begins with 00"]),
    "three bytes": (b"\0\0\x08", ["not an IDX file"]),
    "a web page": (b"<html>404", ["not an IDX file", "3c 68 74 6d", "00 00 08"]),
    "floats": (b"\0\0\x0d\x01" + GOOD[4:], ["unsigned bytes", "00 00 0d 01"]),
    "no axes": (b"\0\0\x08\0\x01", ["not an IDX file"]),
    "header cut": (GOOD[:10], ["cut short", "10 bytes", "header of 16"]),
    "body cut": (GOOD[:-1], ["cut short", "(2, 3, 4)", "24 bytes", "23"]),
    "only the header": (GOOD[:16], ["cut short", "24 bytes", "but 0"]),
    "too long": (GOOD + b"\0", ["too long", "24 bytes", "25"]),
    "giant header": (b"\0\0\x08\x03" + b"\xff" * 12 + GOOD[16:], ["cut short", "4294967295"]),
    "gzip cut": (SQUEEZED[:-12], ["compressed file", f"{len(SQUEEZED) - 12} bytes", "damaged or cut short"]),
    "gzip header cut": (SQUEEZED[:5], ["compressed file (5 bytes)", "damaged or cut short"]),
    "gzip checksum": (SQUEEZED[:-8] + b"\0\0\0\0" + SQUEEZED[-4:], ["damaged", "CRC"]),
    "gzip body": (SQUEEZED[:12] + b"\xff" * 8 + SQUEEZED[20:], ["damaged"]),
    "gzip then nothing": (b"\x1f\x8b", ["compressed file (2 bytes)"]),
    "gzip of a cut file": (gzip.compress(GOOD[:-5]), ["cut short", "24 bytes", "19"]),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_files_are_named_with_what_is_wrong(tmp_path, damage):
    content, parts = DAMAGED[damage]
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=says(path, *parts)):
        read_idx(path)


def test_a_missing_file_or_a_folder_in_its_place(tmp_path):
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(FileNotFoundError, match=says(path, "no such file")):
            read_idx(path)


# ---------------------------------------------------------------- MNIST from a folder


@pytest.fixture(autouse=True)
def no_data_folder(request, monkeypatch):
    "Only the tests of the real files see the environment variable."
    if "data_folder" not in request.fixturenames:
        monkeypatch.delenv("NN_FROM_SCRATCH_DATA", raising=False)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("inside", ["", "mnist"])
@pytest.mark.parametrize("how", ["argument", "text", "environment"])
def test_mnist_from_a_folder(tmp_path, monkeypatch, compress, inside, how):
    arrays = write_mnist(tmp_path / inside, compress=compress)
    if how == "environment":
        monkeypatch.setenv("NN_FROM_SCRATCH_DATA", str(tmp_path))
        check_mnist(load_mnist(), arrays)
    else:
        check_mnist(load_mnist(str(tmp_path) if how == "text" else tmp_path), arrays)


def test_the_argument_goes_before_the_environment(tmp_path, monkeypatch):
    write_mnist(tmp_path / "a", seed=1)
    arrays = write_mnist(tmp_path / "b", seed=2)
    monkeypatch.setenv("NN_FROM_SCRATCH_DATA", str(tmp_path / "a"))
    check_mnist(load_mnist(tmp_path / "b"), arrays)


def test_a_home_folder_is_expanded(tmp_path, monkeypatch):
    arrays = write_mnist(tmp_path / "sets")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    check_mnist(load_mnist("~/sets"), arrays)


def test_no_folder_and_no_files(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=says("no folder", tmp_path / "x", "argument folder")):
        load_mnist(tmp_path / "x")
    with pytest.raises(FileNotFoundError, match=says(tmp_path, tmp_path / "mnist", "argument folder", "train-images-idx3-ubyte.gz")):
        load_mnist(tmp_path)
    monkeypatch.setenv("NN_FROM_SCRATCH_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=says(tmp_path, "NN_FROM_SCRATCH_DATA")):
        load_mnist()


@pytest.mark.parametrize("name", NAMES)
def test_one_of_the_four_is_missing(tmp_path, name):
    write_mnist(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=says(tmp_path, name, f"{name}.gz")):
        load_mnist(tmp_path)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damage", ["body cut", "a web page", "gzip cut"])
def test_one_of_the_four_is_damaged(tmp_path, name, damage):
    write_mnist(tmp_path)
    content, parts = DAMAGED[damage]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=says(tmp_path / name, parts[0])):
        load_mnist(tmp_path)


@pytest.mark.parametrize(
    ("name", "array", "parts"),
    [
        ("train-labels-idx1-ubyte", [1] * 6, ["train-images-idx3-ubyte", "7 images", "train-labels-idx1-ubyte", "6 labels"]),
        ("t10k-images-idx3-ubyte", np.zeros((4, 28, 28)), ["t10k-images-idx3-ubyte", "4 images", "3 labels"]),
        ("train-images-idx3-ubyte", np.zeros((7, 32, 32)), ["train-images-idx3-ubyte", "(n, 28, 28)", "(7, 32, 32)"]),
        ("train-images-idx3-ubyte", [1] * 7, ["train-images-idx3-ubyte", "(n, 28, 28)", "(7,)"]),
        ("train-labels-idx1-ubyte", np.zeros((7, 28, 28)), ["train-labels-idx1-ubyte", "(n,)", "(7, 28, 28)"]),
        ("train-labels-idx1-ubyte", [0, 1, 2, 3, 47, 5, 6], ["train-labels-idx1-ubyte", "label 47 at position 4", "0 to 9"]),
    ],
)
def test_files_that_do_not_fit(tmp_path, name, array, parts):
    write_mnist(tmp_path)
    (tmp_path / name).write_bytes(idx(array))
    with pytest.raises(ValueError, match=says(*parts)):
        load_mnist(tmp_path)


def test_files_without_examples(tmp_path):
    write_mnist(tmp_path, n_test=0)
    with pytest.raises(ValueError, match=says("t10k-labels-idx1-ubyte", "no examples")):
        load_mnist(tmp_path)


def test_the_real_mnist(data_folder):
    if not (data_folder / "mnist").is_dir():
        pytest.skip(f"{data_folder} has no folder mnist")
    (x, y), (x_test, y_test) = load_mnist()
    assert x.shape == (60_000, 784) and x_test.shape == (10_000, 784)
    assert x.dtype == x_test.dtype == np.float32 and x.min() == 0 and x.max() == 1
    assert y[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4] and y_test[:5].tolist() == [7, 2, 1, 0, 4]
    assert np.bincount(y).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert abs(x.mean(dtype=np.float64) - 0.1307) < 1e-3 and abs(x.std(dtype=np.float64) - 0.3081) < 1e-3  # as published


def test_the_known_hashes_are_those_of_the_original_files(data_folder):
    for name in ("train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        path = data_folder / "mnist" / name
        if not path.is_file():
            pytest.skip(f"{path} is not there")
        assert hashlib.sha256(path.read_bytes()).hexdigest() == mnist.mnist_sha256[name]


# ---------------------------------------------------------------- the download, from servers on this machine


class Server(http.server.ThreadingHTTPServer):
    "Serves a folder and remembers which files were asked for."

    def __init__(self, folder):
        self.asked = []
        super().__init__(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path.lstrip("/"))
        super().do_GET()

    def log_message(self, *args):
        pass


@pytest.fixture
def serve(monkeypatch):
    servers = []
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def start(folder):
        servers.append(Server(folder))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    "A folder with four good files, whose hashes are the known ones here, and a cache of its own."
    pooch = pytest.importorskip("pooch")
    folder = tmp_path / "mirror"
    arrays = write_mnist(folder, compress=True)
    hashes = {f"{name}.gz": hashlib.sha256((folder / f"{name}.gz").read_bytes()).hexdigest() for name in NAMES}
    monkeypatch.setattr(mnist, "mnist_sha256", hashes)
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    return folder, arrays, tmp_path / "cache" / "nn_from_scratch" / "mnist"


def test_download_once_with_progress_and_keep(mirror, serve, monkeypatch, capfd):
    folder, arrays, cache = mirror
    server = serve(folder)
    monkeypatch.setattr(mnist, "_mirrors", (server.url,))
    check_mnist(load_mnist(), arrays)
    assert sorted(server.asked) == sorted(f"{name}.gz" for name in NAMES) == sorted(path.name for path in cache.iterdir())
    assert "100%" in capfd.readouterr().err
    check_mnist(load_mnist(), arrays)
    assert len(server.asked) == 4  # nothing was asked for again


def test_the_second_mirror_is_tried(mirror, serve, tmp_path, monkeypatch):
    folder, arrays, _ = mirror
    (tmp_path / "empty").mkdir()
    broken, good = serve(tmp_path / "empty"), serve(folder)
    monkeypatch.setattr(mnist, "_mirrors", (broken.url, good.url))
    check_mnist(load_mnist(), arrays)
    assert len(broken.asked) == len(good.asked) == 4


def test_a_mirror_that_is_down(mirror, serve, monkeypatch):
    folder, arrays, _ = mirror
    good, down = serve(folder), serve(folder)
    down.shutdown()
    down.server_close()
    monkeypatch.setattr(mnist, "_mirrors", (down.url, good.url))
    check_mnist(load_mnist(), arrays)


def test_a_file_with_the_wrong_hash_is_not_used(mirror, serve, tmp_path, monkeypatch):
    folder, arrays, cache = mirror
    write_mnist(tmp_path / "forged", compress=True, seed=9)
    forged, good = serve(tmp_path / "forged"), serve(folder)
    monkeypatch.setattr(mnist, "_mirrors", (forged.url, good.url))
    check_mnist(load_mnist(), arrays)
    monkeypatch.setattr(mnist, "_mirrors", (forged.url,))
    for path in cache.iterdir():
        path.unlink()
    with pytest.raises(ConnectionError, match=says("train-images-idx3-ubyte.gz", "NN_FROM_SCRATCH_DATA", forged.url, "hash")):
        load_mnist()
    assert not list(cache.iterdir())


def test_a_file_damaged_in_the_cache_is_fetched_again(mirror, serve, monkeypatch):
    folder, arrays, cache = mirror
    server = serve(folder)
    monkeypatch.setattr(mnist, "_mirrors", (server.url,))
    load_mnist()
    (cache / "t10k-labels-idx1-ubyte.gz").write_bytes(b"rubbish")
    check_mnist(load_mnist(), arrays)
    assert len(server.asked) == 5


def test_no_mirror_answers(mirror, serve, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    first, second = serve(tmp_path / "empty"), serve(tmp_path / "empty")
    monkeypatch.setattr(mnist, "_mirrors", (first.url, second.url))
    message = says("train-images-idx3-ubyte.gz could not be downloaded", "folder=", "NN_FROM_SCRATCH_DATA", first.url, "404", second.url)
    with pytest.raises(ConnectionError, match=message):
        load_mnist()


def test_without_pooch_the_error_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=says("pooch", "pip install pooch", "folder=", "NN_FROM_SCRATCH_DATA")):
        load_mnist()


def test_importing_data_brings_numpy_and_nothing_else():
    code = (
        "import sys, nn_from_scratch.data as d, ast, pathlib\n"
        "tree = ast.parse(pathlib.Path(d.__file__).read_text(encoding='utf-8'))\n"
        "names = {(n.module if isinstance(n, ast.ImportFrom) else a.name).split('.')[0] for n in tree.body"
        " if isinstance(n, ast.Import) or (isinstance(n, ast.ImportFrom) and n.level == 0) for a in n.names}\n"
        "assert not names - set(sys.stdlib_module_names) - {'numpy'}, names\n"
        "assert 'pooch' not in sys.modules and 'matplotlib' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---------------------------------------------------------------- splitting


def ids(n, classes=3, seed=0):
    "Examples that can be told apart, each with its number in x and a label that follows from it."
    rows = np.arange(n)
    return rows[:, None] * np.ones((1, 2), dtype=np.float32), np.random.default_rng(seed).permutation(rows % classes)


@pytest.mark.parametrize("stratify", [False, True])
@pytest.mark.parametrize(("n", "valid", "count"), [(100, 0.2, 20), (100, 20, 20), (101, 0.25, 25), (30, 0.5, 15), (12, 3, 3), (12, 9, 9)])
def test_a_split_is_a_partition_and_keeps_pairs_together(n, valid, count, stratify):
    x, y = ids(n)
    for seed in range(20):
        (x_train, y_train), (x_valid, y_valid) = train_valid_split(x, y, valid, seed, stratify)
        assert len(x_valid) == len(y_valid) == count and len(x_train) == len(y_train) == n - count
        assert sorted([*x_train[:, 0], *x_valid[:, 0]]) == list(range(n))
        for part, labels in ((x_train, y_train), (x_valid, y_valid)):
            np.testing.assert_array_equal(labels, y[part[:, 0].astype(int)])
        assert x_train.dtype == x.dtype and y_train.dtype == y.dtype


@pytest.mark.parametrize("stratify", [False, True])
def test_the_same_rng_gives_the_same_split(stratify):
    x, y = ids(60)

    def bits(rng):
        return [a.tobytes() for pair in train_valid_split(x, y, rng=rng, stratify=stratify) for a in pair]

    assert bits(3) == bits(3) == bits(np.random.default_rng(3)) == bits(np.int64(3))
    assert bits(3) != bits(4)


@pytest.mark.parametrize("stratify", [False, True])
def test_every_example_is_held_back_equally_often_and_in_every_place(stratify):
    x, y = ids(12, classes=2)
    splits = [train_valid_split(x, y, valid=4, rng=seed, stratify=stratify) for seed in range(3000)]
    held_out = np.bincount(np.concatenate([valid[0][:, 0] for _, valid in splits]).astype(int)) / 3000
    np.testing.assert_allclose(held_out, 4 / 12, atol=0.04)
    first = np.bincount(np.array([train[0][0, 0] for train, _ in splits]).astype(int), minlength=12) / 3000
    np.testing.assert_allclose(first, 1 / 12, atol=0.03)
    assert 0.4 < np.mean([valid[1][0] for _, valid in splits]) < 0.6  # not sorted by class


@pytest.mark.parametrize("sizes", [[90, 9, 3], [50, 50], [2, 2, 2, 94], [33, 33, 34], [190, 10]])
@pytest.mark.parametrize("valid", [0.1, 0.2, 0.37, 0.5])
def test_stratified_shares_are_in_proportion(sizes, valid):
    y = np.repeat(np.arange(len(sizes)), sizes)
    (_, y_train), (_, y_valid) = train_valid_split(y, y, valid, rng=1, stratify=True)
    assert len(y_valid) == round(valid * len(y))
    train, held_out = np.bincount(y_train), np.bincount(y_valid)
    assert (train >= 1).all() and (held_out >= 1).all()
    exact = np.array(sizes) * valid
    assert (np.abs(held_out - exact) <= 1 + (exact < 1).sum()).all()


def test_stratified_shares_are_scikit_learns_on_the_digits():
    selection = pytest.importorskip("sklearn.model_selection")
    x, y = load_digits()
    (_, ours), (_, valid) = train_valid_split(x, y, valid=360, rng=0, stratify=True)
    theirs, theirs_valid = selection.train_test_split(y, test_size=360, random_state=0, stratify=y)
    assert np.abs(np.bincount(valid) - np.bincount(theirs_valid)).max() <= 1
    assert np.abs(np.bincount(ours) - np.bincount(theirs)).max() <= 1


def test_stratify_takes_any_labels():
    y = np.array(["ham"] * 15 + ["spam"] * 5)
    _, (_, valid) = train_valid_split(np.arange(20), y, valid=4, stratify=True)
    assert sorted(valid) == ["ham"] * 3 + ["spam"]
    _, (_, valid) = train_valid_split(np.arange(20), y == "spam", valid=4, stratify=True)
    assert valid.sum() == 1


def test_splits_leave_their_input_alone_and_return_copies():
    x, y = ids(20)
    x_before, y_before = x.copy(), y.copy()
    for part in train_valid_split(x, y):
        for array in part:
            array[:] = 0
    np.testing.assert_array_equal(x, x_before)
    np.testing.assert_array_equal(y, y_before)


def test_splits_take_lists_images_and_columns_of_targets():
    (x_train, y_train), (x_valid, y_valid) = train_valid_split([[1, 2]] * 10, list(range(10)), valid=3)
    assert x_train.shape == (7, 2) and y_valid.shape == (3,)
    (x_train, y_train), _ = train_valid_split(np.zeros((10, 8, 8)), np.zeros((10, 1), np.float32))
    assert x_train.shape == (8, 8, 8) and y_train.shape == (8, 1)


@pytest.mark.parametrize(
    ("arguments", "error", "parts"),
    [
        (dict(y=np.zeros(9)), ValueError, ["(10, 2)", "(9,)"]),
        (dict(y=3), ValueError, ["(10, 2)", "y is ()"]),
        (dict(x=np.zeros((0, 2)), y=np.zeros(0)), ValueError, ["2 or more examples", "(0, 2)"]),
        (dict(x=np.zeros((1, 2)), y=np.zeros(1)), ValueError, ["2 or more examples", "(1, 2)"]),
        (dict(valid=0), ValueError, ["valid=0 of 10 examples"]),
        (dict(valid=10), ValueError, ["valid=10 of 10", "0 to train on"]),
        (dict(valid=-2), ValueError, ["valid=-2 of 10"]),
        (dict(valid=0.01), ValueError, ["valid=0.01 of 10", "0 to validate with"]),
        (dict(valid=0.99), ValueError, ["valid=0.99 of 10", "0 to train on"]),
        (dict(valid=0.0), ValueError, ["valid is 0.0", "between 0 and 1"]),
        (dict(valid=1.0), ValueError, ["valid is 1.0", "between 0 and 1"]),
        (dict(valid=2.0), ValueError, ["valid is 2.0", "whole number"]),
        (dict(valid=float("nan")), ValueError, ["valid is nan"]),
        (dict(valid="half"), TypeError, ["valid is 'half'", "fraction"]),
        (dict(valid=True), TypeError, ["valid is True"]),
        (dict(rng=None), TypeError, ["rng is None"]),
        (dict(y=np.zeros(10), stratify=True), TypeError, ["stratify needs class labels", "(10,) of float64"]),
        (dict(y=np.zeros((10, 1), int), stratify=True), TypeError, ["stratify needs class labels", "(10, 1)"]),
        (dict(y=[0] * 9 + [7], stratify=True), ValueError, ["2 or more examples of each class", "class 7 has 1"]),
        (dict(y=[0, 1, 2, 3, 4] * 2, valid=3, stratify=True), ValueError, ["5 classes", "7 examples to train on and 3 to validate"]),
        (dict(y=[0, 1, 2, 3, 4] * 2, valid=6, stratify=True), ValueError, ["5 classes", "4 examples to train on and 6 to validate"]),
    ],
)
def test_splits_answer_a_mistake_with_the_numbers(arguments, error, parts):
    with pytest.raises(error, match=says("train_valid_split:", *parts)):
        train_valid_split(**(dict(x=np.zeros((10, 2)), y=np.zeros(10, int)) | arguments))


# ---------------------------------------------------------------- Standardize


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_standardize_is_scikit_learns_scaler(dtype):
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((300, 5)) * [1, 10, 0.01, 1000, 0] + [0, 5, -3, 100, 7]).astype(dtype)
    new = (rng.standard_normal((50, 5)) * 3 + 1).astype(dtype)
    ours, theirs = Standardize(x), preprocessing.StandardScaler().fit(x.astype(np.float64))
    np.testing.assert_allclose(ours.mean, theirs.mean_, rtol=1e-12)
    np.testing.assert_allclose(ours.std, theirs.scale_, rtol=1e-12)
    tolerance = dict(rtol=1e-9, atol=1e-9) if dtype == np.float64 else dict(rtol=1e-4, atol=1e-4)
    for values in (x, new):
        z = ours(values)
        assert z.dtype == dtype and z.shape == values.shape
        np.testing.assert_allclose(z, theirs.transform(values.astype(np.float64)), **tolerance)
        np.testing.assert_allclose(ours.inverse(z), values, **tolerance)


def test_standardize_uses_the_training_data_only():
    x_train, x_valid = np.array([[0.0], [2.0]]), np.array([[10.0], [12.0]])
    standardize = Standardize(x_train)
    np.testing.assert_array_equal(standardize(x_valid), [[9], [11]])
    x_train[:] = 99  # what it learnt is its own
    np.testing.assert_array_equal(standardize(x_valid), [[9], [11]])


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e8, 0, -7])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_columns_survive(value, dtype):
    x = np.stack([np.full(1000, value), np.arange(1000)], axis=1).astype(dtype)
    standardize = Standardize(x)
    z = standardize(x)
    assert standardize.constant.tolist() == [True, False] and standardize.std[0] == 1
    assert (z[:, 0] == 0).all() and abs(z[:, 1].std() - 1) < 1e-5
    np.testing.assert_allclose(standardize.inverse(z), x, rtol=1e-6, atol=1e-4)
    other = standardize(np.array([[value + 2, 0]], dtype=dtype))  # another value is shifted, not scaled
    assert np.isfinite(other).all()


def test_a_spread_too_small_to_divide_by_counts_as_constant():
    assert np.isfinite(Standardize(np.array([[0.0], [1e-200]]))(np.array([[1.0]]))).all()


def test_the_mean_is_accumulated_in_float64():
    x = np.full((200_000, 1), 1000.1, dtype=np.float32)
    x[::2] += 1
    assert abs(Standardize(x).mean[0] - x.astype(np.float64).mean()) < 1e-9


def test_whole_numbers_images_and_single_examples():
    x = np.array([[0, 10], [2, 30]])
    standardize = Standardize(x)
    assert standardize(x).dtype == np.float32
    np.testing.assert_array_equal(standardize(x), [[-1, -1], [1, 1]])
    np.testing.assert_array_equal(standardize(x[0]), [-1, -1])
    np.testing.assert_array_equal(standardize([[0, 10]]), [[-1, -1]])
    assert Standardize(x > 5)(x > 5).dtype == np.float32
    large = np.array([[1_700_000_000], [1_700_000_002]])  # seconds: more digits than float32 has
    np.testing.assert_array_equal(Standardize(large)(large), [[-1], [1]])
    images = np.random.default_rng(0).random((20, 4, 3)).astype(np.float32)
    assert Standardize(images)(images).shape == (20, 4, 3)
    assert Standardize(images)(images[0]).shape == (4, 3)


def test_standardize_a_target_and_back():
    _, y = regression(100, rng=0)
    standardize = Standardize(y)
    np.testing.assert_allclose(standardize.inverse(standardize(y)), y, atol=1e-6)


def test_standardize_copies_and_pickles():
    x = np.random.default_rng(0).random((10, 3)).astype(np.float32)
    standardize = Standardize(x)
    for twin in (copy.deepcopy(standardize), pickle.loads(pickle.dumps(standardize))):
        assert twin(x).tobytes() == standardize(x).tobytes() and repr(twin) == repr(standardize)
        twin.mean[:] = 5
        assert not np.array_equal(twin(x), standardize(x))


def test_standardize_reads_well():
    x = np.random.default_rng(0).random((10, 3))
    assert repr(Standardize(x)) == "Standardize(3 features)"
    x[:, 1] = 4
    assert repr(Standardize(x)) == "Standardize(3 features, 1 of them constant)"
    assert repr(Standardize(x[:, :1])) == "Standardize(1 feature)"
    assert repr(Standardize(np.random.default_rng(0).random((10, 8, 8)))) == "Standardize(8 x 8 features)"


def test_what_cannot_be_standardised():
    x = np.random.default_rng(0).random((10, 3)).astype(np.float32)
    holes = x.copy()
    holes[4, 1] = np.nan
    standardize = Standardize(x)
    for call in (Standardize, standardize, standardize.inverse):
        with pytest.raises(ValueError, match=says("Standardize: x has nan in row 4, column 1", "1 such value in all")):
            call(holes)
    holes[2, 2] = np.inf
    with pytest.raises(ValueError, match=says("x has inf in row 2, column 2", "2 such values in all")):
        Standardize(holes)
    for call in (standardize, standardize.inverse):
        with pytest.raises(ValueError, match=says("x is (10, 2)", "features of shape (3,)")):
            call(x[:, :2])
    with pytest.raises(ValueError, match=says("x is (10,)", "x[:, None]")):
        Standardize(x[:, 0])
    with pytest.raises(ValueError, match=says("x is (0, 3)")):
        Standardize(x[:0])
    with pytest.raises(ValueError, match=says("x is (10, 0)")):
        Standardize(x[:, :0])
    for wrong in (np.array([["a"], ["b"]]), np.array([[None], [1]]), np.array([[1j], [2]])):
        with pytest.raises(TypeError, match=says("Standardize: x holds", "not numbers")):
            Standardize(wrong)


# ---------------------------------------------------------------- with the rest of the package


def test_a_weight_counts_as_repetitions():
    rng = np.random.default_rng(0)
    x, weight = rng.normal(5, 3, (40, 3)), rng.integers(0, 4, 40)
    weighted, repeated = Standardize(x, weight), Standardize(x.repeat(weight, axis=0))
    np.testing.assert_allclose(weighted.mean, repeated.mean, rtol=1e-12)
    np.testing.assert_allclose(weighted.std, repeated.std, rtol=1e-12)
    x[:, 1] = np.where(weight > 0, 7, x[:, 1])  # constant among the rows that count
    assert Standardize(x, weight).constant.tolist() == [False, True, False]
    for wrong in np.ones(39), -weight:
        with pytest.raises(ValueError, match=says("each of the 40 examples needs one weight of at least 0")):
            Standardize(x, wrong)
    with pytest.raises(ValueError, match=says("there is nothing to compute a mean of")):
        Standardize(x, np.zeros(40))


def test_standardize_is_a_layer():
    from nn_from_scratch import layers
    x, _ = load_digits()
    standardize, linear = Standardize(x), layers.Linear(64, 10, rng=0)
    model = layers.Sequential(standardize, linear)
    assert model(x[:5]).dtype == np.float32
    np.testing.assert_array_equal(model(x[:5]), linear(standardize(x[:5])))
    assert list(model.parameters()) == ["1.weight", "1.bias"]  # its mean and std are not trained
    assert "Standardize(64 features" in repr(model)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(twin(x[:5]), model(x[:5]))


def test_gradients_flow_through_standardize():
    from nn_from_scratch import gradients
    x = np.random.default_rng(0).random((6, 3))
    standardize = Standardize(x)
    gradient = gradients.grad(lambda a: (standardize(a) ** 2).sum())(x)
    np.testing.assert_allclose(gradient, 2 * (x - standardize.mean) / standardize.std**2, rtol=1e-9)


def test_a_split_goes_into_fit_as_it_is():
    from nn_from_scratch import training
    from nn_from_scratch.functions import relu
    from nn_from_scratch.layers import Linear, Sequential
    from nn_from_scratch.losses import cross_entropy, mse
    from nn_from_scratch.metrics import accuracy
    from nn_from_scratch.optim import Adam

    train, valid = train_valid_split(*moons(400, rng=0), stratify=True)
    rng = np.random.default_rng(0)
    model = Sequential(Standardize(train[0]), Linear(2, 16, rng=rng), relu, Linear(16, 2, rng=rng))
    training.fit(model, cross_entropy, Adam(0.01), train, valid, epochs=40, progress=False)
    assert accuracy(model(valid[0]), valid[1]) > 0.95

    train, valid = train_valid_split(*regression(400, rng=0))
    model = Sequential(Linear(1, 32, rng=rng), relu, Linear(32, 1, rng=rng))
    training.fit(model, mse, Adam(0.01), train, valid, epochs=60, progress=False)
    assert mse(model(valid[0]), valid[1]) < 0.03


# ---------------------------------------------------------------- scales of all sizes


def test_constant_is_a_matter_of_the_last_digits():
    x = np.array([[0.3], [0.1 + 0.2], [0.3]])
    standardize = Standardize(x)
    assert x[0] != x[1] and standardize.constant.all() and abs(standardize(np.array([[0.31]]))[0, 0]) < 0.02
    third = np.float32([[0.3], [np.float32(0.1) + np.float32(0.2)], [np.nextafter(np.float32(0.3), np.float32(1))]])
    assert Standardize(third).constant.all()
    assert not Standardize(np.array([[0.3], [0.3 + 1e-12]])).constant.any()
    assert not Standardize(np.float32([[16_777_214], [16_777_215]])).constant.any(), "whole numbers are exact"
    assert not Standardize(np.float16([[2024], [2023]])).constant.any()
    assert Standardize(np.array([[True], [True]])).constant.all() and not Standardize(np.array([[True], [False]])).constant.any()


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e-40, 1.0, 1e40, 1e160, 1e300, 5e-324 * 2**20])
def test_standardize_does_not_mind_the_unit(scale):
    x = np.random.default_rng(0).normal(3, 2, (100, 4))
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        unit, scaled = Standardize(x), Standardize(x * scale)
        z = scaled(x * scale)
    assert not scaled.constant.any()
    np.testing.assert_allclose(z, unit(x), rtol=1e-9 if 1e-300 < scale else 1e-2, atol=1e-9 if 1e-300 <= scale else 1e-4)
    assert Standardize((x * 1e-38).astype(np.float32)).constant.sum() == 0


def test_centring_is_done_before_digits_are_lost():
    "Seconds since 1970, as float64, integers, and what float32 has of them."
    seconds = 1_700_000_000 + np.random.default_rng(0).normal(0, 11, (400, 1))
    for x in (seconds, seconds.astype(np.int64)):
        z = Standardize(x)(x)
        np.testing.assert_allclose(z, (x - x.mean()) / x.std(), rtol=1e-6, atol=1e-6)
        assert len(np.unique(z)) == len(np.unique(x))
    rough = (1_700_000_000 + 10_000 * np.random.default_rng(0).normal(size=(400, 1))).astype(np.float32)
    exact = rough.astype(np.float64)
    np.testing.assert_allclose(Standardize(rough)(rough), (exact - exact.mean()) / exact.std(), rtol=1e-6, atol=1e-6)


def test_a_model_gets_what_float64_data_say():
    from nn_from_scratch.layers import Linear, Sequential
    x = 1_700_000_000 + np.arange(100.0)[:, None]
    model = Sequential(Standardize(x), Linear(1, 3, rng=0))
    assert model(x).dtype == np.float32 and len(np.unique(model(x)[:, 0])) == 100


# ---------------------------------------------------------------- hostile files


def test_a_small_file_does_not_become_a_large_array(tmp_path):
    import tracemalloc
    path = tmp_path / "bomb.gz"
    n = 2**28
    squeeze = gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", n) + bytes(n), 9)
    assert len(squeeze) < 300_000
    path.write_bytes(squeeze)
    del squeeze
    tracemalloc.start()
    with pytest.raises(ValueError, match=says(path, "unpacks into more than 26,", "which no such data set does")): read_idx(path)
    assert tracemalloc.get_traced_memory()[1] < 80e6
    tracemalloc.stop()


def test_what_compresses_well_is_read(tmp_path):
    array = np.zeros((1000, 28, 28), np.uint8)  # a thousand to one
    (tmp_path / "a.gz").write_bytes(gzip.compress(idx(array)))
    assert np.array_equal(read_idx(tmp_path / "a.gz"), array)


@pytest.mark.parametrize("axes", [33, 64, 255])
def test_more_axes_than_an_array_can_have(tmp_path, axes):
    path = tmp_path / "axes"
    path.write_bytes(b"\0\0\x08" + bytes([axes]) + struct.pack(">I", 1) * axes + b"\7")
    with pytest.raises(ValueError, match=f"the header says {axes} axes; an array has at most 32") as error: read_idx(path)
    assert len(str(error.value)) < 400


def test_no_file_no_permission_and_no_regular_file_are_different_things(tmp_path, monkeypatch):
    import os
    with pytest.raises(FileNotFoundError, match="there is no such file$"): read_idx(tmp_path / "nowhere")
    (tmp_path / "file").write_bytes(GOOD)
    with pytest.raises(FileNotFoundError, match="there is no such file$"): read_idx(tmp_path / "file" / "below")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(FileNotFoundError, match="it is a folder or a device"): read_idx(tmp_path / "pipe")  # and does not wait
    def refuse(self, **kwargs): raise PermissionError(13, "Permission denied", str(self))
    monkeypatch.setattr(Path, "stat", refuse)
    for call in (lambda: read_idx(tmp_path / "file"), lambda: load_mnist(tmp_path)):
        with pytest.raises(PermissionError, match="Permission denied"): call()


def test_messages_are_short_and_printable(tmp_path):
    for name in ("a\x1b[31mred", "n" * 250):
        with pytest.raises(FileNotFoundError) as error: read_idx(tmp_path / name / name)
        assert str(error.value).isprintable() and len(str(error.value)) < 400


def test_bytes_at_random_are_read_or_refused_in_words(tmp_path):
    rng = np.random.default_rng(0)
    path, read = tmp_path / "file", 0
    for i in range(400):
        data = bytearray(SQUEEZED if i % 2 else GOOD)
        for _ in range(rng.integers(1, 4)):
            at = rng.integers(len(data))
            if rng.random() < 0.2: del data[at:]
            elif at < len(data): data[at] = rng.integers(256)
            if not data: break
        path.write_bytes(data)
        try: read_idx(path)
        except ValueError as error: assert str(error).startswith(str(path)) and len(str(error)) < 600
        else: read += 1
    assert 0 < read < 200


# ---------------------------------------------------------------- what the chapter claims


@pytest.mark.parametrize(("units", "activation", "least", "most"), [
    (1, "relu", 0.5, 0.75), (1, "gelu", 0.7, 0.88), (2, "relu", 0.75, 0.9), (2, "tanh", 0.75, 0.9), (2, "gelu", 0.95, 1), (2, "silu", 0.95, 1),
    (3, "tanh", 0.99, 1), (3, "gelu", 0.99, 1)])
def test_how_many_units_close_around_a_circle(units, activation, least, most):
    from nn_from_scratch import functions
    from nn_from_scratch.gradients import value_and_grad
    from nn_from_scratch.layers import mlp
    from nn_from_scratch.losses import cross_entropy
    from nn_from_scratch.metrics import accuracy
    from nn_from_scratch.optim import Adam
    from nn_from_scratch.schedules import cosine_decay
    x, y = circles(300, rng=1)
    step = value_and_grad(lambda m: cross_entropy(m(x), y))
    best = 0
    for seed in range(10):
        model, optimizer = mlp([2, units, 2], getattr(functions, activation), rng=seed), Adam(cosine_decay(0.1, 400))
        for _ in range(400): optimizer.update(model, step(model)[1])
        best = max(best, accuracy(model(x), y))
    assert least <= best <= most
