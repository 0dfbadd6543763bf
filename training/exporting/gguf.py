"""A Llama model as a GGUF file, with weights in 8 or 4 bits, a scale for every 32 of them.

Tensor names and the order of rows in the query and key matrices are llama.cpp's: it pairs neighbouring values in rotary
embeddings, where transformers pairs the two halves of a head (`permute` in its convert_hf_to_gguf.py). The file has no
tokenizer: it is a step on the way to OpenVINO IR, beside which the model's own tokenizer stands.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
from safetensors import safe_open

from mesh.errors import InvalidInput

Bits = Literal["int8", "int4"]
_TYPES = {"int8": gguf.GGMLQuantizationType.Q8_0, "int4": gguf.GGMLQuantizationType.Q4_1}
_FILE_TYPES = {"int8": gguf.LlamaFileType.MOSTLY_Q8_0, "int4": gguf.LlamaFileType.MOSTLY_Q4_1}
_BLOCK = 32
_ARCHITECTURE = "llama"


def write_gguf(folder: Path, file: Path, bits: Bits) -> None:
    """Writes the model in a Hugging Face folder. The embedding, from which tied models also predict, always has 8 bits.

    InvalidInput for another architecture, or rows that are no multiple of 32 values.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder)
    if config.model_type != _ARCHITECTURE:
        raise InvalidInput(f"{folder} holds a {config.model_type} model; only Llama models can be exported so.")
    writer = gguf.GGUFWriter(file, _ARCHITECTURE)
    _add_shape(writer, config, bits)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in _tensors(folder):
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        own = names.get_name(name, try_suffixes=(".weight",))
        if own is None:
            raise InvalidInput(f"{folder} has the tensor {name}, which a Llama model does not have.")
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            tensor = _permuted(tensor, heads)
        _add_tensor(writer, own, tensor, _TYPES["int8" if name.startswith(("model.embed", "lm_head")) else bits])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_shape(writer: gguf.GGUFWriter, config: Any, bits: Bits) -> None:
    writer.add_name(_ARCHITECTURE)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(_FILE_TYPES[bits])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _tensors(folder: Path) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - no mapping
                yield name, opened.get_tensor(name).float().numpy()


def _permuted(weights: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    halves = weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
    return halves.swapaxes(1, 2).reshape(weights.shape)


def _add_tensor(
    writer: gguf.GGUFWriter, name: str, tensor: np.ndarray[Any, Any], kind: gguf.GGMLQuantizationType
) -> None:
    if tensor.ndim < 2:
        writer.add_tensor(name, tensor)
        return
    if tensor.shape[-1] % _BLOCK:
        raise InvalidInput(
            f"The tensor {name} has rows of {tensor.shape[-1]} values; a multiple of {_BLOCK} is needed."
        )
    writer.add_tensor(name, gguf.quantize(tensor, kind), raw_dtype=kind)
