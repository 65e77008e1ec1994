"""Degrees and limit networks; torch and the exact evaluation are compared in the claims."""

import pytest

from asymptest.theory import (
    ArgumentError,
    Attention,
    Custom,
    Degree,
    Dense,
    Fixed,
    LayerNorm,
    Mix,
    Mlp,
    Network,
    Pointwise,
    Residual,
    RMSNorm,
    Softmax,
    Uniform,
    UnsupportedError,
    degree,
    gelu,
    relu,
    saturate,
    tanh,
)
from asymptest.theory.steps import equate

HEAD, NORM = Attention(Softmax()), LayerNorm(affine=True)
BIAS = Dense(bias_variance=1)
BY_HAND: list[tuple[Network, int, Degree]] = [
    (Dense(), 0, Degree(1)),
    (Dense(), 3, Degree(4)),
    (BIAS, 0, Degree(1)),  # W x + v, both of degree 1
    (BIAS, 1, Degree(2, algebraic=1)),
    (Dense(0, 1), 5, Degree(1)),  # the bias alone
    (Mix([[1.0]]), 2, Degree(2)),
    (Attention(Uniform()), 1, Degree(3)),
    (Attention(Fixed([[1.0]])), 1, Degree(3)),
    (HEAD, 0, Degree(2, exponential=2)),  # logits W^Q W^K
    (HEAD, 1, Degree(3, exponential=4)),
    (Attention(Softmax("1/d", tied=True)), 1, Degree(3, exponential=4)),
    (Attention(Softmax(), value=BIAS), 1, Degree(3, algebraic=1, exponential=4)),
    (Attention(Softmax(), output=BIAS), 1, Degree(3, algebraic=2, exponential=4)),
    (RMSNorm(), 7, Degree(0)),
    (RMSNorm(affine=True), 7, Degree(1)),
    (NORM, 7, Degree(1)),  # gain and bias
    (LayerNorm(1e-5), 2, Degree(0, algebraic=4)),
    (LayerNorm(1e-5), 0, Degree(0)),  # nothing grows, nothing is left out
    (Pointwise(relu), 3, Degree(3)),
    (Pointwise(tanh), 3, Degree(0, exponential=3)),
    (Pointwise(tanh), 0, Degree(0)),
    (Pointwise(gelu), 2, Degree(2, exponential=2)),
    (Residual(Dense()), 1, Degree(2, algebraic=1)),
    (Residual(Dense(), skip=0), 1, Degree(2)),
    (Residual(Dense(), weight=0), 1, Degree(1)),
    (Mlp(relu), 1, Degree(3)),
    (Residual(HEAD >> NORM) * 3, 1, Degree(1, exponential=4)),
    (Residual(NORM >> HEAD) * 3, 1, Degree(3, algebraic=2, exponential=4)),
    ((Residual(HEAD) >> NORM) * 3, 1, Degree(1, algebraic=2, exponential=4)),
    ((HEAD >> Mlp(relu)) * 3, 1, Degree(13, exponential=4)),
]


@pytest.mark.parametrize(("network", "input", "expected"), BY_HAND)
def test_degrees_by_hand(network: Network, input: int, expected: Degree) -> None:
    assert degree(network, input) == expected
    assert saturate(network, input).degree == expected


@pytest.mark.parametrize(
    ("network", "limit"),
    [
        (
            Residual(HEAD) >> RMSNorm(1),
            "Residual(Attention(Saturated()), 0) >> RMSNorm()",
        ),
        (
            Residual(NORM >> HEAD) * 1,
            "Residual(LayerNorm(affine=True) >> Attention(Saturated()), 0)",
        ),
        (BIAS >> BIAS, "Dense() >> Dense()"),
        (Attention(Softmax("1/d", tied=True)), "Attention(Saturated('1/d', True))"),
        (Dense() >> Pointwise(tanh), "Dense() >> Pointwise(tanh_oo)"),
        (
            Residual(HEAD >> NORM) * 9,
            "Residual(Attention(Saturated()) >> LayerNorm(affine=True)) * 9",
        ),
    ],
)
def test_what_is_left(network: Network, limit: str) -> None:
    assert limit in repr(saturate(network).network)


def test_the_limit_of_a_limit_is_itself() -> None:
    """What is left has no corrections, so that nothing more can be left out."""
    deep = (Residual(NORM >> HEAD) >> Residual(NORM >> Mlp(gelu, hidden=BIAS))) * 2
    once = saturate(deep)
    again = saturate(once.network)
    assert again.network == once.network
    assert again.degree == Degree(once.degree.power)


def test_each_rule_used_has_a_step() -> None:
    found = saturate(Residual(NORM >> HEAD) >> Dense() >> Pointwise(tanh))
    names = [step.name for step in found.steps]
    assert names == ["Weights", "Softmax", "Softmax", "Norm", "Sum", "Activation tanh"]
    for text in (found.text(), found.latex(), found.mathml()):
        assert "tanh" in text
    assert "lim" in found.latex()
    assert "<math" in found.mathml()


def test_what_does_not_scale_is_refused() -> None:
    with pytest.raises(ArgumentError, match="input must be a degree >= 0; got -1"):
        degree(Dense(), -1)
    with pytest.raises(ArgumentError, match="input must be a degree >= 0; got -1"):
        saturate(Dense(), -1)
    custom = Custom("mine", lambda *_: equate(1, 1), lambda *_: None)
    with pytest.raises(UnsupportedError, match=r"Custom\('mine'\) does not say"):
        degree(custom)
