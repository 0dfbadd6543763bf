"""JSON Web Tokens of an outside issuer (RFC 7519, OpenID Connect): who a token speaks of, once it is proved.

Only signatures by the issuer's public keys count, in the algorithms that the settings list: `none`, and a public key used as
the secret of an HMAC, cannot be asked for by a token. Tenant and scopes come from the claims that the settings name.
"""

import re
from collections.abc import Mapping
from typing import Any

import jwt

from mesh.access import tenants
from mesh.access.identity import DEFAULT_TENANT, Identity
from mesh.access.issuer_keys import IssuerKeys
from mesh.access.roles import GRANTABLE, Scope
from mesh.errors import MurpheyError, Unauthenticated
from mesh.settings import ServiceSettings

MAX_CHARACTERS = 8_192
MAX_SUBJECT_CHARACTERS = 200
_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_CAUSES: tuple[tuple[type[jwt.PyJWTError], str, str], ...] = (
    (jwt.ExpiredSignatureError, "token_expired", "The token has expired; get a new one."),
    (jwt.ImmatureSignatureError, "token_not_yet", "The token is not valid yet. Are the clocks right?"),
    (jwt.InvalidIssuedAtError, "token_not_yet", "The token is from the future. Are the clocks right?"),
    (jwt.InvalidAudienceError, "token_audience", "The token is for another audience than this mesh."),
    (jwt.InvalidIssuerError, "token_issuer", "The token is of another issuer than this mesh trusts."),
    (jwt.MissingRequiredClaimError, "token_claims", "The token lacks one of the claims exp, iss, aud and sub."),
    (jwt.InvalidSignatureError, "token_signature", "The token's signature is not its issuer's."),
)
_MALFORMED = ("token_malformed", "The token is no signed JSON Web Token.")


class TokenRefused(Exception):
    """A token that proves nothing: `cause` for the metric, and what its holder is told."""

    def __init__(self, cause: str, error: MurpheyError) -> None:
        super().__init__(cause)
        self.cause, self.error = cause, error


def looks_like_one(text: str) -> bool:
    """Whether it has a token's form. API keys have not."""
    return _FORM.fullmatch(text) is not None


class BearerTokens:
    """The tokens of the issuer that the settings name."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._keys = IssuerKeys(settings.jwt_issuer, settings.jwks_url)

    async def identify(self, token: str) -> Identity:
        """Whom it speaks of. TokenRefused when it proves nothing, Unavailable when the issuer's keys cannot be had now."""
        if len(token) > MAX_CHARACTERS:
            raise _refused("token_oversized", f"The token has more than {MAX_CHARACTERS} characters.")
        try:
            return self._identity(await self._claims(token))
        except jwt.PyJWTError as error:
            for kind, cause, message in _CAUSES:
                if isinstance(error, kind):
                    raise _refused(cause, message) from None  # what the library says may hold claims
            raise _refused(*_MALFORMED) from None
        except (ValueError, TypeError, OverflowError, RecursionError):  # JSON that nobody would write
            raise _refused(*_MALFORMED) from None

    async def _claims(self, token: str) -> Mapping[str, Any]:
        header = jwt.get_unverified_header(token)
        algorithm, identifier = header.get("alg"), header.get("kid")
        if algorithm not in self._settings.jwt_algorithms:
            allowed = ", ".join(self._settings.jwt_algorithms)
            raise _refused("token_algorithm", f"The token is not signed in one of the algorithms {allowed}.")
        if "crit" in header or not isinstance(identifier, str):
            raise _refused(
                "token_key", "The token's header names no key (kid), or asks for what is not known here (crit)."
            )
        key = await self._keys.find(identifier)
        if key is None:
            raise _refused("token_key", "The token is signed by a key that its issuer does not have.")
        if not key.is_for(algorithm):
            raise _refused("token_algorithm", "The token is signed in an algorithm that is not its key's.")
        return jwt.decode(
            token, key.key, algorithms=[algorithm], issuer=self._settings.jwt_issuer,
            audience=self._settings.jwt_audience, leeway=self._settings.jwt_leeway_s,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )  # fmt: skip

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        subject = claims["sub"]
        if not subject or len(subject) > MAX_SUBJECT_CHARACTERS or not subject.isprintable():
            raise _refused(
                "token_claims", f"The token's sub must have 1 to {MAX_SUBJECT_CHARACTERS} printable characters."
            )
        return Identity(f"jwt:{subject}", self._tenant(claims), self._scopes(claims))

    def _tenant(self, claims: Mapping[str, Any]) -> str:
        name = self._settings.jwt_tenant_claim
        if not name:
            return DEFAULT_TENANT
        tenant = _claim(claims, name)
        if not isinstance(tenant, str) or not tenants.is_tenant(tenant):
            raise _refused("token_claims", f"The token's claim {name} names no tenant of this mesh.")
        return tenant

    def _scopes(self, claims: Mapping[str, Any]) -> frozenset[Scope]:
        """Those that an API key could have, too; others in the claim are for others."""
        given = _claim(claims, self._settings.jwt_scopes_claim)
        prefix = self._settings.jwt_scope_prefix
        names = given.split() if isinstance(given, str) else given if isinstance(given, list) else []
        return frozenset(scope for scope in GRANTABLE if f"{prefix}{scope}" in names)


def _claim(claims: Mapping[str, Any], name: str) -> object:
    """By its name, or as `realm_access.roles` within another one."""
    found: object = claims
    if name in claims:
        return claims[name]
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _refused(cause: str, message: str) -> TokenRefused:
    return TokenRefused(cause, Unauthenticated(message))
