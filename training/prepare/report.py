"""The report of a preparation: one page that needs nothing else, with plots, what each step dropped, and samples of that."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from orchestrator.evaluation import plots
from training import disk

LEAST_MB_A_SECOND = 1.0
Samples = Mapping[str, Mapping[str, Sequence[Mapping[str, str]]]]


def write(manifest: Mapping[str, Any], samples: Samples, folder: Path) -> Path:
    """Writes the page into the folder; returns its path."""
    path = folder / "report.html"
    disk.write_whole(path, render(manifest, samples).encode())
    return path


def render(manifest: Mapping[str, Any], samples: Samples) -> str:
    """The page. What came from documents is escaped."""
    loaders = [jinja2.PackageLoader("training.prepare"), jinja2.PackageLoader("orchestrator.evaluation")]
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    steps = manifest["steps"]
    drawn = [
        plots.columns("documents that are left after each step", "documents", _left(steps)),
        plots.columns(
            "documents that each step drops",
            "documents",
            {step["step"]: sum(step["dropped"].values()) for step in steps},
        ),
        plots.columns("core seconds of each step", "seconds", {step["step"]: step["cpu_s"] for step in steps}),
    ]
    return environment.get_template("prepared.html").render(
        manifest=manifest, steps=steps, samples=samples, least=LEAST_MB_A_SECOND, plots=[plot for plot in drawn if plot]
    )


def _left(steps: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Steps that only search leave as many as there were."""
    left, found = 0, dict[str, float]()
    for step in steps:
        left = step["documents_out"] or (left if not step["dropped"] else 0)
        found[step["step"]] = left
    return found
