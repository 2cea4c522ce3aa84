"""The playground in Chromium: nothing is fetched before the button, then it trains and the loss falls.

    PYODIDE_DIST=folder python -m pytest tests/browser/test_playground.py
"""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[2] / "tools")]
import build_lite  # noqa: E402
from support import opened, pyodide_dist, screenshots, served  # noqa: E402

pytestmark = [pytest.mark.project, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    "A site with the playground alone."
    folder = tmp_path_factory.mktemp("site")
    (folder / "playground").mkdir()
    for path in (build_lite.ROOT / "playground").iterdir(): shutil.copy(path, folder / "playground")
    with served(folder) as home: yield folder, home


@pytest.fixture(scope="module")
def ready(site):
    "The same, with the wheels, where there is Python to run them."
    pyodide_dist()
    folder, _ = site
    wheels = [wheel for wheel in build_lite.make_wheels(folder / "wheels") if wheel.name.startswith(("nn_from_scratch-", "tqdm-"))]
    for wheel in wheels: shutil.copy(wheel, folder / "playground")
    lock = json.loads((pyodide_dist() / "pyodide-lock.json").read_text())
    packages = {"pyodide": "https://cdn.jsdelivr.net/pyodide/v314.0.4/full/", "wheels": [wheel.name for wheel in wheels]}
    (folder / "playground" / "packages.json").write_text(json.dumps(packages))
    assert lock["info"]["python"].startswith("3.")
    return site


def start(seen):
    seen.page.goto(f"{seen.home}/playground/index.html")
    assert seen.foreign == []
    seen.page.click("#load")
    seen.page.wait_for_selector("#train:enabled", timeout=90_000)
    seen.page.wait_for_function("document.getElementById('train-loss').textContent != '–'")


def number(seen, name: str) -> float: return float(seen.page.inner_text(f"#{name}").replace(",", ""))


def train_until(seen, steps: int):
    seen.page.click("#train")
    seen.page.wait_for_function(f"Number(document.getElementById('steps').textContent.replaceAll(',', '')) >= {steps}", timeout=90_000)
    seen.page.click("#train")
    seen.page.wait_for_function("document.getElementById('status').textContent.startsWith('Paused')")
    assert f"After {number(seen, 'steps'):.0f} step" in seen.page.inner_text("#status")


def test_nothing_is_fetched_before_the_button(site):
    folder, home = site
    with opened(home) as seen:
        seen.page.goto(f"{home}/playground/index.html")
        seen.page.wait_for_timeout(500)
        assert seen.foreign == [] and seen.errors == [] and seen.missing == []
        text = seen.page.inner_text("#start")
        assert "10 MB" in text and "cdn.jsdelivr.net" in text
        assert seen.page.is_disabled("#train") and seen.page.is_enabled("#load")
        seen.page.screenshot(path=screenshots() / "playground-before.png", full_page=True)
        seen.page.select_option("#layers", "3")  # the network can be laid out before Python is there
        assert seen.page.locator("#units input").count() == 3
        assert "mlp([2, 4, 4, 4, 1], nn.tanh" in seen.page.text_content("#code")


def test_every_control_has_a_name_and_no_script_is_needed_to_read_why(site):
    folder, home = site
    with opened(home) as seen:
        seen.page.goto(f"{home}/playground/index.html")
        nameless = seen.page.evaluate("""[...document.querySelectorAll('button, select, input, canvas, progress')]
            .filter(e => !(e.labels?.length || e.textContent.trim() && e.tagName == 'BUTTON' || e.getAttribute('aria-label')))
            .map(e => e.outerHTML)""")
        assert nameless == []
    with opened(home, java_script_enabled=False) as seen:
        seen.page.goto(f"{home}/playground/index.html")
        assert "needs JavaScript" in seen.page.inner_text("body") and not seen.page.is_visible("#train")


def test_a_missing_python_is_said(site):
    folder, home = site
    (folder / "playground" / "packages.json").write_text('{"pyodide": "https://cdn.jsdelivr.net/pyodide/v0/full/", "wheels": []}')
    with opened(home) as seen:
        seen.page.goto(f"{home}/playground/index.html")
        seen.page.click("#load")
        seen.page.wait_for_function("document.getElementById('status').classList.contains('error')")
        assert "could not be started" in seen.page.inner_text("#status") and seen.page.is_enabled("#load")
    (folder / "playground" / "packages.json").unlink()


def test_it_trains_and_the_loss_falls(ready):
    folder, home = ready
    with opened(home, pyodide_dist(), viewport={"width": 1300, "height": 1000}) as seen:
        start(seen)
        first = number(seen, "train-loss")
        picture = seen.page.evaluate("document.getElementById('boundary').toDataURL()")
        seen.page.click("#step")
        seen.page.wait_for_function("document.getElementById('steps').textContent == '1'")
        train_until(seen, 1000)
        last = number(seen, "train-loss")
        print(f"loss {first} at the start, {last} after {seen.page.inner_text('#steps')} steps, "
              f"{seen.page.inner_text('#accuracy')} of the validation points")
        assert last < 0.5 * first and int(seen.page.inner_text("#accuracy")[:-1]) >= 95
        assert seen.page.evaluate("document.getElementById('boundary').toDataURL()") != picture
        assert re.search(r"training loss 0\.\d+", seen.page.get_attribute("#boundary", "aria-label"))
        seen.page.screenshot(path=screenshots() / "playground.png", full_page=True)

        seen.page.check("input[value=grads]")
        assert "gradient of" in seen.page.inner_text("#edge")
        seen.page.click("#numbers summary")
        seen.page.wait_for_selector("#tables table")
        assert seen.page.locator("#tables table").count() == 3 and "nan" not in seen.page.inner_text("#tables").lower()

        seen.page.click("#reset")  # the same weights as at first
        seen.page.wait_for_function("document.getElementById('steps').textContent == '0'")
        assert number(seen, "train-loss") == first

        for data in "circles", "spiral", "xor":
            for optimizer, lr in ("adam", "0.03"), ("momentum", "0.03"), ("rmsprop", "0.01"):
                seen.page.select_option("#data", data)
                seen.page.select_option("#optimizer", optimizer)
                seen.page.select_option("#lr", lr)
                seen.page.click("#reset")
                seen.page.wait_for_function("document.getElementById('steps').textContent == '0'")
                before = number(seen, "train-loss")
                train_until(seen, 300)
                assert number(seen, "train-loss") < before, (data, optimizer)
        steps = number(seen, "steps")  # how it steps changes on the way, and nothing starts again
        for name, value in ("lr", "0.003"), ("decay", "0.01"), ("batch", "8"), ("optimizer", "adam"):
            seen.page.select_option(f"#{name}", value)
        assert seen.page.input_value("#lr") == "0.01"
        train_until(seen, steps + 100)
        assert "optimizer=adam" in seen.page.url and "decay=0.01" in seen.page.url
        for activation in "relu", "sigmoid", "gelu", "identity":
            seen.page.select_option("#activation", activation)
            seen.page.wait_for_function("document.getElementById('steps').textContent == '0'")
            train_until(seen, 20)
        seen.page.select_option("#layers", "0")
        seen.page.wait_for_function("document.getElementById('steps').textContent == '0'")
        train_until(seen, 20)
        assert seen.errors == [] and seen.missing == []
        assert all(url.startswith("https://cdn.jsdelivr.net/pyodide/") for url in seen.foreign)


def test_steps_that_are_too_large_are_said(ready):
    folder, home = ready
    with opened(home, pyodide_dist()) as seen:
        start(seen)
        seen.page.select_option("#activation", "identity")
        seen.page.select_option("#layers", "4")
        seen.page.select_option("#optimizer", "momentum")
        seen.page.select_option("#lr", "10")
        seen.page.wait_for_function("document.getElementById('steps').textContent == '0'")
        seen.page.click("#train")
        seen.page.wait_for_function("document.getElementById('status').classList.contains('error')"
                                    " || Number(document.getElementById('steps').textContent.replaceAll(',', '')) > 500", timeout=60_000)
        said = seen.page.inner_text("#status")
        assert "smaller learning rate" in said and seen.page.inner_text("#train") == "Train"
        assert seen.errors == []


def test_the_address_holds_the_choices(site):
    folder, home = site
    with opened(home) as seen:
        seen.page.goto(f"{home}/playground/index.html?data=xor&noise=0.25&layers=3,5&optimizer=rmsprop&activation=relu&batch=8&decay=0.1&seed=7&lines=grads")
        code = seen.page.text_content("#code")
        for text in "nn.xor(300, 0.25, rng=7)", "nn.mlp([2, 3, 5, 1], nn.relu, rng=7)", "RMSprop(lr=0.01, weight_decay=0.1)", "nn.batches(*train, 8,":
            assert text in code
        assert seen.page.is_checked("input[value=grads]")
        seen.page.select_option("#optimizer", "adam")
        seen.page.fill("#seed", "3")
        seen.page.press("#seed", "Tab")
        address = seen.page.url
        assert "lr=0.01" in address and "seed=3" in address and "layers=3,5" in address
        before = seen.page.text_content("#code")
        seen.page.goto(address)
        assert seen.page.text_content("#code") == before
        seen.page.goto(f"{home}/playground/index.html?data=<b>&layers=99,x&lr=-1&seed=1e9&optimizer=__proto__")  # nonsense is left alone
        assert "nn.moons(300, 0.15" in seen.page.text_content("#code") and seen.errors == []
        seen.page.click('a[href*="data=spiral"]')
        assert "nn.spiral(300, 0.05" in seen.page.text_content("#code") and "data=spiral" in seen.page.url
        assert seen.errors == []


def test_with_the_keyboard_alone(ready):
    folder, home = ready
    with opened(home, pyodide_dist(), reduced_motion="reduce") as seen:
        page = seen.page
        page.goto(f"{home}/playground/index.html")
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "load"
        page.keyboard.press("Enter")
        page.wait_for_function("document.activeElement.id == 'train'", timeout=90_000)
        page.keyboard.press("Space")
        page.wait_for_function("Number(document.getElementById('steps').textContent.replaceAll(',', '')) > 50", timeout=60_000)
        page.keyboard.press("Space")
        page.wait_for_function("document.getElementById('status').textContent.startsWith('Paused')")
        assert seen.errors == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1300, 390])
def test_pictures(ready, scheme, width):
    "Fits its window, and is kept to be looked at."
    folder, home = ready
    with opened(home, pyodide_dist(), color_scheme=scheme, viewport={"width": width, "height": 900}) as seen:
        start(seen)
        train_until(seen, 400)
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
        seen.page.screenshot(path=screenshots() / f"playground-{scheme}-{width}.png", full_page=True)
        assert seen.errors == []
