"""Where the services of a mesh are: in the data folder of the one that runs on this machine, or behind one target.

`murphey up` writes `mesh.json` into its data folder; a client command reads it. With a target, one address routes all
services, as the gateway and an ingress do.
"""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import grpc.aio
import psutil

from mesh.access import credentials
from mesh.access.credentials import Access
from mesh.access.tls import Certificates
from mesh.channel import open_channel
from mesh.errors import Corrupt, InvalidInput, Unavailable
from mesh.settings import is_loopback, of_mesh

ServiceName = Literal["orchestrator", "retriever", "generator", "ingest"]
SERVICES: tuple[ServiceName, ...] = ("orchestrator", "retriever", "generator", "ingest")
_FILE = "mesh.json"
api_key: ContextVar[str | None] = ContextVar("api_key", default=None)
"""What the command was given by --api-key or MURPHEY_API_KEY."""


@dataclass(frozen=True)
class MeshAddresses:
    """A running mesh: the supervisor's process id, the HTTP address, and `host:port` of each service and of its metrics.

    With TLS, the PEM files of the authority and, where the services ask for one, of a certificate and its key.
    """

    pid: int
    http: str
    services: dict[str, str]
    metrics: dict[str, str] = field(default_factory=dict)
    tls_ca: str = ""
    tls_certificate: str = ""
    tls_key: str = ""

    @property
    def gateway(self) -> str:
        """`host:port` of the one that routes all services."""
        return self.http.partition("://")[2]

    def certificates(self) -> Certificates | None:
        """What a caller believes and shows; None where the mesh is in plain. FailedPrecondition when they cannot be read."""
        if not self.tls_ca:
            return None
        own = [Path(path) if path else None for path in (self.tls_certificate, self.tls_key)]
        return Certificates(Path(self.tls_ca), *own)


def full_name(service: ServiceName) -> str:
    """`retriever` -> `murphey.retriever.v1.RetrieverService`."""
    return f"murphey.{service}.v1.{service.capitalize()}Service"


def publish(addresses: MeshAddresses, data: Path) -> None:
    """Makes a mesh known to client commands, whole or not at all."""
    scratch = data / f"{_FILE}.new"
    scratch.write_text(json.dumps(asdict(addresses), indent=2) + "\n")
    scratch.replace(data / _FILE)


def withdraw(data: Path) -> None:
    """The mesh no longer runs."""
    (data / _FILE).unlink(missing_ok=True)


def find(data: Path) -> MeshAddresses:
    """The mesh of a data folder. Unavailable when none runs, be it that the last one was killed and could not withdraw;
    Corrupt when what it wrote cannot be read.
    """
    path = data / _FILE
    try:
        found = MeshAddresses(**json.loads(path.read_text()))
    except FileNotFoundError:
        raise _none_runs(data) from None
    except (json.JSONDecodeError, TypeError) as error:
        raise Corrupt(f"{path} is damaged; stop the mesh and start it again.") from error
    if not psutil.pid_exists(found.pid):
        raise _none_runs(data)
    return found


def _none_runs(data: Path) -> Unavailable:
    return Unavailable(
        f"No mesh runs on the data folder {data}. Start one with `murphey up --data {data}`, or, where the command takes "
        "--target, name one by it."
    )


def address_of(service: ServiceName, data: Path, target: str | None) -> str:
    """`host:port` of a service; a target, given or in MURPHEY_TARGET, routes all of them."""
    target = target or os.environ.get("MURPHEY_TARGET")
    return target_address(target) if target else find(data).services[service]


def target_address(target: str) -> str:
    """The target as gRPC takes it: the gateway's `http://host:port`, as `murphey up` shows it, will do, and
    `https://host[:port]` of a service with TLS or of a proxy before the mesh.
    """
    scheme, found, rest = target.partition("://")
    if not found or scheme not in ("http", "https"):
        return target
    address = rest.rstrip("/")
    has_port = address.rpartition(":")[2].isdecimal() and not address.endswith("]")
    return address if has_port or scheme == "http" else f"{address}:443"


def certificates_for(data: Path, target: str | None) -> Certificates | None:
    """For an `https://` target: the authority and the certificate of `MURPHEY_TLS_CA`, `…_CERTIFICATE` and `…_KEY`, where they
    are set, else the system's authorities. None for a target in plain. Without a target those of the mesh of the data folder.
    """
    target = target or os.environ.get("MURPHEY_TARGET")
    if not target:
        return find(data).certificates()
    if not target.startswith("https://"):
        return None
    settings = of_mesh(data)
    return Certificates(settings.tls_ca, settings.tls_certificate, settings.tls_key)


def _check_key(key: str, address: str, encrypted: bool) -> None:
    if not key.isascii() or not key.isprintable() or " " in key:
        raise InvalidInput("The API key has characters that no key has. Was it copied whole?")
    host = address.removeprefix("dns:///").rpartition(":")[0].strip("[]")
    if not encrypted and not address.startswith("unix:") and not is_loopback(host):
        raise InvalidInput(f"The API key would go to {address} unencrypted, for anyone on the way to read.")


@asynccontextmanager
async def channel_for(service: ServiceName, data: Path, target: str | None) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a service for a client command, with the API key that it was given; closed on leaving.

    InvalidInput for a key that would cross a network unencrypted.
    """
    address, key = address_of(service, data, target), api_key.get()
    certificates = certificates_for(data, target)
    if key is not None:
        _check_key(key, address, certificates is not None)
    access = Access(None if key is None else credentials.api_key(key), certificates)
    channel = open_channel(address, full_name(service), [], access)
    try:
        yield channel
    finally:
        await channel.close()
