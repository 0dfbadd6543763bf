"""Another tokenizer to compare with: a folder's, or that of a chat model that `murphey models pull` brought."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from mesh import weights
from mesh.errors import NotFound
from training.tokenizer.checks import Encoder


def load(name: str, models: Path) -> Encoder:
    """By folder or by a model's name. NotFound when there is none."""
    found = weights.resolve(name, models)
    path = Path(found)
    if (path / "tokenizer.json").is_file():
        return Tokenizer.from_file(str(path / "tokenizer.json"))
    ggufs = [path] if path.suffix == ".gguf" else sorted(path.glob("*.gguf")) if path.is_dir() else []
    if not ggufs or not ggufs[0].is_file():
        raise NotFound(f"{name} has no tokenizer here. Name a folder with a tokenizer.json, or leave --compare away.")
    from transformers import AutoTokenizer

    return _Transformers(AutoTokenizer.from_pretrained(str(ggufs[0].parent), gguf_file=ggufs[0].name))


class _Transformers:
    """A tokenizer of transformers as one of tokenizers."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer.backend_tokenizer

    def encode(self, sequence: str, *, add_special_tokens: bool = False) -> Any:
        return self._tokenizer.encode(sequence, add_special_tokens=add_special_tokens)

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        return self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)
