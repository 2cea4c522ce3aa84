"""Opens every page of the site in headless Chromium: the Quarto site where `quarto` is on the path, the preview elsewhere.

    python -m pytest tests/browser/test_site.py

Needs the extras `site` and `browser`, and Chromium (on the path, or named by CHROMIUM). SCREENSHOTS may name a folder to keep
pictures of all pages in, from top to bottom; SITE may name the folder of a site that is built already.
"""

import os
import shutil
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support import FLAGS, chromium, served

pytestmark = pytest.mark.project
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e '.[browser]'")
pytest.importorskip("pypandoc", reason="needs pandoc: pip install -e '.[site]'")

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import preview_site  # noqa: E402

PAGES = [preview_site.address(file) for file in preview_site.listed() if (preview_site.NBS / file).exists()]
WIDE, NARROW = {"width": 1440, "height": 1000}, {"width": 360, "height": 740}

# Every run of text that is drawn, with the colours it is drawn in: those under AA (4.5, or 3 for large text).
CONTRAST = """() => {
  const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
  const over = (top, below) => { const a = top[3] ?? 1; return [0, 1, 2].map((i) => top[i] * a + below[i] * (1 - a)); };
  const light = (c) => { const [r, g, b] = c.map((v) => { v /= 255; return v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; });
    return .2126 * r + .7152 * g + .0722 * b; };
  const behind = (el) => { const layers = []; for (let e = el; e; e = e.parentElement) layers.push(numbers(getComputedStyle(e).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]); };
  const poor = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; node = walk.nextNode();) {
    const el = node.parentElement, style = getComputedStyle(el);
    if (!node.data.trim() || !el.checkVisibility({ opacityProperty: true, visibilityProperty: true }) || el.closest("script, style, annotation, .skip, .copy")) continue;
    const back = behind(el), front = over(numbers(style.color), back);
    const [a, b] = [light(front), light(back)].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && +style.fontWeight >= 700);
    const ratio = (a + .05) / (b + .05);
    if (ratio < (large ? 3 : 4.5)) poor.push(`${ratio.toFixed(2)}: '${node.data.trim().slice(0, 40)}' (${style.color} on ${back.map(Math.round)})`);
  }
  return [...new Set(poor)].slice(0, 8);
}"""
RAW_TEX = """() => {
  const walk = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT), found = [];
  for (let node; node = walk.nextNode();)
    if (/\\$\\$|\\\\(frac|sum|partial|nabla|theta|eta|begin|hat|sqrt|cdot)/.test(node.data) && !node.parentElement.closest("pre, code, annotation, script")) found.push(node.data.trim().slice(0, 80));
  return found;
}"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    "The folder of the site, and its address on this machine."
    chromium()
    folder = Path(os.environ["SITE"]) if os.environ.get("SITE") else tmp_path_factory.mktemp("site") / "site"
    if not folder.exists():
        if shutil.which("quarto"): preview_site.build_quarto(folder)
        else: preview_site.build(folder)
    with served(folder) as address: yield folder, address


@pytest.fixture(scope="module")
def browser(site):
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield browser
        browser.close()


def picture(page, name, kind, folder):
    "Keeps a screenshot; of the whole page where SCREENSHOTS asks for it, which takes seconds for a chapter."
    folder = Path(os.environ.get("SCREENSHOTS") or folder)
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{Path(name).stem}-{kind}.png", full_page="SCREENSHOTS" in os.environ)


@pytest.fixture
def opened(site, browser):
    "A function that opens a page and returns it with the list of what went wrong on it."
    contexts = []
    def open_page(name, **options):
        context = browser.new_context(**{"viewport": WIDE, "color_scheme": "light"} | options)
        contexts.append(context)
        page, wrong = context.new_page(), []
        page.on("console", lambda message: wrong.append(f"console: {message.text}") if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(f"script: {error}"))
        page.on("request", lambda request: None if urlsplit(request.url).netloc == urlsplit(site[1]).netloc or request.url.startswith("data:")
                else wrong.append(f"asks another host: {request.url}"))
        page.on("response", lambda response: wrong.append(f"{response.status}: {response.url}") if response.status >= 400 else None)
        page.goto(f"{site[1]}/{name}", wait_until="load")
        return page, wrong
    yield open_page
    for context in contexts: context.close()


def broken_links(page, folder, address) -> list[str]:
    "The page's links within the site that lead to no page, or to no anchor on this one."
    bad = []
    for link in dict.fromkeys(page.evaluate("[...document.links].map((a) => a.href)")):
        parts = urlsplit(link)
        if parts.netloc != urlsplit(address).netloc: continue
        path = parts.path.lstrip("/") or "index.html"
        if path.startswith(("lite/", "playground/")) and not (folder / path.split("/")[0]).exists(): continue  # built beside the site
        if not (folder / path).exists(): bad.append(f"broken link: {link}")
    return bad + page.evaluate("""[...document.links].filter((a) => a.hash && a.pathname === location.pathname
        && !document.getElementById(decodeURIComponent(a.hash.slice(1)))).map((a) => `no such anchor: ${a.href}`)""")


def unreadable(page) -> list[str]:
    "Text that is drawn under AA, and a page that is wider than its window."
    window, width = page.viewport_size["width"], page.evaluate("document.documentElement.scrollWidth")
    wide = [f"a page of {window} pixels scrolls sideways: it is {width} wide"] if width > window else []
    return page.evaluate(CONTRAST) + wide


@pytest.mark.parametrize(("planted", "scheme", "wrong"), [
    ("<p>as it is</p>", "light", ""), ("<p>as it is</p>", "dark", ""),
    ('<p style="color: #999; background: #fff">pale</p>', "light", "'pale'"),
    ('<table><caption><code style="color: #bbb; background: #ddd">light on light</code></caption></table>', "dark", "'light on light'"),
    ('<table style="width: 1842px"><tr><td>wide</td></tr></table>', "light", "scrolls sideways"),
    ('<p style="white-space: nowrap">' + "a formula that does not scroll by itself " * 9 + "</p>", "light", "scrolls sideways"),
])
@pytest.mark.parametrize("window", [WIDE, NARROW], ids=["wide", "narrow"])
def test_faults_are_seen(opened, planted, scheme, wrong, window):
    "Each fault, planted at the top of a page, is found."
    page, _ = opened("404.html", viewport=window, color_scheme=scheme)
    page.evaluate("(html) => document.querySelector('main').insertAdjacentHTML('afterbegin', html)", planted)
    if wrong: assert any(wrong in problem for problem in unreadable(page))
    else: assert unreadable(page) == []


def test_every_page_is_there(site):
    assert len(PAGES) >= 10
    assert [name for name in [*PAGES, "404.html", "llms.txt"] if not (site[0] / name).exists()] == []


@pytest.mark.parametrize("name", [*PAGES, "404.html"])
def test_page(site, opened, tmp_path, name):
    "Nothing goes wrong, nothing is missing, all of it can be read: light and dark, wide and narrow."
    page, wrong = opened(name)
    picture(page, name, "light-wide", tmp_path)
    wrong += page.evaluate("[...document.images].filter((i) => !i.complete || !i.naturalWidth).map((i) => `missing picture: ${i.src}`)")
    wrong += [f"raw TeX: {text}" for text in page.evaluate(RAW_TEX)]
    wrong += broken_links(page, *site)
    wrong += [f"light, wide: {text}" for text in unreadable(page)]
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("matchMedia('(prefers-color-scheme: dark)').matches")
    picture(page, name, "dark-wide", tmp_path)
    wrong += [f"dark, wide: {text}" for text in unreadable(page)]
    page.set_viewport_size(NARROW)
    picture(page, name, "dark-narrow", tmp_path)
    wrong += [f"dark, narrow: {text}" for text in unreadable(page)]
    assert wrong == []


def test_the_keyboard_reaches_everything(opened):
    "The first stop skips to the text; each stop can be seen; nothing holds the focus."
    page, _ = opened("optim.html")
    page.keyboard.press("Tab")
    assert "skip" in page.evaluate("document.activeElement.textContent").lower()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.closest('main') !== null || location.hash !== ''")
    stops = set()
    for _ in range(25):
        page.keyboard.press("Tab")
        stop = page.evaluate("""() => { const e = document.activeElement, s = getComputedStyle(e);
            return [e.outerHTML.slice(0, 120), s.outlineStyle !== "none" || s.boxShadow !== "none", e === document.body]; }""")
        assert not stop[2], "the focus was lost"
        assert stop[1], f"the focus cannot be seen on {stop[0]}"
        stops.add(stop[0])
    assert len(stops) > 15


def test_a_film_stands_still_for_whoever_asks(opened):
    page, wrong = opened("B_plots.html", reduced_motion="reduce")
    films = page.evaluate("[...document.querySelectorAll('img[src$=\".gif\"]')].map((i) => getComputedStyle(i).content)")
    assert films and all(".png" in content for content in films), films
    assert wrong == []


def test_everything_can_be_read_without_scripts(opened):
    page, wrong = opened("optim.html", java_script_enabled=False)
    assert page.locator("main h2").count() > 5 and page.locator("nav a").count() > 10
    assert wrong == []


def test_search_and_theme(site, opened):
    "The preview's own controls; Quarto brings its own."
    if not (site[0] / "page.js").exists(): pytest.skip("this is the Quarto site")
    page, wrong = opened("index.html")
    page.keyboard.press("/")
    page.keyboard.type("learning rate")
    page.wait_for_selector("#found a")
    assert "learning" in page.inner_text("#found").lower()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url("**/*.html#*")
    page.wait_for_load_state("load")
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("button.theme")
    after = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert before != after
    page.goto(f"{site[1]}/optim.html")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == after  # the choice is kept
    assert wrong == []
