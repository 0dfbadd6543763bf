"""Loads and their latencies: closed loops of clients, and percentiles of what they saw."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

Call = Callable[[int], Awaitable[object]]
"""The call number `n` of a load."""


def percentile(values: Iterable[float], percent: float) -> float:
    """The nearest-rank percentile: the smallest value that `percent` % of the values do not exceed."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("There is no percentile of nothing.")
    rank = max(1, math.ceil(len(ordered) * percent / 100))
    return ordered[rank - 1]


async def timed(call: Awaitable[object]) -> float:
    """Milliseconds until a call answers."""
    started_s = time.perf_counter()
    await call
    return (time.perf_counter() - started_s) * 1000


async def calls_per_s(clients: Sequence[Call], seconds: float) -> float:
    """Calls a second that a closed loop of clients completes: each sends its next call when the last one is answered."""
    started_s = time.perf_counter()
    counts = await asyncio.gather(*(_loop(client, n, started_s + seconds) for n, client in enumerate(clients)))
    return sum(counts) / (time.perf_counter() - started_s)


async def _loop(client: Call, offset: int, until_s: float) -> int:
    count = 0
    while time.perf_counter() < until_s:
        await client(offset * 1009 + count)  # clients start at different questions
        count += 1
    return count
