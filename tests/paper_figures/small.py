"""Small versions of figures, each its module and the last argument of `draw`."""

import json
from pathlib import Path


def small_scale(folder: Path | None = None):
    from asymptest.paper_figures import parameter_scale

    sizes = parameter_scale.Sizes(blocks=1, width=4, positions=3, octaves=12)
    return parameter_scale, sizes


def small_head(folder: Path | None = None):
    from asymptest.paper_figures import soft_attention

    return soft_attention, soft_attention.Sizes(tokens="abcbbac", width=4, points=5)


def small_census(folder: Path | None = None):
    from asymptest.paper_figures import head_census

    return head_census, head_census.Sizes(blocks=3, heads=4, width=16, positions=9)


def small_saturation(folder: Path):
    """Write runs of each architecture, of which the one at the rate 0.01 is shown."""
    from asymptest.paper_figures import saturation_by_layer

    runs = folder / "saturation"
    runs.mkdir()
    for number, architecture in enumerate(saturation_by_layer.OURS):
        for rate in (0.01, 0.001):
            spec = {"group": "growth", "architecture": architecture}
            spec |= saturation_by_layer.SHOWN | {"rate": rate}
            landmarks = [
                {"step": step, "cosine": [rate * step / (number + k) for k in (1, 2)]}
                for step in (0, 1, 70)
            ]
            text = json.dumps({"spec": spec, "landmarks": landmarks})
            (runs / f"{architecture}-{rate}.json").write_text(text)
    return saturation_by_layer, runs


def small_law(folder: Path | None = None):
    from asymptest.paper_figures import exact_law

    sizes = exact_law.Sizes((10, 10**6), (1, 3), positions=2, samples=8, logits=100)
    return exact_law, sizes
