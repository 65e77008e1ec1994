"""The trained models that figures show: results of `python -m asymptest.verify.training`.

Those of the full profile are in the folder `training` beside this file.
"""

import json
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from asymptest.theory.errors import ArgumentError

Result = dict[str, Any]


def trained(folder: Path | None = None) -> list[Result]:
    """Return all results in a folder, by name of the run.

    Args:
        folder: where the training command wrote them; None for those of this package.

    Raises:
        ArgumentError: if it holds none.
    """
    if folder is None:
        with as_file(files("asymptest.paper_figures").joinpath("training")) as own:
            return trained(own)
    found = sorted(folder.glob("*.json"))
    if not found:
        raise ArgumentError(
            f"{folder} holds no results; python -m asymptest.verify.training writes them"
        )
    return [json.loads(path.read_text(encoding="utf-8")) for path in found]


def chosen(results: list[Result], **spec: Any) -> list[Result]:
    """Return the results whose specs have these values, in their order.

    >>> chosen([{"spec": {"rate": 0.1}}, {"spec": {"rate": 1.0}}], rate=0.1)
    [{'spec': {'rate': 0.1}}]
    """

    def fits(result: Result) -> bool:
        return all(result["spec"][name] == value for name, value in spec.items())

    return [result for result in results if fits(result)]
