r"""How saturated a network is: the cosine with itself at parameters c times as large.

Saturation is the limit of f(x; c θ) as c -> oo. Where the output grows like c^k that limit
is infinite, so directions are compared: with f_l the state of layer l at one position,

    saturation of layer l = mean over positions of cos(f_l(x; θ), f_l(x; c θ)).

Every parameter is multiplied, gains, biases and embeddings too; inputs and buffers are not.

Source: Merrill et al. (2021), arXiv 2010.09697, definition 1 and section 3 (c = 1000).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Any

import torch
from torch import Tensor, nn

from asymptest.theory.errors import AccuracyError, ArgumentError
from asymptest.verify.modules import Inputs, Module, call, float64_copy, state_of

OUTPUT = "output"


@dataclass(frozen=True)
class Cosine:
    """The mean cosine of one layer's states over `positions` positions (and batch)."""

    layer: str
    mean: float
    positions: int


@dataclass(frozen=True)
class Saturation:
    """How saturated a module is at one c: layer by layer, and at its output."""

    c: float
    layers: tuple[Cosine, ...]
    output: Cosine


def saturation_of(
    module: nn.Module,
    inputs: Inputs,
    c: float = 1000.0,
    layers: Sequence[str] | None = None,
) -> Saturation:
    """Return the cosines between the states of a module and of its copy scaled by c.

    Both are copies in float64 and evaluation mode; the module itself is left as it is.

    Args:
        module: any torch module. What it and its layers return must be a tensor
            (..., features), or a tuple or mapping that starts with one.
        inputs: a tensor, a tuple of arguments or a mapping of named arguments.
        c: the factor of every parameter, > 0.
        layers: names of submodules, as in `module.named_modules()`, whose outputs are
            compared, in the order in which they run; by default those of `blocks_of`.

    Returns:
        The mean cosine of each layer and of the output, with the number of positions. A
        layer that runs several times appears as often.

    Raises:
        ArgumentError: if c is not positive and finite, the module has no floating-point
            parameter, a layer has no such name or does not run, or a state is 0, so that it
            has no direction.
        AccuracyError: if a state overflows, also where a norm would hide it.
        UnsupportedError: if a layer returns no state.

    >>> saturation_of(nn.Embedding(5, 1), torch.tensor([0, 3, 3])).output
    Cosine(layer='output', mean=1.0, positions=3)
    """
    soft, hard = float64_copy(module), scaled(module, c)
    chosen = blocks_of(module) if layers is None else tuple(layers)
    _check_names(module, chosen)
    before = _states(soft, inputs, chosen, "c = 1")
    after = _states(hard, inputs, chosen, f"c = {c:g}")
    cosines = tuple(
        _cosine(name, X, Y) for (name, X), (_, Y) in zip(before, after, strict=True)
    )
    return Saturation(float(c), cosines[:-1], cosines[-1])


def scaled(module: Module, c: float) -> Module:
    """Return a copy with every floating-point parameter multiplied by c.

    The copy is in float64 and evaluation mode, so that large c do not overflow early.
    Parameters that several layers share are multiplied once; buffers are left.

    Raises:
        ArgumentError: if c is not positive and finite, or no parameter is floating-point.
    """
    if not (isfinite(c) and c > 0):
        raise ArgumentError(f"c must be positive and finite; got {c}")
    copy = float64_copy(module)
    parameters = [p for p in copy.parameters() if p.is_floating_point()]
    if not parameters:
        raise ArgumentError(
            f"{type(module).__name__} has no floating-point parameter, so there is nothing "
            f"to multiply by c"
        )
    with torch.no_grad():
        for parameter in parameters:
            parameter.mul_(c)
    return copy


def blocks_of(module: nn.Module) -> tuple[str, ...]:
    """Return the names of a module's blocks, () if it has none.

    They are the elements of the ModuleList or Sequential, all of one class, that holds the
    most parameters: the outermost of nested ones.

    >>> blocks_of(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))
    ('0', '1')
    """
    lists = [
        (sum(p.numel() for p in part.parameters()), name, part)
        for name, part in module.named_modules()
        if isinstance(part, nn.ModuleList | nn.Sequential)
        and len({type(element) for element in part}) == 1
    ]
    if not lists:
        return ()
    _, name, blocks = max(
        lists, key=lambda item: item[0]
    )  # the first, so the outermost
    return tuple(f"{name}.{k}".lstrip(".") for k in range(len(blocks)))


def _check_names(module: nn.Module, layers: tuple[str, ...]) -> None:
    known = {name for name, _ in module.named_modules() if name}
    for name in layers:
        if name not in known:
            raise ArgumentError(
                f"layers must name submodules of {type(module).__name__}; got {name!r}: "
                f"choose from module.named_modules()"
            )


def _states(
    module: nn.Module, inputs: Inputs, layers: tuple[str, ...], where: str
) -> list[tuple[str, Tensor]]:
    """Return the states of the layers as they run, then the output."""
    found: list[tuple[str, Tensor]] = []

    def record(name: str, output: Any) -> None:
        state = state_of(output, name)
        _check_size(state, name, where)
        found.append((name, state.detach().clone()))  # a later layer may write in place

    for name in layers:
        module.get_submodule(name).register_forward_hook(
            lambda _, __, output, name=name: record(name, output)
        )
    for name, part in module.named_modules():
        # A norm squares its input, and turns one that overflows into a plausible 0.
        if "norm" in type(part).__name__.lower():
            part.register_forward_pre_hook(
                lambda _, args, kwargs, name=name: _check_size(
                    next(iter((*args, *kwargs.values()))), f"the input of {name}", where
                ),
                with_kwargs=True,
            )
    record(OUTPUT, call(module, inputs))
    missing = set(layers) - {name for name, _ in found}
    if missing:
        raise ArgumentError(
            f"layers must run on these inputs; {sorted(missing)} did not"
        )
    return found


def _check_size(state: Tensor, name: str, where: str) -> None:
    """Raise AccuracyError unless the sum of squares of each row is finite."""
    largest = sqrt(torch.finfo(state.dtype).max / state.shape[-1])
    # not (<=), so that nan fails
    if not bool((state.abs() <= largest).all()):
        raise AccuracyError(
            f"{name} overflows at {where}: it is nan, or its squares exceed float64; use a "
            f"smaller c, or rescale the states by their root mean square between layers"
        )


def _cosine(name: str, X: Tensor, Y: Tensor) -> Cosine:
    """Return the mean cosine over all axes but the last."""
    units = []
    for state in (X, Y):
        top = state.abs().amax(-1, keepdim=True)
        if bool((top == 0).any()):
            raise ArgumentError(
                f"the state of {name} is 0 at {int((top == 0).sum())} of {top.numel()} "
                f"positions, so it has no direction there; leave these positions out"
            )
        # Divided by the largest entry first, so that no square underflows.
        unit = state / top
        units.append(unit / unit.norm(dim=-1, keepdim=True))
    cosines = (units[0] * units[1]).sum(-1)
    return Cosine(name, float(cosines.mean()), cosines.numel())
