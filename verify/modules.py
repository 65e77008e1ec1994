"""Any torch module, run on a copy in float64: what the caller passed stays as it was."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from asymptest.theory.errors import UnsupportedError

NARROW = (torch.float16, torch.bfloat16, torch.float32)
NARROWING = (torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16)

Module = TypeVar("Module", bound=nn.Module)
# What a module is called with: one tensor, positional arguments or named ones.
Inputs = Tensor | tuple[Any, ...] | Mapping[str, Any]


def float64_copy(module: Module) -> Module:
    """Return a deep copy in float64 and in evaluation mode, so that no dropout acts."""
    return deepcopy(module).double().eval()


def call(module: nn.Module, inputs: Inputs, **options: Any) -> Any:
    """Call a float64 module without gradients, floating-point inputs cast to float64."""
    with torch.no_grad(), plain_kernels():
        match inputs:
            case Tensor():
                return module(as_float64(inputs), **options)
            case Mapping():
                named = {name: as_float64(value) for name, value in inputs.items()}
                return module(**named, **options)
            case tuple():
                return module(*map(as_float64, inputs), **options)


def as_float64(value: Any) -> Any:
    """Return a floating-point tensor in float64, anything else as it is."""
    floating = isinstance(value, Tensor) and value.is_floating_point()
    return value.double() if floating else value


class _Double(TorchFunctionMode):
    """While active, a module that asks for float32 or less gets float64."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        func = torch.Tensor.double if func in NARROWING else func
        named = {name: _widened(value) for name, value in (kwargs or {}).items()}
        return func(*map(_widened, args), **named)


def _widened(value: Any) -> Any:
    return (
        torch.float64 if isinstance(value, torch.dtype) and value in NARROW else value
    )


@contextmanager
def plain_kernels() -> Iterator[None]:
    """Have attention run as products and a softmax, not as one fused kernel, and in float64.

    The fused encoder layer of torch also zeroes the states of padded positions. Norms and
    softmaxes of transformers cast to float32, where squares overflow early.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), _Double():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def state_of(output: Any, name: str) -> Tensor:
    """Return the state in what a module returned: a tensor, or the first of several.

    Raises:
        UnsupportedError: if it is no floating-point tensor with a feature axis.
    """
    first = output
    if isinstance(output, Mapping):  # so do transformers return theirs
        first = next(iter(output.values()), None)
    elif isinstance(output, tuple | list):
        first = next(iter(output), None)
    if not (isinstance(first, Tensor) and first.is_floating_point() and first.ndim):
        raise UnsupportedError(
            f"{name} must return a floating-point tensor with a feature axis, or a tuple "
            f"or mapping that starts with one; got {type(first).__name__}"
        )
    return first
