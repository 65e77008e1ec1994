"""Kernels drawn without weights: their law against dense torch networks.

Laws are compared at widths of a few, where every correction of order 1/n is large.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from asymptest.numerics import frames, fresh_weights, sampled_attention, sampling
from asymptest.numerics.frames import Rows
from asymptest.numerics.sampling import sample_kernels
from asymptest.numerics.wishart import bartlett, gaussian, lower, orthonormal
from asymptest.theory import LayerNorm, Network, Residual, RMSNorm
from asymptest.theory.rules import mixes
from asymptest.verify.families import finite_kernels, kernels_of_size
from asymptest.verify.network_mutants import changed
from asymptest.verify.stochastic import single_thread
from asymptest.verify.strategies import networks
from tests.numerics.sampled import DRAWS, FIXED, K3, gap

# beartype checks a random item of each tuple that a strategy builds.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")


def gap_to_torch(
    network: Network, K0: np.ndarray, width: int, draws: int = DRAWS
) -> float:
    with single_thread():
        theirs = finite_kernels(network, K0, width, draws, np.random.default_rng(0))
    return gap(sample_kernels(network, K0, width, draws, 1), theirs)


@pytest.mark.parametrize("which", FIXED)
def test_law_of_torch_networks(which: str) -> None:
    network, width = FIXED[which]
    assert gap_to_torch(network, K3, width) <= 1


@settings(
    max_examples=25,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow],
)
@given(data=st.data())
def test_law_of_random_networks(data: st.DataObject) -> None:
    T = data.draw(st.integers(1, 4))
    drawn = data.draw(networks(T, tame=True, custom=False))
    K0 = data.draw(kernels_of_size(T))
    network = changed(drawn, _without_cancellation)
    assert gap_to_torch(network, K0, data.draw(st.sampled_from([4, 8])), 4000) <= 1


def _without_cancellation(node: Network) -> Network:
    """Keep rows off zero: what is left of them would be rounding, which has no law."""
    if isinstance(node, RMSNorm | LayerNorm):
        return replace(node, eps=max(node.eps, 0.1))
    if isinstance(node, Residual) and mixes(node.branch):
        return replace(node, skip=abs(node.skip), weight=abs(node.weight))
    return node


WRONG: dict[str, tuple[Any, str, Any, str]] = {
    "one degree of freedom less": (
        fresh_weights,
        "gaussian",
        lambda rng, samples, rows, aligned, groups, n: gaussian(
            rng, samples, rows, aligned, groups, n - 1
        ),
        "dense chain",
    ),
    "all columns rotate": (
        fresh_weights,
        "gaussian",
        lambda rng, samples, rows, aligned, groups, n: gaussian(
            rng, samples, rows, 0, groups, n + aligned
        ),
        "residual",
    ),
    "half the features of a head": (
        sampled_attention,
        "bartlett",
        lambda rng, shape, rows, n: bartlett(rng, shape, rows, n // 2),
        "linear",
    ),
    "signs of the other kind": (
        frames,
        "lower",
        lambda F: -lower(F),
        "input's entries",
    ),
    "rows of length two": (
        fresh_weights,
        "orthonormal",
        lambda N: 2 * orthonormal(N),
        "orthogonal",
    ),
    "new axes at each activation": (
        sampling,
        "with_entries",
        lambda rows, rng: rows,
        "entries of a skip",
    ),
    "norm with n - 1": (
        sampling,
        "_normalised",
        lambda layer, C, n, right=sampling._normalised: right(layer, C, n - 1),
        "norm of a branch",
    ),
    "feature means left in": (
        Rows,
        "centred",
        lambda rows: rows.coordinates,
        "pre-norm block",
    ),
}


@pytest.mark.parametrize("which", WRONG)
def test_wrong_pieces_are_noticed(which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, name, wrong, where = WRONG[which]
    network, width = FIXED[where]
    right = sample_kernels(network, K3, width, DRAWS, 2)
    monkeypatch.setattr(module, name, wrong)
    assert gap(right, sample_kernels(network, K3, width, DRAWS, 3)) > 1
