"""What `asymptest kernel` computes: kernels at all depths, beside finite networks."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from asymptest.numerics.gram import as_kernel
from asymptest.theory.errors import ArgumentError
from asymptest.theory.network import Network
from asymptest.verify.families import finite_kernels, natural_scale
from asymptest.verify.stochastic import single_thread
from asymptest.verify.text import Ids, default_text, token_kernels, word_ids

Kernel = Float[np.ndarray, "T T"]
Depths = Float[np.ndarray, "layers T T"]
Sampler = Callable[[int], Float[np.ndarray, "copies T T"]]

CHUNK = 2**22  # weights of one matrix held at once, over all copies


@dataclass(frozen=True, eq=False)
class Comparison:
    """The mean kernel of finite networks beside the limit.

    Args:
        mean: over the copies.
        error: its standard error; nan for a single copy.
        relative: largest |mean - limit| / sqrt(K_ii K_jj).
        z: largest |mean - limit| in standard errors, over the entries that fluctuate;
            None if none is known to. The limit's own error counts too. It includes the
            error of a finite width, so it grows with the number of copies.
    """

    mean: Kernel
    error: Kernel
    relative: float
    z: float | None


def compare(
    limit: Kernel, limit_error: Kernel, sample: Sampler, width: int, copies: int
) -> Comparison:
    """Return the mean kernel over `copies` finite networks beside the limit."""
    left, parts = copies, []
    with single_thread():
        while left:
            count = min(left, max(1, CHUNK // width**2))
            parts.append(sample(count))
            left -= count
    found = np.concatenate(parts)
    mean, gap = found.mean(0), abs(found.mean(0) - limit)
    scale = natural_scale(limit)
    # A position of variance 0 has no scale: its entries are 0, or the gap is infinite.
    ratio = np.divide(gap, scale, out=np.where(gap > 0, np.inf, 0.0), where=scale > 0)
    if copies == 1:
        return Comparison(mean, np.full_like(mean, np.nan), float(ratio.max()), None)
    error = found.std(0, ddof=1) / copies**0.5
    total = np.hypot(error, limit_error)
    moves = total > 1e-12 * scale  # less is rounding
    z = float((gap[moves] / total[moves]).max()) if moves.any() else None
    return Comparison(mean, error, float(ratio.max()), z)


def token_sampler(network: Network, ids: Ids, width: int, seed: int) -> Sampler:
    """Return a sampler of kernels of finite networks that read tokens."""
    rng = np.random.default_rng(seed)
    return lambda count: token_kernels(network, ids, width, count, rng)


def kernel_sampler(network: Network, K0: Kernel, width: int, seed: int) -> Sampler:
    """Return a sampler of kernels of finite networks on inputs with the kernel K0."""
    rng = np.random.default_rng(seed)
    return lambda count: finite_kernels(network, K0, width, count, rng)


def read_kernel(path: Path) -> Kernel:
    """Return the kernel in a .npy file; nothing in it is unpickled.

    Raises:
        ArgumentError: if the file holds no single array of numbers.
        FileNotFoundError: if there is none.
        KernelError: if it is no kernel.
        ShapeError: if it is not square.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path} to read a kernel from")
    try:
        found = np.load(path, allow_pickle=False)
    except (EOFError, ValueError) as error:
        raise ArgumentError(
            f"{path} is no .npy file of numbers ({error}); write one with numpy.save"
        ) from error
    if not isinstance(found, np.ndarray):
        raise ArgumentError(
            f"{path} holds several arrays ({', '.join(found)}); write the kernel alone, "
            f"with numpy.save"
        )
    return as_kernel(found, path.name)


def read_tokens(source: str, limit: int) -> Ids:
    """Return the token ids of a text file, or of the default text for "default".

    Raises:
        ArgumentError: if the file is no UTF-8 text, or has no word.
        FileNotFoundError: if there is none.
    """
    if source == "default":
        return word_ids(default_text(), limit)
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(
            f"there is no text file {path}; or write --text default"
        )
    try:
        return word_ids(path.read_text(encoding="utf-8"), limit)
    except UnicodeDecodeError as error:
        raise ArgumentError(
            f"{path} is no UTF-8 text ({error.reason} at byte {error.start}); convert it"
        ) from error
