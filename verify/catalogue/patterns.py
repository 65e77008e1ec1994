"""Claims about uniform attention: rank collapse, at once without a mask, at 4^-l with one.

Entries A-03 and A-04: arXiv 2302.10322, section 3, re-derived in theory/cesaro.py.
"""

import math
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import sympy as sp
from hypothesis import strategies as st
from jaxtyping import Float

from asymptest.theory.cesaro import cesaro, eigenvectors, leading_cosine_deficit, power
from asymptest.theory.network import Attention, Dense
from asymptest.theory.patterns import Uniform
from asymptest.verify.claim import Claim, Exact, Identity, Rate, Rng, Source
from asymptest.verify.deterministic import EPS
from asymptest.verify.families import finite_kernels, kernels_of_size

Kernel = Float[np.ndarray, "T T"]

PAPER = "arXiv 2302.10322 (He et al., ICLR 2023)"
HAAR = Dense(init="orthogonal")


@dataclass(frozen=True, eq=False)
class Stack:
    """A kernel and the number of uniform attention layers on it."""

    K0: Kernel
    depth: int
    width: int = 16


@st.composite
def stacks(draw, depths) -> Stack:
    """Draw two to six positions and a depth."""
    return Stack(draw(kernels_of_size(draw(st.integers(2, 6)))), draw(depths))


def attended(stack: Stack, rng: Rng, mask: str = "full") -> Kernel:
    """Return the kernel of a finite stack of uniform attention with orthogonal weights."""
    network = Attention(Uniform(), mask, 1, HAAR, HAAR) * stack.depth
    return finite_kernels(network, stack.K0, stack.width, 1, rng)[0]


def rounding(stack: Stack) -> float:
    """Bound the rounding of two orthogonal products and an average of T rows a layer."""
    size = len(stack.K0) + 2 * stack.width
    return 16 * stack.depth * size * EPS * float(np.diagonal(stack.K0).max())


# --- without a mask, one layer is enough ----------------------------------------

COLLAPSE = Exact(
    left=attended,
    right=lambda s: np.full_like(s.K0, s.K0.mean()),
    bound=rounding,
)

ONE_LAYER = Claim(
    name="patterns/uniform-full-collapses-at-once",
    statement=(sp.Eq(sp.Symbol("K_1[i, j]"), sp.Symbol("mean(K_0)")),),
    source=Source(PAPER, "rank collapse (entry A-03)"),
    instances=stacks(st.integers(1, 4)),
    evidence=(COLLAPSE,),
    mutants={
        "geometric decay in depth": replace(
            COLLAPSE,
            right=lambda s: s.K0.mean() + 0.5**s.depth * (s.K0 - s.K0.mean()),
        ),
        "mean of the diagonal": replace(
            COLLAPSE, right=lambda s: np.full_like(s.K0, np.diagonal(s.K0).mean())
        ),
        "norm kept": replace(
            COLLAPSE, right=lambda s: np.full_like(s.K0, np.diagonal(s.K0)[0])
        ),
        "causal mask": replace(
            COLLAPSE, left=lambda s, rng: attended(s, rng, "causal")
        ),
    },
    limits="Up to six positions and four layers; orthogonal weights, width 16.",
)


# --- with a causal mask, the first token wins at rate 4^-l ---------------------

DEEP = 64  # 2^-64 is below the rounding of the layers themselves

LIMIT = Exact(
    left=lambda s, rng: attended(s, rng, "causal"),
    right=lambda s: np.full_like(s.K0, s.K0[0, 0]),
    # C^l - 1 e_1^T is 2^-l P[:, 2] P[2, :] and smaller terms; |P| <= 2^T.
    bound=lambda s: rounding(s) + 8 ** len(s.K0) * 2.0**-s.depth * float(s.K0.max()),
)


@dataclass(frozen=True)
class Tokens:
    """Integer token vectors, so that cosines at any depth are exact, and two positions."""

    rows: tuple[tuple[int, ...], ...]
    i: int
    j: int

    @property
    def gram(self) -> list[list[int]]:
        """Their exact Gram matrix."""
        return [
            [sum(a * b for a, b in zip(r, s, strict=True)) for s in self.rows]
            for r in self.rows
        ]


@st.composite
def tokens(draw) -> Tokens:
    """Draw up to five tokens, the first two independent, and two different positions."""
    size = draw(st.integers(2, 5))
    entry = st.integers(-3, 3)
    rows = [tuple(draw(entry) for _ in range(3)) for _ in range(size)]
    # Independent of each other, and of the same order as the rest.
    rows[0], rows[1] = (4, *rows[0][1:]), (rows[1][0], 8, rows[1][2])
    i = draw(st.integers(0, size - 1))
    j = draw(st.integers(0, size - 1).filter(lambda k: k != i))
    return Tokens(tuple(rows), i, j)


def cosine_deficit(case: Tokens, depth: int) -> float:
    """Return 1 - cos_ij after `depth` layers, exactly up to the last rounding."""
    size = len(case.rows)
    C = [
        [Fraction(1, a + 1) if b <= a else Fraction(0) for b in range(size)]
        for a in range(size)
    ]
    state = [[Fraction(x) for x in row] for row in case.rows]
    for _ in range(depth):
        state = [
            [
                sum((C[a][b] * state[b][k] for b in range(a + 1)), Fraction(0))
                for k in range(3)
            ]
            for a in range(size)
        ]
    x, y = state[case.i], state[case.j]
    xy, xx, yy = (
        sum(p * q for p, q in zip(left, right, strict=True))
        for left, right in ((x, y), (x, x), (y, y))
    )
    sine = 1 - Fraction(xy * xy, 1) / (xx * yy)
    cosine = math.sqrt(float(1 - sine)) * (1 if xy > 0 else -1)
    return float(sine) / (1 + cosine)


_CONSTANT = sp.lambdify(sp.symbols("K_11 K_22 K_12 i j"), leading_cosine_deficit())


def deficit_constant(case: Tokens) -> float:
    """Return the derived lim 4^l (1 - cos_ij)."""
    K = case.gram
    return float(_CONSTANT(K[0][0], K[1][1], K[0][1], case.i + 1, case.j + 1))


def deficit_remainder(case: Tokens, depth: int) -> float:
    """Bound the relative departure of 1 - cos_ij from its leading term.

    With C^l = sum_k k^-l P[:, k] P[k, :], let Y_k = P[k, :] X. The difference of the two
    rows departs from 2^-l (i-j) Y_2 by delta (the terms k >= 3, relative to the part of Y_2
    across X_1), and either row from X_1 by eta, relative to it. The deficit is quadratic in
    the first and divides by squared lengths; 8 covers all cross terms while delta and eta
    are small.
    """
    P = np.array(eigenvectors(len(case.rows)), dtype=np.float64)
    X = np.array(case.rows, dtype=np.float64)
    Y = P @ X
    length = float(np.linalg.norm(X[0]))
    across = Y[1] - X[0] * (Y[1] @ X[0]) / length**2
    k = np.arange(1, len(X) + 1)
    sizes = np.linalg.norm(Y, axis=1)
    apart = np.abs(P[case.i] - P[case.j])
    far = (k[2:] / 2.0) ** -depth * apart[2:] * sizes[2:]
    delta = far.sum() / (apart[1] * np.linalg.norm(across))
    reach = np.maximum(np.abs(P[case.i]), np.abs(P[case.j]))
    eta = ((1.0 * k[1:]) ** -depth * reach[1:] * sizes[1:]).sum() / length
    return 8 * float(delta + eta)


COSINES = Rate(
    error=cosine_deficit,
    ratio=lambda _: 0.25,
    constant=deficit_constant,
    depths=(60, 80),
    remainder=deficit_remainder,
)


def _spectrum() -> dict[str, sp.Expr]:
    """Return C P - P diag(1/k), P P - I and C^3 minus its closed form, for T up to 6."""
    found: dict[str, sp.Expr] = {}
    for size in range(1, 7):
        C, P = cesaro(size), eigenvectors(size)
        values = sp.diag(*(sp.Rational(1, k) for k in range(1, size + 1)))
        for name, gap in (
            ("C P = P D", C * P - P * values),
            ("P P = I", P * P - sp.eye(size)),
            ("C^3", C**3 - power(size, 3)),
        ):
            found[f"{name}, T = {size}"] = sp.Add(*(entry**2 for entry in gap))
    return found


CAUSAL = Claim(
    name="patterns/uniform-causal-collapses-to-first-token",
    statement=(
        sp.Eq(
            sp.Limit(sp.Function("K_ij")(sp.Symbol("l")), sp.Symbol("l"), sp.oo),
            sp.Symbol("K_11"),
        ),
        sp.Eq(
            sp.Limit(
                4 ** sp.Symbol("l") * (1 - sp.Function("cos_ij")(sp.Symbol("l"))),
                sp.Symbol("l"),
                sp.oo,
            ),
            leading_cosine_deficit(),
        ),
    ),
    source=Source(PAPER, "rank collapse under the causal mask (entry A-04)"),
    instances=stacks(st.just(DEEP)),
    evidence=(LIMIT, Identity(_spectrum)),
    mutants={
        "limit is the mean token": replace(
            LIMIT, right=lambda s: np.full_like(s.K0, s.K0.mean())
        ),
        "limit is the last token": replace(
            LIMIT, right=lambda s: np.full_like(s.K0, s.K0[-1, -1])
        ),
        "the mask does not matter": replace(LIMIT, left=attended),
    },
    limits="Up to six positions at depth 64; the spectrum is symbolic for T up to 6.",
)

CAUSAL_RATE = Claim(
    name="patterns/uniform-causal-rate",
    statement=CAUSAL.statement[1:],
    source=Source(PAPER, "rank collapse under the causal mask (entry A-04)"),
    instances=tokens(),
    evidence=(COSINES,),
    mutants={
        "rate 2^-l": replace(COSINES, ratio=lambda _: 0.5),
        "half missing": replace(COSINES, constant=lambda c: 2 * deficit_constant(c)),
        "|i - j| for its square": replace(
            COSINES, constant=lambda c: deficit_constant(c) / abs(c.i - c.j)
        ),
        "K_12 missing": replace(
            COSINES,
            constant=lambda c: float(
                _CONSTANT(c.gram[0][0], c.gram[1][1], 0, c.i + 1, c.j + 1)
            ),
        ),
    },
    limits="Up to five positions, depths 60 and 80, in exact arithmetic.",
)

CLAIMS = (ONE_LAYER, CAUSAL, CAUSAL_RATE)
