"""The network description: a tree of frozen dataclasses, the one thing the readings read.

    network = Residual(RMSNorm() >> Attention(Uniform(), mask="causal"))
    deep = network * 24

A new layer is one dataclass here, one `case` in each reading (theory/definition.py says
what the finite layer computes, theory/update.py derives its kernel; numerics/kernel.py and
verify/finite.py run them), and one in theory/rules.py (what it may follow). The type
checker names every place.

Shapes: T positions, width n; a state X is T x n and its kernel is K = X X^T / n.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, reduce
from typing import Any, Literal

import sympy as sp

from asymptest.theory.activations import Activation
from asymptest.theory.arrays import Array, call
from asymptest.theory.biases import ALiBi
from asymptest.theory.errors import ArgumentError, ShapeError, UnsupportedError
from asymptest.theory.masks import Blocks, as_mask
from asymptest.theory.masks import positions as mask_positions
from asymptest.theory.patterns import (
    Fixed,
    Pattern,
    Spa,
    Uniform,
    pattern_heads,
    pattern_positions,
    scores_of,
)
from asymptest.theory.substitution import check_finite, check_variance

Number = float | sp.Expr
Init = Literal["gaussian", "orthogonal"]


def _after(network: Any, *state: Any) -> Any:
    from asymptest.theory.rules import after  # they read the nodes, hence here

    return after(network, *state)


class Composable:
    """The operators that every node shares: `a >> b`, `a * depth`, `repr`."""

    def __rshift__(self, other: "Network") -> "Chain":
        if not isinstance(other, Composable):
            raise UnsupportedError(
                f"only networks compose with >>; got {type(other).__name__}"
            )
        return Chain((self, other))  # pyright: ignore[reportArgumentType]

    def __mul__(self, depth: int) -> "Repeat":
        return Repeat(self, depth)  # pyright: ignore[reportArgumentType]

    __rmul__ = __mul__

    def __repr__(self) -> str:
        return pretty(self)  # pyright: ignore[reportArgumentType]

    @cached_property
    def _known(self) -> Any:
        """What the typing rules know after it, or the error that they raise."""
        return _after(self)


@dataclass(frozen=True, repr=False)
class Dense(Composable):
    """X W + 1 v^T with W_ij ~ N(0, variance / n_in), or Haar, and v_j ~ N(0, b).

    Args:
        variance: of a weight, times n_in.
        bias_variance: of a bias.
        init: "gaussian", or "orthogonal": sqrt(variance) times a Haar matrix.
        expansion: output width in units of the network's width n.
    """

    variance: Number = 1
    bias_variance: Number = 0
    init: Init = "gaussian"
    expansion: Fraction | int = 1

    def __post_init__(self) -> None:
        check_variance(self.variance, "Dense.variance")
        check_variance(self.bias_variance, "Dense.bias_variance")
        if self.init not in ("gaussian", "orthogonal"):
            raise ArgumentError(
                f"Dense.init must be 'gaussian' or 'orthogonal'; got {self.init!r}"
            )
        if self.expansion <= 0:
            raise ArgumentError(f"Dense.expansion must be > 0; got {self.expansion}")


@dataclass(frozen=True, repr=False)
class Pointwise(Composable):
    """phi(X) entrywise."""

    phi: Activation

    def __post_init__(self) -> None:
        if not isinstance(self.phi, Activation):
            raise UnsupportedError(
                f"Pointwise.phi must be an Activation, such as relu or "
                f"Activation('mine', expr); got {type(self.phi).__name__}"
            )


@dataclass(frozen=True, repr=False)
class Mlp(Composable):
    """Dense >> Pointwise(phi) >> Dense, with a hidden layer `expansion` times as wide."""

    phi: Activation
    expansion: Fraction | int = 4
    hidden: Dense = Dense()
    output: Dense = Dense()

    def __post_init__(self) -> None:
        _dense(self.hidden, "Mlp.hidden")
        _dense(self.output, "Mlp.output")
        if self.hidden.expansion != 1:
            raise ArgumentError(
                f"Mlp.hidden has expansion={self.hidden.expansion}; set Mlp.expansion instead"
            )
        _ = self.layers  # a bad part fails here, not at first use

    @cached_property
    def layers(self) -> "Chain":
        """The three layers that it stands for."""
        hidden = Dense(
            self.hidden.variance,
            self.hidden.bias_variance,
            self.hidden.init,
            self.expansion,
        )
        return hidden >> Pointwise(self.phi) >> self.output


@dataclass(frozen=True, repr=False)
class RMSNorm(Composable):
    """Each row divided by sqrt(its mean square + eps).

    With eps = 0 a zero row has no direction; its kernel is taken as the limit of small
    independent rows, 1 on the diagonal and 0 elsewhere, where the finite layer gives nan.

    Args:
        eps: added to the mean square.
        affine: whether a trainable gain follows, 1 at initialisation.
    """

    eps: Number = 0
    affine: bool = False

    def __post_init__(self) -> None:
        check_variance(self.eps, "RMSNorm.eps")


@dataclass(frozen=True, repr=False)
class LayerNorm(Composable):
    """Each row, its mean removed, divided by sqrt(its mean square + eps).

    Args:
        eps: added to the mean square.
        affine: whether a trainable gain and bias follow, 1 and 0 at initialisation.
    """

    eps: Number = 0
    affine: bool = False

    def __post_init__(self) -> None:
        check_variance(self.eps, "LayerNorm.eps")


@dataclass(frozen=True, repr=False)
class Mix(Composable):
    """A X with a fixed T x T matrix A."""

    A: Any

    def __post_init__(self) -> None:
        A = Array.finite(self.A, "Mix.A")
        if len(A.shape) != 2 or A.shape[0] != A.shape[1]:
            raise ShapeError(f"Mix.A must have the shape (T, T); got {A.shape}")
        object.__setattr__(self, "A", A)


@dataclass(frozen=True, repr=False)
class Attention(Composable):
    """concat_h(A_h(X) X W_h^V) W^O.

    One layer of cross-attention is a mask by which the rows of one stream see the columns of
    another, both in one sequence; several decoder layers are not, since each layer would change
    the encoder's rows too.

    Args:
        pattern: how A_h is formed.
        mask: "full", "causal", Window, Blocks, Padding, or a boolean T x T array.
        heads: their number; "sqrt" lets it grow like sqrt(width), as the limit of
            Softmax("1/sqrt(d)") asks.
        value: the law of W^V.
        output: the law of W^O.
    """

    pattern: Pattern = Uniform()
    mask: Any = "full"
    heads: int | Literal["sqrt"] = 1
    value: Dense = Dense()
    output: Dense = Dense()

    def __post_init__(self) -> None:
        if not isinstance(self.pattern, Pattern):
            raise UnsupportedError(
                f"Attention.pattern must be Uniform(), Fixed(A), Softmax(...), "
                f"Saturated(...), Elementwise(...), Linear(...), Shaped(...) or Spa(...); got "
                f"{type(self.pattern).__name__}"
            )
        _dense(self.value, "Attention.value")
        _dense(self.output, "Attention.output")
        object.__setattr__(self, "mask", as_mask(self.mask))
        if self.heads != "sqrt" and not (
            isinstance(self.heads, int) and self.heads > 0
        ):
            raise ArgumentError(
                f"Attention.heads must be 'sqrt' or a whole number, at least 1; "
                f"got {self.heads!r}"
            )
        if self.value.expansion != 1 or self.output.expansion != 1:
            raise ArgumentError(
                "Attention keeps its width: value and output need expansion=1; got "
                f"{self.value.expansion} and {self.output.expansion}"
            )
        self._check_pattern()

    def _check_pattern(self) -> None:
        heads, sizes = pattern_heads(self.pattern), pattern_positions(self.pattern)
        if heads not in (None, self.heads):
            raise ShapeError(
                f"{self.pattern!r} is for {heads} heads but Attention.heads is "
                f"{self.heads}; give one matrix or slope a head"
            )
        if (fixed := mask_positions(self.mask)) is not None:
            sizes |= {fixed}
        if len(sizes) > 1:
            raise ShapeError(
                f"{self.pattern!r} and the mask {self.mask!r} are for different numbers of "
                f"positions, {sorted(sizes)}"
            )
        scores = scores_of(self.pattern)
        if (
            scores is not None
            and isinstance(scores.bias, ALiBi)
            and self.heads == "sqrt"
        ):
            raise ArgumentError(
                "ALiBi has a slope for each head: give Attention.heads as a number"
            )
        carries = self.mask in ("full", "causal") or isinstance(self.mask, Blocks)
        if isinstance(self.pattern, Spa) and not carries:
            raise ArgumentError(
                f"Spa needs the mask 'full', 'causal' or Blocks: its matrix says what each "
                f"position sees; got {self.mask!r}. Padding on the right needs no mask under "
                f"'causal'; on the left it would take the place of the first position, which "
                f"is special"
            )
        if isinstance(self.pattern, Fixed) and self.mask != "full":
            raise ArgumentError(
                "Fixed.A says itself what each position sees: leave mask='full' "
                "and put zeros into A"
            )

    @property
    def fixed_positions(self) -> int | None:
        """The number of positions that its arrays are for, or None if it fits any."""
        sizes = pattern_positions(self.pattern) | {mask_positions(self.mask)}
        return next((size for size in sizes if size is not None), None)


@dataclass(frozen=True, repr=False)
class Residual(Composable):
    """skip X + weight branch(X)."""

    branch: "Network"
    skip: Number = 1
    weight: Number = 1

    def __post_init__(self) -> None:
        as_network(self.branch)
        check_finite(self.skip, "Residual.skip")
        check_finite(self.weight, "Residual.weight")
        _ = self._known


@dataclass(frozen=True, repr=False)
class Product(Composable):
    """left(X) * right(X), entry by entry: a gated layer.

    SwiGLU is `Product(Dense(expansion=e) >> Pointwise(silu), Dense(expansion=e))`.
    """

    left: "Network"
    right: "Network"

    def __post_init__(self) -> None:
        as_network(self.left)
        as_network(self.right)
        _ = self._known


@dataclass(frozen=True, repr=False)
class Chain(Composable):
    """a >> b >> c; flat, so that composition is associative."""

    layers: tuple["Network", ...]

    def __post_init__(self) -> None:
        for layer in self.layers:
            as_network(layer)
        if not self.layers:
            raise ArgumentError("Chain.layers must hold at least one layer; got ()")
        first, *rest = self.layers
        flat = (
            part
            for layer in self.layers
            for part in (layer.layers if isinstance(layer, Chain) else (layer,))
        )
        object.__setattr__(self, "layers", tuple(flat))
        # A chain that grows by >> is not checked from its start each time.
        self.__dict__["_known"] = reduce(
            lambda known, layer: _after(layer, known), rest, first._known
        )


@dataclass(frozen=True, repr=False)
class Repeat(Composable):
    """`block * depth`: depth copies with independent weights."""

    block: "Network"
    depth: int

    def __post_init__(self) -> None:
        as_network(self.block)
        if not isinstance(self.depth, int) or self.depth < 1:
            raise ArgumentError(
                f"a network repeats a whole number of times, at least once; "
                f"got {self.depth!r}"
            )
        if isinstance(self.block, Repeat):
            object.__setattr__(self, "depth", self.depth * self.block.depth)
            object.__setattr__(self, "block", self.block.block)
        _ = self._known


@dataclass(frozen=True, repr=False)
class Custom(Composable):
    """A user's own layer, which brings its own readings and is checked like any other.

    Args:
        name: what to call it.
        equation: K, K' (matrix symbols), i, j -> the SymPy equation for K'[i, j] in
            K[i, i], K[i, j], K[j, j]; the kernel is evaluated from it.
        finite: (width, copies, NumPy generator) -> a torch module on (copies, T, width).
        gaussian: whether its output is Gaussian in the limit.
        fresh: whether it ends in fresh zero-mean weights.
        centred: whether the feature mean of its output vanishes in the limit.
    """

    name: str
    equation: Callable[..., sp.Eq]
    finite: Callable[..., Any]
    gaussian: bool = False
    fresh: bool = False
    centred: bool = False


Network = (
    Dense
    | Pointwise
    | Mlp
    | RMSNorm
    | LayerNorm
    | Mix
    | Attention
    | Residual
    | Product
    | Chain
    | Repeat
    | Custom
)


def _dense(value: Any, name: str) -> None:
    if not isinstance(value, Dense):
        raise UnsupportedError(f"{name} must be a Dense; got {value!r}")


def as_network(value: Any) -> Network:
    """Return `value`, or raise UnsupportedError if it describes no network."""
    if not isinstance(value, Network):
        raise UnsupportedError(
            f"network must be built from Dense, Attention, Residual and so on, with >> "
            f"and *; got {type(value).__name__} {value!r}"
        )
    return value


def pretty(network: Network) -> str:
    """Return the network as the Python expression that builds it.

    >>> pretty(Residual(RMSNorm() >> Dense(2)) * 3)
    'Residual(RMSNorm() >> Dense(2)) * 3'
    """
    match network:
        case Chain(layers):
            return " >> ".join(pretty(layer) for layer in layers)
        case Repeat(block, depth):
            inner = pretty(block)
            inner = f"({inner})" if isinstance(block, Chain) else inner
            return f"{inner} * {depth}"
        case Custom(name):
            return f"Custom({name!r})"
        case _:
            return call(network)


def depth(network: Network) -> int:
    """Return the number of layers: a Repeat counts its copies, a Chain its members.

    >>> depth((Dense() >> Mix([[1.0]])) * 5)
    5
    """
    match network:
        case Chain(layers):
            return sum(depth(layer) for layer in layers)
        case Repeat():
            return network.depth
        case _:
            return 1
