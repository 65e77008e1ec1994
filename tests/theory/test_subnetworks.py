"""Readings of C-maps over subnetworks, against every subnetwork composed as a polynomial."""

from fractions import Fraction
from itertools import combinations
from typing import Any

import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from asymptest.theory import (
    Activation,
    ArgumentError,
    Attention,
    Chain,
    Custom,
    Dense,
    LayerNorm,
    Mix,
    Mlp,
    Network,
    Pointwise,
    Product,
    Repeat,
    Residual,
    RMSNorm,
    Uniform,
    UnsupportedError,
    identity,
    relu,
    tanh,
)
from asymptest.theory.subnetworks import (
    Reading,
    check_normalised,
    curvature_at_one,
    maximum,
    slope_at_one,
    through,
    value_at_zero,
)

c = sp.Symbol("c")
BEND = {tanh: sp.Rational(1, 3), relu: sp.Rational(3, 4)}
WEIGHTS = [
    (sp.Rational(a, h), sp.Rational(b, h)) for a, b, h in ((3, 4, 5), (12, 5, 13))
]
Run = tuple[Network, ...]


def bent(phi: Activation, at: Any) -> Any:
    """A C-map with C(1) = C'(1) = 1 and C''(1) = BEND, increasing on [0, 1]."""
    return at + BEND[phi] / 2 * (1 - at) ** 2


def steep(phi: Activation, at: Any) -> Any:
    """A C-map with C'(1) = 1 + BEND, increasing on [0, 1]."""
    return at - BEND[phi] * at * (1 - at)


def layers(network: Network) -> Run:
    match network:
        case Chain(parts):
            return tuple(layer for part in parts for layer in layers(part))
        case Repeat(block, depth):
            return layers(block) * depth
        case Mlp():
            return layers(network.layers)
        case _:
            return (network,)


def runs(network: Network) -> set[Run]:
    """Every run of layers of the network and of the branches in it."""
    flat = layers(network)
    found = {flat[i:k] for i, k in combinations(range(len(flat) + 1), 2)}
    for layer in flat:
        if isinstance(layer, Residual):
            found |= runs(layer.branch)
    return found


def composed(run: Run, c_map: Any, at: Any = c) -> Any:
    """The C-map of a run as a polynomial in c."""
    for layer in run:
        match layer:
            case Pointwise(phi):
                at = c_map(phi, at)
            case Residual(branch, skip, weight):
                inside = composed(layers(branch), c_map, at)
                at = skip**2 * at + weight**2 * inside
            case _:
                pass
        at = sp.expand(at)
    return at


def slope(C: Any) -> Any:
    return sp.diff(C, c).subs(c, 1)


phis = st.sampled_from((tanh, relu))


@st.composite
def networks(draw: Any, size: int = 4) -> Network:
    """At most `size` activations on a path, in chains, repeats and nested residuals."""
    if size == 1 or draw(st.booleans()):
        part: Network = Pointwise(draw(phis)) >> Dense()
        return part * draw(st.integers(1, size))
    copies = draw(st.integers(1, 2)) if size > 2 else 1
    inner = draw(networks(size // copies - (copies == 1)))
    if draw(st.booleans()):
        inner = Residual(inner >> Dense(), *draw(st.sampled_from(WEIGHTS)))
    if copies == 2:
        return inner * 2
    return inner >> Dense() >> Pointwise(draw(phis)) >> Dense()


@given(network=networks())
@settings(max_examples=40)
def test_the_largest_readings_are_those_of_some_subnetwork(network: Network) -> None:
    """Exact: every subnetwork is composed, and differentiated by SymPy."""
    curved = [composed(run, bent) for run in runs(network)]
    found = maximum(network, curvature_at_one(BEND.__getitem__))
    assert found == max(slope(sp.diff(C, c)) for C in curved)
    assert {slope(C) for C in curved} == {1}
    assert maximum(network, value_at_zero(bent)) == max(C.subs(c, 0) for C in curved)
    found = maximum(network, slope_at_one(lambda phi: 1 + BEND[phi]))
    assert found == max(slope(composed(run, steep)) for run in runs(network))


@given(network=networks(), start=st.sampled_from((0, sp.Rational(1, 7), 1)))
@settings(max_examples=30)
def test_a_value_goes_through_a_network_from_any_start(network: Network, start: Any):
    """The whole C-map, not only at 0, and not restarted inside."""
    whole = composed(layers(network), bent)
    assert through(network, value_at_zero(bent), start) == whole.subs(c, start)


def test_curvatures_compose_by_the_chain_rule():
    """(f o g)'' = f'' g'^2 + f' g'' at a fixed point 1: with slopes of 1 they add."""
    f2, f3, g2, g3 = sp.symbols("f2 f3 g2 g3")
    gap = c - 1
    f = 1 + gap + f2 * gap**2 / 2 + f3 * gap**3
    g = 1 + gap + g2 * gap**2 / 2 + g3 * gap**3
    second = sp.diff(f.subs(c, g), c, 2).subs(c, 1)
    add = curvature_at_one(lambda _: f2)
    assert sp.expand(second - add.act(tanh, g2)) == 0


@pytest.mark.parametrize(("per_block", "skip"), [(1, 0.9), (2, 0.8), (2, 0.98)])
def test_families_of_residual_blocks(per_block: int, skip: float):
    """L blocks W^2 x + (1 - W^2) r(x) or r(r(x)): the whole, or the branch alone."""
    branch = (Pointwise(tanh) >> Dense()) * per_block
    block = Residual(branch, skip=skip, weight=(1 - skip**2) ** 0.5)
    chi, W = 1.07, skip**2
    for L in (1, 2, 12):
        whole = (W + (1 - W) * chi**per_block) ** L
        found = maximum(block * L, slope_at_one(lambda _: chi))
        assert found == pytest.approx(max(whole, chi**per_block), rel=1e-14)
        curved = maximum(block * L, curvature_at_one(lambda _: 0.1))
        expected = per_block * 0.1 * max(1, L * (1 - W))
        assert curved == pytest.approx(expected, rel=1e-13)


def test_slopes_below_one_are_left_out_of_the_largest():
    """The identity is a subnetwork, and a run begins behind what shrinks."""
    shrink, grow = Pointwise(tanh), Pointwise(relu)
    values = {tanh: Fraction(1, 2), relu: Fraction(3, 2)}
    reading = slope_at_one(values.__getitem__)
    network = shrink >> Dense() >> grow >> Dense() >> grow >> Dense() >> shrink
    assert maximum(network, reading) == Fraction(9, 4)
    assert maximum(shrink >> Dense(), reading) == 1
    assert through(network, reading, 1) == Fraction(9, 16)


EYE = [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    "layer",
    [
        Dense(),
        Dense(init="orthogonal"),
        RMSNorm(),
        LayerNorm(affine=True),
        Mix(EYE),
        Attention(Uniform(), mask="causal", heads=2),
        Residual(Attention(), *WEIGHTS[0]),
    ],
)
def test_other_layers_do_not_change_a_correlation(layer: Network):
    """At one position, and at unit variances."""
    reading = value_at_zero(bent)
    assert through(layer, reading, sp.Rational(1, 3)) == sp.Rational(1, 3)
    network = layer >> Dense() >> Pointwise(tanh)
    assert maximum(network, reading) == BEND[tanh] / 2
    assert maximum(Mlp(tanh), reading) == BEND[tanh] / 2
    assert maximum(layer, Reading(0, lambda _, at: at + 1)) == 0


@pytest.mark.parametrize(
    ("network", "what"),
    [
        (Dense(2), "variance must be 1; got 2"),
        (Dense(bias_variance=0.1), "bias_variance must be 0; got 0.1"),
        (Mlp(tanh, output=Dense(0.5)), "variance must be 1"),
        (RMSNorm(1e-6), "eps must be 0; got 1e-06"),
        (LayerNorm(1e-5), "eps must be 0"),
        (Attention(value=Dense(2)), "variance must be 1"),
        (Attention(output=Dense(bias_variance=1)), "bias_variance must be 0"),
        (Residual(Dense()), r"skip\^2 \+ weight\^2 must be 1; got 2"),
        (Residual(Dense(3), skip=0.6, weight=0.8), "variance must be 1; got 3"),
        ((Dense() >> Dense(4)) * 3, "variance must be 1; got 4"),
        (Dense(sp.Symbol("s", positive=True)), "variance = s is a symbol"),
    ],
)
def test_a_layer_that_changes_the_variance_is_refused(network: Network, what: str):
    """C-maps at unit variance compose only if the variance stays 1."""
    with pytest.raises(ArgumentError, match=what):
        check_normalised(network)
    with pytest.raises(ArgumentError, match=what):
        maximum(network, slope_at_one(lambda _: 1))


def equation(K: Any, N: Any, *_: Any) -> Any:
    return sp.Eq(N, K)


@pytest.mark.parametrize(
    "network",
    [
        Product(Dense(), Dense() >> Pointwise(tanh)),
        Custom("mine", equation, lambda *_: None),
        Residual(Product(Dense(), Dense()), skip=0.6, weight=0.8),
    ],
)
def test_layers_without_a_c_map_are_refused(network: Network):
    """The message names the layer."""
    with pytest.raises(UnsupportedError, match=r"none of them: leave it out"):
        maximum(network, slope_at_one(lambda _: 1))


def test_rounding_of_the_weights_is_no_change_of_the_variance():
    """0.98^2 + sqrt(1 - 0.98^2)^2 is not 1 in floats."""
    skip = 0.98
    check_normalised(Residual(Dense(), skip=skip, weight=(1 - skip**2) ** 0.5))
    with pytest.raises(ArgumentError, match="skip"):
        check_normalised(Residual(Dense(), skip=skip, weight=0.2))


def test_the_identity_activation_is_an_activation():
    """Whatever the reading says of it counts."""
    network = (Pointwise(identity) >> Dense()) * 5
    assert maximum(network, curvature_at_one(lambda _: 2)) == 10
