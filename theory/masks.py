"""Attention masks: which positions j a position i may attend to.

One predicate, `visible`, written with operators that act on integers and on integer
arrays alike, so that every reading gets its mask from here.
"""

from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

from asymptest.theory.arrays import Array, call
from asymptest.theory.errors import ArgumentError, ShapeError


@dataclass(frozen=True, repr=False)
class Window:
    """Position i sees the `size` positions that end at i; both sides if not causal."""

    __repr__ = call

    size: int
    causal: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) or self.size < 1:
            raise ArgumentError(
                f"Window.size must be a whole number, at least 1, so that a position sees itself; "
                f"got {self.size}"
            )


@dataclass(frozen=True, repr=False)
class Blocks:
    """Several sequences, laid end to end, that do not see each other."""

    __repr__ = call

    lengths: tuple[int, ...]
    causal: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "lengths", tuple(self.lengths))
        if not self.lengths or min(self.lengths) < 1:
            raise ArgumentError(
                f"Blocks.lengths must be positive lengths; got {self.lengths}"
            )


@dataclass(frozen=True, repr=False)
class Padding:
    """Positions from `length` on are padding: no position attends to them."""

    __repr__ = call

    length: int
    causal: bool = False

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ArgumentError(
                f"Padding.length must leave at least one position; got {self.length}"
            )


Mask = Literal["full", "causal"] | Window | Blocks | Padding | Array


def as_mask(mask: Any) -> Mask:
    """Return `mask` as a mask; a boolean T x T array becomes an `Array`.

    Raises:
        ArgumentError: for a name that is no mask.
        ShapeError: for an array that is not square, or with a row that sees nothing.
    """
    if isinstance(mask, Window | Blocks | Padding):
        return mask
    if isinstance(mask, str):
        if mask in ("full", "causal"):
            return mask
        raise ArgumentError(
            f"mask must be 'full', 'causal', Window, Blocks, Padding or a boolean "
            f"T x T array; got {mask!r}"
        )
    table = Array.of(mask, "mask")
    if len(table.shape) != 2 or table.shape[0] != table.shape[1]:
        raise ShapeError(f"mask must be a T x T array; got the shape {table.shape}")
    for i, row in enumerate(table.tolist()):
        if not set(row) <= {0.0, 1.0}:
            raise ArgumentError(f"mask must be boolean; its row {i} is {row}")
        if not any(row):
            raise ArgumentError(
                f"mask hides every position from position {i}, so its attention is "
                f"undefined; let it see at least itself"
            )
    return table


def positions(mask: Mask) -> int | None:
    """Return the number of positions that the mask fixes, or None if it fits any."""
    match mask:
        case Blocks():
            return sum(mask.lengths)
        case Array():
            return mask.shape[0]
        case _:
            return None


def visible(mask: Mask, i: Any, j: Any) -> Any:
    """Return whether position i may attend to position j (both from 0).

    Args:
        mask: the mask.
        i: query position, an integer or an integer array.
        j: key position, likewise; the two broadcast.

    >>> [[visible(Window(2), i, j) for j in range(3)] for i in range(3)]
    [[True, False, False], [True, True, False], [False, True, True]]
    """
    match mask:
        case "full":
            return (i >= 0) & (j >= 0)
        case "causal":
            return j <= i
        case Window(size, causal):
            near = (i - j < size) & (j - i < size)
            return near & (j <= i) if causal else near
        case Blocks(lengths, causal):
            starts = tuple(accumulate(lengths))[:-1]
            # The number of block starts passed is the number of the block.
            same = sum(((i >= s) * 1 for s in starts), i * 0) == sum(
                ((j >= s) * 1 for s in starts), j * 0
            )
            return same & (j <= i) if causal else same
        case Padding(length, causal):
            return (j < length) & (j <= i) if causal else (j < length) & (i >= 0)
        case Array():
            raise ShapeError("an explicit mask is its own table of visible positions")
