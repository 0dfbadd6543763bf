"""Collections and models that an evaluation asks for: whether they are there, and which version."""

from dataclasses import dataclass

from mesh.errors import FailedPrecondition, translated
from mesh.names import collection_id
from murphey.generator.v1 import generator_pb2
from murphey.generator.v1.generator_pb2_grpc import GeneratorServiceStub
from murphey.ingest.v1 import ingest_pb2
from murphey.ingest.v1.ingest_pb2_grpc import IngestServiceStub
from murphey.retriever.v1 import retriever_pb2
from murphey.retriever.v1.retriever_pb2_grpc import RetrieverServiceStub
from orchestrator.evaluation.clients.mesh import LiveMesh

TIMEOUT_S = 60.0
PREPARE_TIMEOUT_S = 600.0
"""An embedder is converted for the retriever's machine when it is named for the first time."""


@dataclass(frozen=True)
class CollectionSettings:
    """How a collection of an evaluation's own is made; empty and None are the mesh's defaults."""

    embedder: str = ""
    chunk_tokens: int = 0
    overlap_tokens: int | None = None
    language: str = ""


DEFAULT_SETTINGS = CollectionSettings()


@dataclass(frozen=True)
class Searchable:
    """A collection that can be searched: its id, the version of its index, and its chunks."""

    id: str
    index: str
    chunks: int


async def create_collection(mesh: LiveMesh, identifier: str, settings: CollectionSettings) -> None:
    """Creates it; the same again is no error."""
    chunking = retriever_pb2.Chunking(chunk_tokens=settings.chunk_tokens, overlap_tokens=settings.overlap_tokens)
    collection = retriever_pb2.Collection(
        name=f"collections/{identifier}", embedder=settings.embedder, chunking=chunking, language=settings.language
    )
    request = retriever_pb2.CreateCollectionRequest(collection=collection)
    with translated("retriever"):
        await RetrieverServiceStub(mesh.retriever).CreateCollection(request, timeout=PREPARE_TIMEOUT_S)


async def searchable(mesh: LiveMesh, name: str) -> Searchable:
    """The collection of an id or resource name. NotFound; FailedPrecondition when it holds no chunks."""
    identifier = collection_id(name if "/" in name else f"collections/{name}")
    request = retriever_pb2.GetCollectionRequest(name=f"collections/{identifier}")
    with translated("retriever"):
        found = (await RetrieverServiceStub(mesh.retriever).GetCollection(request, timeout=TIMEOUT_S)).collection
    if not found.chunk_count:
        raise FailedPrecondition(
            f"The collection {identifier} holds no chunks: ingest documents with `murphey ingest --collection {identifier}`."
        )
    return Searchable(identifier, found.index_version, found.chunk_count)


async def live_documents(mesh: LiveMesh, identifier: str) -> set[str]:
    """Display names of the documents that searches find."""
    request = ingest_pb2.ListDocumentsRequest(
        parent=f"collections/{identifier}", page_size=1000, state=ingest_pb2.DOCUMENT_STATE_LIVE
    )
    stub, names = IngestServiceStub(mesh.ingest), set[str]()
    with translated("ingest service"):
        while True:
            page = await stub.ListDocuments(request, timeout=TIMEOUT_S)
            names |= {document.display_name for document in page.documents}
            if not page.next_page_token:
                return names
            request.page_token = page.next_page_token


async def model_version(mesh: LiveMesh, model: str) -> str:
    """`models/{model}@{version}` of a model, or of the default one. NotFound when it is not served."""
    request = generator_pb2.GetModelRequest(name=f"models/{model}" if model else "")
    with translated("generator"):
        found = (await GeneratorServiceStub(mesh.generator).GetModel(request, timeout=TIMEOUT_S)).model
    return f"{found.name}@{found.version}"
