"""Expectations of products of independent random tensors, exact in 1/n.

Pair the entries of each tensor as its law says (laws.py), then carry out the sums that the
resulting deltas leave trivial. The result holds at every finite size.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import sympy as sp

from asymptest.theory.wick.laws import Given, Pairing, pair_entries
from asymptest.theory.wick.tensors import (
    DELTA,
    Factor,
    Poly,
    Slot,
    Tensor,
    Term,
    collect,
)


def expectation(poly: Poly) -> Poly:
    """Return E poly over every tensor with a law, the deltas contracted.

    >>> from asymptest.theory.wick.laws import Gaussian
    >>> from asymptest.theory.wick.tensors import Index
    >>> n = sp.Symbol("n", positive=True)
    >>> a, b, k = Index("a", n), Index("b", n), Index("k", n)
    >>> W = Tensor("W", Gaussian(1 / n))
    >>> expectation(W(a, k) * W(b, k))
    (1/n) delta[a,b]
    """
    return collect(paired for term in poly.terms for paired in _pair(term))


def _pair(term: Term) -> Iterator[Term]:
    groups: dict[Tensor, list[Factor]] = {}
    given: list[Factor] = []
    for factor in term.factors:
        if isinstance(factor.tensor.law, Given):
            given.append(factor)
        else:
            groups.setdefault(factor.tensor, []).append(factor)
    choices = [list(pair_entries(t.law, len(fs))) for t, fs in groups.items()]
    for choice in product(*choices):
        coefficient = term.coefficient
        deltas: list[Factor] = []
        for factors, (weight, rows, columns) in zip(
            groups.values(), choice, strict=True
        ):
            coefficient *= weight
            deltas += _deltas(factors, rows, columns)
        yield contract(Term(coefficient, (*given, *deltas), term.bound))


def _deltas(factors: list[Factor], rows: Pairing, columns: Pairing) -> Iterator[Factor]:
    """Yield a delta for each index that the pairings make equal."""
    for position in range(len(factors[0].slots)):
        for a, b in rows if position == 0 else columns:
            left, right = factors[a].slots[position], factors[b].slots[position]
            yield from (
                Factor(DELTA, ((x,), (y,))) for x, y in zip(left, right, strict=True)
            )


def contract(term: Term) -> Term:
    """Carry out the sums over deltas, and over indices that occur nowhere."""
    for position, factor in enumerate(term.factors):
        if factor.tensor != DELTA:
            continue
        (x,), (y,) = factor.slots
        rest = term.factors[:position] + term.factors[position + 1 :]
        if x == y:
            return contract(replace(term, factors=rest))
        if x in term.bound or y in term.bound:
            gone, kept = (x, y) if x in term.bound else (y, x)
            smaller = Term(term.coefficient, rest, term.bound - {gone})
            return contract(smaller.renamed({gone: kept}))
    used = {index for factor in term.factors for index in factor.indices}
    free_sums = sp.prod(index.size for index in term.bound - used)
    return Term(term.coefficient * free_sums, term.factors, term.bound & used)


def as_kernel(poly: Poly, X: Tensor, K: Tensor, width: sp.Expr) -> Poly:
    """Write each (1/width) sum_a X[i, a] X[j, a] as K[i, j], the definition of the kernel."""
    return poly.map(lambda term: _kernel_term(term, X, K, width))


def _kernel_term(term: Term, X: Tensor, K: Tensor, width: sp.Expr) -> Term:
    uses: dict[Slot, list[Factor]] = {}
    for factor in term.factors:
        if factor.tensor == X:
            uses.setdefault(factor.slots[1], []).append(factor)
    for slot, pair in uses.items():
        elsewhere = [
            f for f in term.factors if f not in pair and set(slot) & set(f.indices)
        ]
        if len(pair) == 2 and set(slot) <= term.bound and not elsewhere:
            rest = tuple(f for f in term.factors if f not in pair)
            gram = Factor(K, (pair[0].slots[0], pair[1].slots[0]))
            smaller = Term(
                width * term.coefficient, (*rest, gram), term.bound - set(slot)
            )
            return _kernel_term(smaller, X, K, width)
    return term
