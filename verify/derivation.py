"""Derivations by name: a network's recursion, or all about an activation, step by step."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import sympy as sp

from asymptest import numerics, theory
from asymptest.theory.activations import Activation
from asymptest.theory.errors import ArgumentError, NoClosedFormError
from asymptest.theory.gaussian_calculus import dual
from asymptest.theory.limit_network import saturate
from asymptest.theory.network import Composable, Network, as_network
from asymptest.theory.portrait import portrait
from asymptest.theory.recursion import recursion
from asymptest.theory.steps import Step, statement_text
from asymptest.verify.select import load_object

LimitName = Literal["width", "scale"]
FACTORIES = ("hermite", "leaky_relu", "monomial", "polynomial", "polyrelu", "rbf")
# Those with parameters are documented at one value of them.
PAGES = ("leaky_relu(0.2)", "monomial(3)", "hermite(3)", "polyrelu(1, 1)", "rbf(1/2)")
WITH_DEGREE = ("hermite", "monomial")
CALL = re.compile(r"(\w+)(?:\(([^()]*)\))?")
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d{1,3})?(/\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Derivation:
    """A title, the steps, and what follows from them.

    Args:
        title: the network or activation.
        steps: how it was derived.
        results: heading and equation; or a sentence, where there is none.
        summary: the results as text.
    """

    title: str
    steps: tuple[Step, ...]
    results: tuple[tuple[str, sp.Basic | str], ...]
    summary: str


def derive(target: str, limit: LimitName = "width") -> Derivation:
    """Return the derivation of an activation's dual and what follows, or of a network's limit.

    Args:
        target: "relu", "leaky_relu(0.2)", ..., or "module:attribute" for a network or an
            activation of one's own.
        limit: of a network: "width" for its kernel, layer by layer, as the width grows;
            "scale" for what is left of it as all its parameters grow.

    Raises:
        ArgumentError: if the target is neither, or an activation is to grow.
    """
    found = (
        load_object(target, "network or activation")
        if ":" in target
        else parse_activation(target)
    )
    if not isinstance(found, Activation):
        network = _network(found, target)
        return _of_network(network) if limit == "width" else _of_scale(network)
    if limit != "width":
        raise ArgumentError(
            f"the limit {limit!r} is a network's, and {target!r} is an activation; write "
            f"module:attribute for a network"
        )
    return _of_activation(found)


def documented() -> tuple[str, ...]:
    """Return the names of all activations, those with parameters at one value of them."""
    return (*sorted(_plain()), *PAGES)


def load_network(target: str) -> Network:
    """Return the network at "module:attribute".

    Raises:
        ArgumentError: if there is none, or the object is no network.
    """
    return _network(load_object(target, "network"), target)


def _network(found: object, target: str) -> Network:
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
    known = _plain()
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
        f"for a network or an activation of your own"
    )


def _plain() -> set[str]:
    return {k for k in theory.__all__ if isinstance(getattr(theory, k), Activation)}


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


# What is evaluated, at variance 1, where it has no closed form.
NUMBERS: dict[str, Callable[[Activation], Any]] = {
    "Mean": lambda phi: numerics.mean(phi, 1.0),
    "Q-map": lambda phi: numerics.q_map(phi, 1.0),
    "Fourth moment": lambda phi: numerics.fourth_moment(phi, 1.0),
    "Slope of the C-map at 1": lambda phi: (
        numerics.chi_perp(phi, 1.0) / numerics.q_map(phi, 1.0)
    ),
    "Parallel susceptibility": lambda phi: numerics.chi_parallel(phi, 1.0),
    "Perpendicular susceptibility": lambda phi: numerics.chi_perp(phi, 1.0),
}


def _of_activation(phi: Activation) -> Derivation:
    try:
        steps = dual(phi).steps
    except NoClosedFormError:  # the results say so
        steps = ()
    results = tuple(_with_number(phi, *entry) for entry in portrait(phi))
    lines = [f"{heading}: {_line(result)}" for heading, result in results]
    title = f"{phi.name}: phi(x) = {phi.expr}"
    return Derivation(title, steps, results, "\n".join(lines))


def _with_number(
    phi: Activation, heading: str, result: sp.Basic | str
) -> tuple[str, sp.Basic | str]:
    """Return an entry, with a number where there is no closed form."""
    if not isinstance(result, str) or "no rule reduces" not in result:
        return heading, result
    if heading == "Universality class":
        point = numerics.criticality(phi)
        values = {"K*": point.K_star, "C_b": point.C_b, "C_W": point.C_W}
        shown = (f"{k} = {float(v):.8g}" for k, v in values.items() if v is not None)
        return heading, "; ".join([str(point.universality.value), *shown])
    if heading not in NUMBERS:
        return heading, "no closed form; asymptest.numerics evaluates it"
    factor = "C_W * " if "susceptibility" in heading else ""
    number = float(NUMBERS[heading](phi))
    return heading, f"no closed form; at K = 1: {factor}{number:.8g}"


def _line(result: sp.Basic | str) -> str:
    return result if isinstance(result, str) else statement_text(result)


def _of_scale(network: Network) -> Derivation:
    found = saturate(network)
    results = (("Degree", str(found.degree)), ("F", repr(found.network)))
    lines = [f"f(x; c theta) = {found.degree}", f"F = {found.network!r}"]
    return Derivation(repr(as_network(network)), found.steps, results, "\n".join(lines))


def _of_network(network: Network) -> Derivation:
    derived = recursion(network)
    layers = tuple(("", equation) for equation in derived.equations)
    return Derivation(derived.network, derived.steps, layers, derived.text())
