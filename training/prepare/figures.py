"""What the steps counted, read back from the files that datatrove keeps of every task."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DROPPED = "dropped_"
_LAST, _WRITES = "select", "write"
"""Steps of the stage before drop the same duplicates on the way; they are counted once."""
MEASURED_S = 0.02
"""A step that took less in all has no rate worth telling."""


@dataclass
class Step:
    """All tasks of one step together. `dropped` counts documents by reason."""

    name: str
    stage: str
    documents_in: int = 0
    documents_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    cpu_s: float = 0.0
    changed: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    @property
    def mb_a_second(self) -> float | None:
        """Text that it went through in a second of one core; None where that was too little to tell."""
        size = max(self.bytes_in, self.bytes_out)
        return size / 1e6 / self.cpu_s if size and self.cpu_s >= MEASURED_S else None

    def as_json(self) -> dict[str, Any]:
        """Stable keys."""
        return {
            "step": self.name, "stage": self.stage, "documents_in": self.documents_in, "documents_out": self.documents_out,
            "bytes_in": self.bytes_in, "bytes_out": self.bytes_out, "cpu_s": round(self.cpu_s, 3), "changed": self.changed,
            "mb_a_second": round(self.mb_a_second, 2) if self.mb_a_second is not None else None,
            "dropped": dict(self.dropped.most_common()),
        }  # fmt: skip


def read(logs: Path, stages: Sequence[str]) -> list[Step]:
    """The steps of the stages, in their order."""
    found: list[Step] = []
    for stage in stages:
        tasks = [json.loads(path.read_text()) for path in sorted((logs / stage / "stats").glob("*.json"))]
        for steps in zip(*tasks, strict=True):
            found.append(_sum(steps[0]["name"], stage, [each["stats"] for each in steps]))
    return _with_search_sizes(found)


def _sum(name: str, stage: str, tasks: list[dict[str, Any]]) -> Step:
    step = Step(name, stage)
    for label, value in _values(tasks):
        match label:
            case "cpu_s":
                step.cpu_s += value
            case "documents_in" | "documents_out" | "bytes_in" | "bytes_out":
                setattr(step, label, getattr(step, label) + int(value))
            case "masked":
                step.changed += int(value)
            case _ if label.startswith(DROPPED):
                step.dropped[label.removeprefix(DROPPED).replace("_", " ")] += int(value)
    lost = step.documents_in - step.documents_out
    if not step.dropped and stage == _LAST and name != _WRITES and lost > 0:
        step.dropped[name] = lost
    return step


def _values(tasks: list[dict[str, Any]]) -> Iterator[tuple[str, float]]:
    """datatrove writes a count as a number, and anything else with its spread."""
    for counted in tasks:
        for label, value in counted.items():
            yield label, float(value["total"] if isinstance(value, dict) else value)


def _with_search_sizes(steps: list[Step]) -> list[Step]:
    """Steps that search in signatures take in no text themselves: theirs is that of the texts that were signed."""
    signed = {"exact": "exact signatures", "pairs": "MinHash signatures", "clusters": "MinHash signatures"}
    sizes = {step.name: step.bytes_in for step in steps}
    for step in steps:
        if not step.bytes_in and not step.bytes_out and step.stage in signed:
            step.bytes_in = sizes.get(signed[step.stage], 0)
    return steps
