"""Random architectures: the mean kernel of finite networks tends to `kernel`.

The decisions are those of verify/: the region of the mean, extrapolated over three widths,
excludes the prediction (REFUTED), confirms it within the resolution (SUPPORTED), or the
budget ends. REFUTED must never happen. Every decision has a probability below
LEVEL / DECISIONS to be wrong, so that this file raises a false alarm less than once in 1e9
runs, and each one must also refute a kernel that is half as large again.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from asymptest.numerics.kernel import kernel, kernel_with_error
from asymptest.theory import (
    Additive,
    ALiBi,
    Attention,
    Blocks,
    Dense,
    Elementwise,
    ExponentialKernel,
    Fixed,
    LayerNorm,
    Mix,
    Mlp,
    Network,
    Pointwise,
    Product,
    RelativeBias,
    Residual,
    RMSNorm,
    Rotary,
    Saturated,
    Shaped,
    Softmax,
    Spa,
    Uniform,
    Window,
    gelu,
    relu,
    sigmoid,
    tanh,
)
from asymptest.theory.patterns import Pattern
from asymptest.verify.claim import Finding, Profile
from asymptest.verify.decision import Decision, decide
from asymptest.verify.design import Design, extrapolation
from asymptest.verify.families import (
    finite_kernels,
    kernel_limit,
    kernels_of_size,
    natural_scale,
    upper,
)
from asymptest.verify.instances import derive
from asymptest.verify.stochastic import decide_limits, single_thread
from asymptest.verify.strategies import DOUBLING, networks

# beartype checks a random item of each tuple that a strategy builds.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")

LEVEL = 1e-9  # false-alarm probability of the whole file
DECISIONS = 100  # more than are made
EXAMPLES = 10

WIDTHS = (8, 24, 72)  # far apart, so that extrapolation adds little noise
# What the extrapolation leaves, in units of sqrt(K_ii K_jj): the first term is
# a_3 / (8 * 24 * 72) = 7e-5 a_3. It grows with depth, with eighth moments of Gaussians, and
# by 8 where two heads share the width; this declares a_3 below 400.
BIAS = 0.03
RESOLUTION = 0.1
SPREAD = 2.0  # sqrt(n) * standard deviation; a Dense layer has sqrt(1 + rho^2) of it

K3 = np.array([[1.0, 0.5, -0.3], [0.5, 2.0, 0.2], [-0.3, 0.2, 0.5]])


def decide_kernel(
    network: Network, K0: np.ndarray, coarseness: float = 1.0
) -> dict[str, Finding]:
    """Decide on the kernel, and on one that is half as large again."""
    own = kernel_limit(
        lambda _: network, lambda _: K0, WIDTHS, SPREAD, BIAS, coarseness
    )
    wrong = replace(own, predict=lambda i: 1.5 * own.predict(i))
    seed = derive(0, network, K0)
    profile = Profile("tests", examples=1, instances=1, resolution=RESOLUTION)
    parts: dict[str, Any] = {"kernel": own, "half as large again": wrong}
    with single_thread():
        return decide_limits(st.just(None), parts, profile, seed, LEVEL / DECISIONS)


FIXED: dict[str, Network] = {
    "dense": Dense(2, 0.5),
    "orthogonal dense": Dense(2, 0.5, "orthogonal"),
    "wide dense": Dense(expansion=2) >> Dense(2),
    "orthogonal up and down": Dense(init="orthogonal", expansion=2)
    >> Dense(2, init="orthogonal"),
    "pointwise": Pointwise(gelu) >> Dense(),
    "pointwise on the input": Pointwise(relu),
    "mlp": Mlp(tanh, 2, Dense(2, 0.1), Dense(1, 0.2)),
    "rms norm": Dense(2) >> RMSNorm(0.1) >> Pointwise(relu),
    "layer norm": Dense(2) >> LayerNorm() >> Pointwise(relu),
    "mix": Mix([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.2, 0.3, 0.5]]) >> Dense(),
    "uniform": Attention(Uniform(), Window(2), 2, Dense(2, 0.5), Dense(1, 0.25)),
    "fixed": Attention(Fixed(np.tril(np.ones((3, 3))) / [[1], [2], [3]]), heads=2),
    "fixed by head": Attention(
        Fixed(np.array([np.eye(3), np.ones((3, 3)) / 3])), heads=2
    ),
    "deterministic softmax": Attention(Softmax("1/d", tied=True), "causal", 2),
    "vanishing softmax": Attention(Softmax("1/d"), Blocks((1, 2)), 2),
    "saturated": Attention(Saturated("1/d", tied=True, variance=4), "causal"),
    "rotary": Attention(Softmax("1/d", True, 2, Rotary(1.01)), "causal", 2),
    "additive": Attention(Softmax("1/d", True, 1, Additive(np.eye(3), 2)), "full", 2),
    "alibi": Attention(Softmax("1/d", True, bias=ALiBi()), "causal", 2),
    "relative bias": Attention(Softmax("1/d", bias=RelativeBias(1, 4, 3)), "causal", 2),
    "shaped": Attention(Shaped(Softmax("1/d", True, 2), 1, 0.5, 0.5), Window(2), 2),
    "elementwise": Attention(Elementwise("1/d", True, 2, phi=sigmoid), "causal", 2),
    "spa": Attention(Spa(ExponentialKernel(2), ExponentialKernel(0.5)), "causal", 2),
    "gated": Product(Dense() >> Pointwise(relu), Dense(0.5, 0.5)) >> RMSNorm(0.1),
    "residual": Residual(Mlp(relu, 2), 0.5, -1),
    "residual mix": Residual(Mix(np.ones((3, 3)) / 3), 1, -0.5) >> Dense(),
    "repeat": Residual(RMSNorm() >> Mlp(relu, 1)) * 2,
    "custom": Dense() >> DOUBLING >> Dense(0.5),
    "transformer block": Residual(
        RMSNorm() >> Attention(Softmax("1/d", True), "causal")
    )
    >> Residual(RMSNorm() >> Mlp(relu, 2)),
}


@pytest.mark.parametrize("which", FIXED)
def test_every_node_and_pattern(which: str) -> None:
    # Far from ties: the saturated kernel jumps there, and no series in 1/n describes it.
    K0 = 2 * np.eye(3) + 0.1 * K3 if which == "saturated" else K3
    found = decide_kernel(FIXED[which], K0)
    assert found["kernel"].verdict == "SUPPORTED", found["kernel"]
    assert found["half as large again"].verdict == "REFUTED"
    assert found["kernel"].comparisons > 0


@settings(
    max_examples=EXAMPLES,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.nested_given],  # decide_limits draws with find
)
@given(data=st.data())
def test_random_networks_are_never_refuted(data: st.DataObject) -> None:
    T = data.draw(st.integers(1, 4))
    # Left out: random logits, whose expansion is another one (below), and saturation,
    # whose kernel jumps where two logits tie.
    network = data.draw(
        networks(T, max_depth=3, tame=True, sampled=False, saturated=False)
    )
    K0 = data.draw(kernels_of_size(T))
    found = decide_kernel(network, K0, coarseness=1.5)
    assert found["kernel"].verdict != "REFUTED", found["kernel"]
    assert found["half as large again"].verdict != "SUPPORTED"


# Random logits. With one head of dimension d = n the kernel stays random, but its *mean* is
# the mean over the limit law of the logits up to a series in 1/d: the widths above serve.
# With heads = sqrt(n) of dimension d = sqrt(n), the same series in 1/d is one in 1/sqrt(n):
# extrapolation must go over d. (The number of heads does not enter the mean of one layer.)

STAIRS = np.diag([3.0, 3.0], k=-1)
OPPOSITE = 4 * np.array([[1, -0.9, 0.9], [-0.9, 1, -0.9], [0.9, -0.9, 1]])

# Each beside what it would be without the feature in its name.
SAMPLED: dict[str, tuple[Pattern, Pattern]] = {
    "softmax": (Softmax(variance=2), Uniform()),
    "saturated softmax": (Saturated(), Uniform()),
    "temperature": (Softmax(temperature=0.3), Softmax()),
    "rotary": (Softmax(variance=8, position=Rotary(1.01)), Softmax(variance=8)),
    "additive": (Softmax(variance=2, position=Additive(OPPOSITE)), Softmax(variance=2)),
    "alibi": (Softmax(bias=ALiBi((1.5,))), Softmax()),
    "bias": (Softmax(bias=STAIRS), Softmax()),
    "relative bias": (Softmax(bias=RelativeBias(9.0, 4, 3)), Softmax()),
    "shaped": (Shaped(Softmax(variance=4)), Shaped(Softmax(variance=4), gamma=0)),
    "elementwise": (Elementwise(phi=sigmoid), Softmax()),
}


def judge(
    network: Network,
    other: Network,
    widths: tuple[int, ...],
    sizes: tuple[int, ...],
    bias: float,
) -> Decision:
    """Decide on the mean kernel, extrapolated in 1/size over the widths, and on another's."""
    weights = extrapolation(sizes)
    predicted, error = kernel_with_error(network, K3, samples=2**18)
    scale = natural_scale(predicted)
    # The sampled prediction is off by at most 7 standard errors, within the bias.
    assert (7 * error <= bias / 2 * scale).all()
    rng = np.random.default_rng(0)

    def draw(count: int) -> np.ndarray:
        each = [upper(finite_kernels(network, K3, n, count, rng)) for n in widths]
        return np.tensordot(weights, each, axes=1)

    design = Design(
        alpha=LEVEL / DECISIONS,
        miss=1e-3,
        resolution=0.2,
        noise=1.0,
        entries=6,
        bias=bias,
    )
    predictions = {
        "kernel": upper(predicted),
        "other": upper(kernel(other, K3)),
    }
    with single_thread():
        return decide(draw, predictions, upper(scale), design)


@pytest.mark.parametrize("which", SAMPLED)
def test_random_logits_with_one_head(which: str) -> None:
    one, two = (Attention(pattern) for pattern in SAMPLED[which])
    decision = judge(one, two, (16, 32), (16, 32), bias=0.05)
    assert decision.outcomes["kernel"].status == "SUPPORTED"
    assert decision.outcomes["other"].status == "REFUTED"


def test_random_logits_with_many_heads() -> None:
    many = Attention(Softmax(variance=0.5), "causal", heads="sqrt")
    # Two sizes leave a_2 / (4 * 16) = 0.016 a_2: a larger declared bias.
    uniform = Attention(Uniform(), "causal")
    decision = judge(many, uniform, (16, 256), (4, 16), bias=0.08)
    assert decision.outcomes["kernel"].status == "SUPPORTED"
