"""How saturated a model is: the cosine with its scaled self, and what its heads attend to.

The saturated network is the limit of f(x; cθ) for large c, every parameter multiplied by c.
In practice c = 1000, and where the limit has a positive degree only its direction is
finite, hence the cosine. Source: arXiv 2010.09697, Definition 1 and section 5.3.
"""

from copy import deepcopy
from typing import Literal

import torch
from jaxtyping import Int64
from torch import Tensor as Array

from asymptest.verify.training.models import LanguageModel

C = 1000.0
ATTENDED = 1e-5  # a position with less weight than this is not attended to
NEAR = 0.05  # see `kind_of_head`

Kind = Literal["argmax", "mean", "mixed"]


def scaled(model: LanguageModel, c: float) -> LanguageModel:
    """Return a copy in float64 with every parameter times c."""
    copy = deepcopy(model).double()
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.mul_(c)
    return copy


def similarity(
    model: LanguageModel, ids: Int64[Array, "batch T"], c: float = C, base: float = 1.0
) -> list[float]:
    """Return, by block, the mean over positions of cos(f_l(x; base θ), f_l(x; c θ))."""
    with torch.no_grad():
        soft, hard = scaled(model, base).states(ids), scaled(model, c).states(ids)
    return [
        float(torch.cosine_similarity(X, Y, dim=-1).mean())
        for X, Y in zip(soft, hard, strict=True)
    ]


def attended(
    model: LanguageModel, ids: Int64[Array, "batch T"], c: float = C
) -> list[list[float]]:
    """Return, by block and head, the mean number of positions attended to, at cθ.

    Under the causal mask a head that attends to one position has 1, and one that averages
    over all it sees (T + 1) / 2.
    """
    patterns = scaled(model, c).patterns(ids)
    return [(A > ATTENDED).sum(-1).double().mean((0, 2)).tolist() for A in patterns]


def kind_of_head(count: float, T: int) -> Kind:
    """Return the kind of a head that attends to `count` of T positions on average.

    Args:
        count: from 1 to (T + 1) / 2, as `attended` has it.
        T: number of positions.

    Returns:
        "argmax" or "mean" within a twentieth of the way between the two, else "mixed".

    >>> [kind_of_head(count, 64) for count in (1.0, 10.0, 32.5)]
    ['argmax', 'mixed', 'mean']
    """
    share = (count - 1) / ((T + 1) / 2 - 1)
    return "argmax" if share <= NEAR else "mean" if share >= 1 - NEAR else "mixed"
