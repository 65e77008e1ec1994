"""Derivations that are kept: named steps, printable as text, LaTeX and MathML."""

import html
import re
from dataclasses import dataclass
from typing import Any

import sympy as sp


class Moment(sp.Function):
    """A moment that is named, not evaluated."""

    def _eval_evalf(self, prec: int) -> None:
        """Stay: SymPy would look the name up in mpmath, where E is the base of logarithms."""

    @classmethod
    def _should_evalf(cls, arg: Any) -> int:
        return -1

    def _mathml_presentation(self, printer: Any) -> Any:
        printed = printer._print_Function(self)
        printed.firstChild.firstChild.data = type(self).__name__  # SymPy writes e for E
        return printed


class E(Moment):
    """The expectation of a random number."""


class Cov(Moment):
    """The covariance of two random numbers."""


class Var(Moment):
    """The variance of a random number."""


# What LaTeX gives a meaning to, and letters that pdflatex has no glyph for in text.
LATEX = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "φ": r"\(\phi\)",
    "ρ": r"\(\rho\)",
} | {mark: "\\" + mark for mark in "#$%&_{}"}


@dataclass(frozen=True)
class Step:
    """One step of a derivation: what was done, why it may be done, and the result.

    Args:
        name: of the step.
        reason: a sentence; its formulas stand between dollars, as in "since $c = K_ij$".
        result: what holds now, mostly an equation.
    """

    name: str
    reason: str
    result: sp.Basic

    def text(self) -> str:
        """Return the step as text."""
        return f"{self.name}: {_plain(self.reason)}\n    {statement_text(self.result)}"

    def latex(self) -> str:
        """Return the step as a LaTeX paragraph and a displayed formula."""
        head = f"\\paragraph{{{latex_text(self.name)}.}} {latex_text(self.reason)}"
        return f"{head}\n\\[ {sp.latex(self.result)} \\]"

    def mathml(self) -> str:
        """Return the step as an HTML paragraph with presentation MathML."""
        name, reason = html.escape(self.name), html.escape(_plain(self.reason))
        return f"<p><b>{name}.</b> {reason}</p>\n{mathml(self.result)}"


@dataclass(frozen=True)
class Derived:
    """A value and the steps that led to it."""

    value: sp.Expr
    steps: tuple[Step, ...]


def equate(left: Any, right: Any) -> sp.Eq:
    """Return left = right as it stands: `sp.Eq` would turn a plain truth into `true`."""
    return sp.Eq(left, right, evaluate=False)  # pyright: ignore[reportReturnType]


def statement_text(statement: Any) -> str:
    """Return a statement as one line of text, equations with an equals sign."""
    if isinstance(statement, sp.Eq):
        return f"{statement.lhs} = {statement.rhs}"
    return str(statement)


def _plain(prose: str) -> str:
    return prose.replace("$", "")


def latex_text(prose: str) -> str:
    r"""Return prose with formulas between dollars as LaTeX, the rest escaped.

    >>> print(latex_text("K_ij & $K_ij$"))
    K\_ij \& $K_{ij}$
    """
    parts = re.split(r"\$(.*?)\$", prose)
    parts[::2] = ("".join(LATEX.get(mark, mark) for mark in p) for p in parts[::2])
    # As text a subscript of two letters needs no braces, in LaTeX it does.
    parts[1::2] = (re.sub(r"_(\w\w+)", r"_{\1}", f"${p}$") for p in parts[1::2])
    return "".join(parts)


def mathml(statement: sp.Basic) -> str:
    """Return `statement` as a presentation MathML element, well-formed as XML."""
    # SymPy has no presentation of an entrywise square but as a product.
    written: Any = statement.replace(
        lambda e: isinstance(e, sp.HadamardPower),
        lambda e: sp.HadamardProduct(*[e.base] * int(e.exp), evaluate=False),
    )
    inner = sp.printing.mathml(written, printer="presentation")
    # SymPy writes text as it is, with entities that XML does not know and with bare <.
    parts = re.split(r"(</?[a-z][^<>]*>)", inner)
    parts[::2] = (html.escape(html.unescape(p), quote=False) for p in parts[::2])
    inner = "".join(parts)
    return f'<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">{inner}</math>'
