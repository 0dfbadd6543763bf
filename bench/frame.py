"""The frame of every benchmark: rows of repeated figures, what each is compared with, its target, and the verdict.

It knows nothing of the mesh or of peers. A row holds one figure for each run; where it has a reference (a peer or a
ceiling), run `i` of both was measured in turn on the same machine, so ratios are taken run by run before the median.
"""

import json
import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Literal

RESULTS = Path(__file__).parent / "results"

Judged = Literal["value", "ratio", "difference"]
"""What a target is held against: the figure itself, figure / reference, or figure - reference."""


@dataclass(frozen=True)
class Target:
    """What a row must show: `at_least` or `at_most`, in the row's unit, or a bare number for a ratio."""

    judged: Judged
    at_least: float | None = None
    at_most: float | None = None

    def met_by(self, figure: float) -> bool:
        """Whether a figure lies within the bounds."""
        return (self.at_least is None or figure >= self.at_least) and (self.at_most is None or figure <= self.at_most)

    def text(self) -> str:
        """`ratio ≥ 0.8`."""
        bounds = [f"≥ {self.at_least:g}"] if self.at_least is not None else []
        bounds += [f"≤ {self.at_most:g}"] if self.at_most is not None else []
        return f"{self.judged} {' and '.join(bounds)}"


@dataclass(frozen=True)
class Reference:
    """The peer or ceiling beside a row: its name and one figure for each run, in the row's unit."""

    name: str
    figures: tuple[float, ...]


@dataclass(frozen=True)
class Row:
    """One figure for each run, in `unit`. Without a target a row informs and is not judged."""

    name: str
    unit: str
    figures: tuple[float, ...]
    reference: Reference | None = None
    target: Target | None = None

    def __post_init__(self) -> None:
        if not self.figures:
            raise ValueError(f"{self.name} was never measured.")
        if self.reference and len(self.reference.figures) != len(self.figures):
            raise ValueError(f"{self.name} has {len(self.figures)} runs, its reference {len(self.reference.figures)}.")
        if self.target and self.target.judged != "value" and not self.reference:
            raise ValueError(f"{self.name} is judged by its {self.target.judged}, but has no reference.")

    @property
    def median(self) -> float:
        """The median of the runs."""
        return median(self.figures)

    @property
    def ratio(self) -> float | None:
        """The median of figure / reference over the runs; None without a reference."""
        return median(ours / theirs for ours, theirs in self._pairs()) if self.reference else None

    @property
    def difference(self) -> float | None:
        """The median of figure - reference over the runs; None without a reference."""
        return median(ours - theirs for ours, theirs in self._pairs()) if self.reference else None

    @property
    def passed(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.target is None:
            return None
        judged = {"value": self.median, "ratio": self.ratio, "difference": self.difference}[self.target.judged]
        return self.target.met_by(judged) if judged is not None else None

    def _pairs(self) -> Iterable[tuple[float, float]]:
        return zip(self.figures, self.reference.figures, strict=True) if self.reference else ()

    def as_json(self) -> dict[str, Any]:
        """Stable keys; `reference`, `ratio`, `difference`, `target` and `passed` are null where there is none."""
        reference = self.reference and {
            "name": self.reference.name,
            "median": median(self.reference.figures),
            "runs": list(self.reference.figures),
        }
        bounds = self.target and {"at_least": self.target.at_least, "at_most": self.target.at_most}
        return {
            "name": self.name,
            "unit": self.unit,
            "median": self.median,
            "runs": list(self.figures),
            "reference": reference,
            "ratio": self.ratio,
            "difference": self.difference,
            "target": self.target and {"judged": self.target.judged, **(bounds or {})},
            "passed": self.passed,
        }


@dataclass(frozen=True)
class Report:
    """What a benchmark measured, on what, and with which workload."""

    benchmark: str
    rows: tuple[Row, ...]
    workload: dict[str, Any]
    quick: bool
    notes: tuple[str, ...] = ()
    machine: dict[str, Any] = field(default_factory=lambda: describe_machine())
    finished: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @property
    def passed(self) -> bool:
        """True when every judged row meets its target. A quick run is too small to judge: it never fails by figures."""
        return self.quick or all(row.passed is not False for row in self.rows)

    def as_json(self) -> dict[str, Any]:
        """Stable keys."""
        return {
            "benchmark": self.benchmark,
            "finished": self.finished,
            "machine": self.machine,
            "workload": self.workload,
            "quick": self.quick,
            "rows": [row.as_json() for row in self.rows],
            "notes": list(self.notes),
            "passed": self.passed,
        }

    def save(self, folder: Path = RESULTS) -> Path:
        """Writes the report to `folder`, named by benchmark and time; returns the file."""
        folder.mkdir(parents=True, exist_ok=True)
        stamp = self.finished.replace(":", "").replace("+0000", "Z")
        path = folder / f"{self.benchmark}-{stamp}{'-quick' if self.quick else ''}.json"
        path.write_text(json.dumps(self.as_json(), indent=2, ensure_ascii=False) + "\n")
        return path


def describe_machine() -> dict[str, Any]:
    """What the figures depend on. The load tells whether the machine was quiet."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_1_min": round(os.getloadavg()[0], 2),
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
