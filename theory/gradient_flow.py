"""Gradient flow of homogeneous networks: Euler's identity and what the flow conserves.

A network of k layers without biases, f(x) = W_k relu(W_(k-1) ... relu(W_1 x)), is linear in
each W_i while its ReLUs stay on or off, so it is written with switches D_i in {0, 1}:

    f = W_k D_(k-1) W_(k-1) ... D_1 W_1 x.

Then <W_i, df/dW_i> = f for every layer, so <theta, grad f> = k f (Euler), and neuron by neuron
what comes in equals what goes out:

    <W_i[j, :], dL/dW_i[j, :]> = <W_(i+1)[:, j], dL/dW_(i+1)[:, j]>      (balance).

Under dtheta/dt = -grad L the differences of their squared norms are therefore conserved.

Source: Du, Hu and Lee (2018) for the balance; Merrill et al. (2021), arXiv 2010.09697, for
||theta||; the independent check is torch's autograd, in verify/catalogue/gradient_flow.py.
"""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import sympy as sp


@dataclass(frozen=True)
class ReluNetwork:
    """A network with one output, on a generic point: no pre-activation is 0.

    Args:
        weights: W_1 to W_k, matrices of symbols, n_out x n_in.
        switches: one symbol a hidden neuron, by layer; 1 where it is on, else 0.
        inputs: the symbols of x.
    """

    weights: tuple[sp.ImmutableMatrix, ...]
    switches: tuple[tuple[sp.Symbol, ...], ...]
    inputs: tuple[sp.Symbol, ...]

    @property
    def depth(self) -> int:
        """Return k, the number of layers."""
        return len(self.weights)


@cache
def relu_network(widths: tuple[int, ...]) -> ReluNetwork:
    """Return a network of symbols with the given widths, the input's first, then the layers'.

    The last layer has one neuron and is not in `widths`.
    """
    sizes = (*widths, 1)
    weights = tuple(
        sp.ImmutableMatrix(
            n_out, n_in, lambda j, k, layer=layer: sp.Symbol(f"w{layer}_{j + 1}{k + 1}")
        )
        for layer, (n_in, n_out) in enumerate(pairwise(sizes), 1)
    )
    switches = tuple(
        tuple(sp.Symbol(f"d{layer}_{j + 1}", nonnegative=True) for j in range(width))
        for layer, width in enumerate(widths[1:], 1)
    )
    return ReluNetwork(weights, switches, sp.symbols(f"x1:{widths[0] + 1}"))


def output(network: ReluNetwork) -> sp.Expr:
    """Return f(x).

    >>> output(relu_network((1, 1)))
    d1_1*w1_11*w2_11*x1
    """
    state = sp.Matrix(network.inputs)
    for weight, switches in zip(network.weights, network.switches, strict=False):
        state = sp.diag(*switches) * weight * state
    return sp.expand((network.weights[-1] * state)[0])


def euler_defects(network: ReluNetwork, value: sp.Expr) -> tuple[sp.Expr, ...]:
    """Return <W_i, d value / dW_i> - value, layer by layer."""
    return tuple(
        sp.expand(_radial(weight.flat(), value) - value) for weight in network.weights
    )


def balance_defects(network: ReluNetwork, value: sp.Expr) -> tuple[sp.Expr, ...]:
    """Return, for each hidden neuron, the radial slope of what comes in less what goes out."""
    return tuple(
        sp.expand(
            _radial(into.row(j).flat(), value) - _radial(out.col(j).flat(), value)
        )
        for into, out in pairwise(network.weights)
        for j in range(into.rows)
    )


def norm_slope(network: ReluNetwork, slope: sp.Expr) -> sp.Expr:
    """Return d||theta||^2 / dt under the gradient flow of loss(f) with loss'(f) = `slope`."""
    f = output(network)
    flow = {
        w: -slope * sp.diff(f, w) for weight in network.weights for w in weight.flat()
    }
    return sp.Add(*(2 * w * rate for w, rate in flow.items()))


def predicted_norm_slope(network: ReluNetwork, slope: sp.Expr) -> sp.Expr:
    """Return -2 k loss'(f) f: the norm grows where f > 0 and the loss falls with f."""
    return -2 * network.depth * slope * output(network)


def _radial(weights: list[sp.Expr], value: sp.Expr) -> sp.Expr:
    """Return the slope of `value` as these weights grow in proportion."""
    return sp.Add(*(w * sp.diff(value, w) for w in weights))
