"""Chains of matrices read back from indexed sums, with explicit matrices for both."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from asymptest.theory.wick.matrices import to_matrix, to_sum
from asymptest.theory.wick.tensors import Factor, Index, Poly, Tensor, Term, total

T, H = sp.symbols("T H", positive=True, integer=True)
A, B, K = Tensor("A"), Tensor("B"), Tensor("K", symmetric=True)
i, j, h = Index("i", T), Index("j", T), Index("h", H)
a, b = Index("a", T), Index("b", T)
SIZE = 3

rng = np.random.default_rng(20)
half = rng.normal(size=(SIZE, SIZE))
ARRAYS = {
    "A": rng.normal(size=(SIZE, SIZE)),
    "B": rng.normal(size=(SIZE, SIZE)),
    "K": half + half.T,
}
PER_HEAD = ARRAYS | {"A": rng.normal(size=(2, SIZE, SIZE))}

# A chain: factors from left to right, each transposed or not; broken before `cut`.
chains = st.tuples(
    st.lists(
        st.tuples(st.sampled_from([A, B, K]), st.booleans()), min_size=1, max_size=5
    ),
    st.integers(0, 5) | st.none(),
    st.randoms(use_true_random=False),
)


def chain_term(chain: tuple, by_head: bool = False) -> Term:
    """The indexed sum of a chain, its factors in any order."""
    parts, cut, random = chain
    at, factors, number = i, [], 0
    nodes = {i, j}
    for place, (tensor, transposed) in enumerate(parts):
        broken = cut is not None and place == min(cut, len(parts))
        if broken and place > 0:
            at = Index(f"x{number}", T)
            number += 1
        elif broken:
            at = Index("first", T)
        last = place == len(parts) - 1 and (cut is None or cut < len(parts))
        to = j if last else Index(f"x{number}", T)
        number += 1
        nodes |= {at, to}
        ends = ((to,), (at,)) if transposed else ((at,), (to,))
        head = ((h,),) if by_head and tensor == A else ()
        factors.append(Factor(tensor, (*head, *ends)))
        at = to
    random.shuffle(factors)
    bound = nodes - {i, j}
    if any(h in f.indices for f in factors):
        bound |= {h}
    return Term(sp.Integer(2), tuple(factors), frozenset(bound))


def by_einsum(term: Term, arrays: dict[str, np.ndarray]) -> np.ndarray:
    letters = {
        x: chr(ord("a") + r) for r, x in enumerate(sorted(term.indices | {i, j}))
    }
    operands, subscripts = [], []
    for f in term.factors:
        operands.append(arrays[f.tensor.name])
        subscripts.append("".join(letters[x] for x in f.indices))
    for end in (i, j):  # an end that occurs nowhere: constant in it
        operands.append(np.ones(SIZE))
        subscripts.append(letters[end])
    where = ",".join(subscripts) + "->" + letters[i] + letters[j]
    return float(term.coefficient) * np.einsum(where, *operands)


@given(chains)
def test_a_chain_reads_back_as_its_matrix_product(evaluate: Callable, chain: tuple):
    """to_matrix has the entries of the sum: transposes, order, and broken chains."""
    term = chain_term(chain)
    matrix = evaluate(to_matrix(Poly((term,)), i, j), ARRAYS, {}, SIZE)
    np.testing.assert_allclose(matrix, by_einsum(term, ARRAYS), atol=1e-11)


@given(chains)
def test_a_head_index_reads_back_as_a_mean_over_heads(evaluate: Callable, chain: tuple):
    """sum_h A[h, ., .] ... is H times the mean over heads, one head at a time."""
    term = chain_term(chain, by_head=True)
    arrays = PER_HEAD if h in term.bound else ARRAYS
    matrix = evaluate(to_matrix(Poly((term,)), i, j), arrays, {H: 2}, SIZE)
    np.testing.assert_allclose(matrix, by_einsum(term, arrays), atol=1e-11)


@settings(max_examples=20)
@given(chains)
def test_the_printed_sum_has_the_same_entries(chain: tuple):
    """to_sum, carried out term by term in SymPy, equals the einsum."""
    parts, cut, random = chain
    term = chain_term((parts[:3], cut, random))
    written: Any = to_sum(Poly((term,))).subs(T, SIZE).doit()
    at: dict[Any, int] = {
        sp.Symbol("i", integer=True): 2,
        sp.Symbol("j", integer=True): 1,
    }
    written = written.subs(at)
    numbers = {
        e: sp.Float(ARRAYS[str(e.base)][tuple(int(str(r)) - 1 for r in e.indices)])
        for e in written.atoms(sp.Indexed)
    }
    expected = by_einsum(term, ARRAYS)[1, 0]
    assert float(written.xreplace(numbers)) == pytest.approx(expected, abs=1e-10)


def test_matrices_between_the_same_indices_multiply_entrywise(evaluate: Callable):
    """At both ends of the term, and within its chain, in either direction."""
    inner = total(A(i, a) * K(a, b) * B(b, a) * K(a, b) * A(j, b), a, b)
    poly = inner * K(i, j) * B(j, i)
    found = evaluate(to_matrix(poly, i, j), ARRAYS, {}, SIZE)
    left, right, kernel = (ARRAYS[name] for name in "ABK")
    middle = left @ (kernel * right.T * kernel) @ left.T
    np.testing.assert_allclose(found, middle * kernel * right.T, atol=1e-11)


def test_sums_of_chains_add(evaluate: Callable):
    """The matrix of a sum is the sum of the matrices; that of nothing is zero."""
    one, two = A(i, j).scaled(3), K(i, j) - B(j, i)
    matrix = evaluate(to_matrix(one + two, i, j), ARRAYS, {}, SIZE)
    expected = 3 * ARRAYS["A"] + ARRAYS["K"] - ARRAYS["B"].T
    np.testing.assert_allclose(matrix, expected)
    assert to_matrix(Poly(), i, j) == sp.ZeroMatrix(T, T)


@pytest.mark.parametrize(
    "poly",
    [A(i, j) * K(i, i), A(i, j) * K(j, j), total(A(i, a) * B(a, b) * B(a, j), a, b)],
    ids=["row", "column", "fork"],
)
def test_what_is_no_chain_is_refused(poly: Poly):
    """A factor that hangs from an index must not be lost."""
    with pytest.raises(AssertionError, match="no chain"):
        to_matrix(poly, i, j)
