"""Bytes from elsewhere in pieces of one size, and an end to a sender that is slow for ever."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

from ingest.sources import PIECE_BYTES, Unreadable


@dataclass(frozen=True)
class Pace:
    """The least that a sender must do: `step_bytes` within each `step_s`, and all within `whole_s`."""

    step_bytes: int = 64 * 1024
    step_s: float = 60.0
    whole_s: float = 3600.0


async def paced(pieces: AsyncIterator[bytes], pace: Pace) -> AsyncGenerator[bytes, None]:
    """The same bytes. Unreadable when they come slower than that."""
    loop = asyncio.get_running_loop()
    end = loop.time() + pace.whole_s
    buffer, ended = bytearray(), False
    while not ended:
        ended = await _take_step(pieces, buffer, end, pace)
        while len(buffer) >= PIECE_BYTES or (ended and buffer):
            yield bytes(buffer[:PIECE_BYTES])
            del buffer[:PIECE_BYTES]


async def _take_step(pieces: AsyncIterator[bytes], buffer: bytearray, end: float, pace: Pace) -> bool:
    """Adds a step's bytes; True when there are no more."""
    loop = asyncio.get_running_loop()
    enough, limit = len(buffer) + pace.step_bytes, min(end, loop.time() + pace.step_s)
    try:
        async with asyncio.timeout_at(limit):
            while len(buffer) < enough:
                buffer += await anext(pieces)
    except StopAsyncIteration:
        return True
    except TimeoutError:
        if limit == end:
            raise Unreadable(f"Not all of it came within {pace.whole_s:g} s; it was given up.") from None
        message = f"Less than {pace.step_bytes} bytes came within {pace.step_s:g} s; it was given up."
        raise Unreadable(message) from None
    return False
