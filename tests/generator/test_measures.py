"""Metrics of completions: what is counted while they run, and what they told at their end."""

from collections.abc import AsyncGenerator

import pytest
from prometheus_client import REGISTRY

from generator.measures import measured
from generator.requests import Answerer, CompletionEvent, Delta, Finish, FinishReason, Started, Timings, Usage
from mesh.errors import Unavailable

BY = Answerer("measured", "1")


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"murphey_{name}", {"model": "measured", **labels}) or 0.0


def tokens() -> dict[str, float]:
    return {kind: sample("generator_tokens_total", kind=kind) for kind in ("prompt", "cached", "completion")}


class Completion:
    """Events as a model gives them, then an error where one is wanted."""

    def __init__(self, *events: CompletionEvent, error: Exception | None = None) -> None:
        self._events, self._error = events, error
        self.closed = False

    async def run(self) -> AsyncGenerator[CompletionEvent]:
        try:
            for event in self._events:
                yield event
            if self._error is not None:
                raise self._error
        finally:
            self.closed = True


async def test_tokens_and_times_are_counted() -> None:
    before = tokens()
    first, waited = sample("generator_first_token_seconds_count"), sample("generator_queue_seconds_sum")
    finish = Finish(FinishReason.STOP, Usage(100, 60, 7), Timings(0.5, 0.1, 0.2), BY)
    events = (Started("1", 100, BY), Delta("a", 2), Delta("b", 3), finish)
    seen = [event async for event in measured(Completion(*events).run())]
    assert seen == list(events)
    grown = {kind: count - before[kind] for kind, count in tokens().items()}
    assert grown == {"prompt": 100, "cached": 60, "completion": 7}  # 5 came with text, 2 without
    assert sample("generator_first_token_seconds_count") == first + 1
    assert sample("generator_queue_seconds_sum") == pytest.approx(waited + 0.5)


async def test_a_completion_that_fails_counts_with_what_it_said() -> None:
    before = tokens()
    completion = Completion(Started("1", 100, BY), Delta("a", 2), error=Unavailable("The engine stopped."))
    with pytest.raises(Unavailable):
        async for _ in measured(completion.run()):
            pass
    assert tokens() == {**before, "completion": before["completion"] + 2}


async def test_one_that_is_left_is_closed() -> None:
    completion = Completion(Started("1", 100, BY), Delta("a", 1), Delta("b", 1))
    events = measured(completion.run())
    await anext(events)
    await events.aclose()
    assert completion.closed
