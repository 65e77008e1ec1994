"""Laws of norm growth, against recursions in floating point and against mpmath.

The recursions add the squares, or the lengths, of steps written here in Python; what the
derivation does symbolically is not used.
"""

from collections.abc import Callable
from fractions import Fraction
from math import log, log1p, sqrt

import mpmath
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

from asymptest.theory.errors import ArgumentError, NoClosedFormError
from asymptest.theory.growth import (
    TABLE,
    C,
    Row,
    StepModel,
    a,
    clock,
    elapsed,
    exact_ratio,
    flow,
    growth_law,
    increment,
    kappa,
    n,
    norm_at,
    offset,
    r,
    t,
)

mp = mpmath.MPContext()  # of its own: the precision is nobody else's
mp.dps = 50
RELATIVE = StepModel(kappa * r / sp.sqrt(t))
# name -> the law, the paper's or well known, in terms of t alone
LAWS = {
    TABLE[0].name: C * t ** (kappa**2 / 2),
    TABLE[1].name: kappa * sp.sqrt(t),
    TABLE[2].name: kappa * sp.sqrt(sp.log(t)),
    TABLE[3].name: (2 * kappa**2 * t) ** sp.Rational(1, 4),
    TABLE[4].name: (2 * kappa**2 * sp.log(t)) ** sp.Rational(1, 4),
    TABLE[5].name: C * sp.exp(2 * kappa * sp.sqrt(t)) * t ** (-(kappa**2) / 2),
    TABLE[6].name: C
    * sp.exp(2 * a * kappa * sp.sqrt(t))
    * t ** (kappa**2 * (sp.Rational(1, 2) - a**2)),
}


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_the_table(row: Row) -> None:
    """Each law is the expected one; a lost factor 2 or power of t shows here."""
    assert sp.simplify(growth_law(row.model).value / LAWS[row.name]) == 1


def test_printed_laws_are_special_cases() -> None:
    """The paper's sqrt(t) is the law for kappa = 1; its exp(sqrt(t)) is it for none."""
    misaligned, aligned = TABLE[0], TABLE[5]
    assert growth_law(misaligned.model).value.subs(kappa, 1) == C * misaligned.printed
    ratio = growth_law(aligned.model).value / aligned.printed
    assert ratio.subs(kappa, sp.Rational(1, 2)) == C / t ** sp.Rational(1, 8)


@pytest.mark.parametrize("row", TABLE[:5], ids=lambda row: row.name)
def test_laws_solve_their_flow(row: Row) -> None:
    """d law / dt = flow at the law, by differentiation: no integral is used."""
    law = growth_law(row.model).value
    assert sp.simplify(sp.diff(law, t) - flow(row.model).subs(r, law)) == 0


def steps_of(squares: Callable[[float, int], float], start: int, stop: int) -> float:
    """Return ||theta||^2 at `stop`, from 1 at `start`, for squared lengths of steps."""
    norm = 1.0
    for time in range(start, stop):
        norm += squares(norm, time)
    return norm


# squared length of a step from the squared norm and the time, for kappa = 3/2
SQUARES: list[tuple[StepModel, Callable[[float, int], float]]] = [
    (TABLE[1].model, lambda N, s: 2.25),
    (TABLE[2].model, lambda N, s: 2.25 / s),
    (TABLE[3].model, lambda N, s: 2.25 / N),
    (TABLE[4].model, lambda N, s: 2.25 / (N * s)),
    (StepModel(kappa * sp.sqrt(r)), lambda N, s: 2.25 * sqrt(N)),
    (StepModel(kappa / t ** sp.Rational(1, 4)), lambda N, s: 2.25 / sqrt(s)),
]


@pytest.mark.parametrize(("model", "squares"), SQUARES)
def test_recursions_follow_the_clock(model: StepModel, squares: Callable) -> None:
    """Between t = 10^3 and 10^4 the clock advances by U, up to the size of one step."""
    u = sp.lambdify(r, clock(model)[0], "math")
    U = sp.lambdify((t, kappa), elapsed(model), "math")
    early, late = (sqrt(steps_of(squares, 1, T)) for T in (10**3, 10**4))
    advance = U(10**4, 1.5) - U(10**3, 1.5)
    assert u(late) - u(early) == pytest.approx(advance, rel=2e-3)


@pytest.mark.parametrize(
    "model", [row.model for row in TABLE] + [StepModel(kappa, a), StepModel(kappa * r)]
)
def test_increments_are_those_of_a_step(model: StepModel) -> None:
    """u(|theta + delta|) - u(|theta|) for a vector and a step at a point, by hand."""
    at = {kappa: 0.7, a: 0.3, t: 5.0, r: 1.9}
    u = sp.lambdify(r, clock(model)[0], "math")
    length, cosine = (float(e.subs(at)) for e in (model.size, model.cosine))
    moved = abs(1.9 + length * complex(cosine, sqrt(1 - cosine**2)))
    assert float(increment(model).subs(at)) == pytest.approx(
        u(moved) - u(1.9), rel=1e-12
    )


@given(st.integers(1, 4), st.integers(1, 30))
def test_the_exact_ratio_is_the_product(square: int, last: int) -> None:
    """Gamma(n + k) / (Gamma(n) Gamma(1 + k)) = product of 1 + k / j, in fractions."""
    product = Fraction(1)
    for j in range(1, last):
        product *= 1 + Fraction(square, j)
    value = exact_ratio(RELATIVE).subs({kappa: sp.sqrt(square), n: last})
    assert sp.gammasimp(value) == sp.Rational(product.numerator, product.denominator)


@pytest.mark.parametrize("size", ["0.5", "1", "1.5"])
def test_the_exact_ratio_tends_to_the_law(size: str) -> None:
    """It is C^2 t^(kappa^2) with C^2 = 1 / Gamma(1 + kappa^2), up to kappa^2 (kappa^2-1) / 2t."""
    square = growth_law(RELATIVE).value.subs(C, 1) ** 2
    ratio = sp.lambdify((t, kappa), exact_ratio(RELATIVE).subs(n, t) / square, mp)
    late, value = mp.mpf(10) ** 12, mp.mpf(size)
    limit = 1 / mp.gamma(1 + value**2)
    assert abs(ratio(late, value) / limit - 1) < 3 / late


@pytest.mark.parametrize("start", [1, 7])
def test_the_constant_of_misaligned_steps_is_a_gamma_function(start: int) -> None:
    """Log C = (log Gamma(s) - log Gamma(s + kappa^2)) / 2, to the first order left out."""
    found = sp.N(offset(RELATIVE, start, 10).subs(kappa, sp.Rational(3, 10)))
    exact = (mp.loggamma(start) - mp.loggamma(start + mp.mpf("0.09"))) / 2
    assert abs(float(found) - float(exact)) < 0.3**12


@pytest.mark.parametrize("cosine", [1.0, 0.6, 0.1])
def test_the_constant_of_other_steps(cosine: float) -> None:
    """Log r at t = 4 * 10^5 minus the law for C = 1, halved errors extrapolated."""
    size, model = 0.3, StepModel(kappa * r / sp.sqrt(t), a)
    law = sp.lambdify((t, kappa, a), sp.log(growth_law(model).value.subs(C, 1)), "math")
    logs, total = {}, 0.0
    for s in range(1, 400_000):
        total += log1p(2 * cosine * size / sqrt(s) + size**2 / s) / 2
        logs[s + 1] = total
    early, late = (logs[T] - law(T, size, cosine) for T in (100_000, 400_000))
    # The error falls like t^(-1/2): twice the later value less the earlier one.
    limit = 2 * late - early
    found = float(offset(model, 1, 8).subs({kappa: size, a: cosine}).evalf())
    assert found == pytest.approx(limit, abs=2 * 0.3**9)


def test_aligned_steps_lose_a_power_of_t() -> None:
    """The recursion r' = r (1 + kappa / sqrt t) falls behind exp(2 kappa sqrt t)."""
    size, early, late = 0.5, 10**4, 10**6
    grown = sum(log1p(size / sqrt(s)) for s in range(early, late))
    law = sp.lambdify((t, kappa), growth_law(TABLE[5].model).value.subs(C, 1), mp)
    predicted = float(mp.log(law(late, size)) - mp.log(law(early, size)))
    # Half the first term for the sum, and the third order's integral.
    gap = size / sqrt(early) / 2 + size**3 * 2 / 3 / sqrt(early)
    assert grown == pytest.approx(predicted, abs=gap)
    assert 2 * size * (sqrt(late) - sqrt(early)) - grown == pytest.approx(
        size**2 / 2 * log(late / early), abs=gap
    )


def test_other_steps() -> None:
    """Steps of a constant share grow exponentially; steps that die out leave a constant."""
    assert growth_law(StepModel(kappa * r)).value == C * sp.exp(
        t * sp.log(1 + kappa**2) / 2
    )
    assert growth_law(StepModel(kappa / t)).value == C
    assert growth_law(StepModel(kappa / r / t)).value == C
    assert growth_law(StepModel(kappa * r / t)).value == C
    assert growth_law(StepModel(kappa, a)).value == a * kappa * t
    fourth = growth_law(StepModel(kappa * r / t ** sp.Rational(1, 4))).value
    assert fourth == C * sp.exp(kappa**2 * sp.sqrt(t)) / t ** (kappa**4 / 4)
    assert norm_at(RELATIVE, t) == sp.exp(t)


REFUSED = [
    (StepModel(kappa * r**2), "infinity in finite time"),
    (StepModel(kappa * (1 + r * t)), "not a product"),
    (StepModel(kappa * sp.exp(t), a), "stay a share"),
    (StepModel(kappa * r * sp.sqrt(t)), "add up without bound"),
]


@pytest.mark.parametrize(("model", "why"), REFUSED)
def test_refusals(model: StepModel, why: str) -> None:
    """What has no law of this kind is refused with its reason."""
    with pytest.raises(NoClosedFormError, match=why):
        growth_law(model)


def test_refused_constants_products_and_cosines() -> None:
    """A path-dependent constant, a product without closed form, a shrinking step."""
    with pytest.raises(NoClosedFormError, match="whole path"):
        offset(TABLE[3].model, 1, 2)
    with pytest.raises(NoClosedFormError, match="powers of t"):
        offset(StepModel(kappa / sp.log(1 + t)), 1, 2)
    for model in (TABLE[3].model, TABLE[5].model):
        with pytest.raises(NoClosedFormError, match="no closed form"):
            exact_ratio(model)
    with pytest.raises(ArgumentError, match="cosine"):
        StepModel(kappa, sp.Integer(-1))


def test_a_derivation_prints() -> None:
    """Each step has text, LaTeX and MathML."""
    derived = growth_law(TABLE[5].model)
    assert [step.name for step in derived.steps][-1] == "Law"
    for step in derived.steps:
        assert step.text()
        assert step.latex()
        assert step.mathml()
    assert str(derived.value) in derived.steps[-1].text()
