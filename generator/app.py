"""Wires the generator: settings -> models -> domain -> servicer. `python -m generator` runs it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from generator.engines.base import EngineState
from generator.models import ModelCatalog
from generator.opening import Opening
from generator.service import GeneratorServicer
from generator.settings import GeneratorSettings
from mesh import metrics, server
from mesh.access.quotas import Quotas
from mesh.admission import Admission
from murphey.generator.v1 import generator_pb2, generator_pb2_grpc

SERVICE = generator_pb2.DESCRIPTOR.services_by_name["GeneratorService"].full_name

_RUNNING = metrics.gauge("generator_running_requests", "Requests that hold a place of an engine.")
_RUNNING_TOKENS = metrics.gauge("generator_running_tokens", "Tokens, prompt and completion, that they may take.")
_WAITING = metrics.gauge("generator_waiting_requests", "Requests admitted that have no place yet.")


@asynccontextmanager
async def open_service(settings: GeneratorSettings) -> AsyncIterator[list[server.Hosted]]:
    """The generator with its models open. It serves while its default model can answer."""
    readiness = server.Readiness()
    catalog: ModelCatalog | None = None

    def changed() -> None:
        if catalog is not None:
            readiness.set(catalog.default.view().state is EngineState.READY)

    async with AsyncExitStack() as stack:
        opening = Opening(settings, stack, changed)
        catalog = await opening.catalog()
        changed()
        _show(opening.admissions)
        add = partial(
            generator_pb2_grpc.add_GeneratorServiceServicer_to_server, GeneratorServicer(catalog, Quotas(settings))
        )
        yield [server.Hosted(SERVICE, add, readiness)]


def main() -> None:
    """Runs the service."""
    server.main(GeneratorSettings, open_service)


def _show(admissions: list[Admission]) -> None:
    """What all models together have."""
    _RUNNING.set_function(lambda: sum(one.running_requests for one in admissions))
    _RUNNING_TOKENS.set_function(lambda: sum(one.running_tokens for one in admissions))
    _WAITING.set_function(lambda: sum(one.waiting_requests for one in admissions))
