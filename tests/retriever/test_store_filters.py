"""What every store promises of filters and metadata. Both run every test."""

import pytest

from retriever.chunks import DocumentVersion
from retriever.filters import Equals, Exists, Filter, Kind, NumberRange, TimeRange
from retriever.stores.base import Mode, Store
from tests.retriever.fakes import chunk, document_name, indexed
from tests.retriever.store_calls import ask

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant"),
]

METADATA = [
    {"year": 2019.0, "kind": "memo", "done": True, "when": "2019-05-01T10:00:00Z"},
    {"year": 2020.5, "kind": "note", "done": False, "when": "2020-05-01T12:00:00+02:00", "tags": ("a", "b")},
    {"year": "unknown", "dotted.key here": "x", "tags": ("b",), "flag": "true"},
    {},
]
Y, K, D, W = "metadata.year", "metadata.kind", "metadata.done", "metadata.when"


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (Equals(K, ("memo",)), {0}),
        (Equals(K, ("memo", "note", "x")), {0, 1}),
        (Equals(Y, (2019.0,)), {0}),
        (Equals(Y, (2019.0, "unknown")), {0, 2}),
        (Equals(D, (True,)), {0}),
        (Equals(D, (False,)), {1}),
        (Equals("metadata.flag", (True,)), set()),
        (Equals("metadata.tags", ("b",)), {1, 2}),
        (Equals("metadata.dotted.key here", ("x",)), {2}),
        (Equals("document", (document_name("d3"),)), {3}),
        (Equals("display_name", ("d1.txt", "d2.txt")), {1, 2}),
        (Equals("page", (3.0,)), {2}),
        (NumberRange("page", gte=2, lt=4), {1, 2}),
        (NumberRange(Y, gt=2019), {1}),
        (NumberRange(Y, gte=2019, lte=2020.5), {0, 1}),
        (TimeRange(W, start="2020-01-01T00:00:00Z"), {1}),
        (TimeRange(W, start="2019-05-01T10:00:00Z", before="2020-05-01T10:00:00Z"), {0}),
        (Exists(Y, True), {0, 1, 2}),
        (Exists(D, False), {2, 3}),
        (Exists("metadata.never", False), {0, 1, 2, 3}),
        (Exists("page", True), {0, 1, 2, 3}),
        (Filter(must=(Exists(Y, True),), must_not=(Equals(K, ("memo",)),)), {1, 2}),
        (Filter(should=(Equals(K, ("memo",)), Filter(must=(Equals("page", (4.0,)),)))), {0, 3}),
    ],
)
@pytest.mark.parametrize("with_indexes", [True, False])
async def test_filters(store: Store, condition: Filter | Equals, expected: set[int], with_indexes: bool) -> None:
    chunks = [chunk("tea", f"d{row}", "1", row, metadata) for row, metadata in enumerate(METADATA)]
    if with_indexes:
        pairs = [
            ("year", Kind.NUMBER),
            ("year", Kind.TEXT),
            ("kind", Kind.TEXT),
            ("done", Kind.FLAG),
            ("when", Kind.TIME),
        ]
        await store.add_fields("test", [*pairs, ("dotted.key here", Kind.TEXT), ("tags", Kind.TEXT)])
    await store.upsert("test", [indexed(item) for item in chunks], staged=False)
    for mode in Mode:
        hits = await ask(store, "tea", mode, Filter(must=(condition,)))
        assert {hit.chunk.index for hit in hits} == expected, mode


async def test_chunks_come_back_whole(store: Store) -> None:
    whole = [chunk("tea", f"d{row}", "1", row, metadata) for row, metadata in enumerate(METADATA)]
    await store.upsert("test", [indexed(item) for item in whole], staged=True)
    await store.publish("test", [DocumentVersion(item.document, "1") for item in whole])
    found = sorted((hit.chunk for hit in await ask(store, "tea")), key=lambda item: item.index)
    assert found == whole
