"""A whole mesh that asks for keys: the command, HTTP, and the services among themselves."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import Mesh, start_mesh, stop_mesh

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def locked_mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A mesh with `auth = "keys"`."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MURPHEY_AUTH", "keys")
        running = start_mesh(tmp_path_factory.mktemp("locked"))
    yield running
    stop_mesh(running)


def key_for(mesh: Mesh, *scopes: str) -> str:
    chosen = [part for scope in scopes for part in ("--scope", scope)]
    return mesh.murphey("keys", "create", "test", *chosen).out.strip()


def test_who_has_a_key_gets_as_far_as_it_goes(locked_mesh: Mesh, handbook: Path) -> None:
    reader = {"MURPHEY_API_KEY": key_for(locked_mesh, "read")}
    writer = {"MURPHEY_API_KEY": key_for(locked_mesh, "read", "write")}
    for environment, refusal in (({}, "asks for an API key"), (reader, "needs the scope write")):
        refused = locked_mesh.murphey("ingest", str(handbook), env=environment)
        assert refused.code == 1
        assert refusal in refused.err
    taken = locked_mesh.murphey("ingest", str(handbook), env=writer)
    assert taken.code == 0, taken.err

    question = "How long must the kiln cool?"
    asked = locked_mesh.murphey("ask", question, env=reader)
    assert asked.code == 0, asked.err
    assert "thirty-six" in asked.out

    body = {"question": {"text": question}}
    url = f"{locked_mesh.http}/v1/answers"
    assert httpx.get(f"{locked_mesh.http}/healthz").status_code == 200
    refused = httpx.post(url, json=body)
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    for headers in ({"Authorization": f"Bearer {reader['MURPHEY_API_KEY']}"}, {"X-Api-Key": reader["MURPHEY_API_KEY"]}):
        assert httpx.post(url, json=body, headers=headers, timeout=60).status_code == 200
    form = {"file": ("a.txt", b"A text.")}
    denied = httpx.post(f"{locked_mesh.http}/v1/documents", files=form, headers=headers)
    assert denied.status_code == 403, denied.text

    secrets = [key.split("_", 2)[2] for key in (*reader.values(), *writer.values())]
    secrets.append((locked_mesh.data / "mesh" / "internal.key").read_text().strip())
    logged = "".join(path.read_text() for path in (locked_mesh.data / "logs").iterdir())
    assert "UNAUTHENTICATED" in logged
    assert not any(secret in logged for secret in secrets)
