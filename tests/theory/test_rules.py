"""Typing rules: what each layer may follow, and the remedy that each error names."""

from fractions import Fraction
from typing import Any

import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from asymptest.theory import (
    Attention,
    Blocks,
    Chain,
    Custom,
    Dense,
    Fixed,
    LayerNorm,
    Mix,
    Mlp,
    Network,
    Pointwise,
    Product,
    Repeat,
    Residual,
    RMSNorm,
    relu,
    tanh,
)
from asymptest.theory.errors import (
    CorrelatedBranchError,
    FeatureMeanError,
    NotGaussianError,
    ShapeError,
)
from asymptest.theory.rules import State, after, mixes

EYE, EYE2 = [[1, 0, 0], [0, 1, 0], [0, 0, 1]], [[1, 0], [0, 1]]


def custom(**known: bool) -> Custom:
    """A user's layer of which `known` is known."""

    def equation(K: Any, N: Any, *_: Any) -> Any:
        return sp.Eq(N, K)

    return Custom("mine", equation, lambda *_: None, **known)


GAUSSIAN = [
    lambda: Pointwise(relu),
    lambda: Dense() >> Pointwise(relu),
    lambda: Attention() >> Pointwise(relu),
    lambda: Mix(EYE) >> Pointwise(relu),
    lambda: Residual(Dense()) >> Pointwise(relu),
    lambda: RMSNorm() >> Pointwise(relu),
    lambda: Dense() >> RMSNorm() >> LayerNorm() >> Pointwise(relu),
    lambda: Pointwise(relu) >> Dense() >> Residual(Mix(EYE)) >> Pointwise(relu),
    lambda: Pointwise(relu) >> Attention() >> Pointwise(relu),
    lambda: custom(gaussian=True) >> Pointwise(relu),
    lambda: (Pointwise(relu) >> Dense()) * 3,
]


@pytest.mark.parametrize("make", GAUSSIAN, ids=range(len(GAUSSIAN)))
def test_pointwise_follows_gaussian_states(make: Any):
    """The input, fresh weights, and what keeps a state Gaussian may come before it."""
    make()


NOT_GAUSSIAN = {
    "twice": lambda: Pointwise(relu) >> Pointwise(relu),
    "repeated": lambda: Pointwise(relu) * 2,
    "mixed": lambda: Pointwise(relu) >> Mix(EYE) >> Pointwise(relu),
    "normed": lambda: Pointwise(relu) >> RMSNorm() >> Pointwise(relu),
    "skipped": lambda: Pointwise(relu) >> Residual(Dense()) >> Pointwise(relu),
    "branch": lambda: Pointwise(relu) >> Residual(Pointwise(relu) >> Dense()),
    "mlp": lambda: Dense() >> Pointwise(tanh) >> Pointwise(tanh) >> Mlp(relu),
    "custom": lambda: custom() >> Pointwise(relu),
    "later copy": lambda: (Pointwise(relu) >> Residual(Dense())) * 5,
}


@pytest.mark.parametrize("make", NOT_GAUSSIAN.values(), ids=NOT_GAUSSIAN)
def test_pointwise_refuses_what_is_not_gaussian(make: Any):
    """The error names the activation and says to insert a Dense()."""
    with pytest.raises(NotGaussianError, match=r"Pointwise\(\w+\).*insert a Dense\(\)"):
        make()


CORRELATED = {
    "identity-like": lambda: Residual(RMSNorm()),
    "pointwise": lambda: Residual(Dense() >> Pointwise(relu)),
    "odd pointwise": lambda: Residual(Pointwise(tanh)),
    "mix after norm": lambda: Residual(RMSNorm() >> Mix(EYE)),
    "nested": lambda: Residual(Residual(Dense())),
    "repeated skip": lambda: Residual(Residual(Dense()) * 3),
    "custom": lambda: Residual(custom(gaussian=True)),
    "after dense": lambda: Dense() >> Residual(RMSNorm()),
    "mix repeated": lambda: Residual(Dense() >> Residual(Dense()) >> Pointwise(relu)),
}


@pytest.mark.parametrize("make", CORRELATED.values(), ids=CORRELATED)
def test_branches_end_in_fresh_weights(make: Any):
    """The error shows the branch and says how to end it."""
    with pytest.raises(CorrelatedBranchError, match=r"end it with a Dense\(\) or"):
        make()


FRESH = [
    lambda: Residual(Dense()),
    lambda: Residual(Mlp(relu)),
    lambda: Residual(Attention()),
    lambda: Residual(Dense() >> Mix(EYE)),
    lambda: Residual(Dense() >> RMSNorm()),
    lambda: Residual(Dense() >> Residual(Dense())),
    lambda: Residual(Dense() * 3),
    lambda: Residual(Mix(EYE)),
    lambda: Residual(Mix(EYE) >> Mix(EYE)),
    lambda: Residual(custom(fresh=True)),
]


@pytest.mark.parametrize("make", FRESH, ids=range(len(FRESH)))
def test_fresh_branches_are_accepted(make: Any):
    """What stays odd in fresh weights may be added, and a branch that only mixes."""
    make()


FEATURE_MEAN = {
    "relu": lambda: Pointwise(relu) >> LayerNorm(),
    "mixed": lambda: Pointwise(relu) >> Mix(EYE) >> LayerNorm(),
    "normed": lambda: Pointwise(relu) >> RMSNorm() >> LayerNorm(),
    "skipped": lambda: Pointwise(relu) >> Residual(Dense()) >> LayerNorm(),
    "in a branch": lambda: Pointwise(relu) >> Residual(LayerNorm() >> Dense()),
    "custom": lambda: custom() >> LayerNorm(),
    "next copy": lambda: (LayerNorm() >> Pointwise(relu) >> Mix(EYE)) * 2,
}


@pytest.mark.parametrize("make", FEATURE_MEAN.values(), ids=FEATURE_MEAN)
def test_layer_norm_refuses_a_feature_mean(make: Any):
    """The error offers a Dense(), an odd activation, or RMSNorm()."""
    with pytest.raises(FeatureMeanError, match=r"Dense\(\).*odd.*RMSNorm\(\)"):
        make()


def test_layer_norm_after_an_odd_activation():
    """An odd activation of centred Gaussians has no mean; fresh weights remove one."""
    assert Pointwise(tanh) >> LayerNorm()
    assert Pointwise(relu) >> Dense() >> LayerNorm()
    assert custom(centred=True) >> LayerNorm()


SHAPES = {
    "mixes": (lambda: Mix(EYE) >> Mix(EYE2), "2 positions.*for 3"),
    "blocks": (
        lambda: Mix(EYE) >> Attention(mask=Blocks((1, 1))),
        "2 positions.*for 3",
    ),
    "mask": (lambda: Attention(mask=EYE) >> Mix(EYE2), "2 positions.*for 3"),
    "fixed": (
        lambda: Attention(Fixed(EYE2)) >> Dense() >> Mix(EYE),
        "3 positions.*for 2",
    ),
    "branch": (lambda: Mix(EYE) >> Residual(Mix(EYE2)), "2 positions.*for 3"),
    "after a branch": (
        lambda: Residual(Attention(Fixed(EYE))) >> Mix(EYE2),
        "2 positions.*for 3",
    ),
    "width": (
        lambda: Residual(Dense(expansion=2)),
        "one width.*width 1 n into 2 n",
    ),
    "narrow": (
        lambda: Dense(expansion=4) >> Residual(Dense()),
        "width 4 n into 1 n",
    ),
}


@pytest.mark.parametrize(("make", "message"), list(SHAPES.values()), ids=list(SHAPES))
def test_shapes_must_fit(make: Any, message: str):
    """Numbers of positions agree through the network, and a branch keeps the width."""
    with pytest.raises(ShapeError, match=message):
        make()


layers = st.sampled_from(
    [
        Dense(),
        Dense(expansion=Fraction(1, 2)),
        Mlp(relu),
        RMSNorm(),
        Mix(EYE),
        Attention(),
        Residual(Dense()),
        Residual(Mix(EYE), 2, -1),
        Pointwise(tanh),
        Pointwise(relu),
        LayerNorm(),
        custom(),
    ]
)
states = st.builds(
    State,
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([Fraction(1), Fraction(2)]),
    st.sampled_from([None, 3]),
)


def outcome(check: Any) -> State | type[Exception]:
    try:
        return check()
    except ValueError as error:
        return type(error)


def unrolled(chain: list[Network], state: State) -> State:
    for layer in chain:
        state = after(layer, state)
    return state


@settings(max_examples=40)
@given(st.lists(layers, min_size=1, max_size=4), st.integers(1, 6), states)
def test_a_repeat_is_checked_as_its_copies(
    chain: list[Network], copies: int, state: State
):
    """Checking two copies finds what checking all of them would find."""

    def repeated(start: State) -> State:
        return after(Repeat(Chain(tuple(chain)), copies), start)

    alone = outcome(lambda: repeated(State()))
    assert alone == outcome(lambda: unrolled(chain * copies, State()))
    if isinstance(alone, State):  # it can be built, hence met in any state
        found = outcome(lambda: repeated(state))
        assert found == outcome(lambda: unrolled(chain * copies, state))


def test_state_after_each_layer():
    """What is known: Dense makes everything fresh, an activation nothing."""
    start = State()
    assert after(Dense(expansion=2), start) == State(
        fresh=True, own=True, width=Fraction(2)
    )
    assert after(Pointwise(relu), start) == State(gaussian=False, centred=False)
    assert after(Pointwise(tanh), start) == State(gaussian=False, centred=True)
    assert after(Mix(EYE), start) == State(positions=3)
    assert after(Residual(Dense()), start) == start
    lost = State(gaussian=False, centred=False)
    assert after(Residual(Dense()), lost) == lost
    attended = after(Attention(mask=Blocks((2, 3))), lost)
    assert attended == State(fresh=True, own=True, positions=5)
    gate = Dense() >> Pointwise(relu)
    product = State(gaussian=False, centred=True, fresh=True, own=True)
    assert after(Product(gate, Dense()), start) == product
    assert after(Product(Mix(EYE), gate), start) == State(
        gaussian=False, centred=True, positions=3
    )


def test_a_product_needs_weights_of_its_own() -> None:
    """X * X is not the product of two kernels; X * relu(X W) is."""
    for shared in (Pointwise(relu), Mix(EYE), Residual(Dense())):
        with pytest.raises(CorrelatedBranchError, match="must not share"):
            Product(shared, Pointwise(relu))
        Product(shared, Dense() >> Pointwise(relu))
    with pytest.raises(ShapeError, match="have the widths 2 n and 1 n"):
        Product(Dense(expansion=2), Dense())
    # The entries of a product are not Gaussian.
    with pytest.raises(NotGaussianError):
        _ = Product(Dense(), Dense()) >> Pointwise(relu)


def test_mixes():
    """Only a branch of nothing but Mix is folded, its matrices in order."""
    a, b = Mix(EYE), Mix([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    assert mixes(a) == (a,)
    assert mixes(a >> b) == (a, b)
    assert mixes(Dense()) is None
    assert mixes(a >> Dense()) is None
