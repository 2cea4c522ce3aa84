"""The page of notation says where a symbol is introduced: in the first chapter that writes it. And each letter has a row."""

import json
import re
from pathlib import Path

import pytest

NBS = Path(__file__).resolve().parent.parent / "nbs"
BOOK = ["01_forward", "01b_network", "02_losses", "03_backprop", "03b_autodiff", "04_optim", "04b_after_adam", "05_training", "06_data", "11_digits"]
pytestmark = pytest.mark.project

# How each symbol is written in the chapters, for those that could not be mistaken for a letter of a sentence.
WRITTEN = {
    r"$\hat y$": r"\\hat\{? ?y|ŷ", r"$\sigma$": r"\\sigma|σ\(", r"$v_i$": r"v_i", r"$\theta$": r"\\theta", r"$\partial L / \partial w$": r"\\partial",
    r"$\nabla L$": r"\\nabla", r"$\delta$": r"\\delta(?!\s*\()", r"$z^{(l)}$, $a^{(l)}$, $w^{(l)}$": r"\^\{\(", r"$\odot$": r"\\odot", r"${w}^\top$": r"\\top",
    r"$\eta$": r"\\eta", r"$\lambda$": r"\\lambda", r"$v$, $\mu$": r"\\mu", r"$m$, $v$, $\beta_1$, $\beta_2$": r"\\beta", r"$\kappa$": r"\\kappa", r"$\sum$": r"\\sum",
    r"$\prod$": r"\\prod", r"$\lVert w \rVert$": r"\\lVert", r"$\operatorname{Var}$": r"\\operatorname\{Var\}", r"$\leftarrow$": r"\\leftarrow", r"$\alpha$": r"\\alpha",
    r"$\overline{x}$": r"\\overline",
}
TWICE = {r"$\delta$": "03_backprop"}  # whose first use is another meaning, named in the row


def text(name: str) -> str:
    cells = json.loads((NBS / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def symbols() -> dict[str, list[str]]:
    "Symbol -> the chapters that its row names."
    table = text("notation").partition("## Symbols")[2].partition("## Glossary")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| $")]
    return {row[0]: re.findall(r"\((\w+)\.ipynb", row[-1]) for row in rows}


@pytest.mark.parametrize("symbol", WRITTEN)
def test_a_symbol_is_introduced_where_the_page_says(symbol):
    said = symbols()[symbol]
    first = next(name for name in BOOK if re.search(WRITTEN[symbol], text(name)))
    assert said[0] == TWICE.get(symbol, first), f"{symbol} first stands in {first}; the page says {said[0]}"


GREEK = "alpha beta gamma delta epsilon varepsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau phi varphi chi psi omega Gamma Delta Theta Lambda Sigma Phi Omega".split()
SIGNS = "nabla partial odot prod sum lVert top leftarrow".split()


def test_every_greek_letter_and_sign_has_a_row():
    page = text("notation").partition("## Symbols")[2].partition("## Glossary")[0]
    for name in BOOK[:6]:
        formulas = " ".join(re.findall(r"\$\$.*?\$\$|\$[^$\n]+\$", text(name), flags=re.S))
        written = {word for word in re.findall(r"\\([a-zA-Z]+)", formulas) if word in (*GREEK, *SIGNS)}
        missing = sorted(word for word in written if f"\\{word}" not in page and not ("phi" in word and "φ" in page))
        assert not missing, f"{name} writes {missing}, which the page of notation does not explain"
