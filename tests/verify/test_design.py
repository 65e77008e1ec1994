"""The design of a decision: weights, replicates, and the number of blocks."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asymptest.theory.errors import ArgumentError
from asymptest.verify.design import Design, allocation, extrapolation

EPS = np.finfo(np.float64).eps
WIDTHS = st.lists(st.integers(1, 4096), min_size=1, max_size=6, unique=True)


@given(WIDTHS)
def test_extrapolation_removes_every_order_it_can(widths: list[int]):
    weights = extrapolation(widths)
    for order in range(len(widths)):
        terms = weights / np.array(widths, float) ** order
        # Each term carries the rounding of a weight, a power and a quotient.
        budget = 4 * EPS * len(widths) * abs(terms).sum()
        assert abs(terms.sum() - (order == 0)) <= budget


def test_extrapolation_reads_the_limit_off_a_polynomial():
    widths = [64, 128, 256]
    means = np.array([2 - 3 / n + 5 / n**2 for n in widths])
    assert extrapolation(widths) @ means == pytest.approx(2, rel=1e-15)
    assert extrapolation([7]) == [1.0]


@given(WIDTHS)
def test_allocation_is_positive_and_proportional(widths: list[int]):
    counts = allocation(widths)
    ideal = abs(extrapolation(widths)) / np.array(widths) ** 1.5
    assert min(counts) == 1
    assert (abs(counts - ideal / ideal.min()) <= 0.5 + EPS * max(counts) * 8).all()


def test_allocation_wastes_little_of_the_optimum():
    widths = [64, 128, 256]
    counts, sizes = np.array(allocation(widths)), np.array(widths, float)
    variances, costs = extrapolation(widths) ** 2 / sizes, sizes**2
    product_ = (variances / counts).sum() * (costs * counts).sum()
    assert product_ <= 1.01 * np.sqrt(variances * costs).sum() ** 2


@pytest.mark.parametrize("widths", [[], [64, 64], [0, 1], [-64, 128]])
@pytest.mark.parametrize("function", [extrapolation, allocation])
def test_widths_must_be_different_and_positive(function, widths: list[int]):
    with pytest.raises(ArgumentError, match="widths"):
        function(widths)


@pytest.mark.parametrize(
    ("alpha", "miss", "resolution", "entries"),
    list(product([0.05, 1e-6, 1e-9], [0.1, 1e-3], [0.2, 0.05, 0.002], [1, 100])),
)
def test_blocks_and_detectable_are_inverse(
    alpha: float, miss: float, resolution: float, entries: int
):
    for noise in (0.3, 2.0):
        design = Design(alpha, miss, resolution, noise, entries)
        reached = design.detectable(design.blocks)
        assert reached <= resolution
        if design.blocks > design.burn_in:
            assert resolution <= 1.1 * reached
            assert design.detectable(design.blocks - 1) > resolution


def test_blocks_follow_the_square_of_noise_over_resolution():
    coarse = Design(alpha=1e-6, miss=0.01, resolution=0.02, noise=0.3, entries=10)
    fine = Design(alpha=1e-6, miss=0.01, resolution=0.01, noise=0.3, entries=10)
    assert fine.blocks == pytest.approx(4 * coarse.blocks, rel=0.02)
    biased = Design(1e-6, 0.01, resolution=0.03, noise=0.3, entries=10, bias=0.02)
    assert biased.blocks == fine.blocks


def test_a_sampler_without_noise_needs_only_the_burn_in():
    design = Design(alpha=1e-6, miss=0.01, resolution=1e-9, noise=0.0, entries=3)
    assert design.blocks == design.burn_in
    assert design.detectable(design.blocks) < 1e-13


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *product(["alpha", "miss"], [0.0, 1.0, -0.1, math.nan]),
        ("alpha", 1e-101),
        *product(["noise", "bias"], [-0.1, math.nan, math.inf]),
        *product(["resolution"], [0.0, -1.0, math.nan, math.inf, 1e-7]),
        ("entries", 0),
    ],
)
def test_design_names_the_attribute_outside_its_domain(name: str, value: float):
    valid = Design(alpha=1e-6, miss=0.01, resolution=0.05, noise=0.5, entries=10)
    with pytest.raises(ArgumentError, match=name):
        replace(valid, **{name: value})


def test_design_wants_room_between_bias_and_resolution():
    with pytest.raises(ArgumentError, match="resolution"):
        Design(1e-6, 0.01, resolution=0.05, noise=0.5, entries=10, bias=0.05)


def test_one_block_has_no_spread_to_detect_anything_by():
    with pytest.raises(ArgumentError, match="blocks"):
        Design(1e-6, 0.01, resolution=0.05, noise=0.5, entries=10).detectable(1)
