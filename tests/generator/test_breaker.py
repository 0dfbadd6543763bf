"""The circuit breaker, by a clock of the test's own."""

import pytest
from prometheus_client import REGISTRY

from generator.breaker import Attempt, Breaker, BreakerLimits, BreakerState


class Clock:
    """Stands still until it is told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker("models/test", BreakerLimits(failures=3, open_s=10), clock)


def passed(breaker: Breaker) -> Attempt:
    attempt = breaker.enter()
    assert attempt is not None
    return attempt


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        with passed(breaker) as attempt:
            attempt.failed()


def test_it_opens_after_failures_in_a_row_only(breaker: Breaker) -> None:
    fail(breaker, 2)
    passed(breaker).succeeded()
    fail(breaker, 2)
    assert breaker.state is BreakerState.CLOSED
    fail(breaker)
    assert breaker.state is BreakerState.OPEN
    assert breaker.enter() is None
    assert breaker.wait_s == 10


def test_a_target_that_is_down_for_days_is_tried_for_days(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    for _ in range(1_100):  # twice as long each time is by then more than a float holds
        clock.now += breaker.wait_s
        fail(breaker)
    assert (breaker.state, breaker.wait_s) == (BreakerState.OPEN, 120)


def test_one_probe_at_a_time_closes_it(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now = 10
    probe = passed(breaker)
    assert (breaker.state, breaker.enter()) == (BreakerState.HALF_OPEN, None)
    probe.succeeded()
    assert breaker.state is BreakerState.CLOSED
    fail(breaker, 2)
    assert breaker.state is BreakerState.CLOSED


def test_each_failed_probe_doubles_the_wait_up_to_a_limit(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    waits = []
    for _ in range(6):
        waits.append(breaker.wait_s)
        clock.now += breaker.wait_s
        fail(breaker)
    assert waits == [10, 20, 40, 80, 120, 120]


def test_a_probe_whose_caller_left_counts_for_nothing(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now = 10
    with passed(breaker):
        pass
    passed(breaker).succeeded()
    assert breaker.state is BreakerState.CLOSED


def test_what_began_before_it_opened_changes_nothing(breaker: Breaker) -> None:
    early, late = passed(breaker), passed(breaker)
    fail(breaker, 3)
    early.failed()
    late.succeeded()
    assert (breaker.state, breaker.wait_s) == (BreakerState.OPEN, 10)


def test_the_metrics_show_it(breaker: Breaker, clock: Clock) -> None:
    def shown(name: str) -> float | None:
        return REGISTRY.get_sample_value(f"murphey_generator_breaker_{name}", {"target": "models/test"})

    opened = shown("opened_total") or 0
    assert shown("state") == 0
    fail(breaker, 3)
    assert (shown("state"), shown("opened_total")) == (2, opened + 1)
    clock.now = 10
    passed(breaker)
    assert shown("state") == 1
