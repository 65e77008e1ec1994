"""LlamaModel of transformers: pre-norm, rotary, gated MLP, all weights N(0, range^2), no biases.

Heads may share keys and values: their outputs then fluctuate together, but the limit of wide
heads is the same, since queries and output weights stay independent and what is shared, keys
and values, enters by its kernel alone. The frequencies of rotary encodings are those of wide
heads, which d features miss by up to 2 / d of the covariance.
(Touvron et al. 2023, section 2.2; Ainslie et al. 2023; PreTrainedModel._init_weights.)
"""

from fractions import Fraction
from typing import Any

from asymptest.theory.errors import UnsupportedError
from asymptest.theory.network import (
    Attention,
    Chain,
    Dense,
    Network,
    Pointwise,
    Product,
    Residual,
    RMSNorm,
)
from asymptest.theory.patterns import Softmax
from asymptest.theory.positions import Rotary
from asymptest.verify.reading.activations import activation
from asymptest.verify.reading.laws import Law, dense, normal, variance_of
from asymptest.verify.reading.parts import (
    Embedding,
    Part,
    Reading,
    initial_norm,
    numbered,
    reading,
)
from asymptest.verify.reading.torch_modules import embedded, no_logit_bias


def llama(model: Any) -> Reading:
    """Return the reading of a LlamaModel.

    Raises:
        UnsupportedError: if its rotary encodings are scaled, its heads are not n / H wide, or
            a weight is at no initialisation.
    """
    config = model.config
    n, deviation = config.hidden_size, config.initializer_range or 0.02
    rope = config.rope_parameters
    if rope["rope_type"] != "default":
        raise UnsupportedError(
            f"rotary_emb changes its frequencies ({rope['rope_type']}), and a description "
            f"has base^(-2m/d): use rope_type='default'"
        )
    position = Rotary(float(rope["rope_theta"]))
    parts = [
        Part(name, _layer(layer, name, n, position, normal(deviation)))
        for name, layer in numbered("layers", model.layers)
    ]
    parts.append(Part("norm", _norm(model.norm, "norm")))
    embedding = Embedding(
        embedded(model.embed_tokens, "embed_tokens.weight", deviation),
        model.embed_tokens.num_embeddings,
        padding=model.embed_tokens.padding_idx,
    )
    return reading(parts, n, parts[0].name, embedding)


def _layer(layer: Any, name: str, n: int, position: Rotary, law: Law) -> Chain:
    one, two = (
        _norm(getattr(layer, label), f"{name}.{label}")
        for label in ("input_layernorm", "post_attention_layernorm")
    )
    attend = _attention(layer.self_attn, f"{name}.self_attn", n, position, law)
    mlp = _gated(layer.mlp, f"{name}.mlp", n, law)
    return Residual(one >> attend) >> Residual(two >> mlp)


def _norm(module: Any, name: str) -> Network:
    return initial_norm(module, name, module.variance_epsilon, RMSNorm)


def _attention(module: Any, name: str, n: int, position: Rotary, law: Law) -> Attention:
    heads = module.q_proj.out_features // module.head_dim
    if module.q_proj.out_features != n:
        raise UnsupportedError(
            f"{name} has {heads} heads of {module.head_dim} features, and a description "
            f"keeps the width {n}: leave head_dim out"
        )
    variance = n**2 * module.scaling**2 * module.head_dim
    for label in ("q_proj", "k_proj"):
        part = getattr(module, label)
        variance *= variance_of(part.weight, f"{name}.{label}.weight", law)
        no_logit_bias([part.bias], f"{name}.{label}.bias")
    value, output = (
        _dense(getattr(module, label), f"{name}.{label}", law)
        for label in ("v_proj", "o_proj")
    )
    pattern = Softmax("1/sqrt(d)", variance=variance, position=position)
    return Attention(pattern, "causal", heads, value, output)


def _gated(module: Any, name: str, n: int, law: Law) -> Network:
    phi = activation(module.act_fn, f"{name}.act_fn")
    wide = Fraction(module.gate_proj.out_features, n)
    gate, up, down = (
        _dense(getattr(module, label), f"{name}.{label}", law, expansion)
        for label, expansion in (
            ("gate_proj", wide),
            ("up_proj", wide),
            ("down_proj", Fraction(1)),
        )
    )
    return Product(gate >> Pointwise(phi), up) >> down


def _dense(
    module: Any, name: str, law: Law, expansion: Fraction = Fraction(1)
) -> Dense:
    found = dense(module.weight, module.bias, f"{name}.weight", (law,))
    return Dense(found.variance, found.bias_variance, expansion=expansion)
