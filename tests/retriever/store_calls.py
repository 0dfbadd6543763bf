"""How the contract's tests ask a store."""

from typing import Any

from retriever.filters import NO_FILTER, Filter
from retriever.sparse import words_of
from retriever.stores.base import Hit, Mode, Store, StoreQuery
from tests.retriever.fakes import vector_of


async def ask(
    store: Store, text: str, mode: Mode = Mode.HYBRID, condition: Filter = NO_FILTER, limit: int = 10
) -> list[Hit]:
    words = words_of("english").of_query(text)
    dense: Any = None if mode is Mode.SPARSE else vector_of(text)  # a row of an array, as the embedder gives it
    return await store.search("test", StoreQuery(mode, limit, dense, None if mode is Mode.DENSE else words, condition))
