"""Answers as a user's: one question to the orchestrator, streamed."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import grpc.aio

from mesh.errors import Unavailable, translated
from murphey.orchestrator.v1 import orchestrator_pb2 as pb
from murphey.orchestrator.v1.orchestrator_pb2_grpc import OrchestratorServiceStub
from murphey.retriever.v1.cache_pb2 import CacheControl
from orchestrator.evaluation.clients.searches import only_documents
from orchestrator.events import Citation
from orchestrator.sources import Source, Span

TIMEOUT_S = 300.0
AFRESH = CacheControl(no_cache=True, no_store=True)


@dataclass(frozen=True)
class Heard:
    """An answer as it arrived. Seconds count from the question until its first words, and until its end."""

    text: str
    declined: bool
    sources: tuple[Source, ...]
    citations: tuple[Citation, ...]
    prompt_tokens: int
    completion_tokens: int
    versions: dict[str, str]
    first_token_s: float
    total_s: float


class Asker:
    """Asks about one collection. An empty model is the generator's default, and a `split` of None the orchestrator's."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        collection: str,
        model: str,
        passage_limit: int | None,
        split: bool | None = None,
        cache: CacheControl = AFRESH,
    ) -> None:
        self._stub = OrchestratorServiceStub(channel)
        self._collection, self._model, self._passage_limit, self._split = collection, model, passage_limit, split
        self._cache = cache

    async def ask(self, text: str, documents: Sequence[str] = ()) -> Heard:
        """The answer, from the documents of these display names where any are given."""
        question = pb.Question(
            text=text, collection=f"collections/{self._collection}", passage_limit=self._passage_limit,
            model=f"models/{self._model}" if self._model else "", filter=only_documents(documents),
            split=self._split, cache=self._cache,
        )  # fmt: skip
        started_s, first_s = time.perf_counter(), 0.0
        events: list[pb.StreamAnswerResponse] = []
        with translated("orchestrator"):
            call = self._stub.StreamAnswer(pb.StreamAnswerRequest(question=question), timeout=TIMEOUT_S)
            try:
                async for event in call:
                    if event.HasField("delta") and not first_s:
                        first_s = time.perf_counter() - started_s
                    events.append(event)
            finally:
                call.cancel()
        return _heard(events, first_s, time.perf_counter() - started_s)


def _heard(events: Sequence[pb.StreamAnswerResponse], first_token_s: float, total_s: float) -> Heard:
    if not events or not events[-1].HasField("finish"):
        raise Unavailable("The answer broke off.")
    finish = events[-1].finish
    sources = [source for event in events for source in event.passages.sources]
    citations = [event.citation for event in events if event.HasField("citation")]
    versions = finish.versions
    return Heard(
        text="".join(event.delta.text for event in events),
        declined=finish.outcome == pb.OUTCOME_DECLINED,
        sources=tuple(map(_source, sources)),
        citations=tuple(map(_citation, citations)),
        prompt_tokens=finish.usage.prompt_tokens,
        completion_tokens=finish.usage.completion_tokens,
        versions={"index": versions.index, "prompt": versions.prompt, "model": versions.model},
        first_token_s=first_token_s,
        total_s=total_s,
    )


def _source(source: pb.Source) -> Source:
    return Source(
        number=source.number, document=source.document, version=source.document_version,
        display_name=source.display_name, text=source.text, span=Span(source.span.start, source.span.end),
        page=source.page, headings=tuple(source.headings), score=source.score, chunks=tuple(source.chunks),
    )  # fmt: skip


def _citation(citation: pb.Citation) -> Citation:
    return Citation(
        marker=citation.marker, document=citation.document, display_name=citation.display_name,
        version=citation.document_version, page=citation.page, span=Span(citation.span.start, citation.span.end),
        quote=citation.quote, attributed=citation.attributed,
        answer_span=Span(citation.answer_span.start, citation.answer_span.end), similarity=citation.similarity,
    )  # fmt: skip
