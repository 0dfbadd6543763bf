"""Peer: LangChain's ordinary ingestion of a folder, in memory. Runs in the peers' environment, prints one JSON line.

Its RecursiveCharacterTextSplitter with chunks of a size that the model reads whole, HuggingFaceEmbeddings and
InMemoryVectorStore. Loading the model is not timed; reading, splitting, embedding and storing are.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

CHARACTERS_A_TOKEN = 4
"""About what the model's tokenizer makes of English."""


def ingest(folder: Path, embeddings: Any, chunk_tokens: int, overlap_tokens: int) -> dict[str, float]:
    """Times one ingestion of a folder."""
    from langchain_core.documents import Document
    from langchain_core.vectorstores import InMemoryVectorStore
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    started_s = time.perf_counter()
    documents = [
        Document(path.read_text(encoding="utf-8"), metadata={"source": str(path)})
        for path in sorted(folder.rglob("*.txt"))
    ]
    splitter = RecursiveCharacterTextSplitter(
        chunk_size=chunk_tokens * CHARACTERS_A_TOKEN,
        chunk_overlap=overlap_tokens * CHARACTERS_A_TOKEN,
        add_start_index=True,
    )
    chunks = splitter.split_documents(documents)
    InMemoryVectorStore(embeddings).add_documents(chunks)
    return {
        "seconds": time.perf_counter() - started_s,
        "characters": sum(len(document.page_content) for document in documents),
        "chunks": len(chunks),
    }


def main() -> None:
    """`python langchain_ingest.py --folder F --model M`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--chunk-tokens", type=int, default=200)
    parser.add_argument("--overlap-tokens", type=int, default=32)
    arguments = parser.parse_args()

    from langchain_huggingface import HuggingFaceEmbeddings  # pyright: ignore[reportMissingImports]

    embeddings = HuggingFaceEmbeddings(
        model_name=arguments.model, model_kwargs={"device": "cpu"}, encode_kwargs={"batch_size": 32}
    )
    embeddings.embed_query("The first call warms the model up.")
    print(json.dumps(ingest(arguments.folder, embeddings, arguments.chunk_tokens, arguments.overlap_tokens)))


if __name__ == "__main__":
    main()
