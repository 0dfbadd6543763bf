"""Resource names: `collections/{c}`, `collections/{c}/documents/{d}`, `jobs/{j}`, `models/{m}`, `conversations/{c}`.

The ids of collections that these functions give and take are those that stores know, with their tenant (mesh.access.tenants);
the names are those that callers write and read.
"""

import re

from mesh.access import tenants
from mesh.errors import InvalidInput

DEFAULT_COLLECTION = "default"
MAX_SCOPED_CHARACTERS = 100
"""Of a collection's id with its tenant: folders and tables are named by it, and the version of the index comes behind."""
_COLLECTION_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def collection_id(name: str, field: str = "collection") -> str:
    """The id of `collections/{id}` of the current call's tenant; an empty name is the default collection."""
    kind, _, identifier = (name or f"collections/{DEFAULT_COLLECTION}").partition("/")
    if kind != "collections" or not _COLLECTION_ID.fullmatch(identifier):
        raise InvalidInput(
            f"{name[:100]!r} is not a collection's name: write collections/ID, where ID is 1 to 64 lower-case letters, "
            "digits, - and _, a letter or digit first.",
            field=field,
        )
    scoped = tenants.scoped(identifier, tenants.current())
    if len(scoped) > MAX_SCOPED_CHARACTERS:
        raise InvalidInput(
            f"The collection's id {identifier!r} is too long for the tenant {tenants.current()}: both together may have "
            f"{MAX_SCOPED_CHARACTERS - 1} characters.",
            field=field,
        )
    return scoped


def collection_name(collection: str) -> str:
    """The resource name of a collection, as its tenant knows it, from its id."""
    return f"collections/{tenants.public(collection)}"


def resource_id(name: str, kind: str, field: str = "name") -> str:
    """The id in `{kind}/{id}`, such as `jobs/7f3a`."""
    found, _, identifier = name.partition("/")
    if found != kind or not _ID.fullmatch(identifier):
        raise InvalidInput(f"{name[:100]!r} is not a name of the form {kind}/ID.", field=field)
    return identifier


def document_ids(name: str, field: str = "name") -> tuple[str, str]:
    """The collection's and the document's id in `collections/{c}/documents/{d}` of the current call's tenant."""
    parts = name.split("/")
    if len(parts) != 4 or parts[2] != "documents" or not _ID.fullmatch(parts[3]):
        raise InvalidInput(f"{name[:100]!r} is not a document's name: write collections/ID/documents/ID.", field=field)
    return collection_id("/".join(parts[:2]), field), parts[3]


def document_name(collection: str, document: str) -> str:
    """The resource name of a document, as its tenant knows it, from ids."""
    return f"{collection_name(collection)}/documents/{document}"
