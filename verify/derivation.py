"""Derivations on paper: a network's recursion, or the dual of an activation, step by step."""

import html
import re
import textwrap
from dataclasses import dataclass
from typing import Literal

import sympy as sp

from asymptest import theory
from asymptest.theory.activations import Activation
from asymptest.theory.errors import ArgumentError
from asymptest.theory.gaussian_calculus import dual
from asymptest.theory.network import Composable, Network
from asymptest.theory.recursion import recursion
from asymptest.theory.steps import Step, latex_text, mathml, statement_text
from asymptest.verify.select import load_object

Format = Literal["text", "latex", "mathml"]

FACTORIES = ("hermite", "leaky_relu", "monomial", "polynomial", "polyrelu")
WITH_DEGREE = ("hermite", "monomial")
CALL = re.compile(r"(\w+)(?:\(([^()]*)\))?")
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d{1,3})?(/\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Derivation:
    """A title, the steps, and the equations they end in.

    Args:
        title: the network or activation.
        steps: how it was derived.
        results: what was derived.
        summary: the results as text.
    """

    title: str
    steps: tuple[Step, ...]
    results: tuple[sp.Basic, ...]
    summary: str


def derive(target: str) -> Derivation:
    """Return the derivation of an activation's dual, or of a network's recursion.

    Args:
        target: "relu", "leaky_relu(0.2)", ..., or "module:attribute" for a network.

    Raises:
        ArgumentError: if the target is neither.
        NoClosedFormError: if an activation has no closed form.
    """
    if ":" in target:
        return _of_network(load_network(target))
    return _of_activation(parse_activation(target))


def load_network(target: str) -> Network:
    """Return the network at "module:attribute".

    Raises:
        ArgumentError: if there is none, or the object is no network.
    """
    found = load_object(target, "network")
    if not isinstance(found, Composable):
        raise ArgumentError(
            f"{target!r} must be a network, such as Dense() >> Pointwise(relu); it is "
            f"of type {type(found).__name__}"
        )
    return found  # pyright: ignore[reportReturnType]


def parse_activation(text: str) -> Activation:
    """Return the activation that a text names; decimals and fractions are read exactly.

    Raises:
        ArgumentError: if the name or an argument is not known.

    >>> parse_activation("leaky_relu(0.2)").expr
    4*x*Heaviside(x)/5 + x/5
    """
    matched = CALL.fullmatch(text.strip())
    name, inner = matched.groups() if matched else (text, None)
    known = {k for k in theory.__all__ if isinstance(getattr(theory, k), Activation)}
    if inner is None and name in known:
        return getattr(theory, name)
    if inner is not None and name in FACTORIES:
        values = [_number(part.strip(), text) for part in inner.split(",")]
        arity_is_free = name.startswith("poly")
        if arity_is_free or len(values) == 1:
            return getattr(theory, name)(
                *(map(int, values) if name in WITH_DEGREE else values)
            )
    listed = ", ".join([*sorted(known), *(f"{f}(...)" for f in FACTORIES)])
    raise ArgumentError(
        f"{text!r} is no activation; choose from {listed}; or write module:attribute "
        f"for a network"
    )


def _number(text: str, whole: str) -> sp.Expr:
    if not NUMBER.fullmatch(text) or re.search(r"/0+$", text):
        raise ArgumentError(
            f"the argument {text!r} in {whole!r} is no number; write one such as 2, "
            f"0.2 or 1/5"
        )
    value = sp.Rational(text)
    if whole.startswith(WITH_DEGREE) and not value.is_integer:
        raise ArgumentError(f"the degree in {whole!r} must be a whole number")
    return value


def _of_activation(phi: Activation) -> Derivation:
    derived = dual(phi)
    u, v = sp.symbols("u v")
    named = sp.Function("E")(sp.Function("phi")(u) * sp.Function("phi")(v))
    result = sp.Eq(named, derived.value, evaluate=False)
    title = f"Dual of {phi.name}, phi(x) = {phi.expr}"
    return Derivation(title, derived.steps, (result,), statement_text(result))


def _of_network(network: Network) -> Derivation:
    derived = recursion(network)
    return Derivation(derived.network, derived.steps, derived.equations, derived.text())


def render(derivation: Derivation, form: Format, width: int = 80) -> str:
    """Return a derivation as text, as a LaTeX document or as an HTML page.

    Args:
        derivation: what to write.
        form: how.
        width: of the text, in characters; what has no spaces stays whole.
    """
    match form:
        case "text":
            steps = [step.text() for step in derivation.steps]
            parts = [derivation.title, *steps, "Result:", derivation.summary]
            lines = "\n".join(parts).splitlines()
            return "\n".join(_wrapped(line, width) for line in lines)
        case "latex":
            return _latex(derivation)
        case "mathml":
            return _page(derivation)


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
    return "\n".join(
        [
            "\\documentclass{article}",
            "\\usepackage[T1]{fontenc}",
            "\\usepackage{amsmath,amssymb}",
            "\\begin{document}",
            f"\\section*{{{latex_text(derivation.title)}}}",
            *(step.latex() for step in derivation.steps),
            "\\paragraph{Result.}",
            *map(_displayed, derivation.results),
            "\\end{document}",
        ]
    )


def _displayed(statement: sp.Basic) -> str:
    return f"\\[\n{sp.latex(statement)}\n\\]"


def _page(derivation: Derivation) -> str:
    title = html.escape(derivation.title)
    return "\n".join(
        [
            "<!DOCTYPE html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>',
            f"<body><h1>{title}</h1>",
            *(step.mathml() for step in derivation.steps),
            "<h2>Result</h2>",
            *map(mathml, derivation.results),
            "</body></html>",
        ]
    )
