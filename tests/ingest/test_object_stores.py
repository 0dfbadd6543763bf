"""Documents come from real object stores: what is read of them, and what is said of what they refuse."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.gathering import Gatherer
from ingest.origins.buckets import find_objects
from ingest.results import Result
from ingest.sending import Sender
from ingest.sources import STORES
from tests.ingest.conftest import Service
from tests.ingest.emulators import (
    AZURE_KEY,
    EMULATORS,
    SECRET,
    STRANGER,
    STRANGERS_SECRET,
    Emulator,
    make_bucket,
    running,
)

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

LARGE = b"".join(b"Line %07d of a large object.\n" % number for number in range(60_000))
"""Of 1.9 MB: several pieces."""


@pytest.fixture(scope="module", params=STORES)
def any_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with running(EMULATORS[request.param](tmp_path_factory.mktemp(request.param))) as emulator:
        with pytest.MonkeyPatch.context() as patch:
            emulator.use(patch)
            make_bucket(emulator)
        yield emulator


@pytest.fixture
def store(any_store: Emulator, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """Each store, as the environment names it."""
    any_store.use(monkeypatch)
    return any_store


async def ingested(service: Service, url: str, prefix: str = "") -> dict[str, Result]:
    results: dict[str, Result] = {}

    def report(result: Result) -> None:
        results[result.document.removeprefix(prefix)] = result

    async with Gatherer.open([url], prefix, allow_private=False) as gatherer:
        sender = Sender(service.stub, "collections/default", report, lambda progress: None)
        await sender.send(await gatherer.find())
    return results


async def test_documents_come_from_a_store_and_again_only_when_they_change(store: Emulator, service: Service) -> None:
    prefix = f"{store.scheme}/"
    store.put("in/a.txt", b"Words of a.")
    store.put("in/sub folder/b & c=d.txt", b"Words of b.")
    store.put("in/large.txt", LARGE)
    store.put("inside.txt", b"Not below it.")

    first = await ingested(service, f"{store.scheme}://bucket/in/", prefix)
    again = await ingested(service, f"{store.scheme}://bucket/in", prefix)
    store.put("in/a.txt", b"Other words of a.")
    changed = await ingested(service, f"{store.scheme}://bucket/in/", prefix)
    missing = await ingested(service, f"{store.scheme}://bucket/nothing", prefix)

    assert {name: result.status for name, result in first.items()} == {
        "a.txt": "indexed", "sub folder/b & c=d.txt": "indexed", "large.txt": "indexed",
    }  # fmt: skip
    assert {result.status for result in again.values()} == {"unchanged"}
    assert {name for name, result in changed.items() if result.status == "replaced"} == {"a.txt"}
    assert [("no object" in str(result.error), result.status) for result in missing.values()] == [(True, "failed")]
    assert await service.text(await service.document(f"{prefix}a.txt")) == "Other words of a."
    large = await service.document(f"{prefix}large.txt")
    assert large.size_bytes == len(LARGE)
    assert large.metadata["source"] == f"{store.scheme}://bucket/in/large.txt"


async def test_a_listing_of_many_pages_is_read_to_its_end(store: Emulator) -> None:
    await asyncio.to_thread(lambda: [store.put(f"many/{number:04}.txt", b"x") for number in range(1_050)])
    found = await find_objects(f"{store.scheme}://bucket/many/", "")
    assert [source.display_name for source in found] == [f"{number:04}.txt" for number in range(1_050)]


async def test_a_bucket_that_is_not_there_is_named(store: Emulator, service: Service) -> None:
    [failed] = (await ingested(service, f"{store.scheme}://no-such-bucket/x/")).values() or [None]
    assert failed is not None
    assert failed.status == "failed"
    said = "no such" if store.scheme != "gs" else "500"  # what fake-gcs-server says, and Google does not
    assert said in str(failed.error)


WRONG = {"s3": {"AWS_SECRET_ACCESS_KEY": "wrong"}, "az": {"AZURE_STORAGE_ACCOUNT_KEY": "d3Jvbmc="}}


@pytest.mark.parametrize("scheme", WRONG)
async def test_wrong_credentials_are_denied_and_named(
    scheme: str, tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(EMULATORS[scheme](tmp_path)) as emulator:
        emulator.use(monkeypatch)
        make_bucket(emulator)
        for name, value in WRONG[scheme].items():
            monkeypatch.setenv(name, value)
        failed = [*(await ingested(service, f"{scheme}://bucket/x/")).values()]
        failed += (await ingested(service, f"{scheme}://bucket/first")).values()
        if scheme == "s3":
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", STRANGER)
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", STRANGERS_SECRET)
            failed += (await ingested(service, "s3://bucket/first")).values()

    assert len(failed) == (3 if scheme == "s3" else 2)
    for result in failed:
        assert result.status == "failed"
        assert "denies access (403 Forbidden)" in str(result.error)
        assert next(iter(WRONG[scheme])) in str(result.error)
        assert not any(secret in str(result.error) for secret in (SECRET, AZURE_KEY, "wrong"))


@pytest.mark.parametrize("scheme", ["az", "gs"])
async def test_missing_credentials_are_named(
    scheme: str, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith(("AZURE_", "GOOGLE_"))]:
        monkeypatch.delenv(name)
    if scheme == "gs":
        monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(tmp_path / "nowhere.json"))
    [failed] = (await ingested(service, f"{scheme}://bucket/x/")).values()
    assert failed.status == "failed"
    assert {"az": "Set AZURE_STORAGE_ACCOUNT_NAME", "gs": "nowhere.json"}[scheme] in str(failed.error)
