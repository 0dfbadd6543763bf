"""The queries of dashboards and alerts, read as Prometheus reads them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import promql_parser
import yaml

ROOT = Path(__file__).parents[2]
DASHBOARDS = sorted((ROOT / "deploy" / "grafana").glob("*.json"))
PROMETHEUS = ROOT / "deploy" / "prometheus"
ALERTS = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())


@dataclass(frozen=True)
class Selected:
    """A metric in a query, with the labels that the query asks of it."""

    name: str
    matched: dict[str, str]


def queries() -> Iterator[tuple[str, str]]:
    """Each query with where it stands."""
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{path.stem}: {panel['title']}", target["expr"]
    for group in ALERTS["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]


def parsed(expression: str) -> Any:
    """As Prometheus reads it; Grafana fills its variables in first."""
    return promql_parser.parse(expression.replace("$__rate_interval", "5m"))


def parts(node: Any) -> Iterator[Any]:
    """The node and all below it."""
    yield node
    for name in ("lhs", "rhs", "expr", "param", "vector_selector"):
        below = getattr(node, name, None)
        if below is not None and not isinstance(below, str | float | int):
            yield from parts(below)
    for argument in getattr(node, "args", None) or ():
        yield from parts(argument)


def selected(node: Any) -> Iterator[Selected]:
    for part in parts(node):
        if isinstance(part, promql_parser.VectorSelector):
            yield Selected(part.name or "", {matcher.name: matcher.value for matcher in part.matchers.matchers})


def grouped(node: Any) -> set[str]:
    """Labels that the query groups by."""
    modifiers = [part.modifier for part in parts(node) if isinstance(part, promql_parser.AggregateExpr)]
    return {label for modifier in modifiers if modifier is not None for label in modifier.labels}
