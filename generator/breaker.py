"""A circuit breaker: after several failures in a row nothing is asked of a thing for a while, then one request tries it.

Closed: all may pass. Open: no one. Half open: one request passes as the probe, and its end closes or opens it again, for
twice as long each time (M. Nygard, Release It!, ch. 5). Used from one event loop; what counts as a failure is the caller's.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from mesh import logs, metrics

log = logs.get(__name__)

_LONGEST_OPEN_S = 120.0
_MOST_DOUBLINGS = 32
"""Twice as long each time is more than a float can hold after a day and a half."""

_STATE = metrics.gauge(
    "generator_breaker_state",
    "Circuit breaker of a model or of its server: 0 closed, 1 half open, 2 open.",
    ("target",),
)
_OPENED = metrics.counter("generator_breaker_opened", "Times that a circuit breaker opened.", ("target",))


class BreakerState(Enum):
    """Who may pass; the value is what the metric shows."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


@dataclass(frozen=True)
class BreakerLimits:
    """So many failures in a row open it, for `open_s` seconds the first time."""

    failures: int
    open_s: float


class Attempt:
    """One request that passed. It tells how it went; told nothing, such as when its caller left, it counts for nothing."""

    def __init__(self, breaker: "Breaker", *, probe: bool) -> None:
        self._breaker, self._probe = breaker, probe

    def __enter__(self) -> "Attempt":
        return self

    def __exit__(self, *_: object) -> None:
        if self._probe:
            self._breaker._probe_left()

    def succeeded(self) -> None:
        """The thing does its work."""
        self._breaker._succeeded(probe=self._probe)
        self._probe = False

    def failed(self) -> None:
        """It does not."""
        self._breaker._failed(probe=self._probe)
        self._probe = False


class Breaker:
    """Of one target, whose name stands in the log and the metrics."""

    def __init__(self, target: str, limits: BreakerLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self.target = target
        self._limits, self._clock = limits, clock
        self._failures = 0
        self._openings = 0  # since it was last closed
        self._open_until = 0.0
        self.state = BreakerState.CLOSED
        _STATE.labels(target).set(self.state.value)

    @property
    def passes(self) -> bool:
        """Whether a request would be let through now."""
        due = self.state is BreakerState.OPEN and self._clock() >= self._open_until
        return due or self.state is BreakerState.CLOSED

    @property
    def wait_s(self) -> float:
        """Until the next probe may pass; 0 when it may now."""
        return max(0.0, self._open_until - self._clock()) if self.state is BreakerState.OPEN else 0.0

    def enter(self) -> Attempt | None:
        """Lets a request through, or not: None."""
        if not self.passes:
            return None
        probe = self.state is BreakerState.OPEN
        if probe:
            self._become(BreakerState.HALF_OPEN)
        return Attempt(self, probe=probe)

    def _succeeded(self, *, probe: bool) -> None:
        if probe or self.state is BreakerState.CLOSED:
            self._failures = self._openings = 0
            self._become(BreakerState.CLOSED)

    def _failed(self, *, probe: bool) -> None:
        self._failures += 1
        if probe or (self.state is BreakerState.CLOSED and self._failures >= self._limits.failures):
            longest_s = max(self._limits.open_s, _LONGEST_OPEN_S)
            open_s = min(self._limits.open_s * 2 ** min(self._openings, _MOST_DOUBLINGS), longest_s)
            self._openings += 1
            self._open_until = self._clock() + open_s
            _OPENED.labels(self.target).inc()
            self._become(BreakerState.OPEN)

    def _probe_left(self) -> None:
        """The next request is the probe."""
        self._become(BreakerState.OPEN)

    def _become(self, state: BreakerState) -> None:
        if state is not self.state:
            self.state = state
            _STATE.labels(self.target).set(state.value)
            log.info("breaker_state", target=self.target, state=state.name.lower(), failures=self._failures)
