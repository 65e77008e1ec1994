"""Figures: they show what numerics/ computes, and every drawing has the same bytes."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import asymptest.paper_figures as paper_figures
from asymptest.numerics import correlation, kernels
from asymptest.numerics.moments import chain_variance
from asymptest.theory import Attention, Uniform
from asymptest.theory.errors import ArgumentError
from tests.paper_figures.growth import small_grid, small_growth
from tests.paper_figures.small import (
    small_census,
    small_head,
    small_law,
    small_saturation,
    small_scale,
)


def small_maps(folder: Path | None = None):
    from asymptest.paper_figures import kernels_by_depth

    return kernels_by_depth, kernels_by_depth.Sizes(
        positions=6, depths=(0, 1, 3), last=5
    )


def small_errors(folder: Path | None = None):
    from asymptest.paper_figures import error_by_width
    from asymptest.paper_figures.measured import Effort

    effort = Effort(weights=40_000, least=4, most=50)
    rounding = Effort(least=2, most=2)
    sizes = error_by_width.Sizes((8, 16, 32), (1, 2), 4, effort, rounding)
    return error_by_width, sizes


def report_with(folder: Path, claim: str, points: tuple) -> Path:
    from asymptest.verify.claim import Expects, Finding, Source, Status, Verdict
    from asymptest.verify.results import verdict_to_json

    finding = Finding("rate", Status.SUPPORTED, comparisons=2, points=points)
    head = (claim, Source("none", "nowhere"), Expects.HOLDS, Status.SUPPORTED)
    verdict = Verdict(*head, (finding,), {}, 0, "quick", 1.0, {}, "none")
    report = folder / "report.json"
    report.write_text(json.dumps({"run": {}, "claims": [verdict_to_json(verdict)]}))
    return report


POINTS = ((8.0, 0.5, 0.49), (32.0, 0.25, 0.245))
CLAIM = "fluctuation/gaussian-input-error"
SMALL = [
    small_maps,
    small_errors,
    small_law,
    small_growth,
    small_grid,
    small_scale,
    small_head,
    small_census,
    small_saturation,
]


@pytest.mark.parametrize("small", SMALL)
def test_figure_is_the_same_bytes_each_time(small, tmp_path: Path) -> None:
    module, sizes = small(tmp_path)
    name = module.__name__.rpartition(".")[2]
    report = report_with(tmp_path, CLAIM, POINTS)
    first, second = (
        module.draw(tmp_path / folder, report, sizes) for folder in ("one", "two")
    )
    assert [file.name for file in first] == [f"{name}.pdf", f"{name}.png"]
    for one, two in zip(first, second, strict=True):
        assert one.read_bytes() == two.read_bytes()
    pdf, png = (file.read_bytes() for file in first)
    assert pdf.startswith(b"%PDF")
    assert b"CreationDate" not in pdf
    # The width in the header of the PNG: 3.25 inches at 300 dots an inch.
    assert struct.unpack(">I", png[16:20]) == (975,)


@pytest.mark.parametrize("small", SMALL)
def test_drawing_leaves_the_settings_alone(small, tmp_path: Path) -> None:
    import matplotlib

    module, sizes = small(tmp_path)
    with matplotlib.rc_context():
        matplotlib.rcParams["font.size"] = 17  # a user's own
        before = dict(matplotlib.rcParams)
        module.draw(tmp_path, None, sizes)
        assert dict(matplotlib.rcParams) == before


def test_a_users_settings_do_not_change_a_figure(tmp_path: Path) -> None:
    import matplotlib

    module, sizes = small_maps()
    plain = module.draw(tmp_path / "plain", None, sizes)
    with matplotlib.rc_context({"font.size": 17, "axes.grid": True}):
        other = module.draw(tmp_path / "other", None, sizes)
    assert [f.read_bytes() for f in plain] == [f.read_bytes() for f in other]


def test_heat_maps_show_the_correlations_of_numerics() -> None:
    from asymptest.paper_figures.style import style

    module, sizes = small_maps()
    with style():
        figure = module.figure(module.by_pattern(sizes), sizes)
    images = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    assert len(images) == 3 * 3
    K = kernels(Attention(Uniform(), mask="causal") * 5, np.eye(6))
    for shown, depth in zip(images[:3], (0, 1, 3), strict=True):
        assert (np.asarray(shown) == correlation(K[depth])).all()
    for shown in images[4:6]:  # full attention: all positions agree after one layer
        assert abs(np.asarray(shown) - 1).max() < 1e-14
    for shown in images[6:]:
        assert (np.asarray(shown) == np.eye(6)).all()


@pytest.mark.parametrize("T", [2, 6, 64])
def test_causal_deficit_is_the_leading_order(T: int) -> None:
    module, _ = small_maps()
    sizes = module.Sizes(positions=T, last=22)
    deep = np.array([21.0, 22.0])
    ratio = module.deficit(module.by_pattern(sizes)["causal"])[21:] / (
        module.causal_deficit(T, deep)
    )
    # Next comes the eigenvalue 1/3, smaller by T^2 (2/3)^l; and rounding, by 1e-16 4^l.
    assert abs(ratio - 1).max() < T**2 * (2 / 3) ** 21 + 1e-3


def test_predictions_are_the_derived_ones() -> None:
    module, sizes = small_errors()
    data = module.measure(sizes)
    for depth, found in data.chains.items():
        exact = [chain_variance(depth, n) ** 0.5 for n in sizes.widths]
        np.testing.assert_allclose(found.predicted, exact, rtol=1e-12)
    K = module.input_kernel(sizes.positions)
    size = np.diagonal(K)
    constant = (size[:, None] * size + K**2).mean()
    np.testing.assert_allclose(
        data.layer.predicted, np.sqrt(constant / np.array(sizes.widths)), rtol=1e-12
    )
    assert (data.orthogonal.predicted == 0).all()
    assert (data.orthogonal.measured < 1e-14).all()
    # The seed is fixed, so this cannot fail by chance; a factor of 2 would show.
    for found in (data.layer, *data.chains.values()):
        assert (abs(found.measured / found.predicted - 1) < 0.35).all()
        assert (found.low <= found.measured).all()
        assert (found.measured <= found.high).all()


def test_intervals_cover() -> None:
    from asymptest.paper_figures.measured import rms_interval

    rng = np.random.default_rng(0)
    draws = (rng.standard_normal((2000, 30, 8)) ** 2).mean(2)  # mean square 1
    ends = np.array([rms_interval(squares) for squares in draws])
    covered = ((ends[:, 1] <= 1) & (ends[:, 2] >= 1)).mean()
    # 0.95 up to the skewness of squares (a point or so) and 4 standard errors.
    assert abs(covered - 0.95) < 0.03


def test_saved_points_are_drawn_beside_the_samples(tmp_path: Path) -> None:
    from asymptest.paper_figures.style import style

    module, sizes = small_errors()
    data = module.measure(sizes, report_with(tmp_path, CLAIM, POINTS))
    assert set(data.saved) == {CLAIM}
    found = data.saved[CLAIM]
    assert found.widths.tolist() == [8, 32]
    assert found.measured.tolist() == [0.5, 0.25]
    assert found.predicted.tolist() == [0.49, 0.245]
    with style():
        top, *_, ratio = module.figure(data).axes
    shown = [line.get_ydata() for line in top.lines]
    assert any(np.array_equal(y, found.measured) for y in shown)
    assert any(np.array_equal(y, data.layer.measured) for y in shown)
    divided = [line.get_ydata() for line in ratio.lines]
    assert any(np.array_equal(y, found.measured / found.predicted) for y in divided)


def test_claims_whose_points_are_shown_are_in_the_catalogue() -> None:
    from asymptest.verify.catalogue.fluctuation import CLAIMS

    module, _ = small_errors()
    shown = {module.LAYER_CLAIM, module.CHAIN_CLAIM}
    assert shown <= {claim.name for claim in CLAIMS}


def test_bad_arguments_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        ArgumentError, match="no figure 'kernel'; choose from kernels_by"
    ):
        paper_figures.draw(["kernel"], tmp_path)
    with pytest.raises(FileNotFoundError, match="asymptest check"):
        paper_figures.draw(["error_by_width"], tmp_path, tmp_path / "missing.json")
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    with pytest.raises(ArgumentError, match=r"broken\.json is no report"):
        paper_figures.draw(["error_by_width"], tmp_path, broken)


def test_matplotlib_is_loaded_when_a_figure_is_drawn() -> None:
    code = (
        "import sys, asymptest.paper_figures;"
        "print(*{'matplotlib', 'torch', 'numpy'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (run.returncode, run.stdout.strip()) == (0, ""), run.stderr


def test_every_module_with_a_draw_is_a_figure() -> None:
    folder = Path(paper_figures.__file__).parent
    found = {p.stem for p in folder.glob("*.py") if "\ndef draw(" in p.read_text()}
    assert found - {"__init__"} == set(paper_figures.FIGURES)
