"""Wires the generator: settings -> tokenizer and engine -> domain -> servicer. `python -m generator` runs it."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path

from generator.admission import Admission, AdmissionLimits
from generator.host import EngineHost
from generator.launch import engine_launch
from generator.models import ModelCatalog, ServedModel
from generator.prepare import PreparedModel, prepare, weights_file
from generator.service import GeneratorServicer
from generator.settings import GeneratorSettings
from generator.tokens import PromptTokenizer
from mesh import metrics, server, weights
from murphey.generator.v1 import generator_pb2, generator_pb2_grpc

SERVICE = generator_pb2.DESCRIPTOR.services_by_name["GeneratorService"].full_name

_RUNNING = metrics.gauge("generator_running_requests", "Requests that hold a place of the engine.")
_RUNNING_TOKENS = metrics.gauge("generator_running_tokens", "Tokens, prompt and completion, that they may take.")
_WAITING = metrics.gauge("generator_waiting_requests", "Requests admitted that have no place yet.")


@asynccontextmanager
async def open_service(settings: GeneratorSettings) -> AsyncIterator[list[server.Hosted]]:
    """The generator with its model loaded."""
    source = weights_file(weights.resolve(settings.model, settings.models))
    prepared = await prepare(source, settings.prepared)
    launch = await engine_launch(settings, source, prepared)
    readiness = server.Readiness()
    with closing(PromptTokenizer(prepared)) as tokenizer:
        async with EngineHost(launch, readiness.set) as host:
            catalog = ModelCatalog([_served(settings, source, prepared, tokenizer, host)])
            add = partial(generator_pb2_grpc.add_GeneratorServiceServicer_to_server, GeneratorServicer(catalog))
            yield [server.Hosted(SERVICE, add, readiness)]


def main() -> None:
    """Runs the service."""
    server.main(GeneratorSettings, open_service)


def _served(
    settings: GeneratorSettings,
    source: Path | str,
    prepared: PreparedModel,
    tokenizer: PromptTokenizer,
    host: EngineHost,
) -> ServedModel:
    assert host.info is not None  # noqa: S101 - the host is open
    limits = AdmissionLimits(settings.max_running_requests, host.info.kv_cache_tokens, settings.max_pending_tokens)
    admission = Admission(limits)
    _RUNNING.set_function(lambda: admission.running_requests)
    _RUNNING_TOKENS.set_function(lambda: admission.running_tokens)
    _WAITING.set_function(lambda: admission.waiting_requests)
    return ServedModel(
        settings.serve_as or model_id(settings.model), host.info, prepared.card.vocabulary_tokens, tokenizer, host,
        admission, settings.max_running_requests, settings.max_pending_tokens,
    )  # fmt: skip


def model_id(model: str) -> str:
    """`org/Name` or `/a/folder/Name.gguf` -> `Name`, with what an id cannot hold as `-`."""
    stem = Path(model).name.removesuffix(".gguf")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._") or "model"
