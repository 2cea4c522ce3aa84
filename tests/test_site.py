"""The checks of the site find what is broken on purpose; the small parts of the preview do what they say."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.project
pytest.importorskip("yaml", reason="needs PyYAML, which comes with nbdev")

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import check_site as check  # noqa: E402
import preview_site as site  # noqa: E402


def code(source, *outputs): return {"cell_type": "code", "source": source, "outputs": list(outputs), "metadata": {}}
def markdown(source): return {"cell_type": "markdown", "source": source, "metadata": {}}
def shows(kind): return {"output_type": "display_data", "data": {kind: "…"}}
def notebook(*cells): return {"cells": list(cells)}


GOOD = '#| label: fig-a\n#| fig-cap: "A line: it falls"\n#| fig-alt: "A line from the top left"\nplot()'


# ---------------------------------------------------------------- the notebooks

def test_the_notebooks_hold_nothing_that_the_site_cannot_show():
    assert check.notebook_problems() == []


def test_pages_are_listed_exactly():
    assert check.pages_listed(["a.ipynb"], ["a.ipynb"]) == []
    assert check.pages_listed(["a.ipynb", "b.ipynb", "b.ipynb"], ["a.ipynb", "c.ipynb"]) == [
        "_quarto.yml lists b.ipynb, which does not exist", "_quarto.yml lists b.ipynb, which does not exist",
        "_quarto.yml does not list c.ipynb", "_quarto.yml lists b.ipynb more than once"]


def test_headings():
    assert check.heading_problems("x", check.headings("# A\n\n## B\n\n### C\n\n```python\n# a comment\n```\n\n## D")) == []
    assert "skips a level" in check.heading_problems("x", check.headings("# A\n\n### C"))[0]
    assert "second title" in check.heading_problems("x", check.headings("# A\n\n# B"))[0]
    assert "does not begin" in check.heading_problems("x", check.headings("## A"))[0]


def test_figures():
    assert check.figure_problems("x", notebook(code(GOOD, shows("image/png")), markdown("See @fig-a."))) == []
    for lost, word in ("fig-alt", "alternative"), ("fig-cap", "caption"), ("label", "label"):
        lines = "\n".join(line for line in GOOD.split("\n") if f"| {lost}:" not in line)
        problems = check.figure_problems("x", notebook(code(lines, shows("image/png"))))
        assert len(problems) == 1 and f"no {word}" in problems[0] or f"no text {word}" in problems[0]
    assert "used 2 times" in check.figure_problems("x", notebook(code(GOOD, shows("image/png")), code(GOOD, shows("image/png"))))[0]
    assert "@fig-b refers to no figure" in check.figure_problems("x", notebook(code(GOOD, shows("image/png")), markdown("See @fig-b.")))[0]
    assert "no text alternative" in check.figure_problems("x", notebook(markdown("![](a.png)")))[0]
    assert "no still" in check.figure_problems("x", notebook(markdown("![A film](unknown.gif)")))[0]
    assert "not YAML" in check.figure_problems("x", notebook(code('#| fig-cap: "one" and "two"\nplot()', shows("image/png"))))[0]


def test_outputs():
    assert check.output_problems("x", notebook(code("1", shows("text/plain")))) == []
    assert "text/html" in check.output_problems("x", notebook(code("1", shows("text/html"))))[0]
    assert "ValueError" in check.output_problems("x", notebook(code("1", {"output_type": "error", "ename": "ValueError"})))[0]


def test_marks_that_jupyterlab_shows_raw():
    assert check.raw_mark_problems("x", "## A\n\n```\n::: in code\n```\n\n`:::` and $\\{#a\\}$") == []
    for wrong in "::: {.callout-note}\nb\n:::", "## A {#a}", "## A {.unnumbered}":
        assert "JupyterLab" in check.raw_mark_problems("x", wrong)[0], wrong


def test_citations():
    entries = site.bibliography("@misc{polyak1964,\n  author = {Polyak, Boris},\n  year = {1964}\n}\n"
                                 "@misc{he2015,\n  author = {He, Kaiming and Zhang, Xiangyu},\n  year = {2015}\n}\n")
    assert entries == {"polyak1964": (["Polyak"], "1964"), "he2015": (["He", "Zhang"], "2015")}
    fine = "Momentum (Polyak, 1964), as Polyak (1964) and He et al. (2015) [@he2015] say; (He et al., 2015); f(2000, 0)."
    assert check.citation_problems("x", fine, entries) == []
    for wrong in ("(Polyak, 1965)", "Nesterov (1983)", "(He et al., 2016)", "(Kingma and Ba, 2015)", "[@polyak]", "(a line; Zhang and He, 2015)",
                  "(Polyak, 1964; Hornik et al., 1989)", "(Cybenko and others, 1989)"):
        assert len(check.citation_problems("x", wrong, entries)) == 1, wrong


# ---------------------------------------------------------------- the pages

PAGE = '<html><body><h1>T</h1><h2 id="s">S</h2><p>{}</p></body></html>'


@pytest.mark.parametrize(("text", "wrong"), [
    ('<a href="#s">here</a> <a href="b.html#s">there</a> <a href="https://example.org/">far</a>', ""),
    ("<code>$$ \\frac{1}{2} $$</code> costs $5 or $6", ""),
    ('<a href="gone.html">x</a>', "link to gone.html, which is not there"),
    ('<a href="#gone">x</a>', "no such anchor"),
    ('<a href="b.html#gone">x</a>', "no such anchor"),
    ('<img src="a.png" alt="a line">', "picture a.png is missing"),
    ('<img src="there.png">', "no text alternative"),
    ('<img src="film.gif">', "film.gif has no text alternative"),
    ('<script src="https://example.org/x.js"></script>', "from another host"),
    ('<link rel="stylesheet" href="//example.org/x.css">', "from another host"),
    ("so $$x = 1$$", "raw TeX"),
    ("so \\frac{1}{2}", "raw TeX"),
    ("so $a_i = 1$", "raw TeX"),
    ("and so ::: {.callout-note}", "raw fence"),
    ("</p><h2>plain.demand {#plain.demand .api}</h2><p>", "raw attribute"),
    ("Exported source", "'Exported source'"),
    ('<a href="/nn_from_scratch/b.html">from the 404 page</a> <a href="/b.html#s">x</a>', ""),
    ('<a href="/gone.html">x</a>', "link to /gone.html, which is not there"),
    ('<b id="s">twice</b>', "anchor #s is used 2 times"),
    ("</p><h4>deep</h4><p>", "skips from level 2 to 4"),
    ("</p><h1>another</h1><p>", "first-level headings"),
    ("see ?@fig-a", "unresolved reference"),
])
def test_pages(tmp_path, text, wrong):
    (tmp_path / "a.html").write_text(PAGE.format(text), encoding="utf-8")
    (tmp_path / "b.html").write_text(PAGE.format(""), encoding="utf-8")
    (tmp_path / "there.png").write_bytes(b"")
    (tmp_path / "film.gif").write_bytes(b"")
    problems, _ = check.page_problems(tmp_path, check.read_pages(tmp_path, playground=tmp_path / "none"))
    if wrong: assert any(wrong in problem for problem in problems), problems
    else: assert problems == []


QUARTO = """<html><head>
<link href="site_libs/quarto-html/quarto-syntax-highlighting.css" rel="stylesheet" class="quarto-color-scheme" id="quarto-text-highlighting-styles">
<link href="site_libs/quarto-html/quarto-syntax-highlighting-dark.css" rel="stylesheet" class="quarto-color-scheme quarto-color-alternate" id="quarto-text-highlighting-styles">
<link href="site_libs/bootstrap/bootstrap.min.css" rel="stylesheet" class="quarto-color-scheme" id="quarto-bootstrap" data-mode="light">
<link href="site_libs/bootstrap/bootstrap-dark.min.css" rel="stylesheet" class="quarto-color-scheme quarto-color-alternate" id="quarto-bootstrap" data-mode="dark">
</head><body><main class="content" id="quarto-document-content"><h1 class="title">T</h1>
<section id="s" class="level2"><h2 class="anchored">S</h2><p>{}</p></section></main></body></html>"""


def test_pages_as_quarto_writes_them(tmp_path):
    for file, text in ("index.html", ""), ("404.html", '<a href="/index.html">Start here</a> <a href="/index.html#s">x</a>'):
        (tmp_path / file).write_text(QUARTO.format(text), encoding="utf-8")
    none = tmp_path / "none"
    assert check.page_problems(tmp_path, check.read_pages(tmp_path, none))[0] == []
    (tmp_path / "index.html").write_text(QUARTO.format('<b id="s">twice</b> <h2>S ::: {.fold}</h2>'), encoding="utf-8")
    problems = check.page_problems(tmp_path, check.read_pages(tmp_path, none))[0]
    assert len(problems) == 2 and "anchor #s is used 2 times" in problems[0] and "raw fence" in problems[1]


def whole_site(folder):
    "A small site as Quarto and postrender.py leave it: two pages, a solution that is folded whole, search, a list of pages."
    fold = ('<details class="fold"><summary>Solution</summary><div class="cell"><div class="sourceCode cell-code"><pre>1</pre></div>'
            '<div class="cell-output cell-output-stdout"><pre><code>1</code></pre></div></div></details>')
    for name in "index", "optim":
        page = QUARTO.format(fold).replace("</head>", '<meta property="og:image" content="https://x.org/book/social_card.png"></head>')
        page = page.replace("<body>", '<body><a class="skip" href="#quarto-document-content">Skip to the text</a>')
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
        (folder / f"{name}.llms.md").write_text(name, encoding="utf-8")
    entry = {"href": "optim.html#s", "section": "S", "text": r"θ moves; plt.title(r'$\\theta$')"}
    (folder / "search.json").write_text(json.dumps([entry]), encoding="utf-8")
    (folder / "llms.txt").write_text("## Pages\n\n- [A](index.llms.md)\n- [B](optim.llms.md): about\n", encoding="utf-8")


@pytest.mark.parametrize(("file", "before", "after", "wrong"), [
    ("index.html", "T", "T", ""),
    ("optim.html", 'class="fold"', 'class="code-fold"', "optim.html: a closed solution folds its code alone"),
    ("optim.html", "social_card.png", "optim_files/figure-html/cell-2.png", "its card is"),
    ("optim.html", 'class="skip"', 'class="x"', "no link leads past"),
    ("search.json", r"\u03b8 moves", r"\u03b8\\theta moves", "holds a formula twice"),
    ("llms.txt", "- [B](optim.llms.md): about", "", "llms.txt does not list optim.html"),
    ("llms.txt", "optim.llms.md", "04_optim.llms.md", "llms.txt lists 04_optim.llms.md, which is not there"),
])
def test_the_site_as_a_whole(tmp_path, file, before, after, wrong):
    whole_site(tmp_path)
    text = (tmp_path / file).read_text(encoding="utf-8")
    assert before in text
    (tmp_path / file).write_text(text.replace(before, after), encoding="utf-8")
    problems = check.whole_problems(tmp_path)
    if wrong: assert any(wrong in problem for problem in problems), problems
    else: assert problems == []


def test_the_playground_is_checked_with_the_site(tmp_path):
    (tmp_path / "optim.html").write_text(PAGE.format(""), encoding="utf-8")
    (tmp_path / "play").mkdir()
    (tmp_path / "play" / "index.html").write_text(PAGE.format('<a href="../optim.html#s">x</a> <a href="../04_optim.html">y</a>'), encoding="utf-8")
    problems = check.page_problems(tmp_path, check.read_pages(tmp_path, tmp_path / "play"))[0]
    assert problems == ["playground/index.html: link to ../04_optim.html, which is not there"]


# ---------------------------------------------------------------- what is handed to Quarto

TITLE = {"cell_type": "raw", "source": ["---\n", "title: T\n", "---"], "metadata": {}}


@pytest.mark.parametrize(("cell", "wrong"), [
    (markdown(["## A\n", "\n", "::: {.callout-note}\n", "b\n", ":::"]), ""),
    (markdown("## A\n\ntext"), "is one string"),
    (markdown(["## A", "text"]), "lines do not each end"),
    (markdown(["## A ::: {.launch}\n", "x\n", ":::"]), "a fence within a line"),
    (markdown(["::: {.launch}\n", "x"]), "not closed"),
    (markdown(["x\n", ":::"]), "closes what was not opened"),
    (markdown(["```\n", "::: {.x} in code\n", "```"]), ""),
    (code(["#| label: fig-a\n", "a(); b()"], shows("image/png"), shows("image/png")), "shows 2 pictures"),
    (code(["#| label: fig-a\n", "#| fig-subcap: [a, b]\n", "a(); b()"], shows("image/png"), shows("image/png")), ""),
    (code(["#| code-fold: show\n", '#| code-summary: "Exported source"\n', "a()"]), "which file"),
    (TITLE, "2 cells with its title"),
])
def test_what_is_handed_to_quarto(tmp_path, cell, wrong):
    (tmp_path / "x.ipynb").write_text(json.dumps(notebook(TITLE, cell)), encoding="utf-8")
    problems = check.handed_problems(tmp_path)
    if wrong: assert any(wrong in problem for problem in problems), problems
    else: assert problems == []


def test_formulas_are_parsed_by_katex(tmp_path):
    problems, reason = check.katex_problems([("a", r"\frac{1}{2}", True), ("b", r"\frac{1}{2", False), ("c", r"\nosuch", False)], fetch=False)
    if reason: pytest.skip(reason)
    assert [problem.split(":")[0] for problem in problems] == ["b", "c"]


# ---------------------------------------------------------------- the preview

def test_addresses_are_those_of_nbdev():
    assert [site.address(file) for file in ("index.ipynb", "04_optim.ipynb", "A_rules.ipynb", "21_frameworks.ipynb", "sources.qmd")] == [
        "index.html", "optim.html", "A_rules.html", "frameworks.html", "sources.html"]


def test_names_are_linked_but_not_within_links_headings_code_or_formulas():
    names = {"Adam": "optim.html#adam", "fit": "training.html#fit"}
    link = lambda text: site.linked(text, names, "optim.html")
    assert link("Use `Adam` with `nn.fit()`.") == "Use [`Adam`](#adam) with [`nn.fit()`](training.html#fit)."
    for same in "## `Adam`", "[`Adam`](x.html)", "```python\n`Adam`\n```", "`other`", "$`Adam`$":
        assert link(same) == same


def test_sources_are_linked_where_they_are_named():
    entries = {"polyak1964": (["Polyak"], "1964"), "he2015": (["He", "Zhang", "Ren"], "2015")}
    link = lambda text: site.with_sources(text, entries)
    assert link("(Polyak, 1964)") == "([Polyak, 1964](sources.qmd#ref-polyak1964))"
    assert link("as He et al. (2015) say") == "as He et al. ([2015](sources.qmd#ref-he2015)) say"
    assert link("(x; He and others, 2015, say)") == "(x; [He and others, 2015](sources.qmd#ref-he2015), say)"
    for same in "(Nesterov, 1983)", "# (Polyak, 1964)", "```python\n# (Polyak, 1964)\n```": assert link(same) == same


def test_slugs_are_those_of_pandoc():
    assert site.slug("Two parameters, one `learning_rate`") == "two-parameters-one-learning_rate"
    assert site.slug("1. What is $\\eta$?") == "what-is-eta"


def test_the_sidebar_holds_every_page_once():
    listed = site.listed()
    assert listed[0] == "index.ipynb" and len(listed) == len(set(listed))
    assert [file for file in listed if file.endswith(".ipynb")][1:9] == [
        "01_forward.ipynb", "01b_network.ipynb", "02_losses.ipynb", "03_backprop.ipynb", "03b_autodiff.ipynb", "04_optim.ipynb",
        "04b_after_adam.ipynb", "05_training.ipynb"]


def test_chapters_between_chapters_have_numbers():
    "1b, 3b and 4b stand in the column of numbers, in the preview and in Quarto's sidebar."
    bar = site.sidebar("03b_autodiff.ipynb", set(site.listed()))
    assert '<span class="no">3b</span> <span>Automatic differentiation</span>' in bar and '<span class="no">A</span>' in bar
    assert "match('^(%d+%l?) (.+)$')" in (site.NBS / "filter.lua").read_text(encoding="utf-8")


STUB = """quarto = {doc = {is_format = function() return true end, output_file = '04_optim.html'}, base64 = {decode = function(x) return x end}}
return dofile(%r)
"""


def filtered(folder, markdown):
    "Markdown as Quarto's pandoc would see it, through nbs/filter.lua, with what that asks of Quarto stubbed."
    pypandoc = pytest.importorskip("pypandoc", reason="needs the extra site")
    (folder / "stub.lua").write_text(STUB % str(site.NBS / "filter.lua"), encoding="utf-8")
    return pypandoc.convert_text(markdown, "html5", format="markdown", extra_args=["--wrap=none", f"--lua-filter={folder / 'stub.lua'}"])


@pytest.mark.parametrize(("id", "text", "shown"), [
    ("quarto-breadcrumbs-x", "4 Optimization", "Chapter 4"), ("quarto-breadcrumbs-x", "3b Automatic differentiation", "Chapter 3b"),
    ("quarto-breadcrumbs-x", "A The rules", "Appendix A"), ("quarto-breadcrumbs-x", "I  How a network learns", "I How a network learns"),
    ("quarto-breadcrumbs-x", "IV  Fast, wide, elsewhere", "IV Fast, wide, elsewhere"), ("quarto-breadcrumbs-x", "Appendix", "Appendix"),
    ("quarto-int-sidebar:x", "12 Convolution", '<span class="no">12</span> <span>Convolution</span>'),
    ("quarto-int-sidebar:x", "I  How a network learns", "I How a network learns"),
])
def test_the_filter_names_chapters_and_leaves_parts(tmp_path, id, text, shown):
    page = filtered(tmp_path, f'[{text}]{{.quarto-markdown-envelope-contents render-id="{id}"}}')
    assert f">{shown}</span></p>" in page, page


@pytest.mark.parametrize(("cell", "code", "shown"), [
    ('fold="Solution"', "", '<details class="fold"><summary>Solution</summary>'),
    ("", 'code-fold="true" code-summary="Prediction"', '<details class="fold"><summary>Prediction</summary>'),
    ("", 'code-fold="true" code-summary="Drawing"', 'data-code-summary="Drawing"'),  # Quarto folds the code alone
    ('exported="nn_from_scratch/optim.py"', 'code-fold="show" code-summary="Exported source"', 'data-filename="nn_from_scratch/optim.py"'),
])
def test_the_filter_folds_a_cell_with_its_output(tmp_path, cell, code, shown):
    page = filtered(tmp_path, f"::: {{.cell {cell}}}\n``` {{.python .cell-code {code}}}\n1\n```\n\n::: {{.cell-output}}\n```\none\n```\n:::\n:::")
    assert shown in page and "Exported source" not in page
    whole = "fold" in cell or "Prediction" in code
    assert bool(re.search(r"<details.*one.*</details>", page, flags=re.S)) == whole


def test_the_filter_lets_tables_and_formulas_scroll(tmp_path):
    page = filtered(tmp_path, "| a | b |\n|---|---|\n| 1 | 2 |\n\n$$x = 1$$")
    assert re.search(r'<div class="wide"(?=[^>]*tabindex="0")[^>]*role="region"', page) and '<span class="display" tabindex="0">' in page


def test_links_to_notebooks_are_left_to_themselves():
    "Quarto takes what ends in .ipynb for one of its pages and warns, unless it is told otherwise."
    line = site.launch("04_optim.ipynb", True)
    assert line.count(".ipynb){noresolveinput=1}") == 2 and "{{" not in line


def test_only_what_a_chapter_documents_is_a_heading():
    "nbdev's own headings for helpers are left out; a function that another made has the name it is asked for by."
    def shown(call, name): return code(call, {"output_type": "display_data", "data": {"text/markdown": f"---\n\n### {name}\n\ntext"}})
    cells = [markdown("## Demands"), shown("show_doc(helper)", "helper"), shown("show_doc(positive)", r"plain.\<locals\>.demand"), shown("show_doc(whole)", "whole")]
    left = site.own_references("F_checks.ipynb", cells)
    assert [site.text_of(cell["source"]) for cell in left] == ["## Demands", "show_doc(positive)", "show_doc(whole)"]
    made = site.as_asked("### plain.<locals>.demand\n\n```python\ndef demand(x)\n```\n\ntext", "positive")
    assert made == "### positive\n\n```python\ndef positive(x)\n```\n\ntext"
    text = "### f\n\ntext\n\nParameters:\n    x: a number\n        or two\n    **more: too\n\nReturns:\n    another\n\nExample:\n    >>> f(1)\n    2"
    assert site.as_asked(text, "f") == ("### f\n\ntext\n\n**Parameters**\n\n- `x`: a number or two\n- `**more`: too\n\n"
                                        "**Returns**\n\n- another\n")
    assert "### positive\n" in site.reference_text(left[1]) and "### whole\n" in site.reference_text(left[2])
    assert site.own_references("index.ipynb", cells) == cells[:1]  # which shows nothing of the kind itself


def test_a_dark_system_gets_quartos_dark_pages():
    html = site.quarto_yml()["format"]["html"]
    assert html["respect-user-color-scheme"] is True and set(html["theme"]) == {"light", "dark"}


def test_a_cell_becomes_a_figure_with_number_caption_and_alternative(tmp_path):
    picture = json.loads((ROOT / "nbs/01_forward.ipynb").read_text(encoding="utf-8"))
    png = next(o["data"]["image/png"] for c in picture["cells"] for o in c.get("outputs", []) if "image/png" in o.get("data", {}))
    (cell := code(GOOD, shows("image/png")))["outputs"][0]["data"]["image/png"] = png
    page = site.Page("01_forward.ipynb", tmp_path, tmp_path, notebook(cell, markdown("As @fig-a shows.")))
    assert '<figure id="fig-a"><img src="figures/forward-a.png" alt="A line from the top left"' in page.markdown
    assert "[Figure 1.]{.number} A line: it falls" in page.markdown and "As [Figure 1](#fig-a) shows." in page.markdown
    assert (tmp_path / "figures/forward-a.png").exists()


def test_an_exported_cell_names_its_file():
    files = site.modules_of("02_losses.ipynb")
    assert len(files) > 10 and set(files.values()) >= {"nn_from_scratch/losses.py"}


def test_colours_and_type_come_from_quartos_themes():
    light, dark = site.tokens(site.NBS / "site.scss"), site.tokens(site.NBS / "site-dark.scss")
    sheet = site.style()
    assert f"--paper: {light['paper']};" in sheet and f"--paper: {dark['paper']};" in sheet and "/* light" not in sheet
    assert f"--ui: {light['ui']};" in sheet
    assert len(set(light) & set(dark)) == len(dark), "the dark theme sets what the light one does not"


@pytest.mark.parametrize(("before", "after"), [
    ("<msup><mrow><mi>tanh</mi><mo>&#8289;</mo></mrow><mn>2</mn></msup><mi>z</mi>", "<msup><mi>tanh</mi><mn>2</mn></msup><mspace"),
    ("<msup><mrow><mi>tanh</mi><mo>&#8289;</mo></mrow><mn>2</mn></msup><mo>(</mo>", "<msup><mi>tanh</mi><mn>2</mn></msup><mo>(</mo>"),
    ("<mrow><mi>log</mi><mo>&#8289;</mo></mrow><mi>x</mi>", "<mrow><mi>log</mi><mo>&#8289;</mo><mspace"),
    ("<msup><mi>f</mi><mo>′</mo></msup>", '<mrow><mi>f</mi><mo lspace="0" rspace="0">′</mo></mrow>'),
])
def test_formulas_stand_as_tex_sets_them(before, after):
    assert site.mathml(before).startswith(after) and site.mathml(site.mathml(before)) == site.mathml(before)


def test_after_quartos_render(tmp_path, monkeypatch):
    "postrender.py on a site of two pages: search without TeX, one list of all pages, a skip link, the present page marked."
    import postrender
    side = ('<body class="x"><a href="./index.html" class="sidebar-item-text sidebar-link">A</a>'
            '<a href="./optim.html" class="sidebar-item-text sidebar-link active">B</a>')
    body = ('<main class="content" id="quarto-document-content"><p>first</p><section id="s" class="level2"><h2>S</h2>'
            '<p><math><semantics><mi>θ</mi><annotation encoding="application/x-tex">\\theta</annotation></semantics></math> moves</p></section></main>')
    for name in "index", "optim":
        (tmp_path / f"{name}.html").write_text(f'<title>{name.title()} – book</title><meta name="description" content="about {name}">{side}{body}', encoding="utf-8")
    (tmp_path / "index.llms.md").write_text("i", encoding="utf-8")
    (tmp_path / "04_optim.llms.md").write_text("o", encoding="utf-8")
    (tmp_path / "llms.txt").write_text("# book\n\n## Pages\n\n- [Index](index.llms.md)\n", encoding="utf-8")
    (tmp_path / "search.json").write_text(json.dumps([{"href": "optim.html#s", "section": "", "text": "θ\\theta moves"}]), encoding="utf-8")
    monkeypatch.setenv("QUARTO_PROJECT_OUTPUT_DIR", str(tmp_path))
    postrender.main()
    assert json.loads((tmp_path / "search.json").read_text(encoding="utf-8"))[0]["text"] == "S\nθ moves"
    assert (tmp_path / "llms.txt").read_text(encoding="utf-8") == (
        "# book\n\n## Pages\n\n- [Index](index.llms.md): about index\n- [Optim](optim.llms.md): about optim\n")
    page = (tmp_path / "optim.html").read_text(encoding="utf-8")
    assert '<a class="skip" href="#quarto-document-content">' in page and 'active" aria-current="page"' in page and '<main tabindex="-1"' in page
    before = page
    postrender.main()
    assert (tmp_path / "optim.html").read_text(encoding="utf-8") == before


def test_an_output_folder_that_is_no_site_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep me", encoding="utf-8")
    with pytest.raises(SystemExit, match="holds no site"): site.build(tmp_path)
    assert (tmp_path / "mine.txt").exists()


def test_quarto_is_asked_for_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match="quarto is not on the path"): site.build_quarto(tmp_path)


def test_the_lines_beside_the_film_on_the_front_page_do_what_they_say(capsys):
    "They train the network of the film, as tools/make_assets.py draws it."
    cells = json.loads((ROOT / "nbs/index.ipynb").read_text(encoding="utf-8"))["cells"]
    text = next(t for t in (site.text_of(cell["source"]) for cell in cells) if "(learning.gif)" in t)
    lines = text.partition("(learning.gif)")[2].partition("```python\n")[2].partition("```")[0]
    exec(lines, {})
    assert capsys.readouterr().out.endswith("1.0\n")
    drawn = (ROOT / "tools/make_assets.py").read_text(encoding="utf-8")
    for setting in "nn.spiral(300, classes=3, ", "nn.mlp([2, 32, 32, 3], activation=nn.tanh, rng=3)", "nn.Adam(lr=0.01)":
        assert setting in lines and setting in drawn
