"""Wrong descriptions of a transformer: what a comparison with the right one must refute."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial, reduce

from asymptest.theory.network import (
    Attention,
    Chain,
    LayerNorm,
    Mlp,
    Network,
    Product,
    Repeat,
    Residual,
    RMSNorm,
)
from asymptest.theory.patterns import Softmax, Uniform
from asymptest.theory.widths import number_of_heads

Change = Callable[[Network], Network]


def mutants_of(network: Network, width: int) -> Mapping[str, Network]:
    """Return wrong variants of a description by name, those that differ from it.

    Args:
        network: the right one.
        width: n of the module, which with its heads makes d.

    >>> from asymptest.theory.network import Dense
    >>> dict(mutants_of(Residual(LayerNorm() >> Dense()), 8))
    {'norm after the sum': Residual(Dense()) >> LayerNorm()}
    """
    branches = max(1, _count(network))
    changes: Mapping[str, Change] = {
        "no 1/sqrt(d)": partial(_without_scale, width=width),
        "uniform over all positions": _uniform,
        "another mask": _other_mask,
        "residual branches not scaled by depth": partial(_unscaled, branches=branches),
        "without positions": _without_positions,
        "without gates": _without_gates,
        "norm after the sum": _norm_after,
        "norm before the branch": _norm_before,
    }
    found = {name: changed(network, change) for name, change in changes.items()}
    return {name: mutant for name, mutant in found.items() if mutant != network}


def changed(network: Network, change: Change) -> Network:
    """Return a network with `change` applied to every node, the inner ones first."""
    match network:
        case Chain(layers):
            new = [changed(layer, change) for layer in layers]
            return change(reduce(lambda a, b: a >> b, new))
        case Repeat(block, depth):
            return change(changed(block, change) * depth)
        case Product(left, right):
            return change(Product(changed(left, change), changed(right, change)))
        case Residual(branch):
            return change(replace(network, branch=changed(branch, change)))
        case _:
            return change(network)


def _count(network: Network) -> int:
    """Return the number of residual sums."""
    match network:
        case Chain(layers):
            return sum(map(_count, layers))
        case Repeat(block, depth):
            return depth * _count(block)
        case Product(left, right):
            return _count(left) + _count(right)
        case Residual(branch):
            return 1 + _count(branch)
        case _:
            return 0


def _without_scale(node: Network, width: int) -> Network:
    if isinstance(node, Attention) and isinstance(node.pattern, Softmax):
        variance = width // number_of_heads(node, width) * node.pattern.variance
        return replace(node, pattern=replace(node.pattern, variance=variance))
    return node


def _uniform(node: Network) -> Network:
    if isinstance(node, Attention):
        return replace(node, pattern=Uniform(), mask="full")
    return node


def _other_mask(node: Network) -> Network:
    if isinstance(node, Attention):
        return replace(node, mask="full" if node.mask == "causal" else "causal")
    return node


def _unscaled(node: Network, branches: int) -> Network:
    """Undo, or do wrongly, the division of the branches' variance by their number."""
    if isinstance(node, Attention | Mlp):
        variance = branches * node.output.variance
        return replace(node, output=replace(node.output, variance=variance))
    return node


def _without_positions(node: Network) -> Network:
    if isinstance(node, Attention) and isinstance(node.pattern, Softmax):
        return replace(node, pattern=replace(node.pattern, position=None, bias=None))
    return node


def _without_gates(node: Network) -> Network:
    return node.right if isinstance(node, Product) else node


def _norm_after(node: Network) -> Network:
    if isinstance(node, Residual) and isinstance(node.branch, Chain):
        first, *rest = node.branch.layers
        if isinstance(first, LayerNorm | RMSNorm):
            return replace(node, branch=_chain(rest)) >> first
    return node


def _norm_before(node: Network) -> Network:
    if not isinstance(node, Chain):
        return node
    layers: list[Network] = []
    for layer in node.layers:
        last = layers[-1] if layers else None
        if isinstance(layer, LayerNorm | RMSNorm) and isinstance(last, Residual):
            layers[-1] = replace(last, branch=layer >> last.branch)
        else:
            layers.append(layer)
    return _chain(layers)


def _chain(layers: list[Network]) -> Network:
    return layers[0] if len(layers) == 1 else Chain(tuple(layers))
