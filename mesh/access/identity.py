"""Who makes the current call. The gate sets it; stores, quotas and logs may ask for it."""

from contextvars import ContextVar
from dataclasses import dataclass

from mesh.access.roles import Scope

DEFAULT_TENANT = "default"
TENANT = "murphey-tenant"
"""Metadata by which a service tells for whom it calls; from anyone else it means nothing."""
UNASKED = "unasked"
"""The caller where nobody is asked who he is."""


@dataclass(frozen=True)
class Identity:
    """A caller who has proved who it is: `caller` is the id of its key, or `internal` for a service of this mesh."""

    caller: str
    tenant: str
    scopes: frozenset[Scope]

    def may(self, scope: Scope) -> bool:
        """Whether it may do what needs the scope. A service may do everything."""
        return scope in self.scopes or Scope.INTERNAL in self.scopes


current: ContextVar[Identity | None] = ContextVar("identity", default=None)
"""The current call's caller; None outside a call, and where nobody is asked who he is."""
