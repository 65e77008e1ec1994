"""Derivations kept on disk, so that each is made once and not once a process.

A derivation follows from its arguments, from the text of theory/ (which fixes the format,
too) and from SymPy's version. The SHA-256 of all that names its file, so no file is ever
out of date. That a derivation finds no closed form is kept as well.

The files lie in $ASYMPTEST_CACHE (which turns this off where it is empty or "off"), else
in $XDG_CACHE_HOME/asymptest, else in ~/.cache/asymptest. They are a few kB each and are
never deleted, also not those of an older version: to clear them, delete the folder.

Nothing here is needed for a result. A folder that cannot be read or written, and a file
that is cut off, damaged or somebody else's, mean that the derivation is made again. Files
are replaced as a whole, so processes may share the folder and stop at any time.

What is read is not trusted: it is JSON, and theory/serial.py builds nothing from it but
known classes. Whoever can write in the folder can still put a wrong formula there, so it
is made for its user alone, and a shared one should be writable only to those you trust.
"""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from hashlib import sha256
from pathlib import Path
from tempfile import mkstemp
from typing import Any, ParamSpec

import sympy as sp

from asymptest.theory.errors import NoClosedFormError, StorageError
from asymptest.theory.serial import from_json, to_json
from asymptest.theory.steps import Derived, Step

Arguments = ParamSpec("Arguments")


def digest_of(package: Path) -> str:
    """Return a digest of all modules in a folder, names and text, or "" without any."""
    digest = sha256()
    # An editor may leave a dangling link as its lock.
    paths = sorted(path for path in package.rglob("*.py") if path.is_file())
    for path in paths:
        text = path.read_bytes()
        digest.update(f"{path.relative_to(package).as_posix()} {len(text)} ".encode())
        digest.update(text)
    return digest.hexdigest() if paths else ""


# At import, when the code itself is read: a file edited later is not what derives here.
THEORY = digest_of(Path(__file__).parent)


def stored(derive: Callable[Arguments, Derived]) -> Callable[Arguments, Derived]:
    """Return `derive` with its results kept on disk, and its refusals.

    Args:
        derive: a pure function of SymPy expressions. It may raise NoClosedFormError, which
            is kept as its message; other errors are not kept.
    """

    @wraps(derive)
    def load_or_derive(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Derived:
        path = _path(derive, args, kwargs)
        if path is None:
            return derive(*args, **kwargs)
        match _load(path):
            case Derived() as derived:
                return derived
            case str(refusal):
                raise NoClosedFormError(refusal)
            case None:
                pass
        try:
            derived = derive(*args, **kwargs)
        except NoClosedFormError as error:
            _save(path, str(error))
            raise
        _save(path, derived)
        return derived

    return load_or_derive


def folder() -> Path | None:
    """Return where derivations are kept, or None where they are not."""
    chosen = os.environ.get("ASYMPTEST_CACHE")
    if chosen is not None:
        return None if chosen in ("", "off") else Path(chosen)
    caches = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if caches.is_absolute():  # the specification of XDG ignores others
        return caches / "asymptest"
    try:
        return Path.home() / ".cache" / "asymptest"
    except RuntimeError:  # a user without a home
        return None


def _path(derive: Callable[..., Any], args: Any, kwargs: Any) -> Path | None:
    """Return the file of a call, or None if its result is not kept."""
    place = folder()
    if place is None or not THEORY:
        return None
    try:
        arguments = [
            *map(to_json, args),
            *([name, to_json(kwargs[name])] for name in sorted(kwargs)),
        ]
    except StorageError:
        return None
    call = [derive.__module__, derive.__qualname__, arguments]
    key = sha256(json.dumps([sp.__version__, THEORY, call]).encode()).hexdigest()
    return place / f"{key}.json"


def _load(path: Path) -> Derived | str | None:
    """Return the derivation in a file, the reason why there is none, or None."""
    try:
        checksum, _, content = path.read_bytes().partition(b"\n")
        if checksum != _checksum(path, content):
            return None
        return _unpacked(json.loads(content))
    # JSON too deep for Python's parser; a ValueError is text that is no JSON, and ours.
    except (OSError, RecursionError, ValueError):
        return None


def _save(path: Path, outcome: Derived | str) -> None:
    """Write a file if that is possible, at once and as a whole."""
    with suppress(OSError, StorageError):
        content = json.dumps(_packed(outcome), separators=(",", ":")).encode()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = mkstemp(dir=path.parent, suffix=".tmp")  # mode 0o600
        try:
            with open(descriptor, "wb") as file:
                file.write(_checksum(path, content) + b"\n" + content)
            os.replace(temporary, path)
        except BaseException:  # an interrupt, too
            with suppress(OSError):
                os.unlink(temporary)
            raise


def _checksum(path: Path, content: bytes) -> bytes:
    # With the name of the file: a copy under another name is another derivation.
    return sha256(path.name.encode() + content).hexdigest().encode()


def _packed(outcome: Derived | str) -> dict[str, Any]:
    if isinstance(outcome, str):
        return {"no closed form": outcome}
    results = (step.result for step in outcome.steps)
    return {
        "steps": [[step.name, step.reason] for step in outcome.steps],
        # One tree, so that what the value and the steps share is stored once.
        "value and results": to_json(sp.Tuple(outcome.value, *results, sympify=False)),
    }


def _unpacked(content: Any) -> Derived | str:
    match content:
        case {"no closed form": str(refusal)}:
            return refusal
        case {"steps": [*texts], "value and results": tree}:
            value, *results = from_json(tree).args
            if not isinstance(value, sp.Expr):
                raise StorageError(f"a value must be an expression; got {value!r:.80}")
            steps = zip(texts, results, strict=True)
            return Derived(value, tuple(_step(*step) for step in steps))
        case _:
            raise StorageError("neither a derivation nor the reason why there is none")


def _step(texts: Any, result: sp.Basic) -> Step:
    match texts:
        case [str(name), str(reason)]:
            return Step(name, reason, result)
        case _:
            raise StorageError(f"{texts!r:.80} is not the name and reason of a step")
