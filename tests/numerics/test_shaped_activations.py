"""DKS and TAT solved, against another system, mpmath, and the shaped network's own kernel."""

import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from asymptest.numerics import (
    c_map,
    c_map_gap,
    chi_parallel,
    chi_perp,
    kernel,
    mean,
    q_map,
)
from asymptest.numerics.shaped_activations import (
    Architecture,
    compose,
    curvature,
    dks,
    dks_leaky_slope,
    leaky_depth,
    slope_excess,
    tat,
    tat_leaky_slope,
)
from asymptest.numerics.shaping import solve_dks, solve_tat
from asymptest.theory import (
    Activation,
    ArgumentError,
    Dense,
    Network,
    Pointwise,
    Product,
    Residual,
    RMSNorm,
    UnsupportedError,
    abs_,
    cos,
    erf,
    exp,
    gaussian,
    gelu,
    gelu_tanh,
    identity,
    leaky_relu,
    polynomial,
    polyrelu,
    relu,
    sigmoid,
    sign,
    silu,
    sin,
    softplus,
    tanh,
)
from asymptest.theory.piecewise import x
from asymptest.theory.shaped_activations import (
    Transformed,
    dks_leaky_relu,
    tat_leaky_relu,
)

FOLDER = Path(__file__).parent.parent / "goldens" / "dks"
GOLDEN = json.loads((FOLDER / "dks_goldens.json").read_text())
PLAIN = json.loads((FOLDER / "dks_untransformed.json").read_text())
SELU = (1.0507009873554805, 1.6732632423543772)  # Klambauer et al. (2017)
EXPONENTIAL = sp.exp(x) - 1
elu = Activation("elu", sp.Piecewise((x, x > 0), (EXPONENTIAL, True)))
selu = Activation(
    "selu", SELU[0] * sp.Piecewise((x, x > 0), (SELU[1] * EXPONENTIAL, True))
)
atan = Activation("atan", sp.atan(x))
NAMES = {
    "atan": atan,
    "elu": elu,
    "erf": erf,
    "gelu_exact": gelu,
    "leaky_relu": leaky_relu(sp.Rational(1, 100)),
    "relu": relu,
    "selu": selu,
    "sigmoid": sigmoid,
    "softplus": softplus,
    "swish": silu,
    "tanh": tanh,
}
# phi(-x) = m - phi(x): the mirror image of a transformed activation has another output shift.
MIDPOINTS = {"atan": 0, "erf": 0, "tanh": 0, "sigmoid": 1}


def chain(depth: int) -> Architecture:
    return lambda phi: (Dense() >> Pointwise(phi)) * depth


def family(name: str) -> Architecture:
    """A family of tests/goldens/README.md."""
    if name.startswith("chain"):
        return chain(int(name.removeprefix("chain")))
    kind, _, skip = name.partition("_w")
    copies = 2 if kind.startswith("res") else 1
    depth, W = int(kind.removeprefix("res").removeprefix("tfmlp")), float(skip)

    def network_of(phi: Activation) -> Network:
        branch = (Pointwise(phi) >> Dense()) * copies
        return Dense() >> Residual(branch, skip=W, weight=math.sqrt(1 - W**2)) * depth

    return network_of


def cases(method: str, wanted: Callable[[str], bool]) -> list[str]:
    return [
        key for key in GOLDEN if key.startswith(method) and wanted(key.split("|")[2])
    ]


def near(expected: Any) -> Any:
    """Within 1e-8 of max(1, |value|)."""
    return pytest.approx(expected, rel=1e-8, abs=1e-8)


def is_smooth(name: str) -> bool:
    return name not in ("leaky_relu", "elu", "selu")


# --- another system -------------------------------------------------------------------


@pytest.mark.parametrize("key", [*cases("DKS", is_smooth), *cases("TAT", is_smooth)])
def test_constants_are_those_of_dks(key: str) -> None:
    """The target for one activation, then at the one that was reached, all four constants."""
    method, where, name = key.split("|")
    golden, phi = GOLDEN[key], NAMES[name]
    if method == "DKS":
        reached = golden["c_slope_1"] - 1
        assert slope_excess(family(where), phi, 1.5) == near(reached)
        shaped = solve_dks(phi, reached)
    else:
        reached = golden["c_curv_1"]
        assert curvature(family(where), phi, 0.3) == near(reached)
        shaped = solve_tat(phi, reached)
    # An odd activation has two solutions, and dks returns either.
    theirs, sign_of = golden["params"], 1
    if name in MIDPOINTS and theirs["input_shift"] < 0:
        theirs = theirs | {
            "input_shift": -theirs["input_shift"],
            "output_shift": -theirs["output_shift"] - MIDPOINTS[name],
        }
        sign_of = -1
    assert {k: getattr(shaped, k) for k in theirs} == near(theirs)
    phi_hat = shaped.activation
    assert chi_parallel(phi_hat, 1.0) == near(golden["q_slope_1"])
    assert chi_perp(phi_hat, 1.0) == near(golden["c_slope_1"])
    for at, value in golden["phi"].items():
        found: Any = phi_hat.expr.subs(x, sign_of * float(at))
        assert sign_of * float(found) == near(value)
    for at, value in golden.get("c_map", {}).items():
        assert c_map(phi_hat, float(at)) == near(value)


@pytest.mark.parametrize(
    "key",
    [
        key
        for m in ("DKS", "TAT")
        for key in cases(m, lambda name: name == "leaky_relu")
    ],
)
def test_slopes_of_leaky_relus_are_those_of_dks(key: str) -> None:
    """All constants, closed forms here; where it gives up, so do we."""
    method, where, _ = key.split("|")
    golden = GOLDEN[key]
    if "error" in golden:
        with pytest.raises(ArgumentError, match="no leaky ReLU reaches"):
            tat_leaky_slope(family(where))
        return
    if method == "DKS":
        slope = dks_leaky_slope(family(where))
        shaped = dks_leaky_relu(slope)
    else:
        slope = tat_leaky_slope(family(where))
        shaped = tat_leaky_relu(slope)
    theirs = golden["params"]
    assert slope == near(theirs["negative_slope"])
    assert float(shaped.output_scale) == near(theirs["output_scale"])
    assert float(shaped.output_shift) == near(theirs.get("output_shift", 0))
    assert theirs.get("input_shift", 0) == near(0)
    assert chi_perp(shaped.activation, 1.0) == near(golden["c_slope_1"])
    for at, value in golden["phi"].items():
        found: Any = shaped.activation.expr.subs(x, float(at))
        assert float(found) == near(value)
    for at, value in golden.get("c_map", {}).items():
        assert c_map(shaped.activation, float(at)) == pytest.approx(value, abs=2e-7)


@pytest.mark.parametrize("name", PLAIN)
def test_c_maps_before_any_transformation_are_those_of_dks(name: str) -> None:
    """Its ReLU is wrong at negative correlations; Cho and Saul (2009) says by how much."""
    phi, golden = NAMES[name], PLAIN[name]
    rho = np.array([float(at) for at in golden["c_map"]])
    theirs = np.array(list(golden["c_map"].values()))
    if name == "relu":
        angle = np.arccos(rho)
        exact = (np.sin(angle) + (np.pi - angle) * rho) / np.pi
        assert c_map(phi, rho) == pytest.approx(exact, abs=1e-15)
        assert np.abs(theirs - exact)[rho < 0].max() > 1e-2
        rho, theirs = rho[rho >= 0], theirs[rho >= 0]
    assert c_map(phi, rho) == near(theirs)
    slope = chi_perp(phi, 1.0) / q_map(phi, 1.0)
    assert slope == pytest.approx(golden["c_slope_1"], abs=2e-8)  # SELU's has a jump


# --- where the other system is inaccurate ----------------------------------------------


def exact_conditions(
    theirs: dict[str, float], method: str, reached: float
) -> list[Any]:
    """Left sides minus right sides for ELU, by mpmath, split at the kink."""
    a, b = (mpmath.mpf(theirs[name]) for name in ("input_scale", "input_shift"))
    g, d = (mpmath.mpf(theirs[name]) for name in ("output_scale", "output_shift"))

    def average(f: Callable[[Any, Any, Any, Any], Any]) -> Any:
        def integrand(z: Any) -> Any:
            t = a * z + b
            phi = (t, mpmath.mpf(1), mpmath.mpf(0))
            if t < 0:
                phi = (mpmath.expm1(t), mpmath.exp(t), mpmath.exp(t))
            hat = g * (phi[0] + d), g * a * phi[1], g * a**2 * phi[2]
            return f(z, *hat) * mpmath.npdf(z)

        return mpmath.quad(integrand, sorted([-14, -4, 0, 4, 14, -b / a]))

    found = [
        average(lambda z, y, *_: y**2) - 1,
        average(lambda z, y, u, _: z * y * u) - 1,
    ]
    if method == "DKS":
        return [
            *found,
            average(lambda z, y, *_: y),
            average(lambda z, y, u, _: u**2) - 1 - reached,
        ]
    return [
        *found,
        average(lambda z, y, u, _: u**2) - 1,
        average(lambda z, y, u, v: v**2) - reached,
    ]


@pytest.mark.parametrize("key", [key for key in GOLDEN if key.endswith("|elu")])
def test_of_two_answers_for_elu_ours_fulfils_the_conditions(key: str) -> None:
    """The quadrature of dks does not split at the kink: it is off by 1e-9 and more."""
    method, _, _ = key.split("|")
    golden = GOLDEN[key]
    reached = golden["c_slope_1"] - 1 if method == "DKS" else golden["c_curv_1"]
    solve = solve_dks if method == "DKS" else solve_tat
    theirs = golden["params"]
    ours = {name: getattr(solve(elu, reached), name) for name in theirs}
    with mpmath.workdps(25):
        left = [abs(value) for value in exact_conditions(ours, method, reached)]
        assert max(left) < 1e-13
        left = [abs(value) for value in exact_conditions(theirs, method, reached)]
        assert max(left) > (1e-9 if method == "DKS" else 1e-6)
    assert ours == pytest.approx(theirs, rel=3e-5)


def test_tat_of_selu_is_refused_since_its_curvature_is_infinite() -> None:
    """At the constants of dks: (C(1) - C(1 - d) - d C'(1)) / d^2 doubles as d falls to d / 4."""
    theirs = GOLDEN["TAT|chain12|selu"]
    phi_hat = Transformed(selu, **theirs["params"]).activation
    for at, value in theirs["c_map"].items():
        assert c_map(phi_hat, float(at)) == pytest.approx(value, abs=1e-6)
    d = 4.0 ** -np.arange(8, 12)
    bent = (c_map_gap(phi_hat, d) - d * chi_perp(phi_hat, 1.0)) / d**2
    assert bent[1:] / bent[:-1] == pytest.approx(2, abs=0.05)
    with pytest.raises(ArgumentError, match="that of selu jumps"):
        tat(selu, chain(12))


# --- the conditions -------------------------------------------------------------------

SOFT = [
    tanh,
    softplus,
    sigmoid,
    silu,
    gelu,
    gelu_tanh,
    erf,
    atan,
    elu,
    sin,
    cos,
    gaussian,
]
DEPTH = 30
ODD_ONES = [
    Activation("asinh", sp.asinh(x)),
    Activation("softsign", x / (1 + sp.Abs(x))),
    Activation("steep tanh", sp.tanh(20 * x)),
    Activation("flat tanh", sp.tanh(x / 8)),
]


def second_moment_of_bend(phi: Activation) -> float:
    """E phi''(u)^2."""
    bend: Any = sp.diff(phi.expr, x, 2).replace(sp.DiracDelta, lambda *_: sp.Integer(0))
    return float(q_map(Activation("bend", bend), 1.0))


@pytest.mark.parametrize("phi", [*SOFT, *ODD_ONES, selu, polyrelu(1, 1)])
def test_dks_fulfils_its_conditions(phi: Activation) -> None:
    """By the quadrature that knows nothing of shaping: Q, Q', C(0), and C'(1)^depth."""
    phi_hat = dks(phi, chain(DEPTH)).activation
    assert q_map(phi_hat, 1.0) == pytest.approx(1, abs=1e-12)
    assert chi_parallel(phi_hat, 1.0) == pytest.approx(1, abs=1e-12)
    assert mean(phi_hat, 1.0) == pytest.approx(0, abs=1e-12)
    assert chi_perp(phi_hat, 1.0) == pytest.approx(1.5 ** (1 / DEPTH), abs=1e-12)


@pytest.mark.parametrize("phi", [*SOFT, *ODD_ONES, polynomial(0, 1, 0.5, 0.2)])
def test_tat_fulfils_its_conditions(phi: Activation) -> None:
    """Likewise: Q, Q', C'(1) and C''(1)."""
    phi_hat = tat(phi, chain(DEPTH)).activation
    assert q_map(phi_hat, 1.0) == pytest.approx(1, abs=1e-12)
    assert chi_parallel(phi_hat, 1.0) == pytest.approx(1, abs=1e-12)
    assert chi_perp(phi_hat, 1.0) == pytest.approx(1, abs=1e-12)
    assert second_moment_of_bend(phi_hat) == pytest.approx(0.3 / DEPTH, abs=1e-12)


PAIR = np.array([[1.0, 1 - 1e-3, 0.0], [1 - 1e-3, 1.0, 0.0], [0.0, 0.0, 1.0]])


@pytest.mark.parametrize("where", ["chain12", "tfmlp12_w0.9", "res4_w0.7"])
def test_the_kernel_of_a_shaped_network_has_the_slope(where: str) -> None:
    """The kernel recursion, which has no C-maps: 1 - C_f(1 - d) = zeta d up to d^2."""
    network_of = family(where)
    K = kernel(network_of(dks(tanh, network_of, zeta=1.2).activation), PAIR)
    assert np.diagonal(K) == pytest.approx(1, abs=1e-11)
    assert K[0, 2] == pytest.approx(0, abs=1e-11)
    assert (1 - K[0, 1]) / 1e-3 == pytest.approx(1.2, abs=1e-3)
    K = kernel(
        network_of(tat_leaky_relu(tat_leaky_slope(network_of, 0.4)).activation), PAIR
    )
    assert np.diagonal(K) == pytest.approx(1, abs=1e-13)
    assert K[0, 2] == pytest.approx(0.4, abs=1e-12)


def test_a_branch_alone_may_have_the_largest_slope() -> None:
    """With a skip of 0.99, two blocks have less than one branch."""

    def network_of(phi: Activation) -> Network:
        branch = RMSNorm() >> Pointwise(phi) >> Dense() >> Pointwise(phi) >> Dense()
        return Residual(branch, skip=0.99, weight=math.sqrt(1 - 0.99**2)) * 2

    assert 1 + slope_excess(network_of, tanh, 1.5) == pytest.approx(1.5**0.5, rel=1e-14)
    assert curvature(network_of, tanh, 0.3) == pytest.approx(0.15, rel=1e-14)
    slope = tat_leaky_slope(network_of, 0.4)
    twice = compose(lambda c: c_map(tat_leaky_relu(slope).activation, c), 2)
    assert twice(0.0) == pytest.approx(0.4, rel=1e-13)


# --- which solution -------------------------------------------------------------------


def test_the_solution_with_the_smallest_shift_is_returned() -> None:
    """GELU has two more for DKS: they fulfil the conditions too, with larger shifts."""
    excess = slope_excess(chain(12), gelu, 1.5)
    ours = solve_dks(gelu, excess)
    for scale, shift in ((0.053673, -0.921309), (0.241533, -1.978693)):
        moved = Activation("moved", gelu.expr.subs(x, scale * x + shift))
        centre = float(mean(moved, 1.0))
        variance = float(q_map(moved, 1.0)) - centre**2
        rest = Activation("rest", (moved.expr - centre) / math.sqrt(variance))
        assert chi_parallel(rest, 1.0) == pytest.approx(1, abs=1e-4)
        assert chi_perp(rest, 1.0) == pytest.approx(1 + excess, abs=1e-4)
        assert abs(float(ours.input_shift)) < abs(shift)


@pytest.mark.parametrize("phi", [tanh, erf, sin, sigmoid])
def test_of_mirror_images_the_one_with_a_positive_shift_is_returned(phi: Activation):
    """-phi_hat(-x) has the same maps, and a negative shift."""
    shaped = dks(phi, chain(7))
    assert float(shaped.input_shift) > 0
    mirror = Activation("mirror", -shaped.expr.subs(x, -x))
    rho = np.array([-0.8, 0.1, 0.7])
    assert c_map(mirror, rho) == pytest.approx(c_map(shaped.activation, rho), abs=1e-12)


@pytest.mark.parametrize("unit", [1 / 20, 3.0])
def test_constants_scale_with_the_activation(unit: float) -> None:
    """phi(x / u) has the input scale and shift times u, and what comes out is the same."""
    stretched = Activation("stretched", softplus.expr.subs(x, x / sp.Rational(unit)))
    for solve in (dks, tat):
        plain, other = solve(softplus, chain(20)), solve(stretched, chain(20))
        assert other.input_scale == pytest.approx(unit * plain.input_scale, rel=1e-9)
        assert other.input_shift == pytest.approx(unit * plain.input_shift, rel=1e-9)
        assert other.output_scale == pytest.approx(plain.output_scale, rel=1e-9)
        assert other.output_shift == pytest.approx(plain.output_shift, rel=1e-9)


@cache
def shift_of_tanh(depth: int, method: str) -> float:
    return float((dks if method == "DKS" else tat)(tanh, chain(depth)).input_shift)


@pytest.mark.parametrize("method", ["DKS", "TAT"])
def test_the_shift_of_tanh_has_a_limit_in_depth(method: str) -> None:
    """Where a vanishes, phi' phi''' = -phi''^2 / 2 (DKS), / sqrt(2) (TAT), to second order.

    tanh has phi' phi''' = (6 t^2 - 2) phi'^2 and phi''^2 = 4 t^2 phi'^2, t = tanh(b).
    """
    ratio = 0.5 if method == "DKS" else 0.5**0.5
    limit = math.atanh(math.sqrt(2 / (6 + 4 * ratio)))
    gaps = [shift_of_tanh(depth, method) - limit for depth in (100, 400, 1600)]
    assert gaps[0] < 0.012
    assert gaps[0] / gaps[1] == pytest.approx(4, abs=0.1)
    assert gaps[1] / gaps[2] == pytest.approx(4, abs=0.05)


# --- leaky ReLU -----------------------------------------------------------------------


@pytest.mark.parametrize(("depth", "slope"), [(36, 0.351121), (72, 0.508389)])
def test_published_slopes_of_leaky_relus(depth: int, slope: float) -> None:
    """For eta = 0.9."""
    assert tat_leaky_slope(chain(depth)) == pytest.approx(slope, abs=5e-7)


def test_twelve_relus_do_not_reach_nine_tenths() -> None:
    """Thirteen do, and the message says by how much the others fail."""
    C = compose(lambda c: c_map(relu, c), 12)
    assert C(0.0) < 0.9 < c_map(relu, C(0.0))
    with pytest.raises(ArgumentError, match=f"ReLU itself has {float(C(0.0)):.4g}"):
        tat_leaky_slope(chain(12))
    assert 0 < tat_leaky_slope(chain(13)) < 0.03


@given(
    depth=st.integers(1, 300),
    edge=st.floats(-9, -0.5).map(lambda e: 10**e),
    high=st.booleans(),
)
@settings(max_examples=25)
def test_leaky_relus_reach_what_was_asked_for(
    depth: int, edge: float, high: bool
) -> None:
    """C_f(0) close to 0 or to 1, by a composition in mpmath."""
    eta = 1 - edge if high else edge
    try:
        slope = tat_leaky_slope(chain(depth), eta)
    except ArgumentError:
        slope = 0.0
    with mpmath.workdps(40):
        s = mpmath.mpf(slope)
        bend, c = (1 - s) ** 2 / (mpmath.pi * (1 + s**2)), mpmath.mpf(0)
        for _ in range(depth):
            c += bend * (mpmath.sqrt(1 - c**2) - c * mpmath.acos(c))
        reached = float(c)
        left = float(1 - c)
    if slope == 0.0:
        assert reached < eta
    # 1 - s is known to an ulp of s, which kappa = C(0) / depth shows twice over.
    assert slope == 0.0 or reached == pytest.approx(
        eta, abs=1e-14, rel=1e-13 + 4 * 2.0**-53 / (1 - slope)
    )
    assert slope == 0.0 or left == pytest.approx(1 - eta, rel=1e-5)


@pytest.mark.parametrize("eta", [0.1, 0.5, 0.9, 0.999])
def test_the_limit_of_depth_times_kappa(eta: float) -> None:
    """The integral by mpmath, and n kappa, which it exceeds by less than kappa / g(eta)."""
    with mpmath.workdps(20):
        speed = lambda c: mpmath.sqrt(1 - c**2) - c * mpmath.acos(c)  # noqa: E731
        panels = mpmath.linspace(0, eta, 9)
        found: Any = mpmath.quad(lambda c: 1 / speed(c), panels)
        exact = float(found)
        most = float(1 / speed(eta))
    assert leaky_depth(eta) == pytest.approx(exact, rel=1e-12)
    slope = tat_leaky_slope(chain(1000), eta)
    bend = (1 - slope) ** 2 / (math.pi * (1 + slope**2))
    assert 0 < exact - 1000 * bend < bend * most


def test_a_composition_is_applied_so_often() -> None:
    """From the inside out."""
    assert compose(lambda c: 2 * c + 1, 0)(5) == 5
    assert compose(lambda c: 2 * c + 1, 3)(0) == 7


# --- bad input ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("solve", "phi", "what"),
    [
        (dks, sign, r"does not jump; sign has C'\(1\) = infinity"),
        (dks, relu, r"relu: it is homogeneous.*dks_leaky_slope"),
        (dks, abs_, "homogeneous"),
        (dks, identity, "homogeneous"),
        (dks, exp, r"no transformation of exp with C'\(1\) = 1 \+ 0.03437 was found"),
        (tat, sign, "that of sign jumps"),
        (tat, relu, r"that of relu jumps.*tat_leaky_slope"),
        (tat, leaky_relu(0.3), "tat_leaky_slope"),
        (
            tat,
            identity,
            r"no transformation of identity with C''\(1\) = 0.025 was found",
        ),
        (tat, exp, "was found"),
    ],
)
def test_what_cannot_be_shaped_is_refused(
    solve: Any, phi: Activation, what: str
) -> None:
    """With the remedy, where there is one."""
    with pytest.raises(ArgumentError, match=what):
        solve(phi, chain(12))


def test_a_target_out_of_reach_is_refused() -> None:
    """Softplus tends to ReLU, whose C'(1) is pi / (pi - 1), about 1.467, once centred."""
    with pytest.raises(
        ArgumentError, match=r"softplus with C'\(1\) = 1 \+ 0.5 was found"
    ):
        dks(softplus, chain(1))
    with pytest.raises(ArgumentError, match=r"the slope 1.5, and ReLU has 1.467"):
        dks_leaky_slope(chain(1))
    most = math.pi / (math.pi - 1)
    assert dks_leaky_slope(chain(1), most - 1e-9) == pytest.approx(0, abs=1e-8)
    assert dks(softplus, chain(1), 1.4).input_scale > 5


@pytest.mark.parametrize("wrong", [1.0, 0.0, -2.0, math.nan, math.inf])
def test_targets_are_checked(wrong: float) -> None:
    """Each names its own."""
    for solve in (
        lambda: dks(tanh, chain(3), wrong),
        lambda: dks_leaky_slope(chain(3), wrong),
    ):
        with pytest.raises(ArgumentError, match="zeta must be a number > 1; got"):
            solve()
    with pytest.raises(ArgumentError, match="eta must be between 0 and 1; got"):
        tat_leaky_slope(chain(3), wrong)
    if not wrong > 0 or wrong == math.inf:
        with pytest.raises(ArgumentError, match="tau must be a number > 0; got"):
            tat(tanh, chain(3), wrong)


def test_networks_are_checked() -> None:
    """One activation, used at least once, at unit variances, in layers with C-maps."""
    mixed = lambda phi: Pointwise(phi) >> Dense() >> Pointwise(sin)  # noqa: E731
    for solve in (dks, tat):
        with pytest.raises(UnsupportedError, match="built for tanh also has sin"):
            solve(tanh, mixed)
        with pytest.raises(ArgumentError, match="does not use tanh"):
            solve(tanh, lambda _: Dense() >> RMSNorm())
        with pytest.raises(ArgumentError, match="variance must be 1; got 2"):
            solve(tanh, lambda phi: Dense(2) >> Pointwise(phi))
        with pytest.raises(UnsupportedError, match="Product"):
            solve(tanh, lambda phi: Product(Dense(), Dense() >> Pointwise(phi)))
    with pytest.raises(UnsupportedError, match="built for relu also has sin"):
        tat_leaky_slope(mixed)
