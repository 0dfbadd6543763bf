"""Places: bounded by requests, tokens and time, in order of priority and arrival, refused at once when there is no sense in
waiting, given back on cancel."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from mesh import deadline
from mesh.admission import Admission, AdmissionLimits
from mesh.errors import DeadlineExceeded, Overloaded
from mesh.priorities import Priority, priority


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


@contextmanager
def _called(
    urgency: Priority = Priority.INTERACTIVE, left_s: float | None = None, clock: Callable[[], float] = time.monotonic
) -> Iterator[None]:
    """As in a call of this priority and with so much time."""
    tokens = priority.set(urgency), deadline.deadline.set(None if left_s is None else clock() + left_s)
    try:
        yield
    finally:
        priority.reset(tokens[0])
        deadline.deadline.reset(tokens[1])


async def _learnt(admission: Admission, clock: "_Clock", tokens: int, seconds: float) -> None:
    """Several requests of so many tokens, one after the other, that took so long."""
    for _ in range(5):
        async with admission.place(tokens):
            clock.now_s += seconds


class _Clock:
    """Seconds that a test adds to those that pass."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.now_s


async def test_who_cannot_be_done_by_its_deadline_is_refused_at_once_and_others_are_not() -> None:
    clock = _Clock()
    admission = Admission(AdmissionLimits(8, 1_000, 1_000), clock=clock)
    await _learnt(admission, clock, tokens=100, seconds=600.0)
    running = _Holder(admission, 100)
    await _settle()
    with _called(left_s=800.0, clock=clock), pytest.raises(Overloaded, match="would take") as caught:
        async with admission.place(100):
            pass
    assert caught.value.retry_after_s == 30.0
    for left_s in (5_000.0, None):
        with _called(left_s=left_s, clock=clock):
            other = _Holder(admission, 100)
            await _settle()
        assert other.started.is_set()
        await other.end()
    await running.end()


async def test_an_idle_engine_is_always_tried() -> None:
    clock = _Clock()
    admission = Admission(AdmissionLimits(8, 1_000, 1_000), clock=clock)
    await _learnt(admission, clock, tokens=100, seconds=600.0)
    with _called(left_s=60.0, clock=clock):
        async with admission.place(100):
            assert admission.running_requests == 1


async def test_no_place_in_time_is_refused_with_a_time_to_come_again() -> None:
    admission = Admission(AdmissionLimits(1, 100, 1_000, max_wait_s=0.01))
    running = _Holder(admission, 10)
    await _settle()
    with pytest.raises(Overloaded, match="no place was free within") as caught:
        async with admission.place(10):
            pass
    assert caught.value.retry_after_s
    assert (admission.waiting_requests, admission.waiting_tokens, admission.running_requests) == (0, 0, 1)
    await running.end()


async def test_a_deadline_that_passes_while_waiting_is_told_as_such() -> None:
    admission = Admission(AdmissionLimits(1, 100, 1_000))
    running = _Holder(admission, 10)
    await _settle()
    with _called(left_s=0.01), pytest.raises(DeadlineExceeded, match="too little time was left") as caught:
        async with admission.place(10):
            pass
    assert caught.value.retry_after_s
    assert admission.waiting_requests == 0
    await running.end()


async def test_a_place_that_comes_too_late_is_not_taken() -> None:
    """What waits cannot be done any more when its turn comes: it is refused then, and the next one gets the place."""
    clock = _Clock()
    admission = Admission(AdmissionLimits(1, 1_000, 10_000, max_wait_s=10_000), clock=clock)
    await _learnt(admission, clock, tokens=100, seconds=50.0)
    running = _Holder(admission, 100)
    await _settle()
    with _called(left_s=120.0, clock=clock):
        late = _Holder(admission, 100)
    await _settle()
    patient = _Holder(admission, 100)
    await _settle()
    clock.now_s += 90.0
    await running.end()
    with pytest.raises(DeadlineExceeded):
        await late.task
    await _settle()
    assert patient.started.is_set()
    await patient.end()


async def test_interactive_requests_go_before_batch_ones() -> None:
    admission = _admission(running=1)
    running = _Holder(admission, 10)
    await _settle()
    with _called(Priority.BATCH):
        batch = _Holder(admission, 10)
        await _settle()
    interactive = _Holder(admission, 10)
    await _settle()
    await running.end()
    await _settle()
    assert (interactive.started.is_set(), batch.started.is_set()) == (True, False)
    await interactive.end()
    await batch.end()


async def test_batch_requests_leave_places_free() -> None:
    admission = _admission(running=4)
    with _called(Priority.BATCH):
        batch = [_Holder(admission, 10) for _ in range(4)]
        await _settle()
    assert [one.started.is_set() for one in batch] == [True, True, False, False]
    interactive = _Holder(admission, 10)
    await _settle()
    assert interactive.started.is_set()
    for one in [*batch, interactive]:
        await one.end()
    assert (admission.running_requests, admission.waiting_requests) == (0, 0)


async def test_under_five_times_what_can_be_done_what_is_accepted_is_done_in_time() -> None:
    """A simulated engine that shares its speed: virtual seconds, no timing."""
    served, late, refused = await _simulated(per_s=10.0, arrivals_per_s=50.0, deadline_s=5.0)
    assert refused > 0
    assert late <= 0.05 * served
    assert served >= 0.8 * 10.0 * 60


async def _simulated(per_s: float, arrivals_per_s: float, deadline_s: float) -> tuple[int, int, int]:
    """Served in time, accepted but late, and refused, over sixty virtual seconds after ten of warming up."""
    now, step_s, tokens = 0.0, 0.01, 100
    admission = Admission(AdmissionLimits(64, 10**9, 10**9, max_wait_s=1e9), clock=lambda: now)
    running: list[list[float]] = []
    outcome = {"served": 0, "late": 0, "refused": 0}

    async def request(arrived: float) -> None:
        deadline.deadline.set(arrived + deadline_s)
        try:
            async with admission.place(tokens):
                work = [1.0]
                running.append(work)
                done = asyncio.Event()
                waits[id(work)] = done
                await done.wait()
        except (Overloaded, DeadlineExceeded):
            outcome["refused"] += arrived >= 10
        else:
            outcome["served" if now <= arrived + deadline_s else "late"] += arrived >= 10

    waits: dict[int, asyncio.Event] = {}
    tasks: list[asyncio.Task[None]] = []
    due = 0.0
    while now < 70:
        while due <= now:
            tasks.append(asyncio.create_task(request(due)))
            due += 1 / arrivals_per_s
        await asyncio.sleep(0)
        for work in list(running):
            work[0] -= per_s * step_s / len(running)
        for work in [work for work in running if work[0] <= 0]:
            running.remove(work)
            waits.pop(id(work)).set()
        await asyncio.sleep(0)
        now += step_s
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return outcome["served"], outcome["late"], outcome["refused"]
