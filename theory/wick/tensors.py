"""Sums of products of tensor entries with named indices.

    Y[i, k] = sum_a X[i, a] W[a, k]

is `total(X(i, a) * W(a, k), a)`. Every index that is not free is bound, that is, summed
from 1 to its size. Products rename bound indices that would clash, so an expression may be
multiplied with itself. A slot holds one index, or several that together number it, as
(h, c) numbers the columns of a value matrix that is split into heads.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, count, islice
from typing import Any

import sympy as sp

from asymptest.theory.wick.laws import Given, Law


@dataclass(frozen=True)
class Index:
    """A named index that runs from 1 to `size`; indices sort by name, then by size."""

    name: str
    size: sp.Expr

    def __lt__(self, other: "Index") -> bool:
        if self.name != other.name:
            return self.name < other.name
        return _size_order(self) < _size_order(other)

    def __repr__(self) -> str:
        return self.name


def _size_order(index: Index) -> Any:
    return sp.default_sort_key(index.size)


Slot = tuple[Index, ...]
Renaming = dict[Index, Index]


@dataclass(frozen=True)
class Tensor:
    """A tensor with its law; calling it with indices gives an entry.

    `symmetric` says that its two slots may be exchanged, as those of a kernel.
    """

    name: str
    law: Law = Given()
    symmetric: bool = False

    def __call__(self, *slots: Index | Slot) -> "Poly":
        """Return the entry at these indices."""
        named = tuple(slot if isinstance(slot, tuple) else (slot,) for slot in slots)
        return Poly((Term(sp.Integer(1), (Factor(self, named),)),))


@dataclass(frozen=True)
class Factor:
    """One entry of a tensor."""

    tensor: Tensor
    slots: tuple[Slot, ...]

    @property
    def indices(self) -> tuple[Index, ...]:
        """All indices, in order."""
        return tuple(index for slot in self.slots for index in slot)

    def renamed(self, names: Renaming) -> "Factor":
        """Return the factor with indices replaced."""
        slots = tuple(tuple(names.get(i, i) for i in slot) for slot in self.slots)
        return replace(self, slots=slots)

    def __repr__(self) -> str:
        inner = ",".join("".join(map(repr, slot)) for slot in self.slots)
        return f"{self.tensor.name}[{inner}]"


DELTA = Tensor("delta", symmetric=True)


@dataclass(frozen=True)
class Term:
    """coefficient * sum over `bound` of the product of `factors`."""

    coefficient: sp.Expr
    factors: tuple[Factor, ...] = ()
    bound: frozenset[Index] = frozenset()

    @property
    def indices(self) -> set[Index]:
        """Every index in use, free or bound."""
        return {i for factor in self.factors for i in factor.indices} | self.bound

    def renamed(self, names: Renaming) -> "Term":
        """Return the term with indices replaced, bound ones too."""
        return Term(
            self.coefficient,
            tuple(factor.renamed(names) for factor in self.factors),
            frozenset(names.get(i, i) for i in self.bound),
        )

    def apart_from(self, used: set[Index]) -> "Term":
        """Return the term with bound indices of names that nothing else has or uses."""
        taken = {index.name for index in used | (self.indices - self.bound)}
        names: Renaming = {}
        for index in sorted(self.bound):
            numbered = map(f"{index.name}{{}}".format, count(1))
            name = next(n for n in chain([index.name], numbered) if n not in taken)
            taken.add(name)
            names[index] = Index(name, index.size)
        return self.renamed(names)

    def __mul__(self, other: "Term") -> "Term":
        right = other.apart_from(self.indices)
        left = self.apart_from(right.indices)
        return Term(
            left.coefficient * right.coefficient,
            left.factors + right.factors,
            left.bound | right.bound,
        )

    def __repr__(self) -> str:
        bound = ",".join(i.name for i in sorted(self.bound))
        head = [f"({self.coefficient})"] + ([f"sum_{bound}"] if bound else [])
        return " ".join(head + [repr(factor) for factor in self.factors])


@dataclass(frozen=True)
class Poly:
    """A sum of terms."""

    terms: tuple[Term, ...] = ()

    def __add__(self, other: "Poly") -> "Poly":
        return Poly(self.terms + other.terms)

    def __sub__(self, other: "Poly") -> "Poly":
        return self + other.scaled(-1)

    def __mul__(self, other: "Poly") -> "Poly":
        return Poly(tuple(a * b for a in self.terms for b in other.terms))

    def scaled(self, coefficient: sp.Expr | int) -> "Poly":
        """Return the polynomial times a number or a SymPy expression."""
        scaled = (
            replace(t, coefficient=coefficient * t.coefficient) for t in self.terms
        )
        return Poly(tuple(scaled))

    def renamed(self, names: Renaming) -> "Poly":
        """Return the polynomial with free indices replaced, all at once."""
        used = {*names, *names.values()}
        return Poly(tuple(t.apart_from(used).renamed(names) for t in self.terms))

    def map(self, change: Callable[[Term], Term]) -> "Poly":
        """Return the polynomial with each term changed, like terms collected."""
        return collect(map(change, self.terms))

    def __repr__(self) -> str:
        return " + ".join(map(repr, self.terms)) or "0"


def scalar(value: sp.Expr | int) -> Poly:
    """Return a number as a polynomial."""
    return Poly((Term(sp.sympify(value)),))


def total(poly: Poly, *indices: Index) -> Poly:
    """Return the sum of `poly` over `indices`."""
    closed = (term.apart_from(set(indices)) for term in poly.terms)
    return Poly(tuple(replace(t, bound=t.bound.union(indices)) for t in closed))


def collect(terms: Iterable[Term]) -> Poly:
    """Return the sum of `terms`, those equal up to names of bound indices added."""
    sums: dict[tuple[tuple[Factor, ...], frozenset[Index]], sp.Expr] = {}
    for term in map(canonical, terms):
        key = (term.factors, term.bound)
        sums[key] = sums.get(key, sp.Integer(0)) + term.coefficient
    simplified = ((sp.factor(c), key) for key, c in sums.items())
    return Poly(tuple(Term(c, f, b) for c, (f, b) in simplified if c != 0))


def canonical(term: Term) -> Term:
    """Return the form of `term` that all its renamings and reorderings share.

    Of all orders of the factors, and of the two slots of symmetric ones, it is the first
    after the bound indices are numbered as they appear, each delta written once. Factor
    by factor: of all that may come next take the least; `ways` are those to reach it.
    """
    free = {index.name for index in term.indices - term.bound}
    names = (name for name in map("s{}".format, count(1)) if name not in free)
    numbers = tuple(islice(names, len(term.bound)))
    ways: set[Way] = {(term.factors, ())}
    least: list[Factor] = []
    for _ in term.factors:
        longer = [
            (factor.renamed(_numbered(seen, numbers)), (rest, seen))
            for way in ways
            for factor, rest, seen in _next(way, term.bound)
        ]
        following = min((f for f, _ in longer), key=lambda f: (f.tensor.name, f.slots))
        ways = {way for factor, way in longer if factor == following}
        if following.tensor != DELTA or following not in least:
            least.append(following)
    _, seen = next(iter(ways))
    unseen = sorted(term.bound.difference(seen), key=_size_order)
    bound = _numbered((*seen, *unseen), numbers).values()
    return Term(term.coefficient, tuple(least), frozenset(bound))


# The factors that are left, and the bound indices of those taken, as they appeared.
Way = tuple[tuple[Factor, ...], tuple[Index, ...]]


def _next(
    way: Way, bound: frozenset[Index]
) -> Iterator[tuple[Factor, tuple[Factor, ...], tuple[Index, ...]]]:
    """Yield each factor that may come next, what it leaves, and the indices seen then."""
    factors, seen = way
    for factor in dict.fromkeys(factors):
        place = factors.index(factor)
        rest = factors[:place] + factors[place + 1 :]
        flipped = replace(factor, slots=factor.slots[::-1])
        for turned in {factor, flipped} if factor.tensor.symmetric else {factor}:
            appear = [i for i in turned.indices if i in bound]
            yield turned, rest, tuple(dict.fromkeys((*seen, *appear)))


def _numbered(indices: tuple[Index, ...], numbers: tuple[str, ...]) -> Renaming:
    pairs = zip(indices, numbers, strict=False)
    return {index: Index(name, index.size) for index, name in pairs}
