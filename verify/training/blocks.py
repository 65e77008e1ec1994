"""The blocks of the language models, as descriptions of this project.

With S a sublayer (attention, then MLP) and N a LayerNorm with gain and bias:

    sublayer    X + N(S(X))    what arXiv 2010.09697 and its code call pre-norm
    pre         X + S(N(X))    GPT's, with one more N before the unembedding
    post        N(X + S(X))    the original transformer's

and without any skip or norm, after arXiv 2302.10322:

    vanilla     S(X)           Gaussian weights, ReLU, variances kept
    v-skipinit  S(X)           attention alpha I + beta A, alpha = 1 and beta = 0 at first
    u-spa       S(X)           shaped attention towards equal correlations
    e-spa       S(X)           shaped attention towards exponentially decaying ones

The last three have orthogonal weights, and as activation the leaky ReLU tailored to the depth.
The only biases are those of the norms, which makes every block with norms homogeneous in its
parameters for large parameters; eps is PyTorch's.
"""

from typing import Literal, get_args

from asymptest.numerics.shaped_activations import tat_leaky_slope
from asymptest.theory.activations import Activation, relu
from asymptest.theory.network import (
    Attention,
    Chain,
    Dense,
    LayerNorm,
    Mlp,
    Residual,
)
from asymptest.theory.patterns import Pattern, Shaped, Softmax, Spa
from asymptest.theory.shaped_activations import tat_leaky_relu
from asymptest.theory.spa import ExponentialKernel, UniformKernel

Normed = Literal["sublayer", "pre", "post"]
Plain = Literal["vanilla", "v-skipinit", "u-spa", "e-spa"]
Architecture = Normed | Plain
EPS = 1e-5
ORTHOGONAL = Dense(init="orthogonal")
GAMMA = 0.005  # of the last layer of E-SPA, as in replications of arXiv 2302.10322
RHO = 0.5  # of the last layer of U-SPA; the paper's own choice is not known to us


def blocks(architecture: Architecture, heads: int, depth: int) -> tuple[Chain, ...]:
    """Return the blocks of a language model: causal attention, then an MLP.

    >>> blocks("pre", 2, 1)[0].layers[1]
    Residual(LayerNorm(1e-05, True) >> Mlp(relu))
    """
    if architecture in get_args(Plain):
        return _plain(architecture, heads, depth)
    norm = LayerNorm(EPS, affine=True)
    attention = Attention(Softmax(), mask="causal", heads=heads)
    match architecture:
        case "sublayer":
            block = Residual(attention >> norm) >> Residual(Mlp(relu) >> norm)
        case "pre":
            block = Residual(norm >> attention) >> Residual(norm >> Mlp(relu))
        case _:
            block = Residual(attention) >> norm >> Residual(Mlp(relu)) >> norm
    return (block,) * depth


def _plain(architecture: Architecture, heads: int, depth: int) -> tuple[Chain, ...]:
    if architecture == "vanilla":
        attention = Attention(Softmax(), mask="causal", heads=heads)
        # A ReLU halves the mean square, and the output's weights double it again.
        return (attention >> Mlp(relu, output=Dense(2)),) * depth
    patterns: tuple[Pattern, ...] = (Shaped(Softmax(), 1, 0, 0),) * depth
    if architecture == "u-spa":
        patterns = Spa.schedule(UniformKernel(RHO), depth)
    if architecture == "e-spa":
        patterns = Spa.schedule(ExponentialKernel(GAMMA), depth)
    mlp = Mlp(tailored(depth), hidden=ORTHOGONAL, output=ORTHOGONAL)
    return tuple(
        Attention(pattern, "causal", heads, ORTHOGONAL, ORTHOGONAL) >> mlp
        for pattern in patterns
    )


def tailored(depth: int) -> Activation:
    """Return the leaky ReLU whose C-map, `depth` times, takes 0 to 0.9 (LReLU-TAT).

    Raises:
        ArgumentError: if so few cannot: 13 ReLUs are the fewest.
    """
    slope = tat_leaky_slope(lambda phi: Mlp(phi) * depth)
    return tat_leaky_relu(slope).activation
