"""Small stand-ins for what a test is not about, and builders of chunks."""

import asyncio
import threading
import uuid
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from mesh.errors import FailedPrecondition, Unavailable
from mesh.places import Place
from retriever.chunks import Chunk, MetadataValue
from retriever.embedding import Purpose, Slice, Vectors, slices_by_length
from retriever.reranking import Blend
from retriever.sparse import words_of
from retriever.stores.base import IndexedChunk

DIMENSIONS = 32


class WordsEmbedder:
    """Each word is a fixed random direction: texts that share words are alike. Says which batches it was given."""

    name, version, dimensions, max_tokens = "words", "1", DIMENSIONS, 64

    def __init__(self, slices_at_once: int = 1, name: str = "words") -> None:
        self.name, self.slices_at_once = name, slices_at_once
        self.batches: list[tuple[Purpose, int]] = []
        self.may_run = threading.Event()
        self.may_run.set()
        self.started = threading.Event()

    def embed(self, texts: Sequence[str], purpose: Purpose) -> Vectors:
        self.batches.append((purpose, len(texts)))
        self.started.set()
        assert self.may_run.wait(10)
        return np.stack([vector_of(text) for text in texts])

    def cut(self, texts: Sequence[str]) -> list[Slice]:
        return list(slices_by_length(texts, max_texts=100, max_characters=2_000))

    def embed_slice(self, cut: Slice) -> Vectors:
        return self.embed(cut.prepared, Purpose.DOCUMENT)

    def close(self) -> None:
        pass


class MoreWordsEmbedder(WordsEmbedder):
    """Another embedder: more numbers to a vector, and another window."""

    dimensions, max_tokens = DIMENSIONS + 1, 128

    def embed(self, texts: Sequence[str], purpose: Purpose) -> Vectors:
        return np.pad(super().embed(texts, purpose), ((0, 0), (0, 1)))


class SharedWords:
    """A reranker that counts the question's words in a text. Says what it was given, and can be held up."""

    version, blend = "7", Blend()

    def __init__(self, name: str) -> None:
        self.name = name
        self.read: list[int] = []
        self.may_run, self.started = asyncio.Event(), asyncio.Event()
        self.may_run.set()
        self.closed = False

    async def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        self.read.append(len(texts))
        self.started.set()
        await self.may_run.wait()
        if "crash" in question:
            raise Unavailable("The reranker stopped while it worked on this.")
        asked = set(question.lower().split())
        return [float(sum(word in asked for word in text.lower().replace(".", " ").split())) for text in texts]

    async def close(self) -> None:
        self.closed = True


class FakeRerankers:
    """Opens them, and counts how often."""

    def __init__(self) -> None:
        self.opened: list[SharedWords] = []

    async def __call__(self, name: str) -> SharedWords:
        self.opened.append(SharedWords(name))
        if name == "broken":
            raise FailedPrecondition("The reranker broken cannot be loaded: it is broken")
        return self.opened[-1]


def open_fake(name: str) -> WordsEmbedder:
    """`broken` cannot be loaded."""
    if name == "broken":
        raise FailedPrecondition("The embedder broken cannot be loaded: it is broken")
    return MoreWordsEmbedder(name=name)


def vector_of(text: str) -> Vectors:
    """Of length 1."""
    words = text.lower().replace(".", " ").split() or [""]
    total = sum(np.random.default_rng(zlib.crc32(word.encode())).standard_normal(DIMENSIONS) for word in words)
    return np.asarray(total / np.linalg.norm(total), np.float32)


def document_name(document: str, collection: str = "default") -> str:
    return f"collections/{collection}/documents/{document}"


def chunk(
    text: str,
    document: str = "a",
    version: str = "1",
    index: int = 0,
    metadata: Mapping[str, MetadataValue] | None = None,
) -> Chunk:
    return Chunk(
        id=str(uuid.uuid5(uuid.NAMESPACE_URL, f"{document}/{version}/{index}")),
        document=document_name(document),
        version=version,
        index=index,
        text=text,
        start=index * 100,
        end=index * 100 + len(text),
        page=index + 1,
        headings=("Top", "Sub"),
        place=Place(slide=index + 1, sheet="Sales", member="a.zip/b.xlsx", start_s=1.5, end_s=2.5),
        display_name=f"{document}.txt",
        metadata=metadata or {},
    )


def indexed(item: Chunk) -> IndexedChunk:
    return IndexedChunk(item, vector_of(item.text).tolist(), words_of("english").of_document(item.text))
