"""Kernels of random networks of finite width, drawn from their exact law without weights.

A layer's fresh weights see the state only through the coordinates of its rows, so that a
layer costs O(T^3) whatever the width n (wishart.py, frames.py, fresh_weights.py):

* Rows with the coordinates F become F W, and W up to rotation is a Bartlett factor. A bias,
  one number a feature, is one more row of W.
* In skip X + weight F W the columns of W along the axes of X stay what they are; only the
  others rotate, and they are n less those axes in number.
* An activation acts on entries: n columns of T numbers are drawn, by blocks. Where it
  acts on the rows of a skip themselves, these stay n columns from there on. Likewise a product.

Independent check: dense torch networks, tests/numerics/test_sampling.py and
verify/catalogue/sampling.py.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import mul

import numpy as np
from jaxtyping import Float

from asymptest.numerics.compile import activation_function
from asymptest.numerics.frames import (
    Rows,
    Stack,
    columns,
    from_columns,
    gathered,
    with_entries,
)
from asymptest.numerics.fresh_weights import Projection, exact_rows
from asymptest.numerics.gram import as_kernel, psd_sqrt
from asymptest.numerics.logits import as_numpy
from asymptest.numerics.sampled_attention import attention
from asymptest.numerics.sampled_steps import (
    Activated,
    Fresh,
    Step,
    at_last_weights,
    is_gaussian,
    largest,
    reads_entries,
    steps_of,
)
from asymptest.numerics.wishart import Rng
from asymptest.theory.errors import ArgumentError, ShapeError
from asymptest.theory.network import (
    Attention,
    Dense,
    LayerNorm,
    Mix,
    Network,
    Pointwise,
    Product,
    Residual,
    RMSNorm,
    as_network,
)
from asymptest.theory.rules import after, mixes
from asymptest.theory.substitution import number
from asymptest.theory.widths import whole

BATCH = 2**20  # numbers of one stack held at once: 8 MB


def sample_kernels(
    network: Network,
    K0: Float[np.ndarray, "T T"],
    width: int,
    samples: int = 1,
    rng: np.random.Generator | int = 0,
) -> Float[np.ndarray, "samples T T"]:
    """Return kernels X X^T / n of independent random networks of width n.

    Their law is exactly that of `kernel_of(finite(network, width, copies), X0)` with X0 a
    Haar realisation of K0, for every n. Where that network has nan, such as for the norm of
    a row that is zero, so have they. Memory is independent of n, but for T n numbers where an
    activation acts on a state that a skip carries on.

    Args:
        network: the description; Custom layers have no law here.
        K0: kernel of the input, symmetric and PSD.
        width: n, at least T and a multiple of every number of heads.
        samples: the number of networks.
        rng: NumPy generator of all that is random, or its seed.

    Raises:
        ArgumentError: if width or samples is not positive, or a parameter has no number.
        KernelError: if K0 is no kernel.
        ShapeError: if width < T, a layer's width is no whole number, or is not divisible by
            the heads, or the network is for another number of positions.
        UnsupportedError: if the network has a Custom layer.

    >>> from asymptest.theory import Dense
    >>> K = sample_kernels(Dense() * 3, np.eye(2), width=10**6, samples=4)
    >>> bool(abs(K - np.eye(2)).max() < 0.02)
    True
    """
    K = as_kernel(K0, "K0")
    T, steps = len(K), steps_of(as_network(network))
    _check(network, T, width, samples)
    R, generator = psd_sqrt(K), np.random.default_rng(rng)
    at_once = max(1, BATCH // largest(steps, T, width))
    found: list[np.ndarray] = []
    # 0 / 0 and overflow give nan and inf here as they do in torch.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for start in range(0, samples, at_once):
            X = exact_rows(R, width, min(at_once, samples - start), generator)
            walk = _Walk(T, width, generator)
            found.append(walk.through(steps, X).gram())
    return np.concatenate(found)


@dataclass(frozen=True)
class _Walk:
    """A walk through a network of width n, whose states are the last T rows.

    Rows above them are those that a skip has put aside. Steps that leave the frame (fresh
    weights, activations, products) have none: `residual` sees to the last of a branch.
    """

    T: int
    n: int
    rng: Rng

    def through(self, steps: Sequence[Step], rows: Rows, wanted: bool = False) -> Rows:
        """Return the rows after all steps; `wanted` says whether their entries matter."""
        for at, step in enumerate(steps):
            if isinstance(step, Activated | Pointwise | Product):
                blocks = self.columns([step], rows)
                keep = reads_entries(steps[at + 1 :], wanted)
                rows = gathered(blocks) if keep else from_columns(blocks)
            else:
                rows = self.after(step, rows)
        return rows

    def columns(self, steps: Sequence[Step], X: Rows) -> Iterator[Stack]:
        """Return the entries of the state after the steps, by blocks of columns."""
        match steps:
            case [*before, Activated(layer, phi)]:
                H = self.projection(layer, self.through(before, X))
                return map(activation_function(phi), H.columns(self.rng))
            case [*before, Pointwise(phi)]:
                return map(activation_function(phi), self.columns(before, X))
            case [*before, Product(left, right) as product]:
                X = self.through(before, X, reads_entries([product]))
                X = with_entries(X, self.rng) if reads_entries([product]) else X
                one, two = (self.columns(steps_of(n), X) for n in (left, right))
                return map(mul, one, two)
            case [*before, Dense() | Attention() as layer] if is_gaussian(layer):
                return self.projection(layer, self.through(before, X)).columns(self.rng)
            case _:
                return columns(self.through(steps, X, wanted=True), self.rng)

    def after(
        self, step: Fresh | RMSNorm | LayerNorm | Mix | Residual, rows: Rows
    ) -> Rows:
        """Return the rows after a step that needs no entries."""
        X = rows.last(self.T)
        match step:
            case Dense() | Attention():
                return self.projection(step, X).rows(self.rng)
            case RMSNorm():
                return rows.ending(_normalised(step, X.coordinates, X.width))
            case LayerNorm():
                return rows.ending(_normalised(step, X.centred(), X.width))
            case Mix(table):
                return rows.ending(as_numpy(table) @ X.coordinates)
            case Residual():
                return self.residual(step, rows)

    def projection(self, layer: Fresh, X: Rows) -> Projection:
        """Return what a layer's last weights act on, all others being drawn."""
        match layer:
            case Dense():
                n_out = whole(layer.expansion * self.n)
                return Projection(X.coordinates, layer, X.width, n_out)
            case Attention():
                return attention(layer, X, self.rng)

    def residual(self, layer: Residual, rows: Rows) -> Rows:
        """Return the rows with skip X + weight branch(X) in place of X."""
        skip = number(layer.skip, "Residual.skip")
        weight = number(layer.weight, "Residual.weight")
        if (matrices := mixes(layer.branch)) is not None:
            A = reduce(lambda A, mix: as_numpy(mix.A) @ A, matrices, np.eye(self.T))
            X = rows.last(self.T).coordinates
            return rows.ending((skip * np.eye(self.T) + weight * A) @ X)
        before, last, behind = at_last_weights(steps_of(layer.branch))
        if reads_entries([layer]):
            rows = with_entries(rows, self.rng)
        inner = self.through(before, rows.last(self.T), reads_entries([last]))
        if isinstance(last, Product):
            new = gathered(self.columns([last], inner)).coordinates
        else:
            axes = rows.coordinates.shape[-1]
            new = self.projection(last, inner).draw(self.rng, aligned=axes)
        both = self.through(behind, rows.over(new))
        above, X, branch = np.split(both.coordinates, [-2 * self.T, -self.T], axis=1)
        summed = np.concatenate([above, skip * X + weight * branch], axis=1)
        return replace(both, coordinates=summed).narrow()


def _normalised(layer: RMSNorm | LayerNorm, C: Stack, width: int) -> Stack:
    """Return the rows over sqrt(mean square + eps)."""
    eps = number(layer.eps, f"{type(layer).__name__}.eps")
    squares = (C * C).sum(-1, keepdims=True) / width
    return C / np.sqrt(squares + eps)


def _check(network: Network, T: int, width: int, samples: int) -> None:
    """Raise unless the arguments of `sample_kernels` fit together."""
    for name, value in (("width", width), ("samples", samples)):
        if not isinstance(value, int | np.integer) or value < 1:
            raise ArgumentError(
                f"{name} must be a whole number, at least 1; got {value!r}"
            )
    if width < T:
        raise ShapeError(
            f"width = {width} cannot realise a kernel of T = {T} positions exactly; use a "
            f"width of at least {T}"
        )
    if (fixed := after(network).positions) not in (None, T):
        raise ShapeError(
            f"the network is for {fixed} positions, but K0 has the shape ({T}, {T})"
        )
