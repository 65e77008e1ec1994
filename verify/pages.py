"""Derivations as pages: text, a LaTeX document, HTML with MathML, Markdown with formulas."""

import html
import re
import textwrap
from pathlib import Path
from typing import Literal

import sympy as sp

from asymptest.theory.steps import latex_text, mathml
from asymptest.verify.derivation import Derivation

Format = Literal["text", "latex", "mathml", "markdown"]

SUFFIX: dict[Format, str] = {
    "text": ".txt",
    "latex": ".tex",
    "mathml": ".html",
    "markdown": ".md",
}


def render(derivation: Derivation, form: Format, width: int = 80) -> str:
    """Return a derivation as a page.

    Args:
        derivation: what to write.
        form: how.
        width: of the text, in characters; what has no spaces stays whole.
    """
    match form:
        case "text":
            return _text(derivation, width)
        case "latex":
            return _latex(derivation)
        case "mathml":
            return _html(derivation)
        case "markdown":
            return _markdown(derivation)


def write(derivation: Derivation, form: Format, folder: Path) -> Path:
    """Write a derivation into a folder, under its title's first word, and return the path."""
    name = re.sub(r"[^\w.-]+", "_", derivation.title.split(":")[0]).strip("_")
    path = folder / f"{name}{SUFFIX[form]}"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(render(derivation, form) + "\n", encoding="utf-8")
    return path


def _text(derivation: Derivation, width: int) -> str:
    steps = [step.text() for step in derivation.steps]
    parts = [derivation.title, *steps, "Result:", derivation.summary]
    lines = "\n".join(parts).splitlines()
    return "\n".join(_wrapped(line, width) for line in lines)


def _wrapped(line: str, width: int) -> str:
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    return textwrap.fill(
        line,
        width,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _latex(derivation: Derivation) -> str:
    lines = [
        "\\documentclass{article}",
        "\\usepackage[T1]{fontenc}",
        "\\usepackage{amsmath,amssymb}",
        "\\begin{document}",
        f"\\section*{{{latex_text(derivation.title)}}}",
        *(step.latex() for step in derivation.steps),
    ]
    for heading, result in derivation.results:
        lines.append(f"\\paragraph{{{latex_text(heading or 'Result')}.}}")
        lines.append(
            latex_text(result)
            if isinstance(result, str)
            else f"\\[\n{sp.latex(result)}\n\\]"
        )
    return "\n".join([*lines, "\\end{document}"])


def _html(derivation: Derivation) -> str:
    title = html.escape(derivation.title)
    lines = [
        "<!DOCTYPE html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>',
        f"<body><h1>{title}</h1>",
        *(step.mathml() for step in derivation.steps),
        "<h2>Result</h2>",
    ]
    for heading, result in derivation.results:
        if heading:
            lines.append(f"<h3>{html.escape(heading)}</h3>")
        lines.append(
            f"<p>{html.escape(result)}</p>"
            if isinstance(result, str)
            else mathml(result)
        )
    return "\n".join([*lines, "</body></html>"])


def _markdown(derivation: Derivation) -> str:
    parts = [f"# {derivation.title.replace('*', chr(92) + '*')}", "## Results"]
    for heading, result in derivation.results:
        statement = f" {result}" if isinstance(result, str) else _formula(result)
        parts.append(f"**{heading}.**{statement}" if heading else statement)
    if derivation.steps:
        parts.append("## Derivation")
    for step in derivation.steps:
        parts.append(f"**{step.name}.** {step.reason}{_formula(step.result)}")
    return "\n\n".join(parts)


def _formula(statement: sp.Basic) -> str:
    return f"\n\n$$\n{sp.latex(statement)}\n$$"
