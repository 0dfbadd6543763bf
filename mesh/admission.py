"""Who may run: a bounded number of requests and of work at once, bounded waiting, and nobody who cannot be served in time.

Work is predicted before it is done, in tokens: the prompt's and all that may be generated. A request is refused at once when
too much is pending, or when what is pending before it, at the pace that was measured (`pace`), leaves it no time until its
deadline. So what is accepted is finished, and a load many times what can be done changes nothing for those who are in. This is
chosen over limits that are found by watching latency (Envoy's gradient, Netflix' concurrency-limits): an engine that batches
answers later the more it does at once, and does more for it; and over queues that are cut by waiting time alone (CoDel,
adaptive LIFO), because here the cost of a request is known when it comes.

Interactive requests go before batch ones, which hold a share of the places at most; within a priority those that wait start
in the order they came. Used from one event loop.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from mesh import deadline, metrics
from mesh.errors import DeadlineExceeded, MurpheyError, Overloaded
from mesh.pace import Pace
from mesh.priorities import Priority, priority

_REFUSED = metrics.counter(
    "admission_refused",
    "Requests that were refused: too much was pending (tokens), they would not be done by their deadline (deadline), or no "
    "place was free in time (wait).",
    ("at", "priority", "reason"),
)
_WAITED = metrics.histogram("admission_wait_seconds", "Time that requests waited for their place.", ("at", "priority"))
_LONGEST_RETRY_S = 30.0
_USED = 0.6
"""The part of a request's spare time that what is before it may take by prediction: the pace may slow down meanwhile."""


@dataclass(frozen=True)
class AdmissionLimits:
    """`running_tokens` is what the KV cache holds; `pending_tokens` those of running and waiting requests together.

    `max_wait_s` bounds the wait for a place. `batch_share` is the part of the places that batch requests may hold.
    `usual_s` is the time of a request whose caller set no deadline; None lets it take any.
    """

    running_requests: int
    running_tokens: int
    pending_tokens: int
    max_wait_s: float = 60.0
    batch_share: float = 0.5
    usual_s: float | None = None


@dataclass(eq=False)
class _Request:
    """One that has come. `before` is the work pending then, its own included; `end` its deadline on the monotonic clock."""

    tokens: int
    priority: Priority
    before: int
    arrived: float
    end: float | None
    turn: asyncio.Future[None] = field(repr=False)
    waits: bool = False

    def left_s(self, now: float) -> float:
        """Until its deadline."""
        return float("inf") if self.end is None else self.end - now


class Admission:
    """The places of one engine, or of one service. `at` names it in metrics."""

    def __init__(
        self, limits: AdmissionLimits, at: str = "generator", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits, self._at, self._clock = limits, at, clock
        self._pace = Pace(clock)
        self._waiting: dict[Priority, deque[_Request]] = {one: deque() for one in Priority}
        self._running: dict[_Request, None] = {}
        """The longest running first."""
        self._running_batch = 0
        self.running_requests = 0
        self.running_tokens = 0
        self.waiting_tokens = 0

    @property
    def waiting_requests(self) -> int:
        """Requests admitted that have no place yet."""
        return sum(len(queue) for queue in self._waiting.values())

    @asynccontextmanager
    async def place(self, tokens: int) -> AsyncIterator[None]:
        """A place while inside, for the current call: by its priority and its deadline; waits for it in turn.

        Overloaded at once when too many tokens are pending or it could not be done in time; after `max_wait_s` when no place
        was free. DeadlineExceeded when its time ran out while it waited.
        """
        request = self._request(tokens)
        self._check_tokens(request)
        self._check_time(request)
        await self._wait_for_place(request)
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit, DeadlineExceeded):
            self._pace.learn_at_least(request.before, self._clock() - request.arrived)
            raise
        else:
            self._pace.learn(request.before, self._clock() - request.arrived)
        finally:
            self._give_back(request)
            self._start_next()

    def _request(self, tokens: int) -> _Request:
        now, end, urgency = self._clock(), deadline.deadline.get(), priority.get()
        if end is None and self._limits.usual_s is not None:
            end = now + self._limits.usual_s
        passed = self._waiting[Priority.BATCH] if urgency is Priority.INTERACTIVE else ()
        before = self.running_tokens + self.waiting_tokens - sum(one.tokens for one in passed) + tokens
        return _Request(tokens, urgency, before, now, end, asyncio.get_running_loop().create_future())

    def _check_tokens(self, request: _Request) -> None:
        pending = self.running_tokens + self.waiting_tokens
        if pending and pending + request.tokens > self._limits.pending_tokens:
            message = (
                f"The {self._at} is full: {pending} tokens are pending, this request would add {request.tokens}, and "
                f"{self._limits.pending_tokens} is the most. Try again later."
            )
            raise self._refusal(request, "tokens", message, self._pace.expected_s(pending) / 4)

    def _check_time(self, request: _Request) -> None:
        """Somebody always runs, so that a pace that is better now is found."""
        if self.running_requests == 0:
            return
        needed, left = self._needed_s(request), request.left_s(request.arrived)
        if needed > left:
            message = (
                f"The {self._at} is overloaded: with what is pending this would take {needed:.1f} s, and its deadline is in "
                f"{left:.1f} s. Try again later, or allow it more time."
            )
            raise self._refusal(request, "deadline", message, needed - left)

    def _needed_s(self, request: _Request) -> float:
        """What it takes alone, and with a margin what is before it; more when those that run are late already."""
        alone, together = self._pace.expected_s(request.tokens), self._pace.surely_s(request.before)
        oldest = next(iter(self._running))
        usual_s = self._pace.surely_s(oldest.before)
        late = max(1.0, (request.arrived - oldest.arrived) / usual_s) if usual_s else 1.0
        return (alone + max(0.0, together - alone) / _USED) * late

    def _refusal(self, request: _Request, reason: str, message: str, retry_after_s: float) -> Overloaded:
        _REFUSED.labels(self._at, request.priority.value, reason).inc()
        return Overloaded(message, retry_after_s=min(max(retry_after_s, 0.5), _LONGEST_RETRY_S))

    async def _wait_for_place(self, request: _Request) -> None:
        queue = self._waiting[request.priority]
        queue.append(request)
        self.waiting_tokens += request.tokens
        self._start_next()
        bound_s = min(self._limits.max_wait_s, request.left_s(request.arrived))
        try:
            if not request.turn.done():
                request.waits = True
                async with asyncio.timeout(bound_s):
                    await request.turn
            request.turn.result()
        except (TimeoutError, asyncio.CancelledError, MurpheyError) as error:
            self._withdraw(request)
            if isinstance(error, TimeoutError):
                raise self._too_late(request) from None
            raise
        _WAITED.labels(self._at, request.priority.value).observe(self._clock() - request.arrived)

    def _withdraw(self, request: _Request) -> None:
        """It does not want its place any more, whether it has been given one or not."""
        turn = request.turn
        if turn.done() and not turn.cancelled() and turn.exception() is None:
            self._give_back(request)
        elif request in (queue := self._waiting[request.priority]):
            queue.remove(request)
            self.waiting_tokens -= request.tokens
        self._start_next()

    def _too_late(self, request: _Request) -> MurpheyError:
        if request.left_s(self._clock()) <= 0:
            return self._no_time(request)
        message = (
            f"The {self._at} is full: no place was free within {self._limits.max_wait_s:g} s; {self.running_requests} requests "
            "are under way. Try again in a moment."
        )
        return self._refusal(request, "wait", message, self._pace.expected_s(request.before) / 4)

    def _no_time(self, request: _Request) -> DeadlineExceeded:
        _REFUSED.labels(self._at, request.priority.value, "deadline").inc()
        waited_s = self._clock() - request.arrived
        message = f"The {self._at} was overloaded: after {waited_s:.1f} s of waiting too little time was left. Try again later."
        return DeadlineExceeded(
            message, retry_after_s=min(max(self._pace.expected_s(request.tokens), 0.5), _LONGEST_RETRY_S)
        )

    def _start_next(self) -> None:
        while (request := self._next()) is not None:
            self._waiting[request.priority].popleft()
            self.waiting_tokens -= request.tokens
            if request.turn.cancelled():
                continue
            if request.waits and self._pace.expected_s(request.tokens) > request.left_s(self._clock()):
                request.turn.set_exception(self._no_time(request))
                continue
            self._running[request] = None
            self.running_requests += 1
            self.running_tokens += request.tokens
            self._running_batch += request.priority is Priority.BATCH
            request.turn.set_result(None)

    def _next(self) -> _Request | None:
        """The first that waits, when there is room for it."""
        queue = next((queue for queue in self._waiting.values() if queue), None)
        return queue[0] if queue and self._has_room(queue[0]) else None

    def _has_room(self, request: _Request) -> bool:
        if self.running_requests == 0:
            return True
        limits = self._limits
        if request.priority is Priority.BATCH and self._running_batch >= max(
            1, limits.batch_share * limits.running_requests
        ):
            return False
        fits = self.running_tokens + request.tokens <= limits.running_tokens
        return fits and self.running_requests < limits.running_requests

    def _give_back(self, request: _Request) -> None:
        del self._running[request]
        self.running_requests -= 1
        self.running_tokens -= request.tokens
        self._running_batch -= request.priority is Priority.BATCH
