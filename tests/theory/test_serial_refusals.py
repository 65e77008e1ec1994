"""What cannot be stored, and what is no stored expression, is refused by name."""

import json
import subprocess
import sys
from typing import Any

import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

from asymptest.theory.errors import StorageError
from asymptest.theory.serial import DEPTH, from_json, to_json
from asymptest.theory.steps import E

x, y = sp.symbols("x y", real=True)
p = sp.Symbol("p", positive=True)
phi = sp.Function("phi")

# --- what is not stored ----------------------------------------------------------------


class exp(sp.Function):  # noqa: N801 -- named like the one of SymPy
    """A user's own function."""


def nested(depth: int) -> Any:
    expr: Any = x
    for _ in range(depth - 1):
        expr = E(expr)
    return expr


@pytest.mark.parametrize(
    "part",
    [
        sp.Dummy("x"),
        sp.Wild("x"),
        sp.MatrixSymbol("M", 2, 2),
        sp.Matrix([[x]]).as_immutable(),
        sp.Lambda(x, x),
        sp.Integral(x, x),
        sp.Interval(0, 1),
        sp.Function("f", nargs=1)(x),
        exp(x),
        sp.Symbol("x y"),
        sp.Symbol("__import__('os').system('true')"),
        sp.Symbol("x\n"),
        sp.Symbol(""),
        sp.Function("f(x)")(x),
        sp.Integer(2) ** 2_000,
        sp.Basic(),
        # SymPy lets such parts pass where it does not look.
        *(sp.Basic.__new__(sp.Tuple, part) for part in (None, "x", 3, sp.exp)),
    ],
    ids=lambda part: str(part)[:40],
)
def test_other_parts_are_not_stored(part: Any) -> None:
    with pytest.raises(StorageError):
        to_json(part)
    with pytest.raises(StorageError):
        to_json(sp.Tuple(x, part))


def test_depth_and_size_end_where_they_are_read() -> None:
    assert from_json(to_json(nested(DEPTH))) == nested(DEPTH)
    for depth in (DEPTH + 1, 100_000):
        tree = [["Symbol", "x"], *(["E", n] for n in range(depth - 1))]
        with pytest.raises(StorageError, match="depth"):
            from_json(tree)
    with pytest.raises(StorageError, match="depth"):
        to_json(nested(DEPTH + 1))
    deep: Any = x
    for _ in range(10_000):  # deeper than Python recurses
        deep = sp.Basic.__new__(E, deep)
    with pytest.raises(StorageError, match="depth"):
        to_json(deep)
    expr: Any = x
    for _ in range(25):  # 2**25 parts in 26 nodes
        expr = E(expr, expr)
    with pytest.raises(StorageError, match="size"):
        to_json(expr)
    with pytest.raises(StorageError, match="size"):
        from_json([["Symbol", "x"], *(["E", n, n] for n in range(60))])


# --- what is not read ------------------------------------------------------------------

CODE = "__import__('os').system('true')"
X: list[Any] = ["Symbol", "x"]

MALFORMED: list[tuple[Any, str]] = [
    (None, "list of nodes"),
    ([], "list of nodes"),
    ("x", "list of nodes"),
    ({"Symbol": "x"}, "list of nodes"),
    ([[]], "are no node"),
    (["x"], "a node is"),
    ([X, None], "node 1"),
    ([[["Symbol"], "x"]], "a node is"),
    ([["Symbol", "x", ["positive"]]], "a node is"),
    ([["Rational", True, 1]], "a node is"),
    ([["Rational", 1.5, 1]], "a node is"),
    ([["Rational", "1", 1]], "are no node"),
    ([["Rational", 1]], "are no node"),
    ([["Rational", 2, 4]], "not what"),
    ([["Rational", 1, -2]], "not what"),
    ([["Rational", 1, 0]], "not what"),
    ([["Rational", 10**700, 1]], "bits"),
    ([["Float", 2, 0, 53]], "not what"),  # 1 * 2**1 in SymPy's form
    ([["Float", 7, 0, 2]], "not what"),  # three bits at a precision of two
    ([["Float", 1, 0, 0]], "are no node"),
    ([["Float", 1, 0, -1]], "are no node"),
    ([["__import__", "os"]], "are no node"),
    ([["eval", CODE]], "are no node"),
    ([["sympify", CODE]], "are no node"),
    ([["S", CODE]], "are no node"),
    ([X, ["Lambda", 0, 0]], "are no node"),
    ([X, ["lambdify", 0, 0]], "are no node"),
    ([X, ["Basic", 0]], "are no node"),
    ([X, ["Function", 0]], "are no node"),
    ([X, ["Dummy", 0]], "are no node"),
    ([["Dummy", "x"]], "are no node"),
    ([["Symbol", CODE]], "the name"),
    ([["Symbol", ""]], "the name"),
    ([["Symbol"]], "are no node"),
    ([["Symbol", 3]], "are no node"),
    ([X, ["Symbol", "x", 0]], "are no node"),
    ([["Symbol", "x", "cls"]], "assumptions"),
    ([["Symbol", "x", "name"]], "assumptions"),
    ([["Symbol", "x", "not  real"]], "assumptions"),
    ([["Symbol", "x", "real", "real"]], "not what"),
    ([["Symbol", "x", "positive", "negative"]], "node 0"),
    ([X, ["Undefined", CODE, 0]], "the name"),
    ([X, ["Undefined", "f", "eval", 0]], "assumptions"),
    ([X, ["Undefined", "f", "positive", 0]], "not what"),  # which also is real
    ([X, ["Undefined", "f", 0, "x"]], "assumptions"),
    ([X, ["Add", 0]], "wrong arguments"),
    ([X, ["Add"]], "wrong arguments"),
    ([X, ["Add", 0, 1]], "earlier"),
    ([X, ["Add", 0, -1]], "earlier"),
    ([X, ["Add", 0, "Symbol"]], "are no node"),
    ([X, [0, "Add", 0]], "not what"),
    ([X, ["Pow", 0, 0, 0]], "wrong arguments"),
    ([X, ["sin"]], "wrong arguments"),
    ([X, ["sin", 0, 0]], "wrong arguments"),
    ([["BooleanTrue"], X, ["Mul", 0, 1]], "wrong arguments"),
    ([["BooleanTrue"], ["E", 0]], "wrong arguments"),
    ([["BooleanTrue", 0]], "are no node"),
    ([["Rational", 1, 1], ["Not", 0]], "wrong arguments"),
    ([X, ["Piecewise", 0]], "wrong arguments"),
    ([X, ["Derivative", 0, 0]], "wrong arguments"),
    ([X, ["Tuple", 0], ["Tuple"], ["Subs", 0, 1, 2]], "[Nn]umber of point"),
    ([X, ["Tuple"], ["Subs", 0, 1, 1]], "not what"),
]


@pytest.mark.parametrize(("tree", "reason"), MALFORMED)
def test_malformed_trees_are_refused(tree: Any, reason: str) -> None:
    with pytest.raises(StorageError, match=reason):
        from_json(tree)


def test_no_text_is_evaluated() -> None:
    trees = [to_json(sp.Tuple(phi(x), sp.Float(0.1), sp.Subs(E(p), p, 0)))]
    trees += [tree for tree, reason in MALFORMED if reason != "bits"]
    # Python reports each compilation, so whatever SymPy might call is covered. The first
    # round is for the modules that SymPy loads late.
    code = """if True:
        import json, sys
        import sympy
        from asymptest.theory.errors import StorageError
        from asymptest.theory.serial import from_json

        def read_all(trees):
            refused = 0
            for tree in trees:
                try:
                    from_json(tree)
                except StorageError:
                    refused += 1
            return refused

        def watch(event, args):
            if event.split(".")[0] in ("compile", "exec", "import", "os", "open"):
                seen.append(event)

        trees, seen = json.load(sys.stdin), []
        read_all(trees)
        sympy.core.cache.clear_cache()
        sys.addaudithook(watch)
        refused = read_all(trees)
        found = list(seen)
        eval("1 + 1")
        print(refused, found, seen)
    """
    run = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(trees),
        capture_output=True,
        text=True,
        check=True,
    )
    refused, found, seen = run.stdout.split(" ", 2)
    assert int(refused) == len(trees) - 1
    assert found == "[]"
    assert "compile" in seen  # so the watch was awake


REAL: list[list[Any]] = to_json(
    sp.Tuple(
        sp.Eq(sp.Derivative(E(x * y), p), sp.Heaviside(x) / p**2),
        sp.Subs(phi(x), x, sp.Float(0.1)),
        sp.Piecewise((sp.Max(x, y), (x > 0) & (y > 0)), (sp.pi, True)),
    )
)
items = st.one_of(
    st.sampled_from([node[0] for node in REAL] + ["positive", "not real"]),
    st.integers(-2, len(REAL)),
    st.none() | st.booleans() | st.floats() | st.text(max_size=3),
)


def unfolded(tree: list[list[Any]]) -> Any:
    """Return the last node with its arguments put in for their numbers."""
    parts: list[Any] = []
    for node in tree:
        plain = node[0] in ("Rational", "Float")
        inner = (n if plain or isinstance(n, str) else parts[n] for n in node)
        parts.append(tuple(inner))
    return parts[-1]


@given(data=st.data())
def test_a_damaged_tree_is_refused_or_read_as_it_stands(data: st.DataObject) -> None:
    tree = [list(node) for node in REAL]
    for _ in range(data.draw(st.integers(1, 3))):
        node = data.draw(st.sampled_from(tree))
        place = data.draw(st.integers(0, len(node)))
        node[place : place + data.draw(st.integers(0, 1))] = data.draw(
            st.lists(items, max_size=2)
        )
    try:
        read = from_json(tree)
    except StorageError:
        return
    assert unfolded(to_json(read)) == unfolded(tree)
