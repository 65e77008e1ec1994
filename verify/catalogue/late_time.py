"""A claim about late training: the loss and the norm of homogeneous networks at large times.

Entry B-11. Time grows like exp(margin), so the flow is followed in another clock: with
du = exp(-f) dt, d theta/du = grad f and d log t/du = exp(f - log t).
"""

import math
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import sympy as sp
import torch
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from asymptest.theory.late_time import g, margin_speed, remainder, s
from asymptest.verify.claim import Claim, Exact, Identity, Rng, Source

PAPER = (
    "Lyu and Li (2020), gradient descent maximizes the margin of homogeneous networks"
)
TOLERANCE = 1e-8  # of the integrator, relative
DRIFT = 1e-5  # what its steps may add to log t and to the margin


@dataclass(frozen=True)
class Flow:
    """A ReLU network of `depth` layers of width 2, followed from one margin to another."""

    depth: int
    first: float
    last: float


@st.composite
def flows(draw) -> Flow:
    """Draw depths from 1 to 5, and margins from 40 on."""
    first = draw(st.floats(40, 80))
    return Flow(draw(st.integers(1, 5)), first, first + draw(st.floats(2, 6)))


@dataclass(frozen=True)
class Arrival:
    """Where a flow ends: log t, the margin, ||theta||, and g in f = g ||theta||^k."""

    log_time: float
    margin: float
    norm: float
    gain: float


def followed(flow: Flow, rng: Rng) -> Arrival:
    """Return where the flow ends, from the clock 1/v at its start."""
    k = flow.depth
    units = [np.abs(rng.standard_normal(2)) + 0.1 for _ in range(k)]
    units = [unit / np.linalg.norm(unit) for unit in units] + [np.ones(1)]
    x = torch.from_numpy(units[0] * math.exp(rng.uniform(-1, 1)))
    gain = float(x.norm()) * k ** (-k / 2)
    radius = (flow.first / gain) ** (1 / k) / math.sqrt(k)
    layers = [radius * np.outer(out, into) for into, out in pairwise(units)]
    shapes = [W.shape for W in layers]
    sizes = np.cumsum([0, *(W.size for W in layers)])

    def output(theta: torch.Tensor) -> torch.Tensor:
        state = x
        for at, shape in enumerate(shapes):
            W = theta[sizes[at] : sizes[at + 1]].reshape(shape)
            state = W @ state if at == k - 1 else torch.relu(W @ state)
        return state[0]

    def speeds(_: float, point: Any) -> np.ndarray:
        theta = torch.tensor(point[:-1], requires_grad=True)
        f = output(theta)
        (slope,) = torch.autograd.grad(f, theta)
        return np.append(slope.numpy(), math.exp(float(f.detach()) - point[-1]))

    def left(_: float, point: Any) -> float:
        return float(output(torch.tensor(point[:-1]))) - flow.last

    left.terminal = True  # pyright: ignore[reportFunctionMemberAccess]
    start = -_log_speed(flow.first, gain, k)
    begin = np.append(np.concatenate([W.ravel() for W in layers]), start)
    # The margin never moves slower than at the start.
    longest = (flow.last - flow.first) / math.exp(flow.first - start)
    path = solve_ivp(
        speeds,
        (0, 2 * longest),
        begin,
        method="DOP853",
        events=left,
        rtol=TOLERANCE,
        atol=TOLERANCE,
    )
    end = path.y[:, -1]
    margin = float(output(torch.tensor(end[:-1])))
    return Arrival(float(end[-1]), margin, float(np.linalg.norm(end[:-1])), gain)


@cache
def _log_of_speed(k: int) -> Any:
    return sp.lambdify((s, g), sp.expand_log(sp.log(margin_speed(k)), force=True))


def _log_speed(margin: float, gain: float, k: int) -> float:
    return float(_log_of_speed(k)(margin, gain))


def late(
    flow: Flow, rng: Rng, powers: float = 0.0, factor: float = 0.0, root: float = 0.0
) -> list[float]:
    """Return log(t v(s)), and how far g rho^k is from the margin, which ought to vanish.

    Args:
        flow: what to follow.
        rng: of the weights' direction and the input.
        powers: added to the exponent of s in v.
        factor: added to log v.
        root: added to k in the law of the norm.
    """
    end = followed(flow, rng)
    k = flow.depth
    speed = _log_speed(end.margin, end.gain, k) + powers * math.log(end.margin) + factor
    return [
        end.log_time + speed,
        math.log(end.gain) + (k + root) * math.log(end.norm) - math.log(end.margin),
    ]


def allowed(flow: Flow) -> list[float]:
    """Bound log(t v): t - 1/v(first) is the integral of 1/v, and (1/v)' >= (1 - |a|/first)/v."""
    a = abs(float(remainder(flow.depth)))
    return [-math.log1p(-a / flow.first) + DRIFT, DRIFT]


def _remainders(shift: sp.Expr = sp.S.Zero) -> dict[str, sp.Expr]:
    return {
        f"k = {k}": remainder(k) - (sp.Rational(2, k) - 2 + shift) for k in range(1, 7)
    }


LATE = Exact(left=late, right=lambda _: [0.0, 0.0], bound=allowed)


def _wrong(**changes: float) -> Exact:
    return replace(LATE, left=lambda flow, rng: late(flow, rng, **changes))


K, T, L, NORM = sp.symbols("k t L |theta|", positive=True)

LATE_TIME = Claim(
    name="late-time/exponential-loss",
    statement=(
        sp.Eq(sp.Limit(L * T * K**2 * g ** (2 / K) * s ** (2 - 2 / K), T, sp.oo), 1),
        sp.Eq(sp.Limit(NORM / (sp.log(T) / g) ** (1 / K), T, sp.oo), 1),
    ),
    source=Source(PAPER, "gradient flow on exp(-f), f of degree k (entry B-11)"),
    instances=flows(),
    evidence=(Identity(_remainders), LATE),
    mutants={
        "t (log t)^(2 - 1/k)": _wrong(powers=0.25),
        "k for k^2": _wrong(factor=-math.log(2)),
        "no power of log t": Identity(lambda: _remainders(sp.S.One)),
        "norm as (log t)^(1/(k + 1))": _wrong(root=1.0),
    },
    limits="One example, in a direction that the flow keeps (grad f parallel to theta), "
    "margins of 40 to 86; others turn towards such a direction.",
)

CLAIMS = (LATE_TIME,)
