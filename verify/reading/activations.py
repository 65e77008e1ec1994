"""Which activation a torch function is: the one that has its values.

Names do not say it (nn.GELU has two forms, transformers has seven), values do: the grid
reaches far enough to see a clip at 6 or 10, and the tolerance tells the two GELUs apart.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from asymptest.theory.activations import (
    Activation,
    erf,
    gelu,
    gelu_tanh,
    identity,
    leaky_relu,
    relu,
    sigmoid,
    silu,
    sin,
    softplus,
    tanh,
)
from asymptest.theory.errors import UnsupportedError
from asymptest.verify.finite import torch_activation

KNOWN = (relu, gelu, gelu_tanh, silu, tanh, sigmoid, softplus, erf, sin, identity)
REACH = 24.0
POINTS = 24 * 41
CLOSE = 1e-7  # constants are written to 10 digits; the two GELUs are 5e-4 apart


def activation(function: Callable[[Tensor], Any], name: str) -> Activation:
    """Return the activation of theory/ that has a torch function's values.

    Args:
        function: any function or module without parameters.
        name: what to call it in an error.

    Raises:
        UnsupportedError: if none has.

    >>> activation(torch.nn.GELU(approximate="tanh"), "act")
    gelu_tanh
    >>> activation(torch.nn.LeakyReLU(0.25), "act")
    leaky_relu(0.25)
    """
    # Three axes, so that what acts on whole rows or reshapes is no activation.
    x = torch.linspace(-REACH, REACH, POINTS, dtype=torch.float64).reshape(2, 12, -1)
    with torch.no_grad():
        values = function(x)
    slope = float(values.flatten()[0]) / -REACH
    for candidate in (*KNOWN, leaky_relu(slope)):
        found = torch_activation(candidate)(x)
        if found.shape == values.shape and bool((found - values).abs().max() <= CLOSE):
            return candidate
    known = ", ".join(phi.name for phi in KNOWN)
    raise UnsupportedError(
        f"{name}: {function!r} has the values of no activation that is read ({known}, "
        f"leaky_relu); describe the network by hand, with Activation('mine', expression)"
    )
