"""Derivations that are kept: named steps, printable as text, LaTeX and MathML."""

from dataclasses import dataclass
from typing import Any

import sympy as sp

E = sp.Function("E")  # an expectation that is named, not evaluated


@dataclass(frozen=True)
class Step:
    """One step of a derivation: what was done, why it may be done, and the result."""

    name: str
    reason: str
    result: sp.Basic

    def text(self) -> str:
        """Return the step as text."""
        return f"{self.name}: {self.reason}\n    {statement_text(self.result)}"

    def latex(self) -> str:
        """Return the step as a LaTeX paragraph and a displayed formula."""
        return f"\\paragraph{{{self.name}.}} {self.reason}\n\\[ {sp.latex(self.result)} \\]"

    def mathml(self) -> str:
        """Return the step as an HTML paragraph with presentation MathML."""
        return f"<p><b>{self.name}.</b> {self.reason}</p>\n{mathml(self.result)}"


def statement_text(statement: Any) -> str:
    """Return a statement as one line of text, equations with an equals sign."""
    if isinstance(statement, sp.Eq):
        return f"{statement.lhs} = {statement.rhs}"
    return str(statement)


def mathml(statement: sp.Basic) -> str:
    """Return `statement` as a presentation MathML element."""
    inner = sp.printing.mathml(statement, printer="presentation")
    return f'<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">{inner}</math>'
