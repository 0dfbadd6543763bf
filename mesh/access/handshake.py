"""A TLS handshake in memory between a service and its caller, both with the certificates that a mesh's settings name.

What would otherwise fail at each call fails before anything is started, with the reason.
"""

import ssl
from pathlib import Path

from mesh.access.tls import Certificates
from mesh.errors import FailedPrecondition

ROUNDS = 10
"""More than any version of the protocol takes."""


def shake_hands(name: str, ca: Path, certificate: Path, key: Path, client_ca: Path | None) -> tuple[str, ...]:
    """The names and addresses that the certificate is for, in small letters.

    The service shows `certificate` and is called by `name`; its caller believes `ca` and shows the same certificate, of which
    the service believes `client_ca`, where it asks. FailedPrecondition when one would not believe the other.
    """
    for authority in {ca, client_ca or ca}:
        Certificates(authority, certificate, key)  # tells which file cannot be used
    serving, calling = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    calling.load_verify_locations(ca)
    for context in (serving, calling):
        context.load_cert_chain(certificate, key)
    if client_ca is not None:
        serving.load_verify_locations(client_ca)
        serving.verify_mode = ssl.CERT_REQUIRED
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    caller = calling.wrap_bio(back, there, server_hostname=name)
    service = serving.wrap_bio(there, back, server_side=True)
    for _ in range(ROUNDS):
        _step(caller, f"calls to {name} would fail, as {certificate} is not believed by {ca}")
        _step(service, f"services could not call each other, as {certificate} is not believed by {client_ca}")
    shown = caller.getpeercert() or {}
    return tuple(str(value).lower() for _, value in shown.get("subjectAltName", ()))


def _step(side: ssl.SSLObject, what_fails: str) -> None:
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        pass
    except ssl.SSLError as error:
        reason = getattr(error, "verify_message", "") or error.reason or error
        raise FailedPrecondition(f"The certificates do not fit: {what_fails} ({reason}).") from error
