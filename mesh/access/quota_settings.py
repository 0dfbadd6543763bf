"""How much a tenant may ask for and keep, as it stands in the settings."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

from mesh.access.tenants import is_tenant

EVERYBODY = "*"


class Quota(BaseModel):
    """A tenant's share; 0 is no bound. What a tenant's own entry does not say is as for everybody."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests_per_s: float = Field(default=100.0, ge=0, description="Calls a second of each service, over time.")
    burst_requests: int = Field(default=0, ge=0, description="Calls at once; 0 means twice those of a second.")
    tokens_per_minute: int = Field(default=1_000_000, ge=0, description="Tokens of prompts and answers together.")
    storage_mib: int = Field(default=102_400, ge=0, description="Bytes of files that are kept.")
    documents: int = Field(default=1_000_000, ge=0, description="Documents, those in archives included.")

    @property
    def burst(self) -> float:
        """How many calls may come at once."""
        return float(self.burst_requests or max(1.0, 2 * self.requests_per_s))


UNBOUNDED = Quota(requests_per_s=0, tokens_per_minute=0, storage_mib=0, documents=0)


def quota_of(quotas: Mapping[str, Quota], tenant: str) -> Quota:
    """The tenant's: its own entry over that of everybody over the defaults."""
    said = {
        field: getattr(quotas[entry], field)
        for entry in (EVERYBODY, tenant)
        if entry in quotas
        for field in quotas[entry].model_fields_set
    }
    return Quota(**said)


def check_tenants(quotas: Mapping[str, Quota]) -> Mapping[str, Quota]:
    """The same. ValueError for an entry that is for nobody."""
    for name in quotas:
        if name != EVERYBODY and not is_tenant(name):
            raise ValueError(f"{name!r} is no tenant: use lower-case letters, digits and hyphens, or * for everybody.")
    return quotas
