"""A process that keeps a scripted engine stepping and prints its process id, to be killed by a test."""

import asyncio
import sys
from pathlib import Path

from generator.engines.base import EngineRequest
from generator.host import EngineHost
from generator.requests import Sampling
from mesh import logs
from tests.generator.fakes import Script, launch, prepared_model


async def main(folder: Path) -> None:
    async with EngineHost(launch(prepared_model(folder))) as host:
        print(host.pid, flush=True)
        async for _ in host.run(EngineRequest(0, (1, 2, 3), 10**6, Sampling(seed=Script.FOREVER))):
            pass


if __name__ == "__main__":
    logs.configure("generator")  # to standard error
    asyncio.run(main(Path(sys.argv[1])))
