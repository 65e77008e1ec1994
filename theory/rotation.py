"""Sums over rotated features: what rotary position encodings leave of a Wick expansion.

R_i turns the features 2 m and 2 m + 1 of a head by the angle i theta_m. Such rotations commute, so
the trace of a product of them and their transposes is

    tr(R_a R_i^T ...) = sum_m 2 cos((a - i ...) theta_m) = d r(a - i ...),

with r the mean cosine over the features of a head (Su et al., 2104.09864, eq. 14).

Independent check: traces of rotation matrices.
"""

from asymptest.theory.definition import R
from asymptest.theory.wick.tensors import Factor, Index, Poly, Tensor, Term

TURN = Tensor("r")  # r(a - i) as r[a, i], and r(a - i - b + j) as r[a, i, b, j]


def turned(poly: Poly) -> Poly:
    """Return `poly` with each trace of rotations written as d r.

    The indices of r are the positions, with alternating signs.
    """
    return poly.map(_turned)


def _turned(term: Term) -> Term:
    rotations = [f for f in term.factors if f.tensor == R]
    rest = [f for f in term.factors if f.tensor != R]
    size, gone = term.coefficient, frozenset[Index]()
    while rotations:
        cycle, rotations = _cycle(rotations)
        features = {index for f in cycle for index in f.indices[1:]}
        (dimension,) = {index.size for index in features}
        size, gone = size * dimension, gone | features
        rest.append(Factor(TURN, tuple(f.slots[0] for f in cycle)))
    return Term(size, tuple(rest), term.bound - gone)


def _cycle(rotations: list[Factor]) -> tuple[list[Factor], list[Factor]]:
    """Return the rotations of one trace in its order, the first not transposed, and the rest.

    A trace alternates: a row index joins the rows of two rotations, since what is rotated
    is a vector in each; likewise a column index.
    """
    first, *rest = rotations
    cycle, (_, row, start) = [first], first.indices
    end, by_row = row, True
    while True:
        slot = 1 if by_row else 2
        nearest = next((f for f in rest if f.indices[slot] == end), None)
        if nearest is None:
            break
        cycle.append(nearest)
        rest = [f for f in rest if f is not nearest]
        end, by_row = nearest.indices[3 - slot], not by_row
    if end != start or by_row:
        raise AssertionError(f"{rotations} is no product of traces of rotations")
    return cycle, rest
