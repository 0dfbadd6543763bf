"""Predicts how long a request will take from the work that is pending when it comes, and learns from how long others took.

Seconds are taken as `base + slope * work`: what a request takes alone, and what each unit before it adds. Both are fitted by
least squares in which older observations count less. Where all came at about the same amount of work, which tells no slope,
the fit leans towards a part of what seconds in proportion to work would be: engines that batch do more the more there is. To
the fit comes twice the spread of what it got wrong, so that few who are told that they can be served in time are not.
"""

import math
import time
from collections.abc import Callable

_MEMORY_S, _MEMORY_TIMES = 30.0, 10
"""After this long, or after so many times the time of a request where that is longer, an observation counts a third."""
_MEMORY = 100
"""And so it does after this many others."""
_LEAN, _LEANS_TO = 0.05, 0.3
_SPREADS = 2.0
_ENOUGH, _LEAST = 3, 1e-6


class Pace:
    """The pace of one place where work is done. `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._at = clock()
        self._seen = 0
        self._n = self._work = self._seconds = self._work2 = self._cross = self._wrong2 = 0.0

    @property
    def known(self) -> bool:
        """Whether enough has been observed to predict anything."""
        return self._seen >= _ENOUGH

    def expected_s(self, work: float) -> float:
        """The fit: seconds with so much work pending, the request's own included. 0 while nothing is known."""
        if self._n == 0:
            return 0.0
        base, slope = self._fit()
        return base + slope * work

    def surely_s(self, work: float) -> float:
        """Seconds that nearly all requests take at most. 0 while too little is known."""
        if not self.known:
            return 0.0
        return self.expected_s(work) + _SPREADS * math.sqrt(self._wrong2 / self._n)

    def learn(self, work: float, seconds: float) -> None:
        """A request came when so much work was pending, its own included, and was done after so long."""
        wrong = seconds - self.expected_s(work) if self.known else 0.0
        now, typical_s = self._clock(), self._seconds / self._n if self._n else 0.0
        memory_s = max(_MEMORY_S, _MEMORY_TIMES * typical_s)
        keep = max(_LEAST, math.exp(-(now - self._at) / memory_s) * (1 - 1 / _MEMORY))
        self._at = now
        self._seen += 1
        self._n = self._n * keep + 1
        self._work = self._work * keep + work
        self._seconds = self._seconds * keep + seconds
        self._work2 = self._work2 * keep + work * work
        self._cross = self._cross * keep + work * seconds
        self._wrong2 = self._wrong2 * keep + wrong * wrong

    def learn_at_least(self, work: float, seconds: float) -> None:
        """The same of a request that was left before it was done, which tells something only after longer than expected."""
        if seconds > self.expected_s(work):
            self.learn(work, seconds)

    def _fit(self) -> tuple[float, float]:
        work, seconds = self._work / self._n, self._seconds / self._n
        if work <= 0:
            return seconds, 0.0
        variance = max(0.0, self._work2 / self._n - work * work)
        covariance = self._cross / self._n - work * seconds
        slope = (covariance + _LEAN * _LEANS_TO * work * seconds) / (variance + _LEAN * work * work)
        slope = min(max(slope, 0.0), seconds / work)
        return seconds - slope * work, slope
