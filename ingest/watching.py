"""Does a pass over folders whenever something in them has changed, and again later while the mesh is away."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from watchfiles import Change, awatch

from mesh.errors import MurpheyError, Overloaded, Unavailable

DEBOUNCE_MS = 1000
"""Changes that come together, as of a copy that is under way, are looked at together."""
FIRST_PAUSE_S, LAST_PAUSE_S = 1.0, 30.0
GONE_POLL_S = 2.0

Pass = Callable[[], Awaitable[None]]


async def watch(folders: Sequence[Path], do_pass: Pass, tell: Callable[[str], None]) -> None:
    """For ever: a pass now and after each change. One that fails for want of the mesh or of a folder is done again."""
    changed = asyncio.Event()
    changed.set()
    async with _noticing(folders, changed):
        pause_s = FIRST_PAUSE_S
        while True:
            await changed.wait()
            changed.clear()
            try:
                await do_pass()
                pause_s = FIRST_PAUSE_S
            except MurpheyError as error:
                again = f" It is tried again in {pause_s:g} s." if isinstance(error, Unavailable | Overloaded) else ""
                tell(error.message + again)
                changed.set()
                await asyncio.sleep(pause_s)
                pause_s = min(LAST_PAUSE_S, 2 * pause_s)


@asynccontextmanager
async def _noticing(folders: Sequence[Path], changed: asyncio.Event) -> AsyncIterator[None]:
    """Sets the event on changes, from now on."""
    task = asyncio.create_task(_notice(folders, changed))
    await asyncio.sleep(0)  # it begins to watch
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _notice(folders: Sequence[Path], changed: asyncio.Event) -> None:
    """Watches; a folder that goes away is waited for."""

    def visible(_: Change, path: str) -> bool:
        return any(_is_visible(Path(path), folder.absolute()) for folder in folders)

    while True:
        with contextlib.suppress(FileNotFoundError, RuntimeError):
            async for changes in awatch(*folders, watch_filter=visible, debounce=DEBOUNCE_MS, yield_on_timeout=True):
                if changes:
                    changed.set()
                if not all(folder.is_dir() for folder in folders):
                    break
        await asyncio.sleep(GONE_POLL_S)
        changed.set()


def _is_visible(path: Path, folder: Path) -> bool:
    return path.is_relative_to(folder) and not any(part.startswith(".") for part in path.relative_to(folder).parts)
