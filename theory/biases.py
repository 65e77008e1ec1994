"""What is added to the logits of attention before the softmax, whatever the state is.

A bias depends on the positions i of the query and j of the key alone. Like masks, it is written
once, with operators that act on integers and on integer arrays alike.
"""

from dataclasses import dataclass
from math import ceil, log2
from typing import Any

from asymptest.theory.arrays import Array, call
from asymptest.theory.errors import ArgumentError, ShapeError


@dataclass(frozen=True, repr=False)
class ALiBi:
    """-slope |i - j|, with a slope for each head (Press et al., 2108.12409).

    Args:
        slopes: one a head; if None, the geometric sequence of the paper.
    """

    __repr__ = call

    slopes: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.slopes is not None:
            given = Array.finite(self.slopes, "ALiBi.slopes")
            if len(given.shape) != 1:
                raise ShapeError(
                    f"ALiBi.slopes must be numbers, one a head; got the shape {given.shape}"
                )
            object.__setattr__(self, "slopes", tuple(given.tolist()))

    def of(self, heads: int) -> tuple[float, ...]:
        """Return the slope of each head.

        For a number of heads that is no power of two, the odd members of the sequence for
        twice as many heads fill up, as in the authors' code.

        >>> ALiBi().of(4)
        (0.25, 0.0625, 0.015625, 0.00390625)
        """
        if self.slopes is not None:
            return self.slopes
        power = 1 << (heads.bit_length() - 1)
        first = [2 ** (-8 * (h + 1) / power) for h in range(power)]
        more = [2 ** (-8 * (h + 1) / (2 * power)) for h in range(0, 2 * power, 2)]
        return tuple(first + more[: heads - power])


@dataclass(frozen=True, repr=False)
class RelativeBias:
    """A number for each bucket of i - j, drawn from N(0, variance) in each head (T5, 1910.10683).

    Args:
        variance: of a number, at initialisation.
        buckets: their number.
        max_distance: from here on, all distances share a bucket.
        causal: whether only the past has buckets; else each side has half of them.
    """

    __repr__ = call

    variance: float = 1.0
    buckets: int = 32
    max_distance: int = 128
    causal: bool = True

    def __post_init__(self) -> None:
        for name in ("variance", "buckets", "max_distance"):
            kind = (int, float) if name == "variance" else int
            if not isinstance(getattr(self, name), kind):
                raise ArgumentError(
                    f"RelativeBias.{name} must be a number, whole unless it is the variance; "
                    f"got {getattr(self, name)!r}"
                )
        if not 0 <= self.variance < float("inf"):
            raise ArgumentError(
                f"RelativeBias.variance must be finite and >= 0; got {self.variance}"
            )
        sides = 1 if self.causal else 2
        if self.buckets % sides or self.buckets // sides < 2:
            raise ArgumentError(
                f"RelativeBias.buckets must be at least {2 * sides}, and even unless "
                f"causal; got {self.buckets}"
            )
        if self.max_distance <= self.buckets // sides // 2:
            raise ArgumentError(
                f"RelativeBias.max_distance must exceed the {self.buckets // sides // 2} "
                f"distances that have buckets of their own; got {self.max_distance}"
            )

    def bucket(self, i: Any, j: Any) -> Any:
        """Return the bucket of query i and key j, integers or integer arrays.

        Half of the buckets hold one distance each, the other half are equally wide in its
        logarithm.

        >>> [RelativeBias(buckets=8, max_distance=16).bucket(i, 0) for i in (0, 3, 5, 6, 99)]
        [0, 3, 4, 5, 7]
        """
        back = i - j
        if self.causal:
            return self._of_distance(back * (back > 0), self.buckets)
        half = self.buckets // 2
        return half * (back < 0) + self._of_distance(abs(back), half)

    def _of_distance(self, distance: Any, buckets: int) -> Any:
        single = buckets // 2
        ratio = log2(self.max_distance / single) / (buckets - single)
        # The first whole number past single * 2^(k ratio), rounding apart.
        starts = (
            ceil(single * 2 ** (k * ratio) - 1e-9) for k in range(1, buckets - single)
        )
        wide = sum(((distance >= start) * 1 for start in starts), distance * 0)
        few = distance >= single
        return distance * (1 - few * 1) + (single + wide) * few


Bias = Array | ALiBi | RelativeBias


def as_bias(bias: Any, name: str) -> Bias | None:
    """Return `bias` as a bias; T x T numbers, or heads x T x T, become an `Array`.

    Raises:
        ArgumentError: if a number is not finite.
        ShapeError: for an array of another shape.
    """
    if bias is None or isinstance(bias, ALiBi | RelativeBias):
        return bias
    table = Array.finite(bias, name)
    if len(table.shape) not in (2, 3) or table.shape[-1] != table.shape[-2]:
        raise ShapeError(
            f"{name} must be ALiBi(), RelativeBias(...), or numbers of the shape (T, T) or "
            f"(heads, T, T); got {table.shape}"
        )
    return table


def bias_heads(bias: Bias | None) -> int | None:
    """Return the number of heads that a bias fixes, or None if it fits any."""
    match bias:
        case Array() if len(bias.shape) == 3:
            return bias.shape[0]
        case ALiBi(slopes) if slopes is not None:
            return len(slopes)
        case _:
            return None
