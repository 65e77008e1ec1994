import numpy as np
import pytest
import torch

from asymptest.theory.errors import ArgumentError
from asymptest.verify.text import default_text
from asymptest.verify.training.corpus import batch, corpus


def test_the_text_can_be_read_back() -> None:
    text = default_text()
    found = corpus()
    ids = np.concatenate([found.train, found.held_out])
    letters = dict(zip(ids.tolist(), text, strict=True))
    assert len(letters) == found.vocabulary == len(set(text))
    assert "".join(letters[i] for i in ids.tolist()) == text
    assert len(found.held_out) == pytest.approx(0.1 * len(text), abs=1)


def test_a_batch_is_of_stretches_of_the_text_and_depends_on_seed_and_step() -> None:
    text = np.arange(20)
    found = batch(text, 500, 4, seed=1, step=2)
    assert found.shape == (500, 5)
    assert (found[:, 1:] == found[:, :-1] + 1).all()
    # The first and the last stretch are drawn as well.
    assert (int(found.min()), int(found.max())) == (0, 19)
    assert torch.equal(found, batch(text, 500, 4, seed=1, step=2))
    assert not torch.equal(found, batch(text, 500, 4, seed=1, step=3))
    assert not torch.equal(found, batch(text, 500, 4, seed=2, step=2))


def test_a_text_shorter_than_a_stretch_is_refused() -> None:
    with pytest.raises(ArgumentError, match="5 tokens; context = 5 needs more"):
        batch(np.arange(5), 1, 5, seed=0, step=0)
