"""API keys: what is kept of them, their database, and `murphey keys`."""

import asyncio
import json
import os
import sqlite3
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from mesh import discovery
from mesh.access import keys, storage
from mesh.access.roles import Scope
from mesh.access.storage import open_keys
from mesh.cli import build
from mesh.discovery import MeshAddresses, channel_for
from mesh.errors import InvalidInput, NotFound
from mesh.terminal import fail
from murphey.retriever.v1 import retriever_pb2 as pb
from murphey.retriever.v1 import retriever_pb2_grpc as pb_grpc
from tests.mesh.guarded import guarded

NOW = datetime(2026, 1, 2, tzinfo=UTC)
READ = frozenset({Scope.READ})


def murphey(data: Path, *arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(build(), ["keys", *arguments, "--data", str(data)], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.stdout


def test_a_key_is_read_back_and_its_secret_is_not_kept() -> None:
    shown, stored = keys.issue("web", "default", READ, NOW, None)
    presented = keys.read(shown)
    assert presented is not None
    assert presented.matches(stored)
    secret = shown.split("_", 2)[2]
    assert len(secret) == 43
    assert secret not in repr(stored) + repr(presented)
    assert keys.issue("web", "default", READ, NOW, None)[0] != shown


@pytest.mark.parametrize(
    ("name", "tenant", "scopes", "field"),
    [
        ("", "default", READ, "name"),
        ("a\x1b[2J", "default", READ, "name"),
        ("web", "Acme Inc", READ, "tenant"),
        ("web", "../other", READ, "tenant"),
        ("web", "default", frozenset[Scope](), "scopes"),
        ("web", "default", frozenset({Scope.INTERNAL}), "scopes"),
        ("web", "default", frozenset({Scope.PUBLIC}), "scopes"),
    ],
)
def test_a_bad_key_is_not_made(name: str, tenant: str, scopes: frozenset[Scope], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        keys.issue(name, tenant, scopes, NOW, None)
    assert caught.value.field == field


async def test_keys_are_kept_as_they_are_and_revoked_for_good(tmp_path: Path) -> None:
    _, first = keys.issue("first", "acme", frozenset({Scope.READ, Scope.ADMIN}), NOW, NOW)
    _, second = keys.issue("second", "default", READ, datetime.now(UTC), None)
    async with open_keys("", tmp_path) as stored:
        await stored.add(first)
        await stored.add(second)
        assert await stored.all() == [second, first]
        assert await stored.find("nobody") is None
        revoked = await stored.revoke(first.id)
        assert revoked.state(NOW) == "revoked"
        assert await stored.revoke(first.id) == revoked
        with pytest.raises(NotFound):
            await stored.revoke("nobody")


async def test_many_may_open_a_new_database_at_once(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        opened = await asyncio.gather(*(stack.enter_async_context(open_keys("", tmp_path)) for _ in range(4)))
        assert [await stored.all() for stored in opened] == [[]] * 4


async def test_migrations_make_the_table_that_queries_use(tmp_path: Path) -> None:
    async with open_keys("", tmp_path):
        pass
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'mesh' / 'mesh.sqlite'}")
    with engine.connect() as connection:
        made = {column["name"] for column in sa.inspect(connection).get_columns("api_keys")}
    engine.dispose()
    assert made == set(storage.keys.columns.keys())


def test_the_command_makes_lists_and_revokes(tmp_path: Path) -> None:
    made = murphey(tmp_path, "create", "web page", "--scope", "read", "--scope", "write", "--expires-days", "30")
    shown = made.strip()
    assert keys.read(shown)
    (listed,) = json.loads(murphey(tmp_path, "list", "--json"))["keys"]
    assert (listed["name"], listed["scopes"], listed["state"]) == ("web page", ["read", "write"], "valid")
    assert shown.split("_", 2)[2] not in murphey(tmp_path, "list")
    murphey(tmp_path, "revoke", listed["id"])
    assert "revoked" in murphey(tmp_path, "list")


def test_the_secret_is_nowhere_on_the_disk(tmp_path: Path) -> None:
    secret = murphey(tmp_path, "create", "web").strip().split("_", 2)[2]
    sqlite3.connect(tmp_path / "mesh" / "mesh.sqlite").close()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert all(secret.encode() not in path.read_bytes() for path in files)


@pytest.mark.parametrize("arguments", [("create", "web", "--scope", "internal"), ("create", "web", "--scope", "all"),
                                       ("create", "web", "--tenant", "A B"), ("revoke", "nobody")])  # fmt: skip
def test_the_command_says_what_is_wrong(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    murphey(tmp_path, *arguments, code=1)


async def test_a_command_sends_the_key_that_it_was_given(tmp_path: Path) -> None:
    async with guarded(tmp_path) as server:
        discovery.publish(MeshAddresses(os.getpid(), "", {"retriever": f"127.0.0.1:{server.port}"}), tmp_path)
        token = discovery.api_key.set(await server.key(Scope.READ))
        try:
            async with channel_for("retriever", tmp_path, None) as channel:
                await pb_grpc.RetrieverServiceStub(channel).Search(pb.SearchRequest(), timeout=20)
        finally:
            discovery.api_key.reset(token)
        assert len(server.retriever.callers) == 1


async def test_a_key_does_not_cross_a_network_unencrypted(tmp_path: Path) -> None:
    token = discovery.api_key.set("mk_1")
    try:
        with pytest.raises(InvalidInput, match="unencrypted"):
            async with channel_for("retriever", tmp_path, "murphey.example.org:7400"):
                fail("the channel was opened")
    finally:
        discovery.api_key.reset(token)


def test_settings_that_are_wrong_are_said_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MURPHEY_HOST", "0.0.0.0")
    with pytest.raises(InvalidInput, match="loopback"):
        CliRunner().invoke(build(), ["keys", "list", "--data", str(tmp_path)], catch_exceptions=False)
