"""Oracles of the theory tests: they enumerate indices instead of pairing entries."""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
import sympy as sp

from asymptest.theory.wick.matrices import Average
from asymptest.theory.wick.tensors import Index, Poly, Tensor

Entry = tuple[Tensor, tuple[tuple[int, ...], ...]]
Sizes = dict[Any, int]
Explicit = Callable[
    [Poly, Sizes, dict[Index, int]], Iterator[tuple[sp.Expr, list[Entry]]]
]


def pytest_itemcollected(item: pytest.Item) -> None:
    # beartype checks a random item of each tuple, also of those a strategy builds.
    item.add_marker(pytest.mark.filterwarnings("ignore:Do not use the `random` module"))


@pytest.fixture(scope="session")
def explicit() -> Explicit:
    """Return what writes a polynomial out: (coefficient, entries) an assignment."""
    return written_out


def written_out(
    poly: Poly, sizes: Sizes, free: dict[Index, int]
) -> Iterator[tuple[sp.Expr, list[Entry]]]:
    for term in poly.terms:
        bound = list(term.bound)
        coefficient = sp.sympify(term.coefficient).subs(sizes)
        ranges = [range(int(sp.sympify(b.size).subs(sizes))) for b in bound]
        for numbers in product(*ranges):
            at = free | dict(zip(bound, numbers, strict=True))
            entries: list[Entry] = []
            vanishes = False
            for factor in term.factors:
                place = tuple(tuple(at[i] for i in slot) for slot in factor.slots)
                if factor.tensor.name == "delta":
                    vanishes |= place[0] != place[1]
                else:
                    entries.append((factor.tensor, place))
            if not vanishes:
                yield coefficient, entries


@pytest.fixture(scope="session")
def evaluate() -> Callable[..., np.ndarray]:
    """Return what evaluates a matrix expression with NumPy arrays for its symbols."""
    return matrix_value


def matrix_value(
    expr: Any, arrays: dict[str, np.ndarray], numbers: dict[Any, float], T: int
) -> np.ndarray:
    """Evaluate; an array of three axes is one matrix a head, met inside an Average."""

    def value(e: Any) -> np.ndarray:
        match e:
            case Average():
                stacked = {k: a for k, a in arrays.items() if a.ndim == 3}
                heads = range(len(next(iter(stacked.values()))))
                each = [
                    matrix_value(
                        e.body,
                        arrays | {k: a[h] for k, a in stacked.items()},
                        numbers,
                        T,
                    )
                    for h in heads
                ]
                return np.mean(each, axis=0)
            case sp.MatrixSymbol():
                return arrays[str(e.args[0])]
            case sp.MatAdd() | sp.Add():
                return sum((value(a) for a in e.args), np.zeros(()))
            case sp.MatMul() | sp.Mul():
                result = np.ones(())
                for a in e.args:
                    part = value(a)
                    scalar = not (part.ndim and result.ndim)
                    result = result * part if scalar else result @ part
                return result
            case sp.MatPow():
                return np.linalg.matrix_power(value(e.args[0]), int(str(e.exp)))
            case sp.HadamardProduct():
                return np.prod([value(a) for a in e.args], axis=0)
            case sp.HadamardPower():
                return value(e.args[0]) ** int(str(e.exp))
            case sp.Transpose():
                return value(e.args[0]).T
            case sp.matrices.expressions.special.OneMatrix():
                return np.ones((T, T))
            case sp.ZeroMatrix():
                return np.zeros((T, T))
            case sp.Identity():
                return np.eye(T)
            case _:
                return np.array(float(e.subs(numbers)))

    return value(expr)
