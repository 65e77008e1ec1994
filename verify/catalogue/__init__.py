"""The claims, one file for each file of theory; each ends in CLAIMS = (...).

A new file needs no entry anywhere: its presence is what counts.
"""

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asymptest.verify.claim import Claim


def files() -> tuple[str, ...]:
    """Return the names of the catalogue's files, alphabetically, without loading them."""
    return tuple(sorted(module.name for module in iter_modules(__path__)))


def claims_of(file: str) -> tuple["Claim", ...]:
    """Return the claims of one file; whatever it raises while loading is raised here."""
    return tuple(import_module(f"{__name__}.{file}").CLAIMS)


def all_claims() -> tuple["Claim", ...]:
    """Return every claim, file by file; whatever a file raises is raised here."""
    return tuple(claim for file in files() for claim in claims_of(file))
