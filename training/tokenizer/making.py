"""From records to a checked tokenizer in its folder."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from training import records
from training.tokenizer import bpe, checks, saving
from training.tokenizer.sampling import Sample

SAMPLE_BYTES = 1_000_000_000
_ROUND_TRIPS = 500

Watch = Callable[[str, int], None]
"""Told a stage and how many bytes of text it has read."""


@dataclass(frozen=True)
class Order:
    """What is wanted. `beside` is a tokenizer to compare with, and `beside_name` what it is called."""

    corpus: Path
    out: Path
    vocabulary: int
    sample_bytes: int = SAMPLE_BYTES
    beside: checks.Encoder | None = None
    beside_name: str = ""


def check(order: Order) -> Sample:
    """Looks at corpus, folder, disk and size before long work. Errors of mesh.errors."""
    saving.check_new(order.out)
    shards = records.shards(order.corpus)
    records.check(shards)
    sample = Sample(shards, order.sample_bytes)
    bpe.check_size(order.vocabulary, sample.training)
    return sample


def make(order: Order, watch: Watch = lambda stage, done: None) -> dict[str, Any]:
    """Trains, checks, measures and writes; returns the report that lies in the folder too."""
    sample = check(order)
    read = 0

    def texts() -> Iterator[str]:
        nonlocal read
        for text in sample.training():
            read += len(text.encode())
            watch("reading", read)
            yield text

    tokenizer = bpe.train(order.vocabulary, texts)
    watch("measuring", read)
    report = _report(order, tokenizer, sample) | {"trained_on_bytes": read}
    saving.save(tokenizer, report, order.out)
    return report


def _report(order: Order, tokenizer: Tokenizer, sample: Sample) -> dict[str, Any]:
    held_out = sample.held_out()
    texts = [text for each in held_out.values() for text in each][:_ROUND_TRIPS]
    checks.check_special(tokenizer)
    measured = checks.fertility(tokenizer, held_out, order.beside)
    return {
        "vocabulary": tokenizer.get_vocab_size(),
        "fingerprint": hashlib.sha256(tokenizer.to_str().encode()).hexdigest()[:16],
        "corpus": str(order.corpus),
        "files": [path.name for path in sample.shards],
        "share_of_records": round(sample.share, 6),
        "round_trips": checks.check_round_trips(tokenizer, texts),
        "beside": order.beside_name or None,
        "fertility": {language: asdict(each) for language, each in measured.items()},
    }
