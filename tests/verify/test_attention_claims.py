"""What the claims about finite heads, collapse and shaped attention lean on, taken apart."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import asymptest.verify.catalogue.rank_collapse as collapse
import asymptest.verify.weights as weights
from asymptest.verify.catalogue import claims_of
from asymptest.verify.catalogue.rank_collapse import (
    LEVELS,
    Tokens,
    deep_constant,
    deep_remainder,
    deep_residual,
)
from asymptest.verify.catalogue.rank_collapse_causal import (
    CAUSAL_DEPTH,
    DEPTHS,
    LINEAR,
)
from asymptest.verify.catalogue.shaped_attention import ENTRIES, layer, one_step
from asymptest.verify.catalogue.uniform_attention import Scores, squared_gradient
from asymptest.verify.check import check
from asymptest.verify.claim import Rate, Status

SEEDS = range(40)


def gaps_and_bounds(
    rate: Rate, cases: list[Tokens], at: int
) -> tuple[np.ndarray, np.ndarray]:
    """How far each error is from its constant, relative to it, and what is allowed."""
    gaps = [
        rate.error(case, at) / (rate.constant(case) * rate.ratio(case) ** at) - 1
        for case in cases
    ]
    return np.abs(gaps), np.array([rate.remainder(case, at) for case in cases])


@pytest.mark.parametrize(
    ("rate", "at", "size"),
    [
        (collapse.CUBIC, LEVELS[0], 4),
        (LINEAR, LEVELS[0], 4),
        (CAUSAL_DEPTH, DEPTHS[1], 3),
    ],
    ids=["cubic", "linear", "causal depth"],
)
def test_remainders_hold_and_are_used(rate: Rate, at: int, size: int) -> None:
    """No gap exceeds its bound; one comes within a twentieth, and most bounds are small."""
    cases = [Tokens(seed, size, heads=1) for seed in SEEDS]
    gaps, bounds = gaps_and_bounds(rate, cases, at)
    assert (gaps <= bounds).all()
    assert (gaps > bounds / 20).any()
    assert np.median(bounds) < 0.5


def test_a_deep_residual_needs_its_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 320 bits eps^27 = 2^-378 is rounding, and the bound says so."""
    cases = (Tokens(seed, 2, heads=1, depth=3) for seed in SEEDS)
    case = next(case for case in cases if deep_remainder(case, 14) < 0.1)
    predicted = deep_constant(case) * 2.0 ** (-27 * 14)
    gap = deep_residual(case, 14) / predicted - 1
    assert 0 < abs(gap) <= deep_remainder(case, 14)
    monkeypatch.setattr(collapse, "BITS", 320)
    assert deep_remainder.__wrapped__(case, 14) > 1
    assert not abs(deep_residual(case, 14) / predicted - 1) < 0.5


def test_equal_tokens_have_no_query_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Zero up to rounding, where that of W^V is of order 1."""
    at = Scores(seed=5, positions=4, width=3, head=2)
    X, WK, WV = at.arrays()
    same = (X[:1].expand(4, -1).clone(), WK, WV)
    assert squared_gradient(at, 0) > 1e-3
    monkeypatch.setattr(Scores, "arrays", lambda _: same)
    assert squared_gradient(at, 0) < 1e-25
    assert squared_gradient(at, 2) > 1e-3


def test_one_step_stands_for_whole_weight_matrices() -> None:
    """X W^Q, X W^K and X W drawn at once, against matrices of weights: means of 30,000."""
    at, width, copies = layer(3, 0.9, 0.7), 16, 30_000
    rng = np.random.default_rng(11)
    short = one_step(at, width, copies, rng)
    X = torch.zeros(3, width, dtype=torch.float64)
    X[:, :3] = width**0.5 * torch.from_numpy(np.linalg.cholesky(at.V))
    turn = torch.linalg.qr(weights.normal(width, width, generator=rng))[0]
    X = X @ turn
    n_k = width // 8
    WQ, WK, W = (
        weights.normal(copies, width, size, generator=rng) / width**0.5
        for size in (n_k, n_k, width)
    )
    Y = (X @ WQ) @ (X @ WK).mT / n_k**0.5
    A = torch.eye(3) + torch.softmax(Y / (at.tau_0 * width**0.5), -1) - 1 / 3
    after = (1 - at.gamma**2) ** 0.5 * X + at.gamma * A @ X @ W
    change = (after @ after.mT / width).numpy()[:, *ENTRIES] - at.V[ENTRIES]
    # The first six numbers are means over W and signs, the others all products.
    for found, exact in (
        (width * change, short[:, :6]),
        (width * change**2, short[:, [6, 12, 17, 21, 24, 26]]),
    ):
        error = (found.var(0) + exact.var(0)) ** 0.5 / copies**0.5
        assert (np.abs(found.mean(0) - exact.mean(0)) < 5 * error).all()


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("heads_finite", "heads/kurtosis"),
        ("uniform_attention", "uniform-attention/similarity"),
        ("random_energy", "random-energy/one-step"),
        ("shaped_attention", "shaped-attention/sde"),
        ("spectral_gap", "spectral-gap/independent-logits"),
    ],
)
def test_wrong_weights_are_refuted(
    file: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Normal numbers 15 % too large in what is sampled turn a claim red."""
    normal = weights.normal
    for module in ("weights", "catalogue.shaped_attention", "catalogue.spectral_gap"):
        target = f"asymptest.verify.{module}.normal"
        monkeypatch.setattr(target, lambda *a, **k: 1.15 * normal(*a, **k))
    (claim,) = (claim for claim in claims_of(file) if claim.name == name)
    assert check(replace(claim, mutants={}), "quick").verdict is Status.REFUTED
