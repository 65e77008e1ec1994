"""The kernels X X^T / n of a module's states, layer by layer, on token sequences."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from asymptest.numerics.attention import mask_array
from asymptest.theory.errors import ArgumentError, ShapeError
from asymptest.theory.masks import as_mask
from asymptest.verify.inputs import exact_input
from asymptest.verify.modules import state_of
from asymptest.verify.reading.parts import Reading, named

Sequences = Int[np.ndarray, "sequences T"]


def input_name(reading: Reading) -> str:
    """Return what the state before the first layer is called."""
    return f"input of {named(reading.entry)}"


def layer_kernels(
    module: nn.Module,
    reading: Reading,
    sequences: Sequences,
    mask: Any = None,
    seed: int = 0,
) -> Float[np.ndarray, "states sequences T T"]:
    """Return the kernel of a module's input and of the state after each layer.

    Args:
        module: what was read.
        reading: what `read` said of it.
        sequences: token ids, one sequence a row. A module without an embedding gets rows
            of length sqrt(n) for them, orthogonal for different tokens.
        mask: what attention of torch.nn is called with; "full" if None.
        seed: of these rows' directions.

    Raises:
        ArgumentError: if a layer does not run, or runs twice.
        ShapeError: if there are more tokens than features.
        UnsupportedError: if a layer returns no state.
    """
    # Attention of torch.nn takes positions first, unless it is told otherwise.
    swapped = any(
        getattr(part, "batch_first", True) is False for part in module.modules()
    )
    states: dict[str, list[Tensor]] = {}

    def keep(name: str, output: object) -> None:
        X = state_of(output, name)
        states.setdefault(name, []).append(X.transpose(0, 1) if swapped else X)

    first = input_name(reading)
    entry = module.get_submodule(reading.entry)
    hooks = [
        entry.register_forward_pre_hook(lambda _, args: keep(first, args)),
        *(
            module.get_submodule(name).register_forward_hook(
                lambda _, __, output, name=name: keep(name, output)
            )
            for name in reading.layers
        ),
    ]
    given = _inputs(module, reading, sequences, seed)
    seen = mask_array(as_mask("full" if mask is None else mask), sequences.shape[1])
    hidden = torch.from_numpy(~seen).to(given.device)
    try:
        with torch.no_grad():  # in the precision that the module was built in
            _call(module, given.transpose(0, 1) if swapped else given, hidden)
    finally:
        for hook in hooks:
            hook.remove()
    return np.stack(
        [_kernel(states.get(name, []), name) for name in (first, *reading.layers)]
    )


def _kernel(found: list[Tensor], name: str) -> Float[np.ndarray, "sequences T T"]:
    if len(found) != 1:
        raise ArgumentError(
            f"{name} ran {len(found)} times in one call; a description has each layer once"
        )
    X = found[0].double()
    return (X @ X.mT / X.shape[-1]).cpu().numpy()


def _inputs(
    module: nn.Module, reading: Reading, sequences: Sequences, seed: int
) -> Tensor:
    weight = next(module.parameters())
    if reading.embedding is not None:
        return torch.from_numpy(sequences).to(weight.device)
    kinds = int(sequences.max()) + 1
    if kinds > reading.width:
        raise ShapeError(
            f"{kinds} different tokens get orthogonal rows, and the width is "
            f"{reading.width}: use a width of at least {kinds}, or fewer words"
        )
    rows = exact_input(np.eye(kinds), reading.width, 1, seed)[0]
    return rows[torch.from_numpy(sequences)].to(weight)


def _call(module: nn.Module, given: Tensor, hidden: Tensor) -> None:
    match module:
        case nn.MultiheadAttention():
            module(given, given, given, attn_mask=hidden, need_weights=False)
        case nn.TransformerEncoderLayer():
            module(given, src_mask=hidden)
        case nn.TransformerEncoder():
            module(given, mask=hidden)
        case _:
            module(given)
