"""GPT2Model of transformers: pre-norm, causal, residual projections scaled by depth.

All weights are drawn from N(0, initializer_range^2), but for the two projections c_proj
that end the residual branches, which have that variance over 2 n_layer; biases are 0.
(Radford et al. 2019, section 2.3; GPT2PreTrainedModel._init_weights.)
"""

from fractions import Fraction
from typing import Any

from asymptest.theory.errors import UnsupportedError
from asymptest.theory.network import (
    Attention,
    Chain,
    LayerNorm,
    Mlp,
    Residual,
)
from asymptest.theory.patterns import Softmax
from asymptest.verify.reading.activations import activation
from asymptest.verify.reading.laws import Law, dense, normal, variance_of
from asymptest.verify.reading.parts import (
    Embedding,
    Part,
    Reading,
    norm,
    numbered,
    reading,
)
from asymptest.verify.reading.torch_modules import embedded, no_logit_bias


def gpt2(model: Any) -> Reading:
    """Return the reading of a GPT2Model.

    Raises:
        UnsupportedError: if it attends to an encoder, or a weight is at no initialisation.
    """
    config = model.config
    if config.add_cross_attention:
        raise UnsupportedError(
            "h.0.crossattention attends to an encoder's states, and a description has one "
            "stream: use add_cross_attention=False"
        )
    n, deviation = config.hidden_size, config.initializer_range or 0.02
    laws = normal(deviation), normal(deviation / (2 * config.num_hidden_layers) ** 0.5)
    parts = [
        Part(name, _block(block, name, n, *laws))
        for name, block in numbered("h", model.h)
    ]
    parts.append(Part("ln_f", norm(model.ln_f, "ln_f", n, model.ln_f.eps, LayerNorm)))
    embedding = Embedding(
        embedded(model.wte, "wte.weight", deviation),
        model.wte.num_embeddings,
        embedded(model.wpe, "wpe.weight", deviation),
        model.wpe.num_embeddings,
    )
    return reading(parts, n, parts[0].name, embedding)


def _block(block: Any, name: str, n: int, law: Law, scaled: Law) -> Chain:
    """Return one block; `law` is that of all weights but the residual projections."""
    one, two = (
        norm(part, f"{name}.{label}", n, part.eps, LayerNorm)
        for part, label in ((block.ln_1, "ln_1"), (block.ln_2, "ln_2"))
    )
    inner = block.mlp.c_fc.nf
    mlp = Mlp(
        activation(block.mlp.act, f"{name}.mlp.act"),
        Fraction(inner, n),
        projection(block.mlp.c_fc, f"{name}.mlp.c_fc", law),
        projection(block.mlp.c_proj, f"{name}.mlp.c_proj", scaled),
    )
    attend = _attention(block.attn, f"{name}.attn", n, law, scaled)
    return Residual(one >> attend) >> Residual(two >> mlp)


def projection(module: Any, name: str, law: Law) -> Any:
    """Return a Conv1D, which holds its weight as (in, out)."""
    return dense(module.weight.T, module.bias, f"{name}.weight", (law,))


def _attention(module: Any, name: str, n: int, law: Law, scaled: Law) -> Attention:
    where = f"{name}.c_attn"
    query, key, value = module.c_attn.weight.T.split(n)
    biases = module.c_attn.bias.split(n)
    no_logit_bias(biases[:2], f"{where}.bias")
    variance = n**2
    for weight, part in ((query, "query"), (key, "key")):
        variance *= variance_of(weight, f"{where}.weight ({part})", law)
    # What its own factor has beside 1 / sqrt(d): 1 / layer, or no 1 / sqrt(d).
    variance *= module.scaling**2 * module.head_dim
    return Attention(
        Softmax("1/sqrt(d)", variance=variance),
        "causal",
        module.num_heads,
        value=dense(value, biases[2], f"{where}.weight", (law,)),
        output=projection(module.c_proj, f"{name}.c_proj", scaled),
    )
