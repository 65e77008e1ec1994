"""Matrices that are series in 1/c: sums of A_k c^k, known down to some power.

What a network's states are when its parameters are multiplied by c. Coefficients are NumPy
arrays of floats, rationals (`flint.fmpq`) or balls (`flint.arb`), by the arithmetic.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from asymptest.numerics.fields import product


@dataclass(frozen=True)
class Series:
    """sum of parts[k] c^k over k, and O(c^unknown) if that is not None.

    Args:
        parts: power -> coefficients, all of one shape; powers that are absent are zero.
        unknown: the largest power that is not known; None if all of them are.
        fast: whether something is left out that vanishes faster than any power. Where all
            coefficients are 0, it decides the sign.
    """

    parts: Mapping[int, Any]
    unknown: int | None = None
    fast: bool = False

    def __post_init__(self) -> None:
        if self.unknown is not None:
            kept = {k: part for k, part in self.parts.items() if k > self.unknown}
            object.__setattr__(self, "parts", kept)

    @property
    def powers(self) -> list[int]:
        """The powers with coefficients, falling."""
        return sorted(self.parts, reverse=True)

    @property
    def top(self) -> int | None:
        """The largest power there may be: None if the series is zero."""
        known = max(self.parts, default=None)
        return known if known is not None else self.unknown

    def map(self, function: Callable[[Any], Any]) -> "Series":
        """Apply a linear function to every coefficient."""
        parts = {k: function(part) for k, part in self.parts.items()}
        return Series(parts, self.unknown, self.fast)

    def shifted(self, power: int) -> "Series":
        """Multiply by c^power."""
        unknown = None if self.unknown is None else self.unknown + power
        parts = {k + power: part for k, part in self.parts.items()}
        return Series(parts, unknown, self.fast)

    def __add__(self, other: "Series") -> "Series":
        parts = dict(self.parts)
        for k, part in other.parts.items():
            parts[k] = parts[k] + part if k in parts else part
        unknown = _largest(self.unknown, other.unknown)
        return Series(parts, unknown, self.fast or other.fast)

    def __matmul__(self, other: "Series") -> "Series":
        return self.times(other, product)

    def __mul__(self, other: "Series") -> "Series":
        return self.times(other, lambda a, b: a * b)

    def times(self, other: "Series", by: Callable[[Any, Any], Any]) -> "Series":
        """Return the product for any bilinear product of coefficients."""
        unknown = _largest(
            _plus(self.unknown, other.top), _plus(other.unknown, self.top)
        )
        parts: dict[int, Any] = {}
        for i, first in self.parts.items():
            for j, second in other.parts.items():
                if unknown is None or i + j > unknown:
                    value = by(first, second)
                    parts[i + j] = parts[i + j] + value if i + j in parts else value
        return Series(parts, unknown, self.fast or other.fast)

    def above(self, power: int) -> "Series":
        """Forget everything from c^power down, if there is anything."""
        below = any(k <= power for k in self.parts)
        known = self.unknown is None or self.unknown < power
        return Series(self.parts, power if below and known else self.unknown, self.fast)


def power_series(coefficients: list[Any], u: Series, terms: int) -> Series:
    """Return sum of coefficients[n] u^n, for u of negative powers only, to c^-terms."""
    total = Series({0: coefficients[0]})
    power: Series | None = None
    for coefficient in coefficients[1 : terms + 1]:
        power = u if power is None else (power * u).above(-terms - 1)
        total = total + power.map(lambda part, by=coefficient: part * by)
    if u.top is None:
        return total
    return total + Series({}, -terms - 1)


def _largest(*powers: int | None) -> int | None:
    return max((k for k in powers if k is not None), default=None)


def _plus(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None else first + second
