"""Expressions as JSON, rebuilt exactly and without running any text.

A tree is a list of nodes, each subexpression once, in an order that puts arguments first:

    E x = 2 p    is    [["Symbol", "x"], ["E", 0], ["Rational", 2, 1],
                        ["Symbol", "p", "positive"], ["Mul", 2, 3], ["Equality", 1, 4]]

A node names its class in the tables below; integers are the numbers of its arguments, or
the digits of a number. SymPy's constructors, and so its unpickling, would evaluate what
stands unevaluated in a step of a derivation; hence compound expressions are put together
by `Basic.__new__`, as SymPy does itself once it has evaluated.

What is read is not trusted: a class outside the tables, arguments of the wrong kind, and
nodes that `to_json` would not have written are errors, and no text is evaluated.
"""

import re
from typing import Any

import sympy as sp
from sympy.core.assumptions import _assume_defined
from sympy.core.function import UndefinedFunction
from sympy.core.logic import fuzzy_and
from sympy.core.operations import LatticeOp
from sympy.functions.elementary.piecewise import ExprCondPair
from sympy.logic.boolalg import Boolean, BooleanFunction

from asymptest.theory.errors import StorageError
from asymptest.theory.steps import Cov, E, Var

DEPTH = 100  # of nesting: SymPy recurses, and Python allows about 1000 calls
SIZE = 10**6  # with shared parts counted each time: few nodes can unfold to very many
BITS = 2_000  # of an integer: Python converts 640 digits to text, however it is set

Node = tuple[str | int, ...]

CONSTANTS: dict[str, Any] = {
    type(constant).__name__: constant
    for constant in (
        *(sp.pi, sp.E, sp.I, sp.EulerGamma, sp.true, sp.false),
        *(sp.oo, -sp.oo, sp.zoo, sp.nan),
    )
}

# By class: the kinds of the first arguments, and the kind of all further ones, if any.
COMPOUNDS: dict[Any, tuple[tuple[Any, ...], Any]] = {
    **dict.fromkeys((sp.Add, sp.Mul, sp.Max, sp.Min), ((sp.Expr, sp.Expr), sp.Expr)),
    **dict.fromkeys((sp.Pow, sp.Lt, sp.Le, sp.Gt, sp.Ge), ((sp.Expr, sp.Expr), ())),
    **dict.fromkeys((sp.Eq, sp.Ne), ((sp.Basic, sp.Basic), ())),
    **dict.fromkeys((sp.And, sp.Or), ((Boolean, Boolean), Boolean)),
    sp.Not: ((Boolean,), ()),
    sp.Piecewise: ((ExprCondPair,), ExprCondPair),
    ExprCondPair: ((sp.Expr, Boolean), ()),
    sp.Derivative: ((sp.Expr, sp.Tuple), sp.Tuple),
    sp.Subs: ((sp.Basic, sp.Tuple, sp.Tuple), ()),
    sp.Tuple: ((), sp.Basic),
}

FUNCTIONS: tuple[Any, ...] = (
    *(sp.Abs, sp.sign, sp.re, sp.im, sp.conjugate, sp.Heaviside, sp.DiracDelta),
    *(sp.exp, sp.log, sp.gamma, sp.factorial, sp.erf, sp.erfc, sp.erfi),
    *(sp.sin, sp.cos, sp.tan, sp.asin, sp.acos, sp.atan, sp.atan2),
    *(sp.sinh, sp.cosh, sp.tanh, sp.asinh, sp.acosh, sp.atanh),
    *(E, Var, Cov),
)

CLASSES: dict[str, Any] = {cls.__name__: cls for cls in (*COMPOUNDS, *FUNCTIONS)}


def to_json(expr: sp.Basic) -> list[list[str | int]]:
    """Return `expr` as a tree of lists, strings and integers; the last node is the root.

    Raises:
        StorageError: if some part is of a class that cannot be stored, such as a Dummy,
            which is equal to nothing that is read later.

    >>> to_json(sp.Symbol("p", positive=True) ** 2)
    [['Symbol', 'p', 'positive'], ['Rational', 2, 1], ['Pow', 0, 1]]
    """
    numbers: dict[Node, int] = {}
    extents: list[tuple[int, int]] = []
    seen: dict[int, int] = {}  # by id, so that a shared part is visited once

    def number(part: Any) -> int:
        if id(part) not in seen:
            head = _head(part)
            inner = [number(argument) for argument in part.args]
            node = (*head, *inner)
            if node not in numbers:
                extents.append(_extent(inner, extents))
                numbers[node] = len(numbers)
            seen[id(part)] = numbers[node]
        return seen[id(part)]

    try:
        number(expr)
    except RecursionError:
        raise StorageError(f"depth {DEPTH} is the most that is stored") from None
    return [list(node) for node in numbers]


def from_json(tree: Any) -> sp.Basic:
    """Return the expression that `to_json` wrote: equal, and with the same `sp.srepr`.

    Args:
        tree: what `json.loads` returned; it may hold anything.

    Raises:
        StorageError: if it is not such a tree, or unfolds to an enormous expression.

    >>> from_json([["Rational", 1, 1], ["Add", 0, 0]])
    1 + 1
    >>> from_json([["sympify", "1 + 1"]])
    Traceback (most recent call last):
        ...
    asymptest.theory.errors.StorageError: node 0: ['sympify', '1 + 1'] and 0 integers are no node
    """
    if not isinstance(tree, list) or not tree:
        raise StorageError("a stored expression is a list of nodes with at least one")
    parts: list[Any] = []
    extents: list[tuple[int, int]] = []
    for place, node in enumerate(tree):
        try:
            part, inner = _part(node, parts)
            extents.append(_extent(inner, extents))
        # SymPy may raise anything over nonsense, such as a number that is no number.
        except Exception as error:
            raise StorageError(f"node {place}: {error}") from None
        parts.append(part)
    return parts[-1]


def _extent(inner: list[int], extents: list[tuple[int, int]]) -> tuple[int, int]:
    """Return depth and size of a part from those of its arguments."""
    depth = 1 + max((extents[place][0] for place in inner), default=0)
    size = 1 + sum(extents[place][1] for place in inner)
    if depth > DEPTH or size > SIZE:
        raise StorageError(f"depth {depth} or size {size} is more than is stored")
    return depth, size


def _head(part: Any) -> Node:
    """Return the node of `part` without its arguments."""
    kind, name = type(part), type(part).__name__
    if isinstance(part, sp.Rational):
        return ("Rational", _bounded(part.p), _bounded(part.q))
    if kind is sp.Float:
        negative, digits, exponent, _ = part._mpf_
        digits = int(-digits if negative else digits)
        return ("Float", _bounded(digits), int(exponent), part._prec)
    if kind is sp.Symbol:
        return ("Symbol", _name(part.name), *_words(part._assumptions_orig))
    if isinstance(kind, UndefinedFunction):
        # SymPy derives these in an order that changes from one process to the next.
        return ("Undefined", _name(name), *sorted(_words(kind._kwargs)))
    if name in CONSTANTS and part is CONSTANTS[name]:
        return (name,)
    if name in CLASSES and kind is CLASSES[name]:
        return (name,)
    raise StorageError(f"expressions of the class {name} are not stored")


def _part(node: Any, parts: list[Any]) -> tuple[Any, list[int]]:
    """Return the expression of a node, given those before it, and its arguments' places."""
    if not (isinstance(node, list) and all(type(item) in (str, int) for item in node)):
        raise StorageError("a node is a list of strings and integers")
    words = [item for item in node if isinstance(item, str)]
    integers = [item for item in node if isinstance(item, int)]
    match words, integers:
        case ["Rational"], [p, q]:
            part, inner = sp.Rational(_bounded(p), _bounded(q)), []
        case ["Float"], [digits, exponent, precision] if precision > 0:
            # The form in which SymPy pickles a Float; the only one that keeps every bit.
            size = _bounded(abs(digits))
            bits = (int(digits < 0), f"{size:x}", exponent, size.bit_length())
            part, inner = sp.Float(bits, precision=precision), []
        case ["Symbol", name, *facts], []:
            part, inner = sp.Symbol(name, **_assumptions(facts)), []
        case ["Undefined", name, *facts], _:
            function: Any = sp.Function(_name(name), **_assumptions(facts))
            part, inner = _compound(function, _at(integers, parts)), integers
        case [kind], [] if kind in CONSTANTS:
            part, inner = CONSTANTS[kind], []
        case [kind], _ if kind in CLASSES:
            part, inner = _compound(CLASSES[kind], _at(integers, parts)), integers
        case _:
            raise StorageError(
                f"{words!r:.80} and {len(integers)} integers are no node"
            )
    # Also 2/4, digits beyond the precision, misplaced words: one way to write a part.
    if (*_head(part), *inner) != tuple(node):
        raise StorageError("not what to_json writes")
    return part, inner


def _at(places: list[int], parts: list[Any]) -> tuple[Any, ...]:
    if not all(0 <= place < len(parts) for place in places):
        raise StorageError("an argument must be an earlier node")
    return tuple(parts[place] for place in places)


def _compound(cls: Any, arguments: tuple[Any, ...]) -> Any:
    """Return the expression as it stands, with what its constructor would have noted."""
    is_function = cls not in COMPOUNDS
    first, rest = ((), sp.Expr) if is_function else COMPOUNDS[cls]
    kinds = (*first, *[rest] * (len(arguments) - len(first)))
    fits = len(kinds) == len(arguments) and all(map(isinstance, arguments, kinds))
    if not fits or (is_function and len(arguments) not in cls.nargs):
        raise StorageError(f"wrong arguments for {cls.__name__}")
    if cls is sp.Subs:
        # It notes the expression with other symbols, but keeps its arguments as they are.
        return sp.Subs(*arguments)
    part: Any = sp.Basic.__new__(cls, *arguments)
    if cls in (sp.Add, sp.Mul, sp.Pow):
        part.is_commutative = fuzzy_and(a.is_commutative for a in arguments)
    if issubclass(cls, LatticeOp):
        part._argset = frozenset(arguments)
    if is_function or issubclass(cls, BooleanFunction):
        part.nargs = part.func.nargs
    return part


def _bounded(integer: int) -> int:
    if integer.bit_length() > BITS:
        raise StorageError(f"an integer of more than {BITS} bits is not stored")
    return int(integer)


def _name(name: str) -> str:
    """Return a name that holds no code: whoever compiles an expression prints names."""
    if not re.fullmatch(r"[\w\\{}^,']+", name):
        raise StorageError(
            f"the name {name!r:.80} has more than letters and _^{{}}\\,'"
        )
    return name


def _words(facts: dict[str, Any]) -> list[str]:
    return [f if holds else f"not {f}" for f, holds in _known(facts).items()]


def _assumptions(words: list[str]) -> dict[str, Any]:
    return _known({w.removeprefix("not "): not w.startswith("not ") for w in words})


def _known(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the facts; SymPy would make others attributes of an undefined function."""
    if not facts.keys() <= _assume_defined:
        raise StorageError(f"{[*facts]!r:.80} are not all assumptions")
    return facts
