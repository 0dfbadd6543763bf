"""Tenants: for whom a call is, and under which names the stores keep what is theirs.

Every store keeps a collection under an id that begins with its tenant, `acme.notes`; callers say and see `collections/notes`.
`mesh.names` turns the one into the other at the door of each service, so that a store cannot meet another tenant's
collection by any name that a caller writes: no name from outside holds the dot. The default tenant's ids have no such
beginning, which makes every data folder from before there were tenants its own.

Each tenant's chunks are in indexes of their own, not behind a filter in a shared one. A filter that is forgotten once is a
leak, and one that is not leaks still: the weights of words (IDF) count every tenant's documents, so that scores tell what
others write about. A tenant's deletion is its indexes' too. The price is an index for each collection of each tenant.
"""

import re

from mesh.access import identity
from mesh.access.identity import DEFAULT_TENANT

_TENANT = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_SCOPED = re.compile(rf"(collections/)?({_TENANT.pattern})\.")
_KIND = "collections/"


def is_tenant(text: str) -> bool:
    """1 to 63 lower-case letters, digits and hyphens, no hyphen first."""
    return _TENANT.fullmatch(text) is not None


def current() -> str:
    """The tenant that the current call is for; outside a call, and where nobody is asked who he is, the default one."""
    caller = identity.current.get()
    return DEFAULT_TENANT if caller is None else caller.tenant


def scoped(public_name: str, tenant: str) -> str:
    """How stores know a collection, by id or by name, or what is in it: `collections/notes` -> `collections/acme.notes`."""
    if tenant == DEFAULT_TENANT:
        return public_name
    kind = _KIND if public_name.startswith(_KIND) else ""
    return f"{kind}{tenant}.{public_name.removeprefix(_KIND)}"


def public(scoped_name: str) -> str:
    """How its tenant knows it: `collections/acme.notes` -> `collections/notes`."""
    found = _SCOPED.match(scoped_name)
    return (found[1] or "") + scoped_name[found.end() :] if found else scoped_name


def tenant_of(scoped_name: str) -> str:
    """Whose it is: `acme.notes` -> `acme`."""
    found = _SCOPED.match(scoped_name)
    return found[2] if found else DEFAULT_TENANT
