"""Derivations come back from the disk, and nothing on the disk can do any harm."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import sympy as sp

from asymptest.theory import activations as act
from asymptest.theory import store
from asymptest.theory.errors import NoClosedFormError
from asymptest.theory.gaussian_calculus import product_moment
from asymptest.theory.steps import Derived, E, Step, equate
from asymptest.theory.store import digest_of, folder, stored

x = sp.Symbol("x", positive=True)
SQUARE = Derived(x**2, (Step("Square", "Since $x$ is given.", equate(E(x), x**2)),))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder in which derivations are kept during the test."""
    monkeypatch.setenv("ASYMPTEST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Count:
    """A derivation that counts how often it is made."""

    def __init__(self, outcome: Derived | BaseException = SQUARE) -> None:
        self.outcome = outcome
        self.calls = 0

    def square(self, expr: Any) -> Derived:
        self.calls += 1
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    def __call__(self, expr: Any = x) -> Derived:
        """Derive as a new process would, which knows the disk alone."""
        return stored(self.square)(expr)


def only_file(place: Path) -> Path:
    (path,) = place.iterdir()
    return path


# --- what is kept ----------------------------------------------------------------------


def test_a_derivation_is_made_once(place: Path) -> None:
    derive = Count()
    assert derive() == SQUARE
    again = derive()
    assert derive.calls == 1
    assert again == SQUARE
    assert again is not SQUARE  # so it came from the disk
    assert [type(step) for step in again.steps] == [Step]


def test_that_there_is_no_closed_form_is_found_once(place: Path) -> None:
    derive = Count(NoClosedFormError("no rule for tanh"))
    for _ in range(3):
        with pytest.raises(NoClosedFormError, match=r"^no rule for tanh$"):
            derive()
    assert derive.calls == 1


@pytest.mark.parametrize("error", [ValueError("slip"), KeyboardInterrupt()])
def test_other_errors_are_not_kept(place: Path, error: BaseException) -> None:
    derive = Count(error)
    for _ in range(2):
        with pytest.raises(type(error)):
            derive()
    assert derive.calls == 2
    assert not place.exists()


def test_what_cannot_be_stored_is_derived_each_time(place: Path) -> None:
    argument, result = Count(), Count(Derived(sp.Dummy("x"), ()))
    for _ in range(2):
        argument(sp.Dummy("x"))
        result()
    assert (argument.calls, result.calls) == (2, 2)
    assert not place.exists()


def test_every_argument_and_function_has_its_own_file(place: Path) -> None:
    @stored
    def first(a: Any, b: Any = x) -> Derived:
        return Derived(a - b, ())

    @stored
    def second(a: Any, b: Any = x) -> Derived:
        return Derived(a + b, ())

    y, same_name = sp.Symbol("y"), sp.Symbol("x", real=True)
    for a, b in ((x, y), (y, x), (same_name, x), (x, x), (2 * x, x)):
        assert first(a, b).value == a - b
        assert first(a, b=b).value == a - b
        assert first(a=a, b=b).value == a - b
        assert second(a, b).value == a + b
    assert first(y).value == y - x
    assert len(list(place.iterdir())) == 5 * 4 + 1


@pytest.mark.parametrize(
    "phi", [act.relu, act.gelu, act.erf, act.cos, act.polyrelu(1, 2, 3)], ids=repr
)
def test_derivations_of_the_calculus_come_back_fast(
    place: Path, phi: act.Activation
) -> None:
    product_moment.cache_clear()
    made = product_moment(phi.expr, phi.expr)
    derive = stored(lambda f, g: product_moment(f, g))
    derive(phi.expr, phi.expr)
    seconds: list[float] = []
    read = None
    for _ in range(5):
        sp.core.cache.clear_cache()
        product_moment.cache_clear()
        start = time.process_time()
        read = derive(phi.expr, phi.expr)
        seconds.append(time.process_time() - start)
    assert product_moment.cache_info().misses == 0
    assert read == made
    assert read is not None
    assert sp.srepr(read.value) == sp.srepr(made.value)
    assert [sp.srepr(step.result) for step in read.steps] == [
        sp.srepr(step.result) for step in made.steps
    ]
    # Of computing, not of waiting for others: 4 ms for the longest, and 15 ms while every
    # annotation is checked.
    assert min(seconds) < 0.05


# --- what names a file -----------------------------------------------------------------


@pytest.mark.parametrize("changed", [(store, "THEORY"), (sp, "__version__")])
def test_another_version_derives_anew(
    place: Path, monkeypatch: pytest.MonkeyPatch, changed: tuple[Any, str]
) -> None:
    derive = Count()
    derive()
    with monkeypatch.context() as patch:
        patch.setattr(*changed, "another")
        derive()
        derive()
        assert derive.calls == 2
    derive()
    assert derive.calls == 2  # the first file is still there


def test_the_digest_is_that_of_names_and_text(tmp_path: Path) -> None:
    package = tmp_path / "package"
    (package / "inner").mkdir(parents=True)
    (package / "a.py").write_text("x = 1\n")
    (package / "inner" / "b.py").write_text("y = 2\n")
    seen = [digest_of(package)]

    def changes() -> bool:
        seen.append(digest_of(package))
        return seen[-1] not in seen[:-1]

    # What Python and editors leave behind is not the text.
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "a.cpython-311.pyc").write_bytes(b"\0")
    (package / "README").write_text("text")
    (package / ".#a.py").symlink_to("someone@somewhere")
    assert not changes()
    seen.pop()
    (package / "inner" / "b.py").write_text("y = 3\n")
    assert changes()
    (package / "a.py").write_text("x = 1\ny")
    (package / "inner" / "b.py").write_text(" = 3\n")
    assert changes()
    # One text that reads like the two of before with the name of the second between.
    both = "x = 1\nyinner/b.py  = 3\n"
    (package / "a.py").write_text(both)
    (package / "inner" / "b.py").unlink()
    assert changes()
    (package / "a.py").rename(package / "c.py")
    assert changes()
    (package / "empty.py").touch()
    assert changes()
    (package / "empty.py").unlink()
    (package / "c.py").unlink()
    assert changes()


def test_any_module_of_the_theory_changes_the_digest(tmp_path: Path) -> None:
    theory = tmp_path / "asymptest" / "theory"
    shutil.copytree(Path(store.__file__).parent, theory)
    path = os.pathsep.join([str(tmp_path), *sys.path])

    def digest() -> str:
        run = subprocess.run(
            [
                sys.executable,
                "-c",
                "from asymptest.theory import store as s; print(s.THEORY)",
            ],
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=True,
        )
        return run.stdout

    before = digest()
    assert len(before.strip()) == 64
    with (theory / "gaussian_calculus.py").open("a") as file:
        file.write("# another comment\n")
    assert digest() != before


def test_without_the_text_nothing_is_kept(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "THEORY", digest_of(tmp_path))
    derive = Count()
    derive()
    derive()
    assert derive.calls == 2
    assert not place.exists()


# --- where files lie -------------------------------------------------------------------


def test_the_test_suite_has_a_folder_of_its_own() -> None:
    used = folder()
    assert used is not None
    assert used.parent == Path(tempfile.gettempdir())


@pytest.mark.parametrize("off", ["", "off"])
def test_it_can_be_turned_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, off: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("ASYMPTEST_CACHE", off)
    derive = Count()
    derive()
    derive()
    assert derive.calls == 2
    assert not list(tmp_path.iterdir())


def test_the_folder_follows_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASYMPTEST_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folder() == tmp_path / "own"
    monkeypatch.delenv("ASYMPTEST_CACHE")
    assert folder() == tmp_path / "xdg" / "asymptest"
    for without in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", without)
        assert folder() == tmp_path / ".cache" / "asymptest"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert folder() == tmp_path / ".cache" / "asymptest"


def test_a_user_without_a_home_derives_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("ASYMPTEST_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert folder() is None
    assert Count()() == SQUARE


@pytest.mark.skipif(os.name != "posix", reason="other systems have other permissions")
def test_files_are_for_their_user_alone(place: Path) -> None:
    Count()()
    assert place.stat().st_mode & 0o777 == 0o700
    assert only_file(place).stat().st_mode & 0o777 == 0o600


# --- what may be wrong with them -------------------------------------------------------


@pytest.mark.parametrize(
    "outcome", [SQUARE, NoClosedFormError("no rule")], ids=["derived", "refused"]
)
def test_no_cut_and_no_wrong_byte_is_read(
    place: Path, outcome: Derived | BaseException
) -> None:
    derive = Count(outcome)

    def call() -> None:
        try:
            assert derive() == outcome
        except NoClosedFormError as error:
            assert str(error) == str(outcome)  # noqa: PT017 -- raised or not

    call()
    path = only_file(place)
    whole = path.read_bytes()
    damaged = [whole[:length] for length in range(len(whole))]
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= 1  # digits become other digits: still JSON
        damaged.append(bytes(changed))
    for content in damaged:
        path.write_bytes(content)
        before = derive.calls
        call()
        assert derive.calls == before + 1
        assert only_file(place).read_bytes() == whole  # repaired


def forged(path: Path, content: bytes) -> bytes:
    """Return what the store would take for a file of its own."""
    return sha256(path.name.encode() + content).hexdigest().encode() + b"\n" + content


STEP = ["Square", "Since"]
TREE: list[list[Any]] = [["Rational", 1, 1], ["Tuple", 0, 0]]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"not JSON",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"1" * 10_000,
        b'{"no closed form": 3}',
        *(
            json.dumps({"steps": steps, "value and results": tree}).encode()
            for steps, tree in (
                (None, TREE),
                ([], TREE),
                ([STEP, STEP], TREE),
                ([["Square", 3]], TREE),
                ([["Square"]], TREE),
                (["Square"], TREE),
                ([STEP], None),
                ([STEP], [["Symbol", "x"]]),
                ([], [["Tuple"]]),
                ([STEP], [["BooleanTrue"], ["Tuple", 0, 0]]),
                ([STEP], [["sympify", "__import__('os').system('true')"]]),
                ([STEP], [["Symbol", "x"], *(["E", i, i] for i in range(90))]),
            )
        ),
    ],
    ids=lambda content: content[:90].decode(errors="replace"),
)
def test_foreign_content_is_derived_anew(place: Path, content: bytes) -> None:
    derive = Count()
    derive()
    path = only_file(place)
    path.write_bytes(forged(path, content))
    assert derive() == SQUARE
    assert derive.calls == 2
    assert derive() == SQUARE
    assert derive.calls == 2


def test_forged_files_above_fail_for_their_content(place: Path) -> None:
    derive = Count()
    derive()
    path = only_file(place)
    real = json.dumps({"steps": [STEP], "value and results": TREE}).encode()
    path.write_bytes(forged(path, real))
    assert derive().value == 1
    assert derive.calls == 1


def test_a_file_under_another_name_is_not_read(place: Path) -> None:
    derive = Count()
    derive(x)
    first = only_file(place)
    derive(x + 1)
    (second,) = set(place.iterdir()) - {first}
    shutil.copyfile(first, second)
    derive(x + 1)
    assert derive.calls == 3


def test_a_folder_in_place_of_the_file_does_no_harm(place: Path) -> None:
    derive = Count()
    derive()
    path = only_file(place)
    path.unlink()
    path.mkdir()
    assert derive() == SQUARE
    assert derive.calls == 2
    assert only_file(place) == path  # no temporary file is left


def test_a_place_that_is_no_folder_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("text")
    for below in ("file", "file/cache"):
        monkeypatch.setenv("ASYMPTEST_CACHE", str(tmp_path / below))
        assert Count()() == SQUARE
        with pytest.raises(NoClosedFormError):
            Count(NoClosedFormError("no rule"))()
    assert (tmp_path / "file").read_text() == "text"


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere"
)
def test_a_read_only_folder_does_no_harm(place: Path) -> None:
    place.mkdir(mode=0o500)
    assert Count()() == SQUARE
    place.chmod(0o700)
    assert not list(place.iterdir())


def raising(error: BaseException) -> Callable[..., None]:
    def replace(*args: Any) -> None:
        raise error

    return replace


def test_an_interrupt_leaves_nothing_behind(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "replace", raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        Count()()
    assert not list(place.iterdir())


def test_a_full_disk_leaves_nothing_behind(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "replace", raising(OSError("No space left on device")))
    assert Count()() == SQUARE
    assert not list(place.iterdir())


def test_the_old_file_stands_until_the_new_one_is_whole(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    derive = Count()
    derive()
    path = only_file(place)
    whole = path.read_bytes()
    replaced: list[Path] = []
    replace = os.replace

    def watched(new: Any, old: Any) -> None:
        assert Path(old) == path
        assert path.read_bytes() == b"damaged"
        assert Path(new).read_bytes() == whole
        replace(new, old)
        replaced.append(path)

    path.write_bytes(b"damaged")
    monkeypatch.setattr(os, "replace", watched)
    derive()
    assert replaced == [path]
    assert path.read_bytes() == whole


def test_a_file_is_whole_while_processes_write_it_and_are_killed(place: Path) -> None:
    # Large, so that a reader would meet it half written, were it ever so.
    refusal = "no rule " * 500_000
    code = """if True:
        from asymptest.theory import store

        path, refusal = store.folder() / "one.json", "no rule " * 500_000
        store._save(path, refusal)
        print("writing", flush=True)
        while True:
            store._save(path, refusal)
    """
    command = [sys.executable, "-c", code]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for run in runs:
            assert run.stdout is not None
            assert run.stdout.readline().strip() == b"writing"
        for _ in range(60):
            assert store._load(place / "one.json") == refusal
    finally:
        for run in runs:
            run.kill()
            run.communicate()
    assert store._load(place / "one.json") == refusal
