"""The ingest service: its wiring."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from ingest.catalog import Catalog
from ingest.comparison import Comparer
from ingest.database import Database
from ingest.fair_queue import BatchLimits, FairQueue
from ingest.index.retriever import RetrieverIndex
from ingest.job_counts import jobs_counted
from ingest.job_watch import JobWatch
from ingest.jobs import JobChanges
from ingest.library import Library
from ingest.members import Members
from ingest.orphans import Orphans
from ingest.parsers.pool import WorkerLimits, WorkerPool
from ingest.parsers.reading import ReadLimits
from ingest.pipeline import Pipeline, PipelineLimits
from ingest.pruning import Pruning
from ingest.raw_notes import RawNotes
from ingest.registration import Registration
from ingest.reindexing import Reindexer, ReindexLimits
from ingest.reindexings import Reindexings
from ingest.relabelling import Relabelling
from ingest.removal import Removal
from ingest.runs import Runs
from ingest.service import NAME, IngestServicer
from ingest.settings import MEBIBYTE, IngestSettings
from ingest.space import Space
from ingest.storage import Storage
from ingest.uploads import Uploads
from ingest.workers import WorkerFolder, Workers
from ingest.workflows import open_workflows
from mesh import server
from mesh.access import credentials
from mesh.database import database_url, open_database
from mesh.server import Hosted
from murphey.ingest.v1.ingest_pb2_grpc import add_IngestServiceServicer_to_server


@asynccontextmanager
async def open_service(settings: IngestSettings) -> AsyncIterator[list[Hosted]]:
    """Everything the service needs, opened in order and closed in reverse."""
    data = settings.data / "ingest"
    async with AsyncExitStack() as stack:
        url = database_url(settings.database_url, settings.data, "ingest")
        database = Database(await stack.enter_async_context(open_database(url, "ingest")))
        changes = JobChanges()
        folder = WorkerFolder(data)
        stack.callback(folder.close)
        catalog, runs = Catalog(database, changes), Runs(database, changes, folder.worker)
        storage = Storage.open(settings.objects_url, data, folder.scratch)
        notes = RawNotes(folder.scratch, storage)
        index = RetrieverIndex.open(settings.retriever, settings.chunk_tokens, credentials.of_service(settings))
        stack.push_async_callback(index.close)
        parsers = WorkerPool(_worker_limits(settings))
        stack.push_async_callback(parsers.close)
        await parsers.start()
        reindexings = Reindexings(database, changes, folder.worker)
        registration, relabelling = Registration(database, changes), Relabelling(database, index, reindexings)
        job_watch = JobWatch(catalog, changes)
        removal = Removal(catalog, job_watch, index, reindexings)
        members = Members(database, catalog, storage, notes, registration, relabelling, removal)
        pipeline = Pipeline(runs, storage, parsers, index, members, _pipeline_limits(settings))
        await pipeline.purge()
        reindexer = Reindexer(reindexings, pipeline, index, storage, _reindex_limits(settings))
        workflows = await stack.enter_async_context(
            open_workflows(
                _workflows_url(settings),
                FairQueue(database, changes, _batch_limits(settings)),
                runs,
                pipeline,
                Workers(database, folder, settings.worker_lease_s),
                Pruning(database, notes, settings.keep_jobs_days),
                settings.batches_at_once,
                reindexer,
            )
        )
        uploads = Uploads(storage, notes, settings.max_upload_mib * MEBIBYTE, settings.max_uploads)
        library = Library(
            catalog, registration, job_watch, storage, uploads, index, pipeline, relabelling, removal, workflows.wake,
            settings.max_waiting_jobs, Space(database, settings.service, settings.quota_of),
        )  # fmt: skip
        await stack.enter_async_context(jobs_counted(database))
        servicer = IngestServicer(library, Comparer(database), reindexer, partial(Orphans, database, storage, index))
        yield [Hosted(NAME, lambda server: add_IngestServiceServicer_to_server(servicer, server))]


def _workflows_url(settings: IngestSettings) -> str:
    """Beside the documents' tables where those are on Postgres, so that workers that share the one share the other."""
    if settings.workflows_url:
        return settings.workflows_url
    if settings.database_url.startswith("postgresql"):
        return f"postgresql{settings.database_url[settings.database_url.index(':') :]}"
    return f"sqlite:///{settings.data / 'ingest' / 'workflows.sqlite'}"


def _batch_limits(settings: IngestSettings) -> BatchLimits:
    return BatchLimits(settings.batch_documents, settings.batch_mib * MEBIBYTE, settings.batches_of_collection)


def _worker_limits(settings: IngestSettings) -> WorkerLimits:
    return WorkerLimits(
        settings.parsers, settings.parse_timeout_s, settings.parser_memory_mib, settings.documents_per_parser,
        settings.tokenizer, settings.models,
        ReadLimits(
            max_text_bytes=settings.max_text_mib * MEBIBYTE, max_pages=settings.max_pages,
            max_members=settings.max_archive_files, max_unpacked_bytes=settings.max_unpacked_mib * MEBIBYTE,
            max_depth=settings.max_archive_depth,
        ),
        settings.ocr_languages, settings.speech_model, settings.max_recording_minutes * 60,
    )  # fmt: skip


def _reindex_limits(settings: IngestSettings) -> ReindexLimits:
    return ReindexLimits(settings.batch_documents, settings.batch_mib * MEBIBYTE, settings.upsert_chunks)


def _pipeline_limits(settings: IngestSettings) -> PipelineLimits:
    return PipelineLimits(settings.upsert_chunks, settings.upserts_at_once, settings.retriever_patience_s)


def main() -> None:
    """Runs the service with the settings of the command line."""
    server.main(IngestSettings, open_service)
