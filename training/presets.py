"""Shapes of models: the presets, and what a shape costs in parameters, memory and floating-point operations.

All are Llama architectures, so that every engine of the generator loads what is trained. Nothing here needs torch; the
shape becomes a `LlamaConfig` in `llama_config`.
"""

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from mesh.errors import InvalidInput

if TYPE_CHECKING:
    from transformers import LlamaConfig

VOCABULARY_MULTIPLE = 64
"""Rows of the embedding are padded to this: matrix kernels like it, and the padding is never predicted."""


@dataclass(frozen=True)
class Shape:
    """A Llama architecture without its vocabulary. `feed_forward` is the width of the gated layer (SwiGLU)."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    feed_forward: int
    context_tokens: int
    tied_embeddings: bool = True
    rope_theta: float = 10_000.0


PRESETS = {
    "nano": Shape(128, 4, 4, 4, 352, 256),
    "small": Shape(576, 30, 9, 3, 1536, 2048),
    "medium": Shape(960, 32, 15, 5, 2560, 2048),
    "1b": Shape(2048, 16, 32, 8, 8192, 4096, rope_theta=500_000.0),
    "2b": Shape(2560, 28, 20, 4, 6912, 4096, rope_theta=500_000.0),
    "7b": Shape(4096, 32, 32, 8, 14_336, 4096, tied_embeddings=False, rope_theta=500_000.0),
}
"""small, medium, 1b and 7b have the shapes of SmolLM2-135M, SmolLM2-360M, Llama-3.2-1B and Mistral-7B."""


def shape_of(preset: str, **changes: int | float | bool | None) -> Shape:
    """A preset with some of its fields changed. InvalidInput for an unknown preset or a shape that cannot be."""
    if preset not in PRESETS:
        raise InvalidInput(f"There is no preset {preset!r}; there are {', '.join(PRESETS)}.", field="preset")
    shape = replace(PRESETS[preset], **{name: value for name, value in changes.items() if value is not None})
    if shape.hidden % shape.heads or (shape.hidden // shape.heads) % 2:
        raise InvalidInput(
            f"hidden is {shape.hidden} and heads {shape.heads}: a head needs an even, whole number of values.",
            field="heads",
        )
    if shape.heads % shape.kv_heads:
        raise InvalidInput(
            f"heads is {shape.heads}, which kv_heads, {shape.kv_heads}, does not divide.", field="kv_heads"
        )
    return shape


def padded_vocabulary(tokens: int) -> int:
    """Rows of the embedding for a vocabulary."""
    return -(-tokens // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE


def parameters(shape: Shape, vocabulary: int) -> int:
    """All parameters; `vocabulary` is the number of rows of the embedding."""
    embeddings = vocabulary * shape.hidden * (1 if shape.tied_embeddings else 2)
    return embeddings + shape.hidden + shape.layers * _layer_parameters(shape)


def flops_per_token(shape: Shape, vocabulary: int, sequence_tokens: int) -> float:
    """Of one token's training, forward and backward: 6 a weight that is multiplied with, and attention's.

    As in PaLM's appendix B (Chowdhery et al. 2022), which counts attention as if it were not causal. Nothing is counted for
    activations that are computed again.
    """
    multiplied = shape.layers * (_layer_parameters(shape) - 2 * shape.hidden) + vocabulary * shape.hidden
    return 6.0 * multiplied + 12.0 * shape.layers * shape.hidden * sequence_tokens


@dataclass(frozen=True)
class Memory:
    """Bytes that training takes on one device."""

    weights_and_gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """Of all."""
        return self.weights_and_gradients + self.optimizer + self.activations


def memory(shape: Shape, vocabulary: int, sequences: int, sequence_tokens: int, bf16: bool, shards: int = 1) -> Memory:
    """An estimate: float32 weights, gradients and AdamW's two moments, over `shards` devices, and activations of a
    micro-batch: what each layer keeps for its backward pass, and the logits.
    """
    count = parameters(shape, vocabulary) // shards
    kv = shape.hidden // shape.heads * shape.kv_heads
    kept_values = shape.layers * (8 * shape.hidden + 2 * kv + 4 * shape.feed_forward)
    value_bytes = 2 if bf16 else 4
    activations = sequences * sequence_tokens * (kept_values * value_bytes + vocabulary * (value_bytes + 8))
    return Memory(count * 8 + (count * 2 if bf16 else 0), count * 8, activations)


def checkpoint_bytes(shape: Shape, vocabulary: int) -> int:
    """Of a whole checkpoint: float32 weights and AdamW's two moments."""
    return 12 * parameters(shape, vocabulary)


def llama_config(
    shape: Shape, vocabulary: int, bos_token_id: int | None, eos_token_id: int, pad_token_id: int | None
) -> "LlamaConfig":
    """The shape in transformers' own form; `vocabulary` is the number of rows of the embedding."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=vocabulary, hidden_size=shape.hidden, intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
        max_position_embeddings=shape.context_tokens, rms_norm_eps=1e-5, tie_word_embeddings=shape.tied_embeddings,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
        bos_token_id=bos_token_id, eos_token_id=eos_token_id, pad_token_id=pad_token_id,
    )  # fmt: skip


def as_dict(shape: Shape) -> dict[str, int | float | bool]:
    """For what is recorded of a run."""
    return asdict(shape)


def _layer_parameters(shape: Shape) -> int:
    kv = shape.hidden // shape.heads * shape.kv_heads
    attention = 2 * shape.hidden * shape.hidden + 2 * shape.hidden * kv
    return attention + 3 * shape.hidden * shape.feed_forward + 2 * shape.hidden
