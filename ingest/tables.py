"""The tables, as the queries see them. Migrations make them; a test compares the two."""

import sqlalchemy as sa

from mesh.access.identity import DEFAULT_TENANT

metadata = sa.MetaData()

COLLECTION = sa.String(128).with_variant(sa.String(64), "sqlite")
"""A collection's id with its tenant. SQLite does not look at the length, and its tables are from when it was shorter."""

documents = sa.Table(
    "documents",
    metadata,
    sa.Column("collection", COLLECTION, primary_key=True),
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("display_name", sa.Text, nullable=False),
    sa.Column("live_version", sa.String(64), nullable=False),
    sa.Column("job", sa.String(32), nullable=False),
    sa.Column("created_us", sa.BigInteger, nullable=False),
    sa.Column("updated_us", sa.BigInteger, nullable=False),
    sa.Column("archive", sa.String(32), nullable=False, server_default=""),
    sa.Index("documents_by_name", "collection", "display_name", unique=True),
    sa.Index("documents_by_archive", "collection", "archive"),
)
"""A row a document; `live_version` is empty while none is live, `job` is the last one. `archive` is the id of the document
that it is a member of."""

versions = sa.Table(
    "versions",
    metadata,
    sa.Column("collection", COLLECTION, primary_key=True),
    sa.Column("document", sa.String(32), primary_key=True),
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("content_key", sa.String(64), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("raw_key", sa.Text, nullable=False),
    sa.Column("text_key", sa.Text, nullable=False),
    sa.Column("media_type", sa.Text, nullable=False),
    sa.Column("text_bytes", sa.BigInteger, nullable=False),
    sa.Column("text_length", sa.BigInteger, nullable=False),
    sa.Column("page_count", sa.Integer, nullable=False),
    sa.Column("chunk_count", sa.Integer, nullable=False),
    sa.Column("metadata", sa.JSON, nullable=False),
    sa.Column("found", sa.JSON, nullable=False),
    sa.Column("chunking", sa.String(64), nullable=False, server_default=""),
    sa.Index("versions_by_sha256", "collection", "sha256"),
)
"""A row a content of a document that is live, on its way, or failed and can be tried again. `chunking` says how it was cut."""

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("collection", COLLECTION, nullable=False),
    sa.Column("document", sa.String(32), nullable=False),
    sa.Column("display_name", sa.Text, nullable=False),
    sa.Column("version", sa.String(64), nullable=False),
    sa.Column("batch", sa.String(64), nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("stage", sa.SmallInteger, nullable=False),
    sa.Column("outcome", sa.SmallInteger, nullable=False),
    sa.Column("publishing", sa.Boolean, nullable=False),
    sa.Column("run", sa.String(32), nullable=False),
    sa.Column("total_chunks", sa.Integer, nullable=False),
    sa.Column("indexed_chunks", sa.Integer, nullable=False),
    sa.Column("failure", sa.JSON(none_as_null=True)),
    sa.Column("created_us", sa.BigInteger, nullable=False),
    sa.Column("updated_us", sa.BigInteger, nullable=False),
    sa.Column("archive", sa.String(32), nullable=False, server_default=""),
    sa.Column("kind", sa.SmallInteger, nullable=False, server_default="1"),
    sa.Column("total_documents", sa.Integer, nullable=False, server_default="0"),
    sa.Column("indexed_documents", sa.Integer, nullable=False, server_default="0"),
    sa.Index("jobs_by_document", "collection", "document"),
    sa.Index("jobs_by_batch", "batch", "id"),
    sa.Index("jobs_by_run", "run"),
    sa.Index("jobs_by_state", "state", "id"),
    sa.Index("jobs_by_queue", "state", "collection", "id"),
)
"""A row a job; `run` is the workflow that carries it, `publishing` that it can no longer be stopped. One that indexes a
collection anew has no document; its `version` is the index's."""

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("collection", COLLECTION, nullable=False),
    sa.Column("indexed_rows", sa.Integer, nullable=False),
    sa.Column("created_us", sa.BigInteger, nullable=False),
    sa.Column("worker", sa.String(96), nullable=False, server_default=""),
    sa.Column("index_version", sa.String(512), nullable=False, server_default=""),
)
"""A row a workflow that has not ended; the first `indexed_rows` of its chunks are in the retriever. `worker` carries it;
it is empty while the run waits in the queue. Its chunks are cut for the index `index_version`."""

reindexings = sa.Table(
    "reindexings",
    metadata,
    sa.Column("collection", COLLECTION, primary_key=True),
    sa.Column("job", sa.String(32), nullable=False),
    sa.Column("index_version", sa.String(512), nullable=False),
    sa.Column("former_version", sa.String(512), nullable=False),
    sa.Column("kept", sa.Boolean, nullable=False),
    sa.Column("closing", sa.Boolean, nullable=False),
    sa.Column("worker", sa.String(96), nullable=False, server_default=""),
)
"""A row a collection that is being indexed anew, from `former_version` to `index_version`, which was `kept` from before or is
new. `closing`: nothing is published until the swap. `worker` carries it, as with runs."""

copies = sa.Table(
    "copies",
    metadata,
    sa.Column("collection", COLLECTION, primary_key=True),
    sa.Column("document", sa.String(32), primary_key=True),
    sa.Column("version", sa.String(64), primary_key=True),
    sa.Column("index_version", sa.String(512), primary_key=True),
    sa.Column("content_key", sa.String(64), nullable=False),
    sa.Column("chunk_count", sa.Integer, nullable=False),
    sa.Column("chunking", sa.String(64), nullable=False),
    sa.Column("done", sa.Boolean, nullable=False),
)
"""A row a version in an index that searches do not use: one that is being built, or the one before. While it is not `done`,
any of its chunks may be there. Of the live index `versions` tells."""

workers = sa.Table(
    "workers",
    metadata,
    sa.Column("id", sa.String(96), primary_key=True),
    sa.Column("beat", sa.BigInteger, nullable=False),
    sa.Column("joined_us", sa.BigInteger, nullable=False),
)
"""A row a process that works; it counts `beat` up while it lives, and sets it below 0 when it leaves."""

discarded = sa.Table("discarded", metadata, sa.Column("key", sa.Text, primary_key=True))
"""Objects that nothing names any more and that are still to be deleted."""

VERSION_OF_JOB = sa.and_(
    versions.c.collection == jobs.c.collection,
    versions.c.document == jobs.c.document,
    versions.c.id == jobs.c.version,
)
"""Joins a job with the version that it makes."""

VERSION_IS_LIVE = sa.and_(
    versions.c.collection == documents.c.collection,
    versions.c.document == documents.c.id,
    versions.c.id == documents.c.live_version,
)
"""Joins a document with its live version."""


def of_tenant(collection: sa.ColumnElement[str], tenant: str) -> sa.ColumnElement[bool]:
    """Whether a row's collection is the tenant's (mesh.access.tenants)."""
    if tenant == DEFAULT_TENANT:
        return ~collection.contains(".", autoescape=True)
    return collection.startswith(f"{tenant}.", autoescape=True)
