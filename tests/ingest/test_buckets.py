"""Objects of a store: which are found, and how they are called. `test_object_stores.py` reads from real stores."""

import obstore
import pytest
from obstore.store import MemoryStore

from ingest.origins.buckets import Bucket, find_objects
from ingest.sources import Changed, Unreadable
from mesh.errors import InvalidInput

pytestmark = pytest.mark.asyncio(loop_scope="module")

OBJECTS = {
    "docs/a.txt": b"Words of a.", "docs/sub": b"", "docs/sub/b.txt": b"Words of b.", "docs.txt": b"Others.",
}  # fmt: skip
"""Empty ones stand where some tools think a folder is."""


def bucket() -> Bucket:
    store = MemoryStore()
    for key, data in OBJECTS.items():
        obstore.put(store, key, data)
    return Bucket(store, "s3://bucket")


async def names(key: str, prefix: str = "") -> dict[str, str]:
    return {source.display_name: source.path for source in await bucket().find(key, prefix)}


async def test_a_prefix_is_a_folder_and_an_object_a_file() -> None:
    below = {"a.txt": "s3://bucket/docs/a.txt", "sub/b.txt": "s3://bucket/docs/sub/b.txt"}
    assert await names("docs/") == below
    assert await names("docs") == below
    assert await names("docs/a.txt", "p/") == {"p/a.txt": "s3://bucket/docs/a.txt"}
    assert set(await names("")) == {"docs/a.txt", "docs/sub/b.txt", "docs.txt"}
    assert await names("nothing/") == {}
    with pytest.raises(Unreadable, match="no object s3://bucket/nothing"):
        await names("nothing")


async def test_an_object_is_read_as_it_was_listed_or_not_at_all() -> None:
    found = bucket()
    [source] = await found.find("docs/a.txt", "")
    assert source.content is not None
    identity = await source.content.identify()
    assert (identity.size_bytes, identity.known["source"]) == (11, "s3://bucket/docs/a.txt")
    assert b"".join([piece async for piece in source.content.pieces(identity)]) == OBJECTS["docs/a.txt"]
    obstore.put(found.store, "docs/a.txt", b"Other words.")
    with pytest.raises(Changed):
        await anext(source.content.pieces(identity))
    obstore.delete(found.store, "docs/a.txt")
    with pytest.raises(Unreadable, match="no longer there"):
        await anext(source.content.pieces(identity))


@pytest.mark.parametrize(
    "url", ["s3://", "s3:///key", "s3://bucket/a?b=c", "s3://bucket/a#b", "s3://user@bucket/a", "s3://[a"]
)
async def test_urls_that_are_none_are_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="not of the form"):
        await find_objects(url, "")
