"""Gates: what the logistic function and tanh become as their argument is scaled by c.

    sigmoid(x) = 1 / (1 + exp(-x)),    tanh(x) = (exp(x) - exp(-x)) / (exp(x) + exp(-x)).

For x != 0 both tend monotonically in c to a step, and for c >= 1 they differ from their value
at c = 1 by less than the step does: sigmoid(-|x|), and 2 / (exp(2 |x|) + 1) for tanh. At x = 0
they stay where they are.

Source: Merrill et al. (2021), arXiv 2010.09697, lemmas 6 and 8.
"""

from dataclasses import dataclass

import sympy as sp

c = sp.Symbol("c", positive=True)
x = sp.Symbol("x", positive=True)  # the argument of a gate is x or -x


@dataclass(frozen=True)
class Gate:
    """A gate by its definition.

    Args:
        name: of the gate.
        value: its value at `argument`.
        argument: the symbol in `value`.
    """

    name: str
    value: sp.Expr
    argument: sp.Symbol = x

    def at(self, argument: sp.Expr | int) -> sp.Expr:
        """Return the gate's value at an argument."""
        return self.value.subs(self.argument, argument)


SIGMOID = Gate("sigmoid", 1 / (1 + sp.exp(-x)))
TANH = Gate("tanh", (sp.exp(x) - sp.exp(-x)) / (sp.exp(x) + sp.exp(-x)))


def saturate_gate(gate: Gate, sign: int) -> sp.Expr:
    """Return the limit of gate(c y) as c -> oo, for y of the given sign.

    >>> [saturate_gate(SIGMOID, sign) for sign in (-1, 0, 1)]
    [0, 1/2, 1]
    >>> [saturate_gate(TANH, sign) for sign in (-1, 0, 1)]
    [-1, 0, 1]
    """
    return sp.limit(gate.at(c * sign * x), c, sp.oo)


def gate_error(gate: Gate, sign: int) -> sp.Expr:
    """Return |limit - gate(y)| for y = sign * x, sign = 1 or -1, from the definition.

    The gates rise, so the limit lies beyond the value: above it for y > 0.
    """
    return sign * (saturate_gate(gate, sign) - gate.at(sign * x))


def exact_gate_error(gate: Gate) -> sp.Expr:
    """Return the closed form of the error at |y| = x, on both sides.

    >>> exact_gate_error(SIGMOID), exact_gate_error(TANH)
    (1/(exp(x) + 1), 2/(exp(2*x) + 1))
    """
    return sp.simplify(gate_error(gate, 1))
