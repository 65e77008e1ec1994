"""Kernels of infinitely wide networks, evaluated from what theory/ derives."""

from asymptest.numerics.dual_maps import (
    chi_parallel,
    chi_perp,
    criticality,
    fourth_moment,
    hermite_coefficients,
    mean,
    q_map,
)
from asymptest.numerics.duals import c_map, c_map_gap, dual
from asymptest.numerics.gram import correlation, effective_rank
from asymptest.numerics.kernel import (
    kernel,
    kernel_with_error,
    kernels,
    kernels_with_error,
)
from asymptest.numerics.leading import Leading, enclosure_at, leading
from asymptest.numerics.sampling import sample_kernels

__all__ = [
    "Leading",
    "c_map",
    "c_map_gap",
    "chi_parallel",
    "chi_perp",
    "correlation",
    "criticality",
    "dual",
    "effective_rank",
    "enclosure_at",
    "fourth_moment",
    "hermite_coefficients",
    "kernel",
    "kernel_with_error",
    "kernels",
    "kernels_with_error",
    "leading",
    "mean",
    "q_map",
    "sample_kernels",
]
