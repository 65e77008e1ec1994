r"""Growth exponents of a norm ‖θ_t‖, with intervals, and what misaligned steps predict.

Two exponents are fitted. The free one is p in

$$\|\theta_t\| = a\,t^p + b,$$

written as b' + a' (t^p - 1)/p, which goes through a logarithm, p = 0, to growth that levels
off, p < 0. The other is the slope of log ‖θ_t‖ in log t.

If every step were orthogonal to θ, then ‖θ_{t+1}‖² = ‖θ_t‖² + ‖δ_t‖², and with
κ = ‖δ‖ √t / ‖θ‖ the slope would be κ²/2: arXiv 2010.09697, section 5.4, has the case κ = 1.

Intervals come from the delete-a-group jackknife: the fit is repeated without each tenth of
the points in turn, successive ones together, and the scatter of the ten gives the standard
error. The covariance that least squares would give takes residuals as independent; those of
a training run are the smooth misfit of a curve. On noise with a memory of 20 points the
jackknife's intervals of 95 % hold the truth 95 times in 100, where the covariance's hold it
in less than half.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize_scalar
from scipy.stats import t as student

from asymptest.theory.errors import ArgumentError

LEVEL = 0.95  # of every interval
BOUNDS = -2.0, 4.0  # of the free exponent
GRID = np.linspace(*BOUNDS, 31)  # its best point brackets the exponent
GROUPS = 10  # of the jackknife
LEAST = 2 * GROUPS  # points that an interval needs

Design = Float[np.ndarray, "points 2"]
Series = Float[np.ndarray, " points"]


@dataclass(frozen=True)
class Exponent:
    """A fitted exponent p: level + scale ((t/T)^p - 1)/p, T being the last t.

    A slope is fitted to the logarithm of the norm, as level + scale log(t/T).

    Args:
        value: p of the best fit, where -2 and 4 are bounds and no estimates; or the slope.
        low: lower end of its interval of 95 %.
        high: upper end.
        r2: share of the variance that the fit explains; nan if there is none.
        level: the fit at T.
        scale: its derivative in log t there.
    """

    value: float
    low: float
    high: float
    r2: float
    level: float
    scale: float


@dataclass(frozen=True)
class Misaligned:
    """What a run would have done, had its steps been orthogonal to the parameters.

    Args:
        kappa: root of the mean over log t of κ² = ‖δ‖² t / ‖θ‖².
        exponent: κ²/2, the predicted slope of log ‖θ‖ in log t.
        share: Σ‖δ‖² / (‖θ_T‖² - ‖θ_s‖²), what orthogonal steps explain of the growth
            since the step s; nan if there was none.
    """

    kappa: float
    exponent: float
    share: float


def free_exponent(t: Series, norm: Series) -> Exponent:
    """Return p of the least-squares fit a t^p + b.

    Args:
        t: steps, > 0; evenly spaced ones weight the run evenly.
        norm: ‖θ_t‖.

    Raises:
        ArgumentError: if there are fewer than 20 points, or a step is not positive, or a
            norm not finite.

    >>> t = np.arange(1.0, 101)
    >>> round(free_exponent(t, 3 * t**0.5 + 7).value, 4)
    0.5
    """
    _check(t, norm)
    return _with_interval(_fit_power, _power, t, norm)


def log_slope(t: Series, norm: Series) -> Exponent:
    """Return the least-squares slope of log ‖θ_t‖ in log t.

    Args:
        t: steps, > 0; logarithmically spaced ones weight the run as a log-log plot does.
        norm: ‖θ_t‖, > 0.

    Raises:
        ArgumentError: as for `free_exponent`, and if a norm is not positive.
    """
    _check(t, norm)
    if not (norm > 0).all():
        raise ArgumentError(f"log_slope needs norms > 0; the least is {norm.min()}")
    return _with_interval(_fit_line, lambda t, _: _power(t, 0), t, np.log(norm))


def misaligned(t: Series, size: Series, before: Series, norm: Series) -> Misaligned:
    """Return κ and what it predicts, from every step of a stretch of a run.

    Args:
        t: numbers of successive steps.
        size: ‖δ_t‖.
        before: ‖θ_t‖ before each step.
        norm: and after it.
    """
    kappa2 = float((size**2 / before**2).sum() / (1 / t).sum())
    growth = norm[-1] ** 2 - before[0] ** 2
    share = float((size**2).sum() / growth) if growth else np.nan
    return Misaligned(kappa2**0.5, kappa2 / 2, share)


def _check(t: Series, norm: Series) -> None:
    if len(t) < LEAST or not (t > 0).all() or not np.isfinite(norm).all():
        raise ArgumentError(
            f"an exponent needs finite norms at {LEAST} or more steps > 0; got {len(t)} "
            f"steps, the least {t.min(initial=np.inf)}, and norms up to "
            f"{norm.max(initial=-np.inf)}"
        )


def _power(t: Series, p: float) -> Design:
    """Return the columns 1 and (t^p - 1)/p, t in units of the last step."""
    logs = np.log(t / t.max())
    column = np.expm1(p * logs) / p if abs(p) > 1e-8 else logs
    return np.stack([np.ones_like(t), column], axis=1)


def _misfit(design: Design, y: Series) -> float:
    Q = np.linalg.qr(design)[0]
    return float(np.square(y - Q @ (Q.T @ y)).sum())


def _fit_line(t: Series, y: Series) -> float:
    return float(np.polynomial.polynomial.polyfit(np.log(t), y, 1)[1])


def _fit_power(t: Series, y: Series) -> float:
    def misfit(p: float) -> float:
        return _misfit(_power(t, p), y)

    best = int(np.argmin([misfit(p) for p in GRID]))
    bounds = GRID[max(best - 1, 0)], GRID[min(best + 1, len(GRID) - 1)]
    found = minimize_scalar(
        misfit, bounds=bounds, method="bounded", options={"xatol": 1e-7}
    )
    return float(found.x)


def _with_interval(
    fit: Callable[[Series, Series], float],
    design: Callable[[Series, float], Design],
    t: Series,
    y: Series,
) -> Exponent:
    """Fit, then fit without each group of successive points."""
    value = fit(t, y)
    groups = np.array_split(np.arange(len(t)), GROUPS)
    without = np.array([fit(np.delete(t, g), np.delete(y, g)) for g in groups])
    error = ((GROUPS - 1) / GROUPS * np.square(without - without.mean()).sum()) ** 0.5
    half = float(student.ppf((1 + LEVEL) / 2, GROUPS - 1) * error)
    columns = design(t, value)
    level, scale = np.linalg.lstsq(columns, y)[0].tolist()
    variation = float(np.square(y - y.mean()).sum())
    r2 = 1 - _misfit(columns, y) / variation if variation else np.nan
    return Exponent(value, value - half, value + half, r2, level, scale)
