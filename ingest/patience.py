"""Calls to a service that may be away for a while, as when it restarts, or that has no room."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from mesh.errors import Overloaded, Unavailable

PATIENCE_S = 60.0
"""A service that has been away or overloaded for so long is not called again, for nothing."""
FIRST_PAUSE_S, LAST_PAUSE_S = 0.2, 5.0

Result = TypeVar("Result")


class Patience:
    """Shared by all calls of a command: whoever reaches the service gives the others time again."""

    def __init__(self) -> None:
        self._reached_s = 0.0

    def reached(self) -> None:
        """The service has just answered."""
        self._reached_s = asyncio.get_running_loop().time()

    @property
    def spent(self) -> bool:
        """Whether the service has been away for too long."""
        return asyncio.get_running_loop().time() - self._reached_s > PATIENCE_S

    async def __call__(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """Calls again with growing pauses while the service is Unavailable or Overloaded; raises that in the end."""
        if not self._reached_s:
            self.reached()
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                result = await call()
                self.reached()
                return result
            except (Unavailable, Overloaded) as error:
                if self.spent:
                    raise
                pause_s = min(LAST_PAUSE_S, max(2 * pause_s, error.retry_after_s or 0))
            await asyncio.sleep(pause_s)
