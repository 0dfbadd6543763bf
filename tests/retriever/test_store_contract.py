"""What every store promises, but for filters. Both run every test."""

import asyncio
import uuid

import pytest

from mesh.errors import NotFound
from retriever.chunks import Description, DocumentVersion
from retriever.filters import Equals, Exists, Filter, Kind
from retriever.stores.base import Counts, Mode, OfDocuments, OfIds, Store, StoreQuery, Window
from tests.retriever.fakes import chunk, document_name, indexed, vector_of
from tests.retriever.store_calls import ask

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant"),
]


def version(document: str, version: str = "1") -> DocumentVersion:
    return DocumentVersion(document_name(document), version)


async def put(store: Store, *texts: str, document: str = "a", of: str = "1", staged: bool = False) -> None:
    chunks = [indexed(chunk(text, document, of, index)) for index, text in enumerate(texts)]
    await store.upsert("test", chunks, staged=staged)


@pytest.mark.parametrize("mode", list(Mode))
async def test_finds_what_fits_best(store: Store, mode: Mode) -> None:
    await put(store, "cats sleep on mats", "rockets burn kerosene", "tea is brewed hot")
    hits = await ask(store, "kerosene rockets", mode)
    assert hits[0].chunk == chunk("rockets burn kerosene", index=1)
    assert hits == sorted(hits, key=lambda hit: -hit.score)


async def test_dense_score_is_the_cosine(store: Store) -> None:
    await put(store, "cats sleep on mats", "rockets burn kerosene")
    expected = float(vector_of("burn rockets") @ vector_of("rockets burn kerosene"))
    dense, hybrid = await ask(store, "burn rockets", Mode.DENSE), await ask(store, "burn rockets", Mode.HYBRID)
    assert dense[0].score == pytest.approx(expected, abs=1e-4)
    assert dense[0].dense_score == pytest.approx(expected, abs=1e-4)
    assert hybrid[0].dense_score == pytest.approx(expected, abs=1e-4)
    assert (await ask(store, "burn rockets", Mode.SPARSE))[0].dense_score is None


async def test_rare_words_weigh_more(store: Store) -> None:
    await put(store, *["common words everywhere"] * 8, "zebra", "common")
    hits = await ask(store, "common zebra", Mode.SPARSE)
    assert hits[0].chunk.text == "zebra"


async def test_hybrid_without_known_words_is_dense(store: Store) -> None:
    await put(store, "cats sleep on mats", "rockets burn kerosene")
    query = StoreQuery(Mode.HYBRID, 1, vector_of("rockets burn").tolist(), None)
    assert [hit.chunk.index for hit in await store.search("test", query)] == [1]


async def test_a_question_of_many_words_is_answered_too(store: Store) -> None:
    """It is asked twice, the second time moved towards its first hits."""
    texts = [
        "cats sleep on mats all day long",
        "rockets burn kerosene and oxygen to climb",
        "tea is brewed with hot water",
    ]
    await put(store, *texts)
    hits = await ask(store, "which fuel do rockets burn with oxygen when they climb towards orbit through clouds")
    assert hits[0].chunk.text == texts[1]
    assert len(hits) == 3


async def test_limit(store: Store) -> None:
    await put(store, *[f"tea number {number}" for number in range(30)])
    for mode in Mode:
        assert len(await ask(store, "tea", mode, limit=7)) == 7


async def test_same_id_is_replaced(store: Store) -> None:
    await put(store, "first words")
    await put(store, "second words")
    assert [hit.chunk.text for hit in await ask(store, "words")] == ["second words"]
    assert await store.count("test") == Counts(live=1, staged=0)


async def test_staged_chunks_are_not_found(store: Store) -> None:
    await put(store, "published tea")
    await put(store, "staged tea", document="b", staged=True)
    for mode in Mode:
        assert [hit.chunk.text for hit in await ask(store, "tea", mode)] == ["published tea"]
    assert await store.count("test") == Counts(live=1, staged=1)


async def test_publish_shows_the_version_and_removes_others(store: Store) -> None:
    await put(store, "old tea", "old cake", of="1")
    await put(store, "other tea", document="b")
    await put(store, "new tea", of="2", staged=True)
    assert await store.publish("test", [version("a", "2")]) == 2
    assert {hit.chunk.text for hit in await ask(store, "tea cake")} == {"new tea", "other tea"}
    assert await store.count("test") == Counts(live=2, staged=0)


async def test_publish_again_changes_nothing(store: Store) -> None:
    await put(store, "tea", staged=True)
    assert await store.publish("test", [version("a")]) == 0
    assert await store.publish("test", [version("a")]) == 0
    assert await store.count("test") == Counts(live=1, staged=0)


async def test_publish_leaves_other_staged_versions(store: Store) -> None:
    await put(store, "tea", of="1", staged=True)
    await put(store, "cake", of="2", staged=True)
    await store.publish("test", [version("a", "1")])
    assert await store.count("test") == Counts(live=1, staged=1)


async def test_a_publish_that_comes_late_changes_nothing(store: Store) -> None:
    await put(store, "tea", of="1", staged=True)
    await store.publish("test", [version("a", "1")])
    await put(store, "cake", of="2", staged=True)
    await put(store, "pie", of="1", document="b", staged=True)
    await store.publish("test", [version("a", "2")])
    assert await store.publish("test", [version("a", "1"), version("b", "1")]) == 0
    assert {hit.chunk.text for hit in await ask(store, "tea cake pie")} == {"cake", "pie"}
    await store.delete("test", OfDocuments((document_name("a"),)))
    assert await store.publish("test", [version("a", "1")]) == 0
    assert await store.count("test") == Counts(live=1, staged=0)


async def test_searches_see_one_version_while_it_is_published(store: Store) -> None:
    await put(store, *[f"tea {number}" for number in range(300)], of="1")
    await put(store, *[f"tea {number}" for number in range(600)], of="2", staged=True)
    publishing = asyncio.create_task(store.publish("test", [version("a", "2")]))
    seen: list[set[str]] = []
    while not publishing.done():
        seen.append({hit.chunk.version for hit in await ask(store, "tea", Mode.DENSE, limit=50)})
        await asyncio.sleep(0)
    assert await publishing == 300
    assert all(len(versions) == 1 for versions in seen)
    assert {hit.chunk.version for hit in await ask(store, "tea")} == {"2"}


async def test_metadata_is_replaced_without_the_chunks(store: Store) -> None:
    await store.upsert("test", [indexed(chunk("tea", metadata={"year": 2020.0, "draft": True}))], staged=False)
    await put(store, "tea", document="b")
    await store.add_fields("test", [("year", Kind.NUMBER), ("tag", Kind.TEXT)])
    after = {"year": (2021.0, 2022.0), "tag": ("x", "y")}
    changes = [Description(version("a"), after), Description(version("a", "2"), {"year": 1.0})]
    assert await store.describe("test", changes) == 1
    assert await store.describe("test", changes) == 1
    for test in (Equals("metadata.year", (2022.0,)), Equals("metadata.tag", ("y",))):
        assert [hit.chunk for hit in await ask(store, "tea", condition=Filter((test,)))] == [
            chunk("tea", metadata=after)
        ]
    assert await ask(store, "tea", condition=Filter((Equals("metadata.year", (2020.0,)),))) == []
    assert len(await ask(store, "tea", condition=Filter((Exists("metadata.draft", False),)))) == 2


async def test_delete_documents(store: Store) -> None:
    await put(store, "tea", "cake", of="1")
    await put(store, "tea", of="2", staged=True)
    await put(store, "tea", document="b")
    assert await store.delete("test", OfDocuments((document_name("a"), document_name("none")))) == 3
    assert await store.count("test") == Counts(live=1, staged=0)


async def test_delete_ids(store: Store) -> None:
    await put(store, "tea", "cake")
    await put(store, "milk", document="b", staged=True)
    ids = (chunk("", "a", "1", 0).id, chunk("", "b", "1", 0).id, str(uuid.uuid4()))
    assert await store.delete("test", OfIds(ids)) == 2
    assert await store.count("test") == Counts(live=1, staged=0)


async def test_delete_one_version(store: Store) -> None:
    await put(store, "tea", of="1")
    await put(store, "cake", "milk", of="2", staged=True)
    assert await store.delete("test", version("a", "2")) == 2
    assert await store.delete("test", version("a", "2")) == 0
    assert await store.count("test") == Counts(live=1, staged=0)


async def test_neighbors(store: Store) -> None:
    await put(store, *[f"part {number}" for number in range(6)])
    await put(store, *[f"staged {number}" for number in range(6)], of="2", staged=True)
    first, last = Window(version("a"), 0, 1), Window(version("a"), 4, 9)
    found = await store.neighbors("test", [first, last])
    assert [part.text for part in found[first]] == ["part 0", "part 1"]
    assert [part.text for part in found[last]] == ["part 4", "part 5"]
    assert await store.neighbors("test", []) == {}


async def test_missing_index(store: Store) -> None:
    for call in (store.count("none"), store.search("none", StoreQuery(Mode.DENSE, 1, [0.0] * 31 + [1.0]))):
        with pytest.raises(NotFound):
            await call
    await store.drop_index("none")


async def test_create_again_keeps_the_chunks(store: Store) -> None:
    await put(store, "tea")
    await store.create_index("test", 32)
    assert await store.count("test") == Counts(live=1, staged=0)


async def test_dropped_index_is_gone(store: Store) -> None:
    await put(store, "tea", staged=True)
    await store.drop_index("test")
    await store.create_index("test", 32)
    assert await store.count("test") == Counts(live=0, staged=0)


async def test_vectors_come_back_for_what_is_there(store: Store) -> None:
    await put(store, "cats sleep", "dogs bark")
    await put(store, "birds sing", document="b", staged=True)
    ids = [chunk("cats sleep", index=0).id, chunk("birds sing", "b").id, str(uuid.uuid4())]

    found = await store.vectors("test", ids)

    assert set(found) == set(ids[:2])
    found_chunk, vector = found[ids[0]]
    assert found_chunk == chunk("cats sleep", index=0)
    assert vector == pytest.approx(vector_of("cats sleep").tolist(), abs=1e-5)


async def test_every_version_that_has_chunks_is_listed(store: Store) -> None:
    await put(store, "cats sleep", "dogs bark")
    await put(store, "cats run", of="2", staged=True)
    await put(store, "birds sing", document="b", staged=True)

    assert await store.stored("test") == {
        version("a"): Counts(2, 0), version("a", "2"): Counts(0, 1), version("b"): Counts(0, 1)
    }  # fmt: skip
