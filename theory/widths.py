"""Widths and heads as whole numbers, when a description is read at a given width."""

from fractions import Fraction
from math import isqrt

from asymptest.theory.errors import ShapeError
from asymptest.theory.network import Attention


def whole(width: Fraction | int) -> int:
    """Return a width as an integer, or raise ShapeError.

    >>> whole(Fraction(3, 2) * 4)
    6
    """
    if width != int(width):
        raise ShapeError(
            f"a layer would have {width} features; choose a width that makes this whole"
        )
    return int(width)


def number_of_heads(layer: Attention, width: int) -> int:
    """Return the heads at this width; "sqrt" is the largest divisor up to its root.

    Raises:
        ShapeError: if the width is not divisible by the heads.

    >>> number_of_heads(Attention(heads="sqrt"), 24)
    4
    """
    if layer.heads == "sqrt":
        return next(h for h in range(isqrt(width), 0, -1) if width % h == 0)
    if width % layer.heads:
        raise ShapeError(
            f"width = {width} is not divisible by heads = {layer.heads}; choose a multiple"
        )
    return layer.heads
