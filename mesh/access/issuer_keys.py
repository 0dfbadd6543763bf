"""The public keys of whoever issues tokens: its JWKS, fetched over HTTP, kept for a while, and fetched again for a key id
that is not in it.

Everything about the fetch is bounded: its time, its bytes, how many keys, and how often made-up key ids may cause one. While
the issuer is away, keys that were fetched are good for another STALE_S, so that its outage is not ours.
"""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
import jwt
from cryptography.exceptions import UnsupportedAlgorithm

from mesh import logs
from mesh.errors import Unavailable
from mesh.settings import is_safe_url

FRESH_S, STALE_S = 600.0, 3_600.0
UNKNOWN_EVERY_S = 30.0
"""So often at most are the keys fetched because of an id that is not among them."""
FAILED_EVERY_S = 5.0
TIMEOUT_S = 5.0
MAX_BYTES, MAX_KEYS = 256 * 1024, 100
MIN_RSA_BITS = 2_048
DISCOVERY = "/.well-known/openid-configuration"
FAMILIES = {"RSA": ("RS", "PS"), "EC": ("ES",), "OKP": ("EdDSA",)}
"""What the names of a key type's algorithms begin with (RFC 7518, section 3.1; RFC 8037)."""
log = logs.get(__name__)


@dataclass(frozen=True)
class PublicKey:
    """A key that signatures can be checked by, as `cryptography` has it; `algorithm` is empty where its issuer names none."""

    key: Any
    kind: str
    algorithm: str

    def is_for(self, algorithm: str) -> bool:
        """Whether signatures in that algorithm can be its."""
        return algorithm.startswith(FAMILIES[self.kind]) and self.algorithm in ("", algorithm)


class IssuerKeys:
    """The keys of one issuer by their ids. `url` is its JWKS; where that is empty, the issuer is asked for it (OpenID Connect
    Discovery 1.0). Used from one event loop.
    """

    def __init__(self, issuer: str, url: str = "") -> None:
        self._issuer, self._url = issuer, url
        self._keys: dict[str, PublicKey] = {}
        self._fetched_s = self._tried_s = float("-inf")
        self._failed = False
        self._fetching = asyncio.Lock()

    async def find(self, identifier: str) -> PublicKey | None:
        """The key, or None when the issuer has none such. Unavailable while it cannot be asked and nothing fresh is known.

        One call waits for the issuer. Others whose key is known go on meanwhile: an issuer that hangs holds up nobody else.
        """
        goes_on = self._fetching.locked() and identifier in self._keys and not self._is_outdated()
        if not goes_on and self._may_fetch(identifier):
            async with self._fetching:
                if self._may_fetch(identifier):  # who waited has the answer of who did not
                    await self._fetch()
        if self._is_outdated():
            raise Unavailable("The keys of the tokens' issuer cannot be fetched now. Try again in a moment.")
        return self._keys.get(identifier)

    def _is_outdated(self) -> bool:
        return time.monotonic() - self._fetched_s > FRESH_S + STALE_S

    def _may_fetch(self, identifier: str) -> bool:
        now_s = time.monotonic()
        if self._failed and now_s - self._tried_s < FAILED_EVERY_S:
            return False
        if now_s - self._fetched_s > FRESH_S:
            return True
        return identifier not in self._keys and now_s - self._tried_s >= UNKNOWN_EVERY_S

    async def _fetch(self) -> None:
        self._tried_s = time.monotonic()
        try:
            async with asyncio.timeout(TIMEOUT_S), httpx2.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client:
                url = self._url or await self._discovered(client)
                found = _usable(await _read(client, url))
        except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError, ValueError, RecursionError) as error:
            self._failed, self._tried_s = True, time.monotonic()  # the pause begins now: to fail may have taken as long
            log.warning("issuer_keys_not_fetched", issuer=self._issuer, reason=str(error)[:200] or type(error).__name__)
            return
        self._failed = False
        self._keys, self._fetched_s = found, time.monotonic()
        log.info("issuer_keys_fetched", issuer=self._issuer, keys=len(found))

    async def _discovered(self, client: httpx2.AsyncClient) -> str:
        document = await _read(client, self._issuer.rstrip("/") + DISCOVERY)
        url = document.get("jwks_uri")
        if document.get("issuer") != self._issuer or not isinstance(url, str) or not is_safe_url(url):
            raise ValueError("its discovery document names another issuer, or no JWKS at an https address")
        return url


async def _read(client: httpx2.AsyncClient, url: str) -> Mapping[str, Any]:
    """A JSON object. ValueError for anything else, and for what is too large; redirects are not followed."""
    body = bytearray()
    async with client.stream("GET", url, headers={"accept": "application/json"}) as response:
        if response.status_code != httpx2.codes.OK:
            raise ValueError(f"the answer is HTTP {response.status_code}")
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > MAX_BYTES:
                raise ValueError(f"the answer has more than {MAX_BYTES} bytes")
    document = json.loads(body)
    if not isinstance(document, dict):
        raise ValueError("the answer is no JSON object")
    return document


def _usable(document: Mapping[str, Any]) -> dict[str, PublicKey]:
    """The keys that signatures can be checked by. Others, such as those for encryption, are passed over."""
    entries = document.get("keys")
    if not isinstance(entries, list) or len(entries) > MAX_KEYS:
        raise ValueError(f"the answer has no list of at most {MAX_KEYS} keys")
    found: dict[str, PublicKey] = {}
    for entry in entries:
        if isinstance(entry, dict) and entry.get("kty") in FAMILIES and entry.get("use", "sig") == "sig":
            key, identifier = _public(entry), entry.get("kid")
            if key is not None and isinstance(identifier, str):
                found[identifier] = key
    return found


def _public(entry: dict[str, Any]) -> PublicKey | None:
    try:
        read = jwt.PyJWK.from_dict({name: value for name, value in entry.items() if name != "d"})
    except (jwt.PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, KeyError):
        return None
    if entry["kty"] == "RSA" and read.key.key_size < MIN_RSA_BITS:
        return None
    return PublicKey(read.key, entry["kty"], str(entry.get("alg", "")))
