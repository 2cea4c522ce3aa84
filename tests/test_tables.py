"""Tables as they come: what is read, how words and holes become features, and how new rows are answered."""

import bz2
import gzip
import io
import json
import lzma
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

import nn_from_scratch as nn
from nn_from_scratch import answers, cli, console, reports, table_files, tasks
from nn_from_scratch.columns import TableError
from nn_from_scratch.preparation import Preparation
from nn_from_scratch.tables import read_table

main, predict_rows = cli.main.__wrapped__, answers.predict_rows.__wrapped__


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    "Each test runs in an empty folder of its own."
    monkeypatch.chdir(tmp_path)
    return tmp_path


def mixed(n=120, seed=0):
    "A table of numbers, words, holes and dates; y is yes for what is cheap or red."
    rng = np.random.default_rng(seed)
    lines = ["size,colour,when,code,y"]
    for _ in range(n):
        size, colour = rng.normal(50, 10), rng.choice(["red", "green", "blue", ""])
        lines.append(f"{size:.2f},{colour},2024-{rng.integers(1, 13):02}-{rng.integers(1, 28):02},{rng.integers(1, 4):02},"
                     f"{'yes' if size < 45 or colour == 'red' else 'no'}")
    return "\n".join(lines) + "\n"


def table(text, name="t.csv", encoding="utf-8"):
    Path(name).write_bytes(text.encode(encoding) if isinstance(text, str) else text)
    return name


def run(code, *args, **options):
    "A command in a process of its own, started from a script as the installed one is."
    script = Path("script.py").resolve()
    script.write_text(code.replace("; ", "\n"))
    env = os.environ | {"PYTHONIOENCODING": "utf-8", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(Path(nn.__file__).parent.parent)}
    return subprocess.run([sys.executable, script, *args], capture_output=True, text=True, encoding="utf-8",
                          stdin=subprocess.DEVNULL, env=env | options.pop("env", {}), **options)


TRAIN = "from nn_from_scratch.cli import main; main()"


# ---------------------------------------------------------------- reading

@pytest.mark.parametrize("data", [
    b"a;b\n1,5;x\n2,5;y\n", b"a\tb\n1,5\tx\n2.5\ty\n", b"a|b\n1.5|x\n2.5|y\n", gzip.compress(b"a,b\n1.5,x\n2.5,y\n"),
    "\ufeffa,b\n1.5,x\n2.5,y\n".encode(), "a,b\n1.5,x\n2.5,y\n".encode("utf-16"), "\ufeffa,b\r1.5,x\r2.5,y".encode("utf-16-le"),
], ids=["semicolons, decimal commas", "tabs", "bars", "gzip", "bom", "utf-16", "utf-16, cr"])
def test_the_same_table_in_many_files(data):
    t = read_table(table(data))
    assert t["a"].values.tolist() == [1.5, 2.5] and t["b"].texts() == ["x", "y"] and t.notes == []


def test_encodings_are_read_or_named():
    t = read_table(table("größe,b\n1,ä\n2,ö\n", encoding="cp1252"))
    assert list(t.columns) == ["größe", "b"] and t["b"].words == ["ä", "ö"] and "read as cp1252" in t.notes[-1]
    assert read_table(table("a,b\n1,ж\n", encoding="koi8-r"), encoding="koi8-r")["b"].words == ["ж"]
    with pytest.raises(TableError, match="is not a text file in ascii"): read_table("t.csv", encoding="ascii")
    with pytest.raises(TableError, match="unknown encoding"): read_table("t.csv", encoding="klingon")


@pytest.mark.parametrize("cells, kind", [
    (["1", "2", ""], "numbers"), (["1e5", "-2.5", "NA"], "numbers"), (["01", "02", "10"], "words"), (["1E2", "100", "0100"], "words"),
    (["1e+5", "2.5", "3"], "numbers"), (["True", "False", "True"], "words"), (["2024-01-05", "2024-02-05 10:30", ""], "dates"),
    (["2024-13-05", "x", "y"], "words"), (["", "", ""], "numbers"), (["1_000", "2", "3"], "words")])
def test_kinds_of_columns(cells, kind):
    assert read_table(table("a,b\n" + "".join(f"{cell},1\n" for cell in cells)))["a"].kind == kind


def test_a_stray_word_is_a_hole_that_is_named():
    t = read_table(table("a,b\n" + "1,2\n" * 30 + "blue,2\n"))
    assert t["a"].holes.sum() == 1 and t.notes == ["column 'a': 1 cell of 31 hold no number and count as missing, the first in line 32: 'blue'"]


def test_a_column_that_turns_out_to_be_words_after_many_rows():
    t = read_table(table("a,b\n" + "7,2\n" * 30_000 + "x,2\n" * 20_000))
    assert t["a"].words == ["7", "x"] and t["a"].texts()[0] == "7" and len(t) == 50_000


def test_an_index_without_a_name_is_left_out():
    t = read_table(table(",a,\n" + "".join(f"{i},{i * i},x\n" for i in range(9))))
    assert list(t.columns) == ["a", "column 3"] and "counts the rows" in t.notes[0]


def test_words_that_look_like_holes_can_be_classes():
    text = "a,y\n" + "".join(f"{i},{['None', 'NA'][i % 2]}\n" for i in range(40))
    assert tasks.read_task(table(text), "y").classes == ["NA", "None"]


@pytest.mark.parametrize("cells, classes", [(["1E2", "100", "0100"], ["0100", "100", "1E2"]), (["01", "1"], ["01", "1"]), (["True", "False"], ["False", "True"])])
def test_codes_stay_apart(cells, classes):
    text = "a,y\n" + "".join(f"{i},{cells[i % len(cells)]}\n" for i in range(60))
    assert tasks.read_task(table(text), "y").classes == classes


@pytest.mark.parametrize("data, words", [
    (b"a,b\n1,2\n\x1f\x8b", ""), (gzip.compress(b"a,b\n1,2\n")[:-9], "cannot be read"), (b"a,a\n1,2\n", "repeats 'a'"),
    (gzip.compress(bytes(range(97, 123)) * 20)[:12] + b"\xff" * 20, "cannot be read"), (b"\x89PNG\r\n\x1a\n\0\0", "is not text"),
    (b'a,b\n1,"2\n', "line 2"), (b"a,b\n1,2\n1,2,3\n", "line 3: 3 cells"), (b"a,b\n", "2 columns and 0 rows")])
def test_damaged_tables(data, words):
    try: read_table(table(data))
    except TableError as error: assert "t.csv" in str(error) and words in str(error)
    else: assert not words


@pytest.mark.parametrize("cells, form, values", [
    (['"1,250"', '"$3,000,000.50"', "$7"], "1,234.5 $", [1250, 3000000.5, 7]), (["12%", "3.5 %", "0"], "1,234.5 %", [12, 3.5, 0]),
    (["(5)", "7", "−1"], "1,234.5", [-5, 7, -1]), (["1\u00a0250", "3'000", "7"], "1,234.5", [1250, 3000, 7]), (["56 m²", "7 m²"], "1,234.5 m²", [56, 7]),
    (['"3,5"', '"12,25"'], "1.234,5", [3.5, 12.25]), (['"1.250,5 €"', '"3 €"'], "1.234,5 €", [1250.5, 3]), (["8:30", "12:00:36"], "hours:minutes", [8.5, 12.01]),
    (["31.12.2020", "1.2.1971"], "day/month/year", [18627, 396]), (["12/31/2020", "2/1/71"], "month/day/year", [18627, 396]),
    (["31/12/2020", "1/2/1971"], "day/month/year", [18627, 396]), (['"Dec 31, 2020"', "February 1 1971"], "month day, year", [18627, 396]),
    (["31 Dec 2020", "1-Feb-1971"], "day month year", [18627, 396]), (["2020-12-31T06:00:00+06:00", "1971-02-01"], "", [18627, 396]),
    (["2020/12/31", "1971/2/1"], "year/month/day", [18627, 396])])
def test_numbers_and_dates_as_people_write_them(cells, form, values):
    column = read_table(table("a,y\n" + "".join(f"{cell},1\n" for cell in cells)))["a"]
    assert column.kind != "words" and column.form == form and np.allclose(column.values, values)


@pytest.mark.parametrize("cells", [["A1", "A2", "B7"], ["007 %", "5 %", "6 %"], ["5 kg", "5 m", "7 lb"], ["32/12/2020", "1/2/1971"], ["01", "1 250"], ["1st", "2nd"],
                                   ["2024-02-30", "2024-02-28"], ["10-20", "20-30"], ["3 of 7", "5 of 7"]])
def test_what_is_no_number_stays_a_word(cells):
    assert read_table(table("a,y\n" + "".join(f"{cell},1\n" for cell in cells)))["a"].kind == "words"


def test_a_few_thousands_among_plain_numbers_are_no_holes():
    found = read_table(table("a,y\n" + "".join(f'"{i * 60:,}",1\n' for i in range(1, 18))))
    assert found["a"].values.tolist() == [60 * i for i in range(1, 18)] and "written as 1,234.5" in found.notes[0]


def test_new_rows_are_read_as_those_of_the_training_were():
    "Alone, 03/04/2024 would be the 4th of March, and 1.250 a little more than 1."
    days = [f"{1 + i % 28:02}/{1 + i % 12:02}/2024" for i in range(60)]
    text = "day;price;y\n" + "".join(f"{day};{i}.000,50;{i}\n" for i, day in enumerate(days, 1))
    layer = Preparation(read_table(table(text)), "y")
    new = table("day;price\n03/04/2024;1.250\n", "new.csv")
    assert layer.encode(new).tolist() == [[(np.datetime64("2024-04-03") - np.datetime64("1970-01-01")).astype(int), 1250]]
    with pytest.raises(TableError, match="line 2, column 'day': written as month/day/year, but the model was trained with day/month/year"):
        layer.encode(read_table(new))


PLAIN = "a,b,y\n" + "".join(f"{i},{'pq'[i % 2]},{i / 4}\n" for i in range(30))


@pytest.mark.parametrize("data, note", [
    ("# made on Monday, by\n# a machine\n" + PLAIN, "2 lines before"), ("Prices\n\n" + PLAIN, "1 line before"), (PLAIN.replace("\n", ",\n"), "column 4 has no name"),
    ("a,b,y\n" + "".join(f"{i},{line}\n" for i, line in enumerate(PLAIN.splitlines()[1:])), "counts the rows: left out"), (PLAIN.replace(",", "  "), ""),
    ("Unnamed: 0,a,b,y\n" + "".join(f"{i},{line}\n" for i, line in enumerate(PLAIN.splitlines()[1:])), "counts the rows: left out"),
    ("# a,b,y\n" + PLAIN.split("\n", 1)[1], ""), (PLAIN.encode("utf-16-le"), "utf-16-le"), (PLAIN.replace("\n", ",\n", 1).replace("\n", ",\n").replace(",,\n", ",\n"), "")])
def test_what_stands_around_a_table(data, note):
    found = read_table(table(data))
    assert [*found.columns][:3] == ["a", "b", "y"] and found["y"].values.tolist() == [i / 4 for i in range(30)] and found["b"].words == ["p", "q"]
    assert any(note in said for said in [*found.notes, ""])


@pytest.mark.parametrize("first", ["5.1,x,0", "39,x,7", "3,x,3"])
def test_a_table_without_names(first):
    found = read_table(table(first + "\n" + "".join(f"{i},x,{i}\n" for i in range(20))))
    assert [*found.columns] == ["column 1", "column 2", "column 3"] and len(found) == 21 and "not names" in found.notes[0]
    assert [*read_table(table("country,1990,1991\nx,1,2\ny,3,4\n")).columns] == ["country", "1990", "1991"]


def test_archives():
    for names, words in (["t.csv"], ""), (["t.csv", "u.csv"], "has 2 files in it"), (["[Content_Types].xml", "xl/a"], "is a spreadsheet"):
        with zipfile.ZipFile("t.zip", "w") as archive:
            for name in names: archive.writestr(name, PLAIN)
        if not words: assert [*read_table("t.zip").columns] == ["a", "b", "y"]
        else: pytest.raises(TableError, read_table, "t.zip").match(words)
    Path("t.zip").write_bytes(Path("t.zip").read_bytes()[:40])
    pytest.raises(TableError, read_table, "t.zip").match("cannot be unpacked")


def test_all_ragged_rows_are_named_at_once():
    with pytest.raises(TableError, match="line 3: 2 cells, but the first line names 3 columns; line 5 has 4, line 6 has 1: 3 rows in all"):
        read_table(table("a,b,y\n1,2,3\n1,2\n1,2,3\n1,2,3,4\nx\n1,2,3\n1,2,3\n"))


def test_words_among_numbers_are_told():
    assert "15 cells of 30 hold a number, but 'big' is none" in read_table(table("a,y\n" + "".join(f"{i if i % 2 else 'big'},1\n" for i in range(30)))).notes[0]


def zipped(**files):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items(): archive.writestr(name.replace("__", "/").replace("_dot_", "."), text)
    return packed.getvalue()


TEXT = "a,b\n1.5,x\n2.5,ä\n"


@pytest.mark.parametrize("data", [gzip.compress(TEXT.encode()), bz2.compress(TEXT.encode()), lzma.compress(TEXT.encode()), zipped(t_dot_csv=TEXT), zipped(folder__t_dot_csv=TEXT),
                                  TEXT.encode("utf-16-le"), TEXT.encode("utf-16-be"), TEXT.encode("utf-32"), b"sep=,\r\n" + TEXT.encode(), bz2.compress(TEXT.encode("utf-16"))])
def test_packed_and_other_forms(data):
    t = read_table(table(data))
    assert t["a"].values.tolist() == [1.5, 2.5] and t["b"].texts() == ["x", "ä"]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_no_packed_file_is_believed_without_end(pack):
    with pytest.raises(TableError, match="unpacks into more than|letters is no row"): read_table(table(pack(b"a,b\n" + b"1,2\n" * 9_000_000)))


def test_lines_below_a_line_about_the_separator_keep_their_numbers():
    assert read_table(table("sep=;\na;b\n1,5;2\n3;x\n")).lines.tolist() == [3, 4]
    with pytest.raises(TableError, match="line 4: 1 cell, but the first line names 2 columns"): read_table(table("sep=;\na;b\n1,5;2\n3\n"))


@pytest.mark.parametrize("data, words", [
    (zipped(a="x", b="y"), "has 2 files in it"), (zipped(), "has 0 files in it"), (zipped(**{"[Content_Types]_dot_xml": ""}), "is a spreadsheet"), (b"\xd0\xcf\x11\xe0" + b"\0" * 50, "workbook of Excel"),
    (b"PAR1" + b"\x15\0" * 50, "Parquet"), (b"\x28\xb5\x2f\xfd" + bytes(99), "Zstandard"), (b"%PDF-1.4" + bytes(9), "PDF"), (b'[{"a": 1}]', "JSON"), (b"<html><table></table>", "web page"), (b"SQLite format 3" + bytes(9), "database"),
    (b"\x93NUMPY" + bytes(9), "array"), (bz2.compress(TEXT.encode() * 99)[:-9], "cannot be read"), (lzma.compress(TEXT.encode() * 99)[:-9], "cannot be read"), (zipped(t=TEXT)[:60], "cannot be unpacked"), (gzip.compress(b"t.csv".ljust(257, b"\0") + b"ustar" + bytes(99)), "archive of files")])
def test_other_files_are_called_what_they_are(data, words):
    with pytest.raises(TableError, match=re.escape(words)): read_table(table(data))


def test_a_nameless_column_beside_one_of_its_name():
    t = read_table(table("column 2,,y\n" + "".join(f"{i % 7},{i % 5},{i}\n" for i in range(30))))
    assert list(t.columns) == ["column 2", "column 2 (nameless)", "y"] and t["column 2"].values[6] == 6 and t["column 2 (nameless)"].values[6] == 1


def answers(cells, **options):
    rng = np.random.default_rng(0)
    return tasks.read_task(table("a;y\n" + "".join(f"{rng.normal()};{cells[i % len(cells)]}\n" for i in range(90))), "y", **options)


@pytest.mark.parametrize("cells, classes, rows", [
    (["1.1", "1.10", "2.0"], ["1.1", "1.10", "2"], [30, 30, 30]), (["12345678901234567890", "12345678901234567891"], ["12345678901234567890", "12345678901234567891"], [45, 45]), (["1", "+1"], ["+1", "1"], [45, 45]),
    (["1", "1.0", "2"], ["1", "2"], [60, 30]), (["0", "-0", "1"], ["0", "1"], [60, 30]), (["5", "5,0", "6"], ["5", "6"], [60, 30])])
def test_one_number_in_two_spellings(cells, classes, rows):
    "As classes they are two, but for a fraction or a sign that is nothing."
    task = answers(cells, task="classification")
    assert task.classes == classes and any("in several ways" in note for note in task.notes) == (len(set(rows)) == 1)
    assert np.bincount(np.concatenate([part[1] for part in (task.train, task.valid, task.test)])).tolist() == rows


def test_spellings_of_a_number_that_is_predicted_are_one():
    assert answers([f"{i / 7:.2f}" for i in range(80)] + ["1.50", "1.5"]).classes is None


def test_dates_as_answers():
    task = answers(["2024-01-01", "2024-02-01"])
    assert task.classes == ["2024-01-01", "2024-02-01"]
    task = answers([f"2024-{1 + i % 12:02}-{1 + i % 28:02}" for i in range(90)])
    assert task.classes is None and "y is a date: what is predicted are days since 1970-01-01" in task.notes


def test_classes_that_look_alike_are_named():
    for cells in (["a", "A", "b"], ["é", "e\u0301", "b"], ["TRUE", "true"], ["１x", "1x"]):
        assert any("look alike" in note for note in answers(cells).notes), cells
    assert not any("look alike" in note for note in answers(["a", "b"]).notes)


def test_weights_of_0_are_refused_before_anything_is_trained():
    text = "a,w,y\n" + "".join(f"{i},{{}},{i % 2}\n" for i in range(60))
    with pytest.raises(TableError, match="every weight is 0"): tasks.read_task(table(text.format(*[0] * 60)), "y", weights="w")
    with pytest.raises(TableError, match="all have weight 0"): tasks.read_task(table(text.format(1, *[0] * 59)), "y", weights="w")


@pytest.mark.parametrize("scale", [1e-90, 1e90])
def test_numbers_that_float32_cannot_hold(scale):
    rng = np.random.default_rng(0)
    text = "a,b,y\n" + "".join(f"{a * scale:.6e},{b:.3f},{'yes' if a > 0 else 'no'}\n" for a, b in rng.normal(size=(200, 2)))
    report = tasks.train_task(tasks.read_task(table(text), "y"), epochs=30, progress=False)
    assert report.score > 0.85 and np.isfinite(report.prediction).all()


def test_what_is_no_ordinary_file(tmp_path):
    with pytest.raises(TableError, match="is a folder"): read_table(tmp_path)
    os.mkfifo(tmp_path / "pipe")  # would wait for ever
    with pytest.raises(TableError, match="is no ordinary file"): read_table(tmp_path / "pipe")


def test_classes_that_a_terminal_would_obey(recwarn):
    rows = "".join(f"{i},{i % 7},{['日本', chr(27) + '[31mred'][i % 2]}\n" for i in range(40))
    task = tasks.read_task(table(f"a,b,y\n{rows}"), "y")
    reports.write_pictures(tasks.train_task(task, epochs=1, progress=False), Path("."))
    assert "\x1b" not in Path("report.md").read_text(encoding="utf-8") and not [w for w in recwarn if "Glyph" in str(w.message)]


def test_frames():
    class Frame(dict):
        columns = property(lambda self: list(self))
    t = read_table(Frame(a=np.array([1, 2]), b=np.array(["x", None], object), c=np.array([True, False]), d=np.array(["2024-01-01", "NaT"], "datetime64[D]"),
                         e=np.array([1, None, ], object)))
    assert [c.kind for c in t.columns.values()] == ["numbers", "words", "words", "dates", "numbers"]
    assert [c.holes.sum() for c in t.columns.values()] == [0, 1, 0, 1, 1]
    with pytest.raises(TypeError, match="expected the path of a file, or a DataFrame, not int"): read_table(3)


def test_pandas_frames():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"n": [1.5, None], "s": ["a", None], "c": pandas.Categorical(["u", "v"]), "i": pandas.array([1, None], "Int64")})
    assert [c.kind for c in read_table(frame).columns.values()] == ["numbers", "words", "words", "numbers"]


# ---------------------------------------------------------------- the first layer

def test_words_holes_dates_and_numbers_become_features():
    t = read_table(table("n,w,d,y\n" + "1,a,2024-01-01,0\n2,b,2024-07-01,1\n,a,,0\n4,,2024-03-01,1\n" * 5))
    layer = Preparation(t, "y")
    x = layer.encode(t)
    out = layer(x)
    assert x.dtype == np.float64 and out.dtype == np.float32 and out.shape == (20, 2 + 3 + 4)
    assert np.isfinite(out).all() and repr(layer) == "Preparation(3 columns, 9 features)"
    again = layer.encode(read_table(table("y,w,n,d,more\n0,c,1e6,2030-01-01,?\n", "new.csv")))
    assert np.isfinite(layer(again)).all() and abs(layer(again)).max() <= 3.001  # a word never seen, and numbers far out


def test_only_the_training_rows_are_looked_at():
    text = mixed()
    task = tasks.read_task(table(text), "y")
    rows = tasks.read_task(table(text.replace("size", "größe")), "y")
    assert task.preparation._shift.tobytes() == rows.preparation._shift.tobytes()
    train = np.concatenate([task.train[0][:, 0]])
    assert task.preparation._shift[0] == np.median(train)


@pytest.mark.parametrize("text, words", [
    ("size,when,code\n1,2024-01-01,01\n", "new.csv lacks colour: the model was trained with size, colour, when, code"),
    ("code,y\n01,yes\n", "new.csv lacks size, colour, when"),
    ("size,colour,when,code\nbig,red,2024-01-01,01\n", "new.csv, line 2, column 'size': 'big', but the model was trained with numbers there"),
    ("size,colour,when,code\n1,red,May,01\n", "column 'when': 'May', but the model was trained with dates"),
    ("size,when\nbig,May\n", "column 'size': 'big', but the model was trained with numbers there\nnew.csv, line 2, column 'when': 'May'"),
])
def test_columns_that_do_not_fit_are_named(text, words):
    layer = Preparation(read_table(table(mixed())), "y")
    with pytest.raises(TableError) as caught: layer.encode(read_table(table(text, "new.csv")))
    assert words in str(caught.value)


def test_saved_exported_and_the_same(tmp_path):
    pytest.importorskip("safetensors")
    task = tasks.read_task(table(mixed()), "y")
    report = tasks.train_task(task, hidden=(8,), epochs=3, progress=False)
    nn.save(report.model, "m")
    again = nn.load("m")
    x = task.test[0]
    assert nn.predict(again, x).tobytes() == nn.predict(report.model, x).tobytes() and again[0].about() == task.preparation.about()
    assert again[0].about()["classes"] == ["no", "yes"]
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    nn.export_onnx(report.model, "m.onnx", x[:1])
    onnx.checker.check_model(onnx.load("m.onnx"), full_check=True)
    (theirs,) = onnxruntime.InferenceSession("m.onnx").run(["y"], {"x": x})
    np.testing.assert_allclose(theirs, nn.predict(report.model, x), atol=1e-5)


@pytest.mark.parametrize("change", [
    lambda note: note["state"]["0._source"].update(shape=[1], data="AAAAAAAAAAk="), lambda note: note["state"]["0._kind"].update(dtype="uint64"),
    lambda note: note["state"].pop("0._about"), lambda note: note["state"]["0._about"].update(shape=[2], data="e30="),
    lambda note: note["state"]["0._about"].update(shape=[3], data="W1td")], ids=range(5))
def test_a_hostile_preparation_is_refused(change):
    pytest.importorskip("safetensors")
    layer = Preparation(read_table(table(mixed())), "y")
    nn.save(nn.Sequential(layer, nn.Linear(layer(layer.encode("t.csv")).shape[1], 2)), "m")
    data = Path("m").read_bytes()
    stop = 8 + int.from_bytes(data[:8], "little")
    head = json.loads(data[8:stop])
    note = json.loads(head["__metadata__"]["nn_from_scratch"])
    change(note)
    head["__metadata__"]["nn_from_scratch"] = json.dumps(note)
    text = json.dumps(head).encode()
    Path("m").write_bytes(len(text).to_bytes(8, "little") + text + data[stop:])
    with pytest.raises(ValueError, match="load: m: "): nn.load("m")


# ---------------------------------------------------------------- the command

def test_from_a_table_to_answers(capsys):
    pytest.importorskip("safetensors")
    main(data=table(mixed(300)), target="y", epochs=40, output="run")
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == f"to answer new rows: nn_predict {Path('run/model.safetensors')} NEW.csv" and "; balanced 0." in said
    lines = mixed(50, seed=1).splitlines()
    table("\n".join(lines), "new.csv")
    predict_rows("run/model.safetensors", "new.csv")
    answered = capsys.readouterr().out.splitlines()
    right = [a == line.split(",")[-1] for a, line in zip(answered[1:], lines[1:], strict=True)]
    assert answered[0] == "y" and np.mean(right) > 0.85
    predict_rows("run/model.safetensors", "new.csv", probabilities=True, output="out.csv")
    head, first, *_ = Path("out.csv").read_text().splitlines()
    assert head == "y,p(no),p(yes)" and abs(sum(map(float, first.split(",")[1:])) - 1) < 1e-5
    assert "| yes |" in Path("run/report.md").read_text() and "![confusion matrix](confusion_matrix.png)" in Path("run/report.md").read_text()


@pytest.mark.parametrize("model, data, words", [
    ("digits.st", "t.csv", "this model was not trained by nn_train on a table"), ("nowhere", "t.csv", "there is no file nowhere"),
    ("m", "nowhere.csv", "nowhere.csv: there is no such file"), ("m", "bad.csv", "bad.csv lacks size")])
def test_answers_that_cannot_be_given(model, data, words, capsys):
    pytest.importorskip("safetensors")
    nn.save(nn.mlp([64, 10]), "digits.st")
    nn.save(tasks.train_task(tasks.read_task(table(mixed()), "y"), hidden=(), epochs=1, progress=False).model, "m")
    table("a,b\n1,2\n", "bad.csv")
    with pytest.raises(SystemExit): predict_rows(model, data)
    said = capsys.readouterr()
    assert words in said.err and said.err.startswith("nn_predict: ") and said.out == ""


def test_groups_are_never_split_up():
    text = "g,a,y\n" + "".join(f"s{i // 6},{i % 7},{i % 2}\n" for i in range(240))
    for seed in range(5):
        task = tasks.read_task(table(text), "y", group="g", rng=seed)
        assert task.features == ["a"] and sum(len(y) for _, y in (task.train, task.valid, task.test)) == 240
    groups = np.arange(240) // 6
    from nn_from_scratch.splits import three_parts
    for seed in range(20):
        parts = [set(groups[rows]) for rows in three_parts(np.zeros(240, int), None, groups, seed)]
        assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2] and sum(map(len, parts)) == 40


def test_weights_count(capsys):
    text = "w,a,y\n" + "".join(f"{1 if i % 2 else 0},{i % 10},{(i % 10) * (1 if i % 2 else -1)}\n" for i in range(200))
    report = tasks.train_task(tasks.read_task(table(text), "y", task="regression", weights="w"), epochs=60, progress=False)
    assert report.task.features == ["a"] and report.score > 0.9
    with pytest.raises(TableError, match="line 2, column 'w': a weight is a number of at least 0, not '-1'"):
        tasks.read_task(table(text.replace("\n0,", "\n-1,", 1)), "y", weights="w")


def test_folds(capsys):
    main(data=table(mixed(100)), target="y", epochs=3, hidden="8", kfold=4, output="run")
    assert "accuracy over 4 folds: 0." in capsys.readouterr().out
    rows = [tuple(map(tuple, np.nan_to_num(task.test[0]))) for task in tasks.folds("t.csv", "y", 4)]
    assert sum(map(len, rows)) == 100
    with pytest.raises(SystemExit): main(data="t.csv", target="y", kfold=1)


@pytest.mark.parametrize("ignore, left", [("a,b", ["c"]), (["a", "b"], ["c"]), (["x,y", "a"], ["b", "c"]), ("x,y", ["a", "b", "c"])])
def test_columns_left_out_by_name_even_with_a_comma(ignore, left, capsys):
    text = 'a,b,c,"x,y",t\n' + "".join(f"{i % 3},{i % 5},{i % 7},{i % 4},{i}\n" for i in range(60))
    if ignore == "a,b" or ignore == ["a", "b"]: left = [*left, "x,y"]
    main(data=table(text), target="t", ignore=ignore, epochs=1, output="run")
    assert json.loads(Path("run/report.json").read_text())["features"] == left


def test_ignore_can_be_given_again_in_a_shell():
    done = run(TRAIN, "--data", table(mixed()), "--target", "y", "--epochs", "1", "--ignore", "when", "--ignore", "code", "--output", "run")
    assert done.returncode == 0, done.stderr
    assert json.loads(Path("run/report.json").read_text())["features"] == ["size", "colour"]


def test_all_unknown_columns_are_named_at_once(capsys):
    with pytest.raises(SystemExit): main(data=table(mixed()), target="y", ignore=["id", "name", "size"])
    assert "--ignore id,name: t.csv has no such column" in capsys.readouterr().err
    with pytest.raises(SystemExit): main(data="t.csv", target="why", ignore=["id"], group="who", weights="code")
    assert "--target why --ignore id --group who: t.csv has no such column" in capsys.readouterr().err


@pytest.mark.parametrize("asked, target", [("3", "y"), ("-1", "y"), ("1", "a"), ("y", "y")])
def test_the_target_by_its_place(asked, target, capsys):
    main(data=table(PLAIN), target=asked, epochs=1, output="run")
    assert json.loads(Path("run/report.json").read_text())["target"] == target


def test_columns_that_only_name_are_suspected():
    rng = np.random.default_rng(0)
    rows = "".join(f"{9000 + 7 * i},s{i % 9},{rng.normal():.3f},{rng.normal():.3f}\n" for i in rng.permutation(60))
    notes = "; ".join(tasks.read_task(table("customer_id,subject,a,y\n" + rows), "y").notes)
    assert "--ignore customer_id" in notes and "--group subject" in notes and "'a'" not in notes


def test_a_class_asked_about(capsys):
    main(data=table(mixed()), target="y", epochs=1, positive="yes", output="run")
    said = re.search(r"yes: (\d+) of (\d+) found; said of (\d+) rows? that it is not true of", capsys.readouterr().out)
    assert said and said[0] in Path("run/report.md").read_text(encoding="utf-8") and int(said[1]) <= int(said[2])
    with pytest.raises(SystemExit): main(data="t.csv", target="y", positive="maybe")
    assert "--positive maybe: y has no such class; there are no, yes" in capsys.readouterr().err


def test_a_regression_is_loaded_by_a_program_that_imports_nothing_else():
    main(data=table(mixed()), target="size", epochs=1, output="run")
    done = run("import nn_from_scratch as nn; m = nn.load('run/model.safetensors'); print(m(m[0].encode('t.csv')).shape)")
    assert done.stdout.strip() == "(120, 1)", done.stderr


def test_nothing_learnt_is_said(capsys):
    text = "a,y\n" + "".join(f"{i % 2},{'p' if i % 10 else 'q'}\n" for i in range(200))
    main(data=table(text), target="y", epochs=2, output="run")
    assert "no better than the baseline" in capsys.readouterr().out


def test_ten_thousand_columns():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 9, (40, 10_000))
    table(",".join(f"c{i}" for i in range(10_000)) + ",y\n" + "".join(",".join(map(str, row)) + f",{row[0]}\n" for row in x.tolist()))
    assert len(tasks.read_task("t.csv", "y", task="regression").features) == 10_000


# ---------------------------------------------------------------- what was learnt is kept

def test_the_model_is_there_before_a_picture_is_drawn(capsys, monkeypatch):
    pytest.importorskip("safetensors")
    seen = []
    def fail(report):
        seen.extend(sorted(path.name for path in Path("run").iterdir()))
        raise ValueError("$10_$20 is no formula")
    monkeypatch.setattr(reports, "pictures", fail)
    main(data=table(mixed()), target="y", epochs=1, output="run")
    assert seen == ["history.json", "model.safetensors", "report.json", "settings.json"]
    assert "a picture could not be drawn (ValueError: $10_$20 is no formula); the model and its history are saved" in capsys.readouterr().err


def test_an_interrupt_while_drawing_costs_the_pictures(capsys, monkeypatch):
    pytest.importorskip("safetensors")
    def stop(report): raise KeyboardInterrupt
    monkeypatch.setattr(reports, "pictures", stop)
    main(data=table(mixed()), target="y", epochs=1, output="run")
    assert Path("run/model.safetensors").exists() and "interrupted while drawing" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="kills a process with a signal")
def test_a_killed_run_goes_on_to_the_same_bits():
    pytest.importorskip("safetensors")
    options = ["--data", table(mixed(400)), "--target", "y", "--epochs", "40", "--hidden", "16"]
    assert run(TRAIN, *options, "--output", "whole").returncode == 0
    env = os.environ | {"PYTHONPATH": str(Path(nn.__file__).parent.parent), "OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen([sys.executable, "script.py", *options, "--output", "killed"], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        while child.poll() is None and len(list(Path("killed/checkpoints").glob("*"))) < 2: time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
    if Path("killed/model.safetensors").exists(): pytest.skip("it was too quick to be killed")
    done = run(TRAIN, "--resume", "killed")
    assert done.returncode == 0, done.stderr
    assert Path("killed/model.safetensors").read_bytes() == Path("whole/model.safetensors").read_bytes()
    assert not Path("killed/checkpoints").exists() and "nothing to go on with" in run(TRAIN, "--resume", "killed").stderr


@pytest.mark.skipif(os.name != "posix", reason="closes a stream as a shell does")
@pytest.mark.parametrize("closing", ["2>&-", ">&-", ">&- 2>&-", "<&-"])
def test_closed_streams(closing):
    table(mixed())
    env = os.environ | {"PYTHONPATH": str(Path(nn.__file__).parent.parent), "OPENBLAS_NUM_THREADS": "1"}
    command = f"{sys.executable} -m nn_from_scratch --data t.csv --target y --epochs 2 --output run {closing}"
    done = subprocess.run(["sh", "-c", command], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pytest.importorskip("safetensors")
    assert nn.load("run/model.safetensors")[0].columns and json.loads(Path("run/history.json").read_text())["stopped"]
    assert subprocess.run(["sh", "-c", command.replace("--epochs 2", "--epochs 0")], env=env, capture_output=True).returncode == 2


def test_help_on_a_terminal_that_knows_ascii_alone():
    for code in TRAIN, "from nn_from_scratch.answers import predict_rows; predict_rows()":
        done = run(code, "--help", env={"PYTHONIOENCODING": "ascii:strict", "LC_ALL": "C"})
        assert done.returncode == 0 and "usage" in done.stdout and done.stderr == ""


def test_no_error_stream_at_all(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    console.say("nn_train", "nobody hears this")
    with pytest.raises(SystemExit): main(epochs=0)


# ---------------------------------------------------------------- files and names of somebody else

def packed(head, piece, megabytes):
    "A small gzip file of that much."
    pack = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = piece * (2**20 // len(piece))
    return b"".join([pack.compress(head), *(pack.compress(block) for _ in range(megabytes)), pack.flush()])


@pytest.mark.parametrize("head, piece, word", [(b"a,b\n", b"1,2\n", "unpacks into more"), (b"a,b\n", b"\n", "unpacks into more"), (b"a,b\n1,", b"1", "no row"), (b"", b"x", "no row"), (b"", b"x,", "no row")],
                         ids=["many rows", "empty lines", "a long cell", "a long name", "many columns"])
def test_a_small_file_does_not_become_a_large_table(head, piece, word, monkeypatch):
    monkeypatch.setattr(table_files, "_MOST", 2**20)
    monkeypatch.setattr(table_files, "_LINE", 2**18)
    table(packed(head, piece, 60), "t.csv.gz")
    assert Path("t.csv.gz").stat().st_size < 70_000
    start = time.perf_counter()
    with pytest.raises(TableError, match=word): read_table("t.csv.gz")
    assert time.perf_counter() - start < 60  # all of it would take minutes
    with zipfile.ZipFile("t.zip", "w", zipfile.ZIP_DEFLATED) as archive: archive.writestr("t.csv", head + piece * (2**21 // len(piece)))
    with pytest.raises(TableError, match="unpacks into more"): read_table("t.zip")
    monkeypatch.undo()
    table(packed(b"a,b\n", b"1,2\n", 1), "u.csv.gz")  # as much as this is read
    assert len(read_table("u.csv.gz")) == 2**18


NASTY = "\x1b[2J\x1b]0;evil\x07" + "n" * 100_000


@pytest.mark.parametrize("call", [
    lambda t: t[NASTY], lambda t: tasks.read_task("t.csv", NASTY), lambda t: tasks.read_task("t.csv", "y", group=NASTY), lambda t: tasks.read_task("t.csv", list(t.columns)[1], "regression"),
    lambda t: Preparation(t).encode(read_table("u.csv")), lambda t: Preparation(read_table("u.csv")).encode(t), lambda t: Preparation(t, "y", [*t.columns]), lambda t: read_table("v.csv"),
    lambda t: read_table(table(f"{NASTY},{NASTY},b\n1,2,3\n", "w.csv")), lambda t: tasks.read_task("t.csv", "y", weights=list(t.columns)[1])])
def test_what_a_message_quotes_of_a_table_is_short_and_printable(call):
    table(f"{NASTY}1,{NASTY}2,y\n" + "".join(f"{i % 9},{NASTY[:200]}{i % 3},{i % 2}\n" for i in range(60)))
    table("a,y\n" + "".join(f"{i % 9},{i % 2}\n" for i in range(60)), "u.csv")
    Path("v.csv").write_bytes(b"\0\0\x1b[2J")
    t = read_table("t.csv")
    with pytest.raises(ValueError) as error: call(t)
    assert len(str(error.value)) <= 2001 and str(error.value).replace("\n", "").isprintable()


def test_notes_and_reports_are_short_printable_and_mean_nothing_but_themselves():
    name, cell = "<img src=x onerror=alert(1)>\x1b[2J" + "n" * 5000, "[a](javascript:b)|<b>|`*_"
    table(f"{name},empty,y\n" + "".join(f"{i % 9},,{[cell, 'no'][i % 2]}\n" for i in range(60)))
    report = tasks.train_task(tasks.read_task("t.csv", "y"), epochs=1, progress=False)
    report.task.target = report.task.name = name
    for text in reports.report_text(report), reports.asked_about(report, cell):
        assert text.replace("\n", "").isprintable() and len(text) <= 10_001
    reports.write_pictures(report, Path("."), positive=cell)
    said = Path("report.md").read_text(encoding="utf-8")
    assert len(said) < 5000 and not re.search(r"(?<!\\)[<>`*_\[]", re.sub(r"!\[[a-z ]*\]\([a-z_]*\.png\)", "", said))
    assert not [line for line in said.splitlines() if line.startswith("|") and len(re.findall(r"(?<!\\)\|", line)) != 5]


def test_a_terminal_is_shown_nothing_that_it_obeys(monkeypatch):
    for terminal in True, False:
        stream = io.StringIO()
        stream.isatty = lambda: terminal  # noqa: B023
        monkeypatch.setattr(sys, "stdout", stream)
        console.show("a\tb\n\x1b[2Jc")
        assert stream.getvalue() == ("a\tb\n�[2Jc\n" if terminal else "a\tb\n\x1b[2Jc\n")  # a file gets what there is
    monkeypatch.setattr(sys, "stdout", None)
    console.show("nobody hears it")


def test_the_names_of_many_columns_cost_what_they_weigh():
    def seconds(n):
        table(",".join(f"c{i}" for i in range(n)) + "\n" + ",".join(["1"] * n) + "\n")
        times = []
        for _ in range(3):
            start = time.perf_counter()
            read_table("t.csv")
            times.append(time.perf_counter() - start)
        return min(times)
    seconds(500)
    assert seconds(16_000) < 24 * seconds(2_000)  # eight times as many; squared it would be 64
