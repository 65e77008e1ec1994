"""Decisions in which chance plays no part, or only picks the instances."""

import math
from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
import sympy as sp
from flint import arb
from hypothesis import target
from hypothesis.strategies import SearchStrategy

from asymptest.theory.errors import ArgumentError
from asymptest.theory.substitution import put
from asymptest.verify.claim import (
    Bound,
    Enclosure,
    Exact,
    Finding,
    Identity,
    Profile,
    Rate,
    Status,
)
from asymptest.verify.instances import rng_for, search

EPS = float(np.finfo(np.float64).eps)
POINTS = 8  # where an expression that does not reduce to 0 is evaluated


def decide_identity(evidence: Identity, seed: int) -> Finding:
    """PROVED if SymPy reduces each difference to 0, REFUTED at a point where one is not."""
    differences = evidence.differences()
    undecided: list[str] = []
    for name, difference in differences.items():
        reduced = sp.simplify(difference)
        if reduced == 0:
            continue
        point = _nonzero_point(reduced, Random(seed))
        if point is not None:
            return Finding(
                "identity",
                Status.REFUTED,
                comparisons=len(differences),
                counterexample=f"{name}: {point}",
                detail=f"the difference reduces to {reduced}",
            )
        undecided.append(name)
    status = Status.INCONCLUSIVE if undecided else Status.PROVED
    detail = f"not reduced: {', '.join(undecided)}" if undecided else ""
    return Finding("identity", status, comparisons=len(differences), detail=detail)


def _nonzero_point(expr: sp.Expr, random: Random) -> dict[str, Any] | None:
    """Return rational values at which `expr` is certainly not zero."""
    symbols = sorted(expr.free_symbols, key=str)
    for _ in range(POINTS):
        values = {s: sp.Rational(random.randint(1, 99), 16) for s in symbols}
        values = {s: sp.ceiling(v) if s.is_integer else v for s, v in values.items()}
        # 50 digits: a value above 1e-30 is no rounding.
        number = sp.N(put(values, expr), 50)
        if number.is_number and number.is_finite and abs(number) > sp.Float("1e-30"):
            return {str(s): str(v) for s, v in values.items()}
    return None


def _needs(instances: SearchStrategy[Any] | None) -> SearchStrategy[Any]:
    if instances is None:
        raise ArgumentError("the claim has evidence over instances but no strategy")
    return instances


def decide_enclosure(
    evidence: Enclosure,
    instances: SearchStrategy[Any] | None,
    profile: Profile,
    seed: int,
    shrink: bool,
) -> Finding:
    """CERTIFIED if both sides are within the resolution of each other on every instance.

    REFUTED with the smallest instance at which they certainly differ. INCONCLUSIVE, with the
    instance of which least is certain, where balls that meet are wider or not finite.
    """
    comparisons, far, worst, widest = 0, 0.0, 0.0, None

    def fails(instance: Any) -> bool:
        nonlocal comparisons, far, worst, widest
        gaps = _gaps(evidence, instance)
        comparisons += len(gaps)
        finite = [gap for gap in gaps if gap.is_finite()]
        far = max([far, *(float(gap.abs_lower()) for gap in finite)])
        most = max((float(gap.abs_upper()) for gap in finite), default=0.0)
        most = most if len(finite) == len(gaps) else math.inf
        if most > worst:
            worst, widest = most, instance
        return any(not gap.contains(0) for gap in finite)

    examples = math.ceil(evidence.share * profile.examples)
    found = search(_needs(instances), fails, examples, seed, shrink)
    if found:
        return Finding(
            "enclosure",
            Status.REFUTED,
            comparisons=comparisons,
            distance=far,
            counterexample=_show(*found),
        )
    confined = worst <= evidence.resolution
    lacking = (
        f"|left - right| / scale <= {worst:.2g} is all that is certain at "
        f"{_show(widest)}; {evidence.resolution:.2g} is needed"
    )
    return Finding(
        "enclosure",
        Status.CERTIFIED if confined else Status.INCONCLUSIVE,
        resolution=worst,
        comparisons=comparisons,
        distance=far,
        detail="" if confined else lacking,
    )


def _gaps(evidence: Enclosure, instance: Any) -> list[arb]:
    """Return (left - right) / scale, entry by entry."""
    left = _balls(evidence.left(instance), "left")
    right = _balls(evidence.right(instance), "right")
    if len(left) != len(right):
        raise ArgumentError(
            f"left and right must have as many entries; got {len(left)} and {len(right)}"
        )
    scale = np.asarray(evidence.scale(instance), dtype=np.float64)
    fits = scale.shape in ((), (len(left),))
    if not (fits and (scale > 0).all() and np.isfinite(scale).all()):
        raise ArgumentError(
            f"scale must be a positive number, or one for each of {len(left)} entries; "
            f"got {scale}"
        )
    sizes = np.broadcast_to(scale, len(left)).tolist()
    return [(a - b) / size for a, b, size in zip(left, right, sizes, strict=True)]


def _balls(value: Any, name: str) -> Sequence[arb]:
    balls = value if isinstance(value, Sequence) else [value]
    if not all(isinstance(ball, arb) for ball in balls):
        raise ArgumentError(
            f"{name} must be a flint.arb or a sequence of them, since no other number says "
            f"how far it is rounded; got {value!r}"
        )
    return balls


def decide_exact(
    evidence: Exact,
    instances: SearchStrategy[Any] | None,
    profile: Profile,
    seed: int,
    shrink: bool,
) -> Finding:
    """SUPPORTED if no instance exceeds its bound, REFUTED with the smallest that does."""
    comparisons, worst, far = 0, 0.0, 0.0

    def fails(instance: Any) -> bool:
        nonlocal comparisons, worst, far
        left = np.asarray(evidence.left(instance, rng_for(seed, instance)))
        right, bound = np.asarray(evidence.right(instance)), evidence.bound(instance)
        if left.shape != right.shape:
            raise ArgumentError(
                f"left and right must have one shape; got {left.shape} and {right.shape}"
            )
        gap = np.abs(left - right)
        comparisons += gap.size
        far = max(far, float(gap.max()))
        # not (<=), so that nan fails
        failed = not bool((gap <= bound).all())
        if not failed:
            worst = max(worst, float((gap / bound).max()))
        return failed

    found = search(_needs(instances), fails, profile.examples, seed, shrink)
    if found:
        return Finding(
            "exact",
            Status.REFUTED,
            comparisons=comparisons,
            distance=far,
            counterexample=_show(*found),
        )
    detail = f"largest difference {worst:.2g} of its bound"
    return Finding(
        "exact",
        Status.SUPPORTED,
        resolution=far,
        comparisons=comparisons,
        distance=far,
        detail=detail,
    )


def decide_bound(
    evidence: Bound,
    instances: SearchStrategy[Any] | None,
    profile: Profile,
    seed: int,
    shrink: bool,
) -> Finding:
    """SUPPORTED with the worst ratio, REFUTED with the smallest instance that exceeds 1."""
    comparisons, worst = 0, 0.0

    def fails(instance: Any) -> bool:
        nonlocal comparisons, worst
        left, right = evidence.left(instance), evidence.right(instance)
        comparisons += 1
        ratio = (left - evidence.slack(instance)) / right
        worst = max(worst, ratio)
        target(min(ratio, 1e6), label="left / right")
        return not ratio <= 1

    found = search(_needs(instances), fails, profile.examples, seed, shrink)
    return Finding(
        "bound",
        Status.SUPPORTED if not found else Status.REFUTED,
        resolution=None if found else worst,
        comparisons=comparisons,
        distance=worst,
        counterexample=_show(*found) if found else None,
        detail=f"worst left / right {worst:.3g}",
    )


def decide_rate(
    evidence: Rate,
    instances: SearchStrategy[Any] | None,
    profile: Profile,
    seed: int,
    shrink: bool,
) -> Finding:
    """Compare slope and constant with the prediction, within the derived remainder."""
    comparisons, worst = 0, 0.0
    first, second = evidence.depths

    def fails(instance: Any) -> bool:
        nonlocal comparisons, worst
        errors = [evidence.error(instance, depth) for depth in evidence.depths]
        ratio, constant = evidence.ratio(instance), evidence.constant(instance)
        near = [evidence.remainder(instance, depth) for depth in evidence.depths]
        slope = math.log(errors[1] / errors[0]) / (second - first)
        slope_gap = abs(slope - math.log(ratio))
        slope_bound = (-math.log1p(-near[0]) - math.log1p(-near[1])) / (second - first)
        constant_gap = abs(errors[1] / (constant * ratio**second) - 1)
        comparisons += 2
        worst = max(worst, constant_gap, slope_gap)
        return not (
            slope_gap <= slope_bound + 4 * EPS and constant_gap <= near[1] + 64 * EPS
        )

    found = search(_needs(instances), fails, profile.examples, seed, shrink)
    return Finding(
        "rate",
        Status.SUPPORTED if not found else Status.REFUTED,
        resolution=None if found else worst,
        comparisons=comparisons,
        widths=evidence.depths,
        distance=worst,
        counterexample=_show(*found) if found else None,
        detail=f"slope and constant within {worst:.2g}" if not found else "",
    )


def _show(instance: Any) -> str:
    with np.printoptions(precision=6, threshold=32, suppress=True):
        return repr(instance)
