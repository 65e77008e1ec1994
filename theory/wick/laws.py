"""The laws of random matrices, and how the entries of one matrix pair up.

The expectation of a product of 2k entries is a sum over pairings of the entries:

* independent N(0, s):  E prod W = s^k sum_p delta_p(rows) delta_p(columns)   (Isserlis)
* sqrt(s) times Haar on O(n):  E prod W = s^k sum_{p,q} Wg(p, q) delta_p(rows) delta_q(columns)

where Wg is the inverse of the matrix G(p, q) = n^loops(p, q) over all pairings.
Source: Collins and Sniady (2006), on integration with respect to the Haar measure.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import sympy as sp
from sympy.polys.matrices import DomainMatrix

Pairing = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Given:
    """Not random, or independent of every weight: the expectation passes it by."""


@dataclass(frozen=True)
class Gaussian:
    """Independent entries N(0, variance)."""

    variance: sp.Expr


@dataclass(frozen=True)
class Haar:
    """sqrt(scale) times an orthogonal matrix of `size` rows, uniform on O(size)."""

    scale: sp.Expr
    size: sp.Expr


Law = Given | Gaussian | Haar


def pairings(items: tuple[int, ...]) -> Iterator[Pairing]:
    """Yield the (2k-1)!! ways to split `items` into pairs; none if their number is odd.

    >>> list(pairings((0, 1, 2, 3)))
    [((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2))]
    """
    if not items:
        yield ()
        return
    first, *rest = items
    for partner in rest:
        remaining = tuple(item for item in rest if item != partner)
        for pairing in pairings(remaining):
            yield ((first, partner), *pairing)


def loops(p: Pairing, q: Pairing) -> int:
    """Return the number of closed loops that two pairings form together."""
    left, right = ({a: b for x, y in r for a, b in ((x, y), (y, x))} for r in (p, q))
    unseen, found = set(left), 0
    while unseen:
        start = node = unseen.pop()
        found += 1
        while True:
            node = left[node]
            unseen.discard(node)
            node = right[node]
            if node == start:
                break
            unseen.discard(node)
    return found


@cache
def weingarten(k: int) -> dict[tuple[Pairing, Pairing], sp.Expr]:
    """Return Wg(p, q) for O(n), pairings of 2k entries, as rational functions of `n`.

    Valid for n >= k. The symbol n is `sympy.Symbol("n", positive=True)`.
    """
    n = sp.Symbol("n", positive=True)
    every = list(pairings(tuple(range(2 * k))))
    G = sp.Matrix(len(every), len(every), lambda i, j: n ** loops(every[i], every[j]))
    # In the field of rational functions: SymPy's own inverse does not end for k = 3.
    inverse = DomainMatrix.from_Matrix(G).to_field().inv().to_Matrix()
    return {
        (p, q): sp.factor(inverse[i, j])
        for i, p in enumerate(every)
        for j, q in enumerate(every)
    }


def pair_entries(law: Law, entries: int) -> Iterator[tuple[sp.Expr, Pairing, Pairing]]:
    """Yield (weight, row pairing, column pairing) for a product of `entries` entries.

    For a tensor with more or fewer than two slots, "row" is the first slot and "column"
    stands for all the others.
    """
    match law:
        case Given():
            raise AssertionError("a given tensor has no pairings")
        case Gaussian(variance):
            for pairing in pairings(tuple(range(entries))):
                yield variance ** (entries // 2), pairing, pairing
        case Haar(scale, size):
            if entries % 2:
                return
            n = sp.Symbol("n", positive=True)
            for (p, q), weight in weingarten(entries // 2).items():
                if weight != 0:
                    yield scale ** (entries // 2) * weight.subs(n, size), p, q
