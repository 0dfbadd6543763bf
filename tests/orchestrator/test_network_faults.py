"""Each service behind the orchestrator, and its database, x each fault of the network: what a client sees, and that all is well
again once the fault is over, without a restart."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from bench.fault_proxy import Fault, FaultProxy, Place, fault_proxy
from mesh.channel import open_channel
from mesh.server import serving
from murphey.orchestrator.v1 import orchestrator_pb2 as pb
from murphey.orchestrator.v1.orchestrator_pb2_grpc import OrchestratorServiceStub
from orchestrator.app import SERVICE, open_service
from orchestrator.settings import OrchestratorSettings
from tests.ingest.postgres import Postgres, postgres_server
from tests.orchestrator.fakes import FakeMesh

pytestmark = pytest.mark.slow

QUESTION = pb.Question(text="Which leader swore fealty to King Charles III?")
SERVICES = ("retriever", "generator", "ingest")
CLEAR = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
WELL_AGAIN_WITHIN_S = 90
SOCKET = ".s.PGSQL.5432"


@dataclass
class Faulty:
    """An orchestrator with a proxy before each service that it needs."""

    stub: OrchestratorServiceStub
    proxies: dict[str, FaultProxy]

    async def ask(self, timeout_s: float = 30) -> pb.AnswerResponse:
        """One answer."""
        return await self.stub.Answer(pb.AnswerRequest(question=QUESTION), timeout=timeout_s)

    async def ask_until_well(self) -> pb.AnswerResponse:
        """Asks until an answer comes with its citations: they are left out while ingest cannot verify them."""
        async with asyncio.timeout(WELL_AGAIN_WITHIN_S):
            while True:
                answer = await self.outcome(5)
                if isinstance(answer, pb.AnswerResponse) and answer.citations:
                    return answer
                await asyncio.sleep(0.1)

    async def outcome(self, timeout_s: float) -> pb.AnswerResponse | grpc.StatusCode:
        """An answer, or a status that says clearly what is the matter."""
        try:
            return await self.ask(timeout_s)
        except grpc.aio.AioRpcError as error:
            if error.code() not in CLEAR:
                raise
            return error.code()


@asynccontextmanager
async def faulty(mesh: FakeMesh, data: Path, **settings: object) -> AsyncIterator[Faulty]:
    """The orchestrator, its proxies without a fault yet."""
    mesh.generator.script = ["Rollo ", "swore fealty [1]."]
    async with AsyncExitStack() as stack:
        proxies = {
            name: await stack.enter_async_context(
                fault_proxy(Place.of(mesh.target), latency_s=0.2, slow_bytes_per_s=4_000)
            )
            for name in SERVICES
        }
        targets = {name: proxy.target for name, proxy in proxies.items()}
        chosen = OrchestratorSettings(
            data=data, drain_s=0, answer_cache_mb=0, verify_timeout_s=2, **targets, **settings  # pyright: ignore[reportArgumentType]
        )  # fmt: skip
        hosted = await stack.enter_async_context(open_service(chosen))
        port = await stack.enter_async_context(serving(chosen, hosted))
        channel = await stack.enter_async_context(open_channel(f"127.0.0.1:{port}", SERVICE, idempotent=[]))
        yield Faulty(OrchestratorServiceStub(channel), proxies)


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.NONE])
@pytest.mark.parametrize("service", SERVICES)
async def test_a_faulty_way_to_a_service(mesh: FakeMesh, tmp_path: Path, service: str, fault: Fault) -> None:
    async with faulty(mesh, tmp_path) as running:
        assert (await running.ask_until_well()).text.startswith("Rollo")
        running.proxies[service].fault = fault
        seen = await running.outcome(4)
        if service == "ingest" or isinstance(seen, pb.AnswerResponse):  # which only verifies citations
            assert isinstance(seen, pb.AnswerResponse)
            assert seen.text.startswith("Rollo")
        running.proxies[service].fault = Fault.NONE
        assert (await running.ask_until_well()).text.startswith("Rollo")


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with postgres_server() as server:
        yield server


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.NONE])
async def test_a_faulty_way_to_the_database(mesh: FakeMesh, tmp_path: Path, postgres: Postgres, fault: Fault) -> None:
    database = f"faults-{fault.name.lower()}"
    postgres.create(database)
    with tempfile.TemporaryDirectory(prefix="murphey-pg-") as folder:
        way = fault_proxy(Place(path=postgres.folder / SOCKET), Place(path=Path(folder) / SOCKET), latency_s=0.1)
        async with way as proxy:
            url = postgres.url(database).replace(str(postgres.folder), folder)
            async with faulty(mesh, tmp_path, database_url=url) as running:
                before = (await running.ask_until_well()).answer_id
                proxy.fault = fault
                await running.outcome(4)
                proxy.fault = Fault.NONE
                after = (await running.ask_until_well()).answer_id
                await running.stub.GetAnswer(pb.GetAnswerRequest(name=f"answers/{after}"), timeout=60)
                await running.stub.GetAnswer(pb.GetAnswerRequest(name=f"answers/{before}"), timeout=60)
