"""Polynomials in kernels and matrices, evaluated: the exact variances of theory/fluctuation.py."""

from collections.abc import Mapping
from string import ascii_letters

import numpy as np
import sympy as sp
from jaxtyping import Float

from asymptest.theory.definition import I, J, dense_definition
from asymptest.theory.fluctuation import (
    chain_moment,
    kernel_variance,
    n,
    residual_definition,
)
from asymptest.theory.network import Dense, Init, Residual
from asymptest.theory.substitution import put
from asymptest.theory.update import SKIP, WEIGHT
from asymptest.theory.wick.tensors import Index, Poly, Term

Kernel = Float[np.ndarray, "T T"]


def evaluate(
    poly: Poly,
    arrays: Mapping[str, Float[np.ndarray, "_ _"]],
    numbers: Mapping[sp.Symbol, float],
) -> Kernel:
    """Return the T x T array of a polynomial with the free indices i, j.

    Args:
        poly: its tensors are named by the keys of `arrays`.
        arrays: name -> T x T array.
        numbers: the value of every symbol in its coefficients.
    """
    T = len(next(iter(arrays.values())))
    result = np.zeros((T, T))
    for term in poly.terms:
        coefficient = float(put(numbers, term.coefficient))
        result += coefficient * _product(term, arrays, T)
    return result


def _product(
    term: Term, arrays: Mapping[str, Float[np.ndarray, "_ _"]], T: int
) -> Kernel:
    letters: dict[Index, str] = {}
    for index in [I, J, *sorted(term.indices - {I, J})]:
        letters[index] = ascii_letters[len(letters)]
    inputs = ["".join(letters[i] for i in f.indices) for f in term.factors]
    operands = [arrays[f.tensor.name] for f in term.factors]
    # A factor of ones keeps i and j among the inputs, where a term does not depend on them.
    equation = f"{','.join([*inputs, 'a', 'b'])}->ab"
    return np.einsum(equation, *operands, np.ones(T), np.ones(T), optimize=True)


def dense_variance(layer: Dense, K: Kernel, width: int) -> Kernel:
    """Return Var K'[i, j] of a bias-free Dense layer width -> width on a given kernel."""
    numbers = {n: width, sp.Symbol("s", nonnegative=True): float(layer.variance)}
    variance = kernel_variance(dense_definition(Dense(init=layer.init)))
    return evaluate(variance, {"K": K}, numbers)


def residual_variance(
    layer: Residual, init: Init, A: Kernel, K: Kernel, width: int
) -> Kernel:
    """Return Var K'[i, j] of skip X + weight A X W on a given kernel, W of variance 1."""
    numbers = {
        n: width,
        SKIP: float(layer.skip),
        WEIGHT: float(layer.weight),
        sp.Symbol("s", nonnegative=True): 1.0,
    }
    return evaluate(
        kernel_variance(residual_definition(init)), {"K": K, "A": A}, numbers
    )


def chain_variance(depth: int, width: int) -> float:
    """Return Var q_L / q_0^2 of a row's squared length after `depth` Dense layers."""
    return float(put({n: width}, chain_moment(depth))) - 1
