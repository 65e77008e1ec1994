"""What large parameters leave: the angle between f(x; c theta) and its limit, against c.

Dots are torch in float64, with every parameter multiplied by c; lines are the limit F and its
first correction, evaluated exactly (numerics/leading.py): 1 - cos falls as c^-2p where a sum
leaves out the order p. Without such a sum only softmax differs from its argmax, and the
angle falls below rounding at once. Below, softmax itself: its distance from the argmax is
2 R / (m + R).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from asymptest.numerics import Leading, leading
from asymptest.paper_figures.style import (
    BLUE,
    COLUMN,
    GREEN,
    GREY,
    PURPLE,
    VERMILION,
    save,
    style,
)
from asymptest.theory import (
    Attention,
    Dense,
    LayerNorm,
    Mlp,
    Network,
    Residual,
    Softmax,
    degree,
    relu,
)
from asymptest.verify.finite import finite
from asymptest.verify.weights_of import load_weights, weights_of

HEAD, MLP, NORM = (
    Attention(Softmax(), mask="causal", heads=2),
    Mlp(relu, 2),
    LayerNorm(affine=True),
)
BIAS = Dense(bias_variance=1)
BIASED = Attention(Softmax(), mask="causal", heads=2, value=BIAS, output=BIAS)
BLOCKS: dict[str, tuple[Network, str]] = {
    "sublayer norm": (Residual(HEAD >> NORM) >> Residual(MLP >> NORM), GREEN),
    "sublayer norm, biases": (
        Residual(BIASED >> NORM) >> Residual(MLP >> NORM),
        PURPLE,
    ),
    "pre-LN": (Residual(NORM >> HEAD) >> Residual(NORM >> MLP), BLUE),
    "post-LN": (Residual(HEAD) >> NORM >> Residual(MLP) >> NORM, VERMILION),
}
FLOOR = 1e-16
Curve = Float[np.ndarray, " scales"]


@dataclass(frozen=True)
class Sizes:
    """What to show: blocks, width, positions, and the scales c = 2^0 ... 2^octaves."""

    blocks: int = 2
    width: int = 16
    positions: int = 10
    octaves: int = 10
    seed: int = 0

    @property
    def scales(self) -> Curve:
        """The factors of all parameters."""
        return 2.0 ** np.arange(0, self.octaves + 0.25, 0.5)


def draw(out: Path, report: Path | None = None, sizes: Sizes = Sizes()) -> list[Path]:
    """Write parameter_scale.pdf and .png; no claim's report is read."""
    del report
    with style():
        return save(figure(sizes), out, "parameter_scale")


def angles(network: Network, sizes: Sizes) -> tuple[Curve, Curve]:
    """Return 1 - cos of torch's f(x; c theta) with F, and the prediction, by c."""
    rng = np.random.default_rng(sizes.seed)
    module = finite(network, sizes.width, rng=rng)
    X = rng.normal(size=(sizes.positions, sizes.width))
    weights = weights_of(module)
    found = leading(network, weights, X)
    limit = found.floats()
    measured, predicted = [], []
    for c in sizes.scales:
        scaled = [{name: c * W for name, W in layer.items()} for layer in weights]
        load_weights(module, scaled)
        with torch.no_grad():
            output = module(torch.from_numpy(c * X))[0].numpy()
        measured.append(one_minus_cosine(output, limit))
        predicted.append(one_minus_cosine(first_two(found, float(c)), limit))
    return np.array(measured), np.array(predicted)


def first_two(found: Leading, c: float) -> Float[np.ndarray, "T n"]:
    """Return the limit and its first correction at c, over the leading power of c."""
    powers = [k for k in found.series.powers if k <= found.power][:2]
    parts = (
        np.vectorize(float, otypes=[float])(found.series.parts[k])
        * c ** (k - found.power)
        for k in powers
    )
    return np.sum(list(parts), axis=0)


def one_minus_cosine(X: Float[np.ndarray, "T n"], Y: Float[np.ndarray, "T n"]) -> float:
    """Return 1 - cos of rows, averaged over rows, without cancellation."""
    unit_x = X / np.linalg.norm(X, axis=1, keepdims=True)
    unit_y = Y / np.linalg.norm(Y, axis=1, keepdims=True)
    return float(np.mean(np.sum((unit_x - unit_y) ** 2, axis=1) / 2))


def softmax_distance(scores: Curve, scales: Curve) -> tuple[Curve, Curve]:
    """Return the l1 distance of softmax(c^2 z) from its argmax, and 2 R / (m + R)."""
    maximal = scores == scores.max()
    measured, exact = [], []
    for c in scales:
        logits = torch.from_numpy(c**2 * scores)
        soft = torch.softmax(logits, dim=0).numpy()
        measured.append(np.abs(soft - maximal / maximal.sum()).sum())
        R = np.exp(-(c**2) * (scores.max() - scores[~maximal])).sum()
        exact.append(2 * R / (maximal.sum() + R))
    return np.array(measured), np.array(exact)


def figure(sizes: Sizes) -> Figure:
    """Return the figure."""
    drawn = Figure(figsize=(COLUMN, 3.9), layout="constrained")
    upper, lower = drawn.subplots(2, 1, height_ratios=[1.7, 1])
    for name, (block, colour) in BLOCKS.items():
        network = block * sizes.blocks
        measured, predicted = angles(network, sizes)
        order = degree(network).algebraic
        rate = "" if order is None else rf", $c^{{-{2 * order}}}$"
        seen = measured > FLOOR
        upper.loglog(
            sizes.scales[seen], measured[seen], ".", color=colour, label=name + rate
        )
        shown = predicted > FLOOR
        upper.loglog(sizes.scales[shown], predicted[shown], "-", color=colour, lw=0.8)
    upper.set_ylabel(r"$1 - \cos(f(x; c\,\theta), F)$")
    upper.set_ylim(FLOOR, 3)
    upper.legend(loc="lower left", handlelength=0.8)
    _softmax(lower)
    return drawn


def _softmax(axes: Axes) -> None:
    scales = np.linspace(0.25, 4, 31)
    shown = (
        ([1.0, 0.0, -1.0], BLUE, "one maximum, gap 1"),
        ([1.0, 1.0, 0.0], GREEN, "two maxima, gap 1"),
        ([1.0, 0.5, 0.0], VERMILION, "one maximum, gap 1/2"),
    )
    for scores, colour, label in shown:
        measured, exact = softmax_distance(np.array(scores), scales)
        axes.semilogy(scales, measured, ".", color=colour, label=label, ms=2.5)
        axes.semilogy(scales, exact, "-", color=colour, lw=0.8)
    axes.axhline(FLOOR * 10, color=GREY, lw=0.5)
    axes.set_xlabel(r"scale $c$ of all parameters")
    axes.set_ylabel(r"$\|$softmax $-$ argmax$\|_1$")
    axes.set_ylim(1e-8, 3)
    axes.legend(loc="lower left", handlelength=0.8)
