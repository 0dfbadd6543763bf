"""A small process for the supervisor to keep: serves gRPC health on the given port, and dies when told to."""

import asyncio
import sys

from mesh.server import Hosted, run
from mesh.settings import ServiceSettings


async def sleep(port: int) -> None:
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def open_nothing(_: ServiceSettings):
        hosted: list[Hosted] = []
        yield hosted

    await run(ServiceSettings(port=port, drain_s=0), open_nothing)


if __name__ == "__main__":
    if sys.argv[1] == "broken":
        sys.exit("cannot read the model")
    asyncio.run(sleep(int(sys.argv[1])))
