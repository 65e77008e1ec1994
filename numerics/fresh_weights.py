"""What fresh weights make of a state: F W + 1 v^T, drawn only as far as it is needed."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from asymptest.numerics.frames import Rows, Stack, normal_columns
from asymptest.numerics.wishart import Rng, gaussian, narrow, orthonormal
from asymptest.theory.network import Dense
from asymptest.theory.substitution import number


@dataclass(frozen=True, eq=False)
class Projection:
    """F W + 1 v^T before its weights are drawn.

    Args:
        F: the state that they act on, in coordinates of any orthonormal frame.
        law: of W and v.
        n_in: rows of W.
        n_out: columns of W.
    """

    F: Stack
    law: Dense
    n_in: int
    n_out: int

    def draw(self, rng: Rng, aligned: int, groups: int = 1) -> Stack:
        """Return the result in coordinates.

        Args:
            rng: generator of the weights.
            aligned: the first axes are those of a given frame, as many as this.
            groups: the other dimensions, in equal groups, each up to a rotation of its own.
        """
        n = (self.n_out - aligned) // groups
        match self.law.init:
            case "gaussian":
                G = self._factor()
                return G @ gaussian(rng, len(G), G.shape[-1], aligned, groups, n)
            case "orthogonal":
                return self._orthogonal(rng, aligned, groups, n)

    def rows(self, rng: Rng) -> Rows:
        """Return the result as a state of its own."""
        return Rows(self.draw(rng, aligned=1), self.n_out)

    def columns(self, rng: Rng) -> Iterator[Stack]:
        """Yield the entries by blocks of columns: if W is Gaussian, they are independent."""
        G = self._factor()
        for block in normal_columns(G.shape[:2], G.shape[-1], self.n_out, rng):
            yield G @ block

    def _factor(self) -> Stack:
        """Return G such that the columns of the result are independent N(0, G G^T)."""
        variance, bias = _numbers(self.law)
        weighted = (variance / self.n_in) ** 0.5 * self.F
        ones = np.full((*self.F.shape[:-1], 1), bias**0.5)
        return narrow(np.concatenate([weighted, ones], axis=-1))

    def _orthogonal(self, rng: Rng, aligned: int, groups: int, n: int) -> Stack:
        # W W^T = (n_out / n_in) I, or W^T W = I where W is tall: then it is part of a square
        # matrix, whose other columns are drawn too and left out.
        variance, bias = _numbers(self.law)
        F = narrow(self.F)
        samples, _, m = F.shape
        N = gaussian(rng, samples, m + 1, aligned, groups, n)
        beyond = gaussian(rng, samples, m, 0, 1, max(self.n_in - self.n_out, 0))
        W = orthonormal(np.concatenate([N[:, :m], beyond], axis=-1))
        scale = (variance * max(1.0, self.n_out / self.n_in)) ** 0.5
        return scale * F @ W[..., : N.shape[-1]] + bias**0.5 * N[:, m:]


def _numbers(law: Dense) -> tuple[float, float]:
    return (
        number(law.variance, "Dense.variance"),
        number(law.bias_variance, "Dense.bias_variance"),
    )


def exact_rows(R: Float[np.ndarray, "T T"], width: int, samples: int, rng: Rng) -> Rows:
    """Return the input sqrt(n) R Q^T, whose kernel is R R^T exactly; Q is Haar, n x T."""
    N = gaussian(rng, samples, len(R), 1, 1, width - 1)
    return Rows(width**0.5 * R @ orthonormal(N), width)
