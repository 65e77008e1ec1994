"""Networks of few features that show every layer, and how far two samples of kernels differ."""

from fractions import Fraction

import numpy as np

from asymptest.theory import (
    Additive,
    ALiBi,
    Attention,
    Blocks,
    Dense,
    Elementwise,
    Fixed,
    LayerNorm,
    Linear,
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
    Uniform,
    Window,
    gelu,
    identity,
    relu,
    sin,
    tanh,
)
from asymptest.verify.two_sample import deviation, distance

LEVEL = 1e-9  # false-alarm probability of all comparisons together
COMPARISONS = 2000  # more than are made
DRAWS = 8000

K3 = np.array([[1.0, 0.5, -0.3], [0.5, 2.0, 0.2], [-0.3, 0.2, 0.5]])
HAAR = Dense(init="orthogonal")
AVERAGE = [[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.2, 0.3, 0.5]]
BY_HEAD = np.array([np.eye(3), np.ones((3, 3)) / 3])
A3 = np.array(AVERAGE)
BIAS = np.arange(18.0).reshape(2, 3, 3) / 6

FIXED: dict[str, tuple[Network, int]] = {
    "dense": (Dense(2, 0.5), 3),
    "dense chain": (Dense(2, 0.5) * 3, 4),
    "one feature": (Dense(expansion=Fraction(1, 4)) >> Dense(2), 4),
    "orthogonal": (Dense(2, 0.5, "orthogonal") * 2, 4),
    "orthogonal up": (Dense(2, 0.5, "orthogonal", 2) >> Dense(2), 4),
    "orthogonal down": (
        Dense(2, 0.5, "orthogonal", Fraction(1, 2)) >> Dense(2, 0.5, "orthogonal", 2),
        4,
    ),
    "input's entries": (Pointwise(relu), 4),
    "entries behind a norm": (LayerNorm(1) >> Pointwise(gelu), 3),
    "entries behind orthogonal": (HAAR >> LayerNorm(0.1) >> Pointwise(tanh), 4),
    "mlp": (Mlp(relu, 2, Dense(2, 0.1), Dense(1, 0.3)), 4),
    "norms of features": (Mlp(relu, 1) >> RMSNorm() >> LayerNorm(0.1), 4),
    "odd features": (Dense() >> Pointwise(tanh) >> LayerNorm() >> Dense(), 4),
    "mix": (Mix(AVERAGE) >> Dense(), 4),
    "residual": (Residual(Dense(1, 0.5), 0.5, -1) * 2, 4),
    "residual of few features": (Residual(Dense(1, 0.5)) * 2, 3),
    "orthogonal residual": (Residual(Dense(1, 0.5, "orthogonal"), 0.5, -1) * 2, 4),
    "residual mix": (Residual(Mix(AVERAGE), 0.5, 2) >> Dense(), 4),
    "norm of a branch": (Residual(Dense() >> LayerNorm(0.1)) * 2 >> LayerNorm(), 5),
    "nested": (
        Residual(Dense() >> Residual(RMSNorm() >> Dense()) >> Mix(AVERAGE)) * 2,
        5,
    ),
    "wide inside": (Residual(Dense(expansion=2) >> RMSNorm() >> Dense(2)), 4),
    "entries of a skip": (
        Residual(Pointwise(sin) >> Dense(2)) * 8 >> Pointwise(sin),
        3,
    ),
    "entries of nested skips": (
        Residual(Dense() >> Residual(Pointwise(relu) >> Dense()) >> LayerNorm(0.1))
        >> Residual(Residual(Pointwise(tanh) >> Dense()) >> Dense())
        >> Pointwise(tanh),
        4,
    ),
    "entries, orthogonal weights": (
        Residual(LayerNorm(0.1) >> Pointwise(tanh) >> Dense(1, 0.2, "orthogonal")) * 2,
        4,
    ),
    "gated": (
        Residual(
            RMSNorm() >> Product(Dense(2, 0.1) >> Pointwise(relu), Dense()) >> HAAR
        ),
        4,
    ),
    "product in a skip": (
        Residual(Product(Dense() >> Pointwise(tanh), Dense(1, 0.5))) * 2
        >> LayerNorm(0.1),
        4,
    ),
    "product with the input": (Product(Pointwise(relu), Dense()) >> Dense(), 4),
    "products with norms": (
        Product(LayerNorm(0.1), HAAR) >> Product(Dense(), RMSNorm(0.1)),
        3,
    ),
    "nested products": (
        Product(
            Product(Residual(Dense()), HAAR),
            Attention(Softmax(), heads=2) >> RMSNorm(0.1) >> Pointwise(tanh),
        ),
        4,
    ),
    "product with features": (
        Dense() >> Pointwise(relu) >> Product(RMSNorm(0.1), Dense()),
        8,
    ),
    "features in a branch": (
        Residual(Dense() >> Pointwise(relu) >> Product(RMSNorm(0.1), Dense()), 0, 1),
        8,
    ),
    "product in a product": (
        Product(Dense() >> Pointwise(relu) >> Product(RMSNorm(0.1), Dense()), Dense()),
        6,
    ),
    "product of normed features": (
        Product(Dense() >> Pointwise(relu) >> RMSNorm(0.1), Dense()),
        6,
    ),
    "product with features of a skip": (
        Dense()
        >> Pointwise(relu)
        >> Residual(Dense(0.1))
        >> Residual(Product(RMSNorm(0.1), Dense(4)))
        >> Product(RMSNorm(0.1), Dense()),
        8,
    ),
    "uniform": (Attention(Uniform(), Window(2), 2, Dense(2, 0.5), Dense(1, 0.2)), 4),
    "fixed": (Attention(Fixed(AVERAGE), value=Dense(1, 0.5, "orthogonal")), 4),
    "fixed by head": (Attention(Fixed(BY_HEAD), "full", 2, Dense(1, 0.3)), 4),
    "orthogonal by head": (
        Attention(
            Fixed(BY_HEAD), "full", 2, Dense(1, 0.3, "orthogonal"), Dense(1, 0.2)
        ),
        4,
    ),
    "softmax": (Attention(Softmax(variance=4), "causal", 2, Dense(), HAAR), 4),
    "many heads": (Attention(Softmax(variance=4), heads="sqrt"), 4),
    "tied softmax": (Attention(Softmax("1/d", tied=True), "causal", 2), 4),
    "vanishing softmax": (Attention(Softmax("1/d"), Blocks((1, 2)), 2), 4),
    "saturated": (Attention(Saturated(), "causal", 2), 4),
    "linear": (Attention(Linear(), "causal", 2), 4),
    "elementwise": (Attention(Elementwise(phi=relu, bias=ALiBi()), heads=2), 4),
    "temperature": (Attention(Softmax(bias=BIAS, temperature=0.5), heads=2), 4),
    "random biases": (
        Attention(
            Softmax(variance=0.1, bias=RelativeBias(99, 8, 16, False)), "full", 4
        ),
        4,
    ),
    "shaped": (
        Attention(Shaped(Softmax(variance=4, bias=BIAS), 1, 0.7, 0.5), heads=2),
        4,
    ),
    "additive": (
        Attention(Elementwise(phi=identity, position=Additive(K3 + 1, content=3))),
        4,
    ),
    "rotary": (Attention(Softmax(variance=9, position=Rotary(4)), "causal", 2), 8),
    "tied rotary": (
        Residual(Attention(Elementwise("1/d", True, 1, Rotary(4), phi=identity))),
        4,
    ),
    "pre-norm block": (
        (
            Residual(LayerNorm() >> Attention(Softmax(), "causal", 2))
            >> Residual(LayerNorm() >> Mlp(relu, 2))
        )
        * 2
        >> LayerNorm(),
        4,
    ),
    "post-norm block": (
        Residual(Attention(Softmax(), "causal", 2))
        >> LayerNorm()
        >> Residual(Mlp(tanh, 2))
        >> LayerNorm(),
        4,
    ),
}


def statistics(K: np.ndarray) -> np.ndarray:
    """Return numbers of each kernel; what differs by rounding alone becomes equal."""
    with np.errstate(invalid="ignore"):  # nan counts as a value
        each = (
            K[:, 0, 0],
            K[:, 0, -1],
            np.trace(K, axis1=1, axis2=2),
            K.sum((1, 2)),
            (K * K).sum((1, 2)),
            np.linalg.det(K),
        )
    # Steps of 1e-9 pi, so that no round number lies between two of them.
    return np.round(np.array(each) / (1e-9 * np.pi))


def gap(left: np.ndarray, right: np.ndarray) -> float:
    """Return the largest distance of distribution functions, in units of what noise explains."""
    bound = 2 * deviation(LEVEL / COMPARISONS, len(left))
    pairs = zip(statistics(left), statistics(right), strict=True)
    return max(distance(a, b) for a, b in pairs) / bound
