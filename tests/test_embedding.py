"""Embeddings, the names and texts that come along, and what is said of what does not fit."""

from pathlib import Path

import numpy as np
import pytest

import nn_from_scratch as nn
from nn_from_scratch import fast
from nn_from_scratch.embedding import Embedding, embedding

TABLE = np.random.default_rng(0).normal(size=(5, 3))


@pytest.mark.usefixtures("pace")
@pytest.mark.parametrize("indices", [3, [0, 4, 4], [[1, 1], [0, 2]], [], np.zeros((2, 0), int), np.array([2, 2], np.uint8)], ids=str)
def test_an_embedding_is_one_hot_times_the_table(indices):
    indices = np.asarray(indices, None if np.size(indices) else int)
    one_hot = np.eye(5)[indices]
    assert np.array_equal(embedding(indices, TABLE), one_hot @ TABLE)
    weight = np.random.default_rng(1).normal(size=(*indices.shape, 3))
    ours = nn.grad(lambda table: np.sum(embedding(indices, table) * weight))(TABLE)
    np.testing.assert_allclose(ours, one_hot.reshape(-1, 5).T @ weight.reshape(-1, 3), atol=1e-14)


def test_the_quicker_way_back_gives_the_same_sums():
    "To the last digits, for many repeats; and rows that were not read get 0."
    rng = np.random.default_rng(2)
    indices, weight = rng.integers(0, 4, (50, 20)), rng.normal(size=(50, 20, 3))
    found = []
    for pace in (fast.disable, fast.enable):
        pace()
        found.append(nn.grad(lambda table: np.sum(embedding(indices, table) * weight))(TABLE))
    np.testing.assert_allclose(*found, rtol=1e-12)
    assert not found[1][4].any()


@pytest.mark.usefixtures("pace")
def test_indices_that_do_not_fit_are_refused_in_words():
    with pytest.raises(IndexError, match="embedding: index 5 has no row: the table has 5 rows, 0 to 4"): embedding(np.array([0, 5]), TABLE)
    with pytest.raises(IndexError, match="index -1 has no row: .* none is counted from the end"): embedding(np.array([-1, 9]), TABLE)
    with pytest.raises(TypeError, match="indices must be whole numbers, but they are float64"): embedding(np.array([1.0]), TABLE)
    with pytest.raises(TypeError, match="but they are bool"): embedding(np.array([True]), TABLE)
    with pytest.raises(ValueError, match="table must have two axes"): embedding(np.array([0]), TABLE[0])
    with pytest.raises(TypeError, match="floating-point"): nn.grad(lambda i: np.sum(embedding(i, TABLE)))(np.array([1]))
    with pytest.raises(ValueError, match="Embedding: n must be a whole number of at least 1"): Embedding(0, 3)


def test_a_layer_has_a_seed_and_a_dtype():
    layer = Embedding(27, 4, rng=3)
    assert repr(layer) == "Embedding(27, 4)" and layer.weight.dtype == np.float32
    assert np.array_equal(layer.weight, Embedding(27, 4, rng=3).weight) and layer([[1, 2]]).shape == (1, 2, 4)
    assert Embedding(2, 3, dtype=np.float64)([0]).dtype == np.float64
    assert list(layer.parameters()) == ["weight"]


class Tied(nn.Module):
    "One table, for reading and for writing."

    def __init__(self): self.rows = Embedding(6, 3, rng=0, dtype=np.float64)
    def __call__(self, x): return self.rows(x) @ self.rows.weight.T


def test_a_table_used_twice_gets_the_sum_of_both_gradients(tmp_path):
    model, x, y = Tied(), np.array([0, 1, 1]), np.array([2, 3, 4])
    _, g = nn.value_and_grad(lambda m: nn.cross_entropy(m(x), y))(model)
    w = model.rows.weight
    as_input = nn.grad(lambda table: nn.cross_entropy(embedding(x, table) @ w.T, y))(w)
    as_output = nn.grad(lambda table: nn.cross_entropy(embedding(x, w) @ table.T, y))(w)
    np.testing.assert_allclose(g["rows.weight"], as_input + as_output, rtol=1e-12)
    assert model.parameters().vector.size == 18
    nn.save(model, tmp_path / "tied.safetensors")
    again = nn.load(tmp_path / "tied.safetensors", into=Tied())
    assert np.array_equal(again(x), model(x))


def test_a_sequential_of_an_embedding_is_rebuilt_from_its_file(tmp_path):
    model = nn.Sequential(Embedding(6, 3, rng=0), nn.Linear(3, 2, rng=1))
    nn.save(model, tmp_path / "m.safetensors")
    again = nn.load(tmp_path / "m.safetensors")
    x = np.array([[0, 5], [2, 2]])
    assert repr(again) == repr(model) and np.array_equal(again(x), model(x))


# ---------------------------------------------------------------- names and texts

def test_the_names_are_the_census_and_its_source_is_named():
    names = nn.load_names()
    assert len(names) == len(set(names)) == 5163 and names[:3] == ["james", "john", "robert"]
    assert set("".join(names)) == set("abcdefghijklmnopqrstuvwxyz")
    notice = (Path(nn.__file__).parent / "names.NOTICE.txt").read_text(encoding="utf-8")
    for text in (notice, nn.load_names.__doc__): assert "Census Bureau" in text and "public domain" in text


def test_names_of_your_own(tmp_path):
    (tmp_path / "names").write_text("ada\n\n grace \r\nälva\n", encoding="utf-8")
    assert nn.load_names(tmp_path / "names") == ["ada", "grace", "älva"]


def test_makemores_names_when_they_are_there(data_folder):
    if not (data_folder / "names.txt").exists(): pytest.skip("no names.txt there")
    names = nn.load_names(data_folder / "names.txt")
    counts = np.zeros((27, 27))
    for name in names:
        letters = [0, *(ord(c) - 96 for c in name), 0]
        np.add.at(counts, (letters[:-1], letters[1:]), 1)
    rows = counts / counts.sum(axis=1, keepdims=True)
    loss = -(counts[counts > 0] * np.log(rows[counts > 0])).sum() / counts.sum()
    assert len(names) == 32033 and counts.sum() == 228146 and round(loss, 4) == 2.4540


@pytest.mark.parametrize("data, text", [(b"a\r\nb\rc\n", "a\nb\nc\n"), (b"\xef\xbb\xbfx", "x"), ("é\U0001f600".encode(), "é\U0001f600")])
def test_a_text_is_read_as_it_stands(tmp_path, data, text):
    (tmp_path / "t").write_bytes(data)
    assert nn.load_text(tmp_path / "t") == text


def test_what_is_no_text_is_refused_with_its_place(tmp_path):
    (tmp_path / "t").write_bytes(b"abc\xff")
    with pytest.raises(ValueError, match="not a text in UTF-8: byte 3 is 0xff"): nn.load_text(tmp_path / "t")
    (tmp_path / "t").write_bytes(b"")
    with pytest.raises(ValueError, match="the file is empty"): nn.load_text(tmp_path / "t")
    with pytest.raises(FileNotFoundError, match="there is no such file"): nn.load_text(tmp_path / "none")
