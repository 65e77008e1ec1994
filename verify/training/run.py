"""One run: train, record, and survive being killed.

A run in progress saves all its state every few steps, and a finished one becomes one JSON
file. Each write goes to a temporary file that then takes the other's place in one step.
"""

import json
import math
import os
import platform
import time
from dataclasses import asdict
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor as Array
from torch import nn

from asymptest.theory.errors import ArgumentError
from asymptest.verify.census import census
from asymptest.verify.saturating import saturation_of, scaled
from asymptest.verify.training.corpus import batch, corpus
from asymptest.verify.training.models import LanguageModel
from asymptest.verify.training.optimisers import make_optimiser, make_schedule
from asymptest.verify.training.profiles import Spec
from asymptest.verify.training.recorder import Recorder
from asymptest.verify.training.summary import curve, spread, summary

EVERY = 50  # steps between saved states: a second of work, and 2 % of the time
HELD_OUT = 8  # sequences on which a model is measured
MORE_HELD_OUT = 64  # where only the loss is measured
DIGITS = 6  # of every number in a result
SATURATED = 1000.0  # the c at which arXiv 2010.09697 takes a network to be saturated


class Run:
    """A run in progress.

    Attributes:
        losses: the training loss of each step so far.
    """

    def __init__(self, spec: Spec):
        self.spec = spec
        self.losses: list[float] = []
        self._text = corpus()
        self._model = self._fresh()
        self._optimizer = make_optimiser(
            spec.optimiser, self._model.parameters(), spec.rate, spec.decay
        )
        self._schedule = make_schedule(self._optimizer, spec.schedule, spec.steps)
        self._recorders = self._recording() if spec.points else {}
        later = spread(1, spec.steps, spec.landmarks).tolist()
        self._moments = {0, *later} if spec.landmarks else set()
        self._measured: list[dict[str, Any]] = []
        self._held_out = batch(
            self._text.held_out,
            HELD_OUT if spec.points else MORE_HELD_OUT,
            spec.context,
            spec.seed,
            step=0,
        )

    @property
    def done(self) -> bool:
        """Whether all steps are taken."""
        return len(self.losses) == self.spec.steps

    def advance(self) -> None:
        """Take one step."""
        spec, model = self.spec, self._model
        if 0 in self._moments and not self.losses:
            self._measure()
        ids = batch(
            self._text.train, spec.size, spec.context, spec.seed, len(self.losses) + 1
        )
        loss = model.loss(ids)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        self._schedule.step()
        self.losses.append(float(loss.detach()))
        if len(self.losses) in self._moments:
            self._measure()

    def result(self) -> dict[str, Any]:
        """Return what the finished run found, as JSON's own types."""
        found = {
            "spec": asdict(self.spec),
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
            },
            "parameters": sum(p.numel() for p in self._model.parameters()),
            **self._summary(),
            "landmarks": self._measured,
        }
        return _rounded(found)

    def _summary(self) -> dict[str, Any]:
        if not self._recorders:
            return {"curve": curve(self.losses), "loss": self.losses[-1]}
        path, checkpoints = (each.records for each in self._recorders.values())
        found = summary(path, checkpoints, self.losses, self.spec.points)
        return found | {"scaling": self._scaling() if self.spec.landmarks else {}}

    def _recording(self) -> dict[str, Recorder]:
        spacing = max(self.spec.steps // self.spec.points, 1)
        return {
            "path": Recorder(self._optimizer),
            "checkpoints": Recorder(self._optimizer, lambda t: t % spacing == 0),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return all that a resumed run needs, as tensors and plain values."""
        return {
            "spec": asdict(self.spec),
            "losses": self.losses,
            "measured": self._measured,
            **{name: part.state_dict() for name, part in self._parts().items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where `state_dict` was taken."""
        self.losses, self._measured = state["losses"], state["measured"]
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _parts(self) -> dict[str, Any]:
        return {
            "model": self._model,
            "optimizer": self._optimizer,
            "schedule": self._schedule,
            **self._recorders,
        }

    def _fresh(self) -> LanguageModel:
        spec = self.spec
        return LanguageModel(
            spec.architecture,
            self._text.vocabulary,
            spec.context,
            spec.width,
            spec.depth,
            spec.heads,
            spec.seed,
        ).float()

    def _scaling(self) -> dict[str, list[float]]:
        """Return the cosine of cθ and 1000θ at the last block, before and after training."""
        ids = self._held_out[:, :-1]
        c = np.linspace(1, 10, 20).tolist()  # as in arXiv 2010.09697
        models = {"start": self._fresh(), "end": self._model}
        cosines = {
            when: [
                _cosines(scaled(model, base), ids, SATURATED / base)[-1] for base in c
            ]
            for when, model in models.items()
        }
        return {"c": c, **cosines}

    def _measure(self) -> None:
        model, ids = self._model, self._held_out[:, :-1]
        with torch.no_grad():
            held_out_loss = float(model.loss(self._held_out))
        found = {"step": len(self.losses), "held_out_loss": held_out_loss}
        if not self._recorders:
            self._measured.append(found)
            return
        self._measured.append(
            {
                **found,
                "cosine": _cosines(model, ids, SATURATED),
                "attended": _attended(scaled(model, SATURATED), ids),
                "attended_soft": _attended(model, ids),
            }
        )


def train(spec: Spec, folder: Path, every: int = EVERY) -> dict[str, Any]:
    """Return the result of a run: read, resumed or from its start.

    Args:
        spec: the run.
        folder: where <name>.json is or will be, and <name>.pt while it is unfinished.
        every: steps between saved states.

    Raises:
        ArgumentError: if one of the files is of another run.
        OSError: if a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    saved, finished = folder / f"{spec.name}.pt", folder / f"{spec.name}.json"
    if finished.exists():
        return _same(spec, json.loads(finished.read_text(encoding="utf-8")), finished)
    run = Run(spec)
    if saved.exists():
        run.load_state_dict(_same(spec, torch.load(saved, weights_only=True), saved))
    started = time.perf_counter()
    while not run.done:
        run.advance()
        if len(run.losses) % every == 0:
            state = BytesIO()
            torch.save(run.state_dict(), state)
            write_whole(saved, state.getvalue())
    result = run.result() | {"seconds": round(time.perf_counter() - started, 1)}
    text = json.dumps(result, allow_nan=False, separators=(",", ":")) + "\n"
    write_whole(finished, text.encode())
    saved.unlink(missing_ok=True)
    return result


def _cosines(
    model: LanguageModel, ids: Int64[Array, "batch T"], c: float
) -> list[float]:
    """Return the cosine of each block's states with those at cθ, averaged over positions."""
    return [layer.mean for layer in saturation_of(model, ids, c).layers]


def _attended(model: nn.Module, ids: Int64[Array, "batch T"]) -> list[list[float]]:
    """Return, by block and head, the mean number of positions attended to.

    Under the causal mask a head that attends to one position has 1, and one that averages
    over all it sees (T + 1) / 2.
    """
    heads = groupby(census(model, ids, "causal"), key=lambda head: head.layer)
    return [[head.attended for head in layer] for _, layer in heads]


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is never seen half written, and reaches the disk."""
    fresh = path.with_name(path.name + ".new")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)


def _same(spec: Spec, data: dict[str, Any], path: Path) -> dict[str, Any]:
    if data["spec"] != asdict(spec):
        raise ArgumentError(
            f"{path} is of another run with this name; delete it or use another folder"
        )
    return data


def _rounded(value: Any) -> Any:
    """Return JSON's own types, floats to 6 digits; one that is not finite as a string."""
    match value:
        case dict():
            return {key: _rounded(part) for key, part in value.items()}
        case list() | tuple():
            return [_rounded(part) for part in value]
        case float():
            return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else str(value)
        case _:
            return value
