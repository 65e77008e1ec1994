"""Pages about activations: each renders in every form, and docs/ has what is derived now."""

import re
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import pytest

from asymptest.verify.derivation import derive, documented
from asymptest.verify.pages import SUFFIX, render, write

DOCS = Path(__file__).parents[2] / "docs" / "activations"
NAMES = documented()
derived = cache(derive)


@pytest.mark.parametrize("name", NAMES)
def test_docs_are_what_is_derived(name: str, tmp_path: Path) -> None:
    """A changed derivation shows in the page: run `make docs` and read the difference."""
    page = write(derived(name), "markdown", tmp_path)
    assert (DOCS / page.name).read_text("utf-8") == page.read_text("utf-8")


def test_docs_have_a_page_for_each_and_no_other(tmp_path: Path) -> None:
    """A page whose activation is gone is stale."""
    expected = {write(derived(name), "markdown", tmp_path).name for name in NAMES}
    assert {path.name for path in DOCS.iterdir()} == expected
    assert {"relu.md", "gelu.md", "leaky_relu_1_5.md"} <= expected


@pytest.mark.parametrize("name", ["relu", "gelu", "sin", "polyrelu(1, 1)", "silu"])
def test_every_form_is_well_formed(name: str) -> None:
    """LaTeX braces and environments balance, HTML parses, Markdown formulas are closed."""
    derivation = derived(name)
    latex = render(derivation, "latex")
    assert latex.count("{") == latex.count("}")
    assert latex.count("\\[") == latex.count("\\]")
    page = render(derivation, "mathml").removeprefix("<!DOCTYPE html>")
    page = page.replace('<meta charset="utf-8">', "")
    assert ElementTree.fromstring(re.sub(r"&\w+;", "", page)).tag == "html"
    assert render(derivation, "markdown").count("$$") % 2 == 0
    text = render(derivation, "text", width=80)
    assert "Universality class: " in text
    closed = name != "silu"
    assert ("Hermite coefficient 4: a_4 = " in text) == closed
    assert ("K* = 14.320174" in text) == (not closed)


def test_pages_are_named_after_what_they_are_about(tmp_path: Path) -> None:
    """Parentheses, commas and slashes do not go into file names."""
    path = write(derive("leaky_relu(1/10)"), "latex", tmp_path / "new")
    assert path == tmp_path / "new" / f"leaky_relu_1_10{SUFFIX['latex']}"
    assert path.read_text("utf-8").endswith("\\end{document}\n")
