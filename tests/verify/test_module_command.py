"""What `asymptest module` prints and returns."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from asymptest.theory.errors import ArgumentError
from asymptest.verify.claim import Status
from asymptest.verify.layers import Comparison, compare_layers
from asymptest.verify.module_command import main, sentence, token_rows
from asymptest.verify.text import default_text, word_ids


@pytest.fixture(autouse=True)
def module_of_factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_factories.py").write_text(
        "from torch import nn\n"
        "def right(width, seed):\n"
        "    return nn.Linear(width, width)\n"
        "def wrong(width, seed):\n"
        "    module = right(width, seed)\n"
        "    module.register_forward_hook(lambda _, __, X: 2 * X)\n"
        "    return module\n"
        "def mixed(width, seed):\n"
        "    return (wrong if width == 8 else right)(width, seed)\n"
        "number = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_factories", raising=False)


COARSE: dict[str, Any] = {"resolution": 0.2, "sequences": 2, "positions": 4}


def test_layers_that_agree(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("my_factories:right", [16], **COARSE) == 0
    out, err = capsys.readouterr()
    assert out.startswith("Width 16: Dense(0.33333")
    assert "the module   SUPPORTED" in out
    assert "No layer parts from the description, to 0." in out
    assert "0 of 0 wrong descriptions refuted." in out
    assert err.startswith("at most ")


def test_layers_that_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("my_factories:wrong", [16], **COARSE) == 1
    out, _ = capsys.readouterr()
    assert "the module   REFUTED" in out
    assert "They part at the module; 0 of 0" in out


def test_one_width_that_parts_is_enough(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("my_factories:mixed", [8, 16], **COARSE, each=True) == 1
    out, _ = capsys.readouterr()
    assert out.count("They part at") == out.count("No layer parts") == 1


def test_json_of_each_width(capsys: pytest.CaptureFixture[str]) -> None:
    """Each is judged by itself, with its part of alpha."""
    arguments = COARSE | {"each": True, "as_json": True, "seed": 5}
    assert main("my_factories:right", [8, 16], **arguments) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["widths"] for line in lines] == [[8], [16]]
    assert {line["layer"] for line in lines} == {"the module"}
    for line in lines:
        assert line["verdict"] == "SUPPORTED"
        assert line["distance"] <= line["resolution"] <= 0.2
        assert line["alpha"] == pytest.approx(1e-6 / 4)


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"function \(width, seed\) -> .* type int"):
        main("my_factories:number", [16])
    with pytest.raises(ArgumentError, match="names no factory"):
        main("my_factories:none", [16])
    (tmp_path / "short.txt").write_text("one two three")
    with pytest.raises(ArgumentError, match=r"has 3 words, .* 8 positions need 32"):
        main("my_factories:right", [16], text="short.txt")


def test_tokens(tmp_path: Path) -> None:
    found = token_rows("default", 2, 3)
    assert np.array_equal(found.ravel(), word_ids(default_text(), 6))
    (tmp_path / "own.txt").write_text("a b a c")
    assert token_rows("own.txt", 2, 2).tolist() == [[0, 1], [0, 2]]


def test_the_sentence_names_what_is_open() -> None:
    def build(width: int, seed: int) -> nn.Module:
        del seed
        return nn.Sequential(nn.Embedding(9, width), nn.Linear(width, width))

    found = compare_layers(build, (8,), resolution=0.3, sequences=np.array([[0, 1]]))
    undecided = {
        name: replace(finding, verdict=Status.INCONCLUSIVE)
        for name, finding in found.layers.items()
    }
    text = sentence(Comparison(undecided, found.mutants, found.network))
    assert text == "Not decided at input of 1, 1; 0 of 0 wrong descriptions refuted."
