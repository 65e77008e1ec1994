"""The side of neural-tangents in test_tangents.py, run by the Python that has it installed.

It answers each line {"input": path, "depth": L, "output": path} by the seconds that the kernel
took, and saves the kernel. The input is X, one sequence of T positions (T, features). Whoever
asks twice has compiling out of the second time.
"""
# pyright: reportMissingImports=false

import json
import sys
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import numpy as np
from neural_tangents import stax

jax.config.update("jax_enable_x64", True)


def residual(*layers: Any) -> Any:
    """Return x + branch(x)."""
    both = stax.parallel(stax.Identity(), stax.serial(*layers))
    return stax.serial(stax.FanOut(2), both, stax.FanInSum())


@cache
def kernel(depth: int) -> Callable[[Any], Any]:
    """Return X -> kernel of a pre-norm transformer of that many blocks."""
    widths = {"n_chan_out": 64, "n_chan_key": 64, "n_chan_val": 64, "n_heads": 8}
    weights = {"W_key_std": 1.1, "W_query_std": 1.2, "W_value_std": 0.9}
    attention = stax.GlobalSelfAttention(
        **widths, **weights, W_out_std=0.8, b_std=0.2, linear_scaling=True
    )
    mlp = stax.serial(stax.Dense(256, 1.4, 0.1), stax.Relu(), stax.Dense(64, 0.8, 0.1))
    norm = stax.LayerNorm(axis=-1)
    block = stax.serial(residual(norm, attention), residual(norm, mlp))
    first, last = stax.Dense(64, 1.0, 0.1), stax.Dense(64, 1.0)
    network = stax.serial(first, *[block] * depth, last)
    return jax.jit(lambda X: network[2](X[None], None, "nngp"))


def main() -> None:
    """Answer until the input ends."""
    for line in sys.stdin:
        request = json.loads(line)
        X = jax.numpy.asarray(np.load(request["input"], allow_pickle=False))
        start = time.perf_counter()
        found = kernel(request["depth"])(X).block_until_ready()
        seconds = time.perf_counter() - start
        np.save(request["output"], np.asarray(found)[0, 0])
        print(seconds, flush=True)


if __name__ == "__main__":
    main()
