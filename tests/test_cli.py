"""The command `nn_train`: tables of every kind, each mistake in words and with its exit code, and runs that never touch one another."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nn_from_scratch as nn
from nn_from_scratch import cli, tasks

main = cli.main.__wrapped__  # the function itself, whatever called the tests


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    "Each test runs in an empty folder of its own."
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows(n=60, target=lambda a, b: f"{2 * a - b:.3f}", separator=",", end="\n"):
    "A table with the columns a, b and y."
    x = np.random.default_rng(0).normal(size=(n, 2))
    lines = [("a", "b", "y"), *((f"{a:.3f}", f"{b:.3f}", target(a, b)) for a, b in x)]
    return "".join(separator.join(line) + end for line in lines)


def with_line(number, text, **options):
    "The table with another line at a place, counted from 1 as an editor does."
    lines = rows(**options).splitlines()
    lines[number - 1] = text
    return "\n".join(lines) + "\n"


def table(text, name="t.csv", encoding="utf-8"):
    with open(name, "w", newline="", encoding=encoding) as file: file.write(text)
    return name


def run(*args, env=None):
    "The command in a process of its own."
    return subprocess.run([sys.executable, "-m", "nn_from_scratch", *args], capture_output=True, text=True, encoding="utf-8",
                          stdin=subprocess.DEVNULL, env=os.environ | {"PYTHONIOENCODING": "utf-8", "OPENBLAS_NUM_THREADS": "1"} | (env or {}))


def error(capsys, **options):
    "The exit code and the words of a call that fails, having left no run behind."
    with pytest.raises(SystemExit) as end: main(**{"epochs": 1} | options)
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and said.err.startswith("nn_train: "), said
    assert not os.path.exists("runs")
    return end.value.code, said.err.removeprefix("nn_train: ").strip()


# ---------------------------------------------------------------- what it is called with

def test_help_names_every_option_and_its_default():
    done = run("--help")
    assert done.returncode == 0 and done.stderr == ""
    text = " ".join(done.stdout.split())
    for option in "data target task ignore hidden activation epochs batch optimizer lr seed output".split(): assert f"--{option} " in text
    assert "(default: 128,64)" in text and "(default: )" not in text and "None" not in text


@pytest.mark.parametrize("args, words", [
    (["--epochs", "many"], "invalid int value: 'many'"),
    (["--depth", "3"], "unrecognized arguments: --depth 3"),
    (["t.csv"], "unrecognized arguments: t.csv"),
    (["--lr"], "--lr: expected one argument"),
    (["--hidden", "64,x"], "nn_train: --hidden 64,x: give the units of each hidden layer, as in 128,64"),
    (["--data", "nowhere.csv"], "nn_train: --data nowhere.csv: there is no such file"),
])
def test_a_wrong_call_in_a_shell(args, words):
    done = run(*args)
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr and done.stdout == ""
    assert os.listdir() == []


@pytest.mark.parametrize("options, words", [
    (dict(hidden="64,0"), "--hidden 64,0: give the units of each hidden layer"),
    (dict(hidden="64 32"), "--hidden 64 32"),
    (dict(activation="step"), "--activation step: there are sigmoid, tanh, relu, leaky_relu, elu, softplus, silu, gelu, identity"),
    (dict(optimizer="lbfgs"), "--optimizer lbfgs: there are sgd, adagrad, rmsprop, adam, adamw"),
    (dict(task="ranking"), "--task ranking: there are auto, classification, regression"),
    (dict(epochs=0), "--epochs 0: at least 1"),
    (dict(batch=0), "--batch 0: at least 1"),
    (dict(lr=0.0), "--lr 0.0: a learning rate is a positive number"),
    (dict(lr=float("nan")), "--lr nan"),
    (dict(seed=-1), "--seed -1: a seed is 0 or more"),
    (dict(data="."), "--data .: there are no sub-folders; each class is a sub-folder with its pictures"),
    (dict(data="t.csv", target="y", size=8), "--size 8: pixels a side of the pictures in a folder, not of --data t.csv"),
    (dict(target="y"), "belong to a table of your own, not to --data digits"),
    (dict(ignore="y"), "belong to a table of your own"),
    (dict(task="regression"), "belong to a table of your own"),
    (dict(data="t.csv"), "--data t.csv: which column is to be predicted? Add --target COLUMN; there are a, b, y"),
    (dict(data="t.csv", target="price"), "--target price: t.csv has no such column; there are a, b, y"),
    (dict(data="t.csv", target="y", ignore="a, id"), "--ignore id: t.csv has no such column"),
    (dict(data="t.csv", target="y", ignore="y"), "--ignore y: this is the column to predict"),
    (dict(data="t.csv", target="y", ignore="a,b"), "--ignore a,b: no column of t.csv is left to predict y from"),
    (dict(output="t.csv"), "--output t.csv: it exists and is not empty"),
], ids=lambda value: "" if isinstance(value, str) else " ".join(f"{k}={v}" for k, v in value.items()))
def test_usage(options, words, capsys):
    table(rows())
    code, said = error(capsys, **options)
    assert code == 2 and words in said, said


def test_many_columns_are_not_all_listed(capsys):
    table(",".join(f"c{i}" for i in range(40)) + "\n" + (",".join("1" * 40) + "\n") * 30)
    assert error(capsys, data="t.csv", target="y")[1].endswith("there are c0, c1, c2, c3, c4, c5, …, c37, c38, c39")


# ---------------------------------------------------------------- tables that cannot be learnt from

@pytest.mark.parametrize("text, words", [
    ("", "t.csv: 0 columns and 0 rows; a table needs a line that names two columns or more"),
    ("a,b,y\n", "t.csv: 3 columns and 0 rows"),
    ("y\n" + "1\n" * 30, "t.csv: 1 column and 30 rows"),
    ("a_b_y\n" + "1_2_3\n" * 30, "separated by commas, semicolons or tabs"),
    (rows().replace("a,b,y", "a,a,y"), "it repeats 'a'"),
    (rows(19), "t.csv has 19 rows; with fewer than 20"),
    (with_line(8, "1,2"), "t.csv, line 8: 2 cells, but the first line names 3 columns"),
    (with_line(8, "1,2,3,"), "t.csv, line 8: 4 cells"),
    (with_line(8, '"1,2,3'), "t.csv, line 8: this is no row of a table; is a quotation mark not closed"),
    (with_line(8, f'"{"x" * 140_000}",2,3'), "t.csv, line 8: this is no row of a table"),
    ("a,y\n" + "".join(f"{i},{i if i % 5 else 'x'}\n" for i in range(60)), "many to be classes; they are no numbers either: line 2 has 'x'"),
    (rows(target=lambda a, b: "3.5"), "t.csv, column 'y': every row has the value '3.5', so there is nothing to predict"),
    (rows(target=lambda a, b: "same"), "every row has the value 'same'"),
    ("a name,y\n" + "".join(f"x{i},{i}\n" for i in range(30)), "column 'a name': no word stands in it twice"),
])
def test_table(text, words, capsys):
    table(text)
    code, said = error(capsys, data="t.csv", target="y")
    assert code == 1 and words in said, said


@pytest.mark.parametrize("text", [with_line(3, "1,2,7.5", target=lambda a, b: "1"), with_line(5, "1,0,1e90")])
def test_numbers_too_alike_to_measure_by(text, capsys):
    code, said = error(capsys, data=table(text), target="y", task="regression")
    assert code == 1 and "are all alike in y, " in said and "look for a value far out of line, or try another --seed" in said


@pytest.mark.parametrize("task, target, words", [
    ("classification", lambda a, b: f"{a:.3f}", "too many to be classes; --task regression predicts the number"),
    ("regression", lambda a, b: "red" if a > 0 else "blue", "column 'y': the value is 'red', not a number"),
])
def test_the_wrong_task_for_a_target(task, target, words, capsys):
    code, said = error(capsys, data=table(rows(target=target)), target="y", task=task)
    assert code == 1 and words in said


def test_a_folder_that_cannot_be_made(capsys):
    table(rows())
    code, said = error(capsys, data="t.csv", target="y", output="t.csv/run")
    assert code == 1 and said.startswith("the folder t.csv/run cannot be made: ".replace("/", os.sep))


def test_a_network_too_large_for_memory(capsys, monkeypatch):
    def full(*args, **kwargs): raise MemoryError
    monkeypatch.setattr(cli, "train_task", full)
    with pytest.raises(SystemExit) as end: main(hidden="1000000000")
    assert end.value.code == 1 and "not enough memory for --hidden 1000000000" in capsys.readouterr().err


def test_missing_mnist(capsys, monkeypatch):
    monkeypatch.setenv("NN_FROM_SCRATCH_DATA", "nowhere")
    code, said = error(capsys, data="mnist")
    assert code == 1 and "there is no folder nowhere" in said


def test_divergence_is_a_failure_that_is_reported(capsys):
    with pytest.raises(SystemExit) as end: main(lr=1e8, optimizer="sgd", epochs=2)
    said = capsys.readouterr()
    assert end.value.code == 1 and said.err == "nn_train: the training has diverged\n" and "Try a smaller learning rate" in said.out
    assert json.loads(Path("runs/digits-1/history.json").read_text())["stopped"] == "diverged"


# ---------------------------------------------------------------- tables as they come

def parts(task): return [len(y) for _, y in (task.train, task.valid, task.test)]


@pytest.mark.parametrize("text", [
    rows(separator=";"), rows(separator="\t"), rows(separator=" , "), rows(end="\r\n"), rows(end="\r"), "\ufeff" + rows(), "\n\n" + rows(),
    rows().replace("\n", "\n\n"), rows().replace("a,b,y", '"a","b","y"'), with_line(2, '"0.126","-0.132","0.384"'), rows().rstrip("\n"),
], ids=["semicolons", "tabs", "spaces", "crlf", "cr", "bom", "blank lines first", "blank lines", "quoted names", "quoted cells", "no last newline"])
def test_the_same_table_in_many_forms(text):
    task, plain = cli.read_table(table(text), "y"), cli.read_table(table(rows(), "plain.csv"), "y")
    assert task.features == ["a", "b"] and task.classes is None and parts(task) == [38, 10, 12]
    for (x, y), (x_plain, y_plain) in zip((task.train, task.valid, task.test), (plain.train, plain.valid, plain.test)):
        assert np.array_equal(x, x_plain) and np.array_equal(y, y_plain)


def test_quotation_marks():
    words = ["x, y", 'a ""z""']
    lines = "".join(f'{i},{i % 7},"{words[i % 2]}"\n' for i in range(40))
    task = cli.read_table(table('"a, in metres","b ""q""",y\n' + lines), "y")
    assert task.features == ["a, in metres", 'b "q"'] and task.classes == ['a "z"', "x, y"]


def test_a_name_over_two_lines():
    table('"a\nb",y\n1,2\n1,2\nx,3\n' + "1,2\n2,3\n" * 30)
    assert cli.read_table("t.csv", "y").notes[0] == "column 'a\\nb': 1 cell of 63 hold no number and count as missing, the first in line 5: 'x'"


def test_a_semicolon_in_a_quoted_name_is_no_separator():
    assert cli.read_table(table('"a; b; c",y\n' + "".join(f"{i},{i / 8}\n" for i in range(30))), "y").features == ["a; b; c"]


@pytest.mark.parametrize("target, classes", [
    (lambda a, b: "0" if a > 0 else "1", ["0", "1"]),
    (lambda a, b: "0.0" if a > 0 else "0" if b > 0 else "1", ["0", "1"]),  # one number in two spellings is one class
    (lambda a, b: str(a > 0), ["False", "True"]),
    (lambda a, b: ["rot", "grün", "blau"][int(a > 0) + int(b > 0)], ["blau", "grün", "rot"]),
    (lambda a, b: ["1000001", "1000002"][int(a > 0)], ["1000001", "1000002"]),
    (lambda a, b: f"{a:.3f}", None),
    (lambda a, b: ["0.5", "1.5"][int(a > 0)], None),
])
def test_the_target_decides_the_task(target, classes):
    assert cli.read_table(table(rows(target=target)), "y").classes == classes


def test_ids_as_a_target_are_numbers():
    lines = "".join(f"{i / 7},{1000 + i}\n" for i in range(60))
    assert cli.read_table(table("a,y\n" + lines), "y").classes is None


def test_halves_as_classes_when_asked_for():
    task = cli.read_table(table(rows(target=lambda a, b: ["0.5", "1.5"][int(a > 0)])), "y", task="classification")
    assert task.classes == ["0.5", "1.5"]


def test_columns_left_out(capsys):
    table("day,a,y\n" + "".join(f"2024-01-01,{i},{i / 2}\n" for i in range(40)))
    main(data="t.csv", target="y", ignore="day", epochs=1, output="run")
    assert json.loads(Path("run/report.json").read_text())["features"] == ["a"]


@pytest.mark.parametrize("text", [
    rows(25), rows(25, target=lambda a, b: ["rot", "grün", "blau"][int(a > 0) + int(b > 0)]), rows(20), with_line(5, "1e30,0,1"),
    with_line(5, "1,0,1e6"), with_line(5, "0,0,rare", target=lambda a, b: ["p", "q"][int(a > 0)]), "a,y\n" + "".join(f"1,{i / 3}\n" for i in range(30)),
    with_line(8, ",2,3"), with_line(8, "1,N/A,3"), with_line(8, "1,2,"), with_line(8, "1,blue,3"), with_line(8, "1,1e400,3"), with_line(8, "1,-inf,3"),
    rows().replace(",", ";").replace(".", ","), rows(30, target=lambda a, b: f"class {int(abs(a * 1000)) % 6}"),
    rows(target=lambda a, b: ["$10_$20", "$5_{"][int(a > 0)]),
], ids=["25 rows", "25 rows, 3 classes", "20 rows", "one huge feature", "one huge target", "a class of one", "a constant feature", "a hole",
        "a hole in words", "a hole in the target", "a stray word", "too large", "infinite", "decimal commas", "30 rows, 6 classes", "dollars"])
def test_odd_tables_are_trained_on(text, capsys):
    main(data=table(text), target="y", epochs=2, output="run")
    said = capsys.readouterr()
    assert "on the held-out examples" in said.out and "nan" not in said.out and "Traceback" not in said.err
    assert max(map(len, said.out.splitlines())) < 160


def test_a_table_named_digits(capsys):
    main(data=table(rows(), "digits.csv"), target="y", epochs=1)
    assert "settings, history and pictures are in" in capsys.readouterr().out


def test_a_column_with_many_digits_is_not_rounded():
    x = 1_700_000_000 + np.arange(200.0)  # seconds: float32 would tell only every 128th of them apart
    table("when,y\n" + "".join(f"{t:.0f},{np.sin(t / 20):.6f}\n" for t in x))
    report = cli.train_task(cli.read_table("t.csv", "y"), hidden=(64, 64), optimizer=nn.Adam(0.01), epochs=300, progress=False)
    assert report.score > 0.95


def test_the_model_answers_in_the_units_of_the_table():
    report = cli.train_task(cli.read_table(table(rows(200, target=lambda a, b: f"{1e6 + 2e5 * a:.1f}")), "y"), epochs=30, progress=False)
    assert report.score > 0.9 and np.allclose(nn.predict(report.model, report.task.test[0]), report.prediction)


def test_scikit_learns_tables():
    datasets = pytest.importorskip("sklearn.datasets")
    for name, least in ("iris", 0.85), ("wine", 0.9), ("breast_cancer", 0.93), ("diabetes", 0.3):
        bunch = getattr(datasets, f"load_{name}")()
        body = "".join(",".join(map(repr, [*map(float, row), float(t)])) + "\n" for row, t in zip(bunch.data, bunch.target))
        table(",".join([*bunch.feature_names, "target"]) + "\n" + body)
        assert cli.train_task(cli.read_table("t.csv", "target"), progress=False).score > least, name


# ---------------------------------------------------------------- runs

MODEL = ["model.safetensors"] if importlib.util.find_spec("safetensors") else []  # an extra: without it the run says how to get it


def contents(folder): return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_digits_from_a_shell(folder):
    done = run("--epochs", "3", "--hidden", "32")
    assert done.returncode == 0 and "accuracy on the held-out examples: 0.9" in done.stdout and "█" in done.stdout
    assert "Traceback" not in done.stderr and "Warning" not in done.stderr
    assert sorted(contents(folder / "runs" / "digits-1")) == sorted([
        "confusion_matrix.png", "history.json", "learning_curve.png", "read_digits.png", "report.json", "report.md", "settings.json", *MODEL])


def test_a_failure_in_a_shell():
    done = run("--data", table(with_line(8, "2,3")), "--target", "y")
    assert done.returncode == 1 and done.stderr.startswith("nn_train: t.csv, line 8: 2 cells, but the first line names 3") and done.stdout == ""


def test_a_terminal_that_knows_ascii_alone(folder):
    done = run("--epochs", "1", "--hidden", "8", env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0 and "##" in done.stdout and "Traceback" not in done.stderr
    done = run("--data", table(rows().replace("a,b,y", "a,b,größe")), "--target", "größe", "--epochs", "1", env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0 and "gr??e" in done.stdout


def test_an_earlier_run_is_never_overwritten(folder, capsys):
    table(rows())
    main(data="t.csv", target="y", epochs=1)
    before = contents(folder / "runs" / "t-1")
    main(data="t.csv", target="y", epochs=2)
    assert sorted(path.name for path in (folder / "runs").iterdir()) == ["t-1", "t-2"]
    with pytest.raises(SystemExit) as end: main(data="t.csv", target="y", output=os.path.join("runs", "t-1"))
    assert end.value.code == 2 and "an earlier run is never overwritten" in capsys.readouterr().err
    assert contents(folder / "runs" / "t-1") == before


def test_an_empty_folder_may_be_used(folder, capsys):
    (folder / "mine").mkdir()
    main(data=table(rows()), target="y", epochs=1, output="mine")
    assert "report.json" in contents(folder / "mine")
    assert json.loads((folder / "mine" / "settings.json").read_text())["epochs"] == 1


def test_the_same_seed_gives_the_same_run(folder, capsys):
    table(rows(target=lambda a, b: "in" if a * a + b * b < 1 else "out"))
    for name, seed in ("one", 3), ("two", 3), ("other", 4): main(data="t.csv", target="y", epochs=5, seed=seed, output=name)
    one, two, other = (contents(folder / name) for name in ("one", "two", "other"))
    report = {name: {k: v for k, v in json.loads(run["report.json"]).items() if k != "seconds"} for name, run in zip("12o", (one, two, other))}
    history = {name: json.loads(run["history.json"]) for name, run in zip("12o", (one, two, other))}
    assert report["1"] == report["2"]
    for model in MODEL: assert one[model] == two[model] != other[model]
    assert history["1"]["train_loss"] == history["2"]["train_loss"] != history["o"]["train_loss"]
    assert one["confusion_matrix.png"] == two["confusion_matrix.png"]


def test_an_interrupt_keeps_what_was_learnt(folder, monkeypatch, capsys):
    fit = tasks.fit

    def interrupted(*args, callbacks=(), **kwargs):
        def stop(run):
            if run.epoch == 2: raise KeyboardInterrupt
        return fit(*args, callbacks=[*callbacks, stop], **kwargs)

    monkeypatch.setattr(tasks, "fit", interrupted)
    with pytest.raises(SystemExit) as end: main(data=table(rows()), target="y", output="run")
    assert end.value.code == 130 and json.loads((folder / "run" / "history.json").read_text())["stopped"] == "interrupted"


def test_a_message_that_quotes_a_file_is_short_and_plain(capsys):
    from nn_from_scratch.console import guarded
    def fails(): raise ValueError("columns: \x1b[2J\x1b]0;evil\x07" + "x" * 1_000_000)
    with pytest.raises(SystemExit): guarded(fails, "nn_train")
    said = capsys.readouterr().err
    assert "\x1b" not in said and "\x07" not in said and len(said) < 2100 and said.startswith("nn_train: columns: ")
