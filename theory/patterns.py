"""Attention patterns: how the matrix A_h of each head is formed under the mask."""

from dataclasses import dataclass
from itertools import pairwise, starmap
from typing import Any, Literal

import sympy as sp

from asymptest.theory.activations import Activation, relu
from asymptest.theory.arrays import Array, call
from asymptest.theory.biases import ALiBi, Bias, RelativeBias, as_bias, bias_heads
from asymptest.theory.errors import ArgumentError, ShapeError, UnsupportedError
from asymptest.theory.positions import Additive, Position, Rotary, check_position
from asymptest.theory.spa import ShapedKernel, check_order, schedule
from asymptest.theory.substitution import check_finite, check_variance, expression

Scale = Literal["1/sqrt(d)", "1/d"]


@dataclass(frozen=True, repr=False)
class Uniform:
    """Equal weight on every visible position; what zero logits give."""

    __repr__ = call


@dataclass(frozen=True, repr=False)
class Fixed:
    """A given attention matrix: T x T for all heads, or H x T x T, one a head.

    The mask does not act on it: the matrix says itself what each position sees.
    """

    __repr__ = call

    A: Any

    def __post_init__(self) -> None:
        A = Array.finite(self.A, "Fixed.A")
        if len(A.shape) not in (2, 3) or A.shape[-1] != A.shape[-2]:
            raise ShapeError(
                f"Fixed.A must have the shape (T, T) or (heads, T, T); got {A.shape}"
            )
        object.__setattr__(self, "A", A)


@dataclass(frozen=True, repr=False)
class Scores:
    """The logits (X W^Q)(X W^K)^T times `scale`, d = width / heads, and what is added to them.

    Args:
        scale: "1/sqrt(d)": the logits stay Gaussian in the limit; "1/d": they become
            deterministic.
        tied: whether W^Q = W^K.
        variance: the product of the variances of W^Q and W^K (times width); if they are
            tied, the variance of that one matrix, so that the logits tend to variance * K.
        position: Additive or Rotary: an encoding that queries and keys see.
        bias: ALiBi, RelativeBias, or numbers (T, T) or (heads, T, T) added to the logits.
    """

    __repr__ = call

    scale: Scale = "1/sqrt(d)"
    tied: bool = False
    variance: float | sp.Expr = 1
    position: Position | None = None
    bias: Any = None

    def __post_init__(self) -> None:
        name = type(self).__name__
        check_position(self.position, f"{name}.position")
        object.__setattr__(self, "bias", as_bias(self.bias, f"{name}.bias"))
        if self.scale not in ("1/sqrt(d)", "1/d"):
            raise ArgumentError(
                f"{name}.scale must be '1/sqrt(d)' or '1/d'; got {self.scale!r}"
            )
        if self.tied and self.scale == "1/sqrt(d)":
            raise ArgumentError(
                f"{name}(tied=True) with scale '1/sqrt(d)' has no limit: its logits have "
                f"the mean sqrt(d) K; use scale='1/d', or tied=False"
            )
        check_variance(self.variance, f"{name}.variance")


@dataclass(frozen=True, repr=False)
class Softmax(Scores):
    """Softmax of the logits; before any bias is added, they are divided by `temperature`."""

    __repr__ = call

    temperature: float | sp.Expr = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        value = expression(self.temperature, "Softmax.temperature")
        check_finite(value, "Softmax.temperature")
        if value.is_positive is False:
            raise ArgumentError(
                f"Softmax.temperature must be positive; got {self.temperature}"
            )


@dataclass(frozen=True, repr=False)
class Saturated(Scores):
    """Softmax's limit for large logits: uniform over the visible maximal logits."""

    __repr__ = call

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.tied and self.scale == "1/d":
            raise ArgumentError(
                "Saturated(scale='1/d') untied has logits that vanish in the limit, so the "
                "maximum is decided by their fluctuation: use scale='1/sqrt(d)'"
            )


@dataclass(frozen=True, repr=False)
class Elementwise(Scores):
    """phi of the logits, 0 where the mask hides; rows do not sum to 1."""

    __repr__ = call

    phi: Activation = relu

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.phi, Activation):
            raise ArgumentError(
                f"Elementwise.phi must be an Activation; got {type(self.phi).__name__}"
            )


@dataclass(frozen=True, repr=False)
class Linear(Scores):
    """The logits themselves, 0 where the mask hides; rows do not sum to 1."""

    __repr__ = call

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bias is not None or isinstance(self.position, Rotary):
            given = self.position if self.bias is None else self.bias
            raise UnsupportedError(
                f"Linear's closed form knows no {type(given).__name__}: use "
                f"Elementwise(phi=identity), whose kernel is sampled"
            )


# The patterns that compute logits from the state.
Scored = Softmax | Saturated | Elementwise | Linear


@dataclass(frozen=True, repr=False)
class Shaped:
    """alpha I + beta A - gamma C: the attention A of `scores`, centred by its value C at X = 0.

    C is uniform over the visible positions, or the softmax of the bias. Where the logits vanish,
    A = C, so that with alpha = 1 and beta = gamma the layer mixes no positions at
    initialisation (Noci et al., 2306.17759; He and Hofmann, 2311.01906).
    """

    __repr__ = call

    scores: Softmax = Softmax()
    alpha: float | sp.Expr = 1
    beta: float | sp.Expr = 1
    gamma: float | sp.Expr = 1

    def __post_init__(self) -> None:
        if not isinstance(self.scores, Softmax):
            raise ArgumentError(
                f"Shaped.scores must be Softmax(...); got {type(self.scores).__name__}"
            )
        for name in ("alpha", "beta", "gamma"):
            check_finite(getattr(self, name), f"Shaped.{name}")


@dataclass(frozen=True, repr=False)
class Spa:
    """The shaped attention that carries one kernel to another, where logits vanish.

    A = L_after L_before^(-1) with Cholesky factors under a causal mask, else with symmetric
    square roots. It is D softmax(X W^Q (X W^K)' / sqrt(d) + log(A / D)), with D the sums of the
    rows of A; W^Q is 0 at initialisation and W^K has the variance 1.

    Args:
        before: UniformKernel, ExponentialKernel, or an array (T, T): the kernel that comes in.
        after: likewise, the kernel that goes out.
    """

    __repr__ = call

    before: Any
    after: Any

    def __post_init__(self) -> None:
        for name in ("before", "after"):
            given = getattr(self, name)
            if not isinstance(given, ShapedKernel):
                table = Array.finite(given, f"Spa.{name}")
                if len(table.shape) != 2 or table.shape[0] != table.shape[1]:
                    raise ShapeError(
                        f"Spa.{name} must be UniformKernel, ExponentialKernel or have the "
                        f"shape (T, T); got the shape {table.shape}"
                    )
                object.__setattr__(self, name, table)
        check_order(self.before, self.after)

    @staticmethod
    def schedule(last: ShapedKernel, depth: int) -> "tuple[Spa, ...]":
        """Return the patterns of `depth` layers that end with the kernel `last`.

        They start from independent tokens, and A_ii is the same in all layers; see
        theory/spa.py.

        >>> from asymptest.theory.spa import UniformKernel
        >>> Spa.schedule(UniformKernel(0.75), 2)
        (Spa(UniformKernel(0.0), UniformKernel(0.5)), Spa(UniformKernel(0.5), UniformKernel(0.75)))
        """
        return tuple(starmap(Spa, pairwise(schedule(last, depth))))


Pattern = Uniform | Fixed | Spa | Scored | Shaped

# Two logits this close, relative to the largest one, are equal but for rounding: equal
# tokens have equal logits, and the order of a sum must not decide who wins.
TIE = 1e-9


def scores_of(pattern: Pattern) -> Scored | None:
    """Return the pattern that computes logits, if there is one."""
    match pattern:
        case Uniform() | Fixed() | Spa():
            return None
        case Softmax() | Saturated() | Elementwise() | Linear():
            return pattern
        case Shaped(scores):
            return scores


def heads_differ(scores: Scored) -> bool:
    """Whether biases make the heads differ where their logits do not fluctuate."""
    bias: Bias | None = scores.bias
    match bias:
        case None:
            return False
        case Array():
            return len(bias.shape) == 3
        case ALiBi() | RelativeBias():
            return True


def pattern_positions(pattern: Pattern) -> set[int]:
    """Return the numbers of positions that a pattern's arrays are for."""
    scores = scores_of(pattern)
    tables = [pattern.A] if isinstance(pattern, Fixed) else []
    if isinstance(pattern, Spa):
        ends = (pattern.before, pattern.after)
        tables = [end for end in ends if isinstance(end, Array)]
    if scores is not None and isinstance(scores.bias, Array):
        tables.append(scores.bias)
    if scores is not None and isinstance(scores.position, Additive):
        tables.append(scores.position.kernel)
    return {table.shape[-1] for table in tables}


def pattern_heads(pattern: Pattern) -> int | None:
    """Return the number of heads that a pattern's arrays are for, or None."""
    if isinstance(pattern, Fixed):
        return pattern.A.shape[0] if len(pattern.A.shape) == 3 else None
    scores = scores_of(pattern)
    return None if scores is None else bias_heads(scores.bias)
