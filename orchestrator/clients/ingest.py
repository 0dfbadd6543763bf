"""Ingest over gRPC: the stored text of documents, and which there are."""

import grpc.aio

from mesh.access.tenants import public, tenant_of
from mesh.deadline import call_options
from mesh.errors import FailedPrecondition, InvalidInput, NotFound, translated
from mesh.place_messages import to_place
from murphey.ingest.v1 import ingest_pb2, ingest_pb2_grpc
from murphey.retriever.v1 import retriever_pb2
from orchestrator.ports import StoredText
from orchestrator.sources import Span

SERVICE = "murphey.ingest.v1.IngestService"
IDEMPOTENT = ["GetDocument", "GetDocumentText"]


class IngestClient:
    """Implements `ports.Documents` and `forgetting.KnownDocuments`. `timeout_s` bounds a call whose own deadline is later."""

    def __init__(self, channel: grpc.aio.Channel, timeout_s: float) -> None:
        self._stub = ingest_pb2_grpc.IngestServiceStub(channel)
        self._timeout_s = timeout_s

    async def exists(self, document: str) -> bool:
        """Whether there is a document of this resource name with its tenant, whatever its state."""
        request = ingest_pb2.GetDocumentRequest(name=public(document))
        try:
            with translated("ingest"):
                await self._stub.GetDocument(request, **call_options(self._timeout_s, tenant_of(document)))
        except NotFound:
            return False
        return True

    async def text(self, document: str, version: str, span: Span) -> StoredText | None:
        """None where the document, this version or that part of it does not exist (any more)."""
        request = ingest_pb2.GetDocumentTextRequest(
            name=document, span=retriever_pb2.Span(start=span.start, end=span.end), version=version
        )
        try:
            with translated("ingest"):
                response = await self._stub.GetDocumentText(request, **call_options(self._timeout_s))
        except (NotFound, FailedPrecondition, InvalidInput):
            return None
        return StoredText(response.text, response.page, to_place(response.place))
