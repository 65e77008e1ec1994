"""Finite networks in PyTorch, built from the same description and definitions.

`finite(network, width, copies)` is a torch module that holds `copies` independent replicates
of every weight: one forward pass gives as many independent draws of the kernel.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import sympy as sp
import torch
from jaxtyping import Float, Float64, Int64
from sympy.printing.pytorch import TorchPrinter
from torch import Tensor as Array
from torch import nn

from asymptest.numerics.attention import mask_array
from asymptest.numerics.logits import as_numpy, fixed_bias
from asymptest.numerics.spa import spa_softmax
from asymptest.theory.activations import Activation
from asymptest.theory.biases import RelativeBias
from asymptest.theory.definition import (
    HEADS,
    K_OUT,
    N_IN,
    N_OUT,
    TAU,
    I,
    J,
    attention_definition,
    dense_definition,
    logit_form,
    logits_definition,
    query_key,
    scales,
)
from asymptest.theory.errors import ArgumentError, ShapeError
from asymptest.theory.network import (
    Attention,
    Chain,
    Custom,
    Dense,
    LayerNorm,
    Mix,
    Mlp,
    Network,
    Pointwise,
    Product,
    Repeat,
    Residual,
    RMSNorm,
    as_network,
)
from asymptest.theory.patterns import (
    Elementwise,
    Fixed,
    Linear,
    Saturated,
    Shaped,
    Softmax,
    Spa,
    Uniform,
    scores_of,
)
from asymptest.theory.piecewise import x
from asymptest.theory.rules import State, after
from asymptest.theory.substitution import number
from asymptest.theory.wick.tensors import Index, Poly
from asymptest.theory.widths import number_of_heads, whole
from asymptest.verify.encodings import encoding
from asymptest.verify.inputs import stream
from asymptest.verify.saturated_attention import saturated_weights
from asymptest.verify.weights import Numbers, compile_definition, normal, sample

HEAD = Index("h", HEADS)


class Weighted(nn.Module):
    """A definition with sampled weights, evaluated on a state and given tensors."""

    def __init__(
        self,
        definition: Poly,
        output: tuple[Index, ...],
        numbers: Numbers,
        copies: int,
        generator: np.random.Generator,
    ):
        super().__init__()
        items = tuple(numbers.items())
        self.program, weights = compile_definition(definition, output, items)
        self.weights = nn.ParameterDict(
            {w.name: nn.Parameter(sample(w, copies, generator)) for w in weights}
        )

    def forward(self, **given: Array) -> Array:
        """Return the definition's value, the replicate first."""
        return self.program({**self.weights, **given})


class DenseModule(nn.Module):
    """X W + 1 v^T."""

    def __init__(
        self,
        layer: Dense,
        n_in: int,
        n_out: int,
        copies: int,
        generator: np.random.Generator,
    ):
        super().__init__()
        self.features = n_out
        numbers = {N_IN: n_in, N_OUT: n_out, **dense_numbers(layer)}
        definition = dense_definition(layer)
        self.affine = Weighted(definition, (I, K_OUT), numbers, copies, generator)

    def forward(self, X: Array) -> Array:
        """Map (copies, T, n_in) to (copies, T, n_out)."""
        return self.affine(X=X).expand(-1, X.shape[-2], -1)


class AttentionModule(nn.Module):
    """concat_h(A_h(X) X W_h^V) W^O."""

    def __init__(
        self, layer: Attention, width: int, copies: int, generator: np.random.Generator
    ):
        super().__init__()
        self.layer = layer
        heads = number_of_heads(layer, width)
        sizes = {N_IN: width, N_OUT: width, HEADS: heads}
        numbers = {
            **sizes,
            **dense_numbers(layer.value, "V"),
            **dense_numbers(layer.output, "O"),
            **score_numbers(layer),
        }
        definition = attention_definition(layer)
        self.mix = Weighted(definition, (I, K_OUT), numbers, copies, generator)
        self.pattern = PatternModule(layer, sizes, copies, generator)

    def forward(self, X: Array) -> Array:
        """Map (copies, T, width) to the same shape."""
        given = self.pattern.given(X) if isinstance(self.layer.pattern, Linear) else {}
        Y = self.mix(**{"X": X, "A": self.pattern(X), **given})
        return Y.expand(-1, X.shape[-2], -1)


class PatternModule(nn.Module):
    """The attention matrices of all heads, (T, T) or (heads, T, T), each maybe by copy."""

    def __init__(
        self,
        layer: Attention,
        sizes: Numbers,
        copies: int,
        generator: np.random.Generator,
    ):
        super().__init__()
        self.layer = layer
        self.logits: Weighted | None = None
        self.heads = int(sizes[HEADS])
        scores = scores_of(layer.pattern)
        of_weights = Softmax() if isinstance(layer.pattern, Spa) else scores
        if of_weights is not None and not isinstance(of_weights, Linear):
            numbers = {**sizes, **score_numbers(layer)}
            definition = logits_definition(logit_form(of_weights), HEAD, I, J)
            self.logits = Weighted(definition, (HEAD, I, J), numbers, copies, generator)
        if isinstance(layer.pattern, Spa):  # logits that vanish, but can learn
            assert self.logits is not None
            nn.init.zeros_(self.logits.weights["WQ"])
        self.encoding = (
            None if scores is None else encoding(scores, sizes, copies, generator)
        )
        if isinstance(layer.pattern, Shaped):
            parts = torch.tensor(shape_numbers(layer.pattern), dtype=torch.float64)
            parts = parts[:, None, None, None, None].expand(
                -1, copies, self.heads, 1, 1
            )
            self.alpha, self.beta, self.gamma = map(nn.Parameter, parts.clone())
        bias = None if scores is None else scores.bias
        self.table: nn.Parameter | None = None
        if isinstance(bias, RelativeBias) and bias.variance > 0:
            drawn = normal(copies, self.heads, bias.buckets, generator=generator)
            self.table = nn.Parameter(bias.variance**0.5 * drawn)

    def given(self, X: Array) -> dict[str, Array]:
        """Return what the definition of the logits takes."""
        return {"X": X} if self.encoding is None else self.encoding(X)

    def forward(self, X: Array) -> Array:
        """Return A for the states X."""
        match self.layer.pattern:
            case Fixed(table):
                A = torch.tensor(as_numpy(table), dtype=X.dtype)
                if A.shape[-1] != X.shape[-2]:
                    raise ShapeError(
                        f"Fixed.A is for {A.shape[-1]} positions, the state has "
                        f"{X.shape[-2]}"
                    )
                return A
            case Uniform():
                seen = self.seen(X).to(X.dtype)
                return seen / seen.sum(-1, keepdim=True)
            case Linear():  # the layer's definition multiplies the logits by it
                return self.seen(X).to(X.dtype)
            case Softmax():
                return torch.softmax(self.hidden_logits(X), dim=-1)
            case Spa() as pattern:
                bias, D = spa_softmax(pattern, self.layer.mask, X.shape[-2])
                B, sums = (torch.tensor(part, dtype=X.dtype) for part in (bias, D))
                assert self.logits is not None
                A = torch.softmax(self.logits(**self.given(X)) + B, dim=-1)
                return sums[:, None] * A
            case Saturated():
                return saturated_weights(self.hidden_logits(X))
            case Elementwise(phi=phi):
                G = self.hidden_logits(X)
                seen = self.seen(X)
                return torch_activation(phi)(torch.where(seen, G, 0.0)) * seen
            case Shaped():
                seen, added = self.seen(X), self.added(X)
                A = torch.softmax(self.hidden_logits(X), dim=-1)
                C = torch.softmax(torch.where(seen, added, -torch.inf), dim=-1)
                one = torch.eye(len(seen), dtype=X.dtype)
                return self.alpha * one + self.beta * A - self.gamma * C

    def seen(self, X: Array) -> Array:
        """Return the mask as a boolean tensor."""
        return torch.tensor(mask_array(self.layer.mask, X.shape[-2]))

    def hidden_logits(self, X: Array) -> Array:
        """Return the logits with their bias, -inf where a position is hidden."""
        assert self.logits is not None
        seen = self.seen(X)
        G = self.logits(**self.given(X)) + self.added(X)
        return torch.where(seen, G.expand(*G.shape[:-2], *seen.shape), -torch.inf)

    def added(self, X: Array) -> Array:
        """Return what is added to the logits, (heads, T, T), maybe by copy."""
        scores = scores_of(self.layer.pattern)
        assert scores is not None
        T = X.shape[-2]
        fixed = torch.tensor(fixed_bias(scores.bias, self.heads, T), dtype=X.dtype)
        if self.table is None:
            return fixed
        at = np.arange(T)
        buckets = torch.tensor(scores.bias.bucket(at[:, None], at))
        return fixed + self.table[..., buckets]


class PointwiseModule(nn.Module):
    """phi(X)."""

    def __init__(self, phi: Activation):
        super().__init__()
        self.phi = torch_activation(phi)

    def forward(self, X: Array) -> Array:
        """Apply phi entrywise."""
        return self.phi(X)


class NormModule(nn.Module):
    """Rows over sqrt(mean square + eps), their mean removed first for LayerNorm.

    Where the layer is affine, `gain` and, for LayerNorm, `bias` are (copies, 1, features).
    """

    def __init__(self, layer: RMSNorm | LayerNorm, features: int, copies: int):
        super().__init__()
        self.eps = number(layer.eps, f"{type(layer).__name__}.eps")
        self.centre = isinstance(layer, LayerNorm)
        shape = (copies, 1, features)
        self.gain = self.bias = None
        if layer.affine:
            self.gain = nn.Parameter(torch.ones(shape, dtype=torch.float64))
        if layer.affine and self.centre:
            self.bias = nn.Parameter(torch.zeros(shape, dtype=torch.float64))

    def forward(self, X: Array) -> Array:
        """Normalise each row."""
        Y = X - X.mean(-1, keepdim=True) if self.centre else X
        Y = Y / torch.sqrt(Y.square().mean(-1, keepdim=True) + self.eps)
        Y = Y if self.gain is None else Y * self.gain
        return Y if self.bias is None else Y + self.bias


class MixModule(nn.Module):
    """A X."""

    def __init__(self, layer: Mix):
        super().__init__()
        self.A = nn.Buffer(torch.tensor(as_numpy(layer.A)))

    def forward(self, X: Array) -> Array:
        """Mix the positions."""
        if X.shape[-2] != len(self.A):
            raise ShapeError(
                f"Mix.A is for {len(self.A)} positions, the state has {X.shape[-2]}"
            )
        return self.A @ X


class ResidualModule(nn.Module):
    """skip X + weight branch(X)."""

    def __init__(self, branch: nn.Module, skip: float, weight: float):
        super().__init__()
        self.branch, self.skip, self.weight = branch, skip, weight

    def forward(self, X: Array) -> Array:
        """Add the branch to the skip."""
        return self.skip * X + self.weight * self.branch(X)


class ProductModule(nn.Module):
    """left(X) * right(X)."""

    def __init__(self, left: nn.Module, right: nn.Module):
        super().__init__()
        self.left, self.right = left, right

    def forward(self, X: Array) -> Array:
        """Multiply the branches."""
        return self.left(X) * self.right(X)


class FiniteNetwork(nn.Module):
    """`copies` independent replicates of a network of finite width."""

    def __init__(self, network: Network, width: int, copies: int, body: nn.Module):
        super().__init__()
        self.network, self.width, self.copies = network, width, copies
        self.body = body

    def forward(self, X: Array) -> Array:
        """Map states (copies, T, width), or (T, width) for all copies, to (copies, T, n)."""
        if X.shape[-1] != self.width:
            raise ShapeError(
                f"the network has width {self.width}, but the state has the shape "
                f"{tuple(X.shape)}; its last axis must be {self.width}"
            )
        if X.ndim > 3 or (X.ndim == 3 and len(X) not in (1, self.copies)):
            raise ShapeError(
                f"the network holds {self.copies} copies, but the state has the shape "
                f"{tuple(X.shape)}; pass (T, {self.width}) or ({self.copies}, T, {self.width})"
            )
        return self.body(X.expand(self.copies, *X.shape[-2:]))


def finite(
    network: Network,
    width: int,
    copies: int = 1,
    rng: np.random.Generator | int = 0,
) -> FiniteNetwork:
    """Return a torch module (float64) holding `copies` independent networks.

    Args:
        network: the description.
        width: n; a multiple of every number of heads.
        copies: the number of replicates.
        rng: NumPy generator or seed of all weights.

    Raises:
        ArgumentError: if width or copies is not positive, or a parameter has no number.
        ShapeError: if a width is no whole number, or is not divisible by the heads.
    """
    if width < 1 or copies < 1:
        raise ArgumentError(
            f"width and copies must be at least 1; got width = {width}, copies = {copies}"
        )
    generator = stream(rng, "weights")
    body, _ = _build(as_network(network), State(), width, copies, generator)
    return FiniteNetwork(network, width, copies, body)


def _build(
    network: Network,
    state: State,
    width: int,
    copies: int,
    generator: np.random.Generator,
) -> tuple[nn.Module, State]:
    """Return the module of a network that acts on `state`, and the state it leaves."""
    out = after(network, state)
    match network:
        case Dense():
            sizes = (whole(state.width * width), whole(out.width * width))
            module: nn.Module = DenseModule(network, *sizes, copies, generator)
        case Pointwise(phi):
            module = PointwiseModule(phi)
        case Mlp():
            module, _ = _build(network.layers, state, width, copies, generator)
        case RMSNorm() | LayerNorm():
            module = NormModule(network, whole(state.width * width), copies)
        case Mix():
            module = MixModule(network)
        case Attention():
            n = whole(state.width * width)
            module = AttentionModule(network, n, copies, generator)
        case Residual(branch, skip, weight):
            inner, _ = _build(branch, state, width, copies, generator)
            factors = number(skip, "Residual.skip"), number(weight, "Residual.weight")
            module = ResidualModule(inner, *factors)
        case Product(left, right):
            one, _ = _build(left, state, width, copies, generator)
            two, _ = _build(right, state, width, copies, generator)
            module = ProductModule(one, two)
        case Chain(layers):
            parts: list[nn.Module] = []
            for layer in layers:
                part, state = _build(layer, state, width, copies, generator)
                parts.append(part)
            module = nn.Sequential(*parts)
        case Repeat(block, depth):
            parts = []
            for _ in range(depth):
                part, state = _build(block, state, width, copies, generator)
                parts.append(part)
            module = nn.Sequential(*parts)
        case Custom():
            module = network.finite(whole(state.width * width), copies, generator)
    return module, out


def dense_numbers(layer: Dense, label: str = "") -> dict[sp.Symbol, float]:
    """Return the numbers of one Dense layer, by symbol."""
    symbols = scales(label)
    return {
        symbols.variance: number(layer.variance, "Dense.variance"),
        symbols.bias_variance: number(layer.bias_variance, "Dense.bias_variance"),
    }


def score_numbers(layer: Attention) -> dict[sp.Symbol, float]:
    """Return the numbers of the logits' weights, by symbol, if the layer has some."""
    if isinstance(layer.pattern, Spa):
        return {**dense_numbers(Dense(), "Q"), **dense_numbers(Dense(), "K")}
    if (scores := scores_of(layer.pattern)) is None:
        return {}
    query, key = query_key(scores)
    numbers = {**dense_numbers(query, "Q"), **dense_numbers(key, "K")}
    if isinstance(scores, Softmax):
        numbers[TAU] = number(scores.temperature, "Softmax.temperature")
    return numbers


def shape_numbers(pattern: Shaped) -> tuple[float, float, float]:
    """Return alpha, beta and gamma."""
    return (
        number(pattern.alpha, "Shaped.alpha"),
        number(pattern.beta, "Shaped.beta"),
        number(pattern.gamma, "Shaped.gamma"),
    )


class _TorchPrinter(TorchPrinter):
    """SymPy's own, but for heaviside(x, 0.5) and sqrt(2), where torch wants tensors."""

    def _print_Pow(self, expr: Any) -> str:  # noqa: N802 (SymPy's name)
        return repr(float(expr)) if expr.is_number else super()._print_Pow(expr)

    def _print_Heaviside(self, expr: Any) -> str:  # noqa: N802
        return f"step({self._print(expr.args[0])})"


@lru_cache(maxsize=1024)
def torch_activation(phi: Activation) -> Callable[[Array], Array]:
    """Return phi as a torch function, compiled from its expression."""
    names = {"step": lambda X: (1 + torch.sign(X)) / 2}  # heaviside has no gradient
    printer = _TorchPrinter({"fully_qualified_modules": False, "inline": True})
    function = sp.lambdify(x, phi.expr, modules=[names, torch], printer=printer)
    if phi.expr.has(x):
        return function
    return lambda X: torch.full_like(X, float(phi.expr))


def kernel_of(
    module: nn.Module, X0: Float[Array, "*copies T width"] | Int64[Array, "*copies T"]
) -> Float[np.ndarray, "copies T T"]:
    """Return the kernels X X^T / n of a module's output, one a replicate.

    Args:
        module: maps X0 to a state (copies, T, n).
        X0: input state, or token ids if the module embeds them.
    """
    with torch.no_grad():
        X: Float64[Array, "copies T n"] = module(X0)
        return (X @ X.mT / X.shape[-1]).numpy()
