"""The variance of a module's weights: its initialiser's law, checked on the weights.

A description wants the variance that the entries were drawn with, not the one that they
happen to have: the second differs from run to run. So the law that the module's class
documents is used where the weights fit it. Where they do not, but still look like
independent entries of mean 0 and one variance, their mean square is used, with a warning.
Anything else is no initialisation, and no description.

How a fit is decided, for entries w of variance v, at a probability `RISK` of refusing a
Gaussian matrix that was drawn from the law (bounded or orthogonal entries spread less):

    |mean of w| and mean of w^2 over all, each row and each column: chi-squared tails,
        P(chi2_k / k - 1 >= 2 sqrt(x/k) + 2 x/k) <= exp(-x)
    largest singular value <= sqrt(v) (sqrt(rows) + sqrt(columns) + sqrt(2 x))

Source: Laurent and Massart (2000), lemma 1; Davidson and Szarek (2001), theorem II.13.
"""

import math
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from asymptest.theory.errors import UnsupportedError
from asymptest.theory.network import Dense

RISK = 1e-9
STEPS = 30  # of the power iteration: enough to see a direction that stands out


@dataclass(frozen=True)
class Law:
    """What an initialiser draws: its name, for readers, and the variance of an entry."""

    name: str
    variance: float


ZEROS = Law("zeros", 0.0)


def normal(deviation: float) -> Law:
    """Return N(0, deviation^2)."""
    return Law(f"N(0, {deviation:.4g}^2)", deviation**2)


def uniform(variance: float) -> Law:
    """Return the uniform law of a variance, on both sides of 0."""
    bound = math.sqrt(3 * variance)
    return Law(f"U(-{bound:.4g}, {bound:.4g})", variance)


def xavier_uniform(rows: int, columns: int) -> Law:
    """Return the law of nn.init.xavier_uniform_, of variance 2 / (rows + columns)."""
    return uniform(2 / (rows + columns))


def dense(
    weight: Tensor,
    bias: Tensor | None,
    name: str,
    laws: tuple[Law, ...],
    bias_laws: tuple[Law, ...] = (ZEROS,),
) -> Dense:
    """Return the description of X W^T + 1 v^T, for a weight W of shape (out, in).

    Args:
        weight: W, as nn.Linear holds it.
        bias: v, if there is one.
        name: of the weight, for messages.
        laws: what its entries may have been drawn from, the documented one first.
        bias_laws: the same for the bias.

    Raises:
        UnsupportedError: if either is at no initialisation.
    """
    variance = variance_of(weight, name, *laws) * weight.shape[1]
    if bias is None:
        return Dense(variance)
    shift = name.removesuffix("weight") + "bias"
    return Dense(variance, variance_of(bias, shift, *bias_laws))


def variance_of(weight: Tensor, name: str, *laws: Law) -> float:
    """Return the variance of a weight's entries: the first law's that fits, or the measured.

    Raises:
        UnsupportedError: if they are not independent entries of mean 0 and one variance.
    """
    entries = weight.detach()
    if entries.dtype != torch.float64:
        entries = entries.float()
    for law in laws:
        if misfit(entries, law.variance) is None:
            return law.variance
    measured = float(entries.square().mean(dtype=torch.float64))
    if (reason := misfit(entries, measured)) is not None:
        raise UnsupportedError(
            f"{name} is at no initialisation: {reason}; a description needs independent "
            f"entries of mean 0 and one variance, as before any training"
        )
    documented = " or ".join(law.name for law in laws)
    warnings.warn(
        f"{name} does not fit {documented}; the variance of its entries is taken as the "
        f"measured {measured:.4g}",
        stacklevel=2,
    )
    return measured


def misfit(entries: Tensor, variance: float) -> str | None:
    """Return what shows that entries are not independent with this variance, or None."""
    if variance == 0:
        return "it is not zero" if bool((entries != 0).any()) else None
    squares = entries.square() / variance
    count = entries.numel()
    mean = float(entries.mean(dtype=torch.float64)) / math.sqrt(variance)
    # Written so that nan fails, here and below.
    if not abs(mean) <= math.sqrt(2 * _tail(1) / count):
        return f"its mean is {mean:.3g} standard deviations"
    lines = [("it", squares.flatten()[None])]
    if entries.ndim == 2:
        lines += [("a row", squares), ("a column", squares.T)]
    for what, table in lines:
        ratio = table.mean(1, dtype=torch.float64)
        x, k = _tail(len(ratio)), table.shape[1]
        furthest = float((ratio - 1).abs().max())
        if not furthest <= 2 * math.sqrt(x / k) + 2 * x / k:
            worst = float(ratio[(ratio - 1).abs().argmax()])
            return f"the mean square of {what} is {worst:.3g} times {variance:.3g}"
    if entries.ndim == 2:
        edge = sum(math.sqrt(size) for size in entries.shape) + math.sqrt(2 * _tail(1))
        if not (found := _stretch(entries) / math.sqrt(variance)) <= edge:
            return f"one direction is stretched {found / edge:.3g} times too much"
    return None


def _tail(tests: int) -> float:
    """Return x, so that `tests` two-sided tests at exp(-x) each fail with `RISK` or less."""
    return math.log(2 * tests / RISK)


def _stretch(W: Tensor) -> float:
    """Return a lower bound of the largest singular value, by the power iteration."""
    generator = torch.Generator().manual_seed(
        0
    )  # any start will do, and this one replays
    start = torch.randn(W.shape[1], generator=generator, dtype=W.dtype)
    v = start.to(W.device)
    for _ in range(STEPS):
        v = W.T @ (W @ (v / v.norm()))
    return float((W @ (v / v.norm())).norm())
