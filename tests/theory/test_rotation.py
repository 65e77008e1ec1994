"""Traces of rotations: sums over actual rotation matrices against d r(...)."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from asymptest.theory import Rotary
from asymptest.theory.definition import R, T
from asymptest.theory.rotation import TURN, turned
from asymptest.theory.wick.tensors import Index, Poly, Tensor, scalar, total

D = sp.Symbol("d", positive=True)  # features of a head
FEATURES, LENGTH = 6, 5
ROTARY = Rotary(3.0)
M = Tensor("M")  # something else in the expression
EPS = float(np.finfo(np.float64).eps)


def rotations() -> np.ndarray:
    """Return R as the paper writes it: blocks of cos, -sin, sin, cos."""
    result = np.zeros((LENGTH, FEATURES, FEATURES))
    for i in range(LENGTH):
        for m in range(0, FEATURES, 2):
            angle = i * 3.0 ** (-m / FEATURES)
            wave = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
            result[i, m : m + 2, m : m + 2] = wave
    return result


def mean_cosine(lag: np.ndarray) -> np.ndarray:
    """Return r of a head of finite dimension."""
    shares = np.arange(0, FEATURES, 2) / FEATURES
    return np.cos(lag[..., None] * ROTARY.frequency(shares)).mean(-1)


ROTATIONS = rotations()
CONTENT = np.random.default_rng(0).standard_normal((LENGTH, LENGTH))


def array(tensor: Tensor, positions: int) -> np.ndarray:
    """Return a tensor, and r at `positions` positions of alternating signs."""
    match tensor.name:
        case "R":
            return ROTATIONS
        case "M":
            return CONTENT
        case "r":
            at = np.indices((LENGTH,) * positions)
            signs = (-1.0) ** np.arange(positions)
            return mean_cosine(np.tensordot(signs, at, axes=1))
        case _:
            raise AssertionError(tensor)


def value(poly: Poly, free: list[Index]) -> np.ndarray:
    """Carry out the sums, as an array over the free positions."""
    result = np.zeros((LENGTH,) * len(free))
    for term in poly.terms:
        letters = {index: k for k, index in enumerate(sorted(term.indices))}
        operands: list[Any] = []
        for factor in term.factors:
            operands.append(array(factor.tensor, len(factor.slots)))
            operands.append([letters[index] for index in factor.indices])
        out = [letters[index] for index in free]
        number = float(term.coefficient.subs(D, FEATURES))
        result += number * np.einsum(*operands, out, optimize="greedy")
    return result


def trace(cycle: list[Index], label: str, backwards: bool) -> Poly:
    """Return tr(R_a R_i^T R_b R_j^T ...), or the trace of its transpose's factors."""
    count = len(cycle)
    joints = [Index(f"{label}{k}", D) for k in range(count)]
    result = scalar(1)
    for k, position in enumerate(cycle):
        left, right = joints[k], joints[(k + 1) % count]
        # R_a[left, right], then R_i^T[left, right] = R_i[right, left].
        pair = (left, right) if (k % 2 == 0) != backwards else (right, left)
        result = result * R(position, *pair)
    return total(result, *joints)


@settings(max_examples=60)
@given(
    lengths=st.sampled_from([[2], [4], [2, 2], [2, 4], [4, 4], [6]]),
    backwards=st.booleans(),
    extra=st.sampled_from(["none", "equal", "summed"]),
    data=st.data(),
)
def test_traces_are_d_times_the_mean_cosine(
    lengths: list[int], backwards: bool, extra: str, data: st.DataObject
) -> None:
    """One trace or two, their factors in any order.

    Two of the positions may be equal, or one summed over with a matrix that holds it.
    """
    # Named in any order, since what sorts them by name must not matter.
    names = iter(data.draw(st.permutations("abijpqst")))
    named = [[Index(next(names), T) for _ in range(count)] for count in lengths]
    first, last = named[0][0], named[-1][-1]
    if extra == "equal":
        named[-1][-1] = first
    poly = scalar(sp.Rational(2, 3))
    for n, cycle in enumerate(named):
        poly = poly * trace(cycle, "xy"[n], backwards)
    if extra == "summed":
        poly = total(poly * M(first, last), first)
    free = sorted({index for one in named for index in one})
    free = [index for index in free if extra != "summed" or index != first]
    (term,) = poly.terms
    shuffled = tuple(data.draw(st.permutations(term.factors)))
    poly = Poly((replace(term, factors=shuffled),))

    found = turned(poly)
    (left,) = found.terms
    tensors = [factor.tensor for factor in left.factors]
    assert tensors.count(TURN) == len(lengths)
    assert R not in tensors
    size = FEATURES ** len(lengths)
    np.testing.assert_allclose(
        value(found, free), value(poly, free), rtol=0, atol=64 * EPS * size
    )


def test_other_factors_and_bound_indices_stay() -> None:
    a, i, k = Index("a", T), Index("i", T), Index("k", T)
    inside = trace([a, i], "c", False) * M(a, k)
    (term,) = turned(total(inside, k)).terms
    assert term.coefficient == D
    assert [f.tensor for f in term.factors] == [M, TURN]
    assert [index.size for index in term.bound] == [T]
    assert turned(M(a, k)) == M(a, k)


def test_what_is_no_trace_is_refused() -> None:
    a, i = Index("a", T), Index("i", T)
    c, e, f = (Index(name, D) for name in "cef")
    open_ended = total(R(a, c, e) * R(i, c, f), c, e, f)
    not_transposed = total(R(a, c, e) * R(i, e, c), c, e)
    for poly in (open_ended, not_transposed, total(R(a, c, c), c)):
        with pytest.raises(AssertionError, match="no product of traces of rotations"):
            turned(poly)
