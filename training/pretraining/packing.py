"""Turns prepared text into token shards: one long stream of tokens a split, each document closed by the end-of-text token.

Reads JSON lines (`*.jsonl.zst` with `id` and `text`) and a Hugging Face tokenizer; leaves cleaning to preparation. A document
goes to the validation split by the hash of its id, so that another order or more documents do not move it.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mesh.errors import AlreadyExists, InvalidInput
from training import disk, records
from training.tokenizers_read import TextTokenizer, read_tokenizer

FORMAT = 1
INDEX = "index.json"
SPLITS = ("train", "validation")
_DOCUMENTS_AT_ONCE = 256
_TOKEN_BYTES_A_PACKED_BYTE = 3
"""Text unpacks to about three times its size, and has at most as many bytes of tokens as characters."""


@dataclass
class _Split:
    """A split that is being written. A shard ends at a document's end."""

    name: str
    folder: Path
    dtype: np.dtype[Any]
    shard_tokens: int
    shards: list[dict[str, Any]] = field(default_factory=list)
    tokens: int = 0
    documents: int = 0
    _file: BinaryIO | None = None

    def add(self, ids: list[int]) -> None:
        """Appends a document with its end."""
        if self._file is None:
            name = f"{self.name}-{len(self.shards):05d}.bin"
            self._file = (self.folder / name).open("wb")
            self.shards.append({"file": name, "tokens": 0, "documents": 0})
        self._file.write(np.asarray(ids, dtype=self.dtype).tobytes())
        shard = self.shards[-1]
        shard["tokens"] += len(ids)
        shard["documents"] += 1
        self.tokens, self.documents = self.tokens + len(ids), self.documents + 1
        if shard["tokens"] >= self.shard_tokens:
            self.close()

    def close(self) -> None:
        """Ends the shard that is open."""
        if self._file is not None:
            self._file.close()
            self._file = None


def pack(
    sources: list[Path], tokenizer_folder: Path, out: Path, validation_share: float = 0.01, shard_tokens: int = 1 << 27
) -> dict[str, Any]:
    """Writes token shards to the new folder `out`, whole or not at all; returns its index.

    `sources` are files or folders. AlreadyExists when `out` does; InvalidInput for no documents, or a line without text;
    Corrupt for a file that is cut off; FailedPrecondition when the disk has no room.
    """
    if out.exists():
        raise AlreadyExists(f"{out} exists already; nothing was overwritten. Name another folder, or remove it.")
    files = corpus_files(sources)
    tokenizer = read_tokenizer(tokenizer_folder)
    out.parent.mkdir(parents=True, exist_ok=True)
    records.check(files)
    disk.need(out.parent, sum(file.stat().st_size for file in files) * _TOKEN_BYTES_A_PACKED_BYTE)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        made = Path(scratch) / "shards"
        made.mkdir()
        index = _write(files, tokenizer, made, validation_share, shard_tokens)
        tokenizer.save(made / "tokenizer")
        (made / INDEX).write_text(json.dumps(index, indent=1))
        made.rename(out)
    return index


def corpus_files(sources: Iterable[Path]) -> list[Path]:
    """The files in order. InvalidInput for none."""
    files = [
        file for source in sources for file in (sorted(source.rglob("*.jsonl.zst")) if source.is_dir() else [source])
    ]
    if not files:
        raise InvalidInput(f"{', '.join(map(str, sources))} holds no *.jsonl.zst; `murphey train prepare` makes them.")
    for file in files:
        if not file.is_file():
            raise InvalidInput(f"{file} does not exist.")
    return files


def documents(file: Path) -> Iterator[tuple[str, str]]:
    """Id and text of each record of a file. Corrupt when it is damaged, InvalidInput for a line that is no record with text."""
    for number, record in enumerate(records.read(file), 1):
        if not record.text:
            raise InvalidInput(f"{file}, line {number}: a record without text. Prepare the corpus again.")
        yield record.id or f"{file.name}:{number}", record.text


def _write(
    files: list[Path], tokenizer: TextTokenizer, folder: Path, validation_share: float, shard_tokens: int
) -> dict[str, Any]:
    dtype = np.dtype(np.uint16 if tokenizer.vocabulary <= 1 << 16 else np.uint32)
    splits = {name: _Split(name, folder, dtype, shard_tokens) for name in SPLITS}
    digest = hashlib.blake2b(digest_size=16)
    for batch in _batches(files):
        for (identifier, text), ids in zip(batch, tokenizer.encode([text for _, text in batch]), strict=True):
            digest.update(f"{identifier}\0{len(text)}\0".encode())
            digest.update(hashlib.blake2b(text.encode(errors="surrogatepass")).digest())
            splits[split_of(identifier, validation_share)].add([*ids, tokenizer.end_of_text_id])
    for split in splits.values():
        split.close()
    if not splits["train"].documents:
        raise InvalidInput("The corpus holds no documents to train on.")
    return {
        "format": FORMAT,
        "dtype": dtype.name,
        "vocabulary": tokenizer.vocabulary,
        "end_of_text_id": tokenizer.end_of_text_id,
        "tokenizer": tokenizer.fingerprint,
        "corpus": digest.hexdigest(),
        "validation_share": validation_share,
        "splits": {
            name: {"tokens": split.tokens, "documents": split.documents, "shards": split.shards}
            for name, split in splits.items()
        },
    }


def _batches(files: list[Path]) -> Iterator[list[tuple[str, str]]]:
    batch: list[tuple[str, str]] = []
    for file in files:
        for document in documents(file):
            batch.append(document)
            if len(batch) == _DOCUMENTS_AT_ONCE:
                yield batch
                batch = []
    if batch:
        yield batch


def split_of(identifier: str, validation_share: float) -> str:
    """The split of a document."""
    share = int.from_bytes(hashlib.blake2b(identifier.encode(), digest_size=8).digest()) / 2**64
    return "validation" if share < validation_share else "train"
