"""Prometheus metrics of a service, named `murphey_…`, served on a port of its own."""

from prometheus_client import Counter, Gauge, Histogram, start_http_server

LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


def counter(name: str, description: str, labels: tuple[str, ...] = ()) -> Counter:
    """Counts events: `murphey_{name}_total`."""
    return Counter(f"murphey_{name}", description, labels)


def gauge(name: str, description: str, labels: tuple[str, ...] = ()) -> Gauge:
    """Shows a level: `murphey_{name}`."""
    return Gauge(f"murphey_{name}", description, labels)


def histogram(name: str, description: str, labels: tuple[str, ...] = ()) -> Histogram:
    """Distributes seconds over buckets: `murphey_{name}`; the name ends in `_seconds`."""
    return Histogram(f"murphey_{name}", description, labels, buckets=LATENCY_BUCKETS_S)


def serve(host: str, port: int) -> None:
    """Answers `GET /metrics` from a thread of its own."""
    start_http_server(port, host)
