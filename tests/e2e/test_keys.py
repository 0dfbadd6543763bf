"""A whole mesh that asks for keys and certificates: the command, HTTP, and the services among themselves.

It listens on all addresses of this machine, by mutual TLS, and is called by one that others could call it by.
"""

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import psutil
import pytest
import trustme

from mesh.discovery import find
from mesh.settings import is_loopback
from murphey.retriever.v1 import retriever_pb2 as pb
from murphey.retriever.v1.retriever_pb2_grpc import RetrieverServiceStub
from tests.e2e.conftest import Mesh, start_mesh, stop_mesh

pytestmark = pytest.mark.e2e


def own_address() -> str:
    """An address of this machine by which others reach it; on one without a network the only one."""
    found = [each.address for own in psutil.net_if_addrs().values() for each in own if each.family is socket.AF_INET]
    return next((address for address in found if not is_loopback(address)), "127.0.0.1")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the certificates of an authority, and of the mesh."""
    folder, made = tmp_path_factory.mktemp("tls"), trustme.CA()
    issued = made.issue_cert(own_address(), "rag.example")
    made.cert_pem.write_to_path(folder / "ca.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    return folder


@pytest.fixture(scope="module")
def locked_mesh(tmp_path_factory: pytest.TempPathFactory, authority: Path) -> Iterator[Mesh]:
    """A mesh with keys and mutual TLS. Commands that are run later have none of these settings."""
    settings = {"AUTH": "keys", "HOST": "0.0.0.0", "NAME": own_address()}
    files = {"CERTIFICATE": "cert.pem", "KEY": "key.pem", "CA": "ca.pem", "CLIENT_CA": "ca.pem"}
    with pytest.MonkeyPatch.context() as environment:
        for name, value in settings.items():
            environment.setenv(f"MURPHEY_{name}", value)
        for name, file in files.items():
            environment.setenv(f"MURPHEY_TLS_{name}", str(authority / file))
        running = start_mesh(tmp_path_factory.mktemp("locked"))
    yield running
    stop_mesh(running)


def key_for(mesh: Mesh, *scopes: str) -> str:
    chosen = [part for scope in scopes for part in ("--scope", scope)]
    return mesh.murphey("keys", "create", "test", *chosen).out.strip()


def test_who_has_a_key_gets_as_far_as_it_goes(locked_mesh: Mesh, handbook: Path, authority: Path) -> None:
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

    elsewhere = reader | {"MURPHEY_TLS_CA": str(authority / "ca.pem"), "MURPHEY_TARGET": locked_mesh.http}
    asked = locked_mesh.murphey("search", question, env=elsewhere)
    assert asked.code == 0, asked.err
    assert "thirty-six" in asked.out

    body = {"question": {"text": question}}
    believed = ssl.create_default_context(cafile=authority / "ca.pem")
    with httpx.Client(verify=believed, timeout=60, trust_env=False) as client:
        keys_are_asked_for_over_http(client, locked_mesh.http, body, reader["MURPHEY_API_KEY"])

    secrets = [key.split("_", 2)[2] for key in (*reader.values(), *writer.values())]
    secrets.append((locked_mesh.data / "mesh" / "internal.key").read_text().strip())
    logged = "".join(path.read_text() for path in (locked_mesh.data / "logs").iterdir())
    assert "UNAUTHENTICATED" in logged
    assert not any(secret in logged for secret in secrets)


def keys_are_asked_for_over_http(client: httpx.Client, address: str, body: object, key: str) -> None:
    url = f"{address}/v1/answers"
    assert client.get(f"{address}/healthz").status_code == 200
    assert client.get(f"{address}/healthz", headers={"Host": "rag.example"}).status_code == 200
    assert client.get(f"{address}/healthz", headers={"Host": "other.example"}).status_code == 421
    refused = client.post(url, json=body)
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    for headers in ({"Authorization": f"Bearer {key}"}, {"X-Api-Key": key}):
        assert client.post(url, json=body, headers=headers).status_code == 200
    form = {"file": ("a.txt", b"A text.")}
    denied = client.post(f"{address}/v1/documents", files=form, headers=headers)
    assert denied.status_code == 403, denied.text


def test_nothing_is_answered_in_plain_or_without_a_certificate(locked_mesh: Mesh) -> None:
    assert locked_mesh.http.startswith("https://")
    assert httpx.get(locked_mesh.http.replace("https:", "http:") + "/healthz", trust_env=False).status_code == 400
    addresses = find(locked_mesh.data)
    certificates = addresses.certificates()
    assert certificates is not None
    pems, key = certificates.pems, key_for(locked_mesh, "read")
    believed_alone = grpc.ssl_channel_credentials(pems.roots)
    both = grpc.ssl_channel_credentials(pems.roots, pems.key, pems.chain)
    assert searched(grpc.insecure_channel(addresses.services["retriever"]), key) is grpc.StatusCode.UNAVAILABLE
    for shown, code in ((believed_alone, grpc.StatusCode.UNAVAILABLE), (both, grpc.StatusCode.OK)):
        assert searched(grpc.secure_channel(addresses.services["retriever"], shown), key) is code
    for command in (("doctor",), ("status",)):
        done = locked_mesh.murphey(*command)
        assert done.code == 0, done.out + done.err


def searched(channel: grpc.Channel, key: str) -> grpc.StatusCode:
    with channel:
        try:
            shown = [("authorization", f"Bearer {key}")]
            RetrieverServiceStub(channel).ListCollections(pb.ListCollectionsRequest(), timeout=30, metadata=shown)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK
