"""Sums of products of tensor entries with named indices.

    Y[i, k] = sum_a X[i, a] W[a, k]

is `total(X(i, a) * W(a, k), a)`. Every index that is not free is bound, that is, summed
from 1 to its size. Products rename bound indices that would clash, so an expression may be
multiplied with itself. A slot holds one index, or several that together number it, as
(h, c) numbers the columns of a value matrix that is split into heads.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import count, permutations, product

import sympy as sp

from asymptest.theory.wick.laws import Given, Law


@dataclass(frozen=True, order=True)
class Index:
    """A named index that runs from 1 to `size`."""

    name: str
    size: sp.Expr

    def __repr__(self) -> str:
        return self.name


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
        """Return the term with bound indices renamed away from the names in use."""
        taken = {index.name for index in used | self.indices}
        names: Renaming = {}
        for index in sorted(self.bound):
            if index in used:
                fresh = next(
                    n
                    for n in map(f"{index.name}{{}}".format, count(1))
                    if n not in taken
                )
                taken.add(fresh)
                names[index] = Index(fresh, index.size)
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
        """Return the polynomial with free indices replaced."""
        targets = set(names.values())
        return Poly(tuple(t.apart_from(targets).renamed(names) for t in self.terms))

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
    bound = frozenset(indices)
    return Poly(tuple(replace(t, bound=t.bound | bound) for t in poly.terms))


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

    Of all orders of factors of one tensor, and of the two slots of a symmetric one, take
    the first after the bound indices are numbered as they appear.
    """
    groups: dict[str, list[Factor]] = {}
    for factor in term.factors:
        groups.setdefault(factor.tensor.name, []).append(factor)
    orders = product(*(permutations(groups[name]) for name in sorted(groups)))
    candidates = (
        flipped
        for order in orders
        for flipped in product(*(_orientations(f) for group in order for f in group))
    )
    numbered = (_numbered(term, factors) for factors in candidates)
    return min(numbered, key=lambda t: repr(t.factors))


def _orientations(factor: Factor) -> list[Factor]:
    if not factor.tensor.symmetric:
        return [factor]
    return [factor, replace(factor, slots=factor.slots[::-1])]


def _numbered(term: Term, factors: tuple[Factor, ...]) -> Term:
    free = {index.name for index in term.indices - term.bound}
    numbers = (name for name in map("s{}".format, count(1)) if name not in free)
    seen = [i for factor in factors for i in factor.indices if i in term.bound]
    unseen = sorted(term.bound - set(seen))
    names = {
        index: Index(name, index.size)
        for index, name in zip(dict.fromkeys(seen + unseen), numbers, strict=False)
    }
    return replace(term, factors=factors).renamed(names)
