"""The recursion of a whole network: one equation a layer, and how each was derived."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sympy as sp

from asymptest.theory.definition import K_MATRIX, T
from asymptest.theory.logits import logits_law
from asymptest.theory.network import (
    Chain,
    Mlp,
    Network,
    Product,
    Repeat,
    Residual,
    as_network,
    pretty,
)
from asymptest.theory.patterns import (
    Elementwise,
    Linear,
    Saturated,
    Scored,
    Shaped,
    Softmax,
    Uniform,
)
from asymptest.theory.rules import mixes
from asymptest.theory.steps import Step, equate, mathml, statement_text
from asymptest.theory.update import (
    A_MATRIX,
    BRANCH_MATRIX,
    NEXT_MATRIX,
    OTHER_MATRIX,
    Layer,
    update,
)


@dataclass(frozen=True)
class Line:
    """One layer: its equation between numbered kernels, and the steps behind it."""

    layer: str
    equation: sp.Eq
    steps: tuple[Step, ...]
    note: str = ""


@dataclass(frozen=True)
class Loop:
    """Lines that are repeated: each copy starts from the kernel the last one left."""

    depth: int
    start: sp.MatrixSymbol
    end: sp.MatrixSymbol
    lines: tuple["Line | Loop", ...]


@dataclass(frozen=True)
class Recursion:
    """The kernel recursion of a network, K_0 being the kernel of its input."""

    network: str
    lines: tuple[Line | Loop, ...]

    @property
    def equations(self) -> tuple[sp.Eq, ...]:
        """One equation a layer, a repeated layer once."""
        return tuple(line.equation for line in _flat(self.lines))

    @property
    def steps(self) -> tuple[Step, ...]:
        """The derivation steps, layer by layer."""
        return tuple(step for line in _flat(self.lines) for step in line.steps)

    def text(self) -> str:
        """Return the recursion as text."""
        return "\n".join([self.network, *_text(self.lines, "  ")])

    def latex(self) -> str:
        """Return the recursion as a LaTeX align* environment."""
        rows = [rf"{sp.latex(e.lhs)} &= {sp.latex(e.rhs)}" for e in self.equations]
        return "\\begin{align*}\n" + " \\\\\n".join(rows) + "\n\\end{align*}"

    def mathml(self) -> str:
        """Return the recursion as presentation MathML, an element an equation."""
        return "\n".join(map(mathml, self.equations))

    def __str__(self) -> str:
        return self.text()


def recursion(network: Network) -> Recursion:
    """Return the kernel recursion of `network`, derived from its finite definition.

    Raises:
        NoClosedFormError: if an activation has no closed form.

    >>> from asymptest.theory.network import Dense
    >>> recursion(Dense(2)).equations
    (Eq(K_1, 2*K_0),)
    """
    lines, _ = _lines(as_network(network), 0, 0)
    return Recursion(pretty(network), lines)


def kernel_symbol(number: int) -> sp.MatrixSymbol:
    """Return the T x T matrix symbol K_number."""
    return sp.MatrixSymbol(f"K_{number}", T, T)


def _lines(
    network: Network, at: int, taken: int
) -> tuple[tuple[Line | Loop, ...], int]:
    """Return the lines of `network` that start from K_at, and the number they end at.

    Numbers up to `taken` are those of other kernels.
    """
    match network:
        case Chain(layers):
            found: list[Line | Loop] = []
            for layer in layers:
                lines, at = _lines(layer, at, taken)
                taken = at
                found += lines
            return tuple(found), at
        case Repeat(block, depth):
            lines, end = _lines(block, at, taken)
            return (Loop(depth, kernel_symbol(at), kernel_symbol(end), lines),), end
        case Mlp():
            return _lines(network.layers, at, taken)
        case Residual(branch) if mixes(branch) is None:
            lines, end = _lines(branch, at, taken)
            return (*lines, _line(network, at, end + 1, end)), end + 1
        case Product(left, right):
            first, middle = _lines(left, at, taken)
            second, end = _lines(right, at, middle)
            last = _line(network, at, end + 1, middle, end)
            return (*first, *second, last), end + 1
        case _:
            return (_line(network, at, taken + 1),), taken + 1


def _line(layer: Layer, start: int, end: int, *branches: int) -> Line:
    derived = update(layer)
    symbols = {K_MATRIX: kernel_symbol(start), NEXT_MATRIX: kernel_symbol(end)}
    matrices = (BRANCH_MATRIX, OTHER_MATRIX)
    symbols |= dict(zip(matrices, map(kernel_symbol, branches), strict=False))
    lhs, rhs = (
        _substitute(side, dict(derived.values), symbols)
        for side in derived.equation.args
    )
    return Line(pretty(layer), equate(lhs, rhs), derived.steps, _note(layer))


def _substitute(side: Any, values: dict[Any, Any], symbols: dict[Any, Any]) -> Any:
    numbered = side.subs({s: sp.sympify(v) for s, v in values.items()})
    result = numbered.xreplace(symbols)
    return result.doit() if isinstance(result, sp.MatrixExpr) else result


def _note(layer: Layer) -> str:
    """Return the law of the attention matrix, which the equation calls A."""
    pattern = getattr(layer, "pattern", None)
    mask = getattr(layer, "mask", None)
    match pattern:
        case Uniform():
            return f"{A_MATRIX}: uniform over the visible positions ({mask!r} mask)"
        case Linear():
            law = update(layer).logits
            if law is None:
                return f"{A_MATRIX}: 1 where visible, else 0 ({mask!r} mask)"
            return f"{A_MATRIX} = {law.mean * sp.Symbol('K')}, {mask!r} mask"
        case Softmax() | Saturated() | Elementwise():
            return f"{A_MATRIX} = {_weights(pattern, layer, mask)}"
        case Shaped(scores, alpha, beta, gamma):
            return (
                f"{A_MATRIX} = {alpha}*I + {beta}*A' - {gamma}*C, C = A' at X = 0, "
                f"A' = {_weights(scores, layer, mask)}"
            )
        case _:
            return ""


def _weights(scores: Scored, layer: Layer, mask: Any) -> str:
    """Return the attention of a scored pattern, in the law of its logits."""
    law = update(layer).logits
    assert law is not None
    match scores:
        case Softmax():
            name = "softmax"
        case Saturated():
            name = "saturated softmax"
        case Elementwise(phi=phi):
            name = repr(phi)
        case Linear():
            raise AssertionError("Linear has an equation without logits")
    added = "" if scores.bias is None else f" + {scores.bias!r}"
    *_, step = logits_law(scores)[1]
    result: Any = step.result
    logits, given = "G", f"G Gaussian with Cov(G_ai, G_bj) = {result.rhs}, "
    if law.variance == 0:
        given = "" if law.turn is None else f"{statement_text(result)}, "
        logits = "G" if law.turn is not None else str(result.rhs)
    if law.turn is not None:
        given += f"r(Delta) = {law.turn}, "
    if law.seen != K_MATRIX:
        given += f"K_S = {law.seen}, "
    text = f"{name}({logits}{added}), {given}{mask!r} mask"
    if law.variance == 0:
        return text
    return f"{text}; the mean over heads is the expectation over G"


def _flat(lines: tuple[Line | Loop, ...]) -> Iterator[Line]:
    for line in lines:
        if isinstance(line, Loop):
            yield from _flat(line.lines)
        else:
            yield line


def _text(lines: tuple[Line | Loop, ...], indent: str) -> Iterator[str]:
    for line in lines:
        if isinstance(line, Loop):
            yield f"{indent}{line.depth} times, from {line.start} to {line.end}:"
            yield from _text(line.lines, indent + "  ")
            continue
        yield f"{indent}{statement_text(line.equation)}    [{line.layer}]"
        if line.note:
            yield f"{indent}    {line.note}"
