"""How the services of a mesh on one machine are reached: where they listen, by which name they are called, in plain or by TLS.

Settings decide: in plain everything stays on loopback. With `tls_certificate` all of it is TLS, also among the services, and
with `tls_client_ca` the services ask each other for certificates; what clients show the gateway are keys.
"""

from dataclasses import dataclass
from pathlib import Path

from mesh.access.handshake import shake_hands
from mesh.discovery import MeshAddresses
from mesh.errors import FailedPrecondition
from mesh.settings import ServiceSettings

ANY = {"0.0.0.0": "localhost", "::": "localhost"}  # noqa: S104 - what they are called by, not what is listened on
"""Addresses that stand for all of a machine's, and how it reaches itself."""


@dataclass(frozen=True)
class Reach:
    """`host` and `metrics_host` are listened on, `name` and `metrics_name` are called; `names` are all of the certificate's."""

    host: str
    name: str
    metrics_host: str
    metrics_name: str
    names: tuple[str, ...] = ()
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None
    auth: str = "off"

    def addresses(self, pid: int, gateway: int, services: dict[str, int], metrics: dict[str, int]) -> MeshAddresses:
        """Of a mesh with these ports, for client commands."""
        scheme = "http" if self.certificate is None else "https"
        return MeshAddresses(
            pid, f"{scheme}://{at(self.name, gateway)}",
            {name: at(self.name, port) for name, port in services.items()},
            {name: at(self.metrics_name, port) for name, port in metrics.items()},
            tls_ca=str(self.ca or ""),
            tls_certificate=str(self.certificate) if self.client_ca else "",
            tls_key=str(self.key) if self.client_ca else "",
        )  # fmt: skip

    def gateway_flags(self, port: int, allowed_hosts: str) -> list[str]:
        """Of the gateway; it answers for the certificate's names beside those that are allowed anyway."""
        flags = [f"--listen={at(self.host, port)}"]
        if self.certificate is None:
            return flags
        flags += [f"--auth={self.auth}"]
        hosts = ",".join(filter(None, (*self.names, allowed_hosts)))
        flags += [f"--tls-certificate={self.certificate}", f"--tls-key={self.key}", f"--services-ca={self.ca}"]
        flags += [f"--allowed-hosts={hosts}"]
        if self.client_ca is not None:
            flags += [f"--services-certificate={self.certificate}", f"--services-key={self.key}"]
        return flags


def reach_of(settings: ServiceSettings, name: str | None) -> Reach:
    """By the settings of the mesh; `name` is what the services are called by, where it is not the address listened on.

    FailedPrecondition for certificates that the services would not take from each other.
    """
    host, metrics_host = settings.host, settings.metrics_host
    called, metrics_name = name or ANY.get(host, host), ANY.get(metrics_host, metrics_host)
    if settings.tls_certificate is None or settings.tls_key is None:
        return Reach(host, called, metrics_host, metrics_name, auth=settings.auth)
    if settings.tls_ca is None:
        raise FailedPrecondition(
            "tls_certificate is set and tls_ca is not: the services would call each other in plain and not be answered. Set "
            "tls_ca to the authority of that certificate."
        )
    ca, certificate, key = (path.absolute() for path in (settings.tls_ca, settings.tls_certificate, settings.tls_key))
    client_ca = None if settings.tls_client_ca is None else settings.tls_client_ca.absolute()
    try:
        names = shake_hands(called, ca, certificate, key, client_ca)
    except FailedPrecondition as error:
        hint = f"`--name` says by which name the services are called; it is {called} now."
        raise FailedPrecondition(f"{error.message} {hint}") from error
    return Reach(host, called, metrics_host, metrics_name, names, ca, certificate, key, client_ca, settings.auth)


def at(host: str, port: int) -> str:
    """`host:port`, as URLs and gRPC take it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
