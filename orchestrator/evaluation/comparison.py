"""Two runs of one set, query by query, with a paired bootstrap (Efron & Tibshirani 1993; Sakai 2006 for retrieval)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

RESAMPLES = 10_000
_AT_ONCE = 250
TIE = 1e-9
_SEED = 0


@dataclass(frozen=True)
class Difference:
    """One query under both runs."""

    query: str
    before: float
    now: float

    @property
    def gain(self) -> float:
        """Above 0 when the new run is better."""
        return self.now - self.before


@dataclass(frozen=True)
class Comparison:
    """A metric under two runs. `low` and `high` hold the mean gain with 95 % confidence."""

    metric: str
    before: float
    now: float
    low: float
    high: float
    differences: tuple[Difference, ...]

    @property
    def gain(self) -> float:
        """The mean gain."""
        return self.now - self.before

    @property
    def wins(self) -> int:
        """Queries that the new run does better."""
        return sum(difference.gain > TIE for difference in self.differences)

    @property
    def losses(self) -> int:
        """Queries that the new run does worse."""
        return sum(difference.gain < -TIE for difference in self.differences)

    @property
    def ties(self) -> int:
        """Queries that both do equally well."""
        return len(self.differences) - self.wins - self.losses

    @property
    def verdict(self) -> str:
        """`better`, `worse`, or `no clear difference` when the interval holds 0."""
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "no clear difference"


def compare(metric: str, before: Mapping[str, float | None], now: Mapping[str, float | None]) -> Comparison | None:
    """Compares one metric over the queries that both runs have it for; None when there are none."""
    pairs = [(query, before.get(query), score) for query, score in now.items()]
    differences = tuple(Difference(q, old, new) for q, old, new in pairs if old is not None and new is not None)
    if not differences:
        return None
    low, high = interval([difference.gain for difference in differences])
    count = len(differences)
    mean_before, mean_now = sum(d.before for d in differences) / count, sum(d.now for d in differences) / count
    return Comparison(metric, mean_before, mean_now, low, high, differences)


def interval(gains: Sequence[float], resamples: int = RESAMPLES) -> tuple[float, float]:
    """The 2.5th and 97.5th percentile of the mean of samples drawn with replacement. Always the same for the same gains."""
    import numpy as np  # here, so that no other command waits for its import

    values, draw = np.asarray(gains), np.random.default_rng(_SEED)
    means = [
        values[draw.integers(0, len(values), (min(_AT_ONCE, resamples - start), len(values)))].mean(axis=1)
        for start in range(0, resamples, _AT_ONCE)
    ]
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return float(low), float(high)
