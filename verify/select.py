"""Which claims a command means: prefixes of the catalogue, or a user's own module.

A claim holds functions, so it cannot be sent to another process; a `Reference` says
where to find it, and can.
"""

import importlib.util
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from asymptest.theory.errors import ArgumentError
from asymptest.verify import catalogue
from asymptest.verify.claim import Claim

CATALOGUE = catalogue.__name__


@dataclass(frozen=True)
class Reference:
    """Where a claim is.

    Args:
        name: its name; for a file that cannot be loaded, the file's.
        module: the module that holds it.
        attribute: the module's attribute: a claim, or a collection of claims.
    """

    name: str
    module: str
    attribute: str = "CLAIMS"


def select(targets: Sequence[str] = ()) -> tuple[Reference, ...]:
    """Return references to all claims that are meant, in the catalogue's order.

    Args:
        targets: prefixes of names ("wick/", "text/pre-norm"), or "module:attribute" for
            a claim, or a collection of claims, outside the catalogue. None means all.

    Raises:
        ArgumentError: if a target matches nothing, or two claims have one name.
    """
    found: dict[Reference, None] = {}
    for target in targets or ("",):
        chosen = _outside(target) if ":" in target else _prefixed(target)
        found |= dict.fromkeys(chosen)
    homes: dict[str, Reference] = {}
    for reference in found:
        other = homes.setdefault(reference.name, reference)
        if other != reference:
            raise ArgumentError(
                f"two claims are named {reference.name!r}, in {other.module}:"
                f"{other.attribute} and in {reference.module}:{reference.attribute}; "
                f"rename one"
            )
    return tuple(found)


def load(reference: Reference) -> Claim:
    """Return the claim, loading its module; whatever that raises is raised here."""
    return _claims(reference.module, reference.attribute)[reference.name]


def load_object(target: str, kind: str) -> Any:
    """Return the object at "module:attribute", looking in the working folder first.

    Args:
        target: what the user wrote.
        kind: what it should be, for the message.

    Raises:
        ArgumentError: if there is no such module or attribute.
    """
    module, _, attribute = target.partition(":")
    found = _module(module, target, kind)
    if not hasattr(found, attribute):
        raise ArgumentError(
            f"{target!r} names no {kind}: {module} has no attribute {attribute!r}"
        )
    return getattr(found, attribute)


def _module(name: str, target: str, kind: str) -> Any:
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        exists = bool(name) and importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of a parent package
        exists = False
    if not exists:
        raise ArgumentError(
            f"{target!r} names no {kind}: there is no module {name!r} in {folder} or "
            f"among the installed packages; write module:attribute"
        )
    return import_module(name)


def _prefixed(prefix: str) -> Iterable[Reference]:
    """Return the catalogue's claims with a prefix, loading no more files than needed."""
    stem = prefix.partition("/")[0]
    near = [file for file in catalogue.files() if file.startswith(stem)]
    for candidates in (near, catalogue.files()):
        found = [
            reference
            for file in candidates
            for reference in _of_file(file)
            if reference.name.startswith(prefix) or reference.name == f"{file}/"
        ]
        if found:
            return found
    raise ArgumentError(
        f"no claim's name starts with {prefix!r}; `asymptest claims` lists the names"
    )


def _of_file(file: str) -> list[Reference]:
    module = f"{CATALOGUE}.{file}"
    try:
        return [Reference(claim.name, module) for claim in catalogue.claims_of(file)]
    except Exception:  # reported when it is loaded again to be checked
        return [Reference(f"{file}/", module)]


def _outside(target: str) -> list[Reference]:
    module, _, attribute = target.partition(":")
    try:
        load_object(target, "claim")
    except ArgumentError:
        raise
    except Exception:  # reported when it is loaded again to be checked
        return [Reference(target, module, attribute)]
    return [Reference(name, module, attribute) for name in _claims(module, attribute)]


def _claims(module: str, attribute: str) -> dict[str, Claim]:
    value = getattr(import_module(module), attribute)
    claims = (value,) if isinstance(value, Claim) else tuple(value)
    for claim in claims:
        if not isinstance(claim, Claim):
            raise ArgumentError(
                f"{module}:{attribute} must be a Claim or a tuple of Claims; it holds "
                f"a {type(claim).__name__}"
            )
    return {claim.name: claim for claim in claims}
