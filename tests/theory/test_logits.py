"""The law of the logits: its moments against those of actual weights and rotations."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sympy as sp

from asymptest.theory import Additive, Elementwise, Linear, Rotary, Saturated, Softmax
from asymptest.theory.definition import K_MATRIX
from asymptest.theory.logits import POSITIONS, logits_law
from asymptest.theory.patterns import Scored

s, tau = sp.symbols("s tau", positive=True)
g = sp.Symbol("g", real=True)

LENGTH, HEAD, WIDTH = 3, 4, 8
X = np.random.default_rng(0).standard_normal((LENGTH, WIDTH))
KERNEL = X @ X.T / WIDTH


def rotations(base: float | None) -> np.ndarray:
    """Return R_a for every position; 1 without rotary encodings."""
    result = np.zeros((LENGTH, HEAD, HEAD))
    for a in range(LENGTH):
        for m in range(0, HEAD, 2):
            z = 1.0 if base is None else np.exp(1j * a * base ** (-m / HEAD))
            result[a, m : m + 2, m : m + 2] = [[z.real, -z.imag], [z.imag, z.real]]
    return result


def bilinear(base: float | None) -> np.ndarray:
    """Return B[a, i, e, f, c, c'], so that a logit is B W^Q[e, c] W^K[f, c'] times a scale."""
    R = rotations(base)
    turns = np.einsum("axc,ixd->aicd", R, R)
    return np.einsum("ae,if,aicd->aiefcd", X, X, turns)


def mean_cosine(lag: Any, base: float | None) -> np.ndarray:
    """Return r of a head of this dimension; it is 1 without rotary encodings."""
    if base is None:
        return np.ones(np.shape(lag))
    shares = np.arange(0, HEAD, 2) / HEAD
    return np.cos(np.asarray(lag)[..., None] * base**-shares).mean(-1)


AT = np.arange(LENGTH)
LAG = np.subtract.outer(AT, AT)
VARIANCE, TEMPERATURE = 2.5, 0.5


@pytest.mark.parametrize("base", [None, 3.0])
@pytest.mark.parametrize("temperature", [1, TEMPERATURE])
def test_covariance_is_that_of_the_weights(
    base: float | None, temperature: float
) -> None:
    """E over independent W^Q and W^K of variance sqrt(s) / n pairs each with itself."""
    B = bilinear(base)
    weights = VARIANCE / WIDTH**2  # the product of both variances
    exact = weights / HEAD / temperature**2 * np.einsum("aiefcd,bjefcd->aibj", B, B)
    position = None if base is None else Rotary(base)
    law, _ = logits_law(
        Softmax(variance=VARIANCE, position=position, temperature=temperature)
    )
    expected = float(law.variance) * np.einsum("ab,ij->aibj", KERNEL, KERNEL)
    expected *= mean_cosine(
        LAG[:, :, None, None] - LAG, base
    )  # r((a - i) - (b - j)), an array over a, i, b, j
    np.testing.assert_allclose(expected, exact, rtol=1e-13, atol=1e-14)
    assert law.mean == 0
    assert (law.turn is None) == (base is None)


@pytest.mark.parametrize("base", [None, 3.0])
@pytest.mark.parametrize("temperature", [1, TEMPERATURE])
def test_tied_mean_is_that_of_the_weights(
    base: float | None, temperature: float
) -> None:
    """One matrix W of variance s / n pairs with itself."""
    B = bilinear(base)
    exact = VARIANCE / WIDTH / HEAD / temperature * np.einsum("aieecc->ai", B)
    position = None if base is None else Rotary(base)
    law, _ = logits_law(
        Softmax("1/d", True, VARIANCE, position, temperature=temperature)
    )
    expected = float(law.mean) * KERNEL * mean_cosine(LAG, base)
    np.testing.assert_allclose(expected, exact, rtol=1e-13, atol=1e-14)
    assert law.variance == 0


LAWS: dict[str, tuple[Scored, Any, Any]] = {
    "random": (Softmax(variance=s), 0, s),
    "tied": (Softmax("1/d", True, s), s, 0),
    "vanishing": (Softmax("1/d", variance=s), 0, 0),
    "no variance": (Softmax(variance=0.0), 0, 0),
    "temperature": (Softmax(variance=s, temperature=tau), 0, s / tau**2),
    "tied temperature": (Softmax("1/d", True, s, temperature=tau), s / tau, 0),
    "rotary": (Softmax(variance=s, position=Rotary()), 0, s),
    "tied rotary": (Softmax("1/d", True, s, Rotary()), s, 0),
    "vanishing rotary": (Softmax("1/d", variance=s, position=Rotary()), 0, 0),
    "additive": (Softmax(variance=s, position=Additive([[1.0]])), 0, s),
    "saturated": (Saturated(variance=s), 0, s),
    "elementwise": (Elementwise("1/d", True, s), s, 0),
    "linear": (Linear(variance=s), 0, s),
}


@pytest.mark.parametrize("which", LAWS)
def test_law_of_a_pattern(which: str) -> None:
    pattern, mean, variance = LAWS[which]
    law, _ = logits_law(pattern)
    assert sp.simplify(law.mean - mean) == 0
    assert sp.simplify(law.variance - variance) == 0
    rotary = isinstance(pattern.position, Rotary)
    assert law.turn == (Rotary().turn() if rotary else None)


@pytest.mark.parametrize("content", [1, g, sp.Rational(1, 2)])
def test_additive_encodings_add_their_kernel(content: Any) -> None:
    """E (g X + E)(g X + E)^T / n = g^2 K + P, since E has the mean 0."""
    position = Additive(np.eye(2), content)
    law, steps = logits_law(Softmax(variance=s, position=position))
    assert sp.simplify(law.seen - (content**2 * K_MATRIX + POSITIONS)) == sp.ZeroMatrix(
        *K_MATRIX.shape
    )
    assert "Positions" in {step.name for step in steps}
    plain, _ = logits_law(Softmax(variance=s))
    assert plain.seen == K_MATRIX


def test_the_bias_is_no_part_of_the_law() -> None:
    make: Callable[..., Softmax] = Softmax
    assert logits_law(make(bias=np.eye(2)))[0] == logits_law(make())[0]
