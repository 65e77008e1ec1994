from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from asymptest.theory.errors import ArgumentError
from asymptest.verify.training.recorder import Recorder


class Walk:
    """A small loss in float64, trained, with a copy of the parameters after each step."""

    def __init__(
        self,
        recorded: Callable[[int], bool] = lambda step: True,
        decay: float = 0.0,
    ):
        torch.manual_seed(1)
        self.layers = nn.Sequential(
            nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)
        ).double()
        self.optimizer = torch.optim.AdamW(
            self.layers.parameters(), lr=0.1, weight_decay=decay
        )
        self.recorder = Recorder(self.optimizer, recorded)
        self.path = [self.theta()]

    def theta(self) -> np.ndarray:
        return nn.utils.parameters_to_vector(self.layers.parameters()).detach().numpy()

    def steps(self, number: int) -> None:
        for _ in range(number):
            x = torch.randn(8, 4, dtype=torch.float64)
            self.optimizer.zero_grad()
            (self.layers(x) - x[:, :2]).square().mean().backward()
            self.optimizer.step()
            self.path.append(self.theta())


def test_records_are_what_numpy_computes_from_copies() -> None:
    walk = Walk()
    walk.steps(20)
    assert [r.step for r in walk.recorder.records] == list(range(1, 21))
    for record, before, after in zip(
        walk.recorder.records, walk.path, walk.path[1:], strict=False
    ):
        delta = after - before
        norms = np.linalg.norm(before), np.linalg.norm(after), np.linalg.norm(delta)
        assert (record.before, record.norm, record.size) == pytest.approx(
            norms, rel=1e-12
        )
        assert record.inner == pytest.approx(before @ delta, rel=1e-10, abs=1e-14)
        assert record.cosine == pytest.approx(
            before @ after / norms[0] / norms[1], rel=1e-12
        )
        cosine = before @ delta / norms[0] / norms[2]
        assert record.alignment == pytest.approx(cosine, rel=1e-10, abs=1e-14)


def test_the_squared_norm_grows_by_twice_the_inner_product_and_the_square() -> None:
    walk = Walk(decay=0.1)
    walk.steps(20)
    for r in walk.recorder.records:
        assert r.norm**2 - r.before**2 == pytest.approx(r.growth, rel=1e-11, abs=1e-13)
        # The printed identity lacks the factor 2, and here that shows.
        assert abs(r.norm**2 - r.before**2 - (r.inner + r.size**2)) > 1e-6


def test_steps_across_a_scale_invariant_loss_explain_all_growth() -> None:
    # The gradient of a function of w / |w| is orthogonal to w.
    torch.manual_seed(2)
    w = nn.Parameter(torch.randn(50, dtype=torch.float64))
    sgd = torch.optim.SGD([w], lr=1.0)
    recorder = Recorder(sgd)
    for _ in range(100):
        sgd.zero_grad()
        (w / w.norm() @ torch.randn(50, dtype=torch.float64)).backward()
        sgd.step()
    records = recorder.records
    growth = records[-1].norm ** 2 - records[0].before ** 2
    assert sum(r.size**2 for r in records) == pytest.approx(growth, rel=1e-12)
    assert max(abs(r.alignment) for r in records) < 1e-14


def test_only_chosen_steps_are_recorded_and_copied(monkeypatch) -> None:
    copies = 0
    original = Recorder._copy

    def counted(recorder: Recorder) -> torch.Tensor:
        nonlocal copies
        copies += 1
        return original(recorder)

    monkeypatch.setattr(Recorder, "_copy", counted)
    walk = Walk(lambda step: step % 5 == 0)
    walk.steps(17)
    assert [r.step for r in walk.recorder.records] == [5, 10, 15]
    assert copies == 1 + 2 * 3
    anchors = [walk.path[0], walk.path[5], walk.path[10]]
    for record, anchor in zip(walk.recorder.records, anchors, strict=True):
        after, before = walk.path[record.step], walk.path[record.step - 1]
        scale = np.linalg.norm(anchor) * np.linalg.norm(after)
        assert record.cosine == pytest.approx(anchor @ after / scale, rel=1e-12)
        assert record.size == pytest.approx(np.linalg.norm(after - before), rel=1e-12)


def test_float32_parameters_are_summed_in_float64() -> None:
    # 1 + 1e-8 is 1 in float32, so the sum of squares is exact only in float64.
    w = nn.Parameter(torch.cat([torch.ones(1), torch.full((10_000,), 1e-4)]))
    sgd = torch.optim.SGD([w], lr=0.0)
    recorder = Recorder(sgd)
    w.grad = torch.zeros_like(w)
    sgd.step()
    exact = float(w.detach().double().square().sum()) ** 0.5
    assert recorder.records[0].norm == pytest.approx(exact, rel=1e-14)
    assert np.isnan(recorder.records[0].alignment)


def test_a_closed_recorder_records_no_more() -> None:
    walk = Walk()
    walk.steps(2)
    walk.recorder.close()
    walk.steps(2)
    assert len(walk.recorder.records) == 2


def test_a_restored_recorder_goes_on() -> None:
    walk = Walk(lambda step: step % 3 == 0)
    walk.steps(7)
    state = walk.recorder.state_dict()
    walk.recorder.close()
    again = Recorder(walk.optimizer, lambda step: step % 3 == 0)
    again.load_state_dict(state)
    walk.steps(3)
    assert [r.step for r in again.records] == [3, 6, 9]
    anchor, after = walk.path[6], walk.path[9]
    scale = np.linalg.norm(anchor) * np.linalg.norm(after)
    assert again.records[-1].cosine == pytest.approx(anchor @ after / scale, rel=1e-12)


def test_the_state_of_another_model_is_refused() -> None:
    state = Walk().recorder.state_dict()
    other = Recorder(torch.optim.SGD([nn.Parameter(torch.zeros(3))], lr=1.0))
    with pytest.raises(ArgumentError, match="37 parameters and the optimiser 3"):
        other.load_state_dict(state)


def test_what_moves_the_parameters_between_steps_is_no_step() -> None:
    """Projected back after each step, they start each step at norm 5."""
    weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    sgd = torch.optim.SGD([weight], lr=1.0)
    recorder = Recorder(sgd)
    for _ in range(2):
        weight.grad = -weight.detach().clone()
        sgd.step()
        with torch.no_grad():
            weight.mul_(5 / weight.norm())
    for record in recorder.records:
        assert (record.before, record.norm, record.size, record.inner) == (5, 10, 5, 25)


def test_parameters_that_are_added_later_are_recorded() -> None:
    first, second = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    sgd = torch.optim.SGD([first], lr=1.0)
    recorder = Recorder(sgd)
    sgd.add_param_group({"params": [second]})
    first.grad = second.grad = torch.ones(1)
    sgd.step()
    assert recorder.records[0].before == pytest.approx(2**0.5)
    assert np.isnan(recorder.records[0].cosine)
