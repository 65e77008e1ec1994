"""All that is derived of one activation, as equations with names: what `derive` prints."""

from collections.abc import Callable
from typing import Any

import sympy as sp

from asymptest.theory import dual_maps
from asymptest.theory.activations import Activation
from asymptest.theory.criticality import Universality, criticality
from asymptest.theory.dual_maps import K, rho
from asymptest.theory.errors import ArgumentError, NoClosedFormError
from asymptest.theory.gaussian_calculus import dual, mean, u, v
from asymptest.theory.steps import E, equate

HERMITE = 4  # coefficients shown: a_0 ... a_4

CLASSES = {
    Universality.SCALE_INVARIANT: "scale-invariant: every K is critical",
    Universality.ZERO: "K* = 0: the variance decays to 0, like 1 / (-a_1 depth) if a_1 < 0",
    Universality.HALF_STABLE: "half-stable: an isolated critical K* > 0",
    Universality.NONE: "none: no critical K* > 0, and K = 0 does not attract",
}


class Slope(sp.Function):
    """phi', which SymPy would print as a word with a prime."""

    def _sympystr(self, printer: Any) -> str:
        return f"phi'({printer.doprint(self.args[0])})"

    def _latex(self, printer: Any) -> str:
        return rf"\phi'\left({printer.doprint(self.args[0])}\right)"


Entry = tuple[str, sp.Basic | str]  # a heading and an equation, or why there is none


def portrait(phi: Activation) -> tuple[Entry, ...]:
    """Return name -> equation for all that theory/ derives of an activation.

    Where there is no closed form, a sentence says why.

    >>> from asymptest.theory.activations import relu
    >>> portrait(relu)[1]
    ('Mean', Eq(E(phi(u)), sqrt(2)*sqrt(p)/(2*sqrt(pi))))
    """
    at_u, at_v = _phi(u), _phi(v)
    quantities: list[tuple[str, Any, Callable[[], Any]]] = [
        ("Dual", E(at_u * at_v), lambda: dual(phi).value),
        ("Mean", E(at_u), lambda: mean(phi)),
        (
            "Dual of the derivative",
            E(_slope(u) * _slope(v)),
            lambda: dual_maps.derivative_dual(phi),
        ),
        ("Q-map", sp.Function("Q")(K), lambda: dual_maps.q_map(phi)),
        ("Fourth moment", E(at_u**4), lambda: dual_maps.fourth_moment(phi)),
        ("C-map", sp.Function("C")(rho), lambda: dual_maps.c_map(phi)),
        ("Slope of the C-map at 1", sp.Symbol("C'(1)"), lambda: dual_maps.c_slope(phi)),
        (
            "Parallel susceptibility",
            sp.Symbol("chi_parallel"),
            lambda: dual_maps.chi_parallel(phi),
        ),
        (
            "Perpendicular susceptibility",
            sp.Symbol("chi_perp"),
            lambda: dual_maps.chi_perp(phi),
        ),
    ]
    for k in range(HERMITE + 1):
        name = f"Hermite coefficient {k}"
        quantities.append(
            (
                name,
                sp.Symbol(f"a_{k}"),
                lambda k=k: dual_maps.hermite_coefficient(phi, k),
            )
        )
    found = [(name, _equation(left, right)) for name, left, right in quantities]
    degree = dual_maps.homogeneity(phi)
    sentence = (
        "not homogeneous"
        if degree is None
        else f"positively homogeneous, degree {degree}"
    )
    return (*found, ("Homogeneity", sentence), *_criticality(phi))


def _phi(argument: sp.Symbol) -> Any:
    return sp.Function("phi")(argument)


def _slope(argument: sp.Symbol) -> Any:
    return Slope(argument)


def _equation(left: Any, right: Callable[[], Any]) -> sp.Basic | str:
    try:
        return equate(left, right())
    except (NoClosedFormError, ArgumentError) as error:
        return str(error)


def _criticality(phi: Activation) -> list[Entry]:
    try:
        point = criticality(phi)
    except NoClosedFormError as error:
        return [("Universality class", str(error))]
    entries: list[Entry] = [("Universality class", CLASSES[point.universality])]
    values = {"K_*": point.K_star, "C_b": point.C_b, "C_W": point.C_W}
    for name, value in values.items():
        if value is not None:
            entries.append(("Critical point", equate(sp.Symbol(name), value)))
            if not sp.sympify(value).has(K) and not sp.sympify(value).is_Integer:
                number = sp.Float(sp.N(value, 12), 12)
                entries.append(("In numbers", equate(sp.Symbol(name), number)))
    for name, value in {"a_1": point.a_1, "b_1": point.b_1}.items():
        if value is not None:
            entries.append(("At K = 0", equate(sp.Symbol(name), value)))
    return entries
