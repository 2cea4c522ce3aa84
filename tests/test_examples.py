"""The examples in the docstrings: each runs as a session of its own, with nn, np and an empty folder, and shows what it says."""

import doctest
import importlib
import inspect
import pkgutil
import re

import numpy as np
import pytest

import nn_from_scratch as nn

NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?")


class Close(doctest.OutputChecker):
    "Numbers may differ in their last digits from machine to machine; an output that is not shown is not compared."

    def check_output(self, want, got, optionflags):
        if np.__version__ < "2":  # which shows a number without its type
            want = re.sub(r"np\.(?:float|int|uint|str|bool)\w*\(([^()]*)\)", r"\1", want)
            want = re.sub(r"np\.(True|False)_", r"\1", want)
        if not want or super().check_output(want, got, optionflags): return True
        words, others = (re.sub(r"\s+", "", NUMBER.sub("#", text)) for text in (want, got))
        numbers, found = ([float(n) for n in NUMBER.findall(text)] for text in (want, got))
        return words == others and np.allclose(numbers, found, rtol=1e-3, atol=1e-6)


def documented() -> dict[str, tuple[str, dict]]:
    "Of every function, class and method of the package that has an example: the docstring, and the public names of its room."
    found = {}
    for module in pkgutil.walk_packages(nn.__path__, "nn_from_scratch."):
        if module.name.endswith(("__main__", "_modidx")): continue
        try: members = vars(importlib.import_module(module.name))
        except ImportError: continue  # the estimators, without scikit-learn
        for name, thing in list(members.items()):
            if getattr(thing, "__module__", "") != module.name: continue
            inner = {f"{name}.{key}": value for key, value in vars(thing).items()} if inspect.isclass(thing) else {}
            for key, value in {name: thing, **inner}.items():
                if getattr(value, "__module__", module.name) != module.name: continue
                text = value.__doc__ if inspect.isroutine(value) or inspect.isclass(value) or isinstance(value, property) else None
                if text and ">>> " in text: found[f"{module.name.removeprefix('nn_from_scratch.')}.{key}"] = (
                    inspect.cleandoc(text), {key: value for key, value in members.items() if key in members.get("__all__", ())})
    return found


EXAMPLES = documented()


@pytest.mark.parametrize("name", EXAMPLES or ["none"])
def test_example(name, tmp_path, monkeypatch):
    if not EXAMPLES: pytest.skip("there is no example")
    text, names = EXAMPLES[name]
    matplotlib = importlib.import_module("matplotlib")
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    test = doctest.DocTestParser().get_doctest(text, {**names, "nn": nn, "np": np, "folder": tmp_path}, name, None, None)
    heard: list[str] = []
    runner = doctest.DocTestRunner(Close(), optionflags=doctest.NORMALIZE_WHITESPACE)
    runner.run(test, out=heard.append)
    importlib.import_module("matplotlib.pyplot").close("all")
    if missing := re.search(r"(?:ModuleNotFound|Import)Error: .*", "".join(heard)): pytest.skip(missing[0])
    assert heard == [], "".join(heard)


def test_a_wrong_example_is_noticed():
    check = Close().check_output
    assert check("array([0.5001, 2])\n", "array([0.5002, 2.])\n", 0) and check("", "anything", 0)
    assert not check("array([0.5, 2])\n", "array([0.6, 2])\n", 0) and not check("array([0.5])\n", "0.5\n", 0)
