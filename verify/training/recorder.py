r"""How an optimiser moves the parameters: a recorder that hooks any torch optimiser.

A step takes θ to θ + δ, all parameters as one vector, and

$$\|\theta + \delta\|^2 = \|\theta\|^2 + 2\,\theta^T\delta + \|\delta\|^2$$

exactly. arXiv 2010.09697, section 5.4 and appendix E.2, prints the middle term without its
factor 2, which is harmless only where the term vanishes ("misaligned dynamics").
"""

import math
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor as Array
from torch.optim import Optimizer

from asymptest.theory.errors import ArgumentError


@dataclass(frozen=True)
class Record:
    """One step from θ to θ + δ.

    Args:
        step: its number, from 1.
        before: ‖θ‖.
        norm: ‖θ + δ‖.
        inner: θᵀδ.
        size: ‖δ‖.
        cosine: of θ + δ and the parameters after the last recorded step, or, for the
            first record, when the recorder was made; nan if there are more parameters now.
    """

    step: int
    before: float
    norm: float
    inner: float
    size: float
    cosine: float

    @property
    def alignment(self) -> float:
        """The cosine of θ and δ; nan if one of them is 0."""
        scale = self.before * self.size
        return self.inner / scale if scale else math.nan

    @property
    def growth(self) -> float:
        """‖θ + δ‖² - ‖θ‖², from its two parts."""
        return 2 * self.inner + self.size**2


class Recorder:
    """Hooks an optimiser and keeps a `Record` of each step that `when` selects.

    The parameters are copied before and after a recorded step, and at no other time. Sums
    are taken in float64, of the parameters as they are.

    Args:
        optimizer: its parameters, all groups together, are θ.
        when: step number, from 1 -> whether to record it; by default every step.

    >>> weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    >>> sgd = torch.optim.SGD([weight], lr=1.0)
    >>> recorder = Recorder(sgd)
    >>> weight.grad = torch.tensor([4.0, -3.0])
    >>> sgd.step()
    >>> recorder.records[0].size, recorder.records[0].alignment
    (5.0, 0.0)
    """

    def __init__(
        self, optimizer: Optimizer, when: Callable[[int], bool] = lambda step: True
    ):
        self.records: list[Record] = []
        self._step = 0
        self._when = when
        self._optimizer = optimizer
        self._theta: Array | None = None  # before the step in progress, if recorded
        self._anchor = self._copy()
        self._hooks = (
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        )

    def close(self) -> None:
        """Leave the optimiser as it was."""
        for hook in self._hooks:
            hook.remove()

    def _copy(self) -> Float64[Array, " parameters"]:
        groups = self._optimizer.param_groups
        parts = [p.detach().flatten() for group in groups for p in group["params"]]
        return torch.cat(parts).to(torch.float64, copy=True)

    def _before(self, *_: Any) -> None:
        self._step += 1
        if self._when(self._step):
            self._theta = (
                self._copy()
            )  # something may have moved it since the last step

    def _after(self, *_: Any) -> None:
        if self._theta is None:
            return
        theta, after, anchor = self._theta, self._copy(), self._anchor
        delta = after - theta
        norm = float(after.norm())
        same = len(anchor) == len(after)  # no group of parameters has been added
        scale = norm * float(anchor.norm()) if same else 0.0
        record = Record(
            self._step,
            float(theta.norm()),
            norm,
            float(theta @ delta),
            float(delta.norm()),
            float(after @ anchor) / scale if scale else math.nan,
        )
        self.records.append(record)
        self._theta, self._anchor = None, after

    def state_dict(self) -> dict[str, Any]:
        """Return all that a resumed recorder needs, as tensors and numbers."""
        table = torch.tensor([astuple(r) for r in self.records], dtype=torch.float64)
        return {"step": self._step, "anchor": self._anchor, "records": table}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where `state_dict` was taken.

        Raises:
            ArgumentError: if it is of another number of parameters.
        """
        if state["anchor"].shape != self._anchor.shape:
            raise ArgumentError(
                f"the recorder's state has {len(state['anchor'])} parameters and the "
                f"optimiser {len(self._anchor)}; load the state of the same model"
            )
        self._step, self._anchor = state["step"], state["anchor"]
        self.records = [
            Record(int(step), *rest) for step, *rest in state["records"].tolist()
        ]
