"""Orthogonal weights: the Weingarten calculus, against O(2) and O(3) written out.

O(2) is parametrised by an angle and a reflection, O(3) by a unit quaternion and a sign,
whose moments are elementary.
"""

from collections.abc import Callable
from functools import cache, reduce
from itertools import product

import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from asymptest.theory.wick.expectation import expectation
from asymptest.theory.wick.laws import Haar, loops, pair_entries, pairings, weingarten
from asymptest.theory.wick.tensors import Index, Poly, Tensor, total

n = sp.Symbol("n", positive=True)
N = sp.Symbol("N", positive=True, integer=True)
O = Tensor("O", Haar(sp.Integer(1), N))
i, j, k, other = (Index(name, N) for name in "ijkl")


def double_factorial(k: int) -> int:
    return 1 if k <= 0 else k * double_factorial(k - 2)


def sphere_moment(powers: tuple[int, ...]) -> sp.Expr:
    """E prod x_r^a_r for x uniform on the unit sphere."""
    if any(a % 2 for a in powers):
        return sp.Integer(0)
    size, half = len(powers), sum(powers) // 2
    top = sp.prod([double_factorial(a - 1) for a in powers])
    return sp.Rational(top, sp.prod([size + 2 * r for r in range(half)]))


@cache
def group(size: int) -> tuple[tuple[sp.Matrix, ...], tuple[sp.Symbol, ...]]:
    """Matrices in x, uniform on a sphere, whose mixture is the Haar measure."""
    if size == 2:
        x = sp.symbols("x:2")
        rotation = sp.Matrix([[x[0], -x[1]], [x[1], x[0]]])
        return (rotation, rotation * sp.diag(1, -1)), x
    w, x, y, z = q = sp.symbols("x:4")
    rotation = sp.Matrix(
        [
            [w**2 + x**2 - y**2 - z**2, 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), w**2 - x**2 + y**2 - z**2, 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), w**2 - x**2 - y**2 + z**2],
        ]
    )
    return (rotation, -rotation), q


@cache
def group_mean(size: int, places: tuple[tuple[int, int], ...]) -> sp.Expr:
    """E of the product of the entries at `places` over O(size)."""
    matrices, x = group(size)
    mean = sp.Integer(0)
    for matrix in matrices:
        poly = sp.Poly(sp.prod([matrix[place] for place in places]), *x)
        mean += sum(a * sphere_moment(powers) for powers, a in poly.terms())
    return mean / len(matrices)


def test_weingarten_of_order_two():
    """Wg = 1/n: the entries of O have variance 1/n."""
    assert set(weingarten(1).values()) == {1 / n}


def test_weingarten_of_order_four():
    """The two values of Collins and Sniady on and off the diagonal."""
    on, off = (n + 1) / (n * (n - 1) * (n + 2)), -1 / (n * (n - 1) * (n + 2))
    table = weingarten(2)
    assert len(table) == 9
    for (p, q), weight in table.items():
        assert sp.simplify(weight - (on if p == q else off)) == 0


@pytest.mark.parametrize("order", [1, 2, 3])
def test_weingarten_inverts_the_gram_matrix(order: int):
    """sum_q Wg(p, q) n^loops(q, r) = [p = r], at a number n."""
    every = list(pairings(tuple(range(2 * order))))
    table = weingarten(order)
    size = sp.Rational(17, 3)
    W = sp.Matrix(
        len(every), len(every), lambda a, b: table[every[a], every[b]].subs(n, size)
    )
    G = sp.Matrix(
        len(every), len(every), lambda a, b: size ** loops(every[a], every[b])
    )
    assert sp.eye(len(every)) == W * G


def test_loops_are_traces():
    """n^loops(p, q) counts the index assignments constant on the pairs of p and q."""
    every = list(pairings(tuple(range(6))))
    for p, q in product(every, every):
        constant = sum(
            all(at[a] == at[b] for a, b in (*p, *q))
            for at in product(range(2), repeat=6)
        )
        assert 2 ** loops(p, q) == constant


def places(size: int, most: int) -> st.SearchStrategy:
    at = st.integers(0, size - 1)
    return st.lists(st.tuples(at, at), min_size=1, max_size=most).map(
        lambda drawn: (size, tuple(sorted(drawn)))
    )


@settings(max_examples=12)
@given(places(2, 4) | places(3, 4))
def test_entries_of_haar_matrices(
    explicit: Callable, drawn: tuple[int, tuple[tuple[int, int], ...]]
):
    """E of a product of entries of O equals its mean over O(2) or O(3)."""
    size, entries = drawn
    row = [Index(f"r{x}", N) for x in range(len(entries))]
    column = [Index(f"c{x}", N) for x in range(len(entries))]
    poly = reduce(Poly.__mul__, map(O, row, column))
    at = dict(zip(row, (a for a, _ in entries), strict=True))
    at |= dict(zip(column, (b for _, b in entries), strict=True))
    parts = explicit(expectation(poly), {N: size}, at)
    assert sum((c for c, _ in parts), sp.Integer(0)) == group_mean(size, entries)


@settings(max_examples=25)
@given(places(3, 6))
def test_pairings_of_haar_entries(drawn: tuple[int, tuple[tuple[int, int], ...]]):
    """Up to order six: the weights of the pairings that fit sum to the mean over O(3)."""
    size, entries = drawn
    mean = sp.Integer(0)
    for weight, row, column in pair_entries(Haar(sp.Integer(1), N), len(entries)):
        fits = all(entries[a][0] == entries[b][0] for a, b in row)
        if fits and all(entries[a][1] == entries[b][1] for a, b in column):
            mean += weight.subs(N, size)
    assert mean == group_mean(size, entries)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_powers_of_one_entry(order: int):
    """E O_11^2k = (2k-1)!! / (n (n+2) ... (n+2k-2)), the moment of a unit vector."""
    power = reduce(Poly.__mul__, [O(i, j)] * (2 * order))
    (term,) = expectation(power).terms
    bottom = sp.prod([N + 2 * r for r in range(order)])
    assert sp.simplify(term.coefficient - double_factorial(2 * order - 1) / bottom) == 0
    assert not term.factors


def test_orthogonality_at_order_two():
    """sum_k O_ik O_jk = delta_ij, by rows and by columns."""
    assert repr(expectation(total(O(i, k) * O(j, k), k))) == "(1) delta[i,j]"
    assert repr(expectation(total(O(k, i) * O(k, j), k))) == "(1) delta[i,j]"


@pytest.mark.parametrize("flipped", [False, True])
def test_orthogonality_at_order_four(flipped: bool):
    """sum_k O_ik O_jk acts as delta_ij inside E, beside two other entries."""

    def entry(a: Index, b: Index) -> Poly:
        return O(b, a) if flipped else O(a, b)

    a, b, c, d = (Index(name, N) for name in "abcd")
    inner = total(entry(i, k) * entry(j, k), k)
    result = expectation(inner * entry(a, c) * entry(b, d))
    assert repr(result) == "(1/N) delta[a,b] delta[c,d] delta[i,j]"


def test_orthogonality_at_order_six(explicit: Callable):
    """The square and cube of sum_k O_ik O_jk are delta_ij as well, O O^T being 1."""
    inner = [total(O(i, a) * O(j, a), a) for a in (Index(f"k{r}", N) for r in range(3))]
    for power in (2, 3):
        mean = expectation(reduce(Poly.__mul__, inner[:power]))
        for at in product(range(5), repeat=2):
            parts = explicit(mean, {N: 5}, dict(zip((i, j), at, strict=True)))
            value = sum((c for c, _ in parts), sp.Integer(0))
            assert value == int(at[0] == at[1])


def test_trace_of_the_identity():
    """E tr (O O^T)^k = n for k = 1, 2, 3."""
    for power in (1, 2, 3):
        a = [Index(f"a{r}", N) for r in range(power)]
        b = [Index(f"b{r}", N) for r in range(power)]
        factors = (O(a[r], b[r]) * O(a[(r + 1) % power], b[r]) for r in range(power))
        (term,) = expectation(total(reduce(Poly.__mul__, factors), *a, *b)).terms
        assert sp.simplify(term.coefficient - N) == 0


def test_scale_is_a_variance():
    """sqrt(s) O: k pairs of entries carry s^k, odd products vanish."""
    s = sp.Symbol("s", positive=True)
    scaled = Tensor("Q", Haar(s, N))
    assert repr(expectation(total(scaled(i, k) * scaled(j, k), k))) == "(s) delta[i,j]"
    square = total(scaled(i, k) * scaled(i, k), k)
    assert expectation(square * square).terms[0].coefficient == s**2
    assert not expectation(scaled(i, j) * scaled(other, k) * scaled(i, k)).terms
