"""Which rows are equal, proved from how they were made and not from their digits.

Balls never show that two numbers are equal. But a row that attends to one key alone is that
key's value, whatever the digits: rows are given the same kind where the same operations have
made them from the same numbers. Kinds are kept for each power of c, since rows that differ
below it are equal in that power; and for all powers together.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

Kind = tuple[int, ...]  # a number for each row; equal numbers mean equal rows


def kinds(keys: Sequence[Hashable]) -> Kind:
    """Return numbers that are equal where keys are."""
    first: dict[Hashable, int] = {}
    return tuple(first.setdefault(key, len(first)) for key in keys)


@dataclass(frozen=True)
class Kinds:
    """Proved equality of the rows of a series.

    Args:
        whole: rows of one kind are equal at every c.
        parts: power -> kinds of the coefficients; powers that are absent have equal ones.
    """

    whole: Kind
    parts: Mapping[int, Kind]

    def down_to(self, power: int) -> Kind:
        """Return the kinds of rows in all powers from `power` up."""
        above = [kind for k, kind in self.parts.items() if k >= power]
        both = (
            kinds(list(zip(*above, strict=True))) if above else (0,) * len(self.whole)
        )
        return both

    def shifted(self, power: int) -> "Kinds":
        """Return the kinds of the series times c^power."""
        return Kinds(self.whole, {k + power: kind for k, kind in self.parts.items()})

    def __add__(self, other: "Kinds") -> "Kinds":
        """Return the kinds of a sum of two series."""
        equal = (0,) * len(self.whole)
        powers = {*self.parts, *other.parts}
        pairs = {
            k: (self.parts.get(k, equal), other.parts.get(k, equal)) for k in powers
        }
        return Kinds(
            kinds(list(zip(self.whole, other.whole, strict=True))),
            {k: kinds(list(zip(*pair, strict=True))) for k, pair in pairs.items()},
        )

    def each(
        self, powers: Sequence[int], key: Callable[[int, int], Hashable]
    ) -> "Kinds":
        """Return the kinds of a series with these powers, rows being equal where keys are.

        Args:
            powers: of the new series.
            key: (power, row) -> what the coefficient depends on, or None if on too much.
        """
        rows = range(len(self.whole))
        found = {}
        for k in powers:
            keys = [key(k, i) for i in rows]
            found[k] = kinds(
                [
                    ("whole", self.whole[i]) if at is None else ("part", at)
                    for i, at in zip(rows, keys, strict=True)
                ]
            )
        return Kinds(self.whole, found)
