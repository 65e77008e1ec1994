"""Claims about how little one letter of a long word changes softmax attention.

Where logits and states are bounded, exchanging one letter moves the output by O(1 / T), so
that the cross-entropy of a language that hangs on every letter tends to 1 bit (decay.py).

Entry C-11: Hahn (2020).
"""

import math
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import sympy as sp
import torch
from hypothesis import strategies as st
from jaxtyping import Float

from asymptest.theory.activations import relu
from asymptest.theory.network import Attention, Dense, Mlp, Network, Residual
from asymptest.theory.patterns import Pattern, Saturated, Softmax
from asymptest.verify.claim import Bound, Claim, Rate, Source
from asymptest.verify.finite import AttentionModule, FiniteNetwork, finite
from asymptest.verify.languages import attention
from asymptest.verify.recognizers import MARKER, ROUNDING, Recognizer, outputs

HAHN = "Hahn (TACL 2020), arXiv 1906.06755"
T = sp.Symbol("T", integer=True, positive=True)


# --- two layers: one letter moves the output by O(1 / T) --------------------------------

WIDTH = 4
SMALL = Dense(sp.Rational(1, 8))  # so that the bound's constant is moderate
SOFT = Softmax(variance=sp.Rational(1, 16))
SATURATED = Saturated(variance=sp.Rational(1, 16))  # with the same weights


def hahn_network(pattern: Pattern) -> Network:
    """Return two layers of attention and a ReLU network, all with skip connections."""
    attend = Residual(Attention(pattern, value=SMALL, output=SMALL))
    return (attend >> Residual(Mlp(relu, expansion=1, hidden=SMALL, output=SMALL))) * 2


@dataclass(frozen=True)
class Change:
    """Random weights and tokens, a word of one letter or of two, and one of its places."""

    seed: int
    length: int
    place: int
    mixed: bool


@st.composite
def changes(draw) -> Change:
    """Draw the length on a log scale."""
    length = int(2 ** draw(st.floats(1, 9)))
    place = draw(st.integers(0, length - 1))
    return Change(draw(st.integers(0, 2**32)), length, place, draw(st.booleans()))


def hahn_module(at: Change, pattern: Pattern) -> FiniteNetwork:
    """Return the network of an instance."""
    return finite(hahn_network(pattern), WIDTH, rng=at.seed)


def moved(at: Change, pattern: Pattern = SOFT, sharp: bool = False) -> float:
    """Return how far the last position's state moves when one letter is exchanged.

    Args:
        at: the instance.
        pattern: of the attention.
        sharp: whether the logits are multiplied by T.
    """
    rng = np.random.default_rng(at.seed)
    tokens = rng.standard_normal((3, WIDTH))
    tokens /= np.linalg.norm(tokens, axis=1, keepdims=True)  # a, b and the marker
    letters = rng.integers(0, 2, at.length) if at.mixed else np.zeros(at.length, int)
    word = np.append(letters, 2)
    other = word.copy()
    other[at.place] = 1 - other[at.place]
    module = hahn_module(at, pattern)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if sharp and name.endswith("WQ"):
                weight *= len(word)
        states = torch.from_numpy(tokens[np.stack([word, other])])
        final = module.body(states)[:, -1]
    return float(torch.linalg.vector_norm(final[1] - final[0]))


def moved_at_most(at: Change) -> float:
    """Bound `moved` from the norms of the weights, layer by layer.

    Let all rows have a norm of at most r; let the row of the letter change at will and all
    others by at most d. With M = W^Q W^K^T / sqrt(d_k), logits lie in +-|M| r^2, so that no
    position gets more weight than w = e^b / (e^b + T - 1), b = 2 |M| r^2. With V = W^V W^O,

    * the letter's own row moves a mean by at most 2 w times the values' diameter 2 |V| r;
    * the other rows' values move it by |V| d;
    * the logits change by at most h = 2 |M| r d, the weights by h in l1 norm, so that the
      mean moves by at most h |V| r.

    A ReLU network multiplies d by at most the product of its norms; a skip adds d.
    """
    module = hahn_module(at, SOFT)
    size = at.length + 1
    r, d = 1.0, 0.0
    for layer in module.modules():
        if isinstance(layer, AttentionModule):
            tables = {
                n.rsplit(".")[-1]: _matrix(p) for n, p in layer.named_parameters()
            }
            query, key = (tables[n].reshape(WIDTH, -1) for n in ("WQ", "WK"))
            value = tables["WV"].reshape(WIDTH, -1) @ tables["WO"].reshape(-1, WIDTH)
            M = _norm(query @ key.T) / math.sqrt(WIDTH)
            V = _norm(value)
            share = 1 / (1 + (size - 1) * math.exp(-2 * M * r**2))
            d = d + 4 * share * V * r + V * d + 2 * M * r * d * V * r
            r = r * (1 + V)
        elif isinstance(layer, torch.nn.Sequential) and _is_mlp(layer):
            L = math.prod(_norm(_matrix(p)) for p in layer.parameters())
            r, d = r * (1 + L), d * (1 + L)
    return d


def _is_mlp(layer: torch.nn.Sequential) -> bool:
    return not any(isinstance(m, AttentionModule) for m in layer.modules())


def _matrix(weight: torch.nn.Parameter) -> Float[np.ndarray, "..."]:
    return weight.detach().numpy()[0]


def _norm(matrix: Float[np.ndarray, "rows columns"]) -> float:
    return float(np.linalg.norm(matrix, 2))


MOVED = Bound(moved, moved_at_most, lambda at: ROUNDING)

ONE_LETTER = Claim(
    name="sensitivity/one-letter",
    statement=(
        sp.Le(
            sp.Symbol("|f(w) - f(w')|"),
            sp.Symbol("C") / (1 + (T - 1) * sp.exp(-2 * sp.Symbol("B"))),
        ),
    ),
    source=Source(HAHN, "the lemma on soft attention, with a constant (entry C-11)"),
    instances=changes(),
    evidence=(MOVED,),
    mutants={
        "1 / T^2": replace(
            MOVED, right=lambda at: 8 * moved_at_most(at) / (at.length + 1)
        ),
        "saturated attention": replace(MOVED, left=lambda at: moved(at, SATURATED)),
        "logits that grow like T": replace(MOVED, left=partial(moved, sharp=True)),
    },
    limits="Random weights, two layers of width 4, words up to 512 letters.",
)


# --- one layer: the bound is sharp ------------------------------------------------------


@dataclass(frozen=True)
class Letters:
    """Keys and values of a, b and the marker; b takes the place of one a."""

    keys: tuple[float, float, float]
    values: tuple[float, float, float]


@st.composite
def letters(draw) -> Letters:
    """Draw keys in [-1/2, 1/2], and values of which those of a and b are 1/2 apart or more.

    So `moved_remainder` stays below 0.4 from 32 positions on.
    """
    key_a, key_b, key_m = (draw(st.integers(-8, 8)) / 16 for _ in range(3))
    a, marker = (draw(st.integers(-4, 4)) / 4 for _ in range(2))
    step = draw(st.integers(2, 8)) * draw(st.sampled_from([-1, 1])) / 4
    return Letters((key_a, key_b, key_m), (a, a + step, marker))


def one_head(by: Letters) -> Recognizer:
    """Return a single soft head that attends from the marker."""
    rows = zip(("a", "b", MARKER), by.keys, by.values, strict=True)
    return Recognizer(
        alphabet="ab",
        tokens={x: (int(x == MARKER), key, value) for x, key, value in rows},
        network=lambda T: Attention(Softmax(), heads=3),
        weights=(
            attention(
                3,
                3,
                WQ={(0, 0, 0): 1},
                WK={(1, 0, 0): 1},
                WV={(2, 0, 0): 1},
                WO={(0, 0, 2): 1},
            ),
        ),
        read=(0, 0, 1),
    )


def one_head_moved(by: Letters, level: int) -> float:
    """Return the change of the output at T = 2^level positions."""
    length = 2**level - 1
    before, after = outputs(one_head(by), ["a" * length, "b" + "a" * (length - 1)])
    return abs(float(after - before))


def moved_constant(by: Letters) -> float:
    """Return T times the change in the limit: e^(key_b - key_a) |value_b - value_a|."""
    a, b, _ = by.keys
    return math.exp(b - a) * abs(by.values[1] - by.values[0])


def moved_remainder(by: Letters, level: int) -> float:
    """Bound the departure from the constant over T.

    With u = e^key, Z = (T - 1) u_a + u_m and y the mean before, the change is exactly

        (u_b (v_b - v_a) - (u_b - u_a) (y - v_a)) / (Z - u_a + u_b),
        y - v_a = u_m (v_m - v_a) / Z.
    """
    size = 2**level
    a, b, m = (math.exp(key) for key in by.keys)
    Z = (size - 1) * a + m
    top = (b - a) * m * (by.values[2] - by.values[0])
    top /= Z * b * (by.values[1] - by.values[0])
    bottom = (m + b - 2 * a) / (size * a)
    return (abs(top) + abs(bottom)) / (1 - abs(bottom)) + ROUNDING * size


MOVED_RATE = Rate(
    error=one_head_moved,
    ratio=lambda by: 0.5,
    constant=moved_constant,
    depths=(5, 8),
    remainder=moved_remainder,
)

ONE_LETTER_RATE = Claim(
    name="sensitivity/one-letter-rate",
    statement=(
        sp.Eq(
            sp.Symbol("|f(w) - f(w')|"),
            sp.exp(sp.Symbol("k_b") - sp.Symbol("k_a"))
            * sp.Abs(sp.Symbol("v_b") - sp.Symbol("v_a"))
            / T,
        ),
    ),
    source=Source(HAHN, "the rate for one soft head (entry C-11)"),
    instances=letters(),
    evidence=(MOVED_RATE,),
    mutants={
        "T^(-1/2)": replace(MOVED_RATE, ratio=lambda by: math.sqrt(0.5)),
        "T^(-2)": replace(MOVED_RATE, ratio=lambda by: 0.25),
        "keys alike": replace(
            MOVED_RATE, constant=lambda by: abs(by.values[1] - by.values[0])
        ),
    },
    limits="One layer; 32 and 256 positions.",
)

CLAIMS = (ONE_LETTER, ONE_LETTER_RATE)
