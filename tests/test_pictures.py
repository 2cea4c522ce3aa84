"""Pictures from files, and the two ways to change them that are kept beside the layers."""

import gzip
import io
import struct
import tarfile

import numpy as np
import pytest

import nn_from_scratch as nn
from nn_from_scratch.data import flip, zoom

rng = np.random.default_rng(0)


def idx(array): return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes()


def clothes(folder, value=255):
    folder.mkdir(parents=True, exist_ok=True)
    for part, n in ("train", 6), ("t10k", 2):
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(np.full((n, 28, 28), value))))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.arange(n)))


@pytest.mark.parametrize("inner", ["", "fashion-mnist"])
def test_fashion_mnist_from_a_folder(tmp_path, inner):
    clothes(tmp_path / inner)
    (x, y), (x_test, y_test) = nn.load_fashion_mnist(tmp_path)
    assert x.shape == (6, 784) and x.dtype == np.float32 and x.max() == 1 and y.tolist() == [0, 1, 2, 3, 4, 5] and len(x_test) == len(y_test) == 2


def test_mnist_is_not_taken_for_fashion_mnist(tmp_path, monkeypatch):
    "Their files have the same names."
    clothes(tmp_path)
    monkeypatch.setenv("NN_FROM_SCRATCH_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="load_fashion_mnist: no files in .*fashion-mnist"): nn.load_fashion_mnist()
    clothes(tmp_path / "fashion-mnist", 51)
    assert nn.load_fashion_mnist()[0][0].max() == np.float32(0.2)


NAMES = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
PIXELS = rng.integers(0, 256, (6, 3, 3, 32, 32), dtype=np.uint8)  # six files of three pictures


def batch(i): return b"".join(bytes([(3 * i + k) % 10]) + PIXELS[i, k].tobytes() for k in range(3))


def photographs(folder, packed):
    folder.mkdir(exist_ok=True)
    if not packed:
        for i, name in enumerate(NAMES): (folder / name).write_bytes(batch(i))
        return
    with tarfile.open(folder / "cifar-10-binary.tar.gz", "w:gz") as tar:
        for i, name in enumerate(NAMES):
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(batch(i))
            tar.addfile(member, io.BytesIO(batch(i)))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("inner", ["", "cifar-10"])
def test_cifar10_from_a_folder(tmp_path, packed, inner):
    photographs(tmp_path / inner, packed)
    (x, y), (x_test, y_test) = nn.load_cifar10(tmp_path)
    assert x.shape == (15, 32, 32, 3) and x.dtype == np.float32 and y.dtype == np.int64 and y.tolist() == [n % 10 for n in range(15)]
    np.testing.assert_allclose(x[4], PIXELS[1, 1].transpose(1, 2, 0) / 255, rtol=1e-6)
    assert x_test.shape == (3, 32, 32, 3) and y_test.tolist() == [5, 6, 7]


def test_what_is_wrong_with_a_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="load_cifar10: no files in"): nn.load_cifar10(tmp_path)
    photographs(tmp_path, False)
    (tmp_path / NAMES[2]).write_bytes(batch(2)[:-1])
    with pytest.raises(ValueError, match="data_batch_3.bin: 9,218 bytes are no whole number of pictures"): nn.load_cifar10(tmp_path)
    (tmp_path / NAMES[2]).write_bytes(b"\x0b" + batch(2)[1:])
    with pytest.raises(ValueError, match="label 11; expected 0 to 9"): nn.load_cifar10(tmp_path)
    (tmp_path / NAMES[2]).unlink()
    with pytest.raises(FileNotFoundError, match="has no data_batch_3.bin"): nn.load_cifar10(tmp_path)
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="damaged or cut short"): nn.load_cifar10(tmp_path)


@pytest.mark.parametrize("step", [flip(), zoom(0.3)], ids=repr)
@pytest.mark.parametrize("layout", [(64,), (8, 8), (8, 8, 3)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_shape_same_seed_same_bits_and_the_data_untouched(step, layout, dtype):
    x, y = rng.random((30, *layout)).astype(dtype), np.arange(30)
    before = x.copy()
    (a, b), (c, _) = (step(x, y, np.random.default_rng(3)) for _ in range(2))
    assert a.shape == x.shape and a.dtype == dtype and np.array_equal(a, c) and b is y
    assert np.array_equal(x, before) and not np.array_equal(a, x)


def test_flip_mirrors_about_half():
    x = rng.random((400, 4, 5))
    y = flip()(x, None, np.random.default_rng(0))[0]
    mirrored = np.array([np.array_equal(b, a[:, ::-1]) for a, b in zip(x, y)])
    same = np.array([np.array_equal(b, a) for a, b in zip(x, y)])
    assert (mirrored ^ same).all() and 150 < mirrored.sum() < 250


def test_zoom_of_nothing_is_nothing_and_a_ramp_grows_steeper_or_flatter():
    x = np.tile(np.linspace(-1, 1, 9), (200, 9, 1))
    np.testing.assert_allclose(zoom(0)(x, None, np.random.default_rng(0))[0], x)
    slopes = np.diff(zoom(0.5)(x, None, np.random.default_rng(0))[0][:, 4], axis=1)[:, 4] / 0.25
    assert 0.6 < slopes.min() < 0.75 < 1.5 < slopes.max() < 2.01
    with pytest.raises((ValueError, TypeError), match="zoom: share"): zoom(1.5)
