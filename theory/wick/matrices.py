"""Read a contracted polynomial back: as indexed sums, or as a product of matrices."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import sympy as sp

from asymptest.theory.wick.tensors import Index, Poly, Term


class Average(sp.MatrixExpr):
    """The mean of a matrix expression over heads (h) or over random logits (G).

    It commutes with everything linear, so an evaluator averages the body.
    """

    def __new__(cls, body: sp.MatrixExpr, over: sp.Symbol) -> "Average":
        """Return the mean of `body` over `over`."""
        return super().__new__(cls, body, over)

    @property
    def body(self) -> Any:
        """The expression under the mean."""
        return self.args[0]

    @property
    def shape(self) -> tuple[Any, Any]:
        """The shape of the body."""
        return self.body.shape

    def _entry(self, i: Any, j: Any, **_: Any) -> sp.Expr:
        return sp.Function("E")(self.body[i, j])

    def _sympystr(self, printer: Any) -> str:
        return f"E_{self.args[1]}[{printer.doprint(self.body)}]"

    def _latex(self, printer: Any) -> str:
        body = printer.doprint(self.body)
        return rf"\mathbb{{E}}_{{{self.args[1]}}}\left[{body}\right]"

    def _mathml_presentation(self, printer: Any) -> Any:
        row = printer.dom.createElement("mrow")
        sub = printer.dom.createElement("msub")
        for name in ("𝔼", str(self.args[1])):
            letter = printer.dom.createElement("mi")
            letter.appendChild(printer.dom.createTextNode(name))
            sub.appendChild(letter)
        row.appendChild(sub)
        for left, child in (("[", self.body), ("]", None)):
            fence = printer.dom.createElement("mo")
            fence.appendChild(printer.dom.createTextNode(left))
            row.appendChild(fence)
            if child is not None:
                row.appendChild(printer._print(child))
        return row


def to_sum(poly: Poly) -> sp.Expr:
    """Return `poly` as a SymPy sum of products of indexed symbols."""
    return sp.Add(*map(_term_to_sum, poly.terms))


def _term_to_sum(term: Term) -> sp.Expr:
    term = term.apart_from(set())
    symbols = {i: sp.Symbol(i.name, integer=True) for i in term.indices}
    bases: list[Any] = [sp.IndexedBase(f.tensor.name) for f in term.factors]
    entries = (
        base[tuple(symbols[i] for i in f.indices)]
        for base, f in zip(bases, term.factors, strict=True)
    )
    product = sp.Mul(*entries)
    limits = [(symbols[i], 1, i.size) for i in sorted(term.bound)]
    return term.coefficient * (sp.Sum(product, *limits) if limits else product)


@dataclass(frozen=True)
class _Edge:
    """A matrix between two indices."""

    matrix: Any
    left: Index
    right: Index
    symmetric: bool

    def leaving(self, index: Index) -> tuple[Any, Index]:
        """Return the matrix whose rows `index` numbers, and the index of its columns."""
        if index == self.left:
            return self.matrix, self.right
        return self.matrix if self.symmetric else self.matrix.T, self.left

    def times(self, other: "_Edge") -> "_Edge":
        """Return the entrywise product of two matrices between the same indices."""
        matrix, _ = other.leaving(self.left)
        both = self.symmetric and other.symmetric
        return replace(
            self, matrix=sp.HadamardProduct(self.matrix, matrix), symmetric=both
        )


def to_matrix(poly: Poly, i: Index, j: Index) -> Any:
    """Return the matrix expression whose entry (i, j) is `poly`.

    Each term must be a chain of two-slot tensors from i to j, some of which may stand
    between the same two indices; where the chain is broken, the matrix of ones stands. A
    bound index that a chain's matrices carry in front, as A[h, i, j], becomes an `Average`
    over it.

    Raises:
        AssertionError: for another product, such as A[i, a] B[a, b] C[a, j].
    """
    size = i.size
    parts = [_term(term, i, j, size) for term in poly.terms]
    return sum(parts[1:], parts[0]) if parts else sp.ZeroMatrix(size, size)


def _term(term: Term, i: Index, j: Index, size: sp.Expr) -> Any:
    heads = {index for f in term.factors for slot in f.slots[:-2] for index in slot}
    edges = _edges(term, size)
    between = [e for e in edges if {e.left, e.right} == {i, j}]
    chain = [e for e in edges if e not in between]
    found = {index for e in edges for index in (e.left, e.right)}
    if len(heads) > 1 or term.bound != (heads | found) - {i, j}:
        raise _no_chain(term, i, j)
    parts = [e.leaving(i)[0] for e in between]
    if chain or not parts:
        parts.append(_chain(chain, term, i, j, size))
    product = sp.HadamardProduct(*parts) if len(parts) > 1 else parts[0]
    if not heads:
        return term.coefficient * product
    (head,) = heads
    coefficient = sp.simplify(term.coefficient * head.size)
    return coefficient * Average(product, sp.Symbol("h"))


def _no_chain(term: Term, i: Index, j: Index) -> AssertionError:
    return AssertionError(f"{term} is no chain of matrices from {i} to {j}")


def _edges(term: Term, size: sp.Expr) -> list[_Edge]:
    """Return the matrices of a term, one for each pair of indices."""
    merged: dict[frozenset[Index], _Edge] = {}
    for f in term.factors:
        (left,), (right,) = f.slots[-2:]
        symbol = sp.MatrixSymbol(f.tensor.name, size, size)
        edge = _Edge(symbol, left, right, f.tensor.symmetric)
        ends = frozenset((left, right))
        merged[ends] = merged[ends].times(edge) if ends in merged else edge
    return list(merged.values())


def _chain(edges: list[_Edge], term: Term, i: Index, j: Index, size: sp.Expr) -> Any:
    ends = Counter(index for e in edges for index in (e.left, e.right))
    # Two matrices meet in an index that is summed, and one ends in i and in j.
    if any(n > (1 if index in (i, j) else 2) for index, n in ends.items()):
        raise _no_chain(term, i, j)
    left, end, rest = _walk(i, edges)
    right: list[Any] = []
    if end != j:
        right, _, rest = _walk(j, rest)
        left = [*left, sp.OneMatrix(size, size)]
    if rest:
        raise _no_chain(term, i, j)
    matrices = [*left, *(m.T for m in reversed(right))]
    return sp.MatMul(*matrices) if len(matrices) > 1 else matrices[0]


def _walk(start: Index, edges: list[_Edge]) -> tuple[list[Any], Index, list[_Edge]]:
    """Follow the edges from `start` as far as they lead."""
    matrices: list[Any] = []
    node, rest = start, edges
    while True:
        step = next((e for e in rest if node in (e.left, e.right)), None)
        if step is None:
            return matrices, node, rest
        matrix, node = step.leaving(node)
        matrices.append(matrix)
        rest = [e for e in rest if e is not step]
