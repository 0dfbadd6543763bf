"""Ingest: files to searchable chunks, beside the embedder alone, and beside LlamaIndex's and LangChain's ordinary ingestion.

`murphey ingest FOLDER` is timed from its start until every document is live. The embedder alone then embeds the very chunks
that the mesh made, and the peers take in the same files with the same model and chunk sizes. Each run has a mesh of its
own, so that nothing is known from the run before.
"""

import asyncio
import json
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench import ceilings, corpora, peer
from bench.frame import Reference, Report, Row, Target
from bench.local_mesh import LocalMesh, local_mesh, models_folder
from bench.options import Options
from murphey.retriever.v1 import retriever_pb2 as pb
from murphey.retriever.v1.retriever_pb2_grpc import RetrieverServiceStub

PEERS = {"llama_index_ingest": "llama-index-core", "langchain_ingest": "langchain-core"}
QUICK_SHARE = 0.01
MAX_FOUND = 1000
"""Passages that one search returns."""


@dataclass(frozen=True)
class Ingested:
    """What the mesh made of a folder, and how long it took; chunk sizes in tokens of the embedder."""

    texts: list[str]
    seconds: float
    chunk_tokens: int
    overlap_tokens: int


@dataclass(frozen=True)
class Run:
    """What one run measured."""

    characters: int
    chunks: int
    seconds: float
    embedder_chunks_per_s: float
    peers_characters_per_s: dict[str, float]


def run(options: Options, share: float = 1.0) -> Report:
    """Mesh, embedder and peers in turn, as often as there are runs, on a share (0 to 1) of each corpus."""
    documents = corpora.sample(corpora.INGEST_CORPORA, QUICK_SHARE if options.quick else share)
    with TemporaryDirectory() as folder:
        characters = corpora.write_files(documents, Path(folder))
        runs = [_run(Path(folder), len(documents), characters) for _ in range(options.runs)]
    rows = (_embedder_row(runs), *(_peer_row(runs, script, package) for script, package in PEERS.items()))
    workload = {
        "corpora": corpora.INGEST_CORPORA, "documents": len(documents), "characters": characters,
        "chunks": runs[0].chunks,
    }  # fmt: skip
    return Report("ingest", rows, workload, options.quick)


def _run(folder: Path, documents: int, characters: int) -> Run:
    with local_mesh() as mesh:
        made = ingested(mesh, folder, documents)
    sizes = {"chunk_tokens": made.chunk_tokens, "overlap_tokens": made.overlap_tokens}
    peers = {script: _peer_characters_per_s(script, folder, sizes) for script in PEERS}
    return Run(characters, len(made.texts), made.seconds, embedder_chunks_per_s(made.texts), peers)


def ingested(mesh: LocalMesh, folder: Path, documents: int) -> Ingested:
    """Has the mesh take a folder in and gets its chunks back. RuntimeError unless all documents and chunks are there."""
    started_s = time.perf_counter()
    results = mesh.murphey("ingest", str(folder))
    seconds = time.perf_counter() - started_s
    texts = indexed_texts(mesh, [result["document"] for result in results])
    expected = sum(result["chunks"] for result in results)
    if len(results) != documents or len(texts) != expected:
        raise RuntimeError(f"{documents} files gave {len(results)} results, and {expected} chunks {len(texts)} texts.")
    chunking = asyncio.run(_chunking(mesh))
    return Ingested(texts, seconds, chunking.chunk_tokens, chunking.overlap_tokens)


async def _chunking(mesh: LocalMesh) -> pb.Chunking:
    async with mesh.channel("retriever") as channel:
        answer = await RetrieverServiceStub(channel).GetCollection(pb.GetCollectionRequest(), timeout=60)
    return answer.collection.chunking


def indexed_texts(mesh: LocalMesh, documents: list[str]) -> list[str]:
    """What the retriever embedded of each chunk, headings and column names first, as RetrieverService's Chunk.vector says; of
    a document at most MAX_FOUND."""
    return asyncio.run(_indexed_texts(mesh, documents))


async def _indexed_texts(mesh: LocalMesh, documents: list[str]) -> list[str]:
    async with mesh.channel("retriever") as channel:
        stub = RetrieverServiceStub(channel)
        anywhere = (await stub.Embed(pb.EmbedRequest(texts=["anything"]), timeout=60)).vectors[0]
        found = [await stub.Search(_all_chunks(document, anywhere), timeout=60) for document in documents]
    chunks = [passage.chunk for answer in found for passage in answer.passages]
    return ["\n".join([*chunk.headings, *filter(None, [chunk.place.table_header]), chunk.text]) for chunk in chunks]


def _all_chunks(document: str, anywhere: pb.Vector) -> pb.SearchRequest:
    """`document` is its display name, as the command reports it."""
    request = pb.SearchRequest(vector=anywhere, limit=MAX_FOUND)
    request.filter.must.add().field.field = "display_name"
    request.filter.must[0].field.match.string_value = document
    return request


def embedder_chunks_per_s(texts: list[str]) -> float:
    """The embedder alone, on the very chunks."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "texts.json"
        path.write_text(json.dumps(texts))
        return ceilings.run("embedder", texts=path)["chunks_per_s"][0]


def _peer_characters_per_s(script: str, folder: Path, sizes: dict[str, int]) -> float:
    model = models_folder() / "all-minilm-l6-v2"
    result: dict[str, Any] = peer.PEERS.run(script, folder=folder, model=model, **sizes)
    return result["characters"] / result["seconds"]


def _embedder_row(runs: list[Run]) -> Row:
    reference = Reference("embedder alone, same chunks", tuple(run.embedder_chunks_per_s for run in runs))
    figures = tuple(run.chunks / run.seconds for run in runs)
    return Row("ingest, files to live chunks", "chunks/s", figures, reference, Target("ratio", at_least=0.8))


def _peer_row(runs: list[Run], script: str, package: str) -> Row:
    reference = Reference(peer.PEERS.version(package), tuple(run.peers_characters_per_s[script] for run in runs))
    figures = tuple(run.characters / run.seconds for run in runs)
    name = f"ingest, against {package.removesuffix('-core')}"
    return Row(name, "characters/s", figures, reference, Target("ratio", at_least=2.5))
