"""Expressions come back from JSON exactly, and nothing else comes back at all."""

import json
from typing import Any

import pytest
import sympy as sp
from hypothesis import given, reject
from hypothesis import strategies as st

import asymptest.theory
from asymptest.theory import serial
from asymptest.theory.activations import (
    Activation,
    hermite,
    leaky_relu,
    monomial,
    polynomial,
    polyrelu,
)
from asymptest.theory.errors import NoClosedFormError
from asymptest.theory.gaussian_calculus import dual, product_moment
from asymptest.theory.serial import FUNCTIONS, from_json, to_json
from asymptest.theory.steps import Cov, E, Var

x, y = sp.symbols("x y", real=True)
p = sp.Symbol("p", positive=True)
A, B = sp.symbols("A B", commutative=False)
phi, psi = sp.Function("phi"), sp.Function("psi", real=True)


def stored(expr: Any) -> Any:
    """Return what comes back from JSON text."""
    return from_json(json.loads(json.dumps(to_json(expr))))


def state(part: sp.Basic) -> dict[str, Any]:
    """Return all attributes of an expression but those that it computes when asked."""
    slots = {
        name
        for cls in type(part).__mro__
        for name in cls.__dict__.get("__slots__", ())
        if hasattr(part, name)
    }
    found = {name: getattr(part, name) for name in slots} | getattr(
        part, "__dict__", {}
    )
    return {name: found[name] for name in found.keys() - {"_mhash", "_assumptions"}}


def text(expr: sp.Basic) -> str:
    """Return the expression as it stands; sorting terms evaluates, and may not end."""
    return sp.srepr(expr, order="none")


def assert_same(read: Any, written: Any) -> None:
    assert text(read) == text(written)
    assert read == written
    assert_same_parts(read, written)


def assert_same_parts(read: sp.Basic, written: sp.Basic) -> None:
    """Compare what equality and srepr overlook: what SymPy notes beside the arguments."""
    # An undefined function is another class, if an equal one, in a new cache of SymPy.
    assert type(read) == type(written)  # noqa: E721
    assert state(read) == state(written)
    for pair in zip(read.args, written.args, strict=True):
        assert_same_parts(*pair)


# --- what is stored comes back ---------------------------------------------------------

ACTIVATIONS = [
    *(a for a in vars(asymptest.theory).values() if isinstance(a, Activation)),
    *(leaky_relu(0.1), leaky_relu(sp.Rational(1, 5)), monomial(3), hermite(4)),
    *(polynomial(1, 2, 3), polyrelu(1, 2), polyrelu(1, 2, 3)),
    Activation("moved step", x * sp.Heaviside(x - 1)),
    Activation("clipped", sp.Piecewise((0, x < -1), (x, x < 1), (1, True))),
]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_activations_come_back(activation: Activation) -> None:
    assert_same(stored(activation.expr), activation.expr)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_every_step_comes_back(
    activation: Activation, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Derived here: what was read from the disk has made this journey before.
    monkeypatch.setenv("ASYMPTEST_CACHE", "off")
    product_moment.cache_clear()
    try:
        derived = dual(activation)
    except NoClosedFormError:
        assert activation.name not in ("relu", "gelu", "polyrelu(1, 2, 3)")
        return
    for result in (derived.value, *(step.result for step in derived.steps)):
        assert_same(stored(result), result)


@pytest.mark.parametrize(
    "expr",
    [
        sp.Mul(2, 3, evaluate=False),
        sp.Mul(1, x, evaluate=False),
        sp.Add(x, x, evaluate=False),
        sp.Add(y, x, 0, evaluate=False),
        sp.Pow(1, 2, evaluate=False),
        sp.Pow(sp.E, x, evaluate=False),  # of another class than exp(x)
        sp.Pow(A, 2, evaluate=False),
        sp.Mul(B, A, evaluate=False),
        sp.Eq(x, x, evaluate=False),
        sp.Eq(sp.true, sp.false, evaluate=False),
        sp.Le(2, 1, evaluate=False),
        sp.Ne(p, 0, evaluate=False),
        sp.exp(0, evaluate=False),
        sp.erf(0, evaluate=False),
        sp.Heaviside(sp.Integer(3), evaluate=False),
        sp.Abs(-p, evaluate=False),
    ],
    ids=sp.srepr,
)
def test_nothing_is_evaluated(expr: sp.Basic) -> None:
    assert_same(stored(expr), expr)


@pytest.mark.parametrize(
    "expr",
    [
        sp.Symbol("x"),
        sp.Symbol("n_in", integer=True, positive=True),
        sp.Symbol("n", positive=True, integer=True),
        sp.Symbol("z", real=False),
        sp.Symbol("K'_ij"),
        sp.Symbol(r"\hat{\phi}"),
        sp.Symbol("ρ", extended_real=True),
        sp.Symbol("x", commutative=True),  # srepr tells it from Symbol("x")
        A * B * A,
        sp.Heaviside(x),
        sp.Heaviside(x).func(x, sp.Integer(1)),
        sp.DiracDelta(x - y),
        sp.DiracDelta(x, 1),
        sp.Max(x, y, 2) - sp.Min(x, y),
        sp.Not(sp.Symbol("s")),
        sp.And(x > 0, sp.Or(y > 0, sp.Symbol("s"))),
        sp.Piecewise((x, x > 0), (0, (x < -1) | sp.Eq(y, 2)), (1, True)),
        sp.Derivative(phi(x, y), (x, 2), y),
        sp.Derivative(E(x * y), p),
        sp.Subs(E(x * y), p, 0),
        sp.Subs(sp.Derivative(phi(x), x), (x, y), (0, p**2)),
        sp.Subs(
            x + sp.Symbol("_0"), (x,), (0,)
        ),  # SymPy itself writes _0 for the point
        phi(),
        phi(x) + psi(x, phi(1)),
        sp.Function("f", commutative=False)(x),
        sp.Tuple(),
        sp.Tuple(x, sp.Tuple(), sp.true),
        sp.Eq(Var(x), Cov(x, x)),
        Cov(x, y),
        sp.Integer(10) ** 600,
        sp.Rational(-(3**50), 2**70),
        sp.Float(0),
        sp.Float("0.1", 40),
        sp.Float("-1e-4000"),
        sp.Float(2, precision=1),
        *(sp.oo, -sp.oo, sp.zoo, sp.nan, sp.pi, sp.E, sp.I, sp.EulerGamma),
    ],
    ids=sp.srepr,
)
def test_every_kind_comes_back(expr: sp.Basic) -> None:
    assert_same(stored(expr), expr)


@pytest.mark.parametrize("function", FUNCTIONS, ids=str)
def test_every_function_comes_back(function: Any) -> None:
    count = 2 if function in (sp.atan2, Cov) else 1
    expr = function(*sp.symbols("s t")[:count])
    assert type(expr) is function
    assert_same(stored(expr), expr)


def test_parts_that_differ_in_print_alone_are_kept_apart() -> None:
    symbols = sp.Symbol("q", positive=True), sp.Symbol("q", positive=True, real=True)
    assert symbols[0] == symbols[1]
    both = sp.Tuple(*symbols, sp.Float("0.5", 15), sp.Float("0.5", 50))
    assert_same(stored(both), both)


reals = st.sampled_from([x, y, p, sp.Integer(0), sp.Rational(2, 3)])
numbers = st.one_of(
    st.integers(-(10**20), 10**20).map(sp.Integer),
    st.fractions().map(lambda f: sp.Rational(f.numerator, f.denominator)),
    st.builds(
        lambda f, digits: sp.Float(f, digits),
        st.floats(allow_nan=False, allow_infinity=False),
        st.integers(1, 60),
    ),
    st.sampled_from([sp.pi, sp.E, sp.I, sp.oo, -sp.oo, sp.S.Half, sp.S.Zero]),
)
assumptions = st.dictionaries(
    st.sampled_from(["real", "positive", "integer", "commutative"]), st.booleans()
)


@st.composite
def symbols(draw: st.DrawFn) -> Any:
    name, facts = draw(st.sampled_from("xyzσ")), draw(assumptions)
    try:
        return sp.Symbol(name, **facts)
    except ValueError:  # positive but not real
        return sp.Symbol(name, positive=True)


def unevaluated(cls: Any, *parts: Any) -> Any:
    return cls(*parts, evaluate=False)


def compounds(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, min_size=2, max_size=4)
    # Of symbols alone: SymPy decides and rewrites conditions, asked or not.
    relations = st.sampled_from([sp.Gt, sp.Le, sp.Eq, sp.Ne])
    signs = st.builds(unevaluated, relations, reals, reals)
    conditions = signs | st.lists(signs, min_size=2, max_size=3, unique=True).map(
        lambda parts: unevaluated(sp.Or, *parts)
    )
    cases = st.tuples(inner, conditions)
    functions = st.sampled_from(
        [sp.exp, sp.erf, sp.erfi, sp.asin, sp.Heaviside, sp.sin, sp.DiracDelta]
    )
    return st.one_of(
        several.map(lambda parts: unevaluated(sp.Add, *parts)),
        several.map(lambda parts: unevaluated(sp.Mul, *parts)),
        several.map(lambda parts: unevaluated(E, *parts)),
        several.map(lambda parts: unevaluated(phi, *parts)),
        st.builds(unevaluated, st.just(sp.Pow), inner, inner),
        st.builds(unevaluated, functions, inner),
        st.builds(unevaluated, st.just(sp.Piecewise), cases, cases),
        st.builds(
            lambda expr, s: sp.Derivative(unevaluated(E, expr, s), s), inner, symbols()
        ),
    )


class Shown:
    """An expression that prints as it stands, for Hypothesis."""

    def __init__(self, expr: Any) -> None:
        self.expr = expr

    def __repr__(self) -> str:
        return text(self.expr)


@st.composite
def shown(draw: st.DrawFn, expressions: st.SearchStrategy[Any]) -> Shown:
    return Shown(draw(expressions))


anything = shown(st.recursive(numbers | symbols(), compounds, max_leaves=15))
# Without numbers: Subs evaluates a copy, and a tower of powers would take forever.
symbolic = shown(st.recursive(symbols(), compounds, max_leaves=15))


@given(left=anything, right=anything)
def test_round_trip(left: Shown, right: Shown) -> None:
    assert_same(stored(left.expr), left.expr)
    both = sp.Eq(left.expr, right.expr, evaluate=False)
    assert_same(stored(both), both)


@given(inside=symbolic, symbol=symbols(), at=symbolic)
def test_round_trip_of_a_substitution(inside: Shown, symbol: Any, at: Shown) -> None:
    try:
        expr = sp.Subs(inside.expr, symbol, at.expr)
    except (TypeError, ValueError):  # from evaluating the copy
        reject()
    assert_same(stored(E(expr, symbol)), E(expr, symbol))


# --- parts are shared ------------------------------------------------------------------


def test_a_part_is_stored_once() -> None:
    expr: Any = x
    levels = 12
    for _ in range(levels):
        # Equal but not the same object: SymPy's cache is passed over.
        expr = E(expr, sp.Basic.__new__(type(expr), *expr.args) if expr.args else expr)
    assert len(to_json(expr)) == levels + 1
    read = stored(expr)
    assert read == expr
    assert read.args[0] is read.args[1]


def test_a_shared_part_is_visited_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial, "SIZE", 10**30)
    expr: Any = x
    for _ in range(80):  # 2**80 parts would take forever
        expr = sp.Basic.__new__(E, expr, expr)
    tree = to_json(expr)
    assert len(tree) == 81
    assert len(to_json(from_json(tree))) == 81
