"""Kernel updates: the derived equations, against the normative table and against laws.

The table is written in NumPy here: what each layer does to a kernel K, with biases.
"""

import html.entities
import re
from collections.abc import Callable, Iterator
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import sympy as sp
from scipy import special

import asymptest.theory.logits as logits_module
import asymptest.theory.update as update_module
from asymptest.theory import (
    Attention,
    Custom,
    Dense,
    Fixed,
    LayerNorm,
    Linear,
    Mix,
    Pointwise,
    Residual,
    RMSNorm,
    Saturated,
    Softmax,
    Uniform,
    definition,
    erf,
    relu,
    step,
)
from asymptest.theory.logits import Logits, logits_law
from asymptest.theory.update import Update, update
from asymptest.theory.wick.laws import Gaussian, Haar

T = 3
ONES = np.ones((T, T))
rng = np.random.default_rng(5)
root = rng.normal(size=(T, T))
K = root @ root.T + 0.1 * np.eye(T)
A = rng.normal(size=(T, T))
HEADS = rng.normal(size=(2, T, T))
BRANCH = np.diag([1.0, 2.0, 3.0]) + 0.3
D = np.sqrt(np.diag(K))


def value(evaluate: Callable, derived: Update, attention: np.ndarray = A) -> np.ndarray:
    """The right-hand side as numbers, entry by entry or as a matrix."""
    numbers = {symbol: float(number) for symbol, number in derived.values}
    arrays = {"K": K, "A": attention, "K_B": BRANCH}
    rhs: Any = derived.equation.rhs
    if not derived.is_entrywise:
        return evaluate(rhs, arrays, numbers, T)
    i, j = sp.symbols("i j", integer=True)
    result = np.empty((T, T))
    for a in range(T):
        for b in range(T):
            at = rhs.subs({i: a, j: b})
            entries = {
                e: sp.Float(K[int(e.args[1]), int(e.args[2])])
                for e in at.atoms(sp.matrices.expressions.matexpr.MatrixElement)
            }
            result[a, b] = float(sp.re(sp.N(at.xreplace(entries).subs(numbers))))
    return result


RHO = K / np.outer(D, D)
TABLE: dict[str, tuple[Any, np.ndarray]] = {
    "dense": (Dense(3, 0.5), 3 * K + 0.5 * ONES),
    "haar": (Dense(3, 0.5, "orthogonal"), 3 * K + 0.5 * ONES),
    "wide": (Dense(2, expansion=4), 2 * K),
    "rms": (RMSNorm(), RHO),
    "rms-eps": (RMSNorm(0.3), K / np.sqrt(np.outer(D**2 + 0.3, D**2 + 0.3))),
    "layernorm": (LayerNorm(0.3), K / np.sqrt(np.outer(D**2 + 0.3, D**2 + 0.3))),
    "mix": (Mix(A), A @ K @ A.T),
    "uniform": (
        Attention(Uniform(), value=Dense(2, 0.5), output=Dense(3, 0.25)),
        6 * A @ K @ A.T + 3 * 0.5 * A @ ONES @ A.T + 0.25 * ONES,
    ),
    "fixed": (
        Attention(Fixed(A), value=Dense(2, init="orthogonal"), heads=2),
        2 * A @ K @ A.T,
    ),
    "haar-output": (
        Attention(value=Dense(2, 0.5), output=Dense(3, init="orthogonal")),
        6 * A @ K @ A.T + 1.5 * A @ ONES @ A.T,
    ),
    "softmax-1/d": (
        Attention(Softmax("1/d", tied=True), value=Dense(2), output=Dense(3)),
        6 * A @ K @ A.T,
    ),
    "saturated-1/d": (Attention(Saturated("1/d", tied=True)), A @ K @ A.T),
    "linear-1/d": (
        Attention(Linear("1/d", tied=True), value=Dense(2)),
        2 * A @ K @ A.T,
    ),
    "linear": (
        Attention(Linear(variance=3), value=Dense(2, 0.5), output=Dense(5, 0.25)),
        30 * K * (A @ (K * K) @ A.T) + 7.5 * K * (A @ K @ A.T) + 0.25,
    ),
    "residual": (Residual(Dense(7), 0.5, -2), 0.25 * K + 4 * BRANCH),
    "residual-mix": (
        Residual(Mix(A), 0.5, -2),
        (0.5 * np.eye(T) - 2 * A) @ K @ (0.5 * np.eye(T) - 2 * A).T,
    ),
    "relu": (
        Pointwise(relu),
        np.outer(D, D)
        * (
            np.sqrt(np.maximum(1 - RHO**2, 0))
            + RHO * (np.pi - np.arccos(np.minimum(RHO, 1)))
        )
        / (2 * np.pi),
    ),
    "step": (Pointwise(step), 0.5 - np.arccos(np.minimum(RHO, 1)) / (2 * np.pi)),
    "erf": (
        Pointwise(erf),
        2 / np.pi * np.arcsin(2 * K / np.sqrt(np.outer(1 + 2 * D**2, 1 + 2 * D**2))),
    ),
}


@pytest.mark.parametrize(("layer", "expected"), TABLE.values(), ids=TABLE)
def test_update_is_the_table(evaluate: Callable, layer: Any, expected: np.ndarray):
    """The derived equation, at random matrices, is the kernel of the table."""
    # arccos(1) at the diagonal is accurate to the square root of rounding.
    np.testing.assert_allclose(value(evaluate, update(layer)), expected, atol=1e-7)


PER_HEAD = {
    "fixed": Fixed(HEADS),
    "softmax": Softmax(),
    "saturated": Saturated(),
}


@pytest.mark.parametrize("pattern", PER_HEAD.values(), ids=PER_HEAD)
def test_heads_are_averaged(evaluate: Callable, pattern: Any):
    """Matrices that differ by head enter as the mean of A_h K A_h^T, not of A_h."""
    layer = Attention(pattern, heads=2, value=Dense(2, 0.5), output=Dense(3, 0.25))
    each = [6 * a @ K @ a.T + 1.5 * a @ ONES @ a.T + 0.25 * ONES for a in HEADS]
    found = value(evaluate, update(layer), HEADS)
    np.testing.assert_allclose(found, np.mean(each, axis=0), rtol=1e-12)


def test_attention_of_finite_networks_has_this_mean():
    """The update is exact at any width: a mean over small networks comes near it."""
    width, heads, draws = 4, 2, 200_000
    generator = np.random.default_rng(11)
    X = generator.normal(size=(T, width))
    d = width // heads
    WV = generator.normal(size=(draws, width, heads, d)) * np.sqrt(2 / width)
    WO = generator.normal(size=(draws, heads, d, width)) * np.sqrt(3 / width)
    vV = generator.normal(size=(draws, heads, d)) * np.sqrt(0.5)
    values = np.einsum("ja,nahc->njhc", X, WV) + vV[:, None]
    Y = np.einsum("hij,njhc,nhck->nik", HEADS, values, WO, optimize=True)
    squares = np.einsum("nik,njk->nij", Y, Y) / width
    expected = np.mean(
        [a @ (6 * X @ X.T / width + 1.5 * ONES) @ a.T for a in HEADS], axis=0
    )
    error = squares.std(axis=0) / np.sqrt(draws)
    # Nine entries at six standard errors: a false alarm once in 10^8 seeds.
    assert (abs(squares.mean(axis=0) - expected) < 6 * error).all()
    assert (error < 0.02 * abs(expected).max()).all()


@pytest.mark.parametrize(
    ("pattern", "mean", "variance"),
    [
        (Softmax("1/sqrt(d)", variance=3), 0, 3),
        (Softmax("1/d", variance=3), 0, 0),
        (Softmax("1/d", tied=True, variance=3), 3, 0),
        (Softmax("1/sqrt(d)", variance=0.25), 0, 0.25),
        (Saturated(variance=2), 0, 2),
        (Saturated("1/d", tied=True, variance=2), 2, 0),
    ],
    ids=str,
)
def test_law_of_the_logits(pattern: Any, mean: float, variance: float):
    """Mean s K if tied; covariance s K_ab K_ij under 1/sqrt(d); s = s_Q s_K."""
    law, steps = logits_law(pattern)
    assert float(law.mean) == pytest.approx(mean, rel=1e-15)
    assert float(law.variance) == pytest.approx(variance, rel=1e-15)
    assert steps[-1].name == "Limit law"
    assert update(Attention(pattern)).logits == law


def test_only_scored_patterns_have_logits():
    """Uniform and fixed attention have no logits."""
    assert update(Attention()).logits is None
    assert update(Attention(Fixed(A))).logits is None


@pytest.fixture
def derived_anew() -> Iterator[Callable[[], None]]:
    """Give what forgets the derived updates, and call it at the end."""

    def forget() -> None:
        for module in (definition, logits_module, update_module):
            for cached in vars(module).values():
                if hasattr(cached, "cache_clear"):
                    cached.cache_clear()

    forget()
    yield forget
    forget()


def doubled(original: Callable) -> Callable:
    """The same law with twice the variance."""

    def law(*args: Any) -> Gaussian | Haar:
        match original(*args):
            case Gaussian(variance):
                return Gaussian(2 * variance)
            case Haar(scale, size):
                return Haar(2 * scale, size)
            case other:
                raise AssertionError(other)

    return law


@pytest.mark.parametrize(
    ("layer", "factor"),
    [
        (Dense(3), 2),
        (Dense(3, init="orthogonal"), 2),
        (Attention(value=Dense(2), output=Dense(3)), 4),
        (Attention(Softmax("1/d", tied=True)), 4),
    ],
    ids=str,
)
def test_update_follows_the_definition(
    evaluate: Callable, monkeypatch, derived_anew: Callable, layer: Any, factor: int
):
    """Twice the variance of every weight in the definition, and the update follows."""
    before = value(evaluate, update(layer))
    monkeypatch.setattr(definition, "weight_law", doubled(definition.weight_law))
    derived_anew()
    np.testing.assert_allclose(value(evaluate, update(layer)), factor * before)


@pytest.mark.parametrize(
    ("pattern", "law"),
    [
        (Softmax(variance=3), Logits(sp.Integer(0), sp.Integer(12))),
        (Softmax("1/d", tied=True, variance=3), Logits(sp.Integer(6), sp.Integer(0))),
    ],
    ids=str,
)
def test_logits_follow_the_definition(
    monkeypatch, derived_anew: Callable, pattern: Any, law: Logits
):
    """The law of the logits is derived from the definition as well."""
    monkeypatch.setattr(definition, "weight_law", doubled(definition.weight_law))
    derived_anew()
    assert logits_law(pattern)[0] == law


def test_custom_layers_bring_their_equation():
    """The equation of a user's layer is taken as it is."""

    def cube(M: Any, N: Any, i: Any, j: Any) -> Any:
        return sp.Eq(N[i, j], M[i, j] ** 3)

    derived = update(Custom("cube", cube, lambda: 0))
    assert derived.is_entrywise
    assert str(derived.equation.rhs) == "K[i, j]**3"
    assert str(derived.equation.lhs) == "K'[i, j]"


def parsed(markup: str) -> ElementTree.Element:
    """Parse XML after declaring the HTML entities in it."""
    names = set(re.findall(r"&(\w+);", markup)) - {"lt", "gt", "amp", "quot", "apos"}
    declared = "".join(
        f'<!ENTITY {name} "{html.entities.html5[name + ";"]}">' for name in names
    )
    return ElementTree.fromstring(f"<!DOCTYPE d [{declared}]><d>{markup}</d>")


EVERY = [layer for layer, _ in TABLE.values()]
EVERY += [Attention(pattern, heads=2) for pattern in PER_HEAD.values()]


@pytest.mark.parametrize("layer", EVERY, ids=range(len(EVERY)))
def test_derivations_print(layer: Any):
    """Each derivation starts from the layer, ends in the equation, and prints."""
    derived = update(layer)
    assert derived.steps
    results = [s.result for s in derived.steps]
    assert derived.equation in results or layer.pattern is not None
    for line in derived.steps:
        assert line.name in line.text()
        formula = line.latex().split("\\[", 1)[1]
        assert formula.count("{") == formula.count("}")
        math = parsed(line.mathml()).find(".//{http://www.w3.org/1998/Math/MathML}math")
        assert math is not None
        assert len("".join(math.itertext())) > 2


def test_reasons_are_legal_latex():
    """Outside formulas LaTeX stops at a bare _ ^ & # or %."""
    for layer in EVERY:
        for line in update(layer).steps:
            head = line.latex().split("\\[", 1)[0]
            prose = re.sub(r"\$.*?\$|\\\(.*?\\\)", "", head)
            assert not re.search(r"(?<!\\)[_^&#%]", prose), line.name


def test_erf_table_row_by_quadrature():
    """The table's erf row is E erf(u) erf(v): one point, by Gauss-Hermite."""
    z, w = special.roots_hermitenorm(80)
    u = D[0] * z[:, None]
    v = RHO[0, 1] * D[1] * z[:, None] + np.sqrt(1 - RHO[0, 1] ** 2) * D[1] * z
    mean = np.sum(w[:, None] * w * special.erf(u) * special.erf(v)) / (2 * np.pi)
    assert TABLE["erf"][1][0, 1] == pytest.approx(mean, abs=1e-4)
