"""Work on many questions: so many at once, and again after a refusal, when the service says."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from mesh.errors import Overloaded, Unavailable

PATIENCE_S = 60.0
"""A service that refuses one question for so long is not asked again."""
_LONGEST_PAUSE_S = 10.0

Item = TypeVar("Item")
Result = TypeVar("Result")


async def for_each(items: Iterable[Item], work: Callable[[Item], Awaitable[None]], at_once: int) -> None:
    """Works on all items, `at_once` at a time. The first error ends it, and cancels what is under way."""
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            await work(item)

    workers = [asyncio.create_task(worker()) for _ in range(at_once)]
    try:
        await asyncio.gather(*workers)
    finally:
        for task in workers:
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def patiently(call: Callable[[], Awaitable[Result]], patience_s: float = PATIENCE_S) -> Result:
    """Calls; again after the pause that an overloaded or restarting service asks for, longer each time.

    The last refusal is raised once `patience_s` seconds are over.
    """
    loop = asyncio.get_running_loop()
    end_s, pause_s = loop.time() + patience_s, 0.1
    while True:
        try:
            return await call()
        except (Overloaded, Unavailable) as error:
            pause_s = min(_LONGEST_PAUSE_S, max(2 * pause_s, error.retry_after_s or 0))
            if loop.time() + pause_s > end_s:
                raise
        await asyncio.sleep(pause_s)
