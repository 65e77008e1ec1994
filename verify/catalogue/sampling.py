"""Claims about `sample_kernels`: kernels drawn without weights have the law of finite networks.

Derived here; Bartlett (1933) for the factor of a Wishart matrix.
"""

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from functools import partial

import numpy as np
import sympy as sp
from jaxtyping import Float

from asymptest.numerics.sampling import sample_kernels
from asymptest.numerics.wishart import bartlett
from asymptest.theory import relu
from asymptest.theory.network import (
    Attention,
    Dense,
    LayerNorm,
    Mlp,
    Network,
    Pointwise,
    Residual,
    RMSNorm,
)
from asymptest.theory.patterns import Softmax
from asymptest.verify.claim import Claim, Law, Rng, Source
from asymptest.verify.families import finite_kernels, kernels_of_size

Kernel = Float[np.ndarray, "T T"]
Kernels = Float[np.ndarray, "copies T T"]

WIDTH = 6  # narrow, so that what is of order 1/n shows
STATISTICS = ("K_00", "K_01", "tr K", "tr K^2", "det K")


def statistics(K: Kernels) -> Float[np.ndarray, "copies 5"]:
    """Return numbers of each kernel; what differs by rounding alone becomes equal."""
    T = K.shape[-1]
    diagonal = K[:, range(T), range(T)]
    each = (
        K[:, 0, 0],
        K[:, 0, 1],
        diagonal.sum(1),
        (K * K).sum((1, 2)),
        np.linalg.det(K),
    )
    # Steps of 1e-9 pi, so that no round number lies between two of them.
    return np.round(np.stack(each, axis=1) / (1e-9 * np.pi))


def in_torch(network: Network, K0: Kernel, copies: int, rng: Rng) -> np.ndarray:
    """Return the statistics of dense finite networks."""
    return statistics(finite_kernels(network, K0, WIDTH, copies, rng))


def drawn(network: Network, K0: Kernel, copies: int, rng: Rng) -> np.ndarray:
    """Return the statistics of kernels drawn without weights."""
    return statistics(sample_kernels(network, K0, WIDTH, copies, rng))


def law(network: Network, other: Network | None = None) -> Law:
    """Return the evidence for a network, or that another one has its law."""
    right = network if other is None else other
    return Law(
        partial(in_torch, network), partial(drawn, right), STATISTICS, coarseness=14
    )


# --- Wrong readings of X + X W, by hand ------------------------------------------------


def by_hand(
    K0: Kernel, copies: int, rng: Rng, freedom: int, cross: float
) -> np.ndarray:
    """Return the statistics of X + X W from the coordinates of its rows.

    Args:
        K0: kernel of X.
        copies: of W.
        rng: their generator.
        freedom: degrees of freedom of the columns beyond the axes of X; n - T is right.
        cross: factor of the columns along these axes; 1 is right.
    """
    R, T = np.linalg.cholesky(K0), len(K0)
    Z = rng.standard_normal((copies, T, T))
    beyond = R @ bartlett(rng, (copies,), T, freedom)
    Y = np.concatenate([WIDTH**0.5 * R + cross * R @ Z, beyond], axis=2)
    return statistics(Y @ Y.mT / WIDTH)


def residual_by_hand(freedom: int, cross: float = 1.0) -> Law:
    """Return the evidence that torch's X + X W has the law of `by_hand`."""
    right = partial(by_hand, freedom=freedom, cross=cross)
    return replace(law(Residual(Dense())), right=right)


HAAR = Dense(init="orthogonal")
NARROW = Fraction(1, 2)  # of the width: three hidden units fluctuate

RESIDUAL = Residual(Dense())
BIASES = Residual(Dense(0.5, 1)) * 2
ORTHOGONAL = Residual(HAAR, 0.5) * 2
NORMS = Residual(LayerNorm(4) >> Dense(0.1)) >> LayerNorm(4)
ATTENTION = Attention(Softmax(variance=16), "causal", heads=6)
HIDDEN = Mlp(relu, NARROW)
ENTRIES = Residual(Pointwise(relu) >> Dense(2)) * 4 >> Pointwise(relu)
# X Q with a fresh Haar matrix Q has the kernel of X, but other entries.
TURNED = Residual(HAAR >> Pointwise(relu) >> Dense(2)) * 4 >> HAAR >> Pointwise(relu)

MUTANTS: Mapping[str, Law] = {
    "all columns of W rotate": residual_by_hand(WIDTH, cross=0.0),
    "n degrees of freedom": residual_by_hand(WIDTH),
    "n - T - 1 degrees of freedom": residual_by_hand(WIDTH - 4),
    "biases left out": law(BIASES, Residual(Dense(0.5)) * 2),
    "Gaussian in place of Haar weights": law(ORTHOGONAL, Residual(Dense(), 0.5) * 2),
    "the feature mean stays": law(NORMS, NORMS.layers[0] >> RMSNorm(4)),
    "one head": law(ATTENTION, replace(ATTENTION, heads=1)),
    "hidden layer twice as wide": law(HIDDEN, Mlp(relu, 1)),
    "entries depend on the kernel alone": law(ENTRIES, TURNED),
}

_n, _T, _r = sp.symbols("n T r", integer=True, positive=True)
_S, _Z = sp.MatrixSymbol("S", _T, _r), sp.MatrixSymbol("Z", _T, _r)
_F, _L = sp.MatrixSymbol("F", _T, _T), sp.MatrixSymbol("L", _T, _T)
_a, _b = sp.symbols("alpha beta")
_along = _a * _S + _b * _F * _Z
_next = _along * _along.T + _b**2 * _F * _L * _L.T * _F.T

EXACT_LAW = Claim(
    name="sampling/exact-law",
    statement=(sp.Eq(_n * sp.MatrixSymbol("K'", _T, _T), _next, evaluate=False),),
    source=Source("derived from the finite network", "numerics/sampling.py"),
    instances=kernels_of_size(3),
    evidence=tuple(
        law(network)
        for network in (RESIDUAL, BIASES, ORTHOGONAL, NORMS, ATTENTION, HIDDEN, ENTRIES)
    ),
    mutants=MUTANTS,
    limits="Seven networks of width 6, five statistics of each; other layers are tested alike.",
)

CLAIMS = (EXACT_LAW,)
