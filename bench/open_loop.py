"""An open loop: requests start at their scheduled times whatever has become of those before, as users do.

A request's latency, and its deadline, count from when it was to be sent, not from when it was, so that a stalled client or
server is seen by every request that falls into the stall (Gil Tene's "coordinated omission"). Gaps are exponential: arrivals
know nothing of each other.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import grpc
import grpc.aio

from bench.latency import percentile

Send = Callable[[int, float], Awaitable[float]]
"""Sends request number `n`, which has so many seconds; gives the moment of its first text on the clock `time.perf_counter`."""

REFUSED = ("RESOURCE_EXHAUSTED",)


@dataclass(frozen=True)
class Sent:
    """One request: seconds from its scheduled time to its end and to its first text, and the status it ended with."""

    seconds: float
    first_s: float
    status: str
    detail: str = ""


@dataclass(frozen=True)
class Phase:
    """What came of a fixed rate. `lag_s` is how much later than scheduled requests were sent, at the 99th percentile."""

    rate: float
    seconds: float
    deadline_s: float
    sent: Sequence[Sent]
    lag_s: float

    @property
    def in_time(self) -> list[Sent]:
        """Those that were answered within their deadline."""
        return [one for one in self.sent if one.status == "OK" and one.seconds <= self.deadline_s]

    @property
    def accepted(self) -> list[Sent]:
        """Those that were not refused, those included that were late or failed."""
        return [one for one in self.sent if one.status not in REFUSED]

    @property
    def goodput(self) -> float:
        """Answers a second that came within their deadline."""
        return len(self.in_time) / self.seconds

    @property
    def refused_percent(self) -> float:
        """Of all that were sent."""
        return 100 * (1 - len(self.accepted) / max(1, len(self.sent)))

    def accepted_s(self, percent: float) -> float:
        """A percentile of the seconds of what was accepted; what failed counts as ten deadlines."""
        never = 10 * self.deadline_s
        times = [one.seconds if one.status == "OK" else never for one in self.accepted]
        return percentile(times, percent) if times else never

    def first_text_s(self, percent: float) -> float:
        """A percentile of the seconds until the first text of what was answered in time."""
        return percentile([one.first_s for one in self.in_time], percent) if self.in_time else 10 * self.deadline_s

    @property
    def statuses(self) -> Counter[str]:
        """How many ended with which status."""
        return Counter(one.status for one in self.sent)


async def at_rate(
    send: Send, rate: float, seconds: float, deadline_s: float, warm_s: float = 0.0, seed: int = 0
) -> Phase:
    """Sends for `warm_s`, which do not count, and then for `seconds`; waits until all have ended."""
    chance, begin_s = random.Random(seed), time.perf_counter()
    due_s, number, tasks, lags = 0.0, 0, list[asyncio.Task[Sent]](), list[float]()
    counted_from = 0
    while due_s < warm_s + seconds:
        await asyncio.sleep(max(0.0, begin_s + due_s - time.perf_counter()))
        lags.append(time.perf_counter() - begin_s - due_s)
        tasks.append(asyncio.create_task(_one(send, number, begin_s + due_s, deadline_s)))
        number += 1
        counted_from += due_s < warm_s
        due_s += chance.expovariate(rate)
    sent = await asyncio.gather(*tasks)
    return Phase(rate, seconds, deadline_s, sent[counted_from:], percentile(lags[counted_from:] or [0.0], 99))


async def _one(send: Send, number: int, scheduled_s: float, deadline_s: float) -> Sent:
    left_s = scheduled_s + deadline_s - time.perf_counter()
    if left_s <= 0:
        return Sent(deadline_s, deadline_s, "NOT_SENT_IN_TIME")
    try:
        first_s = await send(number, left_s) - scheduled_s
    except grpc.aio.AioRpcError as error:
        return Sent(time.perf_counter() - scheduled_s, 0.0, error.code().name, error.details() or "")
    return Sent(time.perf_counter() - scheduled_s, first_s, "OK")
