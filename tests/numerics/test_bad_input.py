"""What bad input gets: an error of the right class that names argument, value and remedy."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import jaxtyping
import numpy as np
import pytest
import sympy as sp

from asymptest.numerics.attention import mask_array
from asymptest.numerics.kernel import kernel, kernel_with_error, kernels
from asymptest.theory import (
    Activation,
    Attention,
    Blocks,
    Dense,
    Fixed,
    LayerNorm,
    Mix,
    Mlp,
    Pointwise,
    Residual,
    RMSNorm,
    Saturated,
    Softmax,
    leaky_relu,
    recursion,
    relu,
    silu,
    tanh,
)
from asymptest.theory.errors import (
    ArgumentError,
    AsymptestError,
    KernelError,
    NoClosedFormError,
    ShapeError,
    UnsupportedError,
)
from asymptest.verify.finite import finite, kernel_of
from asymptest.verify.inputs import exact_input

I2 = np.eye(2)
s = sp.Symbol("s", positive=True)
inf, nan = float("inf"), float("nan")

Case = tuple[Callable[[], Any], type[AsymptestError], str]


def case(make: Callable[[], Any], error: type[AsymptestError], says: str) -> Any:
    return pytest.param(make, error, says, id=says[:40])


KERNELS = [
    case(
        lambda: kernel(Dense(), np.array([[1.0, 0.3], [0.2, 1.0]])),
        KernelError,
        r"K0 is not symmetric: K0\[0, 1\] = 0.3 but K0\[1, 0\] = 0.2.*pass X @ X.T / n",
    ),
    case(
        lambda: kernel(Dense(), np.array([[1.0, 2.0], [2.0, 1.0]])),
        KernelError,
        r"K0 is not positive semidefinite.*most negative eigenvalue is -1,.*X @ X.T / n",
    ),
    case(
        lambda: kernel(Dense(), np.array([[0.0, 1.0], [1.0, 1.0]])),
        KernelError,
        r"most negative eigenvalue is -0.618034",
    ),
    case(
        lambda: kernel(Dense(), np.diag([1.0, -2.0])),
        KernelError,
        r"K0\[1, 1\] = -2.0 is negative.*pass X @ X.T / n",
    ),
    case(
        lambda: kernel(Dense(), np.array([[1.0, nan], [nan, 1.0]])),
        KernelError,
        r"K0\[0, 1\] = nan is not finite \(2 such entries\); find the computation",
    ),
    case(
        lambda: kernel(Dense(), np.diag([1.0, inf])),
        KernelError,
        r"K0\[1, 1\] = inf is not finite",
    ),
    case(
        lambda: kernel(Dense(), np.ones((2, 3))),
        ShapeError,
        r"K0 must be a square matrix \(T, T\).*got shape \(2, 3\).*pass X @ X.T / n",
    ),
    case(
        lambda: kernel(Dense(), np.ones(3)), ShapeError, r"K0 must .*got shape \(3,\)"
    ),
    case(
        lambda: kernel(Dense(), np.zeros((0, 0))),
        ShapeError,
        r"T >= 1; got shape \(0, 0\)",
    ),
    case(
        lambda: kernel(Dense(), I2.astype(complex)),
        KernelError,
        r"got dtype complex128",
    ),
    case(lambda: kernels(Dense(), -I2), KernelError, r"K0\[0, 0\] = -1.0 is negative"),
    case(
        lambda: kernel_with_error(Dense(), -I2),
        KernelError,
        r"variances; pass X @ X.T / n",
    ),
    case(
        lambda: exact_input(np.array([[1.0, 2.0], [2.0, 1.0]]), 4),
        KernelError,
        r"K0 is not positive.*eigenvalue is -1",
    ),
]

POSITIONS = [
    case(
        lambda: kernel(Attention(mask=Blocks((2, 1))), I2),
        ShapeError,
        r"network is for 3 positions, but K0 has the shape \(2, 2\)",
    ),
    case(
        lambda: kernel(Attention(mask=np.tril(np.ones((3, 3)))), I2),
        ShapeError,
        r"is for 3 positions, but K0 .*2, 2",
    ),
    case(
        lambda: kernel(Mix(np.eye(3)), I2),
        ShapeError,
        r"for 3 positions, but K0 has the",
    ),
    case(
        lambda: kernel(Residual(Attention(Fixed(np.eye(3)))) * 2, I2),
        ShapeError,
        r"3 positions, but K0 has the shape",
    ),
    case(
        lambda: mask_array(Blocks((2, 1)), 2),
        ShapeError,
        r"mask is for 3 positions.*T = 2",
    ),
    case(
        lambda: finite(Attention(mask=Blocks((2, 1))), 4)(exact_input(I2, 4)),
        ShapeError,
        r"mask is for 3 positions, .* T = 2",
    ),
    case(
        lambda: finite(Attention(Fixed(np.eye(3))), 4)(exact_input(I2, 4)),
        ShapeError,
        r"Fixed.A is for 3 positions, the state has 2",
    ),
    case(
        lambda: finite(Mix(np.eye(3)), 4)(exact_input(I2, 4)),
        ShapeError,
        r"(?i)mix.* 3 .* 2",
    ),
]

SYMBOLS = [
    case(
        lambda: kernel(Dense(s), I2),
        ArgumentError,
        r"Dense\(s\).* s is a symbol.* number",
    ),
    case(
        lambda: kernel(Dense(1, s), I2),
        ArgumentError,
        r"bias_variance=s.*give it a number",
    ),
    case(
        lambda: kernel(RMSNorm(s), I2),
        ArgumentError,
        r"RMSNorm\(s\): eps = s is a symb",
    ),
    case(
        lambda: kernel(LayerNorm(s), I2), ArgumentError, r"LayerNorm\(s\): eps = s is a"
    ),
    case(
        lambda: kernel(Residual(Mix(np.eye(2)), s), I2),
        ArgumentError,
        r"alpha = s is a symbol.*give it a number",
    ),
    case(
        lambda: kernel(Residual(Dense(), s), I2),
        ArgumentError,
        r"Residual\(Dense\(\), s\).* = s is a symbol",
    ),
    case(
        lambda: kernel(Attention(value=Dense(s)), I2),
        ArgumentError,
        r"value=Dense\(s\).*= s is a symbol",
    ),
    case(
        lambda: kernel(Attention(Softmax("1/d", True, s)), I2),
        ArgumentError,
        r"'1/d', True, s.* symbol",
    ),
    case(
        lambda: kernel(Attention(Softmax(variance=s)), I2),
        ArgumentError,
        r"Softmax\(variance=s\).* symbol",
    ),
    case(
        lambda: kernel(Attention(Saturated(variance=s)), I2),
        ArgumentError,
        r"Saturated\(variance=s\).* symbol",
    ),
    case(
        lambda: Pointwise(leaky_relu(s)),
        ArgumentError,
        r"'leaky_relu\(s\)' must be an expression in one variable.*\['s', 'x'\]",
    ),
    case(
        lambda: Activation("root", sp.sqrt(s)),
        ArgumentError,
        r"'root' must be real.* sqrt\(x\) is 0.8367\*I at -7/10",
    ),
    case(
        lambda: finite(Dense(s), 4),
        ArgumentError,
        r"Dense.variance = s is a symbol; .*give it a number",
    ),
    case(
        lambda: finite(Attention(output=Dense(1, s)), 4),
        ArgumentError,
        r"Dense.bias_variance = s is a symbol",
    ),
    case(
        lambda: finite(Residual(Dense(), 1, s), 4),
        ArgumentError,
        r"Residual.weight = s is a symbol; .*give it a number",
    ),
    case(
        lambda: finite(RMSNorm(s), 4),
        ArgumentError,
        r"RMSNorm.eps = s is a symbol",
    ),
]

FINITE = [
    case(
        lambda: exact_input(np.eye(3), 2),
        ShapeError,
        r"width = 2 cannot realise .* T = 3 positions exactly; use a width of at least 3",
    ),
    case(
        lambda: finite(Attention(heads=3), 4),
        ShapeError,
        r"width = 4 is not divisible by heads = 3; choose a multiple",
    ),
    case(
        lambda: finite(Residual(Attention(Softmax(), heads=3)) * 2, 8),
        ShapeError,
        r"width = 8 is not divisible by heads = 3; choose",
    ),
    case(
        lambda: finite(Dense(), 0),
        ArgumentError,
        r"at least 1; got width = 0, copies = 1",
    ),
    case(lambda: finite(Dense(), 4, 0), ArgumentError, r"got width = 4, copies = 0"),
    case(
        lambda: finite(Mlp(relu, Fraction(8, 3)), 4),
        ShapeError,
        r"32/3 features; choose a width that makes this whole",
    ),
    case(
        lambda: finite(Dense(), 4)(exact_input(I2, 5)),
        ShapeError,
        r"width 4, but the state has the shape \(1, 2, 5\); its last axis must be 4",
    ),
    case(
        lambda: finite(Dense(), 4, 3)(exact_input(I2, 4, 2)),
        ShapeError,
        r"3 copies.*\(2, 2, 4\); pass",
    ),
    case(
        lambda: kernel_of(finite(Dense(), 4, 3), exact_input(I2, 5, 3)),
        ShapeError,
        r"width 4, but the state",
    ),
]

OTHERS = [
    case(
        lambda: recursion(Pointwise(tanh)),
        NoClosedFormError,
        r"no rule .* tanh\(x\).*evaluate it by quadrature",
    ),
    case(
        lambda: recursion(Residual(RMSNorm() >> Mlp(silu)) * 2),
        NoClosedFormError,
        r"no rule .* quadrature \(asymptest.numerics does so by itself\)",
    ),
    case(
        lambda: kernel(Pointwise(Activation("inverse", 1 / s)), I2),
        ArgumentError,
        r"must be finite .*phi\(0\) = inf .*rewrite phi or lower the variance",
    ),
    case(
        lambda: kernel(Attention(Softmax()), I2, samples=3),
        ArgumentError,
        r"samples must be at least 16; got 3",
    ),
    case(
        lambda: kernels(Attention(Softmax()), I2, samples=0),
        ArgumentError,
        r"samples must be at least \d+; got 0",
    ),
    case(
        lambda: kernels(Attention(Softmax()), I2, samples=-1),
        ArgumentError,
        r"samples must be at least \d+; got -1",
    ),
    case(lambda: kernel("Dense()", I2), UnsupportedError, r"network.* str"),  # type: ignore[arg-type]
    case(lambda: finite("Dense()", 4), UnsupportedError, r"network must.* str"),  # type: ignore[arg-type]
    case(lambda: recursion("Dense()"), UnsupportedError, r"network.*got str"),  # type: ignore[arg-type]
    case(lambda: Mix([[nan]]), ArgumentError, r"Mix.A .*finite.*nan"),
    case(lambda: Mix([[1.0, inf], [0.0, 1.0]]), ArgumentError, r"Mix.A .*finite.*inf"),
    case(lambda: Fixed([[nan]]), ArgumentError, r"Fixed.A .*finite.*nan"),
    case(lambda: Mix([[1j]]), ShapeError, r"Mix.A must hold real numbers"),
    case(lambda: Residual(Dense(), nan), ArgumentError, r"Residual.skip .*finite.*nan"),
    case(
        lambda: Residual(Dense(), 1, inf), ArgumentError, r"Residual.weight .*fin.*inf"
    ),
    case(lambda: Dense(nan), ArgumentError, r"Dense.variance must be finite .*got nan"),
    case(lambda: Dense(-1), ArgumentError, r"Dense.variance must be .* >= 0; got -1"),
    case(lambda: Dense(sp.I), ArgumentError, r"Dense.variance must .* >= 0; got I"),
    case(lambda: Dense("2"), ArgumentError, r"Dense.variance must be .*number.*'2'"),  # type: ignore[arg-type]
    case(lambda: Attention(heads=2.5), ArgumentError, r"Attention.heads must .*2.5"),  # type: ignore[arg-type]
    case(lambda: Attention(heads="all"), ArgumentError, r"Attention.heads must.*'all'"),  # type: ignore[arg-type]
    case(
        lambda: Attention(heads=0),
        ArgumentError,
        r"Attention.heads must.*at least 1; got 0",
    ),
]


@pytest.mark.parametrize(
    ("make", "error", "says"), KERNELS + POSITIONS + SYMBOLS + FINITE + OTHERS
)
def test_bad_input_is_named(
    make: Callable[[], Any],
    error: type[AsymptestError],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Users do not run under the shape checker of this test-suite.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(
        error, match=f"(?s){says}" if "(?" not in says else says
    ) as caught:
        make()
    assert isinstance(caught.value, AsymptestError)
    if error not in (NoClosedFormError, UnsupportedError):
        assert isinstance(caught.value, ValueError)


def test_nothing_is_repaired() -> None:
    """What lies beyond rounding is refused, however little."""
    barely = np.array([[1.0, 1.0 + 1e-12], [1.0 + 1e-12, 1.0]])
    with pytest.raises(KernelError, match=r"eigenvalue is -1\.\d+e-12"):
        kernel(Dense(), barely)
    skew = np.array([[1.0, 0.5], [0.5 + 1e-12, 1.0]])
    with pytest.raises(KernelError, match="not symmetric"):
        kernel(Dense(), skew)


def test_an_overflowing_kernel_is_an_error_or_a_warning() -> None:
    """An infinite kernel is never returned in silence."""
    with pytest.raises((AsymptestError, RuntimeWarning)):
        kernel(Dense(2) * 2000, I2)
