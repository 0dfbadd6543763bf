"""What preparing does, and on what it runs."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mesh.errors import InvalidInput
from training.records import SHARD_BYTES

EXECUTORS = ("local", "slurm", "ray")


@dataclass(frozen=True)
class Rules:
    """What decides which texts are left, and how they are. `languages` are ISO 639-1 codes; none stands for all."""

    languages: tuple[str, ...] = ()
    least_language_share: float = 0.65
    quality: bool = True
    personal: bool = True
    near_duplicates: bool = True
    evaluation_sets: tuple[Path, ...] = ()
    shard_bytes: int = SHARD_BYTES

    def as_json(self) -> dict[str, Any]:
        """As the manifest keeps them."""
        return asdict(self) | {"evaluation_sets": [str(path.absolute()) for path in self.evaluation_sets]}


@dataclass(frozen=True)
class Machines:
    """What it runs on. `options` are handed to datatrove's executor; Slurm needs `partition` and `time` at least."""

    executor: str = "local"
    workers: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """InvalidInput for an executor that is not known, or lacks what it needs."""
        if self.executor not in EXECUTORS:
            raise InvalidInput(f"The executor {self.executor!r} is not known: {', '.join(EXECUTORS)} are.")
        missing = {"partition", "time"} - self.options.keys() if self.executor == "slurm" else set[str]()
        if missing:
            raise InvalidInput(
                f"Slurm needs {' and '.join(sorted(missing))}: --option partition=NAME --option time=20:00:00"
            )
