"""The weights of a finite network, layer by layer, as numerics.leading takes them; and back."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import nn

from asymptest.theory.errors import ShapeError, UnsupportedError
from asymptest.verify.finite import (
    AttentionModule,
    DenseModule,
    FiniteNetwork,
    NormModule,
)

Weights = Mapping[str, Any]


def weights_of(module: FiniteNetwork, copy: int = 0) -> list[dict[str, np.ndarray]]:
    """Return the weights of one replicate, a dict for each layer that has some, in order.

    They are copies: what becomes of the module later does not change them.

    Raises:
        UnsupportedError: if some other layer, such as a Custom, has weights.
    """
    return [
        {name: weight.detach()[copy].numpy().copy() for name, weight in layer.items()}
        for layer in _layers(module)
    ]


def load_weights(module: FiniteNetwork, weights: Sequence[Weights]) -> FiniteNetwork:
    """Set all weights of a finite network, the same in each copy, and return it.

    Args:
        module: the finite network.
        weights: one mapping for each layer that has weights, in the order in which the
            network applies them. Dense: "W" (n_in, n_out) and, if it has a bias, "v"
            (n_out,). Attention: "WV" (n, H, d_k), "WO" (H, d_k, n), with biases "vV" (H, d_k)
            and "vO" (n,) and, if scored, "WQ" and "WK" (n, H, d_k). A norm that is affine:
            "gain" and, for LayerNorm, "bias". Axes of size 1 in front may be left out.

    Raises:
        ShapeError: if a layer or a weight is missing, or has another shape.
        UnsupportedError: if some other layer, such as a Custom, has weights.
    """
    layers = _layers(module)
    if len(layers) != len(weights):
        raise ShapeError(
            f"the network has {len(layers)} layers with weights; got {len(weights)}"
        )
    with torch.no_grad():
        for number, (layer, given) in enumerate(zip(layers, weights, strict=True)):
            if set(layer) != set(given):
                raise ShapeError(
                    f"weights[{number}] must name {sorted(layer)}; got {sorted(given)}"
                )
            for name, parameter in layer.items():
                _set(parameter, np.asarray(given[name]), f"weights[{number}][{name!r}]")
    return module


def _layers(module: FiniteNetwork) -> list[dict[str, nn.Parameter]]:
    """Return the parameters of each layer that has some, by name, in order of application."""
    found = [
        {name.rsplit(".")[-1]: weight for name, weight in part.named_parameters()}
        for part in module.modules()
        if isinstance(part, DenseModule | AttentionModule | NormModule)
    ]
    if sum(map(len, found)) != len(list(module.parameters())):
        raise UnsupportedError(
            "only the weights of Dense, Attention and norms are known by name"
        )
    return [layer for layer in found if layer]


def _set(parameter: nn.Parameter, value: np.ndarray, name: str) -> None:
    wanted = parameter.shape[1:]  # the first axis numbers the copies
    if value.size != prod(wanted) or wanted[-value.ndim :] != value.shape:
        raise ShapeError(
            f"{name} must have the shape {tuple(wanted)}; got {value.shape}"
        )
    parameter.copy_(torch.tensor(value.astype(np.float64)).expand_as(parameter))
