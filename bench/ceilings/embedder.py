"""The retriever's embedder alone: chunks a second over a list of texts, and the time of single queries.

`python -m bench.ceilings.embedder --texts F.json --queries F.json`; each file holds a list of strings.
"""

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from retriever.app import open_embedder
from retriever.embedding import Embedder, Purpose
from retriever.settings import RetrieverSettings


def chunks_per_s(embedder: Embedder, texts: list[str]) -> float:
    """All texts at once, sorted by length and dealt out evenly to as many threads as it takes: its best case."""
    ordered, hands = sorted(texts, key=len), embedder.slices_at_once
    started_s = time.perf_counter()
    with ThreadPoolExecutor(hands) as threads:
        for _ in threads.map(lambda hand: embedder.embed(ordered[hand::hands], Purpose.DOCUMENT), range(hands)):
            pass
    return len(texts) / (time.perf_counter() - started_s)


def query_ms(embedder: Embedder, query: str) -> float:
    """One query alone."""
    started_s = time.perf_counter()
    embedder.embed([query], Purpose.QUERY)
    return (time.perf_counter() - started_s) * 1000


def main() -> None:
    """Prints one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--queries", type=Path)
    arguments = parser.parse_args()
    texts: list[str] = json.loads(arguments.texts.read_text()) if arguments.texts else []
    queries: list[str] = json.loads(arguments.queries.read_text()) if arguments.queries else []

    embedder = open_embedder(RetrieverSettings.from_flags([]))
    embedder.embed(["The first run warms the network up."] * 8, Purpose.DOCUMENT)
    print(json.dumps({
        "chunks_per_s": [chunks_per_s(embedder, texts)] if texts else [],
        "query_ms": [query_ms(embedder, query) for query in queries],
    }))  # fmt: skip
    embedder.close()


if __name__ == "__main__":
    main()
