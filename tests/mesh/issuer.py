"""An issuer of tokens: real keys, and a real HTTP server that serves their JWKS."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

AUDIENCE = "murphey"
JWKS, DISCOVERY = "/keys", "/.well-known/openid-configuration"
_PUBLISHED = {"RS": RSAAlgorithm, "PS": RSAAlgorithm, "ES": ECAlgorithm, "Ed": OKPAlgorithm}


def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def new_key(algorithm: str) -> Any:
    """A private key for an algorithm."""
    if algorithm.startswith("ES"):
        return ec.generate_private_key({"256": ec.SECP256R1(), "384": ec.SECP384R1()}[algorithm[2:]])
    return ed25519.Ed25519PrivateKey.generate() if algorithm == "EdDSA" else rsa_key()


def published(key: Any, identifier: str, algorithm: str, **changed: Any) -> dict[str, Any]:
    """A key's public half, as a JWKS holds it."""
    found = _PUBLISHED[algorithm[:2]].to_jwk(key.public_key(), as_dict=True)
    return {**found, "kid": identifier, "alg": algorithm, "use": "sig", **changed}


@dataclass
class Issuer:
    """What it serves can be changed while it runs; `asked` counts requests by path."""

    url: str = ""
    keys: dict[str, tuple[Any, str]] = field(default_factory=dict)
    documents: dict[str, bytes] = field(default_factory=dict)
    status: int = 200
    asked: dict[str, int] = field(default_factory=dict)
    answering: threading.Event = field(default_factory=threading.Event)

    def add(self, identifier: str, algorithm: str = "RS256") -> None:
        """Begins to sign with another key too."""
        self.keys[identifier] = (new_key(algorithm), algorithm)
        self.publish([published(key, name, used) for name, (key, used) in self.keys.items()])

    def publish(self, entries: list[dict[str, Any]]) -> None:
        """Serves these as its JWKS."""
        self.documents[JWKS] = json.dumps({"keys": entries}).encode()
        discovery = {"issuer": self.url, "jwks_uri": self.url + JWKS}
        self.documents[DISCOVERY] = json.dumps(discovery).encode()

    def claims(self, **changed: Any) -> dict[str, Any]:
        """Good ones; None takes one out."""
        good = {
            "iss": self.url, "aud": AUDIENCE, "sub": "ada", "exp": int(time.time()) + 600, "tenant": "acme",
            "scope": "read profile",
        }  # fmt: skip
        return {name: value for name, value in {**good, **changed}.items() if value is not None}

    def token(self, identifier: str = "first", headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token of good claims but for those that are changed."""
        key, algorithm = self.keys[identifier]
        return jwt.encode(self.claims(**claims), key, algorithm, headers={"kid": identifier, **(headers or {})})


@contextmanager
def running_issuer() -> Iterator[Issuer]:
    """Serves while inside, with an RSA key `first`."""
    issuer = Issuer()
    issuer.answering.set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.asked[self.path] = issuer.asked.get(self.path, 0) + 1
            issuer.answering.wait(60)
            body = issuer.documents.get(self.path, b"")
            self.send_response(issuer.status if body else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library calls it so
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer.url = f"http://127.0.0.1:{server.server_port}"
    issuer.add("first")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield issuer
    finally:
        issuer.answering.set()
        server.shutdown()
        server.server_close()
        thread.join()
