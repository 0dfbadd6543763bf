"""The same question finds the same manual's passage from PDF, EPUB, HTML and TXT: two Debian manuals, 40 questions.

A passage is the same when it holds the words in which the manual answers (`evidence`, without case and punctuation).
"""

import json
import re
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from ingest.chunking import Chunker, ChunkSize
from ingest.parsers.ocr import Recognizer
from ingest.parsers.outlines import has_tables, outline_of
from ingest.parsers.parsing import parse_file
from ingest.parsers.reading import ReadLimits
from ingest.texts import read_blocks
from ingest.tokens import TokenCounter
from mesh.server import serving
from mesh.weights import resolve
from murphey.retriever.v1 import retriever_pb2 as pb
from murphey.retriever.v1.retriever_pb2_grpc import RetrieverServiceStub
from retriever.app import open_service
from retriever.settings import RetrieverSettings
from tests.ingest.conftest import NO_SPEECH

pytestmark = pytest.mark.slow

FORMATS = ("pdf", "epub", "html", "txt")
QUESTIONS = Path(__file__).parent / "parity" / "questions.jsonl"
PASSAGES = 5
LEAST_SHARE = 0.9
CHUNKS_AT_ONCE = 200


def files(documents: Path, manual: str, format_: str) -> list[Path]:
    if manual == "policy" and format_ == "html":
        return sorted((documents / "debian" / "debian-policy" / "html").glob("*.html"))
    folder = {"policy": "debian-policy", "developers-reference": "developers-reference"}[manual]
    return [documents / "debian" / folder / f"{manual}.{format_}"]


def chunks_of(path: Path, manual: str, collection: str, count: TokenCounter, scratch: Path) -> Iterator[pb.Chunk]:
    parsed = parse_file(
        path, path.name, scratch / "t", scratch / "i", scratch / "m", Recognizer("eng"), NO_SPEECH, ReadLimits(1 << 28)
    )
    source = path if parsed.text_is_raw else scratch / "t"
    text = source.read_bytes().decode()
    chunker = Chunker(
        ChunkSize(240, 0, 256), count, outline=outline_of(parsed.media_type), tables=has_tables(parsed.media_type)
    )
    for index, cut in enumerate(chunker.cut(read_blocks(source))):
        yield pb.Chunk(
            id=str(uuid.uuid5(uuid.NAMESPACE_URL, f"{collection}/{path}/{index}")), version="1", index=index,
            document=f"collections/{collection}/documents/{manual}", text=text[cut.start : cut.end],
            span=pb.Span(start=cut.start, end=cut.end), headings=cut.headings, display_name=path.name,
        )  # fmt: skip


@pytest.fixture
async def retriever(tmp_path: Path) -> AsyncIterator[RetrieverServiceStub]:
    settings = RetrieverSettings(data=tmp_path / "data", drain_s=0, device="cpu")
    async with (
        open_service(settings) as hosted,
        serving(settings, hosted) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        yield RetrieverServiceStub(channel)


async def test_the_same_question_finds_the_same_passage_in_every_format(
    retriever: RetrieverServiceStub, documents_folder: Path, tmp_path: Path
) -> None:
    questions: list[dict[str, Any]] = [json.loads(line) for line in QUESTIONS.read_text().splitlines()]
    assert len(questions) == 40
    count = TokenCounter.from_model(resolve("all-minilm-l6-v2", RetrieverSettings().models))
    for format_ in FORMATS:
        await retriever.CreateCollection(
            pb.CreateCollectionRequest(collection=pb.Collection(name=f"collections/{format_}"))
        )
        for manual in ("policy", "developers-reference"):
            chunks = [
                chunk
                for path in files(documents_folder, manual, format_)
                for chunk in chunks_of(path, manual, format_, count, tmp_path)
            ]
            for at in range(0, len(chunks), CHUNKS_AT_ONCE):
                request = pb.UpsertChunksRequest(
                    collection=f"collections/{format_}", chunks=chunks[at : at + CHUNKS_AT_ONCE]
                )
                await retriever.UpsertChunks(request)

    found = {format_: [await finds(retriever, format_, question) for question in questions] for format_ in FORMATS}

    everywhere = [all(found[format_][row] for format_ in FORMATS) for row in range(len(questions))]
    nowhere = [not any(found[format_][row] for format_ in FORMATS) for row in range(len(questions))]
    same = sum(a or b for a, b in zip(everywhere, nowhere, strict=True))
    print({format_: sum(hits) for format_, hits in found.items()}, "in every format:", sum(everywhere), "same:", same)
    for row, question in enumerate(questions):
        if not everywhere[row]:
            print([format_ for format_ in FORMATS if not found[format_][row]], question["question"])
    assert sum(everywhere) >= LEAST_SHARE * len(questions)


async def finds(retriever: RetrieverServiceStub, format_: str, question: dict[str, Any]) -> bool:
    """Whether the first passages hold the manual's answer."""
    request = pb.SearchRequest(collection=f"collections/{format_}", text=question["question"], limit=PASSAGES)
    response = await retriever.Search(request)
    return any(
        passage.chunk.document.endswith(f"/{question['manual']}") and holds(passage.chunk.text, question["evidence"])
        for passage in response.passages
    )


def holds(text: str, evidence: str) -> bool:
    """Whether the words stand in the text, whatever stands between their letters, such as a line's hyphen."""
    return packed(evidence) in packed(text)


def packed(text: str) -> str:
    return "".join(re.findall(r"[a-z0-9]+", text.lower()))
