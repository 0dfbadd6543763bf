"""Who may run: a bounded number of requests and tokens at once, a bounded number of tokens waiting, no one beyond that.

A request counts with its prompt and all tokens it may generate, because that is what it can take of the KV cache. Those
that wait start in the order they came. Used from one event loop.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from mesh.errors import Overloaded


@dataclass(frozen=True)
class AdmissionLimits:
    """`running_tokens` is what the KV cache holds; `pending_tokens` those of running and waiting requests together."""

    running_requests: int
    running_tokens: int
    pending_tokens: int


class Admission:
    """The places of one engine."""

    def __init__(self, limits: AdmissionLimits, assumed_tokens_a_second: float = 200.0) -> None:
        self._limits = limits
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._tokens_a_second = assumed_tokens_a_second
        self.running_requests = 0
        self.running_tokens = 0
        self.waiting_tokens = 0

    @property
    def waiting_requests(self) -> int:
        """Requests admitted that have no place yet."""
        return len(self._waiting)

    @asynccontextmanager
    async def place(self, tokens: int) -> AsyncIterator[None]:
        """A place while inside; waits for it in turn. Overloaded at once when too many tokens are pending."""
        pending = self.running_tokens + self.waiting_tokens
        if pending and pending + tokens > self._limits.pending_tokens:
            raise Overloaded(
                f"The generator is full: {pending} tokens are pending, this request would add {tokens}, and "
                f"{self._limits.pending_tokens} is the most. Try again later.",
                retry_after_s=self._drain_s(),
            )
        await self._wait_for_place(tokens)
        try:
            yield
        finally:
            self.running_requests -= 1
            self.running_tokens -= tokens
            self._start_next()

    async def _wait_for_place(self, tokens: int) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (tokens, turn)
        self._waiting.append(entry)
        self.waiting_tokens += tokens
        self._start_next()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it was given a place and cancelled before it could take it
                self.running_requests -= 1
                self.running_tokens -= tokens
            elif entry in self._waiting:  # else its turn came after its cancelling, and it was passed over
                self._waiting.remove(entry)
                self.waiting_tokens -= tokens
            self._start_next()
            raise

    def _start_next(self) -> None:
        while self._waiting and self._has_room(self._waiting[0][0]):
            tokens, turn = self._waiting.popleft()
            self.waiting_tokens -= tokens
            if turn.cancelled():
                continue
            self.running_requests += 1
            self.running_tokens += tokens
            turn.set_result(None)

    def _has_room(self, tokens: int) -> bool:
        if self.running_requests == 0:
            return True
        fits = self.running_tokens + tokens <= self._limits.running_tokens
        return fits and self.running_requests < self._limits.running_requests

    def _drain_s(self) -> float:
        """When a place may be free: requests rarely use all their tokens, so a tenth of the pending ones' time."""
        seconds = (self.running_tokens + self.waiting_tokens) / self._tokens_a_second / 10
        return min(max(seconds, 0.5), 30.0)
