"""Errors: each names the argument, its value or shape, and what to do about it.

Every class also derives from the builtin that a caller would catch.
"""


class AsymptestError(Exception):
    """Base of every error that this project raises on purpose."""


class ArgumentError(AsymptestError, ValueError):
    """An argument is outside its domain (a negative variance, a depth of zero)."""


class ShapeError(AsymptestError, ValueError):
    """An array or a width does not fit where it is used."""


class KernelError(AsymptestError, ValueError):
    """A matrix is not a kernel: not symmetric, not PSD, not finite."""


class NotGaussianError(AsymptestError, ValueError):
    """`Pointwise` was given pre-activations that are not Gaussian in the limit."""


class CorrelatedBranchError(AsymptestError, ValueError):
    """A residual branch does not end in fresh zero-mean weights."""


class FeatureMeanError(AsymptestError, ValueError):
    """`LayerNorm` was given a state whose feature mean does not vanish."""


class NoClosedFormError(AsymptestError, NotImplementedError):
    """The calculus has no closed form for this expectation; quadrature has."""


class AccuracyError(AsymptestError, ArithmeticError):
    """A numeric method could not reach the accuracy that it promises.

    Args:
        message: says which.
        times: how many times the effort would do, where that is known.
    """

    def __init__(self, message: str, times: float | None = None):
        super().__init__(message)
        self.times = times


class UnsupportedError(AsymptestError, TypeError):
    """An object of a kind that no reading here accepts."""


class StorageError(AsymptestError, ValueError):
    """An expression cannot be stored, or what is stored is not an expression."""
