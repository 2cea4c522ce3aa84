"""nn_train --text and nn_generate, as they are called: what they write, each mistake in words, and a run that is killed and goes on."""

import contextlib
import io
import json
import subprocess
import sys
import time

import pytest

import nn_from_scratch as nn
from nn_from_scratch import cli, text_command

main = cli.main.__wrapped__  # an older fastcore reads the command line wherever a command is called from
generate = text_command.nn_generate.__wrapped__
TEXT = "the theme of the thesis is there; the other one, then, is this.\n" * 30
SMALL = {"text": "t.txt", "steps": 20, "width": 16, "layers": 1, "context": 16, "batch": 4}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    "Each test runs in a folder of its own, in which there is a text."
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.txt").write_text(TEXT, encoding="utf-8")
    return tmp_path


def said(command, *args, **options):
    "What a command prints, its line on the error stream, and its exit code."
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try: command(*args, **options)
        except SystemExit as end: code = end.code
    return out.getvalue(), err.getvalue(), code


@pytest.mark.parametrize("vocabulary", [0, 270])
def test_a_text_is_learnt_and_gone_on_with(folder, vocabulary):
    out, err, code = said(main, **SMALL, vocabulary=vocabulary)
    assert code == 0 and err == "" and out.count("\n--- ") == 10 and "the last tenth, unseen: " in out
    assert out.endswith('nn_generate runs/t-1/model.safetensors --prompt "…"\n'.replace("/", "\\" if sys.platform == "win32" else "/"))
    run = folder / "runs" / "t-1"
    assert sorted(path.name for path in run.iterdir()) == ["history.json", "model.safetensors", "settings.json"]
    assert len(json.loads((run / "history.json").read_text())["train_loss"]) == 10
    assert nn.load(run / "model.safetensors").tokenizer is not None
    for path in run, run / "model.safetensors":
        out, err, code = said(generate, str(path), prompt="the ", n=10, seed=1)
        assert code == 0 and out.startswith("the ") and len(out) > 10
        assert out == said(generate, str(path), prompt="the ", n=10, seed=1)[0] != said(generate, str(path), prompt="the ", n=10, seed=2)[0]
    assert said(generate, str(run), n=12)[2] == 0  # with no prompt
    assert said(generate, str(run), prompt="the ", n=0)[0] == "the \n"


@pytest.mark.parametrize("text, words, code", [
    (None, "--text t.txt: there is no such file", 2), (b"", "the file is empty", 1), (b"caf\xe9", "not a text in UTF-8: byte 3 is 0xe9", 1),
    (b"z" * 999, "--text t.txt: it is 'z' over and over", 2), (b"short", "--text t.txt: 4 tokens to learn from are too few for --context 16", 2),
])
def test_what_is_no_text(folder, text, words, code):
    (folder / "t.txt").unlink()
    if text is not None: (folder / "t.txt").write_bytes(text)
    out, err, found = said(main, **SMALL)
    assert (out, found) == ("", code) and words in err and err.startswith("nn_train: ") and err.count("\n") == 1
    assert not (folder / "runs").exists()


@pytest.mark.parametrize("options, words", [
    ({"target": "y"}, "--target belongs to --data, not to --text"), ({"hidden": "3"}, "--hidden belongs to --data"),
    ({"data": "mnist"}, "--text t.txt --data mnist: one of the two"), ({"text": None}, "belongs to --text, not to --data"),
    ({"width": 50}, "--width 50: 8, 16, 24"), ({"vocabulary": 100}, "--vocabulary 100: 0"), ({"context": 0}, "--context 0: at least 1"),
    ({"layers": 0}, "--layers 0: at least 1"), ({"steps": 0}, "--steps 0: at least 1"), ({"batch": 0}, "--batch 0"), ({"lr": -1.0}, "--lr -1.0"),
    ({"seed": -1}, "--seed -1"),
])
def test_options_that_do_not_fit(folder, options, words):
    out, err, code = said(main, **SMALL | options)
    assert (out, code) == ("", 2) and words in err and err.count("\n") == 1 and not (folder / "runs").exists()


@pytest.mark.parametrize("options, words", [
    ({"prompt": "thé 日"}, "--prompt: the model has never seen 'é' '日'; it knows '\\n ,.;"), ({"n": -1}, "--n -1"), ({"top_p": 0.0}, "--top_p 0.0"),
    ({"temperature": -1.0}, "--temperature -1.0"), ({"temperature": float("nan")}, "--temperature nan"), ({"top_k": -1}, "--top_k -1"),
])
def test_a_call_that_cannot_be_gone_on_with(options, words):
    letters = nn.Characters(TEXT)
    nn.save(nn.GPT(len(letters), 8, 8, 2, 1, tokenizer=letters, rng=0), "gpt.safetensors")
    out, err, code = said(generate, "gpt.safetensors", **options)
    assert (out, code) == ("", 2) and words in err and err.startswith("nn_generate: ") and err.count("\n") == 1


def test_models_that_write_nothing():
    nn.save(nn.mlp([2, 3], rng=0), "mlp.safetensors")
    nn.save(nn.GPT(5, 8, 8, 2, 1, rng=0), "mute.safetensors")
    assert "this model is a Sequential, and only a GPT writes" in said(generate, "mlp.safetensors")[1]
    assert "without a tokenizer" in said(generate, "mute.safetensors")[1]
    assert "no file nowhere" in said(generate, "nowhere")[1] and said(generate, "nowhere")[2] == 1
    assert said(generate, "t.txt")[2] == 1


def test_a_text_without_line_ends_begins_with_its_first_letter():
    (letters := nn.Characters("abc"))
    nn.save(nn.GPT(3, 8, 8, 2, 1, tokenizer=letters, rng=0), "gpt.safetensors")
    out, err, code = said(generate, "gpt.safetensors", n=9)
    assert code == 0 and len(out.strip()) == 9


def test_killed_and_resumed_it_ends_in_the_same_bits(folder):
    def start(*args):
        return subprocess.Popen([sys.executable, "-m", "nn_from_scratch", *args], stdout=subprocess.PIPE, text=True, encoding="utf-8")
    options = ["--text", "t.txt", "--steps", "600", "--width", "16", "--context", "16", "--batch", "4"]
    start(*options, "--output", "whole").communicate()
    process = start(*options, "--output", "killed")
    until = time.monotonic() + 60
    while time.monotonic() < until and not list(folder.glob("killed/checkpoints/*")) and process.poll() is None: time.sleep(0.01)
    process.kill()
    process.communicate()
    assert not (folder / "killed" / "history.json").exists(), "it came to its end before it could be killed"
    start("--resume", "killed").communicate()
    assert (folder / "killed" / "model.safetensors").read_bytes() == (folder / "whole" / "model.safetensors").read_bytes()
    assert said(main, resume="killed")[2] == 2
