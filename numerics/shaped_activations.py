"""Deep Kernel Shaping and Tailored Activation Transformations: the constants, solved.

The architecture turns a target for all subnetworks (theory/subnetworks.py) into one for a
single activation: C'(1) for DKS, C''(1) for TAT, kappa = C(0) for a leaky ReLU, whose slope is
then a closed form. For any other activation numerics/shaping.py solves for the constants.

    network_of = lambda phi: (Dense() >> Pointwise(phi)) * 100
    shaped = dks(tanh, network_of)             the constants
    network = network_of(shaped.activation)    the network in which they hold

Source: Martens et al. (2021), arXiv 2110.01765; Zhang et al. (2022), arXiv 2203.08120. The
independent check is numerics/kernel.py on the shaped network.
"""

import math
from collections.abc import Callable
from typing import Any

import sympy as sp
from scipy import integrate, optimize

from asymptest.numerics.shaping import solve_dks, solve_tat
from asymptest.theory.activations import Activation, relu
from asymptest.theory.dual_maps import homogeneity, rho
from asymptest.theory.errors import ArgumentError, UnsupportedError
from asymptest.theory.network import Network
from asymptest.theory.pieces import derivative, jumps
from asymptest.theory.shaped_activations import (
    Transformed,
    kappa,
    leaky_bend,
    leaky_slope,
)
from asymptest.theory.subnetworks import (
    activations,
    check_normalised,
    curvature_at_one,
    maximum,
    slope_at_one,
    value_at_zero,
)

Architecture = Callable[[Activation], Network]
Function = Callable[[Any], Any]

MOST_BEND = 1 / math.pi  # kappa of ReLU
STEP = 16.0  # from one guess to the next


# --- what the architecture asks of one activation ---------------------------------------


def slope_excess(network_of: Architecture, phi: Activation, zeta: float) -> float:
    """Return C'(1) - 1 of one activation at which C_f'(1) is `zeta` at most.

    Args:
        network_of: activation -> the network that uses it, at unit variances throughout.
        phi: the activation, of which only the places in the network matter.
        zeta: the largest slope over subnetworks f, > 1.

    Raises:
        ArgumentError: if zeta <= 1, or a variance is not 1, or the network lacks phi.
        UnsupportedError: if it has other activations, or layers without a C-map.
    """
    if not 1 < zeta < math.inf:
        raise ArgumentError(f"zeta must be a number > 1; got {zeta}")
    network = _with_only(phi, network_of)

    def largest(excess: float) -> float:
        return maximum(network, slope_at_one(lambda _: 1 + excess))

    excess = _reach(largest, zeta, zeta)  # a single activation has 1 + zeta
    assert excess is not None
    return excess


def curvature(network_of: Architecture, phi: Activation, tau: float) -> float:
    """Return C''(1) of one activation at which C_f''(1) is `tau` at most.

    Args:
        network_of: as for `slope_excess`.
        phi: likewise.
        tau: the largest curvature over subnetworks f, > 0.

    Raises:
        ArgumentError, UnsupportedError: as `slope_excess`.
    """
    if not 0 < tau < math.inf:
        raise ArgumentError(f"tau must be a number > 0; got {tau}")
    network = _with_only(phi, network_of)
    # Sums, means and maxima of curvatures >= 0 are proportional to the curvature of phi.
    total = maximum(network, curvature_at_one(lambda _: 1.0))
    return tau / total


def _with_only(phi: Activation, network_of: Architecture) -> Network:
    network = network_of(phi)
    check_normalised(network)
    found = activations(network)
    if not found:
        raise ArgumentError(f"the network {network!r} does not use {phi.name}")
    if others := found - {phi}:
        raise UnsupportedError(
            f"one activation is shaped at a time; the network that was built for "
            f"{phi.name} also has {', '.join(sorted(other.name for other in others))}"
        )
    return network


def _reach(
    largest: Callable[[float], float], target: float, most: float
) -> float | None:
    """Return where an increasing function on [0, most] is `target`, None if beyond.

    From below, since far beyond the target correlations round to 1 and slopes overflow.
    """
    high = most * STEP**-15
    while largest(high) < target:
        if high == most:
            return None
        high *= STEP
    found: Any = optimize.root_scalar(
        lambda at: largest(at) - target,
        bracket=(high / STEP, high),
        xtol=1e-300,
        rtol=1e-15,
    )
    return float(found.root)


# --- leaky ReLU ---------------------------------------------------------------------------


def dks_leaky_slope(network_of: Architecture, zeta: float = 1.5) -> float:
    """Return the slope s for x < 0 at which `dks_leaky_relu(s)` has C_f'(1) = zeta at most.

    Args:
        network_of: activation -> network; it is called with relu.
        zeta: the largest slope over subnetworks f, > 1.

    Raises:
        ArgumentError: if zeta <= 1, or not even a ReLU reaches it.
        UnsupportedError: as `slope_excess`.
    """
    excess = slope_excess(network_of, relu, zeta)
    bend = excess / (1 + excess)
    if bend > MOST_BEND:
        raise ArgumentError(
            f"no leaky ReLU reaches C_f'(1) = {zeta} in this network: each would have to "
            f"have the slope {1 + excess:.4g}, and ReLU has {1 / (1 - MOST_BEND):.4g}; use "
            f"more layers, a smaller zeta, or another activation with dks"
        )
    return float(leaky_slope(bend))


def tat_leaky_slope(network_of: Architecture, eta: float = 0.9) -> float:
    """Return the slope s for x < 0 at which `tat_leaky_relu(s)` has C_f(0) = eta at most.

    Args:
        network_of: activation -> network; it is called with relu.
        eta: the largest C_f(0) over subnetworks f, between 0 and 1.

    Raises:
        ArgumentError: if eta is out of range, or not even a ReLU reaches it.
        UnsupportedError: as `slope_excess`.

    >>> from asymptest.theory import Dense, Pointwise
    >>> round(tat_leaky_slope(lambda phi: (Dense() >> Pointwise(phi)) * 36), 6)
    0.351121
    """
    if not 0 < eta < 1:
        raise ArgumentError(f"eta must be between 0 and 1; got {eta}")
    network = _with_only(relu, network_of)
    c_map: Any = sp.lambdify((rho, kappa), rho + kappa * leaky_bend(), "math")

    def largest(bend: float) -> float:
        return maximum(network, value_at_zero(lambda _, c: c_map(c, bend)))

    bend = _reach(largest, eta, MOST_BEND)
    if bend is None:
        raise ArgumentError(
            f"no leaky ReLU reaches C_f(0) = {eta} in this network: ReLU itself has "
            f"{largest(MOST_BEND):.4g}; use more layers, a smaller eta, or a smooth "
            f"activation with tat"
        )
    return float(leaky_slope(bend))


def compose(c_map: Function, n: int) -> Function:
    """Return the n-fold composition c_map(c_map(...c_map(c)))."""

    def composed(c: Any) -> Any:
        for _ in range(n):
            c = c_map(c)
        return c

    return composed


def leaky_depth(eta: float) -> float:
    """Return lim n kappa for n leaky ReLUs with C_f(0) = eta: the integral of 1/g to eta.

    A layer adds kappa g(c) to c, a small step if n is large.

    >>> round(leaky_depth(0.9), 6)
    4.509938
    """
    speed: Any = sp.lambdify(rho, leaky_bend(), "math")
    return float(
        integrate.quad(lambda c: 1 / speed(c), 0, eta, epsabs=0, epsrel=1e-13)[0]
    )


# --- DKS and TAT for any other activation ---------------------------------------------


def dks(phi: Activation, network_of: Architecture, zeta: float = 1.5) -> Transformed:
    """Return phi transformed so that C_f'(1) is `zeta` at most over subnetworks f.

    Args:
        phi: the activation; its slope may jump, it may not.
        network_of: activation -> the network in which it is used, at unit variances.
        zeta: the largest slope, > 1.

    Raises:
        ArgumentError: if zeta <= 1; if phi jumps, or is homogeneous (a leaky ReLU has
            `dks_leaky_slope`); if no transformation is found.
        UnsupportedError: as `slope_excess`.

    >>> from asymptest.theory import Dense, Pointwise, tanh
    >>> shaped = dks(tanh, lambda phi: (Dense() >> Pointwise(phi)) * 100)
    >>> round(shaped.input_scale, 4), round(shaped.input_shift, 4)
    (0.0904, 0.5601)
    """
    excess = slope_excess(network_of, phi, zeta)
    if jumps(phi.expr):
        raise ArgumentError(
            f"dks needs an activation that does not jump; {phi.name} has C'(1) = infinity"
        )
    if homogeneity(phi) is not None:
        raise ArgumentError(
            f"dks cannot shape {phi.name}: it is homogeneous, so that an input scale "
            f"changes nothing; use a leaky ReLU (dks_leaky_slope) or a smooth activation"
        )
    return solve_dks(phi, excess)


def tat(phi: Activation, network_of: Architecture, tau: float = 0.3) -> Transformed:
    """Return phi transformed so that C'(1) = 1, and C_f''(1) is `tau` at most.

    Args:
        phi: the activation, with a continuous slope.
        network_of: as for `dks`.
        tau: the largest curvature over subnetworks f, > 0.

    Raises:
        ArgumentError: if tau <= 0; if the slope of phi jumps (a leaky ReLU has
            `tat_leaky_slope`); if no transformation is found.
        UnsupportedError: as `slope_excess`.

    >>> from asymptest.theory import Dense, Pointwise, softplus
    >>> shaped = tat(softplus, lambda phi: (Dense() >> Pointwise(phi)) * 48)
    >>> round(shaped.output_scale, 4), round(shaped.output_shift, 4)
    (7.3008, -0.9971)
    """
    target = curvature(network_of, phi, tau)
    if jumps(phi.expr) or jumps(derivative(phi.expr)):
        raise ArgumentError(
            f"tat needs a continuous slope, and that of {phi.name} jumps: C''(1) is "
            f"infinite; use a smooth activation, a leaky ReLU (tat_leaky_slope), or dks"
        )
    return solve_tat(phi, target)
