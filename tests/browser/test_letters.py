"""The page of letters in Chromium: a small GPT that reads along as one types; no Python is fetched, and nothing from another host.

    python -m pytest tests/browser/test_letters.py
"""

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
from support import opened, screenshots, served

pytestmark = [pytest.mark.project, pytest.mark.filterwarnings("default")]
FOLDER = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def home():
    with served(FOLDER) as address: yield address


def start(seen):
    seen.page.goto(f"{seen.home}/playground/letters.html")
    seen.page.wait_for_selector("#looks table")


def shares(seen) -> dict[str, float]:
    return {title[0]: float(title[1:].rstrip(" %")) for title in seen.page.eval_on_selector_all("#bars div", "all => all.map(bar => bar.title)")}


def move(seen, slider: str, value):
    seen.page.eval_on_selector(f"#{slider}", "(e, value) => { e.value = value; e.dispatchEvent(new Event('input', { bubbles: true })); }", str(value))


def test_it_reads_along(home):
    with opened(home, viewport={"width": 1200, "height": 1000}) as seen:
        start(seen)
        before = shares(seen)
        assert len(before) == 27 and abs(sum(before.values()) - 100) < 1 and before["t"] > 30, before  # chris…
        assert seen.page.locator("#looks tbody tr, #looks tr").count() == 9  # a line of letters, two blocks of four heads
        assert seen.page.locator("#looks tr").nth(0).inner_text().split() == ["⏎", "c", "h", "r", "i", "s"]
        for i in range(1, 9):
            row = seen.page.locator("#looks tr").nth(i).locator("td").all_inner_texts()
            assert len(row) == 6 and abs(sum(map(int, row)) - 100) <= 4, row
        seen.page.focus("#text")
        seen.page.keyboard.press("End")
        seen.page.keyboard.type("t")
        assert seen.page.locator("#looks tr").nth(0).inner_text().split()[-1] == "t"
        assert shares(seen) != before and "The likeliest" in seen.page.inner_text("#said")
        assert re.match(r"Shares of the next letter. The likeliest: \S+ [\d.]+ %", seen.page.get_attribute("#bars", "aria-label"))
        seen.page.screenshot(path=screenshots() / "letters.png", full_page=True)
        assert seen.foreign == [] and seen.errors == [] and seen.missing == []


def test_temperature_and_top_k(home):
    with opened(home) as seen:
        start(seen)
        move(seen, "temperature", 0)
        assert sorted(shares(seen).values())[-2:] == [0, 100] and seen.page.inner_text("#told-temperature") == "0.0"
        seen.page.click("#write")
        names = seen.page.inner_text("#names").split()
        assert len(names) == 10 and len(set(names)) == 1 and names[0].startswith("chris"), names
        move(seen, "temperature", 3)
        hot = shares(seen)
        move(seen, "temperature", 0.5)
        assert max(hot.values()) < max(shares(seen).values())
        move(seen, "temperature", 3)  # so that none is rounded to 0
        move(seen, "k", 3)
        assert sum(share > 0 for share in shares(seen).values()) == 3 and seen.page.inner_text("#told-k") == "3"
        seen.page.focus("#k")
        seen.page.keyboard.press("ArrowLeft")  # without a mouse
        assert sum(share > 0 for share in shares(seen).values()) == 2
        move(seen, "k", 27)
        move(seen, "temperature", 1)
        seen.page.click("#write")
        assert len(set(seen.page.inner_text("#names").split())) > 3
        seen.page.click("#more")
        assert len(seen.page.input_value("#text")) == 6 or "ends here" in seen.page.inner_text("#status")
        assert seen.errors == []


@pytest.mark.parametrize("text", ["", "Zoë", "x" * 15, "<b>&", "👩‍👩‍👧", "q z"])
def test_whatever_is_typed(home, text):
    with opened(home) as seen:
        start(seen)
        seen.page.fill("#text", text)
        assert abs(sum(shares(seen).values()) - 100) < 1.5
        strange = [c for c in text.lower() if not "a" <= c <= "z"]
        assert all(c in seen.page.inner_text("#status") for c in strange if not c.isspace() and c != "\u200d")
        seen.page.click("#write")
        assert seen.page.inner_text("#names") and seen.page.locator("#names b").count() == 0
        assert seen.errors == []


def test_names_and_a_narrow_dark_page(home):
    with opened(home, viewport={"width": 360, "height": 800}, color_scheme="dark") as seen:
        start(seen)
        nameless = seen.page.evaluate("""[...document.querySelectorAll('button, input, [role=img]')]
            .filter(e => !(e.labels?.length || e.textContent.trim() && e.tagName == 'BUTTON' || e.getAttribute('aria-label'))).map(e => e.outerHTML)""")
        assert nameless == []
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= 360
        seen.page.screenshot(path=screenshots() / "letters-narrow.png", full_page=True)
    with opened(home, java_script_enabled=False) as seen:
        seen.page.goto(f"{home}/playground/letters.html")
        assert "needs JavaScript" in seen.page.inner_text("body") and not seen.page.is_visible("#text")


def test_a_missing_model_is_said(home):
    with opened(home) as seen:
        seen.page.route("**/names.safetensors", lambda route: route.fulfill(status=404))
        seen.page.goto(f"{home}/playground/letters.html")
        seen.page.wait_for_function("document.getElementById('status').classList.contains('error')")
        assert "could not be read" in seen.page.inner_text("#status") and seen.page.is_disabled("#write")
