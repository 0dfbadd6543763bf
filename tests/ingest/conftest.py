"""An ingest service on a fake retriever, with a small tokenizer made here; and the documents that the slow tests read."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from ingest.app import open_service
from ingest.parsers.speech import Transcriber
from ingest.settings import IngestSettings
from ingest.tokens import TokenCounter
from mesh.server import serving
from murphey.ingest.v1 import ingest_pb2 as pb
from murphey.ingest.v1.ingest_pb2_grpc import IngestServiceStub
from tests.ingest.fakes import FakeRetriever, serving_retriever

DOCUMENTS = Path(__file__).parents[2].parent / "shared" / "data" / "docs"
PIECE_BYTES = 256 * 1024
NO_SPEECH = Transcriber("none", Path(), 0, nullcontext)


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A WordPiece tokenizer that knows letters and a few endings: words cost several tokens, as they do in real ones."""
    letters = [chr(code) for code in range(33, 127)]
    pieces = ["[UNK]", *letters, *(f"##{letter}" for letter in letters), "the", "##ing", "##er", "and", "of", "chunk"]
    tokenizer = Tokenizer(models.WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = normalizers.BertNormalizer()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # pyright: ignore[reportAttributeAccessIssue]
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="session")
def count_tokens(tokenizer_folder: Path) -> TokenCounter:
    """Counts with that tokenizer."""
    return TokenCounter.from_model(tokenizer_folder)


@pytest.fixture(scope="session")
def documents_folder() -> Path:
    """The sample documents. Missing ones are a failure, not a skip."""
    assert DOCUMENTS.is_dir(), f"The sample documents are not at {DOCUMENTS}."
    return DOCUMENTS


@dataclass
class Service:
    """A running ingest service and what stands behind it."""

    stub: IngestServiceStub
    retriever: FakeRetriever
    settings: IngestSettings
    address: str

    async def upload(self, name: str, data: bytes, **header: Any) -> pb.UploadDocumentResponse:
        """Uploads bytes in pieces."""

        async def requests() -> AsyncIterator[pb.UploadDocumentRequest]:
            yield pb.UploadDocumentRequest(header=pb.UploadHeader(display_name=name, **header))
            for at in range(0, len(data), PIECE_BYTES):
                yield pb.UploadDocumentRequest(data=data[at : at + PIECE_BYTES])

        return await self.stub.UploadDocument(requests(), timeout=30)

    async def ended(self, job: str) -> pb.Job:
        """The job when it has ended."""
        last = pb.Job()
        async for response in self.stub.WatchJob(pb.WatchJobRequest(name=job), timeout=60):
            last = response.job
        return last

    async def ingest(self, name: str, data: bytes, **header: Any) -> pb.Job:
        """Uploads and waits for the end."""
        return await self.ended((await self.upload(name, data, **header)).job.name)

    async def document(self, name: str) -> pb.Document:
        """By display name."""
        found = await self.stub.ListDocuments(pb.ListDocumentsRequest(display_name=name), timeout=10)
        assert len(found.documents) == 1
        return found.documents[0]

    async def text(self, document: pb.Document) -> str:
        """All of its parsed text."""
        response = await self.stub.GetDocumentText(pb.GetDocumentTextRequest(name=document.name), timeout=10)
        return response.text

    async def chunks_gone(self, document: str, *, staged_only: bool = False) -> None:
        """Returns when the retriever has no chunks of a document any more: a stopped run cleans up after its jobs ended."""
        async with asyncio.timeout(30):
            while any(  # noqa: ASYNC110 - the fake tells no one when it deletes
                chunk.document == document
                for chunk in (self.retriever.staged() if staged_only else self.retriever.chunks.values())
            ):
                await asyncio.sleep(0.05)

    def objects(self) -> list[Path]:
        """Every file that is kept, or lies about."""
        folder = self.settings.data / "ingest"
        return [path for part in ("objects", "scratch") for path in (folder / part).rglob("*") if path.is_file()]


@asynccontextmanager
async def running_service(data: Path, tokenizer: Path, target: str = "", **settings: Any) -> AsyncIterator[Service]:
    """A service of its own, on a retriever elsewhere where `target` names one."""
    retriever = FakeRetriever()
    async with serving_retriever(retriever) as fake:
        chosen = IngestSettings(data=data, retriever=target or fake, tokenizer=str(tokenizer), drain_s=0.2, **settings)
        async with (
            open_service(chosen) as hosted,
            serving(chosen, hosted) as port,
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        ):
            yield Service(IngestServiceStub(channel), retriever, chosen, f"127.0.0.1:{port}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_service(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path) -> AsyncIterator[Service]:
    """One service for the tests of a module."""
    data = tmp_path_factory.mktemp("data")
    async with running_service(data, tokenizer_folder, max_upload_mib=2, parse_timeout_s=20) as service:
        yield service


@pytest.fixture
def service(shared_service: Service) -> Iterator[Service]:
    """The module's service; nothing may fail in its retriever any more when a test begins."""
    shared_service.retriever.failures.clear()
    shared_service.retriever.gate.set()
    yield shared_service
    shared_service.retriever.gate.set()


def sha256(data: bytes) -> str:
    """In hexadecimal."""
    return hashlib.sha256(data).hexdigest()
