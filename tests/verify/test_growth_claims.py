"""What the refuted claims about norm growth and homogeneity are refuted by, and by what not."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import strategies as st

from asymptest.theory.growth import TABLE, Row
from asymptest.verify.catalogue.gates import DEFINITION_3, GAP, heads
from asymptest.verify.catalogue.growth import (
    GROWTH_LAWS,
    MISALIGNED,
    PRINTED,
    Walk,
    log_norms,
    predicted,
    remainder,
    walks,
)
from asymptest.verify.catalogue.perplexity import PERPLEXITY_PRINTED
from asymptest.verify.check import check
from asymptest.verify.claim import Status


def test_the_printed_law_holds_for_kappa_1() -> None:
    """So it is kappa that refutes it, not the rounding or a remainder set too small."""
    ones = walks((MISALIGNED,)).map(lambda walk: replace(walk, kappa=1.0))
    assert check(replace(PRINTED, instances=ones)).verdict is Status.SUPPORTED


def test_definition_3_fails_by_the_scale_alone() -> None:
    """It holds up to c = 4, and the smallest counterexample has a c beyond exp(gap)."""
    small = st.builds(replace, heads(), doublings=st.integers(0, 2))
    assert check(replace(DEFINITION_3, instances=small)).verdict is Status.SUPPORTED
    found = check(DEFINITION_3).evidence[0].counterexample or ""
    (doublings,) = re.findall(r"doublings=(\d+)", found)
    assert 2.0 ** int(doublings) > np.exp(GAP) / 32


def test_the_counterexample_to_base_2_is_the_smallest_text() -> None:
    """One token of two alike."""
    found = check(PERPLEXITY_PRINTED).evidence[0].counterexample
    assert found == "Predictions(logits=((0, 0),))"


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
@pytest.mark.parametrize("size", [0.25, 0.8, 2.0])
def test_the_remainder_is_small_and_used(row: Row, size: float) -> None:
    """A bound that nothing comes near, or that allows anything, would show nothing."""
    walk = Walk(row.name, size, 1.0, 0.5)
    found = np.array(log_norms(walk, np.random.default_rng(2)))
    gaps, bounds = abs(found - predicted(walk)), np.array(remainder(walk))
    assert (gaps <= bounds).all()
    assert (bounds < 0.02 * found).all()  # of the growth from log 1 = 0
    assert (gaps > bounds / 50).all()


def test_all_rows_are_claimed() -> None:
    """The claim states one law for each row of the table."""
    assert len(GROWTH_LAWS.statement) == len(TABLE)
