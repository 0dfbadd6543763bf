"""What all remote engines do alike: the watch over their servers."""

import asyncio
from collections.abc import AsyncGenerator

from generator.breaker import Breaker, BreakerLimits
from generator.engines.base import EngineState, Opened, RemoteEnd, RemoteRequest, RemoteText
from generator.engines.fleet import Fleet, RemoteServer, Served


class Odd(RemoteServer[Served]):
    """Answers once with what nobody foresaw, and is well again."""

    def __init__(self) -> None:
        super().__init__("http://odd", Breaker("http://odd", BreakerLimits(1, 1.0)))
        self.checks = 0
        self.checked_again = asyncio.Event()

    async def close(self) -> None:
        pass

    async def describe(self) -> Served:
        return Served("1", 8, frozenset())

    async def check(self) -> None:
        self.checks += 1
        if self.checks == 1:
            raise KeyError("status")
        self.checked_again.set()

    def run(self, request: RemoteRequest) -> AsyncGenerator[Opened | RemoteText | RemoteEnd]:
        raise NotImplementedError


async def test_an_answer_that_nobody_foresaw_does_not_end_the_watch() -> None:
    server = Odd()
    async with Fleet("odd", [server], look_every_s=0.01) as fleet, asyncio.timeout(60):
        await server.checked_again.wait()
        assert fleet.state is EngineState.READY
