"""Tokens of an issuer, signed with real keys that a real HTTP server publishes: who gets in by one, and who does not."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from prometheus_client import REGISTRY
from pydantic import ValidationError

from mesh import logs
from mesh.access import issuer_keys
from mesh.access.identity import Identity
from mesh.access.roles import Scope
from mesh.settings import ServiceSettings
from tests.mesh.guarded import Guarded, guarded
from tests.mesh.issuer import AUDIENCE, DISCOVERY, JWKS, Issuer, new_key, published, rsa_key, running_issuer
from tests.mesh.test_gate import bearer, calling, search

OK, UNAUTHENTICATED = grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED
DENIED, UNAVAILABLE = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAVAILABLE
ALL = ("RS256", "PS256", "ES256", "ES384", "EdDSA")


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with running_issuer() as running:
        yield running


def trusting(issuer: Issuer, **changed: Any) -> dict[str, Any]:
    return {"jwt_issuer": issuer.url, "jwks_url": issuer.url + JWKS, "jwt_audience": AUDIENCE, **changed}


async def tried(server: Guarded, token: str) -> grpc.StatusCode:
    return await search(server, bearer(token))


def refusals(cause: str) -> float:
    return REGISTRY.get_sample_value("murphey_refused_calls_total", {"service": "mesh", "cause": cause}) or 0


@pytest.mark.parametrize("algorithm", ALL)
async def test_a_good_token_gets_in_and_says_who_calls(tmp_path: Path, issuer: Issuer, algorithm: str) -> None:
    issuer.add("second", algorithm)
    async with guarded(tmp_path, **trusting(issuer, jwt_algorithms=ALL)) as server:
        assert await tried(server, issuer.token("second")) is OK
        assert await search(server, ("x-api-key", issuer.token("second"))) is OK
        assert server.retriever.callers == [Identity("jwt:ada", "acme", frozenset({Scope.READ}))] * 2
        assert issuer.asked == {JWKS: 1}  # once, and then it was known


async def test_api_keys_get_in_beside_tokens(tmp_path: Path, issuer: Issuer) -> None:
    async with guarded(tmp_path, **trusting(issuer)) as server:
        assert await tried(server, (await server.key(Scope.READ))) is OK
        assert issuer.asked == {}


async def test_the_issuer_is_asked_where_its_keys_are(tmp_path: Path, issuer: Issuer) -> None:
    async with guarded(tmp_path, **trusting(issuer, jwks_url="")) as server:
        assert await tried(server, issuer.token()) is OK
        assert issuer.asked == {DISCOVERY: 1, JWKS: 1}


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://other.example", "jwks_uri": "KEYS"},
        {"issuer": "ISSUER", "jwks_uri": "http://example.org/keys"},
        {"issuer": "ISSUER", "jwks_uri": "file:///etc/passwd"},
        {"issuer": "ISSUER", "jwks_uri": 7},
        {"issuer": "ISSUER"},
        [],
    ],
)
async def test_a_discovery_document_that_points_elsewhere_is_not_followed(
    tmp_path: Path, issuer: Issuer, document: Any
) -> None:
    text = json.dumps(document).replace("ISSUER", issuer.url).replace("KEYS", issuer.url + JWKS)
    issuer.documents[DISCOVERY] = text.encode()
    async with guarded(tmp_path, **trusting(issuer, jwks_url="")) as server:
        assert await tried(server, issuer.token()) is UNAVAILABLE
    assert JWKS not in issuer.asked


@pytest.mark.parametrize(
    ("claims", "cause"),
    [
        ({"exp": int(time.time()) - 60}, "token_expired"),
        ({"exp": None}, "token_claims"),
        ({"exp": "soon"}, "token_malformed"),
        ({"nbf": int(time.time()) + 36_000}, "token_not_yet"),
        ({"iat": int(time.time()) + 36_000}, "token_not_yet"),
        ({"aud": "another"}, "token_audience"),
        ({"aud": None}, "token_claims"),
        ({"iss": "https://other.example"}, "token_issuer"),
        ({"iss": None}, "token_claims"),
        ({"sub": None}, "token_claims"),
        ({"sub": ""}, "token_claims"),
        ({"sub": "a\nb"}, "token_claims"),
        ({"sub": "a" * 201}, "token_claims"),
        ({"tenant": None}, "token_claims"),
        ({"tenant": "ACME"}, "token_claims"),
        ({"tenant": "acme.notes"}, "token_claims"),
        ({"tenant": ["acme"]}, "token_claims"),
        ({"padding": "a" * 9_000}, "token_oversized"),
    ],
)
async def test_a_token_that_claims_wrongly_is_refused_and_counted(
    tmp_path: Path, issuer: Issuer, claims: dict[str, Any], cause: str
) -> None:
    before = refusals(cause)
    async with guarded(tmp_path, **trusting(issuer)) as server:
        assert await tried(server, issuer.token(**claims)) is UNAUTHENTICATED
        assert server.retriever.callers == []
    assert refusals(cause) == before + 1


def packed(value: Any) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def forgeries(issuer: Issuer) -> dict[str, str]:
    """Tokens of good claims that the issuer did not sign."""
    good, claims = issuer.token(), issuer.claims()
    head, body, signature = good.split(".")
    key, _ = issuer.keys["first"]
    pem = key.public_key().public_bytes(*_pem())
    hashed = f"{packed({'alg': 'HS256', 'kid': 'first'})}.{body}"
    richer = packed({**claims, "scope": "read write admin", "tenant": "rival"})
    return {
        "another key": jwt.encode(claims, rsa_key(), "RS256", headers={"kid": "first"}),
        "none": f"{packed({'alg': 'none', 'kid': 'first'})}.{body}.",
        "none with a signature": f"{packed({'alg': 'none', 'kid': 'first'})}.{body}.{signature}",
        "None": f"{packed({'alg': 'None', 'kid': 'first'})}.{body}.",
        "no algorithm": f"{packed({'kid': 'first'})}.{body}.{signature}",
        "algorithm of no name": f"{packed({'alg': ['RS256'], 'kid': 'first'})}.{body}.{signature}",
        "the public key as a secret": f"{hashed}.{packed(hmac.new(pem, hashed.encode(), hashlib.sha256).digest())}",
        "an algorithm that is not allowed": jwt.encode(claims, key, "RS512", headers={"kid": "first"}),
        "an algorithm of other keys": jwt.encode(claims, new_key("ES256"), "ES256", headers={"kid": "first"}),
        "other claims": f"{head}.{richer}.{signature}",
        "no signature": f"{head}.{body}.",
        "half a signature": good[:-20],
        "a made-up key id": jwt.encode(claims, key, "RS256", headers={"kid": "second"}),
        "a path as key id": jwt.encode(claims, key, "RS256", headers={"kid": "../../etc/passwd"}),
        "no key id": jwt.encode(claims, key, "RS256"),
        "a number as key id": f"{packed({'alg': 'RS256', 'kid': 7})}.{body}.{signature}",
        "a key in its header": jwt.encode(claims, rsa_key(), "RS256", headers={"jwk": {"kty": "RSA"}, "kid": "mine"}),
        "a critical extension": jwt.encode(claims, key, "RS256", headers={"kid": "first", "crit": ["x"], "x": 1}),
        "no JSON": f"{packed(b'nonsense')}.{body}.{signature}",
        "a list": f"{packed([])}.{body}.{signature}",
        "nested without end": f"{packed(b'[' * 4_000)}.{body}.{signature}",
        "dots": "...",
        "two parts": f"{head}.{body}",
        "five parts": f"{good}.a.b",
    }


def _pem() -> tuple[Any, Any]:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return Encoding.PEM, PublicFormat.SubjectPublicKeyInfo


async def test_no_forgery_gets_in(tmp_path: Path, issuer: Issuer) -> None:
    async with guarded(tmp_path, **trusting(issuer)) as server:
        found = {name: await tried(server, token) for name, token in forgeries(issuer).items()}
        assert {name: code for name, code in found.items() if code is not UNAUTHENTICATED} == {}
        assert server.retriever.callers == []
        assert await tried(server, issuer.token()) is OK
    assert issuer.asked[JWKS] == 1  # made-up key ids cause no request each


async def test_the_clocks_may_differ_a_little(tmp_path: Path, issuer: Issuer) -> None:
    now = int(time.time())
    async with guarded(tmp_path, **trusting(issuer, jwt_leeway_s=120)) as server:
        assert await tried(server, issuer.token(exp=now - 60)) is OK
        assert await tried(server, issuer.token(nbf=now + 60)) is OK
        assert await tried(server, issuer.token(exp=now - 300)) is UNAUTHENTICATED


async def test_scopes_and_tenant_come_from_the_claims_that_are_named(tmp_path: Path, issuer: Issuer) -> None:
    named = {
        "jwt_tenant_claim": "https://example.org/org", "jwt_scopes_claim": "realm_access.roles",
        "jwt_scope_prefix": "murphey:",
    }  # fmt: skip
    roles = {"roles": ["murphey:read", "murphey:admin", "write", "murphey:internal", "murphey:public", 7]}
    rival: dict[str, Any] = {"https://example.org/org": "rival"}
    token = issuer.token(**rival, realm_access=roles)
    async with guarded(tmp_path, **trusting(issuer, **named)) as server:
        assert await tried(server, token) is OK
        assert await tried(server, issuer.token(**rival)) is DENIED  # no scope
        assert server.retriever.callers == [Identity("jwt:ada", "rival", frozenset({Scope.READ, Scope.ADMIN}))]
    async with guarded(tmp_path, **trusting(issuer, jwt_tenant_claim="")) as server:
        assert await tried(server, issuer.token()) is OK
        assert [caller and caller.tenant for caller in server.retriever.callers] == ["default"]


async def test_a_new_key_is_fetched_when_it_is_first_seen_but_not_again_and_again(
    tmp_path: Path, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with guarded(tmp_path, **trusting(issuer)) as server:
        assert await tried(server, issuer.token()) is OK
        issuer.add("second", "ES256")
        assert await tried(server, issuer.token("second")) is UNAUTHENTICATED  # asked a moment ago
        assert issuer.asked == {JWKS: 1}
        monkeypatch.setattr(issuer_keys, "UNKNOWN_EVERY_S", 0.0)
        assert await tried(server, issuer.token("second")) is OK
        assert issuer.asked == {JWKS: 2}


async def test_a_key_that_is_withdrawn_is_refused_once_keys_are_fetched_again(
    tmp_path: Path, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer.add("second", "ES256")
    async with guarded(tmp_path, **trusting(issuer)) as server:
        token = issuer.token("second")
        assert await tried(server, token) is OK
        issuer.publish([published(issuer.keys["first"][0], "first", "RS256")])
        assert await tried(server, token) is OK
        monkeypatch.setattr(issuer_keys, "FRESH_S", 0.0)
        assert await tried(server, token) is UNAUTHENTICATED


async def test_the_issuers_outage_is_not_ours(tmp_path: Path, issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    async with guarded(tmp_path, **trusting(issuer)) as server:
        assert await tried(server, issuer.token()) is OK
        issuer.status = 503
        monkeypatch.setattr(issuer_keys, "FRESH_S", 0.0)
        assert await tried(server, issuer.token()) is OK
        assert issuer.asked == {JWKS: 2}
        assert await tried(server, issuer.token()) is OK
        assert issuer.asked == {JWKS: 2}  # not asked again at once
        monkeypatch.setattr(issuer_keys, "STALE_S", 0.0)
        assert await tried(server, issuer.token()) is UNAVAILABLE
        assert await tried(server, await server.key(Scope.READ)) is OK


async def test_an_issuer_that_hangs_holds_up_one_call_alone(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = issuer_keys.IssuerKeys(issuer.url, issuer.url + JWKS)
    known = await keys.find("first")
    for name, seconds in (("FRESH_S", 0.0), ("TIMEOUT_S", 0.3), ("FAILED_EVERY_S", 0.3)):
        monkeypatch.setattr(issuer_keys, name, seconds)
    issuer.answering.clear()
    assert await asyncio.gather(*(keys.find("first") for _ in range(20))) == [known] * 20
    assert issuer.asked[JWKS] <= 2


@pytest.mark.parametrize(
    "body",
    [
        b"nonsense", b"[]", b"{}", b'{"keys": {}}', b'{"keys": [' + b"{}," * 100 + b"{}]}", b"[" * 100_000,
        b'{"keys": []}' + b" " * 300_000,
    ],
    ids=["nonsense", "list", "empty", "no list", "too many", "nested", "too large"],
)  # fmt: skip
async def test_what_is_no_jwks_is_not_taken(tmp_path: Path, issuer: Issuer, body: bytes) -> None:
    issuer.documents[JWKS] = body
    async with guarded(tmp_path, **trusting(issuer)) as server:
        assert await tried(server, issuer.token()) is UNAVAILABLE


async def test_a_redirect_is_not_followed(tmp_path: Path, issuer: Issuer) -> None:
    issuer.status = 302
    async with guarded(tmp_path, **trusting(issuer)) as server:
        assert await tried(server, issuer.token()) is UNAVAILABLE


async def test_an_issuer_that_never_answers_is_given_up(
    tmp_path: Path, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuer_keys, "TIMEOUT_S", 0.2)
    issuer.answering.clear()
    async with guarded(tmp_path, **trusting(issuer)) as server:
        assert await tried(server, issuer.token()) is UNAVAILABLE


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
async def test_keys_that_prove_nothing_are_passed_over(tmp_path: Path, issuer: Issuer) -> None:
    weak, key = rsa_key(1024), issuer.keys["first"][0]
    good = published(key, "first", "RS256")
    issuer.keys |= {"weak": (weak, "RS256"), "encrypting": (key, "RS256"), "other": (key, "RS256")}
    issuer.publish([
        published(weak, "weak", "RS256"),
        published(key, "encrypting", "RS256", use="enc"),
        published(key, "other", "PS256"),
        {"kty": "oct", "kid": "secret", "k": packed(b"a secret")},
        {"kty": "RSA", "kid": "broken"},
        {"kty": "EC", "crv": "P-1", "kid": "curve", "x": "AA", "y": "AA"},
        good | {"kid": 7},
        {key: value for key, value in good.items() if key != "alg"},
    ])  # fmt: skip
    hashed = jwt.encode(issuer.claims(), b"a secret" * 4, "HS256", headers={"kid": "secret"})
    async with guarded(tmp_path, **trusting(issuer)) as server:
        assert await tried(server, issuer.token()) is OK
        for identifier in ("weak", "encrypting", "other"):
            assert await tried(server, issuer.token(identifier)) is UNAUTHENTICATED, identifier
        assert await tried(server, hashed) is UNAUTHENTICATED


async def test_a_refused_token_is_logged_once_and_told_to_nobody(
    tmp_path: Path, issuer: Issuer, capfd: pytest.CaptureFixture[str]
) -> None:
    logs.configure("mesh")
    token = issuer.token(aud="another", secret="the plan")  # noqa: S106
    async with guarded(tmp_path, **trusting(issuer)) as server, calling(server, bearer(token)) as stub:
        from murphey.retriever.v1 import retriever_pb2 as pb

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Search(pb.SearchRequest(), timeout=20)
    written = capfd.readouterr().err
    lines = [json.loads(line) for line in written.splitlines() if "UNAUTHENTICATED" in line]
    assert [line["refused"] for line in lines] == [caught.value.details()]
    assert not [part for part in token.split(".") if part in written + str(caught.value)]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"auth": "off"}, 'auth = "keys"'),
        ({"jwt_audience": ""}, "needs jwt_audience"),
        ({"jwks_url": "http://login.example/keys"}, "https://"),
        ({"jwks_url": "file:///etc/keys"}, "https://"),
        ({"jwks_url": "", "jwt_issuer": "http://login.example"}, "https://"),
        ({"jwt_issuer": ""}, "set that too"),
        ({"jwt_algorithms": ("none",)}, "jwt_algorithms"),
        ({"jwt_algorithms": ("HS256",)}, "jwt_algorithms"),
        ({"jwt_algorithms": ()}, "jwt_algorithms"),
        ({"jwt_leeway_s": 10_000}, "jwt_leeway_s"),
    ],
)
def test_settings_that_would_let_anybody_in_are_refused(wrong: dict[str, Any], said: str) -> None:
    good: dict[str, Any] = {
        "auth": "keys",
        "jwt_issuer": "https://login.example",
        "jwks_url": "",
        "jwt_audience": AUDIENCE,
    }
    ServiceSettings(**good)
    with pytest.raises(ValidationError, match=said):
        ServiceSettings(**{**good, **wrong})
