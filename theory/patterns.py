"""Attention patterns: how the matrix A_h of each head is formed under the mask."""

from dataclasses import dataclass
from typing import Any, Literal

import sympy as sp

from asymptest.theory.arrays import Array, call
from asymptest.theory.errors import ArgumentError, ShapeError
from asymptest.theory.substitution import expression

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
class Softmax:
    """Softmax of the logits (X W^Q)(X W^K)^T times `scale`, d = width / heads.

    Args:
        scale: "1/sqrt(d)": the logits stay Gaussian in the limit; "1/d": they become
            deterministic.
        tied: whether W^Q = W^K.
        variance: the product of the variances of W^Q and W^K (times width); if they are
            tied, the variance of that one matrix, so that A = softmax(variance * K).
    """

    __repr__ = call

    scale: Scale = "1/sqrt(d)"
    tied: bool = False
    variance: float | sp.Expr = 1

    def __post_init__(self) -> None:
        check_scores(self)


@dataclass(frozen=True, repr=False)
class Saturated:
    """Softmax's limit for large logits: uniform over the visible maximal logits."""

    __repr__ = call

    scale: Scale = "1/sqrt(d)"
    tied: bool = False
    variance: float | sp.Expr = 1

    def __post_init__(self) -> None:
        check_scores(self)


@dataclass(frozen=True, repr=False)
class Linear:
    """The logits themselves, 0 where the mask hides; rows do not sum to 1."""

    __repr__ = call

    scale: Scale = "1/sqrt(d)"
    tied: bool = False
    variance: float | sp.Expr = 1

    def __post_init__(self) -> None:
        check_scores(self)


# The patterns that compute logits from the state.
Scored = Softmax | Saturated | Linear
Pattern = Uniform | Fixed | Scored

# Two logits this close, relative to the largest one, are equal but for rounding: equal
# tokens have equal logits, and the order of a sum must not decide who wins.
TIE = 1e-9


def check_scores(pattern: Scored) -> None:
    """Raise ArgumentError unless `pattern` has a limit that the readings know."""
    name = type(pattern).__name__
    if pattern.scale not in ("1/sqrt(d)", "1/d"):
        raise ArgumentError(
            f"{name}.scale must be '1/sqrt(d)' or '1/d'; got {pattern.scale!r}"
        )
    if pattern.tied and pattern.scale == "1/sqrt(d)":
        raise ArgumentError(
            f"{name}(tied=True) with scale '1/sqrt(d)' has no limit: its logits have "
            f"the mean sqrt(d) K; use scale='1/d', or tied=False"
        )
    if isinstance(pattern, Saturated) and not pattern.tied and pattern.scale == "1/d":
        raise ArgumentError(
            "Saturated(scale='1/d') untied has logits that vanish in the limit, so the "
            "maximum is decided by their fluctuation: use scale='1/sqrt(d)'"
        )
    check_variance(pattern.variance, f"{name}.variance")


def check_finite(value: float | sp.Expr, name: str) -> None:
    """Raise ArgumentError unless `value` is a finite real number or a symbol."""
    number = expression(value, name)
    if number.is_number and not (number.is_finite and number.is_real):
        raise ArgumentError(f"{name} must be a finite real number; got {value}")


def check_variance(value: float | sp.Expr, name: str) -> None:
    """Raise ArgumentError unless `value` is a number >= 0 or a symbol."""
    number = expression(value, name)
    if number.is_number and not (number.is_finite and number.is_nonnegative):
        raise ArgumentError(f"{name} must be finite and >= 0; got {value}")
