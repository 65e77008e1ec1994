import numpy as np
import pytest
import torch
from torch import nn

from asymptest.theory.errors import ShapeError
from asymptest.verify.training.blocks import EPS, Architecture
from asymptest.verify.training.models import LanguageModel

WIDTH, HEADS, CONTEXT = 16, 4, 12
ARCHITECTURES: tuple[Architecture, ...] = ("sublayer", "pre", "post")


def model(architecture: Architecture, depth: int = 1, seed: int = 0) -> LanguageModel:
    return LanguageModel(architecture, 10, CONTEXT, WIDTH, depth, HEADS, seed)


def ids(batch: int = 3) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(5).integers(0, 10, (batch, CONTEXT)))


def peer(ours: LanguageModel) -> nn.TransformerEncoderLayer:
    """PyTorch's own layer with the weights of our only block."""
    theirs = nn.TransformerEncoderLayer(
        WIDTH,
        HEADS,
        4 * WIDTH,
        dropout=0.0,
        layer_norm_eps=EPS,
        batch_first=True,
        norm_first=ours.architecture == "pre",
        bias=False,
        dtype=torch.float64,
    )
    named = {
        name.split(".")[-1] + str(value.ndim): value.detach()[0]
        for name, value in ours.blocks[0].named_parameters()
    }
    flat = {name: w.reshape(-1, WIDTH) for name, w in named.items()}
    dense = [
        w.detach()[0]
        for name, w in ours.blocks[0].named_parameters()
        if name.endswith(".W")
    ]
    # Ours are X W, theirs X W^T; the variances of the definition are in the weights.
    stacked = [flat[f"W{label}4"].reshape(WIDTH, WIDTH).T for label in "QKV"]
    with torch.no_grad():
        theirs.self_attn.in_proj_weight.copy_(torch.cat(stacked))
        theirs.self_attn.out_proj.weight.copy_(flat["WO4"].reshape(WIDTH, WIDTH).T)
        theirs.linear1.weight.copy_(dense[0].T)
        theirs.linear2.weight.copy_(dense[1].T)
    return theirs


@pytest.mark.parametrize("architecture", ["pre", "post"])
def test_a_block_is_pytorchs_own(architecture: Architecture) -> None:
    ours = model(architecture)
    X = ours.tokens[ids()] + ours.positions
    hidden = nn.Transformer.generate_square_subsequent_mask(
        CONTEXT, dtype=torch.float64
    )
    expected = peer(ours)(X, src_mask=hidden, is_causal=True)
    torch.testing.assert_close(ours.states(ids())[0], expected, rtol=0, atol=1e-12)


def test_the_sublayer_block_normalises_what_it_adds() -> None:
    ours = model("sublayer")
    X = ours.tokens[ids()] + ours.positions
    theirs = peer(ours)
    hidden = nn.Transformer.generate_square_subsequent_mask(
        CONTEXT, dtype=torch.float64
    )
    X = X + theirs.norm1(theirs.self_attn(X, X, X, attn_mask=hidden)[0])
    X = X + theirs.norm2(theirs.linear2(torch.relu(theirs.linear1(X))))
    torch.testing.assert_close(ours.states(ids())[0], X, rtol=0, atol=1e-12)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_positions_see_only_earlier_ones_of_their_own_sequence(
    architecture: Architecture,
) -> None:
    ours = model(architecture, depth=2)
    changed = ids()
    changed[0, 7] = (changed[0, 7] + 1) % 10
    difference = (ours(ids()) - ours(changed)).abs().amax(-1)
    assert (difference[0, :7] == 0).all()
    assert (difference[0, 7:] > 0).all()
    assert (difference[1:] == 0).all()


@pytest.mark.parametrize(
    ("architecture", "degree"), [("sublayer", 1), ("pre", 3), ("post", 1)]
)
def test_states_are_homogeneous_in_large_parameters(
    architecture: Architecture, degree: int
) -> None:
    sizes = []
    for c in (64, 128):
        ours = model(architecture, depth=2)
        with torch.no_grad():
            for parameter in ours.parameters():
                parameter.mul_(c)
            sizes.append(float(ours.states(ids())[-1].norm()))
    assert np.log2(sizes[1] / sizes[0]) == pytest.approx(degree, abs=0.01)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_parameter_learns_in_float32(architecture: Architecture) -> None:
    ours = model(architecture, depth=2).float()
    loss = ours.loss(ids())
    loss.backward()
    assert loss.dtype == torch.float32
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_the_loss_is_of_the_next_token() -> None:
    ours = model("pre")
    given = ids()
    logits = ours(given[:, :-1]).detach().numpy()
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    picked = np.take_along_axis(logs, given[:, 1:, None].numpy(), -1)
    assert float(ours.loss(given).detach()) == pytest.approx(-picked.mean(), rel=1e-12)


def test_more_positions_than_the_context_are_refused() -> None:
    with pytest.raises(ShapeError, match="reads 12 positions; got 13"):
        model("pre")(torch.zeros(1, CONTEXT + 1, dtype=torch.int64))
