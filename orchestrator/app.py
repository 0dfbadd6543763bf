"""Wires the orchestrator: settings, clients, database, domain, servicer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from datetime import timedelta
from functools import partial

import grpc.aio
from sqlalchemy.ext.asyncio import AsyncEngine

from mesh import metrics, server
from mesh.access import credentials
from mesh.admission import Admission, AdmissionLimits
from mesh.caching import MEGABYTE, ByteCache
from mesh.channel import open_channel
from mesh.database import database_url, open_database
from mesh.server import Hosted
from murphey.orchestrator.v1 import orchestrator_pb2_grpc
from orchestrator.answers import Answerer, Limits
from orchestrator.attribution import Entails, Thresholds
from orchestrator.cached_answers import CachedAnswerer
from orchestrator.clients import generator, ingest, retriever
from orchestrator.conversations import Turns
from orchestrator.entailment import CrossEncoderEntailment
from orchestrator.forgetting import Forgetting
from orchestrator.prompting import Prompter
from orchestrator.prompts import load_prompts
from orchestrator.record_storage import StoredRecords
from orchestrator.records import RecordedAnswerer
from orchestrator.replaying import Replayer
from orchestrator.searching import Reach
from orchestrator.service import Orchestrator
from orchestrator.settings import OrchestratorSettings
from orchestrator.storage import StoredConversations

SERVICE = "murphey.orchestrator.v1.OrchestratorService"

_RUNNING = metrics.gauge("answers_running", "Answers under way.")
_WAITING = metrics.gauge("answers_waiting", "Questions that wait for a place.")


def main() -> None:
    """`python -m orchestrator`."""
    server.main(OrchestratorSettings, open_service)


@asynccontextmanager
async def open_service(settings: OrchestratorSettings) -> AsyncIterator[list[Hosted]]:
    """The orchestrator's servicer with all that it needs; closes it on leaving."""
    async with AsyncExitStack() as stack:
        url = database_url(settings.database_url, settings.data, settings.service)
        engine = await stack.enter_async_context(open_database(url, "orchestrator"))
        access = credentials.of_service(settings)
        channels = [
            await stack.enter_async_context(open_channel(target, client.SERVICE, client.IDEMPOTENT, access))
            for target, client in (
                (settings.retriever, retriever),
                (settings.generator, generator),
                (settings.ingest, ingest),
            )
        ]
        servicer, forgetting = _servicer(settings, channels, engine, await _entails(settings, stack))
        await stack.enter_async_context(forgetting.running())
        add = partial(orchestrator_pb2_grpc.add_OrchestratorServiceServicer_to_server, servicer)
        yield [Hosted(SERVICE, add)]


async def _entails(settings: OrchestratorSettings, stack: AsyncExitStack) -> Entails | None:
    """The model that judges sentences, where one is set. FailedPrecondition when it cannot be used."""
    if not settings.entailment_model:
        return None
    judge = await asyncio.to_thread(CrossEncoderEntailment, settings.entailment_model)
    stack.callback(judge.close)
    return judge


def _servicer(
    settings: OrchestratorSettings, channels: list[grpc.aio.Channel], engine: AsyncEngine, entails: Entails | None
) -> tuple[Orchestrator, Forgetting]:
    passages = retriever.RetrieverClient(channels[0], settings.search_timeout_s, settings.reranker)
    models = generator.GeneratorClient(channels[1], settings.answer_timeout_s)
    documents = ingest.IngestClient(channels[2], settings.verify_timeout_s)
    conversations = StoredConversations(engine)
    records = StoredRecords(engine, settings.max_kept_answers, timedelta(days=settings.keep_answers_days))
    limits, prompter, admission = _limits(settings), Prompter(models, load_prompts()), _admission(settings)

    def answering(turns: Turns) -> Answerer:
        return Answerer(passages, models, documents, turns, prompter, limits, admission, entails)

    cached = CachedAnswerer(
        answering(conversations),
        passages,
        models,
        conversations,
        prompter,
        ByteCache("answers", settings.answer_cache_mb * MEGABYTE),
        max_history_turns=limits.max_history_turns,
    )
    recorded = RecordedAnswerer(cached, records, asdict(limits))
    replayer = Replayer(records, conversations, answering, asdict(limits))
    forgetting = Forgetting(cached, records, passages, documents)
    return Orchestrator(recorded, conversations, records, replayer, forgetting), forgetting


def _admission(settings: OrchestratorSettings) -> Admission:
    """One for all answers, replays too."""
    limits = AdmissionLimits(
        settings.max_answers,
        settings.max_pending_tokens,
        settings.max_pending_tokens,
        settings.max_wait_s,
        settings.batch_share,
        settings.answer_timeout_s,
    )
    admission = Admission(limits, "orchestrator")
    _RUNNING.set_function(lambda: admission.running_requests)
    _WAITING.set_function(lambda: admission.waiting_requests)
    return admission


def _limits(settings: OrchestratorSettings) -> Limits:
    return Limits(
        reach=Reach(settings.passage_limit, settings.neighbors, settings.sections, settings.split_questions),
        search_share=settings.search_share,
        max_history_turns=settings.max_history_turns,
        minimum_relevance=settings.minimum_relevance,
        thresholds=Thresholds(
            certain=settings.minimum_support, cosine=settings.minimum_cosine, entailment=settings.minimum_entailment
        ),
        entailment_model=settings.entailment_model,
    )
