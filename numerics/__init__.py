"""Kernels of infinitely wide networks, evaluated from what theory/ derives."""

from asymptest.numerics.gram import correlation, effective_rank
from asymptest.numerics.kernel import kernel, kernel_with_error, kernels

__all__ = ["correlation", "effective_rank", "kernel", "kernel_with_error", "kernels"]
