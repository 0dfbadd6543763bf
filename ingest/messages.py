"""Domain objects as messages, and headers as domain objects."""

from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2

from ingest.comparison import Compared, FileDescription
from ingest.documents import (
    Document,
    Failure,
    NewUpload,
    check_batch,
    check_display_name,
    check_sha256,
    checked_metadata,
)
from ingest.index.chunk_index import NewIndex
from ingest.index.retriever import SPLITTERS
from ingest.jobs import Job
from ingest.metadata_messages import from_struct, to_struct
from ingest.orphans import Orphan
from mesh.errors import DOMAIN, InvalidInput
from mesh.names import collection_id, document_name
from murphey.ingest.v1 import ingest_pb2 as pb


def to_upload(header: pb.UploadHeader) -> NewUpload:
    """The checked header. InvalidInput names the field at fault."""
    collection = collection_id(header.collection, "header.collection")
    check_display_name(header.display_name)
    check_batch(header.batch)
    metadata = checked_metadata(from_struct(header.metadata))
    return NewUpload(collection, header.display_name, metadata, header.batch)


def to_description(file: pb.ComparedFile, field: str) -> FileDescription:
    """A checked file of a comparison. InvalidInput names the field at fault."""
    check_display_name(file.display_name, f"{field}.display_name")
    check_sha256(file.sha256, f"{field}.sha256")
    metadata = checked_metadata(from_struct(file.metadata))
    return FileDescription(file.display_name, file.sha256.lower(), metadata)


def compared_message(compared: Compared) -> pb.ComparedDocument:
    """What an upload would do."""
    return pb.ComparedDocument(
        comparison=f"COMPARISON_{compared.comparison.name}",
        chunk_count=compared.chunk_count,
        job=job_message(compared.job) if compared.job else None,
    )


def document_message(document: Document) -> pb.Document:
    """A document."""
    message = pb.Document(
        name=document.name,
        display_name=document.display_name,
        state=f"DOCUMENT_STATE_{document.state.name}",
        version=document.live_version,
        job=f"jobs/{document.job}",
        create_time=_time(document.created_us),
        update_time=_time(document.updated_us),
        error=_status(document.failure),
        archive=document_name(document.collection, document.archive) if document.archive else "",
        members=pb.MemberCounts(**vars(document.members)) if document.members else None,
    )
    version = document.shown
    if version is not None:
        message.media_type, message.size_bytes, message.sha256 = version.media_type, version.size_bytes, version.sha256
        message.metadata.CopyFrom(to_struct({**version.found, **version.metadata}))
        if document.live_version:
            message.text_length, message.page_count = version.text_length, version.page_count
            message.chunk_count = version.chunk_count
    return message


def job_message(job: Job) -> pb.Job:
    """A job."""
    return pb.Job(
        name=job.name,
        document=job.document,
        display_name=job.display_name,
        batch=job.batch,
        state=f"JOB_STATE_{job.state.name}",
        stage=f"JOB_STAGE_{job.stage.name}",
        outcome=f"JOB_OUTCOME_{job.outcome.name}",
        total_chunks=job.total_chunks,
        indexed_chunks=job.indexed_chunks,
        error=_status(job.failure),
        create_time=_time(job.created_us),
        update_time=_time(job.updated_us),
        archive=document_name(job.collection, job.archive) if job.archive else "",
        kind=f"JOB_KIND_{job.kind.name}",
        total_documents=job.total_documents,
        indexed_documents=job.indexed_documents,
    )


def to_new_index(request: pb.ReindexCollectionRequest) -> NewIndex:
    """What another index of a collection shall differ in. InvalidInput names the field at fault."""
    check_batch(request.batch, "batch")
    chunking = request.chunking
    if chunking.splitter and chunking.splitter not in SPLITTERS:
        raise InvalidInput(f"There is no splitter {chunking.splitter}.", field="chunking.splitter")
    overlap_tokens = chunking.overlap_tokens if chunking.HasField("overlap_tokens") else None
    return NewIndex(request.embedder, chunking.chunk_tokens, overlap_tokens, SPLITTERS.get(chunking.splitter, ""))


def orphan_message(orphan: Orphan, removed: bool) -> pb.Orphan:
    """What is left over or missing, and whether it has been removed."""
    return pb.Orphan(
        kind=pb.OrphanKind.Name(orphan.kind), name=orphan.name, version=orphan.version, amount=orphan.amount, removed=removed,
    )  # fmt: skip


def _status(failure: Failure | None) -> status_pb2.Status | None:
    if failure is None:
        return None
    status = status_pb2.Status(code=failure.code, message=failure.message)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=failure.reason, domain=DOMAIN))
    return status


def _time(microseconds: int) -> Timestamp:
    return Timestamp(seconds=microseconds // 1_000_000, nanos=microseconds % 1_000_000 * 1000)
