"""The open loop: requests start on schedule whatever became of those before, and times count from the schedule."""

import asyncio
import time

import grpc
import grpc.aio
import pytest

from bench.open_loop import Phase, Sent, at_rate


async def test_a_stalled_service_does_not_hold_requests_back() -> None:
    """A closed loop would send one request here, and see one slow answer; users would see many."""
    running, release, most = 0, asyncio.Event(), 0

    async def stalled(number: int, left_s: float) -> float:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 10:
            release.set()
        await release.wait()
        running -= 1
        return time.perf_counter()

    phase = await at_rate(stalled, rate=200, seconds=0.5, deadline_s=60)
    assert most >= 10
    assert len(phase.sent) == len(phase.in_time) > 10


async def test_time_counts_from_the_schedule_and_not_from_the_sending() -> None:
    async def blocks_the_loop(number: int, left_s: float) -> float:
        if number == 0:
            time.sleep(0.3)  # noqa: ASYNC251 - the client itself is stalled
        return time.perf_counter()

    phase = await at_rate(blocks_the_loop, rate=1000, seconds=0.1, deadline_s=60)
    assert max(one.seconds for one in phase.sent[1:]) > 0.15


async def test_what_could_not_be_sent_by_its_deadline_is_not_sent() -> None:
    async def blocks_the_loop(number: int, left_s: float) -> float:
        time.sleep(0.2)  # noqa: ASYNC251
        return time.perf_counter()

    phase = await at_rate(blocks_the_loop, rate=1000, seconds=0.05, deadline_s=0.05)
    assert phase.statuses["NOT_SENT_IN_TIME"] > 0
    assert phase.goodput == 0


async def test_the_first_seconds_do_not_count() -> None:
    numbers: list[int] = []

    async def answers(number: int, left_s: float) -> float:
        numbers.append(number)
        return time.perf_counter()

    phase = await at_rate(answers, rate=400, seconds=0.1, deadline_s=60, warm_s=0.2)
    assert 0 < len(phase.sent) < len(numbers)


async def test_a_failed_call_is_told_by_its_status() -> None:
    async def refuses(number: int, left_s: float) -> float:
        nothing = grpc.aio.Metadata()
        raise grpc.aio.AioRpcError(grpc.StatusCode.RESOURCE_EXHAUSTED, nothing, nothing, "full")

    phase = await at_rate(refuses, rate=200, seconds=0.05, deadline_s=60)
    assert set(phase.statuses) == {"RESOURCE_EXHAUSTED"}
    assert (phase.refused_percent, phase.accepted) == (100.0, [])


def test_what_was_accepted_and_failed_is_worse_than_any_answer() -> None:
    sent = (
        [Sent(0.5, 0.1, "OK")] * 98 + [Sent(0.2, 0.0, "UNAVAILABLE")] * 2 + [Sent(0.0, 0.0, "RESOURCE_EXHAUSTED")] * 100
    )
    phase = Phase(rate=20, seconds=10, deadline_s=2, sent=sent, lag_s=0)
    assert phase.goodput == pytest.approx(9.8)
    assert phase.accepted_s(50) == 0.5
    assert phase.accepted_s(99) == 20.0
    assert phase.refused_percent == 50.0
