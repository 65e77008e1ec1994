"""Derivations: every step that can be evaluated is true, and the last one concludes."""

import html.entities
import re
from itertools import pairwise
from typing import Any, cast
from xml.etree import ElementTree

import numpy as np
import pytest
import sympy as sp
from scipy import special

from asymptest.theory import activations as act
from asymptest.theory.activations import Activation
from asymptest.theory.gaussian_calculus import c, dual, p, product_moment, q
from asymptest.theory.steps import Derived, E, Step, mathml, statement_text

AT = {p: 0.8, q: 1.7, c: -0.6}
u, v = sp.symbols("u v", real=True)
t = sp.Symbol("t")

DERIVED = [
    act.relu,
    act.leaky_relu(sp.Rational(1, 5)),
    act.step,
    act.sign,
    act.abs_,
    act.erf,
    act.gelu,
    act.gaussian,
    act.polynomial(1, 2, 3),
    act.hermite(3),
    act.monomial(4),
    act.polyrelu(2),
    act.polyrelu(0, 1),
    act.polyrelu(1, 1),
    Activation("scaled erf", 3 * sp.erf(2 * t)),
    Activation("gauss + step", sp.exp(-(t**2)) + sp.Heaviside(t)),
    Activation("x gauss", t * sp.exp(-(t**2) / 2)),
    Activation("constant", sp.Integer(3)),
    act.sin,
    act.exp,
    Activation("gabor", sp.cos(2 * t + 1) * sp.exp(-(t**2) / 3)),
    Activation("bump", t * sp.exp(-(t**2)) * sp.Heaviside(t)),
    Activation("mixed", t * sp.Heaviside(t) + sp.sin(t) + sp.erf(t)),
]

_nodes, _weights = special.roots_legendre(60)
_half = np.concatenate([2 + 2 * _nodes, 7 + 3 * _nodes])
LINE = np.concatenate(
    [-_half, _half]
)  # nodes on both half axes, in standard deviations
MASS = np.tile(np.concatenate([2 * _weights, 3 * _weights]), 2)
MASS = MASS * np.exp(-(LINE**2) / 2) / np.sqrt(2 * np.pi)


def as_function(expr: sp.Expr, variable: sp.Symbol) -> Any:
    step = {"Heaviside": lambda z, _=0.5: np.heaviside(z, 0.5), "erf": special.erf}
    body = sp.lambdify(variable, expr, modules=[step, "numpy"])
    return lambda z: body(z) + 0 * z


def line_mean(expr: sp.Expr, variable: sp.Symbol, variance: float) -> complex:
    return complex(MASS @ as_function(expr, variable)(np.sqrt(variance) * LINE))


def expectation(product: sp.Expr, at: dict) -> complex:
    """E of a sum of f(u) g(v), by conditioning on u; a delta conditions at 0."""
    a, b, cov = (float(at[s]) for s in (p, q, c))
    total = 0j
    for term in sp.Add.make_args(sp.expand(product)):
        constant, rest = term.as_independent(u, v, as_Add=False)
        f: Any = sp.Mul(*(x for x in sp.Mul.make_args(rest) if x.has(u)))
        g: Any = sp.Mul(*(x for x in sp.Mul.make_args(rest) if not x.has(u)))
        at_zero = [s for s in (u, v) if rest.has(sp.DiracDelta(s))]
        f = f.subs(sp.DiracDelta(u), 1)
        g = g.subs(sp.DiracDelta(v), 1)
        det = a * b - cov**2
        if len(at_zero) == 2:
            value = complex(f.subs(u, 0) * g.subs(v, 0)) / (2 * np.pi * np.sqrt(det))
        elif at_zero == [u]:
            density = 1 / np.sqrt(2 * np.pi * a)
            value = complex(f.subs(u, 0)) * density * line_mean(g, v, det / a)
        elif at_zero == [v]:
            density = 1 / np.sqrt(2 * np.pi * b)
            value = complex(g.subs(v, 0)) * density * line_mean(f, u, det / b)
        else:
            value = plane_mean(f, g, a, b, cov)
        total += complex(constant) * value
    return total


def plane_mean(f: sp.Expr, g: sp.Expr, a: float, b: float, cov: float) -> complex:
    """E f(u) g(v) in polar coordinates, split at the rays where u or v is 0."""
    F, G = as_function(f, u), as_function(g, v)
    along, across = cov / np.sqrt(a), np.sqrt(b - cov**2 / a)
    ray = np.arctan2(-along, across) % np.pi
    rays = np.unique([0, np.pi / 2, 3 * np.pi / 2, 2 * np.pi, ray, ray + np.pi])
    weight = np.tile([2.0, 3.0], (len(_weights), 1)).T.ravel() * np.tile(_weights, 2)
    weight = weight * _half * np.exp(-(_half**2) / 2)
    result = 0j
    for low, high in pairwise(rays):
        angle = (low + high) / 2 + (high - low) / 2 * _nodes[:, None]
        x, y = np.cos(angle) * _half, np.sin(angle) * _half
        values = F(np.sqrt(a) * x) * G(along * x + across * y)
        result += (high - low) / 2 * complex(_weights @ (values @ weight))
    return result / (2 * np.pi)


def number(expr: Any, at: dict) -> complex:
    """Evaluate an expression with named expectations and derivatives in c."""
    if isinstance(expr, sp.Derivative):
        h = 1e-4
        up, down = (number(expr.expr, at | {c: at[c] + s * h}) for s in (1, -1))
        return (up - down) / (2 * h)
    if isinstance(expr, sp.Subs):
        return number(expr.expr, at | dict(zip(*expr.args[1:], strict=True)))
    named = {e: sp.sympify(expectation(e.args[0], at)) for e in expr.atoms(E)}
    return complex(sp.N(expr.xreplace(named).subs(at)))


def check(derived: Derived) -> None:
    for step in derived.steps:
        assert isinstance(step.result, sp.Eq), step
        left, right = (number(side, AT) for side in step.result.args)
        slack = 1e-6 if step.name == "Price" else 1e-9
        assert left == pytest.approx(right, rel=slack, abs=slack), step.text()


def test_the_oracle_knows_elementary_means():
    """E uv = c, E |u||v| at c = 0 is 2 sqrt(pq)/pi, E delta(u) delta(v) a density."""
    assert expectation(u * v, AT) == pytest.approx(-0.6)
    independent = AT | {c: 0.0}
    both = sp.Abs(u) * sp.Abs(v)
    assert expectation(both, independent) == pytest.approx(2 * np.sqrt(1.36) / np.pi)
    density = 1 / (2 * np.pi * np.sqrt(1.36 - 0.36))
    assert expectation(sp.DiracDelta(u) * sp.DiracDelta(v), AT) == pytest.approx(
        density
    )


@pytest.mark.parametrize("phi", DERIVED, ids=str)
def test_every_step_is_true(phi: Activation):
    """Both sides of each step agree as numbers at p != q, c < 0."""
    derived = dual(phi)
    assert derived.steps
    check(derived)


@pytest.mark.parametrize("phi", DERIVED, ids=str)
def test_the_last_step_states_the_value(phi: Activation):
    """The derivation ends with E phi(u) phi(v) = the value that is returned."""
    derived = dual(phi)
    last = derived.steps[-1].result
    assert isinstance(last, sp.Eq)
    assert last.rhs == derived.value
    x = sp.Symbol("x", real=True)
    expr: Any = phi.expr
    assert number(last.lhs, AT) == pytest.approx(
        expectation(expr.subs(x, u) * expr.subs(x, v), AT)
    )


def test_steps_of_an_asymmetric_pair():
    """E f(u) g(v) and E g(u) f(v) have steps about their own pair."""
    f: Any = act.relu.expr
    g: Any = act.step.expr
    for left, right in ((f, g), (g, f)):
        derived = product_moment(left, right)
        check(derived)
        x = sp.Symbol("x", real=True)
        expected = expectation(left.subs(x, u) * right.subs(x, v), AT)
        assert number(derived.value, AT) == pytest.approx(expected)
        last: Any = derived.steps[-1].result
        assert number(last.rhs, AT) == pytest.approx(expected)


@pytest.mark.parametrize("phi", DERIVED, ids=str)
def test_the_value_is_symmetric(phi: Activation):
    """Exchanging u and v changes nothing: the form must be symmetric in p and q."""
    value = dual(phi).value
    exchanged = value.subs({p: q, q: p}, simultaneous=True)
    assert number(value, AT) == pytest.approx(number(exchanged, AT), rel=1e-12)


def parsed(markup: str) -> ElementTree.Element:
    """Parse XML after declaring the HTML entities in it."""
    names = set(re.findall(r"&(\w+);", markup)) - {"lt", "gt", "amp", "quot", "apos"}
    declared = "".join(
        f'<!ENTITY {name} "{html.entities.html5[name + ";"]}">' for name in names
    )
    return ElementTree.fromstring(f"<!DOCTYPE d [{declared}]><d>{markup}</d>")


@pytest.mark.parametrize("phi", DERIVED, ids=str)
def test_steps_print(phi: Activation):
    """Each step prints: text of two lines, balanced LaTeX, well-formed MathML."""
    for step in dual(phi).steps:
        first, second = step.text().split("\n")
        assert first == f"{step.name}: {step.reason}".replace("$", "")
        assert " = " in second
        latex = step.latex()
        assert latex.count("{") == latex.count("}")
        assert latex.count(r"\left") == latex.count(r"\right")
        math = parsed(step.mathml()).find(".//{http://www.w3.org/1998/Math/MathML}math")
        assert math is not None
        assert len(math)


def test_reasons_are_escaped():
    """A reason may hold characters that HTML, LaTeX or XML reserve."""
    step = Step("a < b & c", "since x_i < y^2 & more", sp.Eq(u, v))
    assert "a < b & c" in "".join(parsed(step.mathml()).itertext())
    assert not re.search(r"(?<!\\)[_^&]", step.latex().split("\\[")[0])


def test_statement_text():
    """Equations print with an equals sign, other statements as SymPy does."""
    assert statement_text(sp.Eq(u, v + 1)) == "u = v + 1"
    assert statement_text(u < v) == "u < v"
    assert parsed(mathml(u < v)).tag == "d"


def test_a_named_mean_is_not_a_number():
    """E is also what mpmath calls the base of the logarithms; a mean never becomes that."""
    assert E(sp.Float(0.5)).args == (sp.Float(0.5),)
    assert sp.N(cast(Any, E(u)) + sp.pi).has(E)
    assert sp.N(sp.pi * cast(Any, E(sp.Integer(3)))).has(E)
