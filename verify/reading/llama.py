"""LlamaModel of transformers: what of it no node of theory/ expresses yet.

Its embedding, RMSNorm, causal softmax and residual sums are nodes; the rotation of queries
and keys, the gated MLP and heads that share keys are not, so that it is refused as a whole.
"""

from typing import Any

from asymptest.theory.errors import UnsupportedError
from asymptest.verify.reading.parts import Reading


def llama(model: Any) -> Reading:
    """Raise UnsupportedError, naming every submodule that has no node."""
    config = model.config
    lacking = [
        (
            "layers.0.self_attn: queries and keys are rotated by their position "
            "(rotary_emb), which gives logits with the covariance of other positions"
        ),
        (
            "layers.0.mlp: the product act_fn(gate_proj(x)) * up_proj(x) of two "
            "projections is no Mlp"
        ),
    ]
    if (shared := config.num_key_value_heads) < config.num_attention_heads:
        lacking.append(
            f"layers.0.self_attn.k_proj: {config.num_attention_heads} heads share {shared} "
            f"keys and values, so that their outputs are not independent"
        )
    raise UnsupportedError(
        f"{type(model).__name__} cannot be described: {'; '.join(lacking)}"
    )
