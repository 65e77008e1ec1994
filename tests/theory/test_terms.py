"""Sums over named indices: names of summed indices carry no meaning."""

from collections.abc import Callable
from typing import Any

import pytest
import sympy as sp
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from asymptest.theory.wick.matrices import to_sum
from asymptest.theory.wick.tensors import (
    Factor,
    Index,
    Poly,
    Tensor,
    Term,
    canonical,
    collect,
    scalar,
    total,
)

n, m = sp.symbols("n m", positive=True, integer=True)
SIZES: dict[Any, int] = {n: 2, m: 3}
A, B, K = Tensor("A"), Tensor("B"), Tensor("K", symmetric=True)
u, v = Tensor("u"), Tensor("v")
names = [Index(name, n) for name in "abcd"]
a, b, c, d = names
i, j = Index("i", n), Index("j", n)
AT = {i: 0, j: 1, a: 1, b: 0, c: 1, d: 0}


def entry(tensor: Tensor, place: tuple) -> sp.Expr:
    """Numbers without a symmetry, but for symmetric tensors."""
    at = [x for (x,) in place]
    if tensor.symmetric:
        at.sort()
    seed = sum(5**r * (x + 1) for r, x in enumerate(at)) + 100 * ord(tensor.name[0])
    return sp.Rational(seed * seed % 101 + 1, 7)


def value(explicit: Callable, poly: Poly, free: dict[Index, int] = AT) -> sp.Expr:
    result = sp.Integer(0)
    for coefficient, entries in explicit(poly, SIZES, free):
        for tensor, place in entries:
            coefficient *= entry(tensor, place)
        result += coefficient
    return result


indices = st.sampled_from([*names, i, j])
matrices = st.builds(
    lambda t, x, y: Factor(t, ((x,), (y,))),
    st.sampled_from([A, B, K]),
    indices,
    indices,
)
vectors = st.builds(lambda t, x: Factor(t, ((x,),)), st.sampled_from([u, v]), indices)


@st.composite
def terms(draw: st.DrawFn) -> Term:
    """A product of up to five entries; some of its indices a, b, c, d are summed."""
    factors = draw(st.lists(matrices | vectors, min_size=1, max_size=5))
    used = sorted({x for f in factors for x in f.indices} & set(names))
    bound = draw(st.sets(st.sampled_from(used))) if used else set()
    return Term(sp.Integer(draw(st.integers(1, 3))), tuple(factors), frozenset(bound))


@st.composite
def equal_terms(draw: st.DrawFn) -> tuple[Term, Term]:
    """A term, and the same with factors, summed names and symmetric slots changed."""
    term = draw(terms())
    fresh = [Index(name, n) for name in ("s1", "s2", "z", "a0", "y")]
    targets = draw(st.permutations(fresh))
    renaming = dict(zip(sorted(term.bound), targets, strict=False))
    factors = [
        Factor(f.tensor, f.slots[::-1])
        if f.tensor.symmetric and draw(st.booleans())
        else f
        for f in draw(st.permutations(term.factors))
    ]
    return term, Term(term.coefficient, tuple(factors), term.bound).renamed(renaming)


@given(equal_terms())
def test_canonical_form_is_shared(pair: tuple[Term, Term]):
    """Order of factors, summed names and slots of symmetric tensors do not matter."""
    one, two = pair
    assert canonical(one) == canonical(two)
    assert not collect([one, Term(-two.coefficient, two.factors, two.bound)]).terms


@given(terms())
def test_canonical_form_keeps_the_value(explicit: Callable, term: Term):
    """The canonical form is the same number, so no two different terms merge."""
    assert value(explicit, Poly((canonical(term),))) == value(explicit, Poly((term,)))


@given(st.lists(terms(), min_size=1, max_size=4))
def test_collect_keeps_the_value(explicit: Callable, several: list[Term]):
    """Collecting like terms changes neither the sum nor what is free."""
    collected = collect(several)
    assert value(explicit, collected) == value(explicit, Poly(tuple(several)))
    keys = [(t.factors, t.bound) for t in collected.terms]
    assert len(keys) == len(set(keys))


@settings(max_examples=50)
@given(terms(), terms())
def test_product_is_the_product_of_the_values(explicit: Callable, one: Term, two: Term):
    """Summed names of one factor never meet names of the other, free or summed."""
    left, right = Poly((one,)), Poly((two,))
    assert value(explicit, left * right) == (
        value(explicit, left) * value(explicit, right)
    )


@given(terms())
def test_square_of_a_sum_is_the_square_of_its_value(explicit: Callable, term: Term):
    """An expression may be multiplied with itself."""
    poly = Poly((term,))
    assert value(explicit, poly * poly) == value(explicit, poly) ** 2


@given(terms(), st.sampled_from([*names, i, j]), st.sampled_from([*names, i, j]))
def test_renaming_acts_on_free_indices_only(
    explicit: Callable, term: Term, old: Index, new: Index
):
    """F(old := new) at a point is F where `old` has the value of `new`."""
    poly = Poly((term,))
    moved = AT | {old: AT[new]}
    assert value(explicit, poly.renamed({old: new})) == value(explicit, poly, moved)


@given(terms())
def test_exchanging_two_free_indices(explicit: Callable, term: Term):
    """A renaming acts at once: i and j can be exchanged."""
    swapped = AT | {i: AT[j], j: AT[i]}
    poly = Poly((term,))
    assert value(explicit, poly.renamed({i: j, j: i})) == value(explicit, poly, swapped)


def test_renaming_leaves_a_summed_index_of_that_name_alone(explicit: Callable):
    """sum_i u_i v_j holds no free i, so i := j changes nothing (no capture)."""
    poly = total(u(i), i) * v(j)
    assert value(explicit, poly.renamed({i: j})) == value(explicit, poly)


def test_summing_twice_over_one_name_counts_it(explicit: Callable):
    """sum_a (sum_a u_a) = n sum_a u_a: the inner sum is closed."""
    inner = total(u(a), a)
    assert value(explicit, total(inner, a)) == 2 * value(explicit, inner)


def test_nested_sums(explicit: Callable):
    """sum_a u_a (sum_a v_a (sum_a u_a)) is a product of three sums."""
    innermost = total(u(a), a)
    nested = total(u(a) * total(v(a) * innermost, a), a)
    expected = value(explicit, innermost) ** 2 * value(explicit, total(v(a), a))
    assert value(explicit, nested) == expected


@given(st.lists(terms(), max_size=3), st.lists(terms(), max_size=3), terms())
@settings(max_examples=30)
def test_products_distribute(explicit: Callable, x: list, y: list, term: Term):
    """(x + y) z = x z + y z, and x - x is zero."""
    left, right, z = Poly(tuple(x)), Poly(tuple(y)), Poly((term,))
    both = (left + right) * z
    assert value(explicit, both) == value(explicit, left * z + right * z)
    assert not collect((left - left).terms).terms


@given(terms())
@settings(max_examples=40)
def test_to_sum_is_the_same_number(explicit: Callable, term: Term):
    """The SymPy sum, carried out, has the value of the term."""
    assume(len(term.bound) < 4)
    written: Any = to_sum(Poly((term,))).subs(SIZES).doit()
    shift: dict[Any, int] = {
        sp.Symbol(x.name, integer=True): at + 1 for x, at in AT.items()
    }
    by_name = {t.name: t for t in (A, B, K, u, v)}
    written = written.subs(shift)
    numbers = {
        x: entry(by_name[str(x.base)], tuple((int(str(r)) - 1,) for r in x.indices))
        for x in written.atoms(sp.Indexed)
    }
    assert written.xreplace(numbers) == value(explicit, Poly((term,)))


def test_one_name_with_two_sizes_stays_two_indices(explicit: Callable):
    """(sum_a u_a) (sum_a v_a) with ranges n and m prints as sums that differ."""
    wide = Index("a", m)
    poly = total(u(a), a) * total(v(wide), wide)
    assert value(explicit, poly) == value(explicit, total(u(a), a)) * value(
        explicit, total(v(wide), wide)
    )
    limits = to_sum(poly).atoms(sp.Sum).pop().limits
    assert len({limit[0] for limit in limits}) == 2


def test_scalars():
    """A number is the empty product."""
    assert collect((scalar(2) * scalar(3)).terms) == scalar(6)
    assert repr(Poly()) == "0"


@pytest.mark.parametrize("symmetric", [False, True])
def test_only_symmetric_tensors_exchange_slots(symmetric: bool):
    """M_ab - M_ba collects to zero exactly when M is symmetric."""
    M = Tensor("M", symmetric=symmetric)
    assert (collect((M(i, j) - M(j, i)).terms) == Poly()) == symmetric
