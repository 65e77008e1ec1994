"""Functions of one variable as holomorphic branches between kinks, in ball arithmetic."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import pairwise
from typing import Any

import sympy as sp
from flint import acb, arb, ctx

from asymptest.numerics.balls import HOLOMORPHIC, REAL, compiled, hull
from asymptest.numerics.growth import Growth, either, growth
from asymptest.theory.errors import ArgumentError
from asymptest.theory.piecewise import intervals, with_steps, x

TILES = 8
T = sp.Symbol("t", positive=True)  # |x|


@dataclass(frozen=True)
class Branch:
    """A function that is holomorphic between two kinks, and as far around as it goes."""

    at: Callable[[arb], arb]
    over: Callable[[acb], acb]  # finite only on a box where it is holomorphic

    def sup(self, box: acb) -> arb:
        """Return a bound of its modulus on a box.

        On a box that is not real it is finite only if the branch is holomorphic there.
        """
        if box.imag.is_zero():
            return self.at(box.real).abs_upper()
        whole = self.over(box).abs_upper()
        return whole if whole.is_finite() else self._tiled(box)

    def _tiled(self, box: acb) -> arb:
        # cosh(z) of a long box is a box around 0, where log is not holomorphic; that of
        # a short one is not.
        half = box.real.rad() / TILES
        result = arb(0)
        for k in range(1 - TILES, TILES, 2):
            tile = acb(box.real.mid() + arb(k * half, half), box.imag)
            result = result.max(self.over(tile).abs_upper())
        return result


@dataclass(frozen=True)
class Branches:
    """A function on the real line: branch k lies between kinks k - 1 and k."""

    kinks: tuple[arb, ...]
    branches: tuple[Branch, ...]
    growth: Growth

    def on(self, start: arb, end: arb) -> Branch | None:
        """Return the one branch on [start, end], or None if a kink may lie inside."""
        for k, branch in enumerate(self.branches):
            after = k == 0 or self.kinks[k - 1].upper() <= start
            before = k == len(self.kinks) or end <= self.kinks[k].lower()
            if after and before:
                return branch
        return None

    def sup(self, start: arb, end: arb) -> arb:
        """Return a bound of the modulus on [start, end]."""
        result = arb(0)
        for k, branch in enumerate(self.branches):
            low = start if k == 0 else start.max(self.kinks[k - 1].lower())
            high = end if k == len(self.kinks) else end.min(self.kinks[k].upper())
            if low < high:
                result = result.max(branch.sup(acb(hull(low, high))))
        return result

    def breaks(self) -> list[arb]:
        """Return exact numbers: every kink, or one on either side if it is not exact."""
        return [end for kink in self.kinks for end in (kink.lower(), kink.upper())]

    def split(self, start: arb, end: arb) -> list[tuple[arb, arb]]:
        """Return [start, end] in pieces that end at the breaks."""
        inside = sorted(b for b in self.breaks() if start < b < end)
        return [(a, b) for a, b in pairwise([start, *inside, end]) if a < b]


def branches(expr: Any) -> Branches:
    """Return an expression in theory.activations.x, with constants at the precision set now.

    Raises:
        ArgumentError: if it has another symbol.
        UnsupportedError: if its kinks cannot be listed, or a part of it is not known.
    """
    return _branches(expr, ctx.prec)


@lru_cache(maxsize=256)
def _branches(expr: Any, prec: int) -> Branches:
    del prec  # it is the precision set now, an argument for the cache only
    if not expr.free_symbols <= {x}:
        raise ArgumentError(
            f"a function must be an expression in theory.activations.x; {expr} has "
            f"{sorted(map(str, expr.free_symbols))}"
        )
    pieces = intervals(with_steps(expr))
    return Branches(
        kinks=tuple(_number(end) for _, end in pieces[:-1]),
        branches=tuple(_branch(piece) for piece, _ in pieces),
        growth=_growth(pieces),
    )


def _branch(expr: Any) -> Branch:
    at, over = compiled(expr, (x,), REAL), compiled(expr, (x,), HOLOMORPHIC)
    return Branch(lambda u: at((u,)), lambda z: over((z,)))


def _growth(pieces: list[tuple[Any, Any]]) -> Growth:
    # exp(x) grows where x > 0 only, so each side of 0 is read with a symbol of one sign.
    ends = [end for _, end in pieces]
    starts = [-sp.oo, *ends[:-1]]
    right = [piece.subs(x, T) for piece, end in pieces if end > 0]
    left = [
        piece.subs(x, -T)
        for (piece, _), start in zip(pieces, starts, strict=True)
        if start < 0
    ]
    return reduce(either, map(growth, [*right, *left]))


def _number(expr: Any) -> arb:
    return compiled(expr, (), REAL)(())
