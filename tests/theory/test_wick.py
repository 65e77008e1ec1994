"""Wick calculus for Gaussian matrices, against moments of their explicit entries.

The oracle writes a product out entry by entry and uses that the entries are
independent, E w^m = (m-1)!! s^(m/2): it knows nothing of pairings.
"""

from collections import Counter
from collections.abc import Callable
from functools import reduce
from itertools import combinations

import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from asymptest.theory.wick.expectation import as_kernel, expectation
from asymptest.theory.wick.laws import Gaussian, Given, pairings
from asymptest.theory.wick.tensors import Index, Poly, Tensor, scalar, total

n, m = sp.symbols("n m", positive=True, integer=True)
s, t = sp.symbols("s t", positive=True)
SIZES = {n: 2, m: 3}
NUMBERS = {s: sp.Rational(2, 3), t: sp.Rational(5, 7)}

W = Tensor("W", Gaussian(s))  # n x m
V = Tensor("V", Gaussian(t))  # n x m, independent of W
A = Tensor("A")  # n x m, given

rows = [Index(name, n) for name in "abc"]
columns = [Index(name, m) for name in "kl"]


def double_factorial(k: int) -> int:
    return 1 if k <= 0 else k * double_factorial(k - 2)


def given_entry(place: tuple[tuple[int, ...], ...]) -> sp.Expr:
    """The entries of A: any numbers without a symmetry."""
    (i,), (k,) = place
    return sp.Rational(3 * i - 7 * k + 2, 5 + i * k)


def mean_of(entries: list) -> sp.Expr:
    """E of a product of explicit entries."""
    result = sp.Integer(1)
    for (tensor, place), times in Counter(entries).items():
        if isinstance(tensor.law, Given):
            result *= given_entry(place) ** times
        elif times % 2:
            return sp.Integer(0)
        else:
            variance = tensor.law.variance.subs(NUMBERS)
            result *= double_factorial(times - 1) * variance ** (times // 2)
    return result


def value(explicit: Callable, poly: Poly, free: dict[Index, int]) -> sp.Expr:
    parts = explicit(poly, SIZES, free)
    return sp.Add(*(sp.sympify(c).subs(NUMBERS) * mean_of(e) for c, e in parts))


# SymPy draws random numbers, so strategies draw the parts and the tests multiply.
factors = st.tuples(
    st.sampled_from([W, W, V, A]), st.sampled_from(rows), st.sampled_from(columns)
)
summands = st.tuples(
    st.lists(factors, min_size=1, max_size=5),
    st.sets(st.sampled_from([*rows, *columns])),
    st.integers(-3, 3),
)


def built(parts: list) -> Poly:
    """The sum of products that `summands` describe."""
    poly = Poly()
    for entries, bound, coefficient in parts:
        term = reduce(Poly.__mul__, (tensor(i, k) for tensor, i, k in entries))
        poly = poly + total(term, *bound).scaled(coefficient)
    return poly


@settings(max_examples=60)
@given(
    st.lists(summands, min_size=1, max_size=2),
    st.tuples(*[st.integers(0, 1)] * 3),
    st.tuples(*[st.integers(0, 2)] * 2),
)
def test_expectation_is_the_mean_over_explicit_entries(
    explicit: Callable, parts: list, at_rows: tuple, at_columns: tuple
):
    """E of any product equals its value by independence of the entries."""
    poly = built(parts)
    free = dict(zip([*rows, *columns], [*at_rows, *at_columns], strict=True))
    expected = value(explicit, poly, free)
    assert value(explicit, expectation(poly), free) == expected


@pytest.mark.parametrize("k", range(6))
def test_pairings_are_all_pairings_once(k: int):
    """There are (2k-1)!! pairings, each a partition into pairs, none twice."""
    items = tuple(range(10, 10 + 2 * k))
    found = [frozenset(map(frozenset, p)) for p in pairings(items)]
    assert len(found) == len(set(found)) == double_factorial(2 * k - 1)
    for pairing in found:
        assert all(len(pair) == 2 for pair in pairing)
        assert {item for pair in pairing for item in pair} == set(items)
    assert not list(pairings((*items, 99)))


def wishart_trace(power: int) -> sp.Expr:
    """E tr((W W^T)^power), W an n x m matrix with variance s."""
    a = [Index(f"a{r}", n) for r in range(power)]
    k = [Index(f"k{r}", m) for r in range(power)]
    factors = (W(a[r], k[r]) * W(a[(r + 1) % power], k[r]) for r in range(power))
    (term,) = expectation(total(reduce(Poly.__mul__, factors), *a, *k)).terms
    assert not term.factors
    return term.coefficient


@pytest.mark.parametrize(
    ("power", "expected"),
    [
        (1, s * n * m),
        (2, s**2 * n * m * (n + m + 1)),
        (3, s**3 * n * m * (n**2 + m**2 + 3 * n * m + 3 * n + 3 * m + 4)),
    ],
)
def test_real_wishart_moments(power: int, expected: sp.Expr):
    """E tr (W W^T)^k are the known polynomials; complex matrices lack the odd terms."""
    assert sp.expand(wishart_trace(power) - expected) == 0


def test_square_wishart_genus_expansion():
    """With variance 1/n the normalised traces are 1, 2 + 1/n, 5 + 6/n + 4/n^2."""
    traces = [wishart_trace(k).subs({m: n, s: 1 / n}) / n for k in (1, 2, 3)]
    expected = [1, 2 + 1 / n, 5 + 6 / n + 4 / n**2]
    assert [sp.expand(x - y) for x, y in zip(traces, expected, strict=True)] == [0] * 3


def test_product_of_two_independent_matrices():
    """E of the kernel of X W1 W2 is the kernel of X: each matrix keeps it."""
    X, W1 = Tensor("X"), Tensor("W1", Gaussian(1 / n))
    W2, K = Tensor("W2", Gaussian(1 / m)), Tensor("K", symmetric=True)
    i, j = Index("i", t), Index("j", t)
    a, b, k = Index("a", n), Index("b", m), Index("k", n)

    def state(at: Index) -> Poly:
        return total(X(at, a) * W1(a, b) * W2(b, k), a, b)

    kernel = total(state(i) * state(j), k).scaled(1 / n)
    assert repr(as_kernel(expectation(kernel), X, K, n)) == "(1) K[i,j]"


def test_kernel_of_a_product_fluctuates_more_than_that_of_one_matrix():
    """E K(x W1 W2)^2 / |x|^4 = (1 + 2/n)^2 for square matrices, exactly."""
    X, W1, W2 = (
        Tensor("x"),
        Tensor("W1", Gaussian(1 / n)),
        Tensor("W2", Gaussian(1 / n)),
    )
    a, b, k = (Index(name, n) for name in "abk")
    y = total(X(a) * W1(a, b) * W2(b, k), a, b)
    norm = total(y * y, k)
    result = expectation(norm * norm)
    (term,) = result.terms
    assert sp.simplify(term.coefficient - (1 + 2 / n) ** 2) == 0
    assert len(term.factors) == 4


@given(st.lists(st.sampled_from([W, V]), min_size=1, max_size=5), st.data())
def test_odd_products_vanish(tensors: list[Tensor], data: st.DataObject):
    """A product with an odd number of entries of some matrix has mean zero."""
    index = st.tuples(st.sampled_from(rows), st.sampled_from(columns))
    poly = reduce(Poly.__mul__, (x(*data.draw(index)) for x in tensors), scalar(1))
    poly = total(poly, *data.draw(st.sets(st.sampled_from([*rows, *columns]))))
    odd = any(number % 2 for number in Counter(tensors).values())
    if odd:
        assert not expectation(poly).terms
    elif not poly.terms[0].bound:
        assert expectation(poly).terms


@pytest.mark.parametrize("order", [2, 4, 6])
def test_moments_of_a_gaussian_vector_are_isserlis(order: int):
    """E of distinct free entries holds one product of deltas a pairing."""
    g = Tensor("g", Gaussian(s))
    free = [Index(f"f{r}", n) for r in range(order)]
    result = expectation(reduce(Poly.__mul__, map(g, free)))
    assert len(result.terms) == double_factorial(order - 1)
    for term in result.terms:
        assert term.coefficient == s ** (order // 2)
        used = [i for factor in term.factors for i in factor.indices]
        assert sorted(used) == sorted(free)
    pairs = Counter(frozenset(f.indices) for term in result.terms for f in term.factors)
    assert set(pairs) == set(map(frozenset, combinations(free, 2)))
    assert set(pairs.values()) == {double_factorial(order - 3)}


def test_split_columns_number_one_column():
    """Entries W[a, (h, c)] are equal in distribution to W[a, k]: both parts pair."""
    H, d = sp.symbols("H d", positive=True, integer=True)
    h, g = Index("h", H), Index("g", H)
    c, e = Index("c", d), Index("e", d)
    a, b = rows[:2]
    assert repr(expectation(W(a, (h, c)) * W(b, (g, e)))) == (
        "(s) delta[a,b] delta[c,e] delta[g,h]"
    )
    assert expectation(total(W(a, (h, c)) * W(a, (h, c)), a, h, c)).terms[
        0
    ].coefficient == (s * n * H * d)


def test_a_sum_over_an_unused_index_counts_it():
    """Sum_a 1 = n, also beside a random product."""
    a, b = rows[:2]
    assert repr(expectation(total(scalar(3), a))) == "(3*n)"
    assert repr(expectation(total(W(b, columns[0]) * W(b, columns[0]), a, b))) == (
        "(n**2*s)"
    )
