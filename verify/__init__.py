"""Finite networks, claims and their verdicts.

The public names load on first use: neither pytest's plugin nor `asymptest --help` should
wait for torch.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asymptest.verify.catalogue import all_claims
    from asymptest.verify.census import Head, attention_of, census, classify
    from asymptest.verify.check import check
    from asymptest.verify.claim import (
        PROFILES,
        Bound,
        Claim,
        Enclosure,
        Exact,
        Expects,
        Finding,
        FiniteLaw,
        Identity,
        Law,
        Limit,
        Profile,
        Rate,
        Source,
        Status,
        Verdict,
    )
    from asymptest.verify.finite import FiniteNetwork, finite, kernel_of
    from asymptest.verify.from_torch import from_torch, pretrained
    from asymptest.verify.inputs import exact_input
    from asymptest.verify.layers import Comparison, compare_layers
    from asymptest.verify.results import read_report
    from asymptest.verify.run import run_claims
    from asymptest.verify.saturated_attention import saturated, saturated_weights
    from asymptest.verify.saturating import Saturation, saturation_of, scaled
    from asymptest.verify.select import select
    from asymptest.verify.strategies import (
        gram_matrices,
        networks,
        tied_scores,
        token_ids,
    )
    from asymptest.verify.text import (
        TokenNetwork,
        default_text,
        token_kernel,
        token_limit,
        word_ids,
        words,
    )
    from asymptest.verify.training.recorder import Record, Recorder
    from asymptest.verify.weights_of import load_weights, weights_of

__all__ = [
    "PROFILES",
    "Bound",
    "Claim",
    "Comparison",
    "Enclosure",
    "Exact",
    "Expects",
    "Finding",
    "FiniteLaw",
    "FiniteNetwork",
    "Head",
    "Identity",
    "Law",
    "Limit",
    "Profile",
    "Rate",
    "Record",
    "Recorder",
    "Saturation",
    "Source",
    "Status",
    "TokenNetwork",
    "Verdict",
    "all_claims",
    "attention_of",
    "census",
    "check",
    "classify",
    "compare_layers",
    "default_text",
    "exact_input",
    "finite",
    "from_torch",
    "gram_matrices",
    "kernel_of",
    "load_weights",
    "networks",
    "pretrained",
    "read_report",
    "run_claims",
    "saturated",
    "saturated_weights",
    "saturation_of",
    "scaled",
    "select",
    "tied_scores",
    "token_ids",
    "token_kernel",
    "token_limit",
    "weights_of",
    "word_ids",
    "words",
]

_HOMES = {
    "catalogue": "all_claims",
    "census": "Head attention_of census classify",
    "check": "check",
    "claim": "PROFILES Bound Claim Enclosure Exact Expects Finding FiniteLaw Identity "
    "Law Limit Profile Rate Source Status Verdict",
    "finite": "FiniteNetwork finite kernel_of",
    "from_torch": "from_torch pretrained",
    "inputs": "exact_input",
    "layers": "Comparison compare_layers",
    "results": "read_report",
    "run": "run_claims",
    "saturated_attention": "saturated saturated_weights",
    "saturating": "Saturation saturation_of scaled",
    "select": "select",
    "strategies": "gram_matrices networks tied_scores token_ids",
    "text": "TokenNetwork default_text token_kernel token_limit word_ids words",
    "training.recorder": "Record Recorder",
    "weights_of": "load_weights weights_of",
}
_HOME = {name: home for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """A package in which `check` and `finite` are the functions, whoever loads first."""

    def __setattr__(self, name: str, value: object) -> None:
        # Loading verify/finite.py would bind the module to the function's name here.
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
