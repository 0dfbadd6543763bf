"""Reads token shards through memory maps: any stretch of a split's tokens, at the cost of its own bytes."""

import bisect
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mesh.errors import Corrupt, InvalidInput
from training.pretraining.packing import FORMAT, INDEX


@dataclass(frozen=True)
class Split:
    """The tokens of a split: shards one behind the other."""

    shards: tuple[np.ndarray[Any, Any], ...]
    starts: tuple[int, ...]
    tokens: int

    def read(self, start: int, count: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Tokens `start` to `start + count`, which must be there, as (count,) int64."""
        place = bisect.bisect_right(self.starts, start) - 1
        pieces: list[np.ndarray[Any, Any]] = []
        offset = start - self.starts[place]
        while count > 0:
            piece = self.shards[place][offset : offset + count]
            pieces.append(piece)
            count, place, offset = count - len(piece), place + 1, 0
        joined = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        return joined.astype(np.int64)


@dataclass(frozen=True)
class TokenShards:
    """A folder that `pack` wrote."""

    folder: Path
    vocabulary: int
    end_of_text_id: int
    tokenizer_fingerprint: str
    fingerprint: str
    train: Split
    validation: Split

    @property
    def tokenizer(self) -> Path:
        """The folder of the tokenizer that made the tokens."""
        return self.folder / "tokenizer"


def open_shards(folder: Path) -> TokenShards:
    """InvalidInput for a folder that holds no token shards; Corrupt for a shard that is missing or cut off."""
    path = folder / INDEX
    if not path.is_file():
        raise InvalidInput(f"{folder} holds no {INDEX}: `murphey train pack` makes token shards.", field="data")
    try:
        index: dict[str, Any] = json.loads(path.read_text())
        if index["format"] != FORMAT:
            raise InvalidInput(f"{path} has the format {index['format']}; this version reads {FORMAT}. Pack again.")
        splits = {name: _split(folder, split["shards"], index["dtype"]) for name, split in index["splits"].items()}
        return TokenShards(
            folder, index["vocabulary"], index["end_of_text_id"], index["tokenizer"],
            f"{index['corpus']}-{index['tokenizer']}-{index['validation_share']}", splits["train"], splits["validation"],
        )  # fmt: skip
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise Corrupt(f"{path} is not what `murphey train pack` wrote: make the token shards again.") from error


def _split(folder: Path, shards: list[dict[str, Any]], dtype: str) -> Split:
    maps: list[np.ndarray[Any, Any]] = []
    for shard in shards:
        path, wanted = folder / shard["file"], shard["tokens"] * np.dtype(dtype).itemsize
        found = path.stat().st_size if path.is_file() else -1
        if found != wanted:
            told = "is missing" if found < 0 else f"has {found:,} bytes instead of {wanted:,}"
            raise Corrupt(f"{path} {told}: make the token shards again.")
        maps.append(np.memmap(path, dtype=dtype, mode="r"))
    ends = list(itertools.accumulate(len(each) for each in maps))
    return Split(tuple(maps), (0, *ends[:-1]), ends[-1] if ends else 0)
