"""Scripted services behind the orchestrator, on a real gRPC server: a retriever, a generator and ingest.

They stand in for other rooms, never for what is tested here. Documents are given as texts; chunks are cut by paragraph.
"""

import asyncio
import math
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from mesh.errors import FailedPrecondition, MurpheyError, NotFound
from mesh.server import Hosted, serving
from mesh.settings import ServiceSettings
from murphey.generator.v1 import generator_pb2 as gen
from murphey.generator.v1 import generator_pb2_grpc
from murphey.ingest.v1 import ingest_pb2, ingest_pb2_grpc
from murphey.retriever.v1 import retriever_pb2 as ret
from murphey.retriever.v1 import retriever_pb2_grpc
from orchestrator.words import coverage, stems

VERSION = "v1"


def document_chunks(document: str, text: str, display_name: str) -> list[ret.Chunk]:
    """One chunk a paragraph, with its exact span."""
    chunks, start = [], 0
    for index, paragraph in enumerate(text.split("\n\n")):
        span = ret.Span(start=start, end=start + len(paragraph))
        identifier = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{document}/{index}"))
        chunks.append(
            ret.Chunk(id=identifier, document=document, version=VERSION, index=index, text=paragraph, span=span,
                      page=index + 1, display_name=display_name)
        )  # fmt: skip
        start = span.end + 2
    return chunks


class FakeRetriever(retriever_pb2_grpc.RetrieverServiceServicer):
    """Ranks chunks by the share of the query's words in them, which it also gives as the cosine."""

    def __init__(self) -> None:
        self.chunks: list[ret.Chunk] = []
        self.searches: list[ret.SearchRequest] = []
        self.embeds: list[ret.EmbedRequest] = []
        self.failure: MurpheyError | None = None
        self.failure_of_search: Callable[[str], MurpheyError | None] = lambda text: None
        self.corpus = self.removals = self.asked_states = 0
        self.hold: asyncio.Event | None = None
        self.searching = asyncio.Event()
        self.search_cancelled = asyncio.Event()

    async def Search(self, request, context):
        self.searches.append(request)
        corpus = f"v{self.corpus}"
        self.searching.set()
        if failure := self.failure or self.failure_of_search(request.text):
            raise failure
        if self.hold:
            try:
                await self.hold.wait()
            except asyncio.CancelledError:
                self.search_cancelled.set()
                raise
        if request.collection != "collections/default":
            raise NotFound(f"There is no collection {request.collection}.", field="collection")
        ranked = sorted(self.chunks, key=lambda chunk: self._fit(request.text, chunk), reverse=True)
        passages = [
            ret.Passage(chunk=chunk, score=self._fit(request.text, chunk), dense_score=self._fit(request.text, chunk),
                        before=self._near(chunk, -request.neighbors), after=self._near(chunk, request.neighbors))
            for chunk in ranked[: request.limit]
        ]  # fmt: skip
        return ret.SearchResponse(passages=passages, index_version="default-1", corpus_version=corpus)

    async def GetCorpusVersion(self, request, context):
        self.asked_states += 1
        if self.failure:
            raise self.failure
        if request.collection != "collections/default":
            raise NotFound(f"There is no collection {request.collection}.", field="collection")
        return ret.GetCorpusVersionResponse(version=f"v{self.corpus}", removals=f"r{self.removals}")

    async def Embed(self, request, context):
        self.embeds.append(request)
        if self.failure:
            raise self.failure
        return ret.EmbedResponse(vectors=[ret.Vector(values=bag_of_words(text)) for text in request.texts])

    def _near(self, hit: ret.Chunk, reach: int) -> list[ret.Chunk]:
        """The chunks of its document up to so many places before it (negative) or after it."""
        low, high = sorted((hit.index, hit.index + reach))
        same = [chunk for chunk in self.chunks if chunk.document == hit.document]
        return [chunk for chunk in same if low <= chunk.index <= high and chunk.index != hit.index]

    @staticmethod
    def _fit(query: str, chunk: ret.Chunk) -> float:
        return coverage(stems(query), stems(chunk.text))


def bag_of_words(text: str, dimensions: int = 64) -> list[float]:
    """A vector of length 1 that is near for texts that share words."""
    counts = Counter(sum(map(ord, word)) % dimensions for word in stems(text))
    length = math.sqrt(sum(count * count for count in counts.values())) or 1.0
    return [counts[place] / length for place in range(dimensions)]


class FakeGenerator(generator_pb2_grpc.GeneratorServiceServicer):
    """Says what it is told to say. Tokens are words."""

    def __init__(self) -> None:
        self.script: list[str] = []
        self.requests: list[gen.StreamGenerateRequest] = []
        self.metadata: list[dict[str, str]] = []
        self.counted: list[gen.CountTokensRequest] = []
        self.failure: MurpheyError | None = None
        self.failure_after: MurpheyError | None = None
        self.refuses_guidance: MurpheyError | None = None
        self.hold_after: int | None = None
        self.cancelled = asyncio.Event()
        self.context_tokens = 4096
        self.name = "models/fake"
        self.answering_version = "1"

    async def GetModel(self, request, context):
        if self.failure:
            raise self.failure
        if request.name not in ("", self.name):
            raise NotFound(f"There is no model {request.name}; this generator serves {self.name}.", field="name")
        return gen.GetModelResponse(
            model=gen.Model(name=self.name, version="1", context_tokens=self.context_tokens, default=True)
        )

    async def CountTokens(self, request, context):
        self.counted.append(request)
        counts = [len(_text_of(prompt).split()) for prompt in request.prompts]
        return gen.CountTokensResponse(tokens=counts, model="models/fake", context_tokens=self.context_tokens)

    async def StreamGenerate(self, request, context):
        if self.refuses_guidance and request.sampling.HasField("guidance"):
            raise self.refuses_guidance
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        yield gen.StreamGenerateResponse(started=gen.Started(request_id="r", model="models/fake", model_version="1"))
        try:
            for number, text in enumerate(self.script):
                if number == self.hold_after:
                    await asyncio.Event().wait()
                yield gen.StreamGenerateResponse(delta=gen.Delta(text=text, tokens=1))
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.set()
            raise
        if self.failure_after:
            raise self.failure_after
        usage = gen.Usage(prompt_tokens=len(_text_of(request.prompt).split()), completion_tokens=len(self.script))
        yield gen.StreamGenerateResponse(
            finish=gen.Finish(
                reason=gen.FINISH_REASON_STOP, usage=usage, model="models/fake", model_version=self.answering_version
            )
        )


def _text_of(prompt: gen.Prompt) -> str:
    return prompt.text or "\n".join(part.text for message in prompt.chat.messages for part in message.parts)


class FakeIngest(ingest_pb2_grpc.IngestServiceServicer):
    """Knows the texts of documents."""

    def __init__(self) -> None:
        self.texts: dict[str, tuple[str, str]] = {}
        self.failure: MurpheyError | None = None
        self.reads: list[ingest_pb2.GetDocumentTextRequest] = []

    async def GetDocument(self, request, context):
        if self.failure:
            raise self.failure
        if request.name not in self.texts:
            raise NotFound(f"There is no document {request.name}.")
        return ingest_pb2.GetDocumentResponse(document=ingest_pb2.Document(name=request.name))

    async def GetDocumentText(self, request, context):
        self.reads.append(request)
        if self.failure:
            raise self.failure
        if request.name not in self.texts:
            raise NotFound(f"There is no document {request.name}.")
        version, text = self.texts[request.name]
        if request.version != version:
            raise FailedPrecondition(f"Version {request.version} is no longer live.")
        part = text[request.span.start : request.span.end]
        return ingest_pb2.GetDocumentTextResponse(
            text=part,
            span=request.span,
            text_length=len(text),
            version=version,
            page=text.count("\n\n", 0, request.span.start) + 1,
        )


@dataclass
class FakeMesh:
    """The three services and where they listen."""

    retriever: FakeRetriever = field(default_factory=FakeRetriever)
    generator: FakeGenerator = field(default_factory=FakeGenerator)
    ingest: FakeIngest = field(default_factory=FakeIngest)
    target: str = ""

    def delete_document(self, document: str) -> None:
        """As ingest does: nothing of it is left."""
        del self.ingest.texts[document]
        self.retriever.chunks = [chunk for chunk in self.retriever.chunks if chunk.document != document]
        self.retriever.corpus += 1
        self.retriever.removals += 1

    def add_document(self, name: str, text: str) -> str:
        """Makes a text known to retriever and ingest; gives the document's resource name."""
        document = f"collections/default/documents/{uuid.uuid5(uuid.NAMESPACE_URL, name).hex}"
        self.retriever.corpus += 1
        self.retriever.chunks += document_chunks(document, text, name)
        self.ingest.texts[document] = (VERSION, text)
        return document


@asynccontextmanager
async def fake_mesh(data: Path) -> AsyncIterator[FakeMesh]:
    """The three services on one real server."""
    mesh = FakeMesh()
    hosted = [
        Hosted("murphey.retriever.v1.RetrieverService",
               partial(retriever_pb2_grpc.add_RetrieverServiceServicer_to_server, mesh.retriever)),
        Hosted("murphey.generator.v1.GeneratorService",
               partial(generator_pb2_grpc.add_GeneratorServiceServicer_to_server, mesh.generator)),
        Hosted("murphey.ingest.v1.IngestService",
               partial(ingest_pb2_grpc.add_IngestServiceServicer_to_server, mesh.ingest)),
    ]  # fmt: skip
    async with serving(ServiceSettings(data=data, drain_s=0), hosted) as port:
        mesh.target = f"127.0.0.1:{port}"
        yield mesh
