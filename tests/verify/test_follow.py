"""Change a definition in one place, and recursion, kernel and finite network follow."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import sympy as sp

from asymptest.numerics import compile as numpy_compile
from asymptest.numerics.kernel import kernel
from asymptest.theory import definition, fluctuation, logits, update
from asymptest.theory.network import Attention, Dense, Residual
from asymptest.theory.patterns import Fixed, Uniform
from asymptest.theory.recursion import recursion
from asymptest.theory.wick import laws
from asymptest.theory.wick.laws import Gaussian, Haar, Law
from asymptest.verify import weights
from asymptest.verify.finite import finite, kernel_of
from asymptest.verify.inputs import exact_input

K0 = np.array([[1.0, 0.5, -0.3], [0.5, 2.0, 0.2], [-0.3, 0.2, 0.5]])
A = np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.25, 0.25, 0.5]])

REMEMBERING = (update, logits, definition, fluctuation, laws, numpy_compile, weights)


def forget() -> None:
    """Clear every cache of the modules that derive or compile a definition."""
    cleared = 0
    for module in REMEMBERING:
        for value in vars(module).values():
            if hasattr(value, "cache_clear"):
                value.cache_clear()
                cleared += 1
    assert cleared  # a cache that moved elsewhere would make the tests below fail


@pytest.fixture
def change(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, Any], None]]:
    """Return what replaces one definition until the end of the test."""

    def replace_definition(name: str, value: Any) -> None:
        monkeypatch.setattr(definition, name, value)
        forget()

    yield replace_definition
    monkeypatch.undo()
    forget()


def finite_kernels(network: Any, copies: int = 3, width: int = 8) -> np.ndarray:
    X = exact_input(K0, width, copies, rng=11)
    return kernel_of(finite(network, width, copies, rng=5), X)


def right_side(network: Any) -> Any:
    (equation,) = recursion(network).equations
    return equation.rhs


original_law = definition.weight_law


def twice(law: Law) -> Law:
    match law:
        case Gaussian(variance):
            return Gaussian(2 * variance)
        case Haar(scale, size):
            return Haar(2 * scale, size)
        case _:
            raise AssertionError(f"{law} is no law of weights")


def doubled_value(init: Any, width: sp.Expr, label: str = "") -> Law:
    """Return the law with twice the variance for value weights."""
    law = original_law(init, width, label)
    return twice(law) if label == "V" else law


def doubled(init: Any, width: sp.Expr, label: str = "") -> Law:
    return twice(original_law(init, width, label))


@pytest.mark.parametrize("init", ["gaussian", "orthogonal"])
@pytest.mark.parametrize("pattern", [Uniform(), Fixed(A), Fixed(np.array([A, A]))])
def test_a_changed_law_of_the_value_weights_is_followed(
    change: Callable[[str, Any], None], init: Any, pattern: Any
) -> None:
    network = Attention(pattern, heads=2, value=Dense(3, init=init))
    before = right_side(network), kernel(network, K0), finite_kernels(network)
    change("weight_law", doubled_value)
    after = right_side(network), kernel(network, K0), finite_kernels(network)

    assert sp.simplify(after[0] - 2 * before[0]).doit() == 0 * before[0]
    assert np.allclose(after[1], 2 * before[1], rtol=1e-14, atol=0)
    # The same normal numbers, scaled: every replicate's kernel doubles.
    assert np.allclose(after[2], 2 * before[2], rtol=1e-12, atol=1e-12)


def test_what_a_change_does_not_concern_stays(
    change: Callable[[str, Any], None],
) -> None:
    network = Residual(Dense(3, 0.5)) * 2
    before = recursion(network).equations, kernel(network, K0), finite_kernels(network)
    change("weight_law", doubled_value)
    after = recursion(network).equations, kernel(network, K0), finite_kernels(network)
    assert before[0] == after[0]
    assert (before[1] == after[1]).all()
    assert (before[2] == after[2]).all()


def test_a_changed_dense_law_reaches_every_layer(
    change: Callable[[str, Any], None],
) -> None:
    dense, network = Dense(3, 0.5), Attention(Uniform(), "causal")
    before = kernel(network, K0), finite_kernels(network)
    change("weight_law", doubled)
    assert np.allclose(kernel(dense, K0), 6 * K0 + 0.5, rtol=1e-14, atol=0)
    assert np.allclose(kernel(network, K0), 4 * before[0], rtol=1e-14, atol=0)
    assert np.allclose(finite_kernels(network), 4 * before[1], rtol=1e-12, atol=1e-12)


def test_a_transposed_attention_matrix_is_followed(
    change: Callable[[str, Any], None],
) -> None:
    """A definition that is structurally wrong moves all three readings to A^T K A."""
    network = Attention(
        Fixed(A), value=Dense(init="orthogonal"), output=Dense(init="orthogonal")
    )
    # Square orthogonal weights, one head: the finite kernel is the limit exactly.
    assert np.allclose(kernel(network, K0), A @ K0 @ A.T, rtol=1e-13, atol=1e-13)
    assert np.allclose(finite_kernels(network), A @ K0 @ A.T, rtol=1e-12, atol=1e-12)
    original = definition.A

    def transposed(*indices: Any) -> Any:
        *head, i, j = indices
        return original(*head, j, i)

    change("A", transposed)
    assert np.allclose(kernel(network, K0), A.T @ K0 @ A, rtol=1e-13, atol=1e-13)
    assert np.allclose(finite_kernels(network), A.T @ K0 @ A, rtol=1e-12, atol=1e-12)
    text = str(right_side(network))
    assert text.index(".T") < text.index("K_0")


def test_the_change_is_gone_afterwards() -> None:
    """The fixture above restores definitions and caches."""
    assert definition.weight_law is original_law
    assert np.allclose(kernel(Dense(3), K0), 3 * K0, rtol=1e-14, atol=0)
    assert np.allclose(kernel(Attention(Fixed(A)), K0), A @ K0 @ A.T, atol=1e-14)
