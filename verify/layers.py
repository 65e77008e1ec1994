"""Every layer of a torch module beside its description: where do the two part?

`factory(width, seed)` builds independent modules at several widths. Each reads the same
token sequences, and its kernel X X^T / n after every layer, averaged over the sequences, is
one replicate. A layer is one piece of `Limit` evidence: the mean kernels, extrapolated over
the widths, against the predictions of the modules' own descriptions, extrapolated with the
same weights (an initialiser such as N(0, 0.02^2) gives each width a description of its own).
With one width nothing is extrapolated, and `bias` must cover what a finite width leaves.

All layers look at the same modules, each with its part of alpha. How many modules it takes
is worked out from a pilot, whose modules serve for nothing else.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from jaxtyping import Float, Int
from torch import nn

from asymptest.numerics.kernel import EVALUATIONS
from asymptest.theory.errors import ArgumentError, ShapeError
from asymptest.theory.network import Network
from asymptest.verify.check import ALPHA
from asymptest.verify.claim import Finding, Limit, Profile, Rng, Status
from asymptest.verify.design import Design, allocation, extrapolation
from asymptest.verify.families import upper
from asymptest.verify.from_torch import read
from asymptest.verify.instances import derive
from asymptest.verify.layer_kernels import Sequences, input_name, layer_kernels
from asymptest.verify.layer_predictions import Mutants, Prediction, predictions
from asymptest.verify.network_mutants import mutants_of
from asymptest.verify.reading.parts import Reading, named
from asymptest.verify.stochastic import decide_limits, single_thread
from asymptest.verify.text import default_text, word_ids

Factory = Callable[[int, int], nn.Module]
Unchecked = Int[np.ndarray, "..."]  # a wrong shape is named below
Rows = Float[np.ndarray, "rows d"]  # each on and above the diagonal of a kernel
Replicate = Callable[[int, str, int], Rows]  # (width, purpose, number) -> a row a state

PILOT = 16  # modules a width
SEQUENCES, POSITIONS = 4, 8
OWN = "description"


@dataclass(frozen=True)
class Comparison:
    """What was found, layer by layer.

    Args:
        layers: name of a submodule -> finding on the state that it leaves, in order.
        mutants: wrong description -> finding at the layer that tells it apart best; the
            distance is what is certain of it.
        network: the description at the largest width.
    """

    layers: Mapping[str, Finding]
    mutants: Mapping[str, Finding]
    network: Network

    @property
    def parts_at(self) -> str | None:
        """The first layer whose kernel is not the predicted one, None if there is none."""
        refuted = (k for k, f in self.layers.items() if f.verdict is Status.REFUTED)
        return next(refuted, None)

    @property
    def verdict(self) -> Status:
        """REFUTED if a layer is, SUPPORTED if every layer is."""
        found = {finding.verdict for finding in self.layers.values()}
        for weaker in (Status.REFUTED, Status.INCONCLUSIVE):
            if weaker in found:
                return weaker
        return Status.SUPPORTED

    @property
    def alive(self) -> tuple[str, ...]:
        """The wrong descriptions that this comparison cannot tell from the right one."""
        found = self.mutants.items()
        return tuple(name for name, f in found if f.verdict is not Status.REFUTED)


def default_sequences() -> Sequences:
    """Return `SEQUENCES` times `POSITIONS` words of the topics of Python's help(), as ids."""
    ids = word_ids(default_text(), SEQUENCES * POSITIONS)
    return ids.reshape(SEQUENCES, POSITIONS)


def compare_layers(
    factory: Factory,
    widths: Sequence[int],
    *,
    sequences: Unchecked | None = None,
    mask: Any = None,
    mutants: Mutants = mutants_of,
    resolution: float = 0.05,
    bias: float | None = None,
    samples: int = 2**14,
    seed: int = 0,
    alpha: float = ALPHA,
    note: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Return the verdict on the kernel of every layer of a module.

    Args:
        factory: (width, seed) -> a module in evaluation mode. torch's generator is seeded
            before each call, so it may leave the seed alone.
        widths: one or more.
        sequences: token ids, one sequence a row; `default_sequences()` if None.
        mask: as for `from_torch`; attention of torch.nn is called with it.
        mutants: (description, width) -> wrong descriptions by name, to see which of them
            the same modules refute.
        resolution: half-width of the band around a prediction, / sqrt(K_ii K_jj).
        bias: how far the extrapolated mean of a right description may be off, in the same
            unit; a quarter of the resolution if None. What random logits add is added.
        samples: draws of random logits behind a prediction.
        seed: all randomness derives from it.
        alpha: probability that any verdict is wrong.
        note: is told how many modules will be built.

    Raises:
        ArgumentError: if the factory builds the same module for two seeds, or another
            width than asked for; or if the bias leaves nothing of the resolution.
        ShapeError: if there is no sequence, or it does not fit the module.
        UnsupportedError: if the module is not read.
    """
    ids = default_sequences() if sequences is None else sequences
    if ids.ndim != 2 or not ids.size:
        raise ShapeError(
            f"sequences must be rows of token ids; got the shape {ids.shape}"
        )
    if samples < EVALUATIONS:
        raise ArgumentError(f"samples must be at least {EVALUATIONS}; got {samples}")
    sizes = tuple(widths)
    extrapolation(sizes)  # refuses widths that repeat, or none
    readings = {n: _reading(factory, n, mask, seed) for n in sizes}
    own, others = predictions(readings, ids, mutants, samples, derive(seed, "logits"))
    reach = _reach(own, resolution, bias, alpha / 2)

    @cache
    def replicate(width: int, purpose: str, number: int) -> Any:
        start = derive(seed, purpose, width, number)
        module = _built(factory, width, start)
        found = layer_kernels(module, readings[width], ids, mask, start)
        return upper(found.mean(1))

    widest = readings[max(sizes)]
    names = (input_name(widest), *map(named, widest.layers))
    # Without an embedding the input has its kernel exactly: there is nothing to judge.
    judged = range(0 if widest.embedding else 1, len(names))
    profile = Profile("layers", examples=0, instances=1, resolution=resolution)
    share = alpha / 2 / len(judged)
    layers: dict[str, Finding] = {}
    with single_thread():
        spread = _spread(replicate, sizes, own.scale)
        note(_plan(sizes, spread, reach, profile, share, own.value.shape[1]))
        for k in judged:
            limit = _limit(replicate, k, own, sizes, spread[k], reach[k])
            stream = derive(seed, names[k])
            found = decide_limits(st.just(k), {OWN: limit}, profile, stream, share)
            layers[names[k]] = found[OWN]
    found = list(layers.values())
    start = judged.start
    wrong = {
        name: _refuted(found, other.apart(own)[start:], reach[start:])
        for name, other in others.items()
    }
    return Comparison(layers, wrong, widest.network)


def _reach(
    own: Prediction, resolution: float, bias: float | None, alpha: float
) -> Float[np.ndarray, " states"]:
    """Return how far the mean of a right description may be off, / scale."""
    if not (own.scale > 0).all():
        raise ArgumentError(
            "a state is predicted to be 0 at some position, so that its kernel has no "
            "scale; leave padding tokens out of sequences"
        )
    allowed = resolution / 4 if bias is None else bias
    reach = allowed + own.reach(alpha)
    if not (reach < resolution).all():
        raise ArgumentError(
            f"bias = {allowed:.3g} and the error of the predictions, up to "
            f"{reach.max() - allowed:.3g}, leave nothing of resolution = {resolution}; "
            f"use more samples or a coarser resolution"
        )
    return reach


def _built(factory: Factory, width: int, seed: int) -> nn.Module:
    devices = range(torch.cuda.device_count())
    with torch.random.fork_rng(devices):
        # Not torch.manual_seed, which formats and keeps a stack trace where CUDA is not up.
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed_all(seed)
        return factory(width, seed % 2**32)  # what NumPy's old generators take as well


def _reading(factory: Factory, width: int, mask: Any, seed: int) -> Reading:
    found = read(_built(factory, width, derive(seed, "read", width)), mask)
    if found.width != width:
        raise ArgumentError(
            f"factory({width}, seed) must build a module of width {width}; it has {found.width}"
        )
    return found


def _spread(
    replicate: Replicate, widths: tuple[int, ...], scale: Rows
) -> Float[np.ndarray, " states"]:
    """Return sqrt(width) times the deviation of a kernel, / scale, from a pilot.

    Raises:
        ArgumentError: if all modules are the same.
    """
    pilots = {
        n: np.array([replicate(n, "pilot", k) for k in range(PILOT)]) for n in widths
    }
    for n, rows in pilots.items():
        if (rows == rows[0]).all():
            raise ArgumentError(
                f"factory({n}, seed) built the same module for {PILOT} seeds; draw its "
                f"weights from torch's generator, or from one seeded with `seed`"
            )
    # Each is known to about a fifth, so the largest of many is high rather than low.
    found = [n**0.5 * rows.std(0, ddof=1) / scale for n, rows in pilots.items()]
    return np.max(found, axis=(0, 2))


def _limit(
    replicate: Replicate,
    k: int,
    own: Prediction,
    widths: tuple[int, ...],
    spread: float,
    bias: float,
) -> Limit:
    """Return the evidence on one state; it starts with the first module of each width."""
    used: Counter[int] = Counter()

    def sample(_: Any, width: int, copies: int, __: Rng) -> Rows:
        numbers = range(used[width], used[width] + copies)
        used[width] += copies
        return np.array([replicate(width, "module", number)[k] for number in numbers])

    return Limit(
        sample, lambda _: own.value[k], lambda _: own.scale[k], widths, spread, bias
    )


def _plan(
    widths: tuple[int, ...],
    spread: Float[np.ndarray, " states"],
    reach: Float[np.ndarray, " states"],
    profile: Profile,
    share: float,
    entries: int,
) -> str:
    """Return how many modules the slowest layer needs at most, but for `miss`."""
    weights, counts = extrapolation(widths), allocation(widths)
    blocks = max(
        Design(share, profile.miss, profile.resolution, s * noise, entries, b).blocks
        for noise in [float(np.sqrt(np.sum(weights**2 / (np.array(widths) * counts))))]
        for s, b in zip(spread, reach, strict=True)
    )
    needs = (f"{blocks * r} of width {n}" for n, r in zip(widths, counts, strict=True))
    return f"at most {', '.join(needs)} modules"


def _refuted(
    layers: Sequence[Finding],
    apart: Float[np.ndarray, " layers"],
    reach: Float[np.ndarray, " layers"],
) -> Finding:
    """Return the finding on a wrong description, from those on the right one.

    All mean kernels are within `resolution` of the right predictions. So they are further
    than `apart` less that from the wrong ones, at no further cost in alpha.
    """
    certain = apart - np.array([finding.resolution for finding in layers])
    best = int((certain - reach).argmax())
    refuted = bool(certain[best] > reach[best])
    return replace(
        layers[best],
        verdict=Status.REFUTED if refuted else Status.INCONCLUSIVE,
        resolution=None,
        distance=float(max(certain[best], 0)),
        detail=f"{apart[best]:.2g} from the description",
    )
