"""Retrieval quality through the running mesh: hybrid, also reranked, beside dense and BM25 alone, on corpora with judgements.

Each document goes in as a file, as a user's would; a document's rank is that of its best passage. ir_measures computes the
scores: by grade, as BEIR and trec_eval count; relevant or not, from a judgement of 1 on, stands beside it.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ir_measures
from ir_measures import Qrel, ScoredDoc, nDCG

from bench import corpora
from bench.frame import Reference, Report, Row, Target
from bench.local_mesh import LocalMesh, local_mesh
from bench.options import Options
from murphey.retriever.v1 import retriever_pb2 as pb
from murphey.retriever.v1.retriever_pb2_grpc import RetrieverServiceStub

RERANKED = "reranked"
WISHES: dict[str, dict[str, Any]] = {
    "hybrid": {"mode": pb.SEARCH_MODE_HYBRID},
    RERANKED: {"mode": pb.SEARCH_MODE_HYBRID, "reranking": pb.Reranking()},
    "dense": {"mode": pb.SEARCH_MODE_DENSE},
    "BM25": {"mode": pb.SEARCH_MODE_SPARSE},
}
MINIMUM = {("cranfield", "hybrid"): 0.475, ("cranfield", RERANKED): 0.49}
PASSAGES = 50
"""Asked for, so that ten documents are among them although a document may have several passages."""
QUERIES_AT_ONCE = 8


@dataclass(frozen=True)
class Scores:
    """nDCG@10 with binary and with graded relevance."""

    binary: float
    graded: float


def run(options: Options) -> Report:
    """One run is enough: the same index gives the same ranks."""
    names = ("cranfield",) if options.quick else ("cranfield", "medline", "cosqa")
    rows: list[Row] = []
    with local_mesh() as mesh:
        for corpus in names:
            documents = corpora.sample((corpus,), 0.03 if options.quick else 1.0)
            rows += measure(mesh, corpus, documents)
    return Report("quality", tuple(rows), {"corpora": names, "passages": PASSAGES}, options.quick)


def measure(mesh: LocalMesh, corpus: str, documents: list[corpora.Document]) -> list[Row]:
    """The rows of one corpus, on a running mesh."""
    _ingest(mesh, corpus, documents)
    return _rows(corpus, {name: asyncio.run(_score(mesh, corpus, wishes)) for name, wishes in WISHES.items()})


def _ingest(mesh: LocalMesh, corpus: str, documents: list[corpora.Document]) -> None:
    asyncio.run(mesh.create_collection(corpus))
    with TemporaryDirectory() as folder:
        corpora.write_files(documents, Path(folder))
        mesh.murphey("ingest", f"{folder}/{corpus}", "--collection", corpus)


async def _score(mesh: LocalMesh, corpus: str, wishes: dict[str, Any]) -> Scores:
    async with mesh.channel("retriever") as channel:
        stub, turn = RetrieverServiceStub(channel), asyncio.Semaphore(QUERIES_AT_ONCE)
        queries = corpora.queries(corpus)
        ranked = await asyncio.gather(*(_ranking(stub, turn, corpus, query, wishes) for query in queries))
    found = [document for ranking in ranked for document in ranking]
    judged = corpora.judgements(corpus)
    graded = [Qrel(one.query_id, one.document_id, max(0, one.score)) for one in judged]
    binary = [Qrel(one.query_id, one.document_id, int(one.score >= 1)) for one in judged]
    return Scores(*(ir_measures.calc_aggregate([nDCG @ 10], qrels, found)[nDCG @ 10] for qrels in (binary, graded)))


async def _ranking(
    stub: RetrieverServiceStub, turn: asyncio.Semaphore, corpus: str, query: corpora.Query, wishes: dict[str, Any]
) -> list[ScoredDoc]:
    request = pb.SearchRequest(collection=f"collections/{corpus}", text=query.text, limit=PASSAGES, **wishes)
    async with turn:
        passages = (await stub.Search(request, timeout=60)).passages
    documents = dict.fromkeys(Path(passage.chunk.display_name).stem for passage in passages)
    return [ScoredDoc(query.id, document, -float(rank)) for rank, document in enumerate(documents)]


def _rows(corpus: str, scores: dict[str, Scores]) -> list[Row]:
    """Hybrid is held against the better of the two alone, and against the minimum where the corpus has one, reranked too."""
    hybrid, best = scores["hybrid"].graded, max(("dense", "BM25"), key=lambda mode: scores[mode].graded)
    rows = [
        Row(
            f"{corpus}, hybrid against {best}", "nDCG@10", (hybrid,), Reference(f"{best} alone", (scores[best].graded,)),
            Target("ratio", at_least=1.0),
        )
    ]  # fmt: skip
    for name in ("hybrid", RERANKED):
        least = MINIMUM.get((corpus, name))
        target = Target("value", at_least=least) if least else None
        rows.append(Row(f"{corpus}, {name}", "nDCG@10", (scores[name].graded,), target=target))
    rows += [Row(f"{corpus}, {mode} alone", "nDCG@10", (scores[mode].graded,)) for mode in ("dense", "BM25")]
    rows += [Row(f"{corpus}, {mode}, relevant or not", "nDCG@10", (score.binary,)) for mode, score in scores.items()]
    return rows
