"""Questions at once, and again after a refusal."""

import asyncio

import pytest

from mesh.errors import NotFound, Overloaded
from orchestrator.evaluation.pacing import for_each, patiently


async def test_never_more_at_once_than_allowed() -> None:
    running, most, done = 0, 0, []

    async def work(item: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        done.append(item)

    await for_each(range(20), work, at_once=3)
    assert sorted(done) == list(range(20))
    assert most == 3


async def test_the_first_error_ends_what_is_under_way() -> None:
    cancelled = asyncio.Event()

    async def work(item: int) -> None:
        if item == 1:
            raise NotFound("There is no such thing.")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with pytest.raises(NotFound):
        await for_each(range(9), work, at_once=2)
    assert cancelled.is_set()


async def test_a_refusal_is_waited_out_as_long_as_it_says() -> None:
    loop = asyncio.get_running_loop()
    times: list[float] = []

    async def call() -> str:
        times.append(loop.time())
        if len(times) < 3:
            raise Overloaded("Full.", retry_after_s=0.25)
        return "done"

    assert await patiently(call) == "done"
    assert times[1] - times[0] >= 0.25
    assert times[2] - times[1] >= 0.4


async def test_patience_ends() -> None:
    async def call() -> None:
        raise Overloaded("Full.", retry_after_s=5)

    with pytest.raises(Overloaded):
        await patiently(call, patience_s=1)


async def test_other_errors_are_not_tried_again() -> None:
    calls = 0

    async def call() -> None:
        nonlocal calls
        calls += 1
        raise NotFound("There is no such thing.")

    with pytest.raises(NotFound):
        await patiently(call)
    assert calls == 1
