"""Attention near identical tokens: the residual left of them is cubic, or linear if masked.

Let the tokens be x + eps y_i, logits (x + eps y_i) M (x + eps y_j)^T up to what a row has in
common, and values times U. The part of a logit that softmax sees is eps b_j + eps^2 c_ij with

    b_j = x M y_j,    c_ij = y_i M y_j.

Only c tells rows apart, so that without a mask all orders of eps up to the second are the same
in every row, and what attention leaves between the rows is

    eps^3 (Y_c M Cov U)_i,    Y_c = Y - mean,    Cov = Y_c^T Y_c / T.

With a causal mask rows average over different positions, and it is eps (C Y U)_i between the
rows, C the Cesaro matrix (theory/cesaro.py).

Source: Dong, Cordonnier and Loukas (2021), arXiv 2103.03404, whose bound has these exponents.

Independent checks: SymPy's derivatives of the softmax, and finite networks.
"""

from functools import cache

from asymptest.theory.definition import N_IN, I, J, T
from asymptest.theory.softmax_expansion import weight
from asymptest.theory.uniform_attention import at_uniform
from asymptest.theory.wick.expectation import contract
from asymptest.theory.wick.tensors import Index, Poly, Tensor, total

Y = Tensor("Y")  # what tells the tokens apart, T x n
M = Tensor("M")  # W^Q W^K^T / sqrt(d)
B = Tensor("b")  # logits that all rows share


def shared_logit(i: Index, j: Index) -> Poly:
    """Return b_j."""
    return B(j)


def own_logit(i: Index, j: Index) -> Poly:
    """Return c_ij = sum_ab Y[i, a] M[a, b] Y[j, b]."""
    a, b = Index("a", N_IN), Index("b", N_IN)
    return total(Y(i, a) * M(a, b) * Y(j, b), a, b)


def attention(order: int) -> Poly:
    """Return the coefficient of eps^order, up to 2, in A[i, j] without a mask.

    >>> attention(1)
    (1/T) b[j] + (-1/T**2) sum_s1 b[s1]
    """
    match order:
        case 0 | 1:
            rows = weight(order, I, J, shared_logit)
        case 2:
            rows = weight(2, I, J, shared_logit) + weight(1, I, J, own_logit)
        case _:
            raise AssertionError(f"no order {order} is needed")
    return at_uniform(rows)


@cache
def residual(order: int) -> Poly:
    """Return the coefficient of eps^order, 1 to 3, between the rows of A X, before U.

    >>> residual(1), residual(2)
    (0, 0)
    """
    feature = Index("k", N_IN)
    return between_rows(total(attention(order - 1) * Y(J, feature), J))


def between_rows(poly: Poly) -> Poly:
    """Return a polynomial less its mean over the row i."""
    mean = total(poly, I).scaled(1 / T).map(contract)
    return (poly - mean).map(contract)


def cubic_form() -> Poly:
    """Return (Y_c M Cov)[i, k], what `residual(3)` amounts to."""
    a, b, k = (Index(name, N_IN) for name in "abk")
    rows = between_rows(Y(I, a))
    covariance = total(between_rows(Y(I, b)) * between_rows(Y(I, k)), I).scaled(1 / T)
    return total(rows * M(a, b) * covariance, a, b).map(contract)
