"""Saturated transformers, evaluated exactly: f(x; c theta) as a series in 1/c.

Each state is a sum of A_k c^k (numerics/series.py). Logits that grow leave the mean over
their largest, found power by power: lower powers break the ties of higher ones, as they do
at any large c. What softmax leaves out is smaller than every power. Numbers are rational
where no square root occurs, else balls whose precision rises until every maximum is proved.
A tie that stays open is an error that names it.

Ties are proved, not guessed: keys are equal if their numbers are, or if they come from equal
tokens that have seen the same.

Source: Merrill et al. (2021), arXiv 2010.09697, definition 1 and section 4.2.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from flint import ctx

from asymptest.numerics.fields import BALLS, FLOATS, RATIONAL, Field, identity
from asymptest.numerics.kinds import Kinds, kinds
from asymptest.numerics.leading_layers import Run, State, apply
from asymptest.numerics.saturating import UNDECIDED, OpenError, Setting, stack
from asymptest.numerics.series import Series
from asymptest.theory.errors import (
    AccuracyError,
    ArgumentError,
    ShapeError,
    UnsupportedError,
)
from asymptest.theory.network import Network, as_network

Weights = Sequence[Mapping[str, Any]]
WIDTH = 2.0**-40  # of balls, relative to the largest coefficient
# Tried in turn until everything is decided: bits, and terms of each series.
EFFORTS = ((128, 3), (256, 6), (1024, 12), (4096, 12))


@dataclass(frozen=True)
class Leading:
    """f(x; c theta) as c grows: series, and the numbers that it is made of.

    Args:
        series: sum of parts[k] c^k, arrays (T, n) or (batch, T, n), up to what vanishes
            faster than any power.
        numbers: "rational", "balls" or "float64".
        precision: of the balls, in bits; 0 for other numbers.
        top: the largest power of c with a coefficient that is proved not to be 0; None if
            all are 0.
    """

    series: Series
    numbers: str
    precision: int
    top: int | None

    @property
    def power(self) -> int:
        """k: the largest power of c with a coefficient."""
        if self.top is None:
            raise ArgumentError("the output vanishes in all powers that are known")
        return self.top

    @property
    def value(self) -> Any:
        """The limit of f(x; c theta) / c^power, of the shape of the input."""
        return self.series.parts[self.power]

    def floats(self) -> Any:
        """Return `value` in float64."""
        return np.vectorize(_float, otypes=[float])(self.value)


def _float(value: Any) -> float:
    return int(value.p) / int(value.q) if hasattr(value, "q") else float(value)


def leading(
    network: Network,
    weights: Weights,
    X0: Any,
    input: int = 1,
    numbers: Literal["exact", "float64"] = "exact",
) -> Leading:
    """Return f(x; c theta) as a series in 1/c, its softmaxes saturated.

    Args:
        network: the description.
        weights: of each layer that has some, in the order of application: Dense
            {"W": (n_in, n_out), "v": (n_out,)}; Attention {"WQ", "WK", "WV": (n, H, d),
            "WO": (H, d, n), "vV": (H, d), "vO": (n,)}; affine norms {"gain", "bias": (n,)}. Biases
            may be left out. Numbers, fractions, SymPy numbers, or balls.
        X0: the input (T, n), or several of them, (batch, T, n), each evaluated by itself.
        input: its degree: the input is c^input X0; 1 for embeddings, 0 for fixed vectors.
        numbers: "exact", or "float64", where numbers closer than patterns.TIE of the larger
            one are equal, and what cancels to TIE of its row is 0.

    Raises:
        AccuracyError: if a tie or a sign stays open at the last precision; it names the place.
        ShapeError: if weights do not fit.
        UnsupportedError: for a Custom layer, or an activation that does not follow a power.

    >>> from asymptest.theory import Attention, Softmax
    >>> one = [[[1]]]
    >>> head = {"WQ": one, "WK": one, "WV": one, "WO": one}
    >>> leading(Attention(Softmax()), [head], [[1], [2], [2]]).value.tolist()
    [[2], [2], [2]]
    """
    network = as_network(network)
    if numbers not in ("exact", "float64"):
        raise ArgumentError(f"numbers must be 'exact' or 'float64'; got {numbers!r}")

    def evaluate(setting: Setting) -> Series:
        return _evaluate(network, weights, X0, input, 1, setting)

    if numbers == "float64":
        return _decided(evaluate, FLOATS)
    try:
        return _decided(evaluate, RATIONAL)
    except UnsupportedError:  # a root or an exponential
        return _decided(evaluate, BALLS)


def enclosure_at(
    network: Network, weights: Weights, X0: Any, c: Any, saturated: bool = False
) -> Leading:
    """Return balls around f(x; c theta) at one c, as a series of the power 0.

    Args:
        network: the description.
        weights: as for `leading`; they are multiplied by c here.
        X0: the input, which is not.
        c: the factor.
        saturated: whether softmax is enclosed around its argmax: then the balls hold both the
            network and the one with argmax in place of softmax, at this c.

    Raises:
        AccuracyError, ShapeError, UnsupportedError: as `leading`.
    """
    network = as_network(network)

    def evaluate(setting: Setting) -> Series:
        scaled = [
            {name: _times(c, values) for name, values in layer.items()}
            for layer in weights
        ]
        setting = replace(setting, saturates=saturated)
        return _evaluate(network, scaled, X0, 0, 0, setting)

    return _decided(evaluate, BALLS, wide=saturated)


def _times(c: Any, values: Any) -> Any:
    return BALLS.array(values) * BALLS.number(c)


def _decided(
    evaluate: Callable[[Setting], Series], field: Field, wide: bool = False
) -> Leading:
    """Return the first evaluation in which everything is decided.

    Args:
        evaluate: by precision, which is set, and terms.
        field: the numbers.
        wide: whether balls may be wide, since they hold more than rounding.
    """
    reason, limits = "", f"{EFFORTS[-1][1]} terms"
    # The last effort has more bits than the one before, and no more terms.
    for precision, terms in EFFORTS if field is BALLS else EFFORTS[:-1]:
        with ctx.workprec(precision):
            try:
                found = evaluate(Setting(field, terms))
                if field is BALLS:
                    _check_width(found, wide)
                bits = precision if field is BALLS else 0
                return Leading(found, field.name, bits, _top(found, field, wide))
            except OpenError as error:
                reason = str(error)
    if field is BALLS:
        limits = f"{EFFORTS[-1][0]} bits and {limits}"
    raise AccuracyError(
        f"{reason} stays open with {limits}: a tie that is not proved; separate these "
        f"numbers, or make them equal"
    )


def _check_width(series: Series, wide: bool) -> None:
    """Raise OpenError unless all balls are finite and, but for `wide`, narrow."""
    balls = [ball for part in series.parts.values() for ball in part.reshape(-1)]
    if not all(ball.is_finite() for ball in balls):
        raise OpenError("the size of the output")
    largest = max((abs(ball).upper() for ball in balls), default=0)
    if not wide and any(ball.rad() > WIDTH * largest for ball in balls):
        raise OpenError("the value of the output")


def _top(series: Series, field: Field, wide: bool) -> int | None:
    """Return the largest power whose coefficients are not all 0."""
    sizes = [np.abs(part).max() for part in series.parts.values()]
    largest = max(sizes, default=0) if field is FLOATS else 0
    for k in series.powers:
        signs = field.signs(series.parts[k], largest)
        if (np.abs(signs) == 1).any() or wide:
            return k
        if (signs == UNDECIDED).any():
            raise OpenError(f"whether the output has the power {k}")
    return None


def _evaluate(
    network: Network,
    weights: Weights,
    X0: Any,
    input: int,
    rise: int,
    setting: Setting,
) -> Series:
    X = setting.field.array(X0)
    if X.ndim not in (2, 3) or not X.size:
        raise ShapeError(
            f"X0 must have the shape (T, n) or (batch, T, n), not empty; got {X.shape}"
        )
    if X.ndim == 3:
        tokens = np.asarray(X0, dtype=object)
        found = [_evaluate(network, weights, x, input, rise, setting) for x in tokens]
        return stack(found, setting.field)
    run = Run(setting, rise, iter(weights))
    tokens = np.asarray(X0, dtype=object)
    equal, power = kinds([tuple(map(identity, row)) for row in tokens]), input * rise
    state = State(Series({power: X}), Kinds(equal, {power: equal}))
    try:
        result = apply(network, state, run)
    except StopIteration:
        raise ShapeError(
            "weights ends before the network: it needs one dict a layer with weights"
        ) from None
    if next(run.weights, None) is not None:
        raise ShapeError("weights holds more layers than the network")
    return result.series
