"""Encodings of the position that queries and keys see, and values do not."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import sympy as sp

from asymptest.theory.arrays import Array, call
from asymptest.theory.errors import ArgumentError, ShapeError
from asymptest.theory.substitution import check_finite

DISTANCE = sp.Symbol("Delta", positive=True)
BASE, ANGLE = sp.symbols("base v", positive=True)
u = sp.Symbol("u", real=True)  # 2 m / d


@dataclass(frozen=True, repr=False)
class Additive:
    """Queries and keys are made of content X + E, with embeddings E of the given kernel.

    The entries of E are Gaussian, and new in each layer.

    Args:
        kernel: E E^T / n in the limit, T x T, positive semidefinite.
        content: the factor of X.
    """

    __repr__ = call

    kernel: Any
    content: float | sp.Expr = 1

    def __post_init__(self) -> None:
        kernel = Array.finite(self.kernel, "Additive.kernel")
        if len(kernel.shape) != 2 or kernel.shape[0] != kernel.shape[1]:
            raise ShapeError(
                f"Additive.kernel must have the shape (T, T); got {kernel.shape}"
            )
        object.__setattr__(self, "kernel", kernel)
        check_finite(self.content, "Additive.content")


@dataclass(frozen=True, repr=False)
class Rotary:
    """Rotate features 2 m and 2 m + 1 of queries and keys by base^(-2m/d) times the position.

    RoPE, Su et al., 2104.09864; which pairs of features rotate together is irrelevant.
    """

    __repr__ = call

    base: float = 10000.0

    def __post_init__(self) -> None:
        if not isinstance(self.base, int | float) or not 1 < self.base < float("inf"):
            raise ArgumentError(
                f"Rotary.base must be a finite number above 1; got {self.base!r}"
            )

    def frequency(self, share: Any) -> Any:
        """Return the angle from one position to the next at 2 m / d = `share`."""
        return self.base**-share

    def turn(self) -> sp.Expr:
        """Return r(Delta), the mean of cos(frequency Delta) over the features as d -> oo.

        It is even in Delta, and 1 at 0.

        >>> Rotary().turn().subs(DISTANCE, 1).evalf(5)
        0.97396
        """
        return _mean_cosine().subs(BASE, sp.sympify(self.base))


@cache
def _mean_cosine() -> Any:
    """Return the mean of cos(base^-u Delta) over 0 < u < 1, integrated over the angle."""
    mean: Any = sp.Integral(sp.cos(DISTANCE * BASE**-u), (u, 0, 1))
    return mean.transform(DISTANCE * BASE**-u, ANGLE).doit()


Position = Additive | Rotary


def check_position(position: Any, name: str) -> None:
    """Raise ArgumentError unless `position` is None or an encoding."""
    if position is not None and not isinstance(position, Position):
        raise ArgumentError(
            f"{name} must be Additive(kernel), Rotary() or None; got "
            f"{type(position).__name__}"
        )
