"""The figures of saturation show what torch, the derivations and arXiv 2010.09697 say."""

from pathlib import Path

import numpy as np
import pytest
import torch

from asymptest.paper_figures.reported import reported
from asymptest.paper_figures.style import style
from asymptest.paper_figures.trained import chosen, trained
from asymptest.verify.census import attention_of
from asymptest.verify.finite import PatternModule
from tests.paper_figures.small import (
    small_census,
    small_head,
    small_saturation,
    small_scale,
)


def lines_of(axes, colour: str, marker: str) -> list[tuple]:
    """Return x and y of the lines with this look that have points."""
    drawn = (line for line in axes.lines if line.get_marker() == marker)
    return [line.get_data() for line in drawn if line.get_color() == colour]


def test_large_parameters_leave_what_is_predicted() -> None:
    module, sizes = small_scale()
    with style():
        (axes,) = module.figure(sizes).axes
    rates = {}
    for shown in module.SHOWN:
        ((c, measured),) = lines_of(axes, shown.colour, ".")
        predicted = dict(zip(*lines_of(axes, shown.colour, "None")[0], strict=True))
        ends = [y / predicted[x] for x, y in zip(c, measured, strict=True) if x > 1000]
        # What the first correction leaves out is smaller by c or c^2.
        assert (abs(np.array(ends) - 1) < 10 / 1000).all()
        if ends:
            rates[shown.name] = np.log2(measured[-3] / measured[-1])  # of an octave
    assert {name: round(rate, 1) for name, rate in rates.items()} == {
        "sublayer norm,\nbiases": 2,
        "pre-LN": 4,
        "post-LN": 4,
    }
    read_off = reported()["scaling"]
    for shown in module.SHOWN:
        for c, y in lines_of(axes, shown.colour, "x"):
            assert c.tolist() == read_off["c"]
            assert (y == 1 - np.array(read_off[shown.reported])).all()
    assert sum(line.get_marker() == "x" for line in axes.lines) == 3


def test_soft_attention_is_as_far_from_its_limit_as_derived() -> None:
    module, sizes = small_head()
    data = module.measure(sizes)
    T = len(sizes.tokens)
    assert (data.limit.sum(1) == 1).all()
    # Rounding of logits up to 64 |z|, and of T weights; z is of order 1.
    assert (abs(data.measured - data.exact) < 1e-12).all()
    assert (data.measured[:, 1:] > 1e-12).any()
    # Two scores apart, exp(-(gap) c^2) is the ratio of their weights.
    ratios = {c: A[-1, 0] / A[-1, 1] for c, A in data.soft.items()}
    assert all(np.isclose(r, ratios[1] ** (c**2)) for c, r in ratios.items())
    assert ratios[1] != 1
    with style():
        figure = module.figure(data, sizes)
    maps = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    visible = np.tri(T).astype(bool)
    for shown, A in zip(maps, (*data.soft.values(), data.limit), strict=True):
        assert (shown.mask == ~visible).all()
        assert (shown.data[visible] == A[visible]).all()
    panel = next(axes for axes in figure.axes if axes.get_yscale() == "log")
    for marker, curves in ((".", data.measured), ("None", data.exact)):
        lines = [line for line in panel.lines if line.get_marker() == marker]
        for row, line in enumerate(lines):
            assert (line.get_xdata() == sizes.axis**2).all()
            assert (line.get_ydata() == curves[:, row]).all()
            assert line.get_color() == module.COLOURS[(data.limit[row] > 0).sum()]
        assert len(lines) == T


def test_equal_tokens_share_the_weight() -> None:
    module, sizes = small_head()
    data = module.measure(sizes)
    ties = (data.limit > 0).sum(1)
    assert ties.max() > 1
    for row, m in enumerate(ties):
        letters = {sizes.tokens[k] for k in np.flatnonzero(data.limit[row])}
        assert len(letters) == 1
        assert sizes.tokens[: row + 1].count(letters.pop()) == m


def test_a_product_as_mask_lets_heads_attend_to_the_future() -> None:
    module, sizes = small_census()
    T = sizes.positions
    product = module.census_of("product", module.SHARED, sizes)
    counts = np.array([head.attended for head in product])
    assert (abs(counts - module.artefact(T)) < 1e-12).any()
    assert max(head.hidden for head in product) == (T - 1) / 2
    for shared in (0.0, module.SHARED):
        causal = module.census_of("-inf", shared, sizes)
        assert {head.hidden for head in causal} == {0}
        assert max(head.attended for head in causal) <= (T + 1) / 2
    assert module.artefact(83) == pytest.approx(41.012, abs=5e-4)


def test_both_masks_act_on_the_same_scores() -> None:
    module, sizes = small_census()
    X = torch.from_numpy(np.random.default_rng(1).normal(size=(9, 16)))
    (causal, product) = (module.network(name, sizes) for name in ("-inf", "product"))
    first = next(part for part in causal.modules() if isinstance(part, PatternModule))
    with torch.no_grad():
        visible = first.hidden_logits(X[None])[0]
    scores = torch.where(visible == -torch.inf, 0.0, visible)  # mask * scores
    (_, A), *_ = attention_of(product, X)
    torch.testing.assert_close(A[0], torch.softmax(scores, -1))


def test_census_shows_all_heads_and_those_of_the_paper() -> None:
    module, sizes = small_census()
    data = module.by_mask(sizes)
    with style():
        ours, theirs = module.figure(data, sizes).axes
    values = [patch.get_data() for patch in ours.patches]
    assert len(values) == len(data) + 1  # one is filled as well
    for (number, edges, _), counts in zip(values, data.values(), strict=False):
        assert number.sum() == sizes.blocks * sizes.heads == len(counts)
        assert (number == np.histogram(counts, edges)[0]).all()
    assert values[0][0].tolist()[:2] == [12, 0]  # all attend to one position
    assert [bar.get_height() for bar in theirs.patches] == [41, 61, 37, 70]


def test_saturation_is_shown_block_by_block_from_step_0(tmp_path: Path) -> None:
    module, folder = small_saturation(tmp_path)
    runs = chosen(trained(folder), **module.SHOWN)
    with style():
        *ours, theirs = module.figure(runs).axes
    assert [axes.get_title() for axes in ours] == ["sublayer norm", "pre-LN", "post-LN"]
    for number, axes in enumerate(ours):
        assert axes.get_xlim()[0] < 0  # which a logarithmic axis would hide
        for block, line in enumerate(axes.lines, start=1):
            assert line.get_xdata().tolist() == [0, 1, 70]
            cosines = [0.01 * step / (number + block) for step in (0, 1, 70)]
            assert line.get_ydata().tolist() == cosines
        light, dark = (sum(line.get_color()[:3]) for line in axes.lines)
        assert light > dark
    paper = reported()["saturation_by_layer"]
    solid = [line.get_ydata() for line in theirs.lines if line.get_linestyle() == "-"]
    dotted = [line.get_ydata() for line in theirs.lines if line.get_linestyle() == ":"]
    for shown, state in ((solid, "pretrained"), (dotted, "random")):
        assert sorted(map(list, shown)) == sorted(paper[state].values())
