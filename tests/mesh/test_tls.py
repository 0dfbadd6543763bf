"""TLS on a real server: whose certificates are taken, and a change of them without a restart. Certificates are made here."""

import datetime
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import trustme
from pydantic import ValidationError

from mesh import discovery
from mesh.access import credentials, tls
from mesh.access.credentials import Access
from mesh.access.roles import Scope
from mesh.access.tls import Certificates
from mesh.channel import open_channel
from mesh.deadline import call_options
from mesh.discovery import channel_for
from mesh.errors import FailedPrecondition
from mesh.health import is_healthy
from mesh.settings import ServiceSettings
from mesh.up import check_mesh
from murphey.retriever.v1 import retriever_pb2 as pb
from murphey.retriever.v1 import retriever_pb2_grpc as pb_grpc
from tests.mesh.guarded import RETRIEVER, Guarded, guarded

OK, UNAVAILABLE = grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE


@dataclass
class Folder:
    """PEM files as a service's settings name them."""

    path: Path

    def write(self, authority: trustme.CA, certificate: trustme.LeafCert | None = None) -> "Folder":
        """Each file whole, the certificate last."""
        self._put("ca.pem", authority.cert_pem.bytes())
        if certificate is not None:
            self._put("key.pem", certificate.private_key_pem.bytes())
            self._put("cert.pem", b"".join(part.bytes() for part in certificate.cert_chain_pems))
        return self

    def _put(self, name: str, content: bytes) -> None:
        self.path.mkdir(exist_ok=True)
        (self.path / f"{name}.new").write_bytes(content)
        (self.path / f"{name}.new").replace(self.path / name)

    def settings(self, *, mutual: bool = False) -> dict[str, Any]:
        server = {
            "tls_certificate": self.path / "cert.pem",
            "tls_key": self.path / "key.pem",
            "tls_ca": self.path / "ca.pem",
        }
        return server | ({"tls_client_ca": self.path / "ca.pem"} if mutual else {})

    def certificates(self) -> Certificates:
        own = (self.path / "cert.pem", self.path / "key.pem") if (self.path / "cert.pem").exists() else (None, None)
        return Certificates(self.path / "ca.pem", *own)


def folder(path: Path, authority: trustme.CA, **certificate: Any) -> Folder:
    return Folder(path).write(authority, authority.issue_cert("127.0.0.1", "localhost", **certificate))


async def search(server: Guarded, certificates: Certificates | None) -> grpc.StatusCode:
    key = await server.key(Scope.READ)
    access = Access(credentials.api_key(key), certificates)
    async with open_channel(f"127.0.0.1:{server.port}", RETRIEVER, [], access) as channel:
        return await searched(channel)


async def searched(channel: grpc.aio.Channel) -> grpc.StatusCode:
    try:
        await pb_grpc.RetrieverServiceStub(channel).Search(pb.SearchRequest(), **call_options(20, "default"))
    except grpc.aio.AioRpcError as error:
        return error.code()
    return OK


async def test_only_the_right_authority_is_believed_and_plain_text_is_not(tmp_path: Path) -> None:
    ours, other = trustme.CA(), trustme.CA()
    files = folder(tmp_path / "server", ours)
    async with guarded(tmp_path, **files.settings()) as server:
        assert await search(server, Folder(tmp_path / "client").write(ours).certificates()) is OK
        assert await search(server, Folder(tmp_path / "stranger").write(other).certificates()) is UNAVAILABLE
        assert await search(server, None) is UNAVAILABLE
        assert await is_healthy(f"127.0.0.1:{server.port}", timeout_s=20, certificates=files.certificates())
        assert len(server.retriever.callers) == 1


async def test_mutual_tls_takes_only_clients_of_its_authority(tmp_path: Path) -> None:
    ours, other = trustme.CA(), trustme.CA()
    files = folder(tmp_path / "server", ours)
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    expired = Folder(tmp_path / "expired").write(ours, ours.issue_cert("client.example", not_after=past))
    stranger = Folder(tmp_path / "stranger").write(ours, other.issue_cert("client.example"))
    known = Folder(tmp_path / "known").write(ours, ours.issue_cert("client.example"))
    async with guarded(tmp_path, **files.settings(mutual=True)) as server:
        assert await search(server, known.certificates()) is OK
        assert await search(server, Folder(tmp_path / "nobody").write(ours).certificates()) is UNAVAILABLE
        assert await search(server, stranger.certificates()) is UNAVAILABLE
        assert await search(server, expired.certificates()) is UNAVAILABLE
        assert len(server.retriever.callers) == 1


async def test_a_servers_certificate_that_is_expired_or_anothers_is_not_believed(tmp_path: Path) -> None:
    ours = trustme.CA()
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    expired = folder(tmp_path / "expired", ours, not_after=past)
    elsewhere = Folder(tmp_path / "elsewhere").write(ours, ours.issue_cert("example.org"))
    for files in (expired, elsewhere):
        async with guarded(tmp_path, **files.settings()) as server:
            assert await search(server, Folder(tmp_path / "client").write(ours).certificates()) is UNAVAILABLE


async def test_certificates_change_on_both_sides_without_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "LOOK_AGAIN_AFTER_S", 0.0)
    before, after = trustme.CA(), trustme.CA()
    files = folder(tmp_path / "shared", before)
    async with guarded(tmp_path, **files.settings(mutual=True)) as server, calling(server) as channel:
        assert await searched(channel) is OK
        old = Folder(tmp_path / "old").write(before, before.issue_cert("127.0.0.1")).certificates()
        files.write(after, after.issue_cert("127.0.0.1"))
        assert await searched(channel) is OK  # the same channel, of a service that runs on
        assert await search(server, old) is UNAVAILABLE
        assert len(server.retriever.callers) == 2


async def test_half_a_change_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "LOOK_AGAIN_AFTER_S", 0.0)
    authority = trustme.CA()
    files = folder(tmp_path / "shared", authority)
    client = Folder(tmp_path / "client").write(authority).certificates()
    async with guarded(tmp_path, **files.settings()) as server:
        (files.path / "key.pem").write_bytes(authority.issue_cert("127.0.0.1").private_key_pem.bytes())
        assert await search(server, client) is OK
        (files.path / "cert.pem").unlink()
        assert await search(server, client) is OK
        files.write(authority, authority.issue_cert("127.0.0.1"))
        assert await search(server, client) is OK


async def test_a_command_reaches_an_https_target_with_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    files = folder(tmp_path / "server", authority)
    monkeypatch.setenv("MURPHEY_TLS_CA", str(files.path / "ca.pem"))
    async with guarded(tmp_path / "data", **files.settings()) as server:
        target = f"https://127.0.0.1:{server.port}"
        token = discovery.api_key.set(await server.key(Scope.READ))
        try:
            async with channel_for("retriever", tmp_path, target) as channel:
                assert await searched(channel) is OK
        finally:
            discovery.api_key.reset(token)
        assert [healthy for _, healthy, _ in await check_mesh(tmp_path, target)] == [True]


@pytest.mark.parametrize("broken", ["absent", "empty", "other key", "no authority"])
async def test_files_that_are_no_certificates_stop_the_start(tmp_path: Path, broken: str) -> None:
    authority = trustme.CA()
    files = folder(tmp_path / "server", authority)
    if broken == "absent":
        (files.path / "key.pem").unlink()
    elif broken == "empty":
        (files.path / "cert.pem").write_bytes(b"")
    elif broken == "other key":
        (files.path / "key.pem").write_bytes(authority.issue_cert("127.0.0.1").private_key_pem.bytes())
    else:
        (files.path / "ca.pem").write_text("not PEM")
    with pytest.raises(FailedPrecondition, match="server"):
        async with guarded(tmp_path, **files.settings(mutual=True)):
            raise AssertionError("it started")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tls_certificate": "c.pem"}, "belong together"),
        ({"tls_key": "k.pem"}, "belong together"),
        ({"tls_client_ca": "ca.pem"}, "needs tls_certificate"),
        ({"host": "0.0.0.0", "auth": "keys"}, "loopback"),
        ({"host": "0.0.0.0", "tls_certificate": "c.pem", "tls_key": "k.pem"}, "loopback"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ServiceSettings(**settings)


async def test_with_tls_and_keys_it_listens_beyond_loopback(tmp_path: Path) -> None:
    authority = trustme.CA()
    files = folder(tmp_path / "server", authority)
    async with guarded(tmp_path, host="0.0.0.0", **files.settings()) as server:
        assert await search(server, files.certificates()) is OK
        assert server.settings.metrics_host == "127.0.0.1"


@asynccontextmanager
async def calling(server: Guarded) -> AsyncIterator[grpc.aio.Channel]:
    """As a service calls another one: with the internal key and its own certificate."""
    access = credentials.of_service(server.settings)
    async with open_channel(f"127.0.0.1:{server.port}", RETRIEVER, [], access) as channel:
        yield channel


def test_the_system_s_authorities_serve_where_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MURPHEY_TLS_CA", raising=False)
    found = discovery.certificates_for(tmp_path, "https://murphey.example.org")
    assert found is not None
    assert found.pems == tls.Pems(None, None, None)
    assert discovery.target_address("https://murphey.example.org") == "murphey.example.org:443"
    assert discovery.target_address("https://[::1]:7400/") == "[::1]:7400"
    assert discovery.certificates_for(tmp_path, "127.0.0.1:7400") is None
