"""Wires the orchestrator: settings, clients, database, domain, servicer."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import grpc.aio

from mesh import server
from mesh.caching import MEGABYTE, ByteCache
from mesh.channel import open_channel
from mesh.database import database_url, open_database
from mesh.server import Hosted
from murphey.orchestrator.v1 import orchestrator_pb2_grpc
from orchestrator.answers import Answerer, Limits
from orchestrator.attribution import Thresholds
from orchestrator.cached_answers import CachedAnswerer
from orchestrator.clients import generator, ingest, retriever
from orchestrator.prompting import Prompter
from orchestrator.prompts import load_prompts
from orchestrator.service import Orchestrator
from orchestrator.settings import OrchestratorSettings
from orchestrator.storage import StoredConversations

SERVICE = "murphey.orchestrator.v1.OrchestratorService"


def main() -> None:
    """`python -m orchestrator`."""
    server.main(OrchestratorSettings, open_service)


@asynccontextmanager
async def open_service(settings: OrchestratorSettings) -> AsyncIterator[list[Hosted]]:
    """The orchestrator's servicer with all that it needs; closes it on leaving."""
    async with AsyncExitStack() as stack:
        url = database_url(settings.database_url, settings.data, settings.service)
        conversations = StoredConversations(await stack.enter_async_context(open_database(url, "orchestrator")))
        channels = [
            await stack.enter_async_context(open_channel(target, client.SERVICE, client.IDEMPOTENT))
            for target, client in (
                (settings.retriever, retriever),
                (settings.generator, generator),
                (settings.ingest, ingest),
            )
        ]
        answerer = _answerer(settings, channels, conversations)
        servicer = Orchestrator(answerer, conversations)
        add = partial(orchestrator_pb2_grpc.add_OrchestratorServiceServicer_to_server, servicer)
        yield [Hosted(SERVICE, add)]


def _answerer(
    settings: OrchestratorSettings, channels: list[grpc.aio.Channel], conversations: StoredConversations
) -> CachedAnswerer:
    passages = retriever.RetrieverClient(channels[0], settings.search_timeout_s)
    models = generator.GeneratorClient(channels[1], settings.answer_timeout_s)
    documents = ingest.IngestClient(channels[2], settings.verify_timeout_s)
    limits = Limits(
        passage_limit=settings.passage_limit,
        neighbors=settings.neighbors,
        max_answers=settings.max_answers,
        max_history_turns=settings.max_history_turns,
        minimum_relevance=settings.minimum_relevance,
        thresholds=Thresholds(certain=settings.minimum_support, cosine=settings.minimum_cosine),
    )
    prompter = Prompter(models, load_prompts())
    answerer = Answerer(passages, models, documents, conversations, prompter, limits)
    cache = ByteCache("answers", settings.answer_cache_mb * MEGABYTE)
    return CachedAnswerer(
        answerer, passages, models, conversations, prompter, cache, max_history_turns=limits.max_history_turns
    )
