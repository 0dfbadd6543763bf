"""Which records a tokenizer is made from and which it is measured on: told by a hash of their ids, so that the same records
give the same tokenizer whatever their order, and none is in both.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from training import records
from training.records import Record

HELD_OUT_SHARE = 0.01
HELD_OUT_RECORDS = 200
"""Of one language at most."""
MIN_LANGUAGE_RECORDS = 3
_UNPACKED_RATIO = 2.5
"""Bytes of text to a byte of the file, a low estimate: too large a sample is only slower."""
_MAX = float(1 << 64)


@dataclass(frozen=True)
class Sample:
    """Records of which a share trains, so that about `train_bytes` of text do; all where there is less."""

    shards: Sequence[Path]
    train_bytes: int

    @property
    def share(self) -> float:
        """Of the records that are not held out."""
        unpacked = sum(path.stat().st_size for path in self.shards) * _UNPACKED_RATIO
        return min(1.0, self.train_bytes / unpacked) if unpacked else 1.0

    def training(self) -> Iterator[str]:
        """Texts to train on, each time the same."""
        share = self.share
        for record in self._records():
            place = _place(record.id)
            if not is_held_out(record.id) and (place - HELD_OUT_SHARE) < share * (1 - HELD_OUT_SHARE):
                yield record.text

    def held_out(self) -> Mapping[str, list[str]]:
        """Texts by language to measure on. A corpus of few records has none to spare: then its first ones are measured."""
        found, first = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
        for record in self._records():
            language = str(record.metadata.get("language") or "unknown")
            if len(first[language]) < MIN_LANGUAGE_RECORDS:
                first[language].append(record.text)
            if is_held_out(record.id) and len(found[language]) < HELD_OUT_RECORDS:
                found[language].append(record.text)
        return {
            language: found[language] if len(found[language]) >= MIN_LANGUAGE_RECORDS else texts
            for language, texts in first.items()
        }

    def _records(self) -> Iterator[Record]:
        for path in self.shards:
            yield from records.read(path)


def is_held_out(record_id: str) -> bool:
    """Whether a record is measured on and not trained on."""
    return _place(record_id) < HELD_OUT_SHARE


def _place(record_id: str) -> float:
    """Evenly in 0 to 1."""
    return int.from_bytes(hashlib.blake2b(record_id.encode(), digest_size=8).digest(), "big") / _MAX
