"""Definitions to PyTorch: sample the weights of a layer and carry out its sums.

theory/definition.py states a layer as sums of products of tensor entries. Here each product
is one einsum over `copies` independent replicates of the weights at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from string import ascii_letters

import numpy as np
import sympy as sp
import torch
from jaxtyping import Float64
from torch import Tensor as Array

from asymptest.theory.substitution import put
from asymptest.theory.wick.laws import Gaussian, Given, Haar
from asymptest.theory.wick.tensors import Factor, Index, Poly, Term

Numbers = Mapping[sp.Symbol, sp.Expr | float]
COPY = ascii_letters[0]  # einsum's letter for the replicate


@dataclass(frozen=True)
class Product:
    """One term: coefficient * einsum(equation, tensors)."""

    coefficient: float
    letters: tuple[str, ...]
    names: tuple[str, ...]

    def evaluate(self, tensors: Mapping[str, Array], output: str) -> Array:
        """Return the term as an array (copies, *output); absent output axes have size 1."""
        operands = [tensors[name] for name in self.names]
        # A tensor without a replicate axis is common to all replicates.
        inputs = [
            (COPY if operand.ndim > len(letters) else "") + letters
            for operand, letters in zip(operands, self.letters, strict=True)
        ]
        seen = set("".join(inputs))
        present = "".join(letter for letter in output if letter in seen)
        copy = COPY if COPY in seen else ""
        result = torch.einsum(f"{','.join(inputs)}->{copy}{present}", *operands)
        if not copy:
            result = result[None]
        shape = iter(result.shape[1:])
        full = [next(shape) if letter in seen else 1 for letter in output]
        return self.coefficient * result.reshape(result.shape[0], *full)


@dataclass(frozen=True)
class Program:
    """A definition compiled for given sizes: products over named tensors."""

    products: tuple[Product, ...]
    output: str

    def __call__(self, tensors: Mapping[str, Array]) -> Array:
        """Return the sum of the products, each broadcast to the output's shape."""
        first, *rest = (p.evaluate(tensors, self.output) for p in self.products)
        for part in rest:
            first = first + part
        return first


@dataclass(frozen=True)
class Weight:
    """A weight with its law in numbers, each slot split into axes.

    Args:
        name: of the tensor.
        deviation: standard deviation of an entry; of a Haar matrix, its scale's root.
        slots: the sizes of the indices of each slot.
        orthogonal: whether it is Haar.
    """

    name: str
    deviation: float
    slots: tuple[tuple[int, ...], ...]
    orthogonal: bool


@lru_cache(maxsize=1024)  # definitions are few, sizes may be many
def compile_definition(
    definition: Poly,
    output: tuple[Index, ...],
    items: tuple[tuple[sp.Symbol, float], ...],
) -> tuple[Program, tuple[Weight, ...]]:
    """Return the program of a definition and its weights.

    Terms with a weight of variance zero are left out, since they are zero.

    Args:
        definition: the sums.
        output: the free indices, in the order of the result's axes.
        items: the value of every symbol but T.
    """
    numbers = dict(items)
    letters: dict[Index, str] = {}
    for index in [*output, *(i for t in definition.terms for i in sorted(t.indices))]:
        letters.setdefault(index, ascii_letters[1 + len(letters)])
    weights: dict[str, Weight] = {}
    products: list[Product] = []
    for term in definition.terms:
        random = [_weight(f, numbers) for f in term.factors if f.tensor.law != Given()]
        if all(weight.deviation > 0 for weight in random):
            weights |= {weight.name: weight for weight in random}
            products.append(_product(term, letters, numbers))
    program = Program(tuple(products), "".join(letters[i] for i in output))
    return program, tuple(weights.values())


def _product(term: Term, letters: Mapping[Index, str], numbers: Numbers) -> Product:
    return Product(
        float(put(numbers, term.coefficient)),
        tuple("".join(letters[i] for i in f.indices) for f in term.factors),
        tuple(f.tensor.name for f in term.factors),
    )


def _weight(factor: Factor, numbers: Numbers) -> Weight:
    match factor.tensor.law:
        case Gaussian(value) | Haar(value, _):
            deviation = float(put(numbers, value)) ** 0.5
        case Given():
            raise AssertionError("a given tensor is no weight")
    slots = (
        tuple(int(put(numbers, index.size)) for index in slot) for slot in factor.slots
    )
    orthogonal = isinstance(factor.tensor.law, Haar)
    return Weight(factor.tensor.name, deviation, tuple(slots), orthogonal)


def sample(
    weight: Weight, copies: int, generator: np.random.Generator
) -> Float64[Array, "copies ..."]:
    """Return `copies` independent draws of a weight, an axis an index."""
    axes = [size for slot in weight.slots for size in slot]
    if weight.orthogonal:
        rows, columns = map(prod, weight.slots)
        drawn = haar(copies, rows, columns, generator).reshape(copies, *axes)
    else:
        drawn = normal(copies, *axes, generator=generator)
    return weight.deviation * drawn


def normal(*shape: int, generator: np.random.Generator) -> Float64[Array, "..."]:
    """Return independent N(0, 1) numbers in float64."""
    # NumPy's sampler: twice as fast in float64 as torch's, measured on one core.
    return torch.from_numpy(generator.standard_normal(shape))


def haar(
    copies: int, rows: int, columns: int, generator: np.random.Generator
) -> Float64[Array, "copies rows columns"]:
    """Return uniform matrices with W W^T = (columns / rows) I, or W^T W = I if rows > columns.

    So (1/columns) X W W^T X^T has the mean X X^T / rows, as for Gaussian weights of variance
    1/rows; square ones are Haar on O(rows).
    """
    long, short = max(rows, columns), min(rows, columns)
    Q, R = torch.linalg.qr(normal(copies, long, short, generator=generator))
    # QR fixes the signs of R's diagonal by convention; undone, Q is Haar (Mezzadri 2007).
    Q = Q * torch.sign(torch.diagonal(R, dim1=-2, dim2=-1))[:, None, :]
    return (columns / rows) ** 0.5 * Q.mT if rows <= columns else Q
