"""What only width 10^6 shows: how the kernel of a finite network strays from its limit.

Kernels are drawn from their exact law (numerics/sampling.py), so that width costs nothing.
(a) Attention on a normalised skip, without norms: the first position, which attends to itself
alone, has K_00 = a product of noncentral chi-squares, and its spread is known at every
depth and width; below, what is measured over that. (b) Spread is a function of depth/width
there; with a norm before each branch depth does not matter. (c) One softmax layer: logits are
random however wide the heads are, and only many heads make the kernel deterministic. No line
is fitted.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from scipy.special import polygamma, psi
from scipy.stats import poisson

from asymptest.numerics import sample_kernels
from asymptest.numerics.attention import attention_matrices
from asymptest.numerics.moments import residual_variance
from asymptest.paper_figures.measured import rms_interval
from asymptest.paper_figures.style import (
    BLACK,
    BLUE,
    COLUMN,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    VERMILION,
    save,
    style,
)
from asymptest.theory import Attention, Dense, Network, Residual, RMSNorm, Softmax

Kernel = Float[np.ndarray, "T T"]
Spread = Float[np.ndarray, "points 3"]  # standard deviation, ends of its 95 % interval

HALF = 0.5**0.5
VALUE = Dense(init="orthogonal")  # so that a branch is Gaussian, given its input
UNIFORM = Attention(mask="causal", value=VALUE)
FREE, NORMED = Residual(UNIFORM, HALF, HALF), Residual(RMSNorm() >> UNIFORM)
COLOURS = (BLUE, GREEN, VERMILION, PURPLE)  # by depth
HEADS = {1: BLACK, 10: ORANGE, "sqrt": BLUE}  # colours in (c)
NAMES = {1: "1 head", 10: "10 heads", "sqrt": r"$\sqrt{n}$ heads"}


@dataclass(frozen=True)
class Sizes:
    """What to draw.

    Args:
        widths: n; multiples of 10.
        depths: L.
        positions: T.
        samples: networks at each depth and width.
        logits: draws of random logits for the lines of (c).
        seed: of all of them.
    """

    widths: tuple[int, ...] = (10**2, 10**3, 10**4, 10**5, 10**6)
    depths: tuple[int, ...] = (1, 10, 100, 1000)
    positions: int = 4
    samples: int = 200
    logits: int = 100_000
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Measured:
    """Standard deviations of ln K_ii, by depth or heads and then by width.

    Args:
        free: of the first position, without norms.
        last: of the last position, without norms.
        normed: of the last position, with a norm before each branch.
        heads: of the last position behind one layer of softmax.
        spread: relative variance of (A K A^T)_ii over random logits.
    """

    free: dict[int, Spread]
    last: dict[int, Spread]
    normed: dict[int, Spread]
    heads: dict[int | str, Spread]
    spread: float


def draw(out: Path, report: Path | None = None, sizes: Sizes = Sizes()) -> list[Path]:
    """Write exact_law.pdf and .png; a report has nothing to show here."""
    data = measure(sizes)
    with style():
        return save(figure(data, sizes), out, "exact_law")


def measure(sizes: Sizes) -> Measured:
    """Draw kernels of all networks."""
    free: dict[int, Spread] = {}
    last: dict[int, Spread] = {}
    normed: dict[int, Spread] = {}
    for depth in sizes.depths:
        both = by_width(FREE * depth, sizes, depth)
        free[depth], last[depth] = both[:, 0], both[:, -1]
        normed[depth] = by_width(NORMED * depth, sizes, depth)[:, -1]
    heads = {h: by_width(softmax(h), sizes, 0)[:, -1] for h in HEADS}
    return Measured(free, last, normed, heads, logit_spread(sizes))


def input_kernel(T: int) -> Kernel:
    """Return a kernel whose positions are correlated with those near them."""
    position = np.arange(T)
    return np.exp(-abs(position[:, None] - position) / 4)


def softmax(heads: int | str) -> Attention:
    """Return the layer of (c)."""
    return Attention(Softmax(), "causal", heads, VALUE)  # pyright: ignore[reportArgumentType]


def by_width(
    network: Network, sizes: Sizes, depth: int
) -> Float[np.ndarray, "widths T 3"]:
    """Return the standard deviation of each ln K_ii and the ends of its interval."""
    K0 = input_kernel(sizes.positions)
    found = []
    for n in sizes.widths:
        rng = np.random.default_rng([sizes.seed, depth, n])
        K = sample_kernels(network, K0, n, sizes.samples, rng)
        logs = np.log(np.diagonal(K, axis1=1, axis2=2))
        squares = (logs - logs.mean(0)) ** 2 * len(logs) / (len(logs) - 1)
        found.append([rms_interval(column) for column in squares.T])
    return np.array(found)


def layer_variance(n: int) -> float:
    r"""Return Var ln(K_00' / K_00) for X -> (X + X W) / sqrt(2), exactly.

    2 n K_00' / K_00 is a noncentral chi-square of n degrees of freedom and noncentrality n: a
    chi-square of n + 2 J, J Poisson of mean n/2, whose logarithm has the mean psi(n/2 + J) up
    to a constant and the variance psi'(n/2 + J).
    """
    mean = n / 2
    J = np.arange(max(0.0, mean - 12 * mean**0.5 - 12), mean + 12 * mean**0.5 + 12) // 1
    p, m = poisson.pmf(J, mean), psi(n / 2 + J)
    return float(p @ polygamma(1, n / 2 + J) + p @ (m - p @ m) ** 2)


def growth() -> float:
    """Return n Var(K_00' / K_00) of the same layer, which is n Var ln to leading order."""
    one, n = np.eye(1), 10**6
    return n * residual_variance(FREE, "gaussian", one, one, n).item()


def normed_variance(
    depth: Float[np.ndarray, " depths"],
) -> Float[np.ndarray, " depths"]:
    """Return n Var ln K_00 to leading order with a norm before each branch.

    A branch then has the kernel 1 whatever K is, so that K_00 grows by 1 a layer, with the
    variance (4 K_00 + 2) / n: added up, 2 L (L + 2) / n, and (1 + L)^2 is the mean's square.
    """
    return 2 * depth * (depth + 2) / (1 + depth) ** 2


def logit_spread(sizes: Sizes) -> float:
    """Return the relative variance of (A K A^T)_ii at the last position, one wide head."""
    K = input_kernel(sizes.positions)
    rng = np.random.default_rng([sizes.seed, 1])
    stacks = attention_matrices(softmax(1), K, sizes.logits, rng)
    rows = np.concatenate([A[:, -1] for A in stacks])
    v = ((rows @ K) * rows).sum(-1)
    return float(v.var() / v.mean() ** 2)


def figure(data: Measured, sizes: Sizes) -> Figure:
    """Return the figure of `measure(sizes)`; call it inside `style()`."""
    fig = Figure(figsize=(COLUMN, 6.2), layout=ConstrainedLayoutEngine(hspace=0.02))
    panels = fig.subplots(4, 1, height_ratios=(3, 1.1, 3, 2.6))
    by_width, over_line, by_ratio, by_heads = panels
    for axes in (by_width, by_ratio, by_heads):
        axes.set(yscale="log", ylabel=r"deviation of $\ln K_{ii}$")
    for axes in panels:
        axes.set(xscale="log")
    _width_panels(by_width, over_line, data, sizes)
    _ratio_panel(by_ratio, data, sizes)
    _heads_panel(by_heads, data, sizes)
    return fig


def _width_panels(upper: Axes, lower: Axes, data: Measured, sizes: Sizes) -> None:
    n = np.array(sizes.widths, dtype=float)
    variance = np.array([layer_variance(width) for width in sizes.widths])
    lower.axhline(1, color=GREY, linewidth=0.8)
    for place, (depth, found) in enumerate(data.free.items()):
        colour, line = COLOURS[place], np.sqrt(depth * variance)
        upper.plot(n, line, "-", color=colour)
        _bars(upper, n, found, colour)
        beside = {"xytext": (6, 0), "textcoords": "offset points", "va": "center"}
        end = (n[-1], line[-1])
        upper.annotate(
            f"$L={depth}$", end, color=colour, annotation_clip=False, **beside
        )
        # Moved aside a little, so that the intervals of one width do not overlap.
        shift = 1.18 ** (place - (len(data.free) - 1) / 2)
        _bars(lower, n * shift, found / line[:, None], colour)
    upper.tick_params(axis="x", labelbottom=False)
    for axes in (upper, lower):
        axes.set_xlim(n.min() / 1.6, n.max() * 1.6)
    lower.set(xlabel="width $n$", ylabel="ratio")
    _title(upper, "a", r"no norms; lines: products of $\chi^2$, exact")


def _ratio_panel(axes: Axes, data: Measured, sizes: Sizes) -> None:
    n, L = (np.array(values, dtype=float) for values in (sizes.widths, sizes.depths))
    ends = np.array([L.min() / n.max(), L.max() / n.min()])
    axes.plot(ends, np.sqrt(growth() * ends), "-", color=GREY)
    for (depth, found), colour in zip(data.last.items(), COLOURS, strict=False):
        _bars(axes, depth / n, found, colour)
    square = {"color": BLACK, "mfc": "white", "mew": 0.7, "markersize": 2.8}
    for width, deviations in zip(
        n, zip(*data.normed.values(), strict=True), strict=True
    ):
        axes.plot(L / width, np.sqrt(normed_variance(L) / width), ":", color=GREY)
        axes.plot(L / width, [middle for middle, *_ in deviations], "s", **square)
    axes.plot([], [], "o", color=BLUE, mfc="white", label="no norms")
    axes.plot([], [], "s", **square, label="a norm before each branch")
    axes.legend(loc="upper left", handletextpad=0.2)
    axes.set_xlabel("depth / width, $L/n$")
    _title(axes, "b", "depth counts only without norms")


def _heads_panel(axes: Axes, data: Measured, sizes: Sizes) -> None:
    n = np.array(sizes.widths, dtype=float)
    every = np.geomspace(n.min(), n.max(), 100)
    for heads, found in data.heads.items():
        count = every**0.5 if heads == "sqrt" else float(heads)
        axes.plot(every, np.sqrt(2 / every + data.spread / count), color=HEADS[heads])
        _bars(axes, n, found, HEADS[heads])
        axes.plot([], [], "o", color=HEADS[heads], mfc="white", label=NAMES[heads])
    axes.legend(loc="lower left", handletextpad=0.2)
    axes.set_xlabel("width $n$")
    _title(axes, "c", r"one softmax layer; lines: $[2/n+c/H\,]^{1/2}$")


def _bars(
    axes: Axes, x: Float[np.ndarray, " points"], found: Spread, colour: str
) -> None:
    middle, low, high = found.T
    look = {"color": colour, "mfc": "white", "elinewidth": 0.8, "mew": 0.8}
    axes.errorbar(x, middle, [middle - low, high - middle], fmt="o", **look)


def _title(axes: Axes, letter: str, text: str) -> None:
    axes.set_title(rf"$\bf{{{letter}}}$  {text}", loc="left")
