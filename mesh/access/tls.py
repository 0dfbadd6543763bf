"""TLS between services: certificates from PEM files, read again when the files change, without a restart.

A server takes a new certificate at its next connection. A client cannot change that of a channel, so its `FreshChannel`
makes another channel and lets the calls on the old one end. Files that do not fit each other, as in the middle of a change,
are left alone until they do. Making and renewing certificates is up to others, such as cert-manager.
"""

import os
import ssl
import time
from dataclasses import dataclass
from pathlib import Path

import grpc

from mesh import logs
from mesh.errors import FailedPrecondition
from mesh.settings import ServiceSettings

LOOK_AGAIN_AFTER_S = 1.0
log = logs.get(__name__)


@dataclass(frozen=True)
class Pems:
    """What the files hold. `roots` None means the system's, on a client."""

    roots: bytes | None
    key: bytes | None
    chain: bytes | None


class Certificates:
    """PEM files and what was last read of them. FailedPrecondition when they cannot be used at the start."""

    def __init__(self, roots: Path | None, certificate: Path | None, key: Path | None) -> None:
        self._roots, self._certificate, self._key = roots, certificate, key
        self._stamp = self._stamped()
        self.pems = self._read()
        self._complaint = ""
        self._looked_s = time.monotonic()

    def renewed(self) -> bool:
        """Whether `pems` has just become another. Looks at the files once in LOOK_AGAIN_AFTER_S."""
        now_s = time.monotonic()
        if now_s - self._looked_s < LOOK_AGAIN_AFTER_S:
            return False
        self._looked_s = now_s
        try:
            stamp = self._stamped()
            if stamp == self._stamp:
                return False
            found = self._read()
            if self._stamped() != stamp:  # changed while it was read
                return False
        except FailedPrecondition as error:
            if error.message != self._complaint:
                log.warning("certificates_not_taken", reason=error.message)
            self._complaint = error.message
            return False
        self._stamp, self.pems, self._complaint = stamp, found, ""
        log.info("certificates_renewed", certificate=str(self._certificate))
        return True

    def _paths(self) -> list[Path]:
        return [path for path in (self._roots, self._certificate, self._key) if path is not None]

    def _stamped(self) -> tuple[tuple[int, int, int], ...]:
        try:
            found = [os.stat(path) for path in self._paths()]
        except OSError as error:
            raise FailedPrecondition(f"{error.filename} cannot be read: {error.strerror}.") from error
        return tuple((each.st_ino, each.st_mtime_ns, each.st_size) for each in found)

    def _read(self) -> Pems:
        """Checks that the files hold certificates, and that the key is the certificate's."""
        names = ", ".join(str(path) for path in self._paths())
        try:
            checked = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            if self._roots is not None:
                checked.load_verify_locations(self._roots)
            if self._certificate is not None:
                checked.load_cert_chain(self._certificate, self._key, password=_no_password)
            roots, key, chain = (
                None if path is None else path.read_bytes() for path in (self._roots, self._key, self._certificate)
            )
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            reason = getattr(error, "reason", None) or error
            raise FailedPrecondition(f"The certificates in {names} cannot be used: {reason}.") from error
        return Pems(roots, key, chain)


def server_credentials(settings: ServiceSettings) -> grpc.ServerCredentials | None:
    """Of a service; with a `tls_client_ca` only clients with a certificate of that authority get in. None without TLS."""
    if settings.tls_certificate is None:
        return None
    files = Certificates(settings.tls_client_ca, settings.tls_certificate, settings.tls_key)

    def configuration() -> grpc.ServerCertificateConfiguration:
        pems = files.pems  # which another thread may exchange
        pair = (pems.key or b"", pems.chain or b"")
        return grpc.ssl_server_certificate_configuration([pair], root_certificates=pems.roots)

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        return configuration() if files.renewed() else None

    mutual = settings.tls_client_ca is not None
    return grpc.dynamic_ssl_server_credentials(
        configuration(),
        renewed,  # pyright: ignore[reportArgumentType] - None is for `as it was`
        require_client_authentication=mutual,
    )


def client_certificates(settings: ServiceSettings) -> Certificates | None:
    """For calls to other services: what their certificates are checked by, and our own. None where they have none."""
    if settings.tls_ca is None:
        return None
    return Certificates(settings.tls_ca, settings.tls_certificate, settings.tls_key)


def _no_password() -> str:
    raise ValueError("the key is encrypted, and nobody is there to type its password")
