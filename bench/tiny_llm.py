"""A language model that costs next to nothing, for what is measured beside generation: the default model's tokenizer over one
small layer with random weights, as a GGUF file that the same engine runs. What it says means nothing.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench import children
from bench.local_mesh import models_folder

STANDS_FOR = "smollm2-135m-instruct"
FILE = "smollm2-tiny.gguf"
"""Its name chooses the prompts of the model that it stands for."""
_WIDTH, _INNER, _HEADS = 64, 64, 2


@contextmanager
def tiny_llm() -> Iterator[dict[str, str]]:
    """The environment of a mesh that generates with it, while inside."""
    with TemporaryDirectory(prefix="murphey-bench-llm-") as folder:
        path = Path(folder) / FILE
        (real,) = (models_folder() / STANDS_FOR).glob("*.gguf")
        command = [*children.module("bench.tiny_llm"), str(real), str(path)]
        subprocess.run(command, check=True, capture_output=True)  # so that nothing of it stays in memory
        yield {"MURPHEY_GENERATOR_MODEL": str(path)}


def _make(like: Path, path: Path) -> None:
    import numpy
    from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, quants

    reader, writer = GGUFReader(like), GGUFWriter(path, "llama")
    smaller = {
        "llama.block_count": 1, "llama.embedding_length": _WIDTH, "llama.feed_forward_length": _INNER,
        "llama.attention.head_count": _HEADS, "llama.attention.head_count_kv": _HEADS,
        "llama.rope.dimension_count": _WIDTH // _HEADS, "general.file_type": 7,
    }  # fmt: skip
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        value: Any = smaller.get(field.name, field.contents())
        inner = field.types[-1] if field.types[0] is GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, value, field.types[0], inner)
    chance = numpy.random.default_rng(0)
    words = next(int(tensor.shape[1]) for tensor in reader.tensors if tensor.name == "token_embd.weight")
    shapes = {
        "token_embd": (words, _WIDTH), "blk.0.attn_q": (_WIDTH, _WIDTH), "blk.0.attn_k": (_WIDTH, _WIDTH),
        "blk.0.attn_v": (_WIDTH, _WIDTH), "blk.0.attn_output": (_WIDTH, _WIDTH), "blk.0.ffn_gate": (_INNER, _WIDTH),
        "blk.0.ffn_up": (_INNER, _WIDTH), "blk.0.ffn_down": (_WIDTH, _INNER),
    }  # fmt: skip
    for name, shape in shapes.items():
        weights = chance.normal(0, 0.05, shape).astype(numpy.float32)
        kind = GGMLQuantizationType.Q8_0
        writer.add_tensor(f"{name}.weight", quants.quantize(weights, kind), raw_dtype=kind)
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        writer.add_tensor(f"{name}.weight", numpy.ones(_WIDTH, numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    _make(Path(sys.argv[1]), Path(sys.argv[2]))
