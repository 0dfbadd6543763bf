"""Prometheus metrics of a service, named `murphey_…`, served on a port of its own."""

from importlib.metadata import version

from prometheus_client import Counter, Gauge, Histogram, start_http_server

LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
MAX_TENANT_LABELS = 100
"""A time series each, for each metric that tells tenants apart."""
_tenants: set[str] = set()
SCORE_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)


def counter(name: str, description: str, labels: tuple[str, ...] = ()) -> Counter:
    """Counts events: `murphey_{name}_total`."""
    return Counter(f"murphey_{name}", description, labels)


def gauge(name: str, description: str, labels: tuple[str, ...] = ()) -> Gauge:
    """Shows a level: `murphey_{name}`."""
    return Gauge(f"murphey_{name}", description, labels)


def histogram(
    name: str, description: str, labels: tuple[str, ...] = (), buckets: tuple[float, ...] = LATENCY_BUCKETS_S
) -> Histogram:
    """Distributes values over buckets: `murphey_{name}`. One of seconds has a name that ends in `_seconds`."""
    return Histogram(f"murphey_{name}", description, labels, buckets=buckets)


def tenant_label(tenant: str) -> str:
    """A tenant as a label: the first MAX_TENANT_LABELS that this process meets by their names, all others as `other`."""
    if tenant in _tenants or len(_tenants) < MAX_TENANT_LABELS:
        _tenants.add(tenant)
        return tenant
    return "other"


_BUILD = gauge("build_info", "1, with the version that runs as a label.", ("service", "version"))


def announce(service: str) -> None:
    """Shows which service this process is, in which version."""
    _BUILD.labels(service, version("murphey")).set(1)


def serve(host: str, port: int) -> None:
    """Answers `GET /metrics` from a thread of its own."""
    start_http_server(port, host)
