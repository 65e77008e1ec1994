"""The nonlinear layers on series in 1/c: norms, activations, attention weights.

Each looks for the leading power, row by row or entry by entry, and expands around it. What
cannot be decided with the digits or the terms at hand raises `OpenError`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import factorial
from typing import Any

import numpy as np
import sympy as sp

from asymptest.numerics.fields import FLOATS, Field
from asymptest.numerics.kinds import Kind
from asymptest.numerics.series import Series, power_series
from asymptest.theory.activations import Activation
from asymptest.theory.asymptotes import Terms, asymptotes
from asymptest.theory.dual_maps import homogeneity
from asymptest.theory.errors import ArgumentError
from asymptest.theory.pieces import jump_points
from asymptest.theory.piecewise import x

UNDECIDED = 2  # a sign that Field.signs could not tell


class OpenError(Exception):
    """Something stays open: with more digits, or with more terms, it may be decided."""


@dataclass(frozen=True)
class Setting:
    """How to compute.

    Args:
        field: the numbers.
        terms: how many terms of a series to keep.
        saturates: whether softmax of fixed logits is enclosed around its argmax, in balls that
            hold both, and not computed.
    """

    field: Field
    terms: int
    saturates: bool = False


# --- Norms ----------------------------------------------------------------------------


def normalise(
    series: Series, eps: Any, centre: bool, setting: Setting
) -> tuple[Series, list[int | None]]:
    """Return rows over the root of their mean square + eps, and their leading powers.

    Their mean is removed first if `centre`. The leading power of a row that is 0 is None.
    """
    rows = range(len(next(iter(series.parts.values()))))
    found = [
        _normalised(series.map(lambda p, i=i: p[i]), i, eps, centre, setting)
        for i in rows
    ]
    return stack([row for row, _ in found], setting.field), [lead for _, lead in found]


def _normalised(
    row: Series, i: int, eps: Any, centre: bool, setting: Setting
) -> tuple[Series, int | None]:
    field = setting.field
    scale = _scale(row)  # before the mean is removed: what cancels is rounding
    if centre:
        row = row.map(lambda part: part - part.sum() / len(part))
    lead = None
    for k in row.powers:
        signs = field.signs(row.parts[k], scale[k])
        if (np.abs(signs) == 1).any():
            lead = k
            break
        if (signs == UNDECIDED).any():
            raise OpenError(f"whether row {i} vanishes")
    if lead is None:
        if row.unknown is not None:
            raise OpenError(f"the leading power of row {i}")
        if field.sign(eps, 0) == 1:  # also what vanishes fast stays so
            return row.map(lambda part: part * 0), None
        if row.fast:
            raise OpenError(f"row {i}, smaller than every power of c,")
        raise ArgumentError(
            f"row {i} is zero where a norm divides by its size; use another input or weight"
        )
    kept = {k: part for k, part in row.parts.items() if k <= lead}
    row = Series(kept, row.unknown, row.fast)
    size = row.times(
        row, lambda a, b: (field.square(a) if a is b else a * b).sum() / len(a)
    )
    power = 2 * lead
    if field.sign(eps, 0):
        size = size + Series({0: eps})
        power = max(power, 0)
    first = size.parts[power]
    if not first > 0:
        raise OpenError(f"the size of row {i}")
    rest = Series(
        {k: p / first for k, p in size.parts.items() if k < power}, size.unknown
    )
    root = power_series(
        [
            field.number(sp.binomial(sp.Rational(-1, 2), n))
            for n in range(setting.terms + 1)
        ],
        rest.shifted(-power),
        setting.terms,
    ).map(lambda part: part / field.sqrt(first))
    return row * root.shifted(-power // 2), lead


def _scale(series: Series) -> dict[int, Any]:
    """Return the size of each row, against which a float64 counts as zero."""
    return {
        k: np.abs(part).max(axis=-1, keepdims=True) for k, part in series.parts.items()
    }


def stack(rows: Sequence[Series], field: Field) -> Series:
    """Return the series of arrays whose rows (or matrices, ...) are given."""
    powers = {k for row in rows for k in row.parts}
    unknown = max((r.unknown for r in rows if r.unknown is not None), default=None)
    shape = next((p.shape for row in rows for p in row.parts.values()), (0,))
    zero = field.zeros(shape)
    parts = {k: np.stack([row.parts.get(k, zero) for row in rows]) for k in powers}
    return Series(parts, unknown, any(row.fast for row in rows))


# --- Activations ----------------------------------------------------------------------


def activate(series: Series, phi: Activation, setting: Setting) -> Series:
    """Return phi of every entry: far from zero its asymptotes, else its value."""
    field = setting.field
    if phi.expr.is_polynomial(x):
        coefficients = sp.Poly(phi.expr, x).all_coeffs()[::-1]
        return _polynomial(series, tuple(enumerate(coefficients)), field)
    is_constant = set(series.parts) <= {0} and series.unknown is None
    if is_constant and homogeneity(phi) is None:  # whatever c is
        return series.map(lambda part: field.apply(phi, part))
    sides = asymptotes(phi)
    smooth = (sides.homogeneous or 0) >= 1
    deepest = None if smooth else (0 if not jump_points(phi.expr) else -(10**9))
    lead, sign = _leading(series, field, deepest)
    far = np.abs(sign) == 1 if sides.homogeneous is not None else lead > 0
    unknown = (
        None if series.unknown is None else (sides.homogeneous or 0) * series.unknown
    )
    result = Series({})
    for side, mask in ((sides.right, far & (sign > 0)), (sides.left, far & (sign < 0))):
        if mask.any() and side:
            chosen = _polynomial(series.map(lambda part, m=mask: part * m), side, field)
            result = result + chosen.map(lambda part, m=mask: part * m)
            falling = [n for n, _ in side if n < 0]
            if falling:  # a series without end: its first term is as large as this
                result = result + Series({}, max(falling) * int(lead[mask].min()))
    if sides.saturates and far.any():
        result = replace(result, fast=True)
    if far.all() or (sides.homogeneous and not (sign[~far] != 0).any()):
        # Homogeneous of degree >= 1, it vanishes where its argument does.
        zero = Series({0: field.zeros(sign.shape)}, unknown, series.fast)
        return result if result.parts else result + zero
    # The value at the constant term; what vanishes is not expanded.
    shape = sign.shape
    constant = series.parts.get(0, field.zeros(shape))
    near = field.apply(phi, np.where(far, field.zeros(shape), constant))
    below = any(not_zero(part[~far]) for k, part in series.parts.items() if k < 0)
    open_below = below or series.unknown is not None or series.fast
    for at in jump_points(phi.expr) if open_below else ():
        near = _beside(series, near, ~far, at, phi, field)
    rest = Series({0: np.where(far, field.zeros(shape), near)}, None, series.fast)
    if below or series.unknown is not None:
        rest = rest + Series({}, -1)
    return result + rest


def _beside(
    series: Series, near: Any, among: Any, at: sp.Expr, phi: Activation, field: Field
) -> Any:
    """Return the values where the constant term is on a jump: lower powers choose the side."""
    place = field.number(at)
    shape = near.shape
    zero = field.zeros(shape)
    moved = series + Series({0: zero - place})
    on = field.signs(moved.parts[0], np.abs(moved.parts[0]) + abs(place))
    if (among & (on == UNDECIDED)).any():
        raise OpenError(f"the sign of entry {_first(among & (on == UNDECIDED))} - {at}")
    on_jump = among & (on == 0)
    if not on_jump.any():
        return near
    lower = Series({k: p for k, p in moved.parts.items() if k < 0}, moved.unknown)
    lower = lower + Series({-1: zero})
    _, sign = _leading(lower, field, None)
    hidden = on_jump & (sign == 0)
    if hidden.any() and (series.unknown is not None or series.fast):
        raise OpenError(f"on which side of {at} entry {_first(hidden)} is")
    right, left = (field.number(sp.limit(phi.expr, x, at, way)) for way in "+-")
    near = np.where(on_jump & (sign > 0), right, near)
    return np.where(on_jump & (sign < 0), left, near)


def _leading(series: Series, field: Field, deepest: int | None) -> tuple[Any, Any]:
    """Return each entry's leading power and sign; sign 0 where it is zero.

    What is below the known powers must be below c^deepest: it decides a jump, and where a
    value is finite. None if it stays below what is known.
    """
    shape = next(iter(series.parts.values())).shape
    lead, sign = np.full(shape, -(10**9)), np.zeros(shape, dtype=int)
    scale = _scale(series)
    for k in series.powers:
        here = np.where(sign == 0, field.signs(series.parts[k], scale[k]), 0)
        if (here == UNDECIDED).any():
            raise OpenError(f"the sign of entry {_first(here == UNDECIDED)}")
        lead, sign = np.where(here != 0, k, lead), np.where(here != 0, here, sign)
    unknown = series.unknown
    hidden = deepest is not None and unknown is not None and unknown >= deepest
    if hidden and (sign == 0).any():
        raise OpenError(f"the leading power of entry {_first(sign == 0)}")
    return lead, sign


def _first(where: Any) -> tuple[int, ...]:
    return tuple(int(at) for at in np.argwhere(where)[0])


def _polynomial(series: Series, terms: Terms, field: Field) -> Series:
    """Return sum of a_n X^n over n >= 0, entrywise."""
    result, power, degree = Series({}), None, 0
    shape = next(iter(series.parts.values())).shape
    one = field.zeros(shape) + field.number(1)
    for n, coefficient in sorted(terms):
        if n < 0:
            continue
        while degree < n:
            power = series if power is None else power * series
            degree += 1
        term = Series({0: one}) if power is None else power
        factor = field.number(coefficient)
        result = result + term.map(lambda part, by=factor: part * by)
    return result


# --- Attention weights ----------------------------------------------------------------


@dataclass(frozen=True)
class Attended:
    """The keys that a query attends to as c grows, and whether to all equally at every c."""

    keys: tuple[int, ...]
    equally: bool


def attention_weights(
    scores: Series,
    seen: Any,
    same: Callable[[int | None], Kind],
    factor: Callable[[], Any],
    setting: Setting,
) -> tuple[Series, list[Attended]]:
    """Return the attention matrix of logits `factor` * scores, and what each query attends to.

    Args:
        scores: (T, T) matrices.
        seen: (T, T) booleans.
        same: power of the logits -> kinds of the keys, equal where the logits of every query
            are proved equal from that power up; None for all powers.
        factor: () -> the positive number that multiplies the scores.
        setting: numbers and terms.

    """
    rows = [
        _row(scores.map(lambda p, i=i: p[i]), i, seen[i], same, factor, setting)
        for i in range(len(seen))
    ]
    return stack([row for row, _ in rows], setting.field), [keys for _, keys in rows]


def _row(
    scores: Series,
    i: int,
    seen: Any,
    same: Callable[[int | None], Kind],
    factor: Callable[[], Any],
    setting: Setting,
) -> tuple[Series, Attended]:
    field, T = setting.field, len(seen)
    tied = [int(j) for j in np.flatnonzero(seen)]
    for k in scores.powers:
        if k > 0:
            tied = largest(scores.parts[k], tied, same(k), i, field)
    whole = same(None)
    one_kind = len({whole[j] for j in tied}) == 1
    if not one_kind and scores.unknown is not None and scores.unknown >= 0:
        raise OpenError(f"which of the keys {tied} has the largest logit for query {i}")
    lower = Series({k: p for k, p in scores.parts.items() if k <= 0}, scores.unknown)
    weights = None if one_kind else _soft(lower, tied, same, i, factor, setting)
    uniform = weights is None
    if weights is None:
        share = field.number(1) / field.number(len(tied))
        weights = Series({0: np.array([share] * len(tied), dtype=field.dtype)})
    row = weights.map(lambda part: _spread(part, tied, T, field))
    lost = len(tied) < int(
        np.count_nonzero(seen)
    )  # their weights vanish faster than powers
    return replace(row, fast=scores.fast or lost), Attended(tuple(tied), uniform)


def _spread(values: Any, at: list[int], T: int, field: Field) -> Any:
    row = field.zeros((T,))
    row[at] = values
    return row


def largest(
    values: Any, among: list[int], same: Sequence[int], i: int, field: Field
) -> list[int]:
    """Return which of `among` have the largest value, proved.

    Raises:
        OpenError: if two values cannot be told apart, nor shown to be equal.
    """
    best = greatest(values, among)
    found: list[int] = []
    for j in among:
        scale = max(abs(values[best]), abs(values[j])) if field is FLOATS else None
        sign = (
            0 if same[j] == same[best] else field.sign(values[best] - values[j], scale)
        )
        if sign is None or sign < 0:
            raise OpenError(
                f"which of the keys {best} and {j} has the larger logit for query {i}"
            )
        if sign == 0:
            found.append(j)
    return found


def greatest(values: Any, among: Sequence[int]) -> int:
    """Return one of `among` such that no value is proved to be larger."""
    best = among[0]
    for j in among[1:]:
        if values[j] > values[best]:
            best = j
    return best


def not_zero(values: Any) -> bool:
    """Return whether some number may not be 0; != would say whether one certainly is not."""
    zeros = [value == 0 for value in np.asarray(values).reshape(-1)]
    return not all(zeros)


def _soft(
    scores: Series,
    tied: list[int],
    same: Callable[[int | None], Kind],
    i: int,
    factor: Any,
    setting: Setting,
) -> Series | None:
    """Return softmax over the tied keys of what is left of the logits, None if that is equal."""
    field = setting.field
    left = scores.map(lambda part: part[tied])
    best = greatest(left.parts[0], range(len(tied))) if 0 in left.parts else 0
    left = left.map(lambda part: part - part[best])
    differs = {
        k: part
        for k, part in left.parts.items()
        if not_zero(part) and len({same(k)[j] for j in tied}) > 1
    }
    if not differs and left.unknown is None:
        return None
    scaled = Series(differs, left.unknown).map(lambda part: part * factor())
    at_zero = scaled.parts.get(0)
    if at_zero is not None and setting.saturates:
        return Series({0: _around_argmax(at_zero, tied, same(0), i, field)})
    one = field.number(1)
    start = np.array([one] * len(tied), dtype=field.dtype)
    if at_zero is not None:
        start = np.array([field.exp(v) for v in at_zero], dtype=field.dtype)
    below = Series({k: p for k, p in scaled.parts.items() if k < 0}, scaled.unknown)
    taylor = [one / field.number(factorial(n)) for n in range(setting.terms + 1)]
    grown = Series({0: start}) * power_series(taylor, below, setting.terms)
    total = grown.map(lambda part: part.sum())
    first = total.parts[0]
    rest = Series(
        {k: p / first for k, p in total.parts.items() if k < 0}, total.unknown
    )
    signs = [field.number((-1) ** n) for n in range(setting.terms + 1)]
    inverse = power_series(signs, rest, setting.terms).map(lambda part: part / first)
    return grown * inverse


def _around_argmax(
    logits: Any, tied: list[int], same: Sequence[int], i: int, field: Field
) -> Any:
    """Return balls around the argmax weights that hold softmax: 1/m - [0, R/(m (m + R))], ..."""
    kinds = [same[j] for j in tied]
    top = largest(logits, list(range(len(tied))), kinds, i, field)
    rest = [j for j in range(len(tied)) if j not in top]
    m = field.number(len(top))
    small = {j: field.exp(logits[j] - logits[top[0]]) for j in rest}
    R = sum(small.values(), field.number(0))
    weights = [
        (1 / m).union(1 / (m + R)) if j in top else field.number(0)
        for j in range(len(tied))
    ]
    for j, weight in small.items():
        weights[j] = field.number(0).union(weight / m)
    return np.array(weights, dtype=object)
