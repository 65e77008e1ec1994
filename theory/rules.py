"""Typing rules: what a layer may follow. Checked when a network is built.

Each rule states a hypothesis that the kernel recursion needs; a network that breaks one
has a finite version, but not the limit that the recursion would print.
"""

from dataclasses import dataclass, replace
from fractions import Fraction

from asymptest.theory.errors import (
    CorrelatedBranchError,
    FeatureMeanError,
    NotGaussianError,
    ShapeError,
)
from asymptest.theory.network import (
    Attention,
    Chain,
    Custom,
    Dense,
    LayerNorm,
    Mix,
    Mlp,
    Network,
    Pointwise,
    Product,
    Repeat,
    Residual,
    RMSNorm,
)


@dataclass(frozen=True)
class State:
    """What is known of a state in the limit; the default is the network's input.

    Args:
        gaussian: its entries are jointly Gaussian over positions.
        centred: the mean over features of each position vanishes.
        fresh: it is odd in weights that nothing before it depends on.
        own: each feature has fresh weights of its own, and depends on no other weights that
            another branch sees.
        width: its width in units of the network's width.
        positions: T, if some layer fixes it.
    """

    gaussian: bool = True
    centred: bool = True
    fresh: bool = False
    own: bool = False
    width: Fraction = Fraction(1)
    positions: int | None = None


def after(network: Network, state: State = State()) -> State:
    """Return what is known after `network` acts on `state`.

    Raises:
        NotGaussianError: a Pointwise whose input is not Gaussian in the limit.
        CorrelatedBranchError: a residual branch that does not end in fresh weights.
        FeatureMeanError: a LayerNorm whose input has a feature mean.
        ShapeError: widths or numbers of positions that do not fit.
    """
    match network:
        case Dense():
            width = Fraction(network.expansion)
            return State(True, True, True, True, width, state.positions)
        case Pointwise(phi):
            if not state.gaussian:
                raise NotGaussianError(
                    f"Pointwise({phi!r}) needs Gaussian pre-activations, and those here "
                    f"have passed a nonlinearity: insert a Dense() before it"
                )
            return replace(state, gaussian=False, centred=phi.is_odd, fresh=False)
        case Mlp():
            return after(network.layers, state)
        case RMSNorm():
            return state
        case LayerNorm():
            if not state.centred:
                raise FeatureMeanError(
                    "LayerNorm() here removes a feature mean that does not vanish in the "
                    "limit: insert a Dense() before it, use an odd activation, or RMSNorm()"
                )
            return state
        case Mix(matrix):
            return _at(matrix.shape[-1], state, network)
        case Attention():
            known = _at(network.fixed_positions, state, network)
            return replace(known, gaussian=True, centred=True, fresh=True, own=True)
        case Residual(branch):
            return _residual(network, branch, state)
        case Product():
            return _product(network, state)
        case Chain(layers):
            for layer in layers:
                state = after(layer, state)
            return state
        case Repeat(block, depth):
            # Nothing changes after the second copy: the state is what the block leaves.
            for _ in range(min(depth, 2)):
                state = after(block, state)
            return state
        case Custom():
            return replace(
                state,
                gaussian=network.gaussian,
                centred=network.centred,
                fresh=network.fresh,
                own=network.fresh,
            )


def mixes(branch: Network) -> tuple[Mix, ...] | None:
    """Return the matrices of a branch that only mixes positions, in order, or None.

    Residual folds such a branch into one matrix, skip I + weight A.
    """
    match branch:
        case Mix():
            return (branch,)
        case Chain(layers) if all(isinstance(layer, Mix) for layer in layers):
            return tuple(layer for layer in layers if isinstance(layer, Mix))
        case _:
            return None


def _product(network: Product, state: State) -> State:
    before = replace(state, fresh=False, own=False)
    left, right = after(network.left, before), after(network.right, before)
    if left.width != right.width:
        raise ShapeError(
            f"a Product multiplies states of one width; its branches have the widths "
            f"{left.width} n and {right.width} n"
        )
    if not (left.own or right.own):
        raise CorrelatedBranchError(
            f"the branches of {network!r} must not share their features, or the kernel of "
            f"the product is not that of the branches: begin one of them with a Dense()"
        )
    T = left.positions if right.positions is None else right.positions
    return State(
        gaussian=False,
        centred=left.centred or right.centred,
        fresh=left.fresh or right.fresh,
        own=left.own and right.own,
        width=left.width,
        positions=T,
    )


def _residual(network: Residual, branch: Network, state: State) -> State:
    out = after(branch, replace(state, fresh=False))
    if out.width != state.width:
        raise ShapeError(
            f"a Residual adds states of one width; its branch turns the width "
            f"{state.width} n into {out.width} n"
        )
    if mixes(branch) is not None:
        return replace(state, positions=out.positions)
    if not out.fresh:
        raise CorrelatedBranchError(
            f"the branch {branch!r} must end in fresh zero-mean weights, or the cross "
            f"term with the skip does not vanish: end it with a Dense() or an Attention()"
        )
    return State(
        gaussian=state.gaussian and out.gaussian,
        centred=state.centred and out.centred,
        fresh=state.fresh,
        width=state.width,
        positions=out.positions,
    )


def _at(T: int | None, state: State, network: Network) -> State:
    if T is not None and state.positions is not None and state.positions != T:
        raise ShapeError(
            f"{network!r} is for {T} positions, but a layer before it is for "
            f"{state.positions}"
        )
    return replace(state, positions=T if T is not None else state.positions)
