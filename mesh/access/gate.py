"""The gate before every call: who calls, and may he? It knows keys and roles; the interceptor knows gRPC.

A caller proves who it is by `authorization: Bearer KEY` or `x-api-key: KEY`, where KEY is an API key or, with a `jwt_issuer`,
a token of that. API keys are looked up once in KNOWN_FOR_S, so a revoked one is refused after that time at the latest; an
expiry is exact. A call that runs is not cut off.

A service must say for which tenant it calls. One that forgot would otherwise read and write what is the default tenant's.
"""

import hashlib
import hmac
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from cachetools import TTLCache

from mesh import metrics
from mesh.access import bearer_tokens, identity, keys, tenants
from mesh.access.bearer_tokens import BearerTokens, TokenRefused
from mesh.access.identity import DEFAULT_TENANT, Identity
from mesh.access.internal import internal_key
from mesh.access.keys import StoredKey
from mesh.access.roles import ROLES, Scope
from mesh.access.storage import StoredKeys, open_keys
from mesh.errors import MurpheyError, PermissionDenied, Unauthenticated, Unavailable
from mesh.settings import ServiceSettings

KNOWN_FOR_S = 5.0
MAX_KNOWN_KEYS = 10_000

_REFUSED = metrics.counter("refused_calls", "Calls that the gate refused, by cause.", ("service", "cause"))


class Gate:
    """Lets calls in, or not."""

    def __init__(self, service: str, stored: StoredKeys, internal: str, tokens: BearerTokens | None = None) -> None:
        self._service = service
        self._tokens = tokens
        self._stored = stored
        self._internal = hashlib.sha256(internal.encode()).digest()
        self._known: TTLCache[str, StoredKey] = TTLCache(MAX_KNOWN_KEYS, KNOWN_FOR_S)

    async def admit(self, method: str, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """Sets who calls. Unauthenticated when none is proved, PermissionDenied when it may not call the method,
        Unavailable when keys cannot be looked up now.
        """
        identity.current.set(None)
        needed = ROLES.get(method)
        if needed is Scope.PUBLIC:
            return
        caller = await self._identify([(name.lower(), value) for name, value in metadata if isinstance(value, str)])
        identity.current.set(caller)
        if needed is None:
            raise self._refused("no_role", PermissionDenied(f"{method} has no role, so nobody may call it."))
        if not caller.may(needed):
            held = ", ".join(sorted(caller.scopes)) or "none"
            what = f"{method} needs the scope {needed!s}; the key {caller.caller} has {held}."
            raise self._refused("scope", PermissionDenied(what))

    async def _identify(self, metadata: list[tuple[str, str]]) -> Identity:
        text = self._credential(metadata)
        if self._tokens is not None and bearer_tokens.looks_like_one(text):
            return await self._of_token(self._tokens, text)
        if hmac.compare_digest(hashlib.sha256(text.encode()).digest(), self._internal):
            return Identity("internal", self._claimed(metadata), frozenset({Scope.INTERNAL}))
        presented = keys.read(text)
        if presented is None:
            raise self._refused("malformed", Unauthenticated("What the call carries is no API key."))
        key = await self._lookup(presented.id)
        if key is None or not presented.matches(key):
            raise self._refused("unknown", Unauthenticated(f"There is no such API key as mk_{presented.id}_***."))
        if (state := key.state(datetime.now(UTC))) != "valid":
            raise self._refused(state, Unauthenticated(f"The API key mk_{presented.id}_*** is {state}."))
        return key.identity()

    async def _of_token(self, tokens: BearerTokens, text: str) -> Identity:
        try:
            return await tokens.identify(text)
        except TokenRefused as refused:
            raise self._refused(refused.cause, refused.error) from None
        except Unavailable as error:
            raise self._refused("issuer_away", error) from None

    def _claimed(self, metadata: list[tuple[str, str]]) -> str:
        claimed = [value for name, value in metadata if name == identity.TENANT]
        if len(claimed) != 1 or not tenants.is_tenant(claimed[0]):
            why = f"A service must say in `{identity.TENANT}` for which one tenant it calls."
            raise self._refused("no_tenant", PermissionDenied(why))
        return claimed[0]

    def _credential(self, metadata: list[tuple[str, str]]) -> str:
        """The one credential; two, which somebody on the way may have added, are as bad as none."""
        bearers = [value for name, value in metadata if name == "authorization"]
        found = [value for name, value in metadata if name == "x-api-key"]
        for value in bearers:
            scheme, _, rest = value.partition(" ")
            if scheme.lower() != "bearer":
                raise self._refused("malformed", Unauthenticated("`authorization` must be `Bearer KEY`."))
            found.append(rest.strip())
        if not found:
            why = "This mesh asks for an API key: send `authorization: Bearer KEY`, or set MURPHEY_API_KEY."
            raise self._refused("absent", Unauthenticated(why))
        if len(found) > 1:
            raise self._refused("ambiguous", Unauthenticated("The call carries more than one credential; send one."))
        return found[0]

    async def _lookup(self, identifier: str) -> StoredKey | None:
        """Only keys that exist are remembered: what is made up takes no room."""
        if (known := self._known.get(identifier)) is not None:
            return known
        found = await self._stored.find(identifier)
        if found is not None:
            self._known[identifier] = found
        return found

    def _refused(self, cause: str, error: MurpheyError) -> MurpheyError:
        _REFUSED.labels(self._service, cause).inc()
        return error


def admit_unasked(metadata: Iterable[tuple[str, str | bytes]]) -> None:
    """Sets the call's identity where nobody is asked for a key. All there is the default tenant's; but a service that says
    for whom it calls has itself asked, or goes on with what it took in when it did.
    """
    claimed = [value for name, value in metadata if name.lower() == identity.TENANT and isinstance(value, str)]
    tenant = claimed[0] if len(claimed) == 1 and tenants.is_tenant(claimed[0]) else DEFAULT_TENANT
    nobody = tenant == DEFAULT_TENANT
    identity.current.set(None if nobody else Identity(identity.UNASKED, tenant, frozenset()))


@asynccontextmanager
async def open_gate(settings: ServiceSettings) -> AsyncIterator[Gate | None]:
    """The gate that the settings ask for; None where everyone may call."""
    if settings.auth == "off":
        yield None
        return
    async with open_keys(settings.keys_database_url, settings.data) as stored:
        tokens = BearerTokens(settings) if settings.jwt_issuer else None
        yield Gate(settings.service, stored, internal_key(settings.internal_key_file, settings.data), tokens)
