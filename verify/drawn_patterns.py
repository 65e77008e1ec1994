"""Hypothesis strategies for what attention patterns may have: temperature, bias, kernels."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from asymptest.numerics.spa import shaped_kernel
from asymptest.theory.biases import ALiBi
from asymptest.theory.patterns import Softmax, Spa
from asymptest.theory.positions import Additive, Position, Rotary
from asymptest.theory.spa import ExponentialKernel, UniformKernel

Draw = Callable[[st.SearchStrategy[Any]], Any]

_VARIANCES = st.sampled_from([1, 0.5, 2])
_TEMPERATURES = st.sampled_from([1, 0.5, 2])
_NUMBERS = st.floats(-2, 2, width=16)
_SHAPED = st.sampled_from(
    [
        [UniformKernel(rho) for rho in (0, 0.25, 0.5, 0.9)],
        [ExponentialKernel(gamma) for gamma in (math.inf, 2, 0.5, 0.1)],
    ]
)


def softmax_pattern(draw: Draw, T: int, heads: int, **logits: Any) -> Softmax:
    """Draw a Softmax for T positions with a temperature, a bias and an encoding.

    Args:
        draw: given by Hypothesis.
        T: positions.
        heads: their number, for biases that differ between them.
        logits: what is not to be drawn, as scale and tied.
    """
    return Softmax(
        variance=draw(_VARIANCES),
        position=_position(draw, T),
        bias=_bias(draw, T, heads),
        temperature=draw(_TEMPERATURES),
        **logits,
    )


def spa_pattern(draw: Draw, T: int) -> Spa:
    """Draw a Spa between two kernels of one family, one or both as an array for T positions.

    Args:
        draw: given by Hypothesis.
        T: positions.
    """
    kernels = draw(_SHAPED)
    first = draw(st.integers(0, len(kernels) - 1))
    last = draw(st.integers(first, len(kernels) - 1))
    ends: list[Any] = [kernels[first], kernels[last]]
    for k in range(2):
        if draw(st.integers(0, 3)) == 3:
            ends[k] = draw(_VARIANCES) * shaped_kernel(ends[k], T)
    return Spa(*ends)


def _position(draw: Draw, T: int) -> Position | None:
    match draw(st.sampled_from(["none", "none", "additive", "rotary"])):
        case "additive":
            B = np.array(draw(_numbers(T, T)))
            return Additive(B @ B.T / T, draw(st.sampled_from([1, 0.5, -1])))
        case "rotary":
            return Rotary(draw(st.sampled_from([2.0, 100.0])))
        case _:
            return None


def _bias(draw: Draw, T: int, heads: int) -> Any:
    match draw(st.sampled_from(["none", "none", "alibi", "table", "tables"])):
        case "alibi":
            return ALiBi()
        case "table":
            return draw(_numbers(T, T))
        case "tables":
            return draw(_numbers(heads, T, T))
        case _:
            return None


def _numbers(*shape: int) -> st.SearchStrategy[Any]:
    result: st.SearchStrategy[Any] = _NUMBERS
    for size in reversed(shape):
        result = st.lists(result, min_size=size, max_size=size)
    return result
