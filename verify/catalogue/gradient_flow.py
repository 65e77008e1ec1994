"""Claims about gradients of homogeneous and of scale-invariant losses.

Entries B-10 and B-11: Euler's identity, the balance of layers without biases, and the norm
under a loss that does not see it; by torch's autograd, in float64.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import sympy as sp
import torch
from hypothesis import strategies as st

from asymptest.theory.gradient_flow import (
    balance_defects,
    euler_defects,
    norm_slope,
    output,
    predicted_norm_slope,
    relu_network,
)
from asymptest.verify.claim import Claim, Exact, Identity, Rng, Source
from asymptest.verify.deterministic import EPS

PAPER = "arXiv 2010.09697 (Merrill et al., EMNLP 2021)"
WIDTHS = ((2,), (2, 2), (2, 3, 2), (1, 2, 2, 2))
SLOPE = sp.Symbol("loss'")

# --- B-11: Euler's identity and balance -----------------------------------------------


def _identities(degree: int = 0, share: sp.Expr = sp.S.One) -> dict[str, sp.Expr]:
    """Return the defects of f, and of the norm's slope for any loss, for several widths.

    With `degree` layers too many, or a share of the slope, they do not vanish.
    """
    found: dict[str, sp.Expr] = {}
    for widths in WIDTHS:
        network = relu_network(widths)
        f = output(network)
        defects = euler_defects(network, f)
        found[f"Euler, {widths}"] = sp.Add(*defects) - degree * f
        found |= {f"layer {i}, {widths}": gap for i, gap in enumerate(defects)}
        balance = balance_defects(network, f)
        found |= {f"neuron {j}, {widths}": gap for j, gap in enumerate(balance)}
        found[f"norm, {widths}"] = sp.expand(
            norm_slope(network, SLOPE) - share * predicted_norm_slope(network, SLOPE)
        )
    return found


@dataclass(frozen=True)
class Net:
    """A ReLU network of random weights: its input, its hidden widths, and a batch."""

    widths: tuple[int, ...]
    batch: int

    @property
    def depth(self) -> int:
        """k, the number of layers."""
        return len(self.widths)


NETS = st.builds(
    Net,
    st.lists(st.integers(1, 6), min_size=1, max_size=5).map(tuple),
    st.integers(1, 4),
)
STEP = 2.0**-6  # the learning rate of the one step


def _module(
    net: Net, rng: Rng, bias: bool, phi: type[torch.nn.Module]
) -> torch.nn.Module:
    """Return the network in torch, with standard normal parameters over sqrt(fan-in)."""
    sizes = (*net.widths, 1)
    layers = [
        part
        for n_in, n_out in pairwise(sizes)
        for part in (torch.nn.Linear(n_in, n_out, bias, dtype=torch.float64), phi())
    ]
    module = torch.nn.Sequential(*layers[:-1])
    for weight in module.parameters():
        values = rng.standard_normal(tuple(weight.shape)) / math.sqrt(weight.shape[-1])
        weight.data = torch.from_numpy(values)
    return module


def defects(
    net: Net,
    rng: Rng,
    degree: int = 0,
    bias: bool = False,
    phi: type[torch.nn.Module] = torch.nn.ReLU,
    order: int = 2,
) -> list[float]:
    """Return four numbers that vanish without biases, in units of what they are sums of.

    For L = sum of log(1 + exp(-y f)): <theta, grad L> - k <loss', f>; the worst layer's
    <W_i, grad L> - <loss', f>; the worst neuron's balance; and what one step of gradient
    descent changes in ||W_1||^2 - ||W_k||^2 beyond eta^order times that of the gradients.
    """
    module = _module(net, rng, bias, phi)
    inputs = torch.from_numpy(rng.standard_normal((net.batch, net.widths[0])))
    signs = torch.from_numpy(rng.choice([-1.0, 1.0], (net.batch, 1)))
    f = module(inputs)
    loss = torch.nn.functional.softplus(-signs * f).sum()
    weights = list(module.parameters())
    slopes, *gradients = torch.autograd.grad(loss, [f, *weights])
    parameters = [(w.detach(), g) for w, g in zip(weights, gradients, strict=True)]
    pairs = [(w, g) for w, g in parameters if w.ndim == 2]
    predicted = float((slopes * f.detach()).sum())
    layers = [float((w * g).sum()) - predicted for w, g in pairs]
    euler = sum(float((w * g).sum()) for w, g in parameters)
    neurons = [
        float(((w * g).sum(1) - (later * slope).sum(0)).abs().max())
        for (w, g), (later, slope) in pairwise(pairs)
    ]
    size = _size(pairs, inputs, slopes)
    (first, g_1), (last, g_k) = pairs[0], pairs[-1]
    before, after = _norms(first, last), _norms(first - STEP * g_1, last - STEP * g_k)
    change = after - before - STEP**order * _norms(g_1, g_k)
    largest = sum(float(w.square().sum() + g.square().sum()) for w, g in pairs)
    return [
        (euler - (net.depth + degree) * predicted) / size / net.depth,
        max(map(abs, layers)) / size,
        max(neurons, default=0.0) / size,
        change / (size + largest),
    ]


def _norms(first: torch.Tensor, last: torch.Tensor) -> float:
    return float(first.square().sum() - last.square().sum())


def _size(pairs: list, inputs: torch.Tensor, slopes: torch.Tensor) -> float:
    """Return sum |loss'| |W_k| ... |W_1| |x|: rounding is relative to this."""
    state = inputs.abs()
    for weight, _ in pairs:
        state = state @ weight.abs().mT
    return float((slopes.abs() * state).sum())


def rounding(net: Net) -> float:
    """Bound the rounding of two passes through the layers and of an inner product, / size.

    Each sum of m products adds m EPS of the sum of their moduli, and both passes run with
    the same switches.
    """
    return 2 * EPS * (2 * sum(net.widths) + net.batch + max(net.widths) + 4 * net.depth)


DEFECTS = Exact(left=defects, right=lambda _: [0.0] * 4, bound=rounding)


def _wrong(**changes: Any) -> Exact:
    return replace(DEFECTS, left=lambda net, rng: defects(net, rng, **changes))


W, G, F = sp.Symbol("W_i"), sp.Symbol("grad_i L"), sp.Symbol("sum_j loss'_j f_j")
TIME, K = sp.Symbol("t"), sp.Symbol("k")


def _norm_slope(name: str) -> sp.Expr:
    return sp.Derivative(sp.Function(name)(TIME) ** 2, TIME)


EULER = Claim(
    name="gradient-flow/euler-and-balance",
    statement=(
        sp.Eq(sp.Symbol("<theta, grad L>"), K * F),
        sp.Eq(sp.Symbol("<W_i, grad_i L>"), F),
        sp.Eq(_norm_slope("|W_i|") - _norm_slope("|W_j|"), 0),
        sp.Eq(_norm_slope("|theta|") / 2, -K * F),
    ),
    source=Source(PAPER, "gradient flow of homogeneous networks (entry B-11)"),
    instances=NETS,
    evidence=(Identity(_identities), DEFECTS),
    mutants={
        "k - 1 layers": _wrong(degree=-1),
        "k + 1 layers": _wrong(degree=1),
        "biases": _wrong(bias=True),
        "tanh for ReLU": _wrong(phi=torch.nn.Tanh),
        "conserved by steps as by the flow": _wrong(order=10**3),
        "k + 1 layers, symbolic": Identity(lambda: _identities(degree=1)),
        "half the norm's slope": Identity(lambda: _identities(share=sp.Rational(1, 2))),
    },
    limits="Up to five layers and six neurons; symbolic for up to four layers, any loss and "
    "any switches, away from the kinks of the ReLUs.",
)

# --- Gradient descent on a scale-invariant loss ---------------------------------------


@dataclass(frozen=True)
class Descent:
    """SGD on a linear classifier whose weights are divided by their norm."""

    features: int
    classes: int
    rate: float
    norm: float
    steps: int = 16
    batch: int = 4


@st.composite
def descents(draw) -> Descent:
    """Draw a classifier, a learning rate and a norm, both on a log scale."""
    return Descent(
        draw(st.integers(1, 6)),
        draw(st.integers(2, 4)),
        2.0 ** draw(st.floats(-4, 4)),
        2.0 ** draw(st.floats(-2, 4)),
    )


Logits = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def normalised(inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the logits of weights divided by their norm."""
    return inputs @ (weights / torch.linalg.norm(weights))


def _gradient(
    logits: Logits, weights: torch.Tensor, inputs: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    weights = weights.detach().requires_grad_()
    loss = torch.nn.functional.cross_entropy(logits(inputs, weights), labels)
    return torch.autograd.grad(loss, weights)[0]


def descended(
    case: Descent, rng: Rng, logits: Logits = normalised, power: int = 2
) -> list[float]:
    """Return three numbers that vanish where the loss is scale-invariant.

    The largest |theta . grad L|; what ||theta||^2 gains beyond the sum of ||delta||^2 (or of
    another power); and the largest entry of 4 grad L(4 theta) - grad L(theta).
    """
    shape = (case.features, case.classes)
    start = rng.standard_normal(shape)
    theta = torch.from_numpy(case.norm * start / np.linalg.norm(start))
    slope, gained, scaled = 0.0, float(theta.square().sum()), 0.0
    for _ in range(case.steps):
        # Unit rows: the gradient by the normalised weights is at most sqrt(2).
        rows = rng.standard_normal((case.batch, case.features))
        inputs = torch.from_numpy(rows / np.linalg.norm(rows, axis=1, keepdims=True))
        labels = torch.from_numpy(rng.integers(0, case.classes, case.batch))
        gradient = _gradient(logits, theta, inputs, labels)
        far = _gradient(logits, 4 * theta, inputs, labels)
        slope = max(slope, abs(float((theta * gradient).sum())))
        scaled = max(scaled, float((4 * far - gradient).abs().max()))
        theta = theta - case.rate * gradient
        gained += float((case.rate * gradient).norm() ** power)
    return [slope, float(theta.square().sum()) - gained, scaled]


def descent_rounding(case: Descent) -> list[float]:
    """Bound the rounding, from ||grad L|| <= sqrt(2) / ||theta|| and a norm that grows.

    The gradient by the weights is that by the normalised ones, of length sqrt(2) at most,
    without its radial part, / ||theta||: sums of as many products as there are weights.
    """
    size = case.features * case.classes
    slope = 8 * EPS * (size + 8) * math.sqrt(2)
    longest = case.norm**2 + 2 * case.steps * (case.rate / case.norm) ** 2
    gained = case.steps * (2 * case.rate * slope + 4 * EPS * size * longest)
    return [slope, gained, slope / case.norm]


DESCENT = Exact(left=descended, right=lambda _: [0.0, 0.0, 0.0], bound=descent_rounding)


def _with_eps(inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return inputs @ (weights / (weights.square().sum() + 1e-5).sqrt())


def _one_outside(inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Leave the first feature's weights as they are, as a bias after a norm would be."""
    rest = weights / torch.linalg.norm(weights)
    return inputs[:, :1] * weights[0] + inputs[:, 1:] @ rest[1:]


SCALE_INVARIANT = Claim(
    name="gradient-flow/scale-invariant-sgd",
    statement=(
        sp.Eq(sp.Symbol("theta . grad L"), sp.Integer(0)),
        sp.Eq(
            sp.Symbol("|theta + delta|") ** 2,
            sp.Symbol("|theta|") ** 2 + sp.Symbol("|delta|") ** 2,
        ),
        sp.Eq(
            sp.Symbol("grad L(c theta)"), sp.Symbol("grad L(theta)") / sp.Symbol("c")
        ),
    ),
    source=Source(PAPER, "section 5.4 for a scale-invariant loss (entry B-10)"),
    instances=descents(),
    evidence=(DESCENT,),
    mutants={
        "weights not normalised": replace(
            DESCENT, left=lambda d, rng: descended(d, rng, torch.matmul)
        ),
        "an eps in the norm": replace(
            DESCENT, left=lambda d, rng: descended(d, rng, _with_eps)
        ),
        "weights outside the norm": replace(
            DESCENT, left=lambda d, rng: descended(d, rng, _one_outside)
        ),
        "|delta| for its square": replace(
            DESCENT, left=lambda d, rng: descended(d, rng, power=1)
        ),
    },
    limits="Linear classifiers of up to 24 weights, 16 steps of plain SGD.",
)


CLAIMS = (EULER, SCALE_INVARIANT)
