"""The description: composition, repr, hashing, and what each node refuses."""

from fractions import Fraction
from functools import reduce
from operator import rshift
from typing import Any

import jaxtyping
import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from asymptest import theory
from asymptest.theory import (
    Attention,
    Chain,
    Custom,
    Dense,
    Fixed,
    LayerNorm,
    Linear,
    Mix,
    Mlp,
    Network,
    Pointwise,
    Repeat,
    Residual,
    RMSNorm,
    Saturated,
    Softmax,
    Uniform,
    depth,
    pretty,
    recursion,
    relu,
)
from asymptest.theory.arrays import Array
from asymptest.theory.errors import (
    ArgumentError,
    AsymptestError,
    ShapeError,
    UnsupportedError,
)

T = 3
NAMES: dict[str, Any] = {name: getattr(theory, name) for name in theory.__all__}
NAMES["Fraction"] = Fraction

variances = st.sampled_from([0, 1, 2, 0.5, 1e-3, 1.25])
weights = st.sampled_from([1, -1, 0.5, 2])
entries = st.sampled_from([-1.0, 0.0, 0.25, 1.0])
square = st.lists(st.lists(entries, min_size=T, max_size=T), min_size=T, max_size=T)
tables = square.map(
    lambda a: [[i == j or x > 0 for j, x in enumerate(r)] for i, r in enumerate(a)]
)
dense = st.builds(
    Dense, variances, variances, st.sampled_from(["gaussian", "orthogonal"])
)
activations = st.sampled_from(
    [theory.relu, theory.tanh, theory.erf, theory.monomial(2), theory.leaky_relu(0.1)]
)
norms = st.builds(RMSNorm, variances)
mlps = st.builds(
    Mlp,
    activations,
    st.sampled_from([1, 4, Fraction(1, 2), Fraction(8, 3)]),
    dense,
    dense,
)
masks = st.one_of(
    st.sampled_from(["full", "causal"]),
    st.builds(theory.Window, st.integers(1, 3), st.booleans()),
    st.builds(theory.Blocks, st.sampled_from([(3,), (1, 2)]), st.booleans()),
    st.builds(theory.Padding, st.integers(1, 3), st.booleans()),
    tables,
)
patterns = st.one_of(
    st.builds(Uniform),
    st.builds(
        Softmax, st.sampled_from(["1/sqrt(d)", "1/d"]), st.just(False), variances
    ),
    st.builds(Softmax, st.just("1/d"), st.just(True), variances),
    st.builds(Saturated, st.just("1/sqrt(d)"), st.just(False), variances),
    st.builds(Saturated, st.just("1/d"), st.just(True), variances),
    st.builds(Linear, st.just("1/sqrt(d)"), st.just(False), variances),
)
attentions = st.one_of(
    st.builds(
        Attention, patterns, masks, st.sampled_from([1, 4, "sqrt"]), dense, dense
    ),
    st.builds(Attention, square.map(Fixed), st.just("full"), st.sampled_from([1, 2])),
)
fresh = st.one_of(dense, mlps, attentions)
branches = st.one_of(
    fresh, st.builds(lambda a, b: a >> b, norms, fresh), square.map(Mix)
)
layers = st.one_of(
    fresh,
    norms,
    square.map(Mix),
    st.builds(Residual, branches, weights, weights),
    st.builds(lambda a, f, b: a >> Pointwise(f) >> b, dense, activations, dense),
    st.builds(lambda a, b: a >> b, dense, st.builds(LayerNorm, variances)),
)
networks = st.recursive(
    layers,
    lambda inner: st.one_of(
        st.builds(lambda a, b: a >> b, inner, inner),
        st.builds(lambda a, k: a * k, inner, st.integers(1, 4)),
    ),
    max_leaves=4,
)


@settings(max_examples=25)
@given(networks)
def test_repr_is_the_expression_that_builds_it(network: Network):
    """eval(repr(network)) == network, with an equal hash and an equal repr."""
    again = eval(repr(network), NAMES)
    assert again == network
    assert hash(again) == hash(network)
    assert repr(again) == repr(network) == pretty(network)


@settings(max_examples=25)
@given(networks, networks, networks)
def test_composition_is_associative_and_flat(a: Network, b: Network, c: Network):
    """(a >> b) >> c == a >> (b >> c), a chain that holds no chain."""
    left, right = (a >> b) >> c, a >> (b >> c)
    assert left == right
    assert hash(left) == hash(right)
    assert not any(isinstance(layer, Chain) for layer in left.layers)
    assert depth(left) == depth(a) + depth(b) + depth(c)


@settings(max_examples=25)
@given(networks, st.integers(1, 5), st.integers(1, 5))
def test_repetition_multiplies(network: Network, L: int, M: int):
    """a * L * M == a * (L M) == (L M) * a, of L M times the depth."""
    once = network * (L * M)
    assert (network * L) * M == once == (L * M) * network
    assert not isinstance(once.block, Repeat)
    copies = network.depth if isinstance(network, Repeat) else 1
    assert once.depth == L * M * copies


@settings(max_examples=25)
@given(networks)
def test_networks_are_immutable_values(network: Network):
    """A network is a key of a dictionary and cannot be changed."""
    assert {network: 1}[eval(repr(network), NAMES)] == 1
    field = next(iter(network.__dataclass_fields__))
    with pytest.raises(AttributeError):
        setattr(network, field, None)


def test_operators_bind_as_they_print():
    """a >> b * 3 repeats b alone; (a >> b) * 3 repeats both."""
    a, b = Dense(2), RMSNorm()
    assert a >> b * 3 == Chain((a, Repeat(b, 3)))
    assert repr(a >> b * 3) == "Dense(2) >> RMSNorm() * 3"
    assert repr((a >> b) * 3) == "(Dense(2) >> RMSNorm()) * 3"


def test_equal_networks_differ_from_different_ones():
    """Every field takes part in the comparison."""
    assert Dense(2) != Dense(bias_variance=2)
    assert Dense() != Dense(init="orthogonal")
    assert RMSNorm() != LayerNorm()
    assert Residual(Dense(), 2) != Residual(Dense(), weight=2)
    assert Mix(np.eye(2)) != Mix(np.eye(3))
    assert Mix(np.eye(2)) == Mix([[1, 0], [0, 1]]) == Mix(Array.of(np.eye(2)))
    assert Attention(mask="causal") != Attention(Softmax(), mask="causal")


def test_mlp_is_its_layers():
    """Mlp(phi) is Dense >> Pointwise >> Dense with a wide hidden layer."""
    mlp = Mlp(relu, 3, Dense(2, 0.5, "orthogonal"), Dense(5))
    assert mlp.layers == (Dense(2, 0.5, "orthogonal", 3) >> Pointwise(relu) >> Dense(5))


@pytest.mark.parametrize("shape", [(2, 3), (4, 4), (2, 3, 3), (1, 1), (17, 2)])
def test_arrays_keep_their_entries(shape: tuple[int, ...]):
    """An Array has the shape and, in float64, the entries that it was given."""
    values = np.random.default_rng(0).normal(size=shape)
    array = Array.of(values)
    assert array.shape == shape
    np.testing.assert_array_equal(array.tolist(), values)
    np.testing.assert_array_equal(np.frombuffer(array.data).reshape(shape), values)
    assert len(repr(array)) < 500


def equation(K: Any, N: Any, i: Any, j: Any) -> Any:
    return sp.Eq(N[i, j], K[i, j])


def custom() -> Custom:
    """A user's layer with readings that are never called here."""
    return Custom("mine", equation, lambda *_: None)


def test_custom_nodes_compose_and_hash():
    """A user's own node is a value like any other."""
    mine = custom()
    assert hash(mine >> Dense()) == hash(mine >> Dense())
    assert repr(mine * 2) == "Custom('mine') * 2"


REFUSED: list[tuple[str, Any, type[Exception], str]] = [
    ("variance<0", lambda: Dense(-1), ArgumentError, r"Dense.variance.*>= 0.*-1"),
    ("variance-nan", lambda: Dense(np.nan), ArgumentError, "Dense.variance.*nan"),
    ("variance-inf", lambda: Dense(np.inf), ArgumentError, "Dense.variance.*finite"),
    ("variance-sym", lambda: Dense(-sp.pi), ArgumentError, "Dense.variance.*-pi"),
    ("bias<0", lambda: Dense(1, -0.1), ArgumentError, "Dense.bias_variance.*-0.1"),
    ("init", lambda: Dense(init="haar"), ArgumentError, "'gaussian' or.*got 'haar'"),  # pyright: ignore[reportArgumentType]
    ("expansion", lambda: Dense(expansion=0), ArgumentError, "Dense.expansion.*got 0"),
    ("hidden", lambda: Mlp(relu, -1), ArgumentError, "expansion must be > 0; got -1"),
    ("eps", lambda: RMSNorm(-1e-5), ArgumentError, "RMSNorm.eps.*-1e-05"),
    ("eps-nan", lambda: LayerNorm(np.nan), ArgumentError, "LayerNorm.eps.*nan"),
    ("mix-shape", lambda: Mix([[1, 2]]), ShapeError, r"Mix.A.*\(T, T\).*\(1, 2\)"),
    ("mix-ragged", lambda: Mix([[1, 2], [3]]), ShapeError, "Mix.A must be rectang"),
    ("mix-empty", lambda: Mix([]), ShapeError, "Mix.A must be rectangular and not"),
    ("mix-text", lambda: Mix([["a"]]), ShapeError, "Mix.A must hold real numbers"),
    ("mix-complex", lambda: Mix([[1j]]), ShapeError, "Mix.A must hold real numbers"),
    ("mix-nan", lambda: Mix([[np.nan]]), AsymptestError, "Mix.A.*(nan|finite)"),
    ("fixed-inf", lambda: Fixed([[np.inf]]), AsymptestError, "Fixed.A.*(inf|finite)"),
    (
        "fixed-1d",
        lambda: Fixed([1, 2]),
        ShapeError,
        r"Fixed.A.*\(heads, T, T\).*\(2,\)",
    ),
    ("fixed-shape", lambda: Fixed([[1, 2]]), ShapeError, r"Fixed.A.*got \(1, 2\)"),
    ("fixed-4d", lambda: Fixed([[[[1]]]]), ShapeError, r"got \(1, 1, 1, 1\)"),
    (
        "fixed-heads",
        lambda: Attention(Fixed([[[1]], [[1]]]), heads=3),
        ShapeError,
        "is for 2 heads but Attention.heads is 3.*one matrix or slope a head",
    ),
    (
        "fixed-sqrt",
        lambda: Attention(Fixed([[[1]], [[1]]]), heads="sqrt"),
        ShapeError,
        "is for 2 heads but Attention.heads is sqrt",
    ),
    (
        "fixed-mask",
        lambda: Attention(Fixed([[1]]), mask="causal"),
        ArgumentError,
        "leave mask='full'.*zeros into A",
    ),
    ("heads", lambda: Attention(heads=0), ArgumentError, "heads.*at least 1; got 0"),
    ("mask", lambda: Attention(mask="none"), ArgumentError, "mask must be.*'none'"),
    (
        "mask-row",
        lambda: Attention(mask=[[0, 0], [1, 1]]),
        ArgumentError,
        "hides every position from position 0",
    ),
    (
        "value",
        lambda: Attention(value=Dense(expansion=2)),
        ArgumentError,
        "keeps its width.*expansion=1.*2 and 1",
    ),
    ("scale", lambda: Softmax("1/n"), ArgumentError, r"'1/sqrt\(d\)' or.*'1/n'"),  # pyright: ignore[reportArgumentType]
    ("tied", lambda: Softmax(tied=True), ArgumentError, "no limit.*scale='1/d'"),
    ("saturated", lambda: Saturated("1/d"), ArgumentError, r"vanish.*'1/sqrt\(d\)'"),
    ("softmax<0", lambda: Softmax(variance=-2), ArgumentError, "Softmax.variance.*-2"),
    (
        "skip-nan",
        lambda: Residual(Dense(), skip=np.nan),
        ArgumentError,
        "Residual.skip.*nan",
    ),
    (
        "weight-inf",
        lambda: Residual(Dense(), weight=np.inf),
        ArgumentError,
        "Residual.weight.*inf",
    ),
    ("zero", lambda: Dense() * 0, ArgumentError, "at least once; got 0"),
    ("fraction", lambda: Repeat(Dense(), 1.5), ArgumentError, "whole number.*1.5"),  # pyright: ignore[reportArgumentType]
    ("empty", lambda: Chain(()), ArgumentError, "Chain.*at least one"),
]


@pytest.mark.parametrize(
    ("make", "error", "message"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_bad_arguments_are_refused(
    monkeypatch, make: Any, error: type[Exception], message: str
):
    """Each error names the argument, the value that came, and what to give instead."""
    # As users meet it: without the suite's check of annotations.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(error, match=message) as caught:
        make()
    assert isinstance(caught.value, AsymptestError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: rshift(Dense(), relu),
            "only networks compose with >>; got Activation",
        ),
        (lambda: Pointwise("relu"), "must be an Activation.*got str"),  # pyright: ignore[reportArgumentType]
        (lambda: Attention("uniform"), r"Uniform\(\), Fixed\(A\).*got str"),  # pyright: ignore[reportArgumentType]
    ],
    ids=["compose", "pointwise", "pattern"],
)
def test_foreign_objects_are_refused(monkeypatch, make: Any, message: str):
    """A TypeError names what was given, as users see it, without shape checks."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(UnsupportedError, match=message):
        make()


def test_symbols_are_welcome_as_numbers():
    """A variance may be a symbol, for recursions that keep it."""
    s = sp.Symbol("s", positive=True)
    (line,) = recursion(Dense(s)).equations
    assert str(line.rhs) == "s*K_0"


def test_depth_counts_layers():
    """Chains add, repetitions count their copies."""
    block = Residual(RMSNorm() >> Dense())
    assert depth(reduce(lambda a, b: a >> b, [block] * 5)) == 5
    assert depth(block * 7 >> Dense()) == 8


def test_public_names_are_what_they_say():
    """`gaussian` is the activation and not a module, as every name in __all__."""
    assert NAMES["gaussian"].name == "gaussian"
    assert all(not hasattr(value, "__path__") for value in NAMES.values())
