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
        Limit,
        Profile,
        Rate,
        Source,
        Status,
        Verdict,
    )
    from asymptest.verify.finite import FiniteNetwork, finite, kernel_of
    from asymptest.verify.inputs import exact_input
    from asymptest.verify.results import read_report
    from asymptest.verify.run import run_claims
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

__all__ = [
    "PROFILES",
    "Bound",
    "Claim",
    "Enclosure",
    "Exact",
    "Expects",
    "Finding",
    "FiniteLaw",
    "FiniteNetwork",
    "Identity",
    "Limit",
    "Profile",
    "Rate",
    "Source",
    "Status",
    "TokenNetwork",
    "Verdict",
    "all_claims",
    "check",
    "default_text",
    "exact_input",
    "finite",
    "gram_matrices",
    "kernel_of",
    "networks",
    "read_report",
    "run_claims",
    "select",
    "tied_scores",
    "token_ids",
    "token_kernel",
    "token_limit",
    "word_ids",
    "words",
]

_HOMES = {
    "catalogue": "all_claims",
    "check": "check",
    "claim": "PROFILES Bound Claim Enclosure Exact Expects Finding FiniteLaw Identity "
    "Limit Profile Rate Source Status Verdict",
    "finite": "FiniteNetwork finite kernel_of",
    "inputs": "exact_input",
    "results": "read_report",
    "run": "run_claims",
    "select": "select",
    "strategies": "gram_matrices networks tied_scores token_ids",
    "text": "TokenNetwork default_text token_kernel token_limit word_ids words",
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
