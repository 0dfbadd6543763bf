"""What the commands on collections share, whichever service adds them: their group, their options, and what these stand for."""

from enum import StrEnum
from typing import Annotated

import typer

from mesh.names import collection_id
from murphey.retriever.v1.retriever_pb2 import Chunking

PREPARE_TIMEOUT_S = 600.0
"""An embedder is converted for this machine when it is named for the first time."""
group = typer.Typer(name="collections", help="Sets of documents that are searched together.", no_args_is_help=True)


class SplitterName(StrEnum):
    """Names of the splitters."""

    STRUCTURE = "structure"
    RECURSIVE = "recursive"
    SENTENCE = "sentence"


NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The collection's name.")]
EmbedderOption = Annotated[
    str, typer.Option("--embedder", help="An embedder that the retriever has, such as multilingual-e5-small.")
]
TokensOption = Annotated[
    int, typer.Option("--chunk-tokens", min=0, help="Tokens in a chunk; 0 for as many as it has, or the default.")
]
OverlapOption = Annotated[
    int | None, typer.Option("--chunk-overlap", "--overlap-tokens", min=0, help="Tokens that neighbours share.")
]
SplitterOption = Annotated[SplitterName | None, typer.Option("--splitter", help="Where text is split.")]


def chunking(tokens: int, overlap_tokens: int | None, splitter: SplitterName | None) -> Chunking:
    """The options as a message; what was not said is not set."""
    message = Chunking(chunk_tokens=tokens, overlap_tokens=overlap_tokens)
    if splitter is not None:
        message.splitter = f"SPLITTER_{splitter.name}"  # pyright: ignore[reportAttributeAccessIssue] - protobuf takes names
    return message


def full_name(collection: str) -> str:
    """`notes` and `collections/notes` are the same. InvalidInput for what is no name."""
    name = collection if collection.startswith("collections/") else f"collections/{collection}"
    collection_id(name, "name")
    return name
