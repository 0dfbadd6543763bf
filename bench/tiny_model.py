"""An embedder that costs next to nothing, for what is measured beside embedding: the default model's tokens and dimensions,
made by a network of one small layer with random weights.

It stands in a models folder of its own, beside links to the real models, and goes through the same conversion and the same
code. What it finds means nothing.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import children
from bench.local_mesh import models_folder

NAME, STANDS_FOR = "tiny", "all-minilm-l6-v2"
CONVERTED = "openvino"
_HIDDEN = 32


@contextmanager
def tiny_model() -> Iterator[dict[str, str]]:
    """The environment of a mesh that embeds with it, while inside."""
    with TemporaryDirectory(prefix="murphey-bench-models-") as name:
        folder, real = Path(name), models_folder()
        (folder / CONVERTED).mkdir()
        for entry in (*real.iterdir(), *(real / CONVERTED).glob("*")):
            if entry.name != CONVERTED:
                (folder / entry.relative_to(real)).symlink_to(entry.absolute())
        model = str(folder / NAME)
        command = [*children.module("bench.tiny_model"), str(real / STANDS_FOR), model]
        subprocess.run(command, check=True, capture_output=True)  # so that torch does not stay in memory
        yield {"MURPHEY_MODELS": name, "MURPHEY_RETRIEVER_EMBEDDER": model, "MURPHEY_INGEST_TOKENIZER": model}


def _make(like: Path, folder: Path) -> None:
    """A sentence-transformers model with the tokenizer and the number of dimensions of another one."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Transformer
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(like)
    dimensions = config.hidden_size
    config.update({
        "hidden_size": _HIDDEN, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": _HIDDEN,
    })  # fmt: skip
    with TemporaryDirectory() as scratch:
        AutoModel.from_config(config).save_pretrained(scratch)
        for file in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
            shutil.copy(like / file, scratch)
        network = Transformer(scratch, max_seq_length=256)
        pooling = Pooling(_HIDDEN, "mean")
        SentenceTransformer(modules=[network, pooling, Dense(_HIDDEN, dimensions)], device="cpu").save(str(folder))


if __name__ == "__main__":
    _make(Path(sys.argv[1]), Path(sys.argv[2]))
