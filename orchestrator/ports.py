"""What answering needs of the services behind it. The gRPC clients in `clients/` implement it; tests may too."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from mesh.caching import Use
from mesh.places import NOWHERE, Place
from orchestrator.events import Generated
from orchestrator.questions import Sampling
from orchestrator.sources import SearchResult, Span


@dataclass(frozen=True)
class Message:
    """One turn of a prompt."""

    role: Literal["system", "user", "assistant"]
    text: str


Chat = tuple[Message, ...]


@dataclass(frozen=True)
class Model:
    """A model that the generator serves: `models/{model}`, its version, and how many tokens it takes in all."""

    name: str
    version: str
    context_tokens: int


@dataclass(frozen=True)
class CorpusVersion:
    """The state of a collection's contents; `removals` is another one only after deletions. Both are opaque."""

    contents: str
    removals: str


@dataclass(frozen=True)
class StoredText:
    """A piece of a document's parsed text, and the page that it begins on, 0 where the format has none."""

    text: str
    page: int
    place: Place = NOWHERE


class Retriever(Protocol):
    """Finds passages and embeds text."""

    async def search(
        self, text: str, *, collection: str, search_filter: bytes, limit: int, neighbors: int, use: Use
    ) -> SearchResult:
        """The passages that fit `text` best. NotFound for an unknown collection."""
        ...

    async def corpus(self, collection: str) -> CorpusVersion:
        """The state of a collection's contents now. NotFound for an unknown collection."""
        ...

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """A vector of length 1 for each text."""
        ...


class Generator(Protocol):
    """Runs models."""

    async def model(self, name: str) -> Model:
        """The model of a resource name; the default one for an empty name. NotFound when it is not served."""
        ...

    async def count_tokens(self, model: str, prompts: Sequence[str | Chat]) -> list[int]:
        """Tokens of each prompt: a text without special tokens, a chat as rendered."""
        ...

    def stream(self, model: str, chat: Chat, sampling: Sampling) -> AsyncGenerator[str | Generated, None]:
        """Text as it is decoded, then how it ended. Closing it frees the engine's slot."""
        ...


class Documents(Protocol):
    """Knows the parsed text of documents."""

    async def text(self, document: str, version: str, span: Span) -> StoredText | None:
        """What is stored there; None when the document or this version of it is gone. Unavailable when it cannot tell."""
        ...
