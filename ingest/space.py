"""How much each tenant keeps, and whether more of it fits into its quota: documents, and bytes of their files.

Counted in the database now and then, since other workers take documents in too; what came in here meanwhile is added. An
archive is taken in as what it is, and its members are counted once they are there.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa
from cachetools import LRUCache

from ingest.database import Database
from ingest.tables import documents, of_tenant, versions
from mesh import metrics
from mesh.access.quota_settings import Quota
from mesh.access.quotas import count_refusal
from mesh.access.tenants import tenant_of
from mesh.errors import QuotaExceeded

MEBIBYTE = 1024 * 1024
COUNTED_FOR_S = 5.0
SHARE_OF_TIME = 0.02
"""Counting many documents takes long; it is then done less often, so that it takes no more of the time than this."""
MAX_TENANTS = 10_000
RETRY_AFTER_S = 60.0

_BYTES = metrics.gauge("tenant_stored_bytes", "Bytes of files that a tenant keeps, as last counted.", ("tenant",))
_DOCUMENTS = metrics.gauge("tenant_documents", "Documents that a tenant keeps, as last counted.", ("tenant",))


@dataclass
class _Kept:
    """What a tenant has, as counted at `at_s` and what has come since."""

    stored_bytes: int
    documents: int
    good_until_s: float


class Space:
    """The room of all tenants."""

    def __init__(self, database: Database, service: str, quota_of: Callable[[str], Quota]) -> None:
        self._database, self._service, self._quota_of = database, service, quota_of
        self._kept: LRUCache[str, _Kept] = LRUCache(MAX_TENANTS)

    async def check(self, collection: str, size_bytes: int) -> None:
        """QuotaExceeded where a file of this size would not fit any more. A size of 0 is one that is not known yet."""
        tenant = tenant_of(collection)
        quota = self._quota_of(tenant)
        if not (quota.storage_mib or quota.documents):
            return
        kept = await self._counted(tenant)
        if quota.documents and kept.documents >= quota.documents:
            raise self._refused(tenant, "documents", f"{kept.documents:,} documents, of {quota.documents:,}")
        if quota.storage_mib and kept.stored_bytes + size_bytes > quota.storage_mib * MEBIBYTE:
            held = f"{kept.stored_bytes / MEBIBYTE:,.0f} MiB of files, of {quota.storage_mib:,} MiB"
            raise self._refused(tenant, "storage", held)

    def taken(self, collection: str, size_bytes: int) -> None:
        """A file has come in."""
        if (kept := self._kept.get(tenant_of(collection))) is not None:
            kept.stored_bytes += size_bytes
            kept.documents += 1

    async def _counted(self, tenant: str) -> _Kept:
        now_s = time.monotonic()
        kept = self._kept.get(tenant)
        if kept is not None and now_s < kept.good_until_s:
            return kept
        size = sa.select(sa.func.coalesce(sa.func.sum(versions.c.size_bytes), 0))
        number = sa.select(sa.func.count()).select_from(documents)
        async with self._database.read() as connection:
            stored = (await connection.execute(size.where(of_tenant(versions.c.collection, tenant)))).scalar_one()
            found = (await connection.execute(number.where(of_tenant(documents.c.collection, tenant)))).scalar_one()
        took_s = time.monotonic() - now_s
        kept = _Kept(int(stored), found, now_s + max(COUNTED_FOR_S, took_s / SHARE_OF_TIME))
        self._kept[tenant] = kept
        label = metrics.tenant_label(tenant)
        _BYTES.labels(label).set(kept.stored_bytes)
        _DOCUMENTS.labels(label).set(kept.documents)
        return kept

    def _refused(self, tenant: str, kind: str, held: str) -> QuotaExceeded:
        count_refusal(self._service, tenant, kind)
        what = f"The tenant {tenant} keeps {held} that its quota allows. Delete some, or have the quota raised."
        return QuotaExceeded(what, retry_after_s=RETRY_AFTER_S)
