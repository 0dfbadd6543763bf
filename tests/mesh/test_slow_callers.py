"""Callers that hold a connection and do nothing with it, ping without end, or bring too much, on real sockets."""

import asyncio
from pathlib import Path

import grpc
import pytest

from mesh import server
from mesh.access.roles import Scope
from tests.mesh.guarded import guarded
from tests.mesh.test_gate import bearer, search

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
PING = b"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + b"murphey!"


@pytest.fixture
def soon_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    options = [option for option in server._OPTIONS if option[0] != "grpc.server_handshake_timeout_ms"]
    monkeypatch.setattr(server, "_OPTIONS", [*options, ("grpc.server_handshake_timeout_ms", 200)])


@pytest.mark.parametrize("sent", [b"", b"PRI * HTT", PREFACE, PREFACE + SETTINGS[:5], b"GET / HTTP/1.1\r\n"])
@pytest.mark.usefixtures("soon_cut_off")
async def test_who_connects_and_says_nothing_is_cut_off_and_others_are_answered(tmp_path: Path, sent: bytes) -> None:
    async with guarded(tmp_path) as running:
        key = await running.key(Scope.READ)
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(sent)
        assert await search(running, bearer(key)) is grpc.StatusCode.OK
        async with asyncio.timeout(30):
            await _to_its_end(reader)
        assert await search(running, bearer(key)) is grpc.StatusCode.OK
        writer.close()


async def test_who_pings_without_end_is_sent_away(tmp_path: Path) -> None:
    async with guarded(tmp_path) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(PREFACE + SETTINGS + PING * 50)
        async with asyncio.timeout(30):
            assert b"too_many_pings" in await _to_its_end(reader)
        writer.close()


@pytest.mark.parametrize("size", [20_000, 1_000_000])
async def test_headers_that_are_too_large_reach_no_service(tmp_path: Path, size: int) -> None:
    async with guarded(tmp_path) as running:
        key = await running.key(Scope.READ)
        assert await search(running, bearer(key), ("x-large", "a" * size)) is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert running.retriever.callers == []
        assert await search(running, bearer(key), ("x-large", "a" * 12_000)) is grpc.StatusCode.OK


async def _to_its_end(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the other side closes, whichever way."""
    heard = b""
    try:
        while piece := await reader.read(65_536):
            heard += piece
    except ConnectionError:
        pass
    return heard
