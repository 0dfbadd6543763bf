"""What a service's metrics say at a moment: sums over labels, and quantiles of histograms as Prometheus estimates them.

Knows the text format through prometheus_client's parser, and no metric by name.
"""

import http.client
import math
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

Labels = dict[str, str]
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Readings:
    """Samples by name, each with its labels and value. Empty when there were none to be had."""

    samples: dict[str, list[tuple[Labels, float]]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.samples)

    def has(self, name: str) -> bool:
        """Whether there is any sample of it."""
        return name in self.samples

    def value(self, name: str, **labels: str | Iterable[str]) -> float:
        """The sum over all samples with these labels, of which one may be any of several values; 0 when there is none."""
        return sum(value for _, value in self._found(name, labels))

    def by(self, label: str, name: str, **labels: str | Iterable[str]) -> dict[str, float]:
        """The same, for each value of a label."""
        found: dict[str, float] = {}
        for own, value in self._found(name, labels):
            if label in own:
                found[own[label]] = found.get(own[label], 0.0) + value
        return found

    def quantile(self, share: float, name: str, **labels: str | Iterable[str]) -> float | None:
        """As `histogram_quantile` of PromQL: linear within a bucket; the last bound where it lies beyond all of them.

        None when nothing was observed.
        """
        counts: dict[float, float] = {}
        for own, value in self._found(f"{name}_bucket", labels):
            bound = float(own["le"])
            counts[bound] = counts.get(bound, 0.0) + value
        bounds = sorted(counts)
        if not bounds or counts[bounds[-1]] == 0:
            return None
        rank = share * counts[bounds[-1]]
        below, start = 0.0, 0.0
        for bound in bounds:
            if counts[bound] >= rank and counts[bound] > below:
                inside = (rank - below) / (counts[bound] - below)
                return start if math.isinf(bound) else start + (bound - start) * inside
            below, start = counts[bound], bound
        return start

    def since(self, before: "Readings") -> "Readings":
        """The growth since an earlier reading, sample by sample; what a restarted service counts anew counts whole."""
        grown: dict[str, list[tuple[Labels, float]]] = {}
        for name, rows in self.samples.items():
            earlier = {frozenset(labels.items()): value for labels, value in before.samples.get(name, [])}
            grown[name] = [
                (labels, _growth(earlier.get(frozenset(labels.items()), 0.0), value)) for labels, value in rows
            ]
        return Readings(grown)

    def _found(self, name: str, labels: dict[str, str | Iterable[str]]) -> list[tuple[Labels, float]]:
        wanted = {key: {value} if isinstance(value, str) else set(value) for key, value in labels.items()}
        rows = self.samples.get(name, [])
        return [(own, value) for own, value in rows if all(own.get(key) in any_of for key, any_of in wanted.items())]


def _growth(before: float, now: float) -> float:
    return now - before if now >= before else now


def parse(text: str) -> Readings:
    """Readings of a service's answer to `GET /metrics`. ValueError when it is none."""
    samples: dict[str, list[tuple[Labels, float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
    return Readings(samples)


def read(address: str, timeout_s: float = 2.0) -> Readings:
    """What `host:port` shows now; empty when it does not answer, or not with metrics. Blocks."""
    try:
        with _direct.open(f"http://{address}/metrics", timeout=timeout_s) as answer:
            return parse(answer.read().decode())
    except (http.client.HTTPException, OSError, ValueError):
        return Readings()
