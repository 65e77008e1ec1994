"""L_after L_before^(-1) x as recursions: against mpmath's Cholesky factors and SciPy's filter."""

import math
import tracemalloc
from typing import Any

import mpmath
import numpy as np
import pytest
import scipy.signal
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from asymptest.numerics.semiseparable import BLOCK, carrying
from asymptest.theory import ArgumentError, ExponentialKernel, UniformKernel
from asymptest.theory.spa import ShapedKernel

EPS = float(np.finfo(np.float64).eps)
Pair = tuple[ShapedKernel, ShapedKernel]
U, E = UniformKernel, ExponentialKernel


@st.composite
def pairs(draw: Any) -> Pair:
    """Draw two kernels of one family in order, far from and near to both of its ends."""
    if draw(st.booleans()):
        near_0 = st.floats(0.01, 15).map(lambda digits: 10**-digits)
        near_1 = st.floats(0, 15).map(lambda digits: 1 - 10**-digits)
        rhos = st.one_of(st.just(0.0), near_0, near_1)
        one, other = sorted([draw(rhos), draw(rhos)])
        return U(one), U(other)
    gammas = st.just(math.inf) | st.floats(-8, 1.7).map(lambda x: 10**x)
    later, sooner = sorted([draw(gammas), draw(gammas)])
    if draw(st.integers(0, 3)) == 3:
        sooner = later * (1 + 10 ** -draw(st.floats(0, 15)))
    return E(sooner), E(later)


def exact(kernels: Pair, T: int) -> np.ndarray:
    """L_after L_before^(-1) from mpmath's factors of the kernels, to 50 digits."""
    with mpmath.workdps(50):
        before, after = (mpmath.cholesky(covariance(kernel, T)) for kernel in kernels)
        found = after * mpmath.inverse(before)
        return np.array(found.tolist(), dtype=np.float64).reshape(T, T)


def covariance(kernel: ShapedKernel, T: int) -> Any:
    def entry(distance: int) -> Any:
        if isinstance(kernel, UniformKernel):
            return mpmath.mpf(kernel.rho if distance else 1)
        return mpmath.exp(-mpmath.mpf(kernel.gamma) * distance) if distance else 1

    return mpmath.matrix([[entry(abs(i - j)) for j in range(T)] for i in range(T)])


@st.composite
def cases(draw: Any) -> tuple[Pair, tuple[int, ...], np.ndarray]:
    """Draw kernels, sequences that end within and at the end of blocks, and rows X."""
    sizes = st.integers(1, BLOCK + 4) | st.sampled_from([1, BLOCK])
    lengths = tuple(draw(st.lists(sizes, min_size=1, max_size=3)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    X = rng.standard_normal((sum(lengths), draw(st.integers(1, 3))))
    X *= 10.0 ** (draw(st.integers(0, 9)) * rng.uniform(-1, 1, (len(X), 1)))
    return draw(pairs()), lengths, X


@settings(max_examples=50)
@given(cases())
def test_the_product_and_the_congruence(case: Any) -> None:
    """To a few units in the last place of the largest row so far, also where 1e8 cancels.

    No entry of A is above 1, and the rounding of a row reaches those after it.
    """
    kernels, lengths, X = case
    T = len(X)
    A, largest = np.zeros((T, T)), np.zeros(T)
    whole = exact(kernels, max(lengths))
    for stop, length in zip(np.cumsum(lengths), lengths, strict=True):
        at = slice(stop - length, stop)
        A[at, at] = whole[:length, :length]
        largest[at] = np.maximum.accumulate(np.linalg.norm(X[at], axis=1))
    before, after = kernels
    carried, dense = carrying(before, after, lengths), A.astype(np.longdouble)
    found = carried @ X
    assert (np.abs(found - dense @ X).max(1) <= 2 * T * EPS * largest).all()

    K = X @ X.T
    found = carried.congruence(K)
    bound = 2 * T * EPS * np.outer(largest, largest)
    assert (np.abs(found - dense @ K @ dense.T) <= bound).all()
    assert (found == found.T).all()
    # Nothing later, and nothing of another sequence, is seen at all.
    assert ((carried @ np.eye(T) == 0) >= (A == 0)).all()


@given(pairs(), st.integers(1, 2 * BLOCK + 1))
def test_each_column_by_itself(kernels: Pair, T: int) -> None:
    """Whatever the axes behind the first and their order in memory; X is left as it is."""
    carried = carrying(*kernels, (T,))
    X = np.random.default_rng(T).standard_normal((2, 3, T)).T
    before = X.copy()
    found = carried @ X
    for at in np.ndindex(3, 2):
        alone = carried @ X[:, *at]
        assert alone.shape == (T,)
        assert np.abs(found[:, *at] - alone).max() <= 4 * T * EPS * np.abs(X).max()
    K = np.eye(T)
    carried.congruence(K)
    assert (before == X).all()
    assert (np.eye(T) == K).all()


def test_one_column_of_many_positions() -> None:
    """T = 8192 against SciPy's filter, in O(T) memory: a matrix would take 512 MiB."""
    T, before, after = 8192, 0.3, 1e-3
    x = np.random.default_rng(0).standard_normal(T)
    _ = carrying(E(before), E(after), (2,))  # derives and compiles
    tracemalloc.start()
    found = carrying(E(before), E(after), (T,)) @ x
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak <= 100 * x.nbytes
    # y_i = b y_(i-1) + d (x_i - a x_(i-1)), where the first position has a variance of its own.
    a, b = math.exp(-before), math.exp(-after)
    d = math.sqrt(math.expm1(-2 * after) / math.expm1(-2 * before))
    state = [b * x[0] - d * a * x[0]]
    rest, _ = scipy.signal.lfilter([d, -d * a], [1, -b], x[1:], zi=state)
    assert np.abs(found - [x[0], *rest]).max() <= 2 * T * EPS * np.abs(x).max()


def test_sums_of_rows_far_from_the_first() -> None:
    """Of E-SPA they tend to sqrt(tanh(gamma_before / 2) / tanh(gamma_after / 2))."""
    sums = carrying(E(0.5), E(0.1), (1000,)) @ np.ones(1000)
    limit = math.sqrt(math.tanh(0.25) / math.tanh(0.05))
    assert abs(sums[-1] - limit) <= 1e-12
    assert sums[0] == 1


@pytest.mark.parametrize("family", [U, E])
def test_a_symbol_has_no_number(family: Any) -> None:
    kernel = family(sp.Symbol("r", positive=True))
    with pytest.raises(
        ArgumentError, match=r"parameter of .* is a symbol; .* a number"
    ):
        carrying(kernel, kernel, (3,))


@pytest.mark.parametrize("gamma", [1e-320, 1e-130, 700.0])
def test_rates_that_cancel_hundreds_of_digits(gamma: float) -> None:
    """A_22 = sqrt(gamma_after / gamma_before) near 0; in the end independent tokens."""
    found = carrying(E(2 * gamma), E(gamma), (2,)) @ np.eye(2)
    expected = 1.0 if gamma > 1 else math.sqrt(0.5)
    # 1e-320 has three digits.
    assert abs(found[1, 1] - expected) <= (1e-3 if gamma < 1e-300 else 4 * EPS)
