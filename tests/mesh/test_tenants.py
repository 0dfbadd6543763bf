"""Names of collections between callers and stores: no name from outside reaches another tenant's."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh import logs
from mesh.access import identity, tenants
from mesh.access.identity import Identity
from mesh.errors import InvalidInput
from mesh.names import collection_id, collection_name, document_ids, document_name

TENANTS = st.from_regex(r"\A[a-z0-9][a-z0-9-]{0,30}\Z")
COLLECTIONS = st.from_regex(r"\A[a-z0-9][a-z0-9_-]{0,63}\Z")
DOCUMENTS = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,40}\Z")


def calling_for(tenant: str) -> None:
    """Each test's context is its own, and is thrown away with it."""
    identity.current.set(Identity("key", tenant, frozenset()))


@pytest.fixture(autouse=True)
def outside_a_call() -> object:
    token = identity.current.set(None)
    yield
    identity.current.reset(token)


@given(TENANTS, COLLECTIONS, DOCUMENTS)
def test_what_a_caller_writes_is_what_it_reads(tenant: str, collection: str, document: str) -> None:
    calling_for(tenant)
    written = f"collections/{collection}/documents/{document}"
    identifier, found = document_ids(written)
    assert document_name(identifier, found) == written
    assert collection_name(identifier) == f"collections/{collection}"
    assert tenants.tenant_of(identifier) == tenant
    scoped = tenants.scoped(written, tenant)
    assert (tenants.public(scoped), tenants.tenant_of(scoped)) == (written, tenant)


@given(TENANTS, TENANTS, COLLECTIONS, COLLECTIONS)
def test_two_tenants_never_have_the_same_id(one: str, other: str, first: str, second: str) -> None:
    calling_for(one)
    mine = collection_id(f"collections/{first}")
    calling_for(other)
    theirs = collection_id(f"collections/{second}")
    assert (mine == theirs) == (one == other and first == second)


@given(st.text(max_size=40))
def test_no_name_has_a_tenant_in_it(identifier: str) -> None:
    calling_for("acme")
    try:
        found = collection_id(f"collections/{identifier}")
    except InvalidInput:
        return
    assert found == f"acme.{identifier}"


@pytest.mark.parametrize(
    "name", ["collections/acme.notes", "collections/.notes", "collections/acme./notes", "acme.notes"]
)
def test_a_scoped_name_from_outside_is_none(name: str) -> None:
    with pytest.raises(InvalidInput, match="not a collection's name"):
        collection_id(name)


def test_outside_a_call_and_for_the_default_tenant_ids_are_as_they_always_were() -> None:
    assert collection_id("") == "default"
    assert collection_id("collections/notes") == "notes"
    calling_for("default")
    assert collection_id("collections/notes") == "notes"


def test_a_tenants_own_default_collection() -> None:
    calling_for("acme")
    assert collection_id("") == "acme.default"
    assert collection_name("acme.default") == "collections/default"


def test_an_id_that_is_too_long_with_its_tenant_is_refused() -> None:
    calling_for("a" * 63)
    assert collection_id(f"collections/{'n' * 36}")
    with pytest.raises(InvalidInput, match="too long for the tenant"):
        collection_id(f"collections/{'n' * 37}")


def test_lines_of_the_log_say_for_whom_a_call_was(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure("mesh")
    log = logs.get("mesh.test")
    log.info("outside")
    calling_for("acme")
    log.info("inside")
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [(line["event"], line.get("tenant")) for line in lines] == [("outside", None), ("inside", "acme")]
