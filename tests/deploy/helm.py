"""Helm's own library in a process of its own: it brings a Go runtime, which takes over the signals of the process it is in,
SIGSEGV among them, and what crashed there afterwards could not be told.
"""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any


class HelmRefuses(Exception):
    """What Helm says of a chart or its values."""


def templates(chart: Path, values: dict[str, Any]) -> dict[str, str]:
    """The rendered text of each template. HelmRefuses for values that the chart does not take."""
    return _process().submit(_templates, chart, values).result()


def findings(chart: Path) -> dict[str, Any]:
    """What `helm lint --strict` has to say: `errors`, and `messages` with their severity."""
    return _process().submit(_findings, chart).result()


@cache
def _process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def _templates(chart: Path, values: dict[str, Any]) -> dict[str, str]:
    import helm_python

    try:
        loaded = helm_python.Chart.load(chart)
        loaded.validate_schema(loaded.merge_values(values))
        return dict(loaded.render(values, name="murphey", namespace="rag", is_install=True, revision=1))
    except helm_python.HelmError as error:  # not to be raised by itself: who reads it would load the library
        said = str(error)
    raise HelmRefuses(said)


def _findings(chart: Path) -> dict[str, Any]:
    import helm_python

    return helm_python.lint(chart, strict=True)
