"""A network as a list of steps, and which of them look at the entries of a state.

Coordinates of a state suffice until an activation or a product acts on its entries. What
follows must then see the same entries, up to the next fresh weights.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isqrt

from asymptest.theory.activations import Activation
from asymptest.theory.errors import UnsupportedError
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

Layer = Dense | Pointwise | RMSNorm | LayerNorm | Mix | Attention | Residual | Product
Fresh = Dense | Attention  # they end in fresh weights, which rotate the state at random


@dataclass(frozen=True)
class Activated:
    """Gaussian weights and the activation behind them: its columns are independent."""

    layer: Fresh
    phi: Activation


Step = Layer | Activated


def steps_of(network: Network) -> list[Step]:
    """Return the steps of a network in their order.

    Raises:
        UnsupportedError: if one of its layers is Custom.
    """
    found: list[Step] = []
    for layer in _layers(network):
        last = found[-1] if found else None
        if isinstance(layer, Pointwise) and is_gaussian(last):
            found[-1] = Activated(last, layer.phi)  # pyright: ignore[reportArgumentType]
        else:
            found.append(layer)
    return found


def is_gaussian(step: Step | None) -> bool:
    """Whether a step ends in fresh Gaussian weights."""
    match step:
        case Dense(init="gaussian") | Attention(output=Dense(init="gaussian")):
            return True
        case _:
            return False


def _layers(network: Network) -> Iterator[Layer]:
    match network:
        case Chain(layers):
            for layer in layers:
                yield from _layers(layer)
        case Repeat(block, depth):
            for _ in range(depth):
                yield from _layers(block)
        case Mlp():
            yield from _layers(network.layers)
        case Custom(name):
            raise UnsupportedError(
                f"sample_kernels knows no law for Custom({name!r}), whose finite layer is a "
                f"torch module: use finite(network, width, copies) and kernel_of"
            )
        case (
            Dense()
            | Pointwise()
            | RMSNorm()
            | LayerNorm()
            | Mix()
            | Attention()
            | Residual()
            | Product()
        ):
            yield network


def reads_entries(steps: Sequence[Step], wanted: bool = False) -> bool:
    """Whether the entries of a state matter to what the steps make of it.

    Args:
        steps: what acts on the state.
        wanted: whether the entries of their result matter.
    """
    for step in steps:
        match step:
            case Pointwise():
                return True
            case Product(left, right):
                return any(reads_entries(steps_of(n), True) for n in (left, right))
            case Residual(branch):
                inner = steps_of(branch)
                if reads_entries(inner) or adds_product(inner):
                    return True
            case Dense() | Attention() | Activated():
                return False
            case RMSNorm() | LayerNorm() | Mix():
                pass
    return wanted


def adds_product(branch: Sequence[Step]) -> bool:
    """Whether the last weights of a residual branch are inside a product."""
    if all(isinstance(step, Mix) for step in branch):
        return False
    return isinstance(at_last_weights(branch)[1], Product)


def at_last_weights(
    branch: Sequence[Step],
) -> tuple[Sequence[Step], Fresh | Product, Sequence[Step]]:
    """Return what comes before the last fresh weights of a branch, these, and the rest."""
    for at, step in reversed([*enumerate(branch)]):
        if isinstance(step, Dense | Attention | Product):
            return branch[:at], step, branch[at + 1 :]
    raise AssertionError("the typing rules ask for fresh weights in a branch")


def largest(steps: Sequence[Step], T: int, n: int) -> int:
    """Return about how many numbers of one sample are held at once."""
    sizes = [4 * T * T]
    for step in steps:
        match step:
            case Attention(heads=heads) | Activated(Attention(heads=heads)):
                sizes.append(4 * T * T * (isqrt(n) if heads == "sqrt" else heads))
            case Residual(branch):
                sizes.append(largest(steps_of(branch), T, n))
            case Product(left, right):
                sizes += [largest(steps_of(each), T, n) for each in (left, right)]
            case _:
                pass
        if isinstance(step, Residual | Product) and reads_entries([step]):
            sizes.append(4 * T * n)
    return max(sizes)
