"""The stages of preparing, each a datatrove pipeline over the files that the one before has written.

filter      every text: language, quality, personal data; what is left is written, with a hash of every text
exact       which texts are there before
signatures  the MinHash of every text that is there once
pairs       which texts share a bucket
clusters    which texts of each group are dropped
select      what no stage has dropped, without what is evaluated on, as the files of the result
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup.exact_dedup import ExactDedupFilter, ExactFindDedups
from datatrove.pipeline.dedup.minhash import MinhashDedupBuckets, MinhashDedupFilter

from training.prepare.contamination import Decontaminate
from training.prepare.documents import ReadRecords, WriteRecords, task_file
from training.prepare.duplicates import (
    EXACT,
    LINES_BUFFERED,
    MINHASH,
    Clusters,
    ExactSignatures,
    NearSignatures,
)
from training.prepare.filters import LanguageFilter, quality_filters
from training.prepare.measuring import Measured
from training.prepare.personal import Personal
from training.prepare.samples import Samples
from training.prepare.settings import Rules

READ, FILTER, SELECT = "read", "filter", "select"


@dataclass(frozen=True)
class Stage:
    """A pipeline that runs as so many tasks. `reads` are files of records, whose sizes tell how long it will take."""

    name: str
    steps: list[PipelineStep]
    tasks: int
    reads: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Workplace:
    """Where everything lies while it is prepared."""

    folder: Path

    @property
    def filtered(self) -> Path:
        return self.folder / "filtered"

    @property
    def samples(self) -> Path:
        return self.folder / "samples"

    @property
    def index(self) -> Path:
        return self.folder / "evaluation-sets.npy"

    @property
    def result(self) -> Path:
        return self.folder / "result"

    def logs(self, stage: str) -> Path:
        """Of a stage: which tasks are done, and what each has counted."""
        return self.folder / "logs" / stage

    def told(self, stage: str) -> Path:
        """How far the tasks of a stage have read."""
        return self.folder / "told" / stage

    def part(self, name: str) -> Path:
        """A folder of what one stage hands to the next."""
        return self.folder / name


def list_stages(shards: Sequence[Path], rules: Rules, place: Workplace) -> list[Stage]:
    """All stages, in their order."""
    filtered = tuple(task_file(place.filtered, rank) for rank in range(len(shards)))
    stages = [
        Stage(FILTER, _filter(shards, rules, place), len(shards), tuple(shards)),
        Stage("exact", [Measured("exact search", _find_exact(place))], 1),
    ]
    if rules.near_duplicates:
        stages += [
            Stage("signatures", _signatures(filtered, place), len(shards), filtered),
            Stage("pairs", [Measured("near-duplicate search", _find_pairs(place))], MINHASH.num_buckets),
            Stage("clusters", [Measured("clusters", _clusters(place))], 1),
        ]
    return [*stages, Stage(SELECT, _select(filtered, rules, place), len(shards), filtered)]


def _filter(shards: Sequence[Path], rules: Rules, place: Workplace) -> list[PipelineStep]:
    language = LanguageFilter(rules.languages, rules.least_language_share, Samples(place.samples, "language"))
    return [
        Measured(READ, ReadRecords(list(shards), place.told(FILTER))),
        Measured("language", language),
        *([Measured(*named) for named in quality_filters(place.samples)] if rules.quality else []),
        *([Measured("personal data", Personal())] if rules.personal else []),
        Measured("write filtered", WriteRecords(place.filtered, None)),
        Measured("exact signatures", ExactSignatures(place.part("exact"))),
    ]


def _signatures(filtered: tuple[Path, ...], place: Workplace) -> list[PipelineStep]:
    return [
        Measured("read again", ReadRecords(list(filtered), place.told("signatures"))),
        Measured("without exact ones", _without_exact(place, samples=False)),
        Measured("MinHash signatures", NearSignatures(place.part("near"), place.part("counts"))),
    ]


def _select(filtered: tuple[Path, ...], rules: Rules, place: Workplace) -> list[PipelineStep]:
    steps: list[PipelineStep] = [
        Measured("read to select", ReadRecords(list(filtered), place.told(SELECT))),
        Measured("exact duplicates", _without_exact(place, samples=True)),
    ]
    if rules.near_duplicates:
        samples: Any = Samples(place.samples, "near duplicates")
        near = MinhashDedupFilter(str(place.part("drop")), exclusion_writer=samples, lines_to_buffer=LINES_BUFFERED)
        steps.append(Measured("near duplicates", near))
    if rules.evaluation_sets:
        steps.append(Measured("decontamination", Decontaminate(place.index, Samples(place.samples, "decontamination"))))
    return [*steps, Measured("write", WriteRecords(place.result, rules.shard_bytes))]


def _find_exact(place: Workplace) -> PipelineStep:
    return ExactFindDedups(
        str(place.part("exact")), str(place.part("exact-found")), config=EXACT, lines_to_buffer=LINES_BUFFERED
    )


def _without_exact(place: Workplace, *, samples: bool) -> PipelineStep:
    place.part("exact-found").mkdir(parents=True, exist_ok=True)
    kept: Any = Samples(place.samples, "exact duplicates") if samples else None
    return ExactDedupFilter(str(place.part("exact-found")), config=EXACT, exclusion_writer=kept)


def _find_pairs(place: Workplace) -> PipelineStep:
    near, pairs = str(place.part("near")), str(place.part("pairs"))
    return MinhashDedupBuckets(near, pairs, config=MINHASH, lines_to_buffer=LINES_BUFFERED)


def _clusters(place: Workplace) -> PipelineStep:
    return Clusters(place.part("pairs"), place.part("counts"), place.part("drop"))
