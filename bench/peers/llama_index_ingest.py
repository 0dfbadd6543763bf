"""Peer: LlamaIndex's ordinary ingestion of a folder, in memory. Runs in the peers' environment, prints one JSON line.

Its own reader, its SentenceSplitter with chunks of a size that the model reads whole, HuggingFaceEmbedding and the
in-memory vector store. Loading the model is not timed; reading, splitting, embedding and storing are.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any


def ingest(folder: Path, embedder: Any, chunk_tokens: int, overlap_tokens: int) -> dict[str, float]:
    """Times one ingestion of a folder."""
    from llama_index.core import SimpleDirectoryReader, VectorStoreIndex  # pyright: ignore[reportMissingImports]
    from llama_index.core.node_parser import SentenceSplitter  # pyright: ignore[reportMissingImports]

    started_s = time.perf_counter()
    documents = SimpleDirectoryReader(str(folder), recursive=True).load_data()
    splitter = SentenceSplitter(chunk_size=chunk_tokens, chunk_overlap=overlap_tokens)
    index = VectorStoreIndex.from_documents(documents, transformations=[splitter], embed_model=embedder)
    return {
        "seconds": time.perf_counter() - started_s,
        "characters": sum(len(document.text) for document in documents),
        "chunks": len(index.index_struct.nodes_dict),
    }


def main() -> None:
    """`python llama_index_ingest.py --folder F --model M`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--chunk-tokens", type=int, default=200)
    parser.add_argument("--overlap-tokens", type=int, default=32)
    arguments = parser.parse_args()

    from llama_index.embeddings.huggingface import HuggingFaceEmbedding  # pyright: ignore[reportMissingImports]

    embedder = HuggingFaceEmbedding(model_name=arguments.model, device="cpu", embed_batch_size=32)
    embedder.get_text_embedding("The first call warms the model up.")
    print(json.dumps(ingest(arguments.folder, embedder, arguments.chunk_tokens, arguments.overlap_tokens)))


if __name__ == "__main__":
    main()
