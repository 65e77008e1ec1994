"""The figures of norm growth show the fits, the slopes and the signs of their runs."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from asymptest.paper_figures import growth_sign, norm_growth
from asymptest.paper_figures.reported import reported
from asymptest.paper_figures.style import BLUE, style
from asymptest.theory.errors import ArgumentError
from tests.paper_figures.growth import (
    CHANGES,
    KAPPA,
    POWERS,
    grid_runs,
    growth_runs,
)


def panels(figure: Callable[[list[dict]], Figure], runs: list[dict]) -> list[Any]:
    """Return the panels, as Any: matplotlib declares less than they are known to hold."""
    with style():
        return figure(runs).axes


def test_growth_curves_are_the_fits() -> None:
    axes, *_ = panels(norm_growth.figure, growth_runs())
    heads = [text.get_text() for text in axes.texts]
    assert len(axes.lines) == 3 * len(POWERS)
    for number, (p, head) in enumerate(zip(POWERS.values(), heads[2::-1], strict=True)):
        assert f"{p:.2f}$ [{p:.2f}, {p:.2f}]" in head
        dots, root, power = axes.lines[3 * number : 3 * number + 3]
        for line in (dots, power):
            x, y = line.get_data()
            np.testing.assert_allclose(y, 3 * x**p + 90, rtol=1e-6)
        even = np.arange(5, 201, 5)  # the checkpoints
        columns = np.stack([even**0.5, np.ones(len(even))], 1)
        (a, b), *_ = np.linalg.lstsq(columns, 3 * even**p + 90)
        x, y = root.get_data()
        np.testing.assert_allclose(y, a * x**0.5 + b, rtol=1e-9)
        assert (root.get_linestyle(), power.get_linestyle()) == ("--", "-")


def test_t5_is_shown_as_reported() -> None:
    _, axes, _ = panels(norm_growth.figure, growth_runs())
    assert any("0.56$ [0.49, 0.62]" in text.get_text() for text in axes.texts)
    x, y = axes.lines[0].get_data()
    found = reported()["t5_norm"]
    assert len(x) > 10
    assert all(
        norm == found["norm"][found["step"].index(t)]
        for t, norm in zip(x[1:], y[1:], strict=True)
    )


def test_slopes_are_shown_against_those_of_misaligned_steps() -> None:
    runs = growth_runs()
    shrinks = runs[-2]
    # If the norm did not stay finite, the training command fits no slope.
    whole = {name: shrinks["laws"][name] for name in ("misaligned", "checkpoint_share")}
    *_, axes = panels(norm_growth.figure, [*runs, shrinks | {"laws": whole}])
    bars = axes.containers
    for run, bar in zip(runs, bars, strict=True):
        late, predicted = run["laws"]["late"], run["laws"]["late_misaligned"]
        ((x, low), (_, high)) = bar.lines[2][0].get_segments()[0]
        np.testing.assert_allclose([low, high], [late["low"], late["high"]])
        assert x == bar.lines[0].get_xdata()[0] == predicted["exponent"]
    *_, open_mark, misaligned = (bar.lines[0] for bar in bars)
    assert open_mark.get_ydata()[0] < 0 < open_mark.get_xdata()[0]
    assert open_mark.get_marker() == "s"
    assert open_mark.get_color() == BLUE
    assert open_mark.get_markerfacecolor() == "white"  # it has weight decay
    # log(1 + k/t) is less than k/t by a part k/2t, and a sum of 1/t grows more slowly than
    # log t by a part 1/2t; t is at least 20.
    xy = [float(values[0]) for values in misaligned.get_data()]
    np.testing.assert_allclose(xy, KAPPA**2 / 2, rtol=(KAPPA**2 + 1) / 40)
    assert misaligned.get_markerfacecolor() == BLUE


def test_cells_show_the_sign_of_growth() -> None:
    sublayer, axes, *_ = panels(growth_sign.figure, grid_runs())
    assert not sublayer.texts  # all these runs are of pre-LN
    marks = {text.get_position(): text.get_text() for text in axes.texts}
    assert marks == dict(zip(CHANGES, ["+", "+", "−", "0", "×", "−", "−"], strict=True))
    *cells, frame = axes.patches
    for (at, change), cell in zip(CHANGES.items(), cells, strict=True):
        assert cell.get_bbox().contains(*at)
        assert sum(cell.get_bbox().contains(*other) for other in CHANGES) == 1
        red, _, blue = to_rgb(cell.get_facecolor())
        if abs(change) > 0:  # red is growth, blue is shrinking, however small
            assert np.sign(red - blue) == np.sign(change)
    framed = [at for at in CHANGES if frame.get_bbox().contains(*at)]
    assert framed == [at for at in CHANGES if 1e-3 <= at[1] <= 1e-2]
    assert 0 < len(framed) < len(CHANGES)


def test_a_grid_needs_two_rates() -> None:
    runs = [run for run in grid_runs() if run["spec"]["rate"] == 1e-3]
    with pytest.raises(ArgumentError, match=r"two or more .* got \[0\.001\]"):
        growth_sign.figure(runs)
