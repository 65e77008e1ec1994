"""Encodings of the position in finite networks: what queries and keys see in place of X."""

import numpy as np
import torch
from torch import Tensor as Array
from torch import nn

from asymptest.numerics.gram import as_kernel, psd_sqrt
from asymptest.numerics.logits import as_numpy
from asymptest.theory.definition import HEADS, N_IN, R, S, X
from asymptest.theory.errors import ShapeError
from asymptest.theory.patterns import Scored
from asymptest.theory.positions import Additive, Rotary
from asymptest.theory.substitution import number
from asymptest.verify.weights import Numbers, normal


class AdditiveModule(nn.Module):
    """content X + E: E is drawn when the module is made, and is no parameter."""

    def __init__(
        self,
        position: Additive,
        width: int,
        copies: int,
        generator: np.random.Generator,
    ):
        super().__init__()
        kernel = as_kernel(as_numpy(position.kernel), "Additive.kernel")
        root = torch.tensor(psd_sqrt(kernel))
        Z = normal(copies, len(kernel), width, generator=generator)
        self.E = nn.Buffer(root @ Z)
        self.content = number(position.content, "Additive.content")

    def forward(self, X: Array) -> dict[str, Array]:
        """Return what the definition of the logits takes."""
        if X.shape[-2] != self.E.shape[-2]:
            raise ShapeError(
                f"Additive.kernel is for {self.E.shape[-2]} positions, the state has "
                f"{X.shape[-2]}"
            )
        return {S.name: self.content * X + self.E}


class RotaryModule(nn.Module):
    """Rotations of the features of a head."""

    def __init__(self, position: Rotary, features: int):
        super().__init__()
        if features % 2:
            raise ShapeError(
                f"Rotary turns pairs of features, and a head has {features}; choose a width "
                f"that makes them even"
            )
        shares = np.arange(0, features, 2) / features
        self.frequencies = torch.tensor(position.frequency(shares))

    def forward(self, state: Array) -> dict[str, Array]:
        """Return what the definition of the logits takes."""
        positions = torch.arange(state.shape[-2], dtype=state.dtype)
        angles = positions[:, None] * self.frequencies
        cos, sin = torch.cos(angles), torch.sin(angles)
        d = 2 * len(self.frequencies)
        rotations = torch.zeros(len(positions), d, d, dtype=state.dtype)
        even, odd = torch.arange(0, d, 2), torch.arange(1, d, 2)
        rotations[:, even, even] = cos
        rotations[:, odd, odd] = cos
        rotations[:, even, odd] = -sin
        rotations[:, odd, even] = sin
        return {X.name: state, R.name: rotations}


def encoding(
    scores: Scored, sizes: Numbers, copies: int, generator: np.random.Generator
) -> AdditiveModule | RotaryModule | None:
    """Return the module of a pattern's encoding, if it has one."""
    width = int(sizes[N_IN])
    match scores.position:
        case None:
            return None
        case Additive():
            return AdditiveModule(scores.position, width, copies, generator)
        case Rotary():
            return RotaryModule(scores.position, width // int(sizes[HEADS]))
