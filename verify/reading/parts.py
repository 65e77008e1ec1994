"""What a reader hands back: the nodes of a module, each with the submodule it stands for."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from torch import nn

from asymptest.theory.errors import AsymptestError, ShapeError, UnsupportedError
from asymptest.theory.network import Chain, LayerNorm, Network, RMSNorm


class Part(NamedTuple):
    """A node and the submodule whose output is the state that it leaves."""

    name: str
    node: Network


@dataclass(frozen=True)
class Embedding:
    """The law of embedded tokens: sums of vectors with independent N(0, v) entries.

    Args:
        token: v of a token's vector.
        vocabulary: number of tokens.
        position: v of a position's vector, 0 if there is none.
        positions: number of them, None if there is none.
        common: v of a vector that is added at every position.
        padding: the token whose vector is 0, if there is one.
    """

    token: float
    vocabulary: int
    position: float = 0.0
    positions: int | None = None
    common: float = 0.0
    padding: int | None = None

    def kernel(self, ids: Int[np.ndarray, " T"]) -> Float[np.ndarray, "T T"]:
        """Return the wide limit of X X^T / n of the embedded tokens.

        Raises:
            ShapeError: if a token has no vector, or a position.

        >>> Embedding(token=2.0, vocabulary=3, position=1.0).kernel(np.array([0, 1, 0]))
        array([[3., 0., 2.],
               [0., 3., 0.],
               [2., 0., 3.]])
        """
        if ids.min() < 0 or ids.max() >= self.vocabulary:
            raise ShapeError(
                f"token ids must lie in [0, {self.vocabulary}), the vocabulary; got "
                f"[{ids.min()}, {ids.max()}]: use a larger vocabulary or fewer words"
            )
        if self.positions is not None and len(ids) > self.positions:
            raise ShapeError(
                f"{len(ids)} positions do not fit into the {self.positions} that have an "
                f"embedding; use shorter sequences"
            )
        same = (ids[:, None] == ids[None, :]) & (ids != self.padding)
        return self.token * same + self.position * np.eye(len(ids)) + self.common


@dataclass(frozen=True)
class Reading:
    """What a module computes, in the terms of theory/.

    Args:
        network: the description, one layer (in the sense of `depth`) a name.
        width: n of the network's input.
        entry: name of the submodule whose input is the network's.
        layers: names of the submodules whose outputs are the states of the layers.
        embedding: the law of the input's kernel; None if states are the input.
    """

    network: Network
    width: int
    entry: str
    layers: tuple[str, ...]
    embedding: Embedding | None = None


def reading(
    parts: Sequence[Part], width: int, entry: str, embedding: Embedding | None = None
) -> Reading:
    """Return the reading of parts that follow each other.

    Equal blocks that follow each other become one that is repeated.

    Raises:
        AsymptestError: of the kind that the typing rules raise, naming the submodule.
    """
    for count, part in enumerate(parts, 1):
        try:
            Chain(tuple(before.node for before in parts[:count]))
        except AsymptestError as error:
            raise type(error)(f"{named(part.name)}: {error}") from error
    nodes: list[Network] = []
    for node, group in groupby(part.node for part in parts):
        copies = list(group)
        # A block of several layers is one layer of the whole, so it is repeated, if once.
        nodes += [node * len(copies)] if isinstance(node, Chain) else copies
    whole = nodes[0] if len(nodes) == 1 else Chain(tuple(nodes))
    return Reading(whole, width, entry, tuple(part.name for part in parts), embedding)


def named(name: str) -> str:
    """Return what to call a submodule in a message."""
    return name or "the module"


def is_exactly(module: Any, kind: Any) -> bool:
    """Whether a module computes what `kind` does: no subclass with a forward of its own."""
    return isinstance(module, kind) and type(module).forward is kind.forward


def numbered(name: str, items: Any) -> Iterator[tuple[str, Any]]:
    """Yield the elements of a ModuleList or Sequential with their full names."""
    for key, item in items.named_children():
        yield f"{name}.{key}".lstrip("."), item


def norm(
    module: Any,
    name: str,
    width: int,
    eps: float,
    kind: type[LayerNorm] | type[RMSNorm],
) -> Network:
    """Return a normalisation at its initialisation: gain 1, bias 0.

    Raises:
        UnsupportedError: if its gain or bias has another value, or it normalises otherwise.
    """
    if (shape := tuple(module.normalized_shape)) != (width,):
        raise UnsupportedError(
            f"{name} normalises over {shape}, and a description over the width, ({width},)"
        )
    return initial_norm(module, name, eps, kind)


def initial_norm(
    module: Any, name: str, eps: float, kind: type[LayerNorm] | type[RMSNorm]
) -> Network:
    """Return a normalisation over the width, as `norm`."""
    weight, bias = module.weight, getattr(module, "bias", None)
    for value, target, what in ((weight, 1.0, "gain"), (bias, 0.0, "bias")):
        if value is not None and not bool((value == target).all()):
            raise UnsupportedError(
                f"{name} has a {what} other than {target:g}, and a description has it at "
                f"its initialisation"
            )
    return kind(eps, affine=weight is not None)


def refuse(module: nn.Module, when: Callable[[Any], bool], reason: str) -> None:
    """Raise UnsupportedError for the first submodule of which `when` holds."""
    for name, part in module.named_modules():
        if when(part):
            raise UnsupportedError(f"{named(name)}: {reason}")
