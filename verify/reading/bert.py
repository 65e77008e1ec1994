"""BertModel of transformers: post-norm, every position seen; all weights N(0, range^2).

The description begins at the sum of the three embeddings, before their LayerNorm. The
pooler, which reads the first position alone, is no part of it. Biases are 0.
(Devlin et al. 2019, appendix A.2; PreTrainedModel._init_weights.)
"""

from fractions import Fraction
from typing import Any

from asymptest.theory.errors import UnsupportedError
from asymptest.theory.network import Attention, Chain, LayerNorm, Mlp, Residual
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


def bert(model: Any) -> Reading:
    """Return the reading of a BertModel; as a decoder it is causal.

    Raises:
        UnsupportedError: if it attends to an encoder, or a weight is at no initialisation.
    """
    config = model.config
    if config.add_cross_attention:
        raise UnsupportedError(
            "encoder.layer.0.crossattention attends to an encoder's states, and a "
            "description has one stream: use add_cross_attention=False"
        )
    n, deviation = config.hidden_size, config.initializer_range or 0.02
    mask = "causal" if config.is_decoder else "full"
    tables, first = model.embeddings, "embeddings.LayerNorm"
    parts = [
        Part(first, norm(tables.LayerNorm, first, n, tables.LayerNorm.eps, LayerNorm))
    ]
    parts += [
        Part(name, _layer(layer, name, n, mask, normal(deviation)))
        for name, layer in numbered("encoder.layer", model.encoder.layer)
    ]
    variances = [
        embedded(getattr(tables, label), f"embeddings.{label}.weight", deviation)
        for label in ("word_embeddings", "position_embeddings", "token_type_embeddings")
    ]
    embedding = Embedding(
        token=variances[0],
        vocabulary=tables.word_embeddings.num_embeddings,
        position=variances[1],
        positions=tables.position_embeddings.num_embeddings,
        common=variances[2],
        padding=tables.word_embeddings.padding_idx,
    )
    return reading(parts, n, first, embedding)


def _layer(layer: Any, name: str, n: int, mask: Any, law: Law) -> Chain:
    inner = layer.attention.self

    def projection(module: Any, label: str) -> Any:
        return dense(module.weight, module.bias, f"{name}.{label}.weight", (law,))

    variance = n**2 * inner.scaling**2 * inner.attention_head_size
    for part, label in ((inner.query, "query"), (inner.key, "key")):
        where = f"{name}.attention.self.{label}"
        variance *= variance_of(part.weight, f"{where}.weight", law)
        no_logit_bias([part.bias], f"{where}.bias")
    attend = Attention(
        Softmax("1/sqrt(d)", variance=variance),
        mask,
        inner.num_attention_heads,
        value=projection(inner.value, "attention.self.value"),
        output=projection(layer.attention.output.dense, "attention.output.dense"),
    )
    mlp = Mlp(
        activation(
            layer.intermediate.intermediate_act_fn,
            f"{name}.intermediate.intermediate_act_fn",
        ),
        Fraction(layer.intermediate.dense.out_features, n),
        projection(layer.intermediate.dense, "intermediate.dense"),
        projection(layer.output.dense, "output.dense"),
    )
    one, two = (
        norm(part, f"{name}.{label}.LayerNorm", n, part.eps, LayerNorm)
        for part, label in (
            (layer.attention.output.LayerNorm, "attention.output"),
            (layer.output.LayerNorm, "output"),
        )
    )
    return Residual(attend) >> one >> Residual(mlp) >> two
