"""The figure of the exact law: its lines are right, and it shows what was drawn."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import integrate, stats

from tests.paper_figures.small import small_law


@pytest.mark.parametrize("n", [1, 2, 10, 100])
def test_layer_variance_is_that_of_a_noncentral_chi_square(n: int) -> None:
    """Against the integral over SciPy's density."""
    module, _ = small_law()

    def moment(power: int) -> float:
        # In t = ln x, where the density has no singularity.
        value, _ = integrate.quad(
            lambda t: t**power * np.exp(t) * stats.ncx2.pdf(np.exp(t), n, n),
            -60,
            10,
            limit=400,
        )
        return value

    expected = moment(2) - moment(1) ** 2
    assert module.layer_variance(n) == pytest.approx(expected, rel=1e-6)


def test_lines_meet_where_they_must() -> None:
    module, _ = small_law()
    n = 10**6
    assert n * module.layer_variance(n) == pytest.approx(module.growth(), rel=1e-4)
    assert module.growth() == pytest.approx(1.5, rel=1e-9)
    # One layer is the same with a norm and without: its input has the variance 1.
    assert module.normed_variance(np.array([1.0])) == pytest.approx(1.5)


def test_points_lie_on_the_lines() -> None:
    """Within six standard errors of a deviation; logits have heavier tails, hence twelve."""
    module, _ = small_law()
    n, depth, samples = 10**5, 3, 2000
    sizes = module.Sizes((n,), (depth,), positions=2, samples=samples, logits=20_000)
    data = module.measure(sizes)
    noise = 6 / (2 * samples) ** 0.5
    free = (depth * module.layer_variance(n)) ** 0.5
    assert data.free[depth][0, 0] == pytest.approx(free, rel=noise)
    normed = (module.normed_variance(np.array([3.0])).item() / n) ** 0.5
    assert data.normed[depth][0, 0] == pytest.approx(normed, rel=noise)
    for heads, count in {1: 1, 10: 10}.items():
        line = (2 / n + data.spread / count) ** 0.5
        assert data.heads[heads][0, 0] == pytest.approx(line, rel=2 * noise)
    assert (data.free[depth][:, 1] < data.free[depth][:, 0]).all()
    assert (data.free[depth][:, 0] < data.free[depth][:, 2]).all()


def test_figure_shows_the_measured_points() -> None:
    from asymptest.paper_figures.style import style

    module, sizes = small_law()
    data = module.measure(sizes)
    with style():
        figure = module.figure(data, sizes)
    upper, lower, by_ratio, by_heads = figure.axes

    def shown(axes: Any) -> list[np.ndarray]:
        return [np.asarray(line.get_ydata()) for line in axes.lines]

    for found in data.free.values():
        assert any(np.array_equal(y, found[:, 0]) for y in shown(upper))
    for found in data.last.values():
        assert any(np.array_equal(y, found[:, 0]) for y in shown(by_ratio))
    for found in data.heads.values():
        assert any(np.array_equal(y, found[:, 0]) for y in shown(by_heads))
    ratios = [y for y in shown(lower) if len(y) == len(sizes.widths)]
    assert len(ratios) >= len(sizes.depths)
    other = module.measure(replace(sizes, seed=1))
    assert (other.free[1] != data.free[1]).any()
