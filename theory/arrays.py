"""Constant arrays inside a network description: immutable, hashable, NumPy-free.

A description must be a value (frozen, comparable, a key of caches), and theory/ must not
import NumPy; so an array is kept as its shape and its float64 bytes. numerics/ reads it
back without a copy.
"""

from array import array
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from math import isfinite, prod
from typing import Any

from asymptest.theory.errors import ArgumentError, ShapeError


@dataclass(frozen=True, repr=False)
class Array:
    """A constant float64 array in C order; build it with `Array.of`."""

    shape: tuple[int, ...]
    data: bytes

    @staticmethod
    def of(values: Any, name: str = "array") -> "Array":
        """Return `values` as a constant array.

        Args:
            values: an `Array`, nested sequences, or anything with `tolist` (NumPy, torch
                and SymPy arrays have it); real numbers or booleans.
            name: what to call it in an error.

        Raises:
            ShapeError: if the rows differ in length or an entry is no real number.

        >>> Array.of([[1, 0], [0.5, 0.5]]).shape
        (2, 2)
        """
        if isinstance(values, Array):
            return values
        nested = values.tolist() if hasattr(values, "tolist") else values
        shape, flat = _flatten(nested, name)
        try:
            data = array("d", [float(value) for value in flat]).tobytes()
        except (TypeError, ValueError) as error:
            raise ShapeError(
                f"{name} must hold real numbers; converting its entries failed: {error}"
            ) from None
        return Array(shape, data)

    @staticmethod
    def finite(values: Any, name: str) -> "Array":
        """As `of`, for entries that must be finite.

        Raises:
            ShapeError: as `of`.
            ArgumentError: if an entry is infinite or not a number.
        """
        result = Array.of(values, name)
        for entry in array("d", result.data):
            if not isfinite(entry):
                raise ArgumentError(f"{name} must hold finite numbers; got {entry}")
        return result

    def tolist(self) -> list[Any]:
        """Return the entries as nested lists."""
        flat: list[Any] = array("d", self.data).tolist()
        for size in reversed(self.shape[1:]):
            flat = [flat[k : k + size] for k in range(0, len(flat), size)]
        return flat

    def __repr__(self) -> str:
        # An array of more than a few entries would bury the network around it.
        if prod(self.shape) <= 16:
            return repr(self.tolist())
        return f"<array {' x '.join(map(str, self.shape))}>"


def _flatten(nested: Any, name: str) -> tuple[tuple[int, ...], list[Any]]:
    if isinstance(nested, str):  # a sequence of strings, without end
        raise ShapeError(f"{name} must hold real numbers; got {nested!r}")
    if not isinstance(nested, Sequence):
        return (), [nested]
    parts = [_flatten(item, name) for item in nested]
    shapes = {shape for shape, _ in parts}
    if len(shapes) != 1:
        raise ShapeError(
            f"{name} must be rectangular and not empty; "
            f"its rows have the shapes {sorted(shapes)}"
        )
    return (len(nested), *shapes.pop()), [value for _, flat in parts for value in flat]


def call(self: Any) -> str:
    """Return a dataclass as the call that builds it, defaults left out: a `__repr__`."""
    shown: list[str] = []
    keyword = False
    for spec in fields(self):
        value = getattr(self, spec.name)
        if spec.default is not MISSING and value == spec.default:
            keyword = True  # a skipped argument: name those that follow
            continue
        shown.append(f"{spec.name}={value!r}" if keyword else repr(value))
    return f"{type(self).__name__}({', '.join(shown)})"
