"""Places: bounded by requests and tokens, in order, refused at once when too much is pending, given back on cancel."""

import asyncio

import pytest

from generator.admission import Admission, AdmissionLimits
from mesh.errors import Overloaded


class _Holder:
    """A request that keeps its place until it is told to leave."""

    def __init__(self, admission: Admission, tokens: int) -> None:
        self.started, self.leave = asyncio.Event(), asyncio.Event()
        self.task = asyncio.create_task(self._hold(admission, tokens))

    async def _hold(self, admission: Admission, tokens: int) -> None:
        async with admission.place(tokens):
            self.started.set()
            await self.leave.wait()

    async def end(self) -> None:
        self.leave.set()
        await self.task


async def _settle() -> None:
    """Lets every task that can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


def _admission(running: int = 2, running_tokens: int = 100, pending: int = 200) -> Admission:
    return Admission(AdmissionLimits(running, running_tokens, pending))


async def test_requests_beyond_the_places_wait_in_order() -> None:
    admission = _admission(running=1)
    holders = [_Holder(admission, 10) for _ in range(3)]
    await _settle()
    assert [holder.started.is_set() for holder in holders] == [True, False, False]
    await holders[0].end()
    await _settle()
    assert [holder.started.is_set() for holder in holders] == [True, True, False]
    await holders[1].end()
    await holders[2].end()
    assert (admission.running_requests, admission.running_tokens, admission.waiting_tokens) == (0, 0, 0)


async def test_a_large_request_waits_for_tokens_and_is_not_overtaken() -> None:
    admission = _admission(running=8)
    first, large, small = (_Holder(admission, tokens) for tokens in (60, 80, 10))
    await _settle()
    assert (first.started.is_set(), large.started.is_set(), small.started.is_set()) == (True, False, False)
    for holder in (first, large, small):
        await holder.end()


async def test_too_many_pending_tokens_are_refused_at_once_with_a_time() -> None:
    admission = _admission()
    holders = [_Holder(admission, 90), _Holder(admission, 90)]
    await _settle()
    with pytest.raises(Overloaded, match="180 tokens are pending") as caught:
        async with admission.place(30):
            pass
    assert caught.value.retry_after_s is not None
    assert caught.value.retry_after_s > 0
    for holder in holders:
        await holder.end()


async def test_one_request_larger_than_all_limits_runs_alone() -> None:
    admission = _admission()
    holder = _Holder(admission, 1_000)
    await asyncio.wait_for(holder.started.wait(), 60)
    await holder.end()


async def test_a_cancelled_waiter_gives_its_tokens_back() -> None:
    admission = _admission(running=1)
    running, waiting, next_one = (_Holder(admission, 60) for _ in range(3))
    await _settle()
    waiting.task.cancel()
    await _settle()
    assert admission.waiting_tokens == 60
    await running.end()
    await asyncio.wait_for(next_one.started.wait(), 60)
    await next_one.end()
    assert (admission.running_requests, admission.running_tokens, admission.waiting_requests) == (0, 0, 0)


async def test_a_waiter_cancelled_in_the_moment_it_gets_its_place_gives_it_back() -> None:
    admission = _admission(running=1)
    running, waiting = _Holder(admission, 60), _Holder(admission, 60)
    await _settle()
    running.leave.set()
    await running.task  # gives the place to `waiting`, whose task has not run since
    waiting.task.cancel()
    await _settle()
    assert (admission.running_requests, admission.running_tokens) == (0, 0)


async def test_all_cancelled_together_leave_nothing_behind() -> None:
    admission = _admission(running=2)
    holders = [_Holder(admission, 40) for _ in range(4)]
    await _settle()
    for holder in holders:
        holder.task.cancel()
    await asyncio.gather(*(holder.task for holder in holders), return_exceptions=True)
    assert (admission.running_requests, admission.running_tokens, admission.waiting_tokens) == (0, 0, 0)
