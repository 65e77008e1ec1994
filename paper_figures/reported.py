"""Numbers that a paper printed or drew, as this project's figures show them beside its own.

`reported.json` holds what was read off the vector figures of arXiv 2010.09697. There
"pre-norm" is X + N(S(X)), which is called "sublayer" here.
"""

import json
from functools import lru_cache
from importlib.resources import files
from typing import Any

LABEL = "arXiv 2010.09697"  # what a figure calls them


@lru_cache(maxsize=1)
def reported() -> dict[str, Any]:
    """Return the numbers, by figure.

    Returns:
        "t5_norm" ("step", "norm") and "t5_direction" ("step", "cos"); "saturation_by_layer"
        ("pretrained" and "random", by model, from the first layer on);
        "saturation_by_epoch" (by architecture, before training and after each epoch);
        "scaling" (cosine of c theta and 1000 theta by "c" and architecture); "heads" (by
        architecture, of "total" heads: how many attend to 1 to 1.4 positions, "first", and
        how many to the most, "last", which is "largest").

    >>> reported()["heads"]["sublayer"]["first"]
    41
    """
    text = (
        files("asymptest.paper_figures")
        .joinpath("reported.json")
        .read_text(encoding="utf-8")
    )
    return json.loads(text)
