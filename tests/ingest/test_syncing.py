"""A collection made equal to a folder."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from ingest.gathering import Gatherer
from ingest.labels import Labels
from ingest.orders import Order
from ingest.results import Result
from ingest.sending import Sender
from ingest.sources import Source
from mesh.errors import InvalidInput
from murphey.ingest.v1 import ingest_pb2 as pb
from tests.ingest.conftest import Service

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def run(
    service: Service, folder: Path, prefix: str, *, dry: bool = False, force: bool = False, meta: tuple[str, ...] = ()
) -> dict[str, str]:
    """The status of each document, without its prefix."""
    results: list[Result] = []
    sender = Sender(service.stub, "collections/default", results.append, lambda progress: None)
    order = Order([str(folder)], "collections/default", prefix, Labels.read(meta, None), sync=True, force=force)
    async with Gatherer.open(order.places, prefix, allow_private=False) as gatherer:
        sources = await order.find(gatherer)
        await (order.expect(sender, sources) if dry else order.carry_out(sender, sources))
    assert len({result.document for result in results}) == len(results)
    return {result.document.removeprefix(prefix): result.status for result in results}


async def names(service: Service, prefix: str) -> list[str]:
    found = await service.stub.ListDocuments(pb.ListDocumentsRequest(display_name_prefix=prefix), timeout=10)
    return [document.display_name.removeprefix(prefix) for document in found.documents]


def write(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text)


@pytest.mark.slow
async def test_a_collection_becomes_equal_to_the_folder(service: Service, tmp_path: Path) -> None:
    await service.ingest("equalother.txt", b"Not of this folder.")
    write(tmp_path, a="One.", b="Two.", c="Three.")
    assert await run(service, tmp_path, "equal/") == {"a.txt": "indexed", "b.txt": "indexed", "c.txt": "indexed"}

    write(tmp_path, b="Two, changed.", d="Four.")
    (tmp_path / "c.txt").rename(tmp_path / "e.txt")
    expected = {
        "a.txt": "unchanged", "b.txt": "replaced", "c.txt": "removed", "d.txt": "indexed", "e.txt": "indexed",
    }  # fmt: skip
    embedded = service.retriever.embedded.total()
    assert await run(service, tmp_path, "equal/", dry=True) == expected
    assert service.retriever.embedded.total() == embedded
    assert await names(service, "equal/") == ["a.txt", "b.txt", "c.txt"]
    assert await run(service, tmp_path, "equal/") == expected
    assert await names(service, "equal/") == ["a.txt", "b.txt", "d.txt", "e.txt"]
    assert await names(service, "equalother") == [".txt"]
    assert Counter((await run(service, tmp_path, "equal/")).values()) == {"unchanged": 4}


async def test_an_unchanged_folder_makes_no_jobs(service: Service, tmp_path: Path) -> None:
    write(tmp_path, a="Uno.", b="Due.")
    await run(service, tmp_path, "jobs/")
    before = await service.stub.ListJobs(pb.ListJobsRequest(page_size=1), timeout=10)
    await run(service, tmp_path, "jobs/")
    assert (await service.stub.ListJobs(pb.ListJobsRequest(page_size=1), timeout=10)).jobs == before.jobs


async def test_changed_metadata_alone_embeds_nothing(service: Service, tmp_path: Path) -> None:
    write(tmp_path, a="Words.", b="More words.")
    (tmp_path / "a.txt.meta.json").write_text(json.dumps({"author": "Ada"}))
    await run(service, tmp_path, "meta/", meta=("year=2023",))
    embedded = service.retriever.embedded.total()
    assert await run(service, tmp_path, "meta/", meta=("year=2024",), dry=True) == {
        "a.txt": "replaced",
        "b.txt": "replaced",
    }
    assert await run(service, tmp_path, "meta/", meta=("year=2024",)) == {"a.txt": "replaced", "b.txt": "replaced"}
    (tmp_path / "a.txt.meta.json").write_text(json.dumps({"author": "Bob"}))
    assert await run(service, tmp_path, "meta/", meta=("year=2024",)) == {"a.txt": "replaced", "b.txt": "unchanged"}
    assert service.retriever.embedded.total() == embedded
    assert dict((await service.document("meta/a.txt")).metadata) == {"author": "Bob", "year": 2024}


async def test_an_empty_folder_removes_nothing_unless_forced(service: Service, tmp_path: Path) -> None:
    write(tmp_path, a="Words of a folder.")
    await run(service, tmp_path, "empty/")
    (tmp_path / "a.txt").unlink()
    with pytest.raises(InvalidInput, match="--force"):
        await run(service, tmp_path, "empty/")
    assert await names(service, "empty/") == ["a.txt"]
    assert await run(service, tmp_path, "empty/", force=True) == {"a.txt": "removed"}
    assert await names(service, "empty/") == []


async def test_what_cannot_be_read_is_not_taken_for_vanished(service: Service, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write(tmp_path, a="Words.", b="Other words.")
    write(tmp_path / "sub", c="Words below.")
    await run(service, tmp_path, "hidden/")
    (tmp_path / "a.txt").unlink()
    os.mkfifo(tmp_path / "a.txt")
    sender = Sender(service.stub, "collections/default", print, lambda progress: None)
    order = Order([str(tmp_path)], "collections/default", "hidden/", Labels({}), sync=True)
    async with Gatherer.open(order.places, order.prefix, allow_private=False) as gatherer:
        found = [source for source in await order.find(gatherer) if "sub" not in source.path]
    closed = Source(str(tmp_path / "sub"), "hidden/sub", problem="The folder cannot be read.", hides=True)

    gone = await order._sync(sender).vanished([*found, closed])
    assert gone == []
    gone = await order._sync(sender).vanished(found)
    assert [document.display_name for document in gone] == ["hidden/sub/c.txt"]
    assert await order._sync(sender).vanished([replace_root(tmp_path)]) == []


def replace_root(folder: Path) -> Source:
    return Source(str(folder), "hidden/", problem="The folder cannot be read.", hides=True)
