"""Saturation by hand, and against loops over torch's own layers."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from asymptest.theory import (
    Attention,
    Dense,
    LayerNorm,
    Mix,
    Mlp,
    Pointwise,
    Residual,
    RMSNorm,
    Softmax,
    abs_,
    relu,
)
from asymptest.theory.errors import AccuracyError, ArgumentError, UnsupportedError
from asymptest.verify.finite import finite
from asymptest.verify.saturated_attention import saturated
from asymptest.verify.saturating import blocks_of, saturation_of, scaled

EPS = torch.finfo(torch.float64).eps
T, N = 5, 8


def states(seed: int, batch: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, T, N, generator=generator, dtype=torch.float64)


def encoder(depth: int = 3, **options: Any) -> nn.TransformerEncoder:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(N, 2, 16, 0.5, batch_first=True, **options)
    return nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)


class TwoLayers(nn.Module):
    """W2 W1 x + b with W2 W1 x = (x, 0) and b = (0, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(1, 1, bias=False)
        self.second = nn.Linear(1, 2)
        with torch.no_grad():
            self.first.weight.fill_(1)
            self.second.weight.copy_(torch.tensor([[1.0], [0.0]]))
            self.second.bias.copy_(torch.tensor([0.0, 1.0]))

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


@pytest.mark.parametrize("c", [0.25, 1, 2, 10, 1000])
def test_by_hand(c: float) -> None:
    """(x, 1) against (c^2 x, c), averaged over positions.

    It differs if biases stay as they are, (c^2 x, 1); if only one weight is scaled; or if
    the states of all positions are one vector.
    """
    x = torch.tensor([[1.0], [3.0], [-2.0]])
    found = saturation_of(TwoLayers(), x, c, layers=["first"])
    cosines = [
        (c * s * s + 1) / math.sqrt((s * s + 1) * (c * c * s * s + 1))
        for s in (1, 3, -2)
    ]
    assert abs(found.output.mean - sum(cosines) / 3) <= 8 * EPS
    assert found.output.positions == 3
    assert found.c == c
    (first,) = found.layers
    assert (first.layer, first.positions) == ("first", 3)
    assert abs(first.mean - 1) <= 4 * EPS  # W1 x only grows


def cosine(X: Tensor, Y: Tensor) -> float:
    return float(nn.functional.cosine_similarity(X, Y, dim=-1).mean())


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("c", [2.0, 1000.0])
def test_layers_of_an_encoder(norm_first: bool, c: float) -> None:
    """The same by a loop over the encoder's layers, without hooks."""
    module = encoder(norm_first=norm_first).train()
    X = states(1).float()
    found = saturation_of(module, X, c)
    soft, hard = (encoder(norm_first=norm_first).double().eval() for _ in range(2))
    with torch.no_grad():
        for parameter in hard.parameters():
            parameter *= c
        x, y = X.double(), X.double()
        for k, (one, other) in enumerate(zip(soft.layers, hard.layers, strict=True)):
            x, y = one(x), other(y)
            assert found.layers[k].layer == f"layers.{k}"
            assert found.layers[k].positions == 3 * T
            # Scores of order c^4 magnify rounding where heads are nearly tied: random
            # scores have gaps far above that.
            assert abs(found.layers[k].mean - cosine(x, y)) <= 1e-9
    assert found.output.mean == found.layers[-1].mean
    assert abs(found.layers[0].mean) < 0.999


def test_finite_network_by_layer() -> None:
    block = Residual(RMSNorm(affine=True) >> Attention(Softmax(), "causal", 2))
    module = finite(block * 3, N, 2, rng=1)
    X = states(2, batch=2)
    found = saturation_of(module, X, 100.0)
    hard = scaled(module, 100.0)
    x, y = X, X
    with torch.no_grad():
        for k, name in enumerate(blocks_of(module)):
            x, y = module.get_submodule(name)(x), hard.get_submodule(name)(y)
            assert found.layers[k].layer == name
            assert abs(found.layers[k].mean - cosine(x, y)) <= 1e-9
    assert len(found.layers) == 3


# abs, not ReLU, which may turn all features of a position off.
HOMOGENEOUS = Attention(Softmax(), "causal", 2) >> Dense() >> Pointwise(abs_) >> Dense()


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32), exponent=st.integers(-5, 12))
def test_a_saturated_network_is_saturated(seed: int, exponent: int) -> None:
    """Without biases, skips and softmax every layer is homogeneous: cosines are 1."""
    module = finite(HOMOGENEOUS * 2, N, rng=seed)
    X = states(seed % 1000, batch=1)
    found = saturation_of(saturated(module), X, 2.0**exponent)
    for entry in (*found.layers, found.output):
        assert abs(entry.mean - 1) <= 8 * EPS
    if exponent > 8:  # and softmax is what keeps it from that
        assert saturation_of(module, X, 2.0**exponent).output.mean < 1 - 1e-9


# Scaling.


class Tied(nn.Module):
    """One matrix as embedding and readout, a buffer, a norm and integers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, N)
        self.norm = nn.BatchNorm1d(T)
        self.read = nn.Linear(N, 7, bias=False)
        self.read.weight = self.embed.weight
        self.count = nn.Parameter(torch.tensor([3]), requires_grad=False)

    def forward(self, ids: Tensor) -> Tensor:
        return self.read(self.norm(self.embed(ids)))


def test_every_parameter_is_scaled_once() -> None:
    """Shared ones not twice; gains and biases too; buffers and integers not at all."""
    module = Tied().eval()
    module.norm.running_mean += 2  # pyright: ignore[reportOperatorIssue]
    big = scaled(module, 8.0)
    for name, parameter in module.named_parameters():
        factor = 1 if name == "count" else 8
        assert torch.equal(big.get_parameter(name), factor * parameter.double()), name
    assert big.get_parameter("embed.weight") is big.get_submodule("read").weight
    for name, buffer in module.named_buffers():
        assert torch.equal(big.get_buffer(name), buffer.to(big.get_buffer(name).dtype))


def test_fixed_mixing_matrices_are_no_parameters() -> None:
    module = finite(Mix([[0.5, 0.5], [0.0, 1.0]]) >> Dense(), N)
    big = scaled(module, 3.0)
    buffers = dict(module.named_buffers())
    assert buffers
    assert all(torch.equal(big.get_buffer(name), b) for name, b in buffers.items())


def test_the_module_is_left_as_it_is() -> None:
    module = encoder().train()
    module.layers[1].eval()
    before = {name: p.clone() for name, p in module.state_dict().items()}
    modes = [part.training for part in module.modules()]
    first, again = (saturation_of(module, states(3)) for _ in range(2))
    assert first == again  # no dropout
    assert modes == [part.training for part in module.modules()]
    assert all(torch.equal(before[name], p) for name, p in module.state_dict().items())
    assert {p.dtype for p in module.parameters()} == {torch.float32}
    assert not any(
        [*part._forward_hooks, *part._forward_pre_hooks] for part in module.modules()
    )


# Which layers.


def test_blocks_are_the_outermost_list_of_one_kind() -> None:
    """Not the list of a model's stages, nor the parts of one block, though longer."""
    model = nn.Sequential(nn.Linear(N, N), encoder(2), nn.Linear(N, N))
    assert blocks_of(model) == ("1.layers.0", "1.layers.1")
    branch = Residual(RMSNorm() >> Dense())
    module = finite((branch >> branch >> branch) * 2, N)
    assert blocks_of(module) == ("body.0", "body.1")
    assert blocks_of(nn.Linear(N, N)) == ()
    assert saturation_of(nn.Linear(N, N), states(4)).layers == ()


def test_a_shared_layer_appears_as_often_as_it_runs() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = TwoLayers()
            self.back = nn.Linear(2, 1, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(self.back(self.layer(x)))

    found = saturation_of(Twice(), torch.ones(4, 1), 10.0, layers=["layer"])
    assert [entry.layer for entry in found.layers] == ["layer", "layer"]
    assert found.layers[1].mean == found.output.mean
    assert found.layers[0].mean != found.layers[1].mean


def test_layers_that_overwrite_their_input() -> None:
    """The state is the one at the time, not what an in-place layer made of it."""
    affine = nn.Sequential(nn.Linear(N, N), nn.Linear(N, N))
    module = nn.Sequential(affine, nn.ReLU(inplace=True))
    X = states(5)
    before = saturation_of(module, X, 10.0, layers=["0"]).layers[0].mean
    assert before == saturation_of(affine, X, 10.0).output.mean


def test_inputs_by_position_and_by_name() -> None:
    """As a tuple, as a mapping, in float32; a mask is an input and stays."""
    attention = nn.MultiheadAttention(N, 2, batch_first=True)
    X = states(6).float()
    hidden = torch.ones(T, T).triu(1).bool()
    by_position = saturation_of(attention, (X, X, X, None, False, hidden))
    named = {"query": X, "key": X, "value": X, "attn_mask": hidden}
    assert by_position.output.positions == 3 * T
    assert abs(
        by_position.output.mean - saturation_of(attention, named).output.mean
    ) < (1e-9)
    open_heads = saturation_of(attention, (X, X, X))
    assert abs(open_heads.output.mean - by_position.output.mean) > 1e-3


def test_padded_positions_keep_their_states() -> None:
    """torch's fused layer returns 0 there, which has no direction."""
    module = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(N, 2, 16, batch_first=True), 2
    ).eval()
    padded = torch.zeros(3, T).bool()
    padded[0, 3:] = True
    found = saturation_of(module, {"src": states(7), "src_key_padding_mask": padded})
    assert found.output.positions == 3 * T


# Errors.


@pytest.mark.parametrize("c", [0.0, -1.0, math.inf, math.nan])
def test_c_is_positive_and_finite(c: float) -> None:
    with pytest.raises(ArgumentError, match="c must be"):
        saturation_of(TwoLayers(), torch.ones(1, 1), c)


def test_nothing_to_scale() -> None:
    """The cosine would be 1, whatever the module."""
    with pytest.raises(ArgumentError, match="no floating-point parameter"):
        saturation_of(nn.ReLU(), states(8))


def test_overflow_names_layer_and_remedy() -> None:
    module = nn.Sequential(*(nn.Linear(N, N) for _ in range(4)))
    with pytest.raises(AccuracyError, match=r"2 overflows at c = 1e\+60.*smaller c"):
        saturation_of(module, states(9), 1e60)


def test_nan_is_refused() -> None:
    """What overflowed inside a layer leaves it as nan, which is not above any limit."""
    X = torch.tensor([[1.0, torch.nan]])
    with pytest.raises(AccuracyError, match="output overflows at c = 1: it is nan"):
        saturation_of(nn.Linear(2, 2), X)


@pytest.mark.parametrize("norm", [nn.LayerNorm(N), finite(LayerNorm(affine=True), N)])
def test_overflow_that_a_norm_would_hide(norm: nn.Module) -> None:
    """The variance of numbers like 1e240 is inf: their norm would be 0 without a word."""
    hidden = nn.Sequential(nn.Linear(N, N), nn.Linear(N, N), norm, nn.Linear(N, N))
    with pytest.raises(AccuracyError, match=r"the input of .*2.* overflows at c = 1e"):
        saturation_of(hidden, states(10, batch=1), 1e120, layers=[])


def test_states_near_the_limits_have_a_cosine() -> None:
    """Squares of 1e-200 are 0, and of 1e140 near the end of float64."""
    for size in (1e-200, 1e140):
        X = size * torch.eye(N).double()
        found = saturation_of(nn.Linear(N, N, bias=False), X, 4.0)
        assert abs(found.output.mean - 1) <= 8 * EPS


def test_a_zero_state_has_no_direction() -> None:
    first = nn.Linear(2, 2, bias=False)
    nn.init.eye_(first.weight)
    module = nn.Sequential(first, nn.ReLU())
    X = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    with pytest.raises(ArgumentError, match="state of output is 0 at 1 of 2"):
        saturation_of(module, X)


def test_unknown_and_idle_layers() -> None:
    class Idle(TwoLayers):
        def __init__(self) -> None:
            super().__init__()
            self.idle = nn.Linear(1, 1)

    with pytest.raises(ArgumentError, match=r"'third'.*named_modules"):
        saturation_of(Idle(), torch.ones(1, 1), layers=["third"])
    with pytest.raises(ArgumentError, match=r"\['idle'\] did not"):
        saturation_of(Idle(), torch.ones(1, 1), layers=["first", "idle"])


@pytest.mark.parametrize("output", [None, (), {}, torch.tensor(1.0), torch.tensor([1])])
def test_what_is_no_state(output: Any) -> None:
    class Odd(TwoLayers):
        def forward(self, x: Tensor) -> Any:
            return output

    with pytest.raises(UnsupportedError, match="output must return"):
        saturation_of(Odd(), torch.ones(1, 1))


@pytest.mark.parametrize("wrap", [tuple, list, lambda X: {"logits": X[0], "cache": 1}])
def test_the_first_of_several_outputs_is_the_state(wrap: Any) -> None:
    class Several(TwoLayers):
        def forward(self, x: Tensor) -> Any:
            return wrap((super().forward(x), None))

    x = torch.ones(3, 1)
    plain = saturation_of(TwoLayers(), x, 10.0).output
    assert saturation_of(Several(), x, 10.0).output == plain


def test_the_second_bias_of_an_mlp_falls_behind() -> None:
    """c^2 W2 relu(W1 x + b1) + c b2: with b1 alone it is homogeneous, so saturated."""
    first, second = (
        finite(Mlp(relu, 4, Dense(1, 1), Dense(1, b)), N, rng=3) for b in (0, 1)
    )
    X = states(11, batch=1)
    assert abs(saturation_of(first, X).output.mean - 1) <= 8 * EPS
    assert saturation_of(second, X).output.mean < 0.999
