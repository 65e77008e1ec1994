"""Shaped attention in torch: its own softmax makes A, and every reading has the same kernel."""

from functools import reduce
from operator import rshift
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from asymptest.numerics import kernel, leading, sample_kernels
from asymptest.numerics.spa import shaped_kernel, spa_matrix, spa_softmax
from asymptest.theory import (
    Attention,
    Blocks,
    Dense,
    ExponentialKernel,
    Network,
    ShapeError,
    Spa,
    UniformKernel,
    UnsupportedError,
    degree,
    saturate,
)
from asymptest.theory.spa import ShapedKernel
from asymptest.verify import finite, kernel_of
from asymptest.verify.drawn_patterns import spa_pattern
from asymptest.verify.inputs import exact_input
from asymptest.verify.strategies import gram_matrices, masks

EPS = float(np.finfo(np.float64).eps)
HAAR = Dense(init="orthogonal")
U, E = UniformKernel, ExponentialKernel


def attention(pattern: Spa, mask: Any = "causal", heads: int = 1) -> Attention:
    return Attention(pattern, mask, heads, HAAR, HAAR)


@pytest.mark.parametrize(
    "mask", ["causal", "full", Blocks((20, 1, 43), causal=True)], ids=repr
)
@pytest.mark.parametrize("last", [U(0.6), E(0.2), E(0.005)], ids=repr)
@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-6)]
)
def test_the_softmax_of_torch_makes_the_matrix(
    last: ShapedKernel, mask: Any, dtype: torch.dtype, bound: float
) -> None:
    """D scaled_dot_product_attention(0, 0, 1, attn_mask=B) = A in a deep layer and the first."""
    T = 64
    zeros, one = torch.zeros(1, T, 8, dtype=dtype), torch.eye(T, dtype=dtype)[None]
    for pattern in Spa.schedule(last, 24)[::23]:
        B, D = (
            torch.tensor(part, dtype=dtype) for part in spa_softmax(pattern, mask, T)
        )
        P = scaled_dot_product_attention(zeros, zeros, one, attn_mask=B)[0]
        A = spa_matrix(pattern, mask, T)
        assert np.abs((D[:, None] * P).double().numpy() - A).max() <= bound
        assert np.abs(P.double().numpy() - A).max() > 1e-2  # D is not one


@pytest.mark.parametrize("last", [U(0.5), E(0.005)], ids=repr)
def test_72_layers_keep_their_kernel(last: ShapedKernel) -> None:
    """At every width that has the input kernel, here the least, with orthogonal weights."""
    T = 128
    network = reduce(rshift, map(attention, Spa.schedule(last, 72)))
    target = shaped_kernel(last, T)
    assert np.abs(kernel(network, np.eye(T)) - target).max() <= 1e-12
    found = kernel_of(finite(network, T), exact_input(np.eye(T), T))
    assert np.abs(found - target).max() <= 1e-10


@st.composite
def networks(draw: Any) -> tuple[Network, np.ndarray, np.ndarray]:
    """Draw shaped attention in a row, a kernel, and each row's reach without cancellation."""
    K0 = draw(gram_matrices(decades=1))
    T = len(K0)
    layers, reach = [], np.sqrt(np.diagonal(K0))
    for _ in range(draw(st.integers(1, 3))):
        pattern = spa_pattern(draw, T)
        mask = draw(masks(T, ("full", "causal", "blocks")))
        layers.append(attention(pattern, mask, draw(st.sampled_from([1, 2]))))
        reach = spa_matrix(pattern, mask, T) @ reach
    return reduce(rshift, layers), K0, reach


@settings(max_examples=40)
@given(networks(), st.integers(0, 99))
def test_every_reading_has_the_kernel(case: Any, seed: int) -> None:
    """No average: one draw of a finite network of any width, by weights and by their law."""
    network, K0, reach = case
    expected = kernel(network, K0)
    bound = 1e3 * EPS * np.outer(reach, reach)
    X = exact_input(K0, 8, rng=seed)
    for found in (
        kernel_of(finite(network, 8, 2, seed), X),
        sample_kernels(network, K0, 8, 2, seed),
    ):
        assert (np.abs(found - expected) <= bound).all()


@pytest.mark.parametrize("mask", ["causal", "full"])
def test_what_learns_first(mask: Any) -> None:
    """W^Q is 0: the loss has no slope along W^K at all, and one along W^Q.

    A step along it makes another matrix, that of D softmax(logits + B).
    """
    pattern = Spa(E(0.5), E(0.2))
    module = finite(attention(pattern, mask, heads=2), 8, rng=1)
    X = exact_input(np.eye(6), 8, rng=2)
    target = exact_input(np.eye(6), 8, rng=3)
    (module(X) * target).sum().backward()
    weights = {name.rsplit(".", 1)[-1]: W for name, W in module.named_parameters()}
    query, key = weights["WQ"], weights["WK"]
    assert key.grad is not None
    assert query.grad is not None
    assert (query == 0).all()
    assert (key.grad == 0).all()
    assert query.grad.norm() > 1e-3
    before = kernel_of(module, X)
    with torch.no_grad():
        query -= query.grad
    assert np.abs(kernel_of(module, X) - before).max() > 1e-3


def test_padding_on_the_right_only() -> None:
    """A row does not see what comes later, but it needs the first position."""
    patterns = Spa.schedule(E(0.1), 6)
    module = finite(reduce(rshift, map(attention, patterns)), 32)
    X = exact_input(np.eye(30), 32)
    whole, part = module(X), module(X[:, :24])
    assert (whole[:, :24] - part).abs().max() <= 1e-12 * whole.abs().max()
    hidden = np.eye(24)
    for pattern in patterns:  # the first six positions are hidden from the others
        hidden = spa_matrix(pattern, "causal", 30)[6:, 6:] @ hidden
    assert np.abs(hidden @ hidden.T - kernel_of(module, X)[0, 6:, 6:]).max() > 0.1


@pytest.mark.parametrize("causal", [True, False])
def test_states_of_other_lengths_are_refused(causal: bool) -> None:
    X = exact_input(np.eye(3), 8)
    blocks = attention(Spa(U(0.1), U(0.2)), Blocks((1, 1), causal))
    table = attention(Spa(U(0.1), np.eye(2) / 2 + 0.5), "causal" if causal else "full")
    for layer in (blocks, table):
        with pytest.raises(ShapeError, match=r"2 positions|shape"):
            finite(layer, 8)(X)


def test_the_limit_of_large_parameters_refuses_it_by_name() -> None:
    layer = Attention(Spa(U(0.1), U(0.2)))
    message = r"does not know Spa\(UniformKernel\(0\.1\), UniformKernel\(0\.2\)\)"
    weights = {name: np.ones((1, 1, 1)) for name in ("WV", "WO")}
    for refuse in (
        lambda: degree(layer, 1),
        lambda: saturate(layer, 1),
        lambda: leading(layer, [weights], [[1]]),
    ):
        with pytest.raises(UnsupportedError, match=message):
            refuse()
