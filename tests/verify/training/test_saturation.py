"""Language models are read by the measures of any module: saturation_of and census."""

import numpy as np
import pytest
import torch

from asymptest.verify.census import census
from asymptest.verify.saturating import saturation_of, scaled
from asymptest.verify.training.blocks import Architecture
from asymptest.verify.training.models import LanguageModel

BATCH, CONTEXT, DEPTH, HEADS = 3, 16, 2, 4
ARCHITECTURES: tuple[Architecture, ...] = ("sublayer", "pre", "post")


def model(architecture: Architecture) -> LanguageModel:
    return LanguageModel(architecture, 10, CONTEXT, 16, DEPTH, HEADS, seed=3).float()


def ids() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(7).integers(0, 10, (BATCH, CONTEXT)))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_blocks_are_compared_position_by_position(architecture: Architecture) -> None:
    ours = model(architecture)
    soft = [X.detach().numpy() for X in scaled(ours, 1).states(ids())]
    hard = [X.detach().numpy() for X in scaled(ours, 1000).states(ids())]
    found = saturation_of(ours, ids(), 1000).layers
    assert [layer.layer for layer in found] == ["blocks.0", "blocks.1"]
    for layer, X, Y in zip(found, soft, hard, strict=True):
        norms = np.linalg.norm(X, axis=-1) * np.linalg.norm(Y, axis=-1)
        assert layer.mean == pytest.approx(((X * Y).sum(-1) / norms).mean(), rel=1e-12)
        assert layer.positions == BATCH * CONTEXT


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_model_is_as_saturated_as_it_is_scaled(architecture: Architecture) -> None:
    ours = model(architecture)
    cosines = [
        saturation_of(scaled(ours, c), ids(), 1000 / c).layers[-1].mean
        for c in (1, 8, 64, 1000)
    ]
    assert cosines[0] < 0.95
    assert cosines[2] > 0.99
    assert cosines[3] == pytest.approx(1, abs=1e-15)


def test_saturated_heads_attend_to_one_position_and_soft_ones_to_many() -> None:
    ours = model("sublayer")
    hard = census(scaled(ours, 1000), ids(), "causal")
    soft = census(ours, ids(), "causal")
    for heads in (hard, soft):  # each head once, whatever the number of sequences
        assert [head.head for head in heads] == [*range(HEADS)] * DEPTH
    assert all(head.attended < 1.01 for head in hard)
    assert all(head.attended > 4 for head in soft)


def test_heads_without_queries_average_over_what_the_causal_mask_shows() -> None:
    ours = model("post")
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            if name.endswith(".WQ"):
                parameter[..., 1, :] = 0  # of the second head alone
    heads = census(scaled(ours, 1000), ids(), "causal")
    assert [head.kind for head in heads] == ["argmax", "mean", "argmax", "argmax"] * 2
    assert {head.attended for head in heads if head.head == 1} == {(CONTEXT + 1) / 2}
