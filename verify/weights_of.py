"""The weights of a finite network, layer by layer, as numerics.leading takes them; and back."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from asymptest.theory.errors import ShapeError
from asymptest.verify.finite import (
    AttentionModule,
    DenseModule,
    FiniteNetwork,
    NormModule,
)


def weights_of(module: FiniteNetwork, copy: int = 0) -> list[dict[str, np.ndarray]]:
    """Return the weights of one replicate, a dict for each layer that has some, in order."""
    return [
        {name: weight.detach()[copy].numpy() for name, weight in layer.items()}
        for layer in layers_of(module)
    ]


def load_weights(
    module: FiniteNetwork, weights: Sequence[Mapping[str, Any]]
) -> FiniteNetwork:
    """Give every replicate of a module the weights, in place; return it.

    Weights that the module has no place for, as those that saturation leaves out, are not
    used; those that it needs must be there.

    Raises:
        ShapeError: if layers or shapes do not fit.
    """
    layers = list(layers_of(module))
    if len(layers) != len(weights):
        raise ShapeError(
            f"weights holds {len(weights)} layers, the module has {len(layers)} with weights"
        )
    with torch.no_grad():
        for k, (layer, given) in enumerate(zip(layers, weights, strict=True)):
            for name, weight in layer.items():
                if name not in given:
                    raise ShapeError(f"weights[{k}] lacks {name!r}")
                value = torch.as_tensor(
                    np.asarray(given[name], dtype=np.float64), dtype=weight.dtype
                )
                if value.shape != weight.shape[1:]:
                    raise ShapeError(
                        f"weights[{k}][{name!r}] has the shape {tuple(value.shape)}, the "
                        f"module's {tuple(weight.shape[1:])}"
                    )
                weight.copy_(value.expand_as(weight))
    return module


def layers_of(module: nn.Module) -> Iterator[dict[str, nn.Parameter]]:
    """Yield the parameters of each layer that has some, by name, in order of application."""
    for layer in module.modules():
        match layer:
            case DenseModule():
                yield dict(layer.affine.weights.items())
            case AttentionModule():
                logits = layer.pattern.logits
                yield dict(layer.mix.weights.items()) | (
                    {} if logits is None else dict(logits.weights.items())
                )
            case NormModule() if layer.gain is not None:
                bias = {} if layer.bias is None else {"bias": layer.bias}
                yield {"gain": layer.gain} | bias
            case _:
                pass
