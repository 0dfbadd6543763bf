"""How much each tenant may ask for: requests and tokens by the time, and what of both is left.

Buckets of this process: with several replicas of a service each gives its own share, so that a tenant gets as many times what
is set as there are replicas. Sharing them would cost every call a round trip to a database, for a bound that protects others
from a tenant and need not be exact. They begin full, so that a restart forgives.

Libraries for rate limits count what is asked for before it is done. Tokens are known when they have been generated: here a
tenant goes into debt and waits until that is worked off, which those cannot.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from cachetools import LRUCache

from mesh import metrics
from mesh.access.identity import Identity
from mesh.access.quota_settings import Quota
from mesh.access.roles import Scope
from mesh.errors import RateLimited
from mesh.settings import ServiceSettings

MAX_TENANTS = 10_000
"""Whose buckets are kept; those that asked longest ago begin anew."""
MINUTE_S = 60.0

_REFUSED = metrics.counter(
    "quota_refusals", "Calls refused because of their tenant's quota.", ("service", "tenant", "kind")
)
_TOKENS = metrics.counter("tenant_tokens", "Tokens of prompts and of completions, by tenant.", ("tenant", "kind"))


@dataclass
class Bucket:
    """Fills with `rate` a second, up to `capacity` (the token bucket of RFC 2697, which may here go below empty)."""

    rate: float
    capacity: float
    level: float
    at_s: float

    def wait_s(self, amount: float, now_s: float) -> float:
        """How long until it holds the amount: 0 when it does."""
        self.level = min(self.capacity, self.level + (now_s - self.at_s) * self.rate)
        self.at_s = now_s
        return max(0.0, (amount - self.level) / self.rate)

    def take(self, amount: float) -> None:
        """Takes the amount, whether it holds that or not."""
        self.level -= amount


class Quotas:
    """The buckets of all tenants of a service. `clock` is in seconds."""

    def __init__(self, settings: ServiceSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._service, self._quota_of, self._clock = settings.service, settings.quota_of, clock
        self._requests: LRUCache[str, Bucket] = LRUCache(MAX_TENANTS)
        self._tokens: LRUCache[str, Bucket] = LRUCache(MAX_TENANTS)

    def admit(self, caller: Identity) -> None:
        """Counts a call. RateLimited when the tenant has had its share. Calls of services among themselves were counted when
        their own caller came in.
        """
        if Scope.INTERNAL in caller.scopes:
            return
        quota = self._quota_of(caller.tenant)
        if not quota.requests_per_s:
            return
        bucket = self._bucket(self._requests, caller.tenant, quota.requests_per_s, quota.burst)
        if wait_s := bucket.wait_s(1.0, self._clock()):
            raise self._refused(caller.tenant, "requests", f"{quota.requests_per_s:g} requests a second", wait_s)
        bucket.take(1.0)

    def admit_tokens(self, caller: Identity | None) -> None:
        """RateLimited while the caller's tenant has used up its tokens, for whichever service it is asked."""
        if caller is None or not (quota := self._quota_of(caller.tenant)).tokens_per_minute:
            return
        if wait_s := self._token_bucket(caller.tenant, quota).wait_s(1.0, self._clock()):
            raise self._refused(caller.tenant, "tokens", f"{quota.tokens_per_minute:,} tokens a minute", wait_s)

    def spend_tokens(self, caller: Identity | None, kind: str, tokens: int) -> None:
        """Counts tokens of a kind, `prompt` or `completion`, that were used."""
        if caller is None or tokens <= 0:
            return
        _TOKENS.labels(metrics.tenant_label(caller.tenant), kind).inc(tokens)
        if (quota := self._quota_of(caller.tenant)).tokens_per_minute:
            bucket = self._token_bucket(caller.tenant, quota)
            bucket.wait_s(0.0, self._clock())
            bucket.take(tokens)

    def _token_bucket(self, tenant: str, quota: Quota) -> Bucket:
        capacity = float(quota.tokens_per_minute)
        return self._bucket(self._tokens, tenant, capacity / MINUTE_S, capacity)

    def _bucket(self, buckets: LRUCache[str, Bucket], tenant: str, rate: float, capacity: float) -> Bucket:
        if (found := buckets.get(tenant)) is None:
            found = buckets[tenant] = Bucket(rate, capacity, capacity, self._clock())
        return found

    def _refused(self, tenant: str, kind: str, share: str, wait_s: float) -> RateLimited:
        count_refusal(self._service, tenant, kind)
        return RateLimited(f"The tenant {tenant} has used its {share}. Try again later.", retry_after_s=wait_s)


def count_refusal(service: str, tenant: str, kind: str) -> None:
    """Counts a call that was refused because of a quota."""
    _REFUSED.labels(service, metrics.tenant_label(tenant), kind).inc()
