"""Folders of pictures: one sub-folder a class, every form of picture, and each mistake in words."""

import builtins
import contextlib
import io
import os
import struct
import sys
import zlib

import numpy as np
import pytest

import nn_from_scratch as nn
from nn_from_scratch import cli
from nn_from_scratch.albums import Album, image_network, read_album
from nn_from_scratch.answers import predict_rows
from nn_from_scratch.columns import TableError, UsageError

Image = pytest.importorskip("PIL.Image")
main = cli.main.__wrapped__


def draw(folder, n=12, size=(6, 6), mode="L", classes=("dark", "light"), ending="png"):
    "A folder with pictures that are darker in the first class, a number after the other."
    rng = np.random.default_rng(0)
    for k, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            grey = rng.integers(0, 90, size).astype(np.uint8) + np.uint8(160 * k % 161)
            Image.fromarray(grey).convert(mode).save(folder / name / f"{i}.{ending}")
    return folder


def said_by(call, kind=UsageError):
    with pytest.raises(kind) as error: call()
    return str(error.value)


def test_a_folder_becomes_a_task(tmp_path):
    task = read_album(draw(tmp_path / "shades"))
    assert task.name == "shades" and task.classes == ["dark", "light"] and task.features is None and task.notes == []
    assert [len(part[1]) for part in (task.train, task.valid, task.test)] == [15, 4, 5]
    x, y = task.train
    assert x.shape[1:] == (6, 6, 1) and x.dtype == np.float32 and 0 <= x.min() and x.max() <= 1
    assert (x[y == 1].min() > x[y == 0].max())
    path = tmp_path / "shades" / "light" / "0.png"
    every = np.concatenate([part[0] for part in (task.train, task.valid, task.test)])
    pixels = np.asarray(Image.open(path)) / 255
    assert any(np.allclose(picture[..., 0], pixels, atol=1e-6) for picture in every)


def test_numbers_as_names_stand_in_their_order(tmp_path):
    assert read_album(draw(tmp_path, classes=("10", "9", "a", "1"))).classes == ["a", "1", "9", "10"]


def test_what_is_hidden_is_left_out_and_what_is_no_picture_is_told(tmp_path):
    draw(tmp_path)
    for name in (".DS_Store", "._0.png"): (tmp_path / "dark" / name).write_bytes(b"\0" * 9)
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "0.png").write_bytes(b"?")
    (tmp_path / "light" / ".more").mkdir()
    (tmp_path / "light" / ".more" / "0.png").write_bytes(b"?")
    (tmp_path / "light" / "Thumbs.db").write_bytes(b"?")
    (tmp_path / "notes.txt").write_text("mine")
    task = read_album(tmp_path)
    assert len(task.classes) == 2 and sum(len(p[1]) for p in (task.train, task.valid, task.test)) == 24
    assert task.notes == ["1 file left out for endings that no picture has: Thumbs.db"]


@pytest.mark.parametrize("mode, ending, channels", [
    ("L", "png", 1), ("1", "png", 1), ("RGB", "png", 1), ("LA", "png", 1), ("P", "png", 1), ("RGB", "jpg", 1), ("CMYK", "jpg", None), ("I;16", "png", 1),
    ("RGBA", "webp", None), ("L", "PGM", 1), ("P", "gif", 1)])
def test_every_form_of_picture(tmp_path, mode, ending, channels):
    task = read_album(draw(tmp_path, mode=mode, ending=ending))
    assert task.train[0].shape[3] == channels or channels is None


def test_colours_anywhere_make_three_channels(tmp_path):
    draw(tmp_path)
    colour = np.zeros((6, 6, 3), np.uint8)
    colour[..., 0] = 200
    Image.fromarray(colour).save(tmp_path / "dark" / "0.png")
    task = read_album(tmp_path)
    every = np.concatenate([part[0] for part in (task.train, task.valid, task.test)])
    assert every.shape[1:] == (6, 6, 3)
    red = [x for x in every if not np.allclose(x[..., 0], x[..., 1])]
    assert len(red) == 1 and np.allclose(red[0], [200 / 255, 0, 0])


def test_what_is_transparent_lies_on_white(tmp_path):
    draw(tmp_path)
    clear = np.zeros((6, 6, 2), np.uint8)
    clear[0, 0] = 0, 255
    Image.fromarray(clear, "LA").save(tmp_path / "dark" / "0.png")
    every = np.concatenate([part[0] for part in read_album(tmp_path).__dict__.values() if isinstance(part, tuple)])
    assert sum(np.allclose(x[1:], 1) and abs(float(x[0, 0, 0])) < 1e-6 for x in every) == 1


def test_a_picture_is_turned_as_the_camera_says(tmp_path):
    draw(tmp_path, size=(4, 6))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees, clockwise
    lying = np.arange(24, dtype=np.uint8).reshape(6, 4)
    Image.fromarray(lying).save(tmp_path / "dark" / "0.png", exif=exif)
    every = np.concatenate([part[0] for part in read_album(tmp_path).__dict__.values() if isinstance(part, tuple)])
    assert sum(np.allclose(x[..., 0], np.rot90(lying, -1) / 255, atol=1e-6) for x in every) == 1


def test_sixteen_bits_of_grey(tmp_path):
    draw(tmp_path)
    for k in 0, 1:
        for i in range(12):
            Image.fromarray(np.full((6, 6), 0x8000 * k + 0x0100, np.uint16)).save(tmp_path / ("dark", "light")[k] / f"{i}.png")
    x, y = read_album(tmp_path).train
    assert np.allclose(x[y == 0], 1 / 255) and np.allclose(x[y == 1], 129 / 255)


def test_train_and_test_that_are_there_already(tmp_path):
    draw(tmp_path / "train", 20)
    draw(tmp_path / "test", 3)
    task = read_album(tmp_path)
    assert [len(part[1]) for part in (task.train, task.valid, task.test)] == [32, 8, 6]
    assert task.notes == ["parts as they are in the folder: test, train"]
    draw(tmp_path / "val", 4)
    task = read_album(tmp_path)
    assert [len(part[1]) for part in (task.train, task.valid, task.test)] == [40, 8, 6]
    draw(tmp_path / "test", 3, classes=("dim",))
    assert "test has dim, of which train has no picture to learn from" in said_by(lambda: read_album(tmp_path))


def test_classes_called_train_and_plane_are_classes(tmp_path):
    assert read_album(draw(tmp_path, classes=("plane", "train"))).classes == ["plane", "train"]
    draw(tmp_path / "two", classes=("test", "train"))
    assert read_album(tmp_path / "two").classes == ["test", "train"]


def loose(folder): Image.new("L", (6, 6)).save(draw(folder) / "7.png")
def alone(folder): draw(folder, 30, classes=("cats",))
def empty(folder): (draw(folder) / "dim").mkdir()
def few(folder): draw(folder, 3)


def other_size(folder): Image.new("L", (9, 5)).save(draw(folder) / "light" / "7.png")
def torn(folder): (draw(folder) / "light" / "7.png").write_bytes((folder / "light" / "7.png").read_bytes()[:60])
def text(folder): (draw(folder) / "light" / "7.png").write_text("not a picture")


@pytest.mark.parametrize("make, kind, words", [
    (loose, UsageError, "7.png lies in no sub-folder; each class is a sub-folder with its pictures"),
    (alone, UsageError, "there is one class, cats; to tell classes apart it takes two sub-folders or more"),
    (empty, UsageError, "there is no picture in the sub-folder dim"),
    (few, TableError, "has 6 pictures; with fewer than 20 there is nothing to learn from and to check with"),
    (other_size, UsageError, "7.png 9 × 5 pixels; a network needs one size: add --size 32, and each is scaled and cut to 32 × 32"),
    (torn, ValueError, "7.png: this picture cannot be read ("),
    (text, ValueError, "7.png: this picture cannot be read (cannot identify image file"),
], ids=lambda value: getattr(value, "__name__", "")[:12])
def test_mistakes_in_words(tmp_path, make, kind, words):
    make(tmp_path / "album")
    assert words in said_by(lambda: read_album(tmp_path / "album"), kind)


def test_too_large_is_said_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("nn_from_scratch.albums.most_bytes", 9_000)
    assert "24 pictures of 6 × 6 pixels take" in said_by(lambda: read_album(draw(tmp_path)))


def test_size_scales_and_cuts(tmp_path):
    draw(tmp_path, size=(10, 20))
    Image.new("L", (9, 5)).save(tmp_path / "light" / "7.png")
    task = read_album(tmp_path, size=8)
    assert task.train[0].shape[1:] == (8, 8, 1) and task.preparation.about()["scaled"]


def test_without_pillow(tmp_path, monkeypatch):
    draw(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "PIL"]: monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def none(name, *args, **options):
        if name.split(".")[0] == "PIL": raise ImportError("no PIL here")
        return real(name, *args, **options)
    monkeypatch.setattr(builtins, "__import__", none)
    monkeypatch.setattr("importlib.import_module", lambda name: none(name))
    said = said_by(lambda: read_album(tmp_path), ImportError)
    assert said == "a folder of pictures needs the library pillow, which is not installed: pip install pillow"


@pytest.mark.parametrize("height, width, pools", [(28, 28, 2), (64, 64, 4), (9, 40, 1), (5, 5, 0), (1, 30, 0)])
def test_the_network_fits_every_size(height, width, pools):
    net = image_network((height, width, 3), [0, 16, 4], nn.relu, rng=0)
    assert net(np.zeros((2, height, width, 3))).shape == (2, 4)
    assert sum(isinstance(layer, nn.MaxPool2d) for layer in net) == pools


def test_the_first_layer_has_mean_0_and_spread_1_and_survives_a_file(tmp_path):
    x = np.random.default_rng(0).random((9, 5, 4, 3)).astype(np.float32)
    x[..., 1] = 0.25  # a channel that does not vary
    layer = Album(x, ["a", "b"])
    z = layer(x)
    assert z.dtype == np.float32 and np.allclose(z.mean((0, 1, 2)), 0, atol=1e-6) and np.allclose(z.std((0, 1, 2)), [1, 0, 1], atol=1e-5)
    assert repr(layer) == "Album(5 × 4 × 3, 2 classes)"
    model = nn.Sequential(layer, *image_network((5, 4, 3), [0, 8, 2], nn.relu, rng=0))
    pytest.importorskip("safetensors")
    nn.save(model, tmp_path / "m.safetensors")
    again = nn.load(tmp_path / "m.safetensors")
    assert np.array_equal(again(x), model(x)) and again[0].about() == layer.about()


def test_a_file_that_is_no_album_is_refused(tmp_path):
    pytest.importorskip("safetensors")
    model = nn.Sequential(Album(np.zeros((2, 3, 3, 1), np.float32), ["a", "b"]), *image_network((3, 3, 1), [0, 2], nn.relu, rng=0))
    for about in (b"[]", b"{", b'{"shape": [3, 3], "classes": ["a"]}', b'{"shape": [3, 3, 1], "classes": [1]}', b'{"shape": [3, 3, 2], "classes": []}'):
        model[0]._about = np.frombuffer(about, np.uint8).copy()
        with contextlib.suppress(ValueError): nn.save(model, tmp_path / "bad.safetensors")
        if (tmp_path / "bad.safetensors").exists():
            with pytest.raises(ValueError): nn.load(tmp_path / "bad.safetensors")


def test_onnx(tmp_path):
    pytest.importorskip("onnx")
    run = pytest.importorskip("onnxruntime")
    x = np.random.default_rng(0).random((4, 9, 8, 3)).astype(np.float32)
    model = nn.Sequential(Album(x, ["a", "b"]), *image_network((9, 8, 3), [0, 8, 2], nn.relu, rng=0))
    nn.export_onnx(model, tmp_path / "m.onnx", x)
    session = run.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    assert np.allclose(session.run(None, {session.get_inputs()[0].name: x})[0], model(x), atol=1e-5)


def answers(*args, **options):
    out = io.StringIO()
    with contextlib.redirect_stdout(out): predict_rows.__wrapped__(*map(str, args), **options)
    return out.getvalue().splitlines()


def test_from_a_folder_to_answers(tmp_path, monkeypatch, capsys):
    pytest.importorskip("safetensors")
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "shades", 30)
    main(data="shades", hidden="8", epochs=12)
    told = capsys.readouterr().out
    assert "shades: 38 to learn from, 10 to stop by, 12 to report on; from 6 × 6 pixels to class, one of 2 classes" in told
    assert "accuracy on the held-out examples: 1.0000" in told
    run = tmp_path / "runs" / "shades-1"
    assert {"model.safetensors", "least_sure.png", "confusion_matrix.png", "report.md"} <= set(os.listdir(run))
    one = answers(run / "model.safetensors", "shades/light/3.png", probabilities=True)
    assert one[0] == "file,class,p(dark),p(light)" and one[1].startswith("shades/light/3.png,light,0.0")
    every = answers(run / "model.safetensors", "shades")
    assert len(every) == 61 and all(line.split(os.sep)[0] == line.split(",")[1] for line in every[1:])
    Image.new("RGB", (9, 5)).save("other.png")
    with pytest.raises(SystemExit): answers(run / "model.safetensors", "other.png")
    assert "other.png has 9 × 5 pixels; the network was trained on 6 × 6" in capsys.readouterr().err


def test_new_pictures_are_scaled_where_the_others_were(tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "shades", 20, size=(10, 12))
    main(data="shades", hidden="8", epochs=2, size=8)
    Image.new("RGB", (90, 50), "red").save("other.png")
    assert len(answers("runs/shades-1/model.safetensors", "other.png")) == 2


@pytest.mark.parametrize("options, words", [
    (dict(target="y"), "belong to a table of your own, not to --data shades"),
    (dict(kfold=3), "belong to a table of your own"),
    (dict(task="regression"), "belong to a table of your own"),
    (dict(size=-1), "--size -1: pixels a side of the pictures in a folder"),
])
def test_options_of_a_table(tmp_path, monkeypatch, capsys, options, words):
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "shades")
    with pytest.raises(SystemExit) as end: main(data="shades", **options)
    assert end.value.code == 2 and words in capsys.readouterr().err


def test_pipes_devices_and_loops_among_the_pictures(tmp_path):
    draw(tmp_path / "a")
    os.mkfifo(tmp_path / "a" / "dark" / "pipe.png")  # would wait for ever
    (tmp_path / "a" / "dark" / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "a" / "dark" / "round.png").symlink_to("round.png")
    (tmp_path / "a" / "dark" / "up").symlink_to("..")
    task = read_album(tmp_path / "a")
    assert sum(len(part[1]) for part in (task.train, task.valid, task.test)) == 24 and "3 files left out" in task.notes[0]
    (tmp_path / "a" / "light" / "up").symlink_to(tmp_path)
    assert len(read_album(tmp_path / "a").train[1]) == 15


def test_a_picture_that_claims_more_pixels_than_any_has(tmp_path, recwarn):
    draw(tmp_path)
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    for side, word in (9000, "81,000,000 pixels"), (50_000, "pixels"):
        small = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
        (tmp_path / "dark" / "0.png").write_bytes(small)
        assert word in said_by(lambda: read_album(tmp_path, 8), ValueError)
    assert not recwarn.list


def test_names_of_folders_that_a_terminal_would_obey(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ("\x1b[31mred", os.fsdecode(b"bad\xff"))
    draw(tmp_path / "a", n=20, classes=names)
    main(data="a", epochs=1, output="run")
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err and "could not be drawn" not in printed.err and os.path.exists("run/report.md")
    predict_rows.__wrapped__("run/model.safetensors", "a", output="answers.csv")
    assert os.fsencode(names[1]) in (tmp_path / "answers.csv").read_bytes()
