"""Saturation: what softmax attention becomes as its logits grow, and how fast.

Let z be scores with maximum z*, m of them maximal, and gaps g_j = z* - z_j > 0 for the
others. With R(c) = sum over the others of exp(-c g_j),

    softmax(c z)_j = 1 / (m + R)               where z_j is maximal
                   = exp(-c g_j) / (m + R)     elsewhere
    sat(z)_j       = 1/m  or  0.

Source: Merrill et al. (2021), arXiv 2010.09697, definition 1 and section 4.2 for sat; the
exact error below replaces their lemma 7.
"""

import sympy as sp

c = sp.Symbol("c", positive=True)


def gaps(count: int) -> tuple[sp.Symbol, ...]:
    """Return symbols for the positive gaps of `count` scores below the maximum."""
    return sp.symbols(f"g1:{count + 1}", positive=True)


def softmax(scores: tuple[sp.Expr, ...]) -> tuple[sp.Expr, ...]:
    """Return the softmax of the scores, by its definition."""
    weights = [sp.exp(score) for score in scores]
    return tuple(weight / sp.Add(*weights) for weight in weights)


def saturate_scores(scores: tuple[sp.Expr, ...]) -> tuple[sp.Expr, ...]:
    """Return the limit of softmax(c * scores) as c -> oo, entry by entry.

    The scores must be comparable: numbers, or symbols with a sign.

    >>> saturate_scores((sp.Integer(2), sp.Integer(2), sp.Integer(1)))
    (1/2, 1/2, 0)
    """
    scaled = softmax(tuple(c * score for score in scores))
    return tuple(sp.limit(entry, c, sp.oo) for entry in scaled)


def tied_scores(ties: int, others: int) -> tuple[sp.Expr, ...]:
    """Return scores with `ties` maxima at 0 and `others` below, at minus a gap symbol.

    Softmax and sat do not change when all scores shift, nor, but for the order, when they
    are permuted: these scores stand for every tie pattern.
    """
    return (sp.Integer(0),) * ties + tuple(-gap for gap in gaps(others))


def saturation_error(ties: int, others: int) -> sp.Expr:
    """Return the l1 distance of softmax(c z) and sat(z), from their definitions."""
    scores = tied_scores(ties, others)
    soft = softmax(tuple(c * score for score in scores))
    # Softmax is below 1/m on a tie and above 0 elsewhere, which settles the moduli.
    on = [sp.Rational(1, ties) - entry for entry in soft[:ties]]
    return sp.Add(*on, *soft[ties:])


def remainder(others: int) -> sp.Expr:
    """Return R(c), the weight of the scores below the maximum relative to a maximal one."""
    return sp.Add(*(sp.exp(-c * gap) for gap in gaps(others)))


def exact_error(ties: sp.Expr | int, rest: sp.Expr) -> sp.Expr:
    """Return 2 R / (m + R), the closed form of the distance."""
    return 2 * rest / (ties + rest)
