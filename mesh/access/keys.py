"""API keys: how one is made, read and compared. Where they are kept is storage.py's matter.

A key is `mk_<id>_<secret>`: the id, 12 hexadecimal digits, may be shown anywhere; the secret is 256 random bits. Only its
SHA-256 is stored. A slow hash would add nothing: it makes guessing dear, and nobody guesses 256 bits.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime

from mesh.access import tenants
from mesh.access.identity import Identity
from mesh.access.roles import GRANTABLE, Scope
from mesh.errors import InvalidInput

MAX_NAME_CHARACTERS = 80
_FORM = re.compile(r"mk_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True)
class StoredKey:
    """A key as it is kept. Times are in UTC; None for never."""

    id: str
    name: str
    tenant: str
    scopes: frozenset[Scope]
    secret_hash: str
    created: datetime
    expires: datetime | None = None
    revoked: datetime | None = None

    def __post_init__(self) -> None:
        if not self.name.strip() or len(self.name) > MAX_NAME_CHARACTERS or not self.name.isprintable():
            raise InvalidInput(f"A key's name has 1 to {MAX_NAME_CHARACTERS} printable characters.", field="name")
        if not tenants.is_tenant(self.tenant):
            raise InvalidInput(
                f"{self.tenant!r} is no tenant: use 1 to 63 lower-case letters, digits and hyphens.", field="tenant"
            )
        if not self.scopes or not self.scopes <= set(GRANTABLE):
            raise InvalidInput(f"A key has at least one of the scopes {', '.join(GRANTABLE)}.", field="scopes")

    def state(self, now: datetime) -> str:
        """`valid`, `expired` or `revoked`."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and self.expires <= now else "valid"

    def identity(self) -> Identity:
        """Who calls with it."""
        return Identity(self.id, self.tenant, self.scopes)


@dataclass(frozen=True)
class PresentedKey:
    """What a caller sent; its repr does not show the secret."""

    id: str
    secret_hash: str

    def matches(self, stored: StoredKey) -> bool:
        """Compares in a time that does not depend on where they differ."""
        return hmac.compare_digest(self.secret_hash, stored.secret_hash)


def issue(
    name: str, tenant: str, scopes: frozenset[Scope], created: datetime, expires: datetime | None
) -> tuple[str, StoredKey]:
    """A new key, as its owner gets it and as it is stored. InvalidInput for a bad name, tenant or scope."""
    identifier, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    stored = StoredKey(identifier, name, tenant, scopes, _hash(secret), created, expires)
    return f"mk_{identifier}_{secret}", stored


def read(text: str) -> PresentedKey | None:
    """What a caller sent, or None when it does not have a key's form."""
    found = _FORM.fullmatch(text)
    return PresentedKey(found[1], _hash(found[2])) if found else None


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
