"""Metrics of completions, whichever engine makes them: tokens, the time to the first, the time in the queue.

Tokens count as they come, so that their rate is right while long completions run; Finish corrects what the deltas did not
tell. A completion that fails or is left counts with what it had said.
"""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from generator.requests import CompletionEvent, Delta, Finish, Started
from mesh import metrics

_CANCEL_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5, 5)
_TOKENS = metrics.counter(
    "generator_tokens", "Tokens: of prompts, of them found in a cache, and of completions.", ("model", "kind")
)
_FIRST_TOKEN = metrics.histogram(
    "generator_first_token_seconds", "From a request's arrival to its first text.", ("model",)
)
_QUEUE = metrics.histogram("generator_queue_seconds", "Time that finished requests waited for a place.", ("model",))
_CANCEL = metrics.histogram(
    "generator_cancel_seconds",
    "From the end of a call that was left to the engine's free slot.",
    buckets=_CANCEL_BUCKETS_S,
)


def freed(seconds: float) -> None:
    """So long after its caller left, a request's slot was free."""
    _CANCEL.observe(seconds)


async def measured(events: AsyncGenerator[CompletionEvent]) -> AsyncGenerator[CompletionEvent]:
    """The same events. Closing it closes them."""
    arrived_s = time.perf_counter()
    model, counted, spoke = "", 0, False
    async with aclosing(events):
        async for event in events:
            if isinstance(event, Started):
                model = event.by.model
            elif isinstance(event, Delta):
                if not spoke:
                    _FIRST_TOKEN.labels(model).observe(time.perf_counter() - arrived_s)
                spoke = True
                counted += event.tokens
                _TOKENS.labels(model, "completion").inc(event.tokens)
            else:
                _finished(event, model, counted)
            yield event


def _finished(finish: Finish, model: str, counted: int) -> None:
    usage = finish.usage
    _TOKENS.labels(model, "completion").inc(max(0, usage.completion - counted))
    _TOKENS.labels(model, "prompt").inc(usage.prompt)
    _TOKENS.labels(model, "cached").inc(usage.cached)
    _QUEUE.labels(model).observe(max(0.0, finish.timings.queue_s))
