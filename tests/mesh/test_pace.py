"""Predicting how long a request takes: from what others took, cautiously, and anew when things change."""

import random

from mesh.pace import Pace


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_nothing_is_predicted_before_anything_was_seen() -> None:
    pace = Pace(Clock())
    assert (pace.known, pace.expected_s(500), pace.surely_s(500)) == (False, 0.0, 0.0)


def test_what_a_request_takes_alone_and_what_each_before_it_adds_are_told_apart() -> None:
    pace, chance = Pace(Clock()), random.Random(7)
    for _ in range(200):
        work = chance.uniform(100, 10_000)
        pace.learn(work, 2.0 + work / 1000)
    assert abs(pace.expected_s(0) - 2.0) < 1.0
    assert abs(pace.expected_s(8_000) - 10.0) < 0.5


def test_more_work_than_was_ever_seen_takes_longer() -> None:
    pace = Pace(Clock())
    for _ in range(20):
        pace.learn(1_000, 2.0)
    assert abs(pace.expected_s(1_000) - 2.0) < 0.01
    assert 3.0 < pace.expected_s(4_000) < 8.0


def test_nearly_all_are_done_by_what_is_surely_enough() -> None:
    pace, chance = Pace(Clock()), random.Random(3)
    within = 0
    for number in range(400):
        work = chance.uniform(1_000, 5_000)
        seconds = work / 1000 * chance.uniform(0.7, 1.3)
        within += number >= 100 and seconds <= pace.surely_s(work)
        pace.learn(work, seconds)
    assert within >= 0.9 * 300


def test_a_slower_engine_is_learnt_and_forgotten_again() -> None:
    clock = Clock()
    pace = Pace(clock)

    def a_minute_at(seconds: float) -> float:
        for _ in range(60):
            clock.now_s += 1
            pace.learn(1_000, seconds)
        return pace.expected_s(1_000)

    assert abs(a_minute_at(1.0) - 1.0) < 0.01
    assert a_minute_at(5.0) > 4.0
    assert a_minute_at(1.0) < 2.0


def test_who_left_early_tells_nothing_and_who_left_late_something() -> None:
    pace = Pace(Clock())
    for _ in range(10):
        pace.learn(1_000, 4.0)
    pace.learn_at_least(1_000, 0.1)
    assert pace.expected_s(1_000) == 4.0
    pace.learn_at_least(1_000, 20.0)
    assert pace.expected_s(1_000) > 5.0
