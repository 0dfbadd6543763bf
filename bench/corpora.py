"""The corpora under `../shared/data/retrieval`, in BEIR's form: texts, questions and judgements, and texts as files.

They are used in place and never copied into the repository.
"""

import csv
import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

INGEST_CORPORA = ("covidqa", "cranfield", "squad2-half")
"""Long articles, abstracts and paragraphs: what the ingest benchmark takes in."""


@dataclass(frozen=True)
class Document:
    """One text of a corpus. `id` is unique in its corpus."""

    corpus: str
    id: str
    title: str
    text: str

    @property
    def content(self) -> str:
        """What the document's file holds: the title, where there is one, then the text."""
        return f"{self.title}\n\n{self.text}\n" if self.title else f"{self.text}\n"

    @property
    def file_name(self) -> str:
        """A relative path that tells corpus and id: `cranfield/471.txt`."""
        return f"{self.corpus}/{self.id}.txt"


@dataclass(frozen=True)
class Query:
    """One question of a corpus."""

    id: str
    text: str


@dataclass(frozen=True)
class Judgement:
    """How relevant a document is to a query; 1 and more is relevant."""

    query_id: str
    document_id: str
    score: int


def data_folder() -> Path:
    """`MURPHEY_BENCH_DATA`, else `../shared/data` beside the repository."""
    configured = os.environ.get("MURPHEY_BENCH_DATA")
    folder = Path(configured) if configured else Path(__file__).parents[2] / "shared" / "data"
    if not (folder / "retrieval").is_dir():
        raise FileNotFoundError(f"{folder} holds no folder retrieval/. Name the data folder by MURPHEY_BENCH_DATA.")
    return folder


def documents(corpus: str) -> list[Document]:
    """The documents of a corpus that hold any text."""
    rows = _json_lines(data_folder() / "retrieval" / corpus / "corpus.jsonl")
    texts = [Document(corpus, row["_id"], row.get("title", "").strip(), row["text"].strip()) for row in rows]
    return [document for document in texts if document.title or document.text]


def queries(corpus: str) -> list[Query]:
    """The queries of a corpus."""
    rows = _json_lines(data_folder() / "retrieval" / corpus / "queries.jsonl")
    return [Query(row["_id"], row["text"]) for row in rows]


def judgements(corpus: str) -> list[Judgement]:
    """Which documents answer which queries."""
    with (data_folder() / "retrieval" / corpus / "qrels.tsv").open(newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return [Judgement(row["query-id"], row["corpus-id"], int(row["score"])) for row in rows]


def sample(corpora: tuple[str, ...], share: float, seed: int = 0) -> list[Document]:
    """A share (0 to 1) of each corpus, always the same one."""
    chosen: list[Document] = []
    for corpus in corpora:
        everything = documents(corpus)
        count = max(1, round(len(everything) * share))
        chosen += random.Random(seed).sample(everything, count)
    return chosen


def write_files(texts: list[Document], folder: Path) -> int:
    """Writes each document as a file below `folder`; returns the characters written."""
    for document in texts:
        path = folder / document.file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(document.content, encoding="utf-8")
    return sum(len(document.content) for document in texts)


def write_large_file(path: Path, megabytes: float, seed: int = 0) -> None:
    """One text file of distinct paragraphs: sentences of the corpora, shuffled anew each time round."""
    sentences = [sentence for document in sample(INGEST_CORPORA, 1.0) for sentence in document.text.split(". ")]
    shuffler = random.Random(seed)
    left = int(megabytes * 1e6)
    with path.open("wb") as file:
        while left > 0:
            paragraph = ". ".join(shuffler.sample(sentences, 6)).encode() + b".\n\n"
            file.write(paragraph)
            left -= len(paragraph)


def _json_lines(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
