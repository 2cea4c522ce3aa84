"""The book as a reader finds it: chapters of an evening, predictions before their answers, nothing cut off, folded drawing."""

import json
import re
from pathlib import Path

import pytest

NBS = Path(__file__).resolve().parent.parent / "nbs"
NAMES = sorted(path.stem for path in NBS.glob("*.ipynb"))
CHAPTERS = [name for name in NAMES if re.match(r"\d", name)]
PART_ONE = [name for name in CHAPTERS if name < "07"] + ["11_digits"]
READ = PART_ONE + ["08_diagnosis", "09_regularisation", "10_normalisation"]
pytestmark = pytest.mark.project



def cells(name: str) -> list[dict]:
    found = json.loads((NBS / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    return [{**cell, "source": "".join(cell["source"])} for cell in found]


def before_exercises(name: str) -> list[dict]:
    found = []
    for cell in cells(name):
        if re.search(r"(?m)^## (Exercises|Reference)", cell["source"]) and cell["cell_type"] == "markdown":
            return [*found, {**cell, "source": re.split(r"(?m)^## (?:Exercises|Reference)", cell["source"])[0]}]
        found.append(cell)
    return found


def has_picture(cell: dict) -> bool: return any("image/png" in out.get("data", {}) for out in cell.get("outputs", []))
def on_the_page(cell: dict) -> bool: return not re.match(r"#\| (?:hide|exporti?|default_exp)\b", cell["source"])


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_is_an_evening(name):
    "Fewer than 3,500 words before its exercises, those behind a click and in formulas among them."
    words = sum(len(re.findall(r"\w+", cell["source"])) for cell in before_exercises(name) if cell["cell_type"] == "markdown")
    assert words < 3500, f"{name}: {words} words"


@pytest.mark.parametrize("name", NAMES)
def test_outputs_fit_the_page(name):
    "88 columns, error messages among them: what is wider is cut off."
    wide = []
    for cell in cells(name):
        if cell["cell_type"] != "code" or not on_the_page(cell): continue
        for out in cell["outputs"]:
            if "text/markdown" in out.get("data", {}) or has_picture({"outputs": [out]}): continue
            text = "".join(out.get("text") or out.get("data", {}).get("text/plain", ""))
            wide += [f"{name} {cell['id']}: {len(line)} columns" for line in text.splitlines() if len(line) > 88]
    assert wide == []


@pytest.mark.parametrize("name", READ)
def test_a_prediction_stands_before_its_answer(name):
    "Between the prompt and the next words, whatever prints or draws is behind a click, with its caption; and so are the first words, where they give it away."
    found = cells(name)
    for i, cell in enumerate(found):
        if cell["cell_type"] != "markdown" or "**Predict" not in cell["source"]: continue
        shown = []
        for later in found[i + 1:]:
            if later["cell_type"] == "markdown": break
            shown += [later["source"]] if later["outputs"] and on_the_page(later) and "#| fold:" not in later["source"] else []
        assert shown == [], f"{name}: the answer to {cell['source'][-200:]!r} stands open"
        prompt = cell["source"][cell["source"].index("**Predict"):]
        assert re.search(r"\?|[Ss]ketch", prompt), f"nothing is asked in {prompt!r}"


@pytest.mark.parametrize("name", READ)
def test_a_solution_hides_what_it_prints(name):
    for cell in cells(name):
        if re.search(r"(?m)^#\|.*Solution", cell["source"]):
            assert cell["metadata"].get("jupyter") == {"source_hidden": True, "outputs_hidden": True}, f"{name} {cell['id']}: run_notebooks.py --fold"


@pytest.mark.parametrize("name", PART_ONE)
def test_drawing_is_folded(name):
    "Code that draws by itself; one call of a picture of the library may stand open."
    open_ = [cell["id"] for cell in cells(name) if cell["cell_type"] == "code" and has_picture(cell) and on_the_page(cell)
             and not re.search(r"(?m)^#\| (code-fold: true|fold:)", cell["source"]) and re.search(r"plt\.subplots|\bax\.|imshow", cell["source"])]
    assert open_ == []


@pytest.mark.parametrize("name", CHAPTERS)
def test_no_sentence_speaks_of_a_cell_that_is_not_shown(name):
    found = cells(name)
    for i, cell in enumerate(found):
        if cell["cell_type"] != "markdown" or "next cell" not in cell["source"]: continue
        following = next(later for later in found[i + 1:] if later["cell_type"] == "code")
        assert on_the_page(following), f"{name}: {cell['source']!r}"


def test_the_glossary_names_the_chapter_where_a_term_is_introduced():
    "No chapter before the one that is named has it in bold; the second meanings are listed."
    book = [name for name in CHAPTERS if name < "21"]
    texts = {name: "\n".join(cell["source"] for cell in cells(name) if cell["cell_type"] == "markdown").lower() for name in book}
    bold = {name: " | ".join(re.findall(r"\*\*([^*]+)\*\*", text)) for name, text in texts.items()}
    rows = re.findall(r"(?m)^\| ([^|]+) \| [^|]+ \| \[\w+\]\((\w+)\.ipynb\) \|$", "\n".join(cell["source"] for cell in cells("notation")).partition("## Glossary")[2])
    assert len(rows) > 100
    elsewhere = {"derivative", "gradient", "iteration", "loss function", "norm", "batch normalisation"}  # in bold for another reason, or before it is explained
    for terms, chapter in rows:
        names = [term.strip(" `*").lower() for term in re.split(r"[(),]", terms) if term.strip(" `*")]
        first = next((name for name in book if any(re.search(rf"(?<!\w){re.escape(term)}(?:s|es|ed)?(?!\w)", bold[name]) for term in names)), chapter)
        if names[0] not in elsewhere and chapter in book: assert book.index(first) >= book.index(chapter), f"{terms}: the page says {chapter}, it is introduced in {first}"
