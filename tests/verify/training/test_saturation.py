import numpy as np
import pytest
import torch

from asymptest.verify.training.models import Architecture, LanguageModel
from asymptest.verify.training.saturation import (
    attended,
    kind_of_head,
    scaled,
    similarity,
)

CONTEXT = 16
ARCHITECTURES: tuple[Architecture, ...] = ("sublayer", "pre", "post")


def model(architecture: Architecture) -> LanguageModel:
    return LanguageModel(architecture, 10, CONTEXT, 16, 2, 4, seed=3).float()


def ids() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(7).integers(0, 10, (3, CONTEXT)))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_similarity_is_the_mean_cosine_over_positions(
    architecture: Architecture,
) -> None:
    ours = model(architecture)
    soft = [X.detach().numpy() for X in scaled(ours, 1).states(ids())]
    hard = [X.detach().numpy() for X in scaled(ours, 1000).states(ids())]
    for found, X, Y in zip(similarity(ours, ids()), soft, hard, strict=True):
        norms = np.linalg.norm(X, axis=-1) * np.linalg.norm(Y, axis=-1)
        assert found == pytest.approx(((X * Y).sum(-1) / norms).mean(), rel=1e-12)
        # The cosine of all positions as one vector is another number.
        whole = (X * Y).sum() / np.linalg.norm(X) / np.linalg.norm(Y)
        assert abs(found - whole) > 1e-9


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_model_is_as_saturated_as_it_is_scaled(architecture: Architecture) -> None:
    ours = model(architecture)
    assert similarity(ours, ids(), c=1) == pytest.approx([1, 1], abs=1e-15)
    cosines = [similarity(ours, ids(), base=c)[-1] for c in (1, 8, 64, 1000)]
    assert cosines[0] < 0.95
    assert cosines[2] > 0.99
    assert cosines[3] == pytest.approx(1, abs=1e-15)


def test_scaling_leaves_the_model_alone() -> None:
    ours = model("pre")
    before = [p.detach().clone() for p in ours.parameters()]
    large = scaled(ours, 1000)
    for p, old, new in zip(ours.parameters(), before, large.parameters(), strict=True):
        assert torch.equal(p, old)
        assert new.dtype == torch.float64
        assert torch.equal(new, 1000 * old.double())


def test_saturated_heads_attend_to_one_position_and_soft_ones_to_many() -> None:
    ours = model("sublayer")
    hard, soft = np.array(attended(ours, ids())), np.array(attended(ours, ids(), c=1))
    assert hard.shape == soft.shape == (2, 4)
    assert (hard < 1.01).all()
    assert (soft > 4).all()


def test_heads_without_queries_average_over_what_the_causal_mask_shows() -> None:
    ours = model("post")
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            if name.endswith(".WQ"):
                parameter[..., 1, :] = 0  # of the second head alone
    counts = np.array(attended(ours, ids()))
    assert (counts[:, 1] == (CONTEXT + 1) / 2).all()
    kinds = [[kind_of_head(c, CONTEXT) for c in row] for row in counts]
    assert kinds == [["argmax", "mean", "argmax", "argmax"]] * 2


@pytest.mark.parametrize(
    ("count", "T", "kind"),
    [
        (1.4, 83, "argmax"),  # the end of the first mode of arXiv 2010.09697
        (3.1, 83, "mixed"),
        (39.9, 83, "mixed"),
        (42.0, 83, "mean"),
        (1.0, 2, "argmax"),
        (1.5, 2, "mean"),
    ],
)
def test_kinds_of_heads(count: float, T: int, kind: str) -> None:
    assert kind_of_head(count, T) == kind
