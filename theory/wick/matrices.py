"""Read a contracted polynomial back: as indexed sums, or as a product of matrices."""

from collections import Counter
from typing import Any

import sympy as sp

from asymptest.theory.wick.tensors import Factor, Index, Poly, Term


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


def to_matrix(poly: Poly, i: Index, j: Index) -> Any:
    """Return the matrix expression whose entry (i, j) is `poly`.

    Each term must be a chain of two-slot tensors from i to j; where the chain is broken,
    the matrix of ones stands. A bound index that a chain's matrices carry in front, as
    A[h, i, j], becomes an `Average` over it.

    Raises:
        AssertionError: for another product, such as A[i, j] B[i, j].
    """
    size = i.size
    parts = [_chain(term, i, j, size) for term in poly.terms]
    return sum(parts[1:], parts[0]) if parts else sp.ZeroMatrix(size, size)


def _chain(term: Term, i: Index, j: Index, size: sp.Expr) -> Any:
    heads, ends = (
        Counter(index for f in term.factors for slot in f.slots[part] for index in slot)
        for part in (slice(-2), slice(-2, None))
    )
    # Two matrices meet in an index that is summed, and one ends in i and in j.
    meets = all(ends[k] <= (2 if k in term.bound else 1) for k in ends)
    if not meets or len(heads) > 1 or term.bound != {*heads, *ends} - {i, j}:
        raise AssertionError(f"{term} is no chain of matrices from {i} to {j}")
    left, end, rest = _walk(i, list(term.factors), size)
    right: list[Any] = []
    if end != j:
        right, _, rest = _walk(j, rest, size)
        left = [*left, sp.OneMatrix(size, size)]
    if rest:
        raise AssertionError(f"{term} is no chain of matrices from {i} to {j}")
    matrices = [*left, *(m.T for m in reversed(right))]
    product: Any = sp.MatMul(*matrices) if len(matrices) > 1 else matrices[0]
    if not heads:
        return term.coefficient * product
    (head,) = heads
    coefficient = sp.simplify(term.coefficient * head.size)
    return coefficient * Average(product, sp.Symbol("h"))


def _walk(
    start: Index, factors: list[Factor], size: sp.Expr
) -> tuple[list[Any], Index, list[Factor]]:
    """Follow the factors from `start` as far as they lead."""
    matrices: list[Any] = []
    node, rest = start, factors
    while True:
        step = next((f for f in rest if (node,) in f.slots[-2:]), None)
        if step is None:
            return matrices, node, rest
        symbol = sp.MatrixSymbol(step.tensor.name, size, size)
        forwards = step.slots[-2] == (node,)
        matrices.append(symbol if forwards or step.tensor.symmetric else symbol.T)
        (node,) = step.slots[-1] if forwards else step.slots[-2]
        rest = [f for f in rest if f is not step]
