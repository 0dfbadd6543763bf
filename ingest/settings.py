"""What the ingest service can be told."""

from typing import ClassVar

from pydantic import Field

from mesh.settings import ServiceSettings

MEBIBYTE = 1024 * 1024


class IngestSettings(ServiceSettings):
    """Defaults fit a laptop with two cores; every limit is named by its unit."""

    service: ClassVar[str] = "ingest"

    retriever: str = Field("127.0.0.1:7402", description="The retriever, as host:port or a gRPC target.")
    retriever_patience_s: float = Field(
        300.0, gt=0, description="How long a job waits for a retriever that is away before it fails."
    )
    tokenizer: str = Field("all-minilm-l6-v2", description="The model whose tokens measure chunks: the embedder's.")
    chunk_tokens: int = Field(240, ge=16, le=8192, description="Tokens of a chunk where the collection names none.")

    database_url: str = Field("", description="SQLAlchemy URL; empty means SQLite in the data folder.")
    workflows_url: str = Field("", description="The workflow engine's own database; empty means beside it.")
    worker_lease_s: float = Field(
        15.0, ge=5, description="A worker on another machine that shows no life for so long is taken for dead."
    )
    objects_url: str = Field(
        "", description="Where files are kept, such as s3://bucket/prefix; empty: the data folder."
    )

    max_upload_mib: int = Field(512, ge=1, description="Largest file that is taken.")
    max_uploads: int = Field(64, ge=1, description="Uploads at the same time; more are refused as overload.")
    max_waiting_jobs: int = Field(200_000, ge=1, description="Jobs not yet ended; uploads beyond it are refused.")

    keep_jobs_days: float = Field(30.0, gt=0, description="Jobs that have ended are forgotten after so many days.")

    parsers: int = Field(1, ge=1, le=64, description="Parser processes.")
    parse_timeout_s: float = Field(120.0, gt=0, description="Time that one document may take to parse.")
    parser_memory_mib: int = Field(1024, ge=128, description="Memory that a parser may take beyond its own.")
    documents_per_parser: int = Field(
        1000, ge=1, description="A parser process is replaced after so many documents that are not plain text."
    )
    max_text_mib: int = Field(512, ge=1, description="Largest text that a document may have, in UTF-8.")
    max_pages: int = Field(20_000, ge=1, description="Pages that a document may have.")
    max_archive_files: int = Field(1_000, ge=1, description="Files in an archive, those of archives in it included.")
    max_unpacked_mib: int = Field(1_024, ge=1, description="What an archive may unpack to, in all.")
    max_archive_depth: int = Field(3, ge=1, le=16, description="Archives within archives that are read.")
    speech_model: str = Field(
        "whisper-base", description="The model that hears recordings; `murphey models pull` gets it."
    )
    max_recording_minutes: float = Field(180.0, gt=0, description="Longest recording that is heard.")
    ocr_languages: str = Field("eng", description="Languages of text in images, as Tesseract names them: eng+deu.")

    batch_documents: int = Field(256, ge=1, le=1000, description="Small documents that one workflow carries at most.")
    batch_mib: int = Field(4, ge=1, description="Bytes of documents in a workflow; a larger document goes alone.")
    batches_at_once: int = Field(2, ge=1, description="Workflows at once: one parses while another is embedded.")
    batches_of_collection: int = Field(
        8, ge=1, description="Workflows of one collection at once, on all workers together."
    )
    upsert_chunks: int = Field(256, ge=1, le=2048, description="Chunks sent to the retriever in one call.")
    upserts_at_once: int = Field(2, ge=1, le=16, description="Such calls on their way at the same time.")
