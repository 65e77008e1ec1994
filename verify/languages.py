"""Formal languages, and transformers that recognise them, weight by weight.

| language      | attention              | source                                        |
|---------------|------------------------|-----------------------------------------------|
| MAJORITY      | one mean head          | Merrill, Sabharwal and Smith (2022)           |
| DYCK-1        | mean, then maximum     | derived here                                  |
| PARITY        | mean, then even - odd  | Chiang and Cholak (2022), with their weights  |
| FIRST         | one soft head          | Chiang and Cholak (2022), with their weights  |
| contains "aa" | strict, the rightmost  | in the manner of Yang, Chiang, Angluin (2024) |

Each docstring proves its construction. Logits are divided by sqrt(d_k), as everywhere.
"""

from collections.abc import Mapping
from fractions import Fraction
from itertools import accumulate
from types import MappingProxyType

import numpy as np

from asymptest.theory.activations import relu
from asymptest.theory.network import Attention, Dense, LayerNorm, Mlp, Network, Residual
from asymptest.theory.patterns import Pattern, Saturated, Softmax
from asymptest.verify.recognizers import MARKER, Number, Recognizer, Weights

Entries = Mapping[tuple[int, ...], Number]

NONE: Entries = MappingProxyType({})
SOFT, SATURATED = Softmax(), Saturated()


def is_majority(word: str) -> bool:
    """Whether more letters are 1 than 0."""
    return 2 * word.count("1") > len(word)


def is_odd(word: str) -> bool:
    """Whether the number of ones is odd."""
    return word.count("1") % 2 == 1


def is_dyck(word: str) -> bool:
    """Whether the parentheses match."""
    depths = list(accumulate((1 if c == "(" else -1 for c in word), initial=0))
    return min(depths) == 0 == depths[-1]


def starts_with_one(word: str) -> bool:
    """Whether the first letter is 1."""
    return word.startswith("1")


def has_double_a(word: str) -> bool:
    """Whether two neighbouring letters are a."""
    return "aa" in word


def dense(rows: int, columns: int, W: Entries, v: Entries | None = None) -> Weights:
    """Return the weights of a Dense layer from their nonzero entries."""
    bias = {} if v is None else {"v": _filled((columns,), v)}
    return {"W": _filled((rows, columns), W), **bias}


def attention(
    n: int, heads: int, WV: Entries, WO: Entries, WQ: Entries = NONE, WK: Entries = NONE
) -> Weights:
    """Return the weights of a scored Attention layer from their nonzero entries.

    Args:
        n: the width.
        heads: their number H; d_k = n / H.
        WV: (feature, head, channel) -> value; WQ and WK likewise.
        WO: (head, channel, feature) -> value.
        WQ: of the queries; where it is zero, attention is uniform.
        WK: of the keys.
    """
    inner = (n, heads, n // heads)
    return {
        "WQ": _filled(inner, WQ),
        "WK": _filled(inner, WK),
        "WV": _filled(inner, WV),
        "WO": _filled((*inner[1:], n), WO),
    }


def _filled(shape: tuple[int, ...], entries: Entries) -> np.ndarray:
    table = np.full(shape, Fraction(0), dtype=object)
    for index, value in entries.items():
        table[index] = Fraction(value)  # a float, too, is an exact fraction
    return table


def majority(pattern: Pattern = SATURATED) -> Recognizer:
    """Return MAJORITY: the letters 0, 1 and the marker have the values -1, 1 and 0.

    The only head averages over all T = n + 1 positions. With k ones the output is
    (2 k - n) / T, which is positive iff k > n / 2.
    """
    return Recognizer(
        alphabet="01",
        tokens={"0": (-1,), "1": (1,), MARKER: (0,)},
        network=lambda T: Attention(pattern),
        weights=(attention(1, 1, WV={(0, 0, 0): 1}, WO={(0, 0, 0): 1}),),
        read=(1,),
    )


def dyck(pattern: Pattern = SATURATED, c: Number = 1) -> Recognizer:
    """Return DYCK-1, with the logits of its second layer multiplied by c.

    Let b_i be the depth after i letters, T = n + 1. The features are

        0  +1 for "(", -1 for ")", 0 for the marker     2  balance  b_i / i
        1  1 for the marker                             3  1 / T, at the marker
        4  deficit  d_i = relu(-b_i / i)                5  worst = max_i d_i, at the marker

    where at the marker, which is letter T, the balance is b_n / T. The first layer's causal
    mean head makes 2 and 3 of 0 and 1; its ReLU makes 4; the second layer's head attends
    from the marker to the largest deficit. The output is

        1 / (2 T) - worst - |b_n| / T,    |b_n| / T = balance + 2 deficit at the marker.

    If all b_i >= 0 and b_n = 0, it is 1 / (2 T). Otherwise b_n is not 0, and the output is
    at most -1 / (2 T); or some b_i = -1 with i <= n, so that worst >= 1/n and the output is
    at most 1 / (2 T) - 1/n < -1 / (2 T).

    Softmax has the logits g d_i, g = c / sqrt(6). It gives a mean of the d_i in place of the
    maximum, at most log(T) / g below it (`sum_i a_i g d_i = logsumexp(g d) - entropy(a)`,
    and the entropy is at most log T). So g >= 2 T log T suffices: if b_n = 0, the mean is at
    least 1/n - 1 / (2 T) > 1 / (2 T).
    """
    n = 6
    network = (
        Residual(Attention(pattern, mask="causal"))
        >> Residual(Mlp(relu, expansion=Fraction(1, n)))
        >> Residual(Attention(pattern, mask="causal"))
    )
    means = attention(
        n,
        1,
        WV={(0, 0, 0): 1, (1, 0, 1): 1},
        WO={(0, 0, 2): 1, (0, 1, 3): 1},
    )
    worst = attention(
        n,
        1,
        WQ={(1, 0, 0): c},
        WK={(4, 0, 0): 1},
        WV={(4, 0, 0): 1},
        WO={(0, 0, 5): 1},
    )
    return Recognizer(
        alphabet="()",
        tokens={
            "(": (1, 0, 0, 0, 0, 0),
            ")": (-1, 0, 0, 0, 0, 0),
            MARKER: (0, 1, 0, 0, 0, 0),
        },
        network=lambda T: network,
        weights=(means, dense(n, 1, {(2, 0): -1}), dense(1, n, {(0, 4): 1}), worst),
        read=(0, 0, -1, Fraction(1, 2), -2, -1),
    )


def parity(pattern: Pattern = SOFT, c: Number = 1) -> Recognizer:
    """Return PARITY: Chiang and Cholak's network, its second layer's logits times c.

    The features are those of their code: 0 to 2 one-hot letters 0, 1, $; 3 the position
    i / T, i = 0..n; 4 (-1)^i; then

        5  k / T, k the number of ones      7  [i = k] / T
        6  1 / T                            8  the output

    The first layer's head averages features 1 and 2; its ReLUs make

        relu(k - i - 1) - 2 relu(k - i) + relu(k - i + 1) = [i = k],  all over T.

    The second layer's heads have the logits +-(c / sqrt(5)) (-1)^i at the marker and the
    value 7; the output is the second head less the first. With E = ceil(T / 2) even and
    O = floor(T / 2) odd positions, saturated heads average over the even and over the odd
    ones, so that the output is

        1 / (O T)  for odd k,    -1 / (E T)  for even k,    0  for the empty word.

    Softmax has the same signs: verify/catalogue/decay.py has its formula and the reason.
    """
    n, heads = 10, 2
    block = Residual(Attention(pattern, heads=heads)) >> Residual(
        Mlp(relu, expansion=Fraction(3, n))
    )
    counts = attention(
        n, heads, WV={(1, 0, 0): 1, (2, 0, 1): 1}, WO={(0, 0, 5): 1, (0, 1, 6): 1}
    )
    difference = {(3, h): -1 for h in range(3)} | {(5, h): 1 for h in range(3)}
    marks = dense(n, 3, difference | {(6, 0): -1, (6, 2): 1})
    compare = attention(
        n,
        heads,
        WQ={(2, 0, 0): c, (2, 1, 0): c},
        WK={(4, 0, 0): 1, (4, 1, 0): -1},
        WV={(7, 0, 0): 1, (7, 1, 0): 1},
        WO={(0, 0, 8): -1, (1, 0, 8): 1},
    )
    return Recognizer(
        alphabet="01",
        tokens={c: _unit(k, n) for k, c in enumerate(("0", "1", MARKER))},
        network=lambda T: block * 2,
        weights=(
            counts,
            marks,
            dense(3, n, {(0, 7): 1, (1, 7): -2, (2, 7): 1}),
            compare,
            dense(n, 3, {}),
            dense(3, n, {}),
        ),
        read=_unit(8, n),
        position=lambda i, T: (0, 0, 0, Fraction(i, T), (-1) ** i, 0, 0, 0, 0, 0),
    )


def normalised_parity(eps: float) -> Recognizer:
    """Return PARITY with its output z written as (z, -z) and passed through a LayerNorm.

    With eps = 0 the norm turns every z > 0 into sqrt(n / 2) = sqrt(5): no decay is left.
    """
    plain = parity()
    block, n = plain.network(1), plain.width
    network: Network = block >> Dense() >> LayerNorm(eps)
    mirror = dense(n, n, {(8, 8): 1, (8, 9): -1})
    return Recognizer(
        plain.alphabet,
        plain.tokens,
        lambda T: network,
        (*plain.weights, mirror),
        plain.read,
        plain.position,
    )


def first(pattern: Pattern = SOFT, c: Number = 1) -> Recognizer:
    """Return FIRST, the words that start with 1, with the logits multiplied by c.

    Chiang and Cholak's network, but that their marker stands first. Features: 0 to 2 one-hot
    letters; 3 [i = 0]; 4 [i = 0 and letter 1] by a ReLU; 5 the output. The head attends from
    the marker with the logit c / sqrt(6) at position 0 and 0 elsewhere, to the value of
    feature 4 less half of feature 3. So the output is +-a / 2 with the weight

        a = e^g / (e^g + T - 1),    g = c / sqrt(6).

    The empty word, whose position 0 is the marker, gets -1/2.
    """
    n = 6
    hidden = Dense(bias_variance=1)  # any positive variance: the weights are given
    block = Residual(Attention(pattern)) >> Residual(
        Mlp(relu, expansion=Fraction(1, n), hidden=hidden)
    )
    idle = attention(n, 1, WV={}, WO={})
    look = attention(
        n,
        1,
        WQ={(2, 0, 0): c},
        WK={(3, 0, 0): 1},
        WV={(3, 0, 5): Fraction(-1, 2), (4, 0, 5): 1},
        WO={(0, 5, 5): 1},
    )
    return Recognizer(
        alphabet="01",
        tokens={c: _unit(k, n) for k, c in enumerate(("0", "1", MARKER))},
        network=lambda T: block * 2,
        weights=(
            idle,
            dense(n, 1, {(1, 0): 1, (3, 0): 1}, {(0,): -1}),
            dense(1, n, {(0, 4): 1}),
            look,
            dense(n, 1, {}, {}),
            dense(1, n, {}),
        ),
        read=_unit(5, n),
        position=lambda i, T: (0, 0, 0, int(i == 0), 0, 0),
    )


def double_a(strict: bool = True) -> Recognizer:
    """Return the words that contain "aa", by unique hard attention without positions.

    Under a strict mask position i sees the positions before it only (the marker, which
    stands first, sees itself). All logits of the first layer are 0, so its head takes the
    rightmost, the letter before. Features: 0 letter a; 1 constant; 2 the letter before is a;
    3 relu(0 + 2 - 1) = "aa ends here"; 4 "aa ended before", as the second head attends to
    the largest feature 3. The output is 3 + 4 - 1/2.
    """
    n = 5

    def network(T: int) -> Network:
        past = np.tri(T, k=-1 if strict else 0, dtype=bool)
        past[0, 0] = True
        look = Residual(Attention(SATURATED, mask=past))
        return look >> Residual(Mlp(relu, expansion=Fraction(1, n))) >> look

    before = attention(n, 1, WV={(0, 0, 0): 1}, WO={(0, 0, 2): 1})
    found = attention(
        n,
        1,
        WQ={(1, 0, 0): 1},
        WK={(3, 0, 0): 1},
        WV={(3, 0, 0): 1},
        WO={(0, 0, 4): 1},
    )
    return Recognizer(
        alphabet="ab",
        tokens={"a": (1, 1, 0, 0, 0), "b": (0, 1, 0, 0, 0), MARKER: (0, 1, 0, 0, 0)},
        network=network,
        weights=(
            before,
            dense(n, 1, {(0, 0): 1, (2, 0): 1, (1, 0): -1}),
            dense(1, n, {(0, 3): 1}),
            found,
        ),
        read=(0, Fraction(-1, 2), 0, 1, 1),
        marker="start",
        ties="rightmost",
    )


def _unit(k: int, n: int) -> tuple[int, ...]:
    return tuple(int(i == k) for i in range(n))
