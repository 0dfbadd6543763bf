"""Objects of a store: which are found, how they are called, and that they are streamed without touching the disk."""

import asyncio
import json
import os
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import obstore
import pytest
from obstore.store import MemoryStore

from ingest.gathering import Gatherer
from ingest.origins.buckets import SCHEMES, Bucket, find_objects
from ingest.results import Result
from ingest.sending import Sender
from ingest.sources import Changed, Source, Unreadable
from mesh.errors import InvalidInput
from tests.ingest.conftest import Service
from tests.ingest.test_web import respond, web_server

pytestmark = pytest.mark.asyncio(loop_scope="module")

OBJECTS = {
    "docs/": b"", "docs/a.txt": b"Words of a.", "docs/sub/": b"", "docs/sub/b.txt": b"Words of b.", "docs.txt": b"Others.",
}  # fmt: skip


def bucket() -> Bucket:
    store = MemoryStore()
    for key, data in OBJECTS.items():
        if not key.endswith("/"):
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


@pytest.mark.parametrize("url", ["s3://", "s3:///key", "s3://bucket/a?b=c", "s3://user@bucket/a"])
async def test_urls_that_are_none_are_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="not of the form"):
        await find_objects(url, "")


async def small_store(method: str, path: str, writer: asyncio.StreamWriter) -> None:
    """As much of S3, Google Cloud Storage and Azure as listing and reading need; an account's name begins Azure's paths."""
    parts = urlsplit(path)
    is_azure = parts.path.startswith(f"/{AZURE_ACCOUNT}/")
    key = unquote(parts.path.removeprefix(f"/{AZURE_ACCOUNT}")).removeprefix("/bucket").lstrip("/")
    if key in OBJECTS and key:
        headers = {
            "Content-Length": str(len(OBJECTS[key])),
            "ETag": f'"{len(OBJECTS[key])}"',
            "Last-Modified": MODIFIED,
        }
        respond(writer, 200, headers, OBJECTS[key] if method == "GET" else b"")
    elif key:
        respond(writer, 404, {"Content-Length": "0"})
    else:
        prefix = parse_qs(parts.query).get("prefix", [""])[0]
        keys = sorted(key for key in OBJECTS if key.startswith(prefix))
        body = _azure_listing(keys) if is_azure else _listing(keys)
        respond(writer, 200, {"Content-Length": str(len(body)), "Content-Type": "application/xml"}, body)


MODIFIED = "Mon, 06 May 2024 10:00:00 GMT"
AZURE_ACCOUNT = "devstoreaccount1"
"""Of Microsoft's own emulator."""


def _listing(keys: list[str]) -> bytes:
    entries = "".join(
        f"<Contents><Key>{escape(key)}</Key><LastModified>2024-05-06T10:00:00.000Z</LastModified>"
        f'<ETag>"{len(OBJECTS[key])}"</ETag><Size>{len(OBJECTS[key])}</Size></Contents>'
        for key in keys
    )
    return f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>".encode()


def _azure_listing(keys: list[str]) -> bytes:
    entries = "".join(
        f"<Blob><Name>{escape(key)}</Name><Properties><Last-Modified>{MODIFIED}</Last-Modified>"
        f'<Etag>"{len(OBJECTS[key])}"</Etag><Content-Length>{len(OBJECTS[key])}</Content-Length>'
        "<Content-Type>text/plain</Content-Type></Properties></Blob>"
        for key in keys
    )
    return f"<EnumerationResults><Blobs>{entries}</Blobs><NextMarker/></EnumerationResults>".encode()


def environment(server: str) -> dict[str, str]:
    """What each provider's tools read, pointed at this server."""
    google = {
        "gcs_base_url": server, "disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": "",
    }  # fmt: skip
    return {
        "AWS_ENDPOINT_URL": server, "AWS_ALLOW_HTTP": "true", "AWS_ACCESS_KEY_ID": "id", "AWS_REGION": "eu-west-1",
        "AWS_SECRET_ACCESS_KEY": "secret", "GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(google),
        "AZURE_STORAGE_USE_EMULATOR": "true", "AZURITE_BLOB_STORAGE_URL": server,
        "AZURE_STORAGE_ACCOUNT_NAME": AZURE_ACCOUNT,
    }  # fmt: skip


async def ingested(service: Service, url: str, prefix: str) -> list[Result]:
    results: list[Result] = []
    async with Gatherer.open([url], prefix, allow_private=False) as gatherer:
        sources: list[Source] = await gatherer.find()
        await Sender(service.stub, "collections/default", results.append, lambda progress: None).send(sources)
    return sorted(results, key=lambda result: result.document)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_bucket_is_ingested_once(
    service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, scheme: str
) -> None:
    monkeypatch.chdir(tmp_path)
    prefix = f"{scheme}/"
    async with web_server(small_store) as server:
        for name, value in environment(server).items():
            monkeypatch.setenv(name, value)
        first = await ingested(service, f"{scheme}://bucket/docs/", prefix)
        second = await ingested(service, f"{scheme}://bucket/docs", prefix)
        missing = await ingested(service, f"{scheme}://bucket/nothing", prefix)

    assert [(result.path, result.document, result.status) for result in first] == [
        (f"{scheme}://bucket/docs/a.txt", f"{prefix}a.txt", "indexed"),
        (f"{scheme}://bucket/docs/sub/b.txt", f"{prefix}sub/b.txt", "indexed"),
    ]
    assert [result.status for result in second] == ["unchanged", "unchanged"]
    assert [(result.status, "no object" in str(result.error)) for result in missing] == [("failed", True)]
    document = await service.document(f"{prefix}a.txt")
    assert dict(document.metadata) == {"source": f"{scheme}://bucket/docs/a.txt", "etag": '"11"'}
    assert await service.text(document) == "Words of a."
    assert os.listdir(tmp_path) == []
