"""Channels to other services: balanced, health-checked, kept alive; retries only where a call may be repeated."""

import json

import grpc.aio
import grpc_health.v1.health  # noqa: F401 - registers the client's health check

from mesh.access.credentials import Access, AccessChannel

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""Largest message either side takes: a batch of 2,048 embeddings of 4,096 dimensions fits."""

OPEN = Access()
KEEPALIVE_OPTIONS = [  # a peer that is gone without a word is found within fifteen seconds while calls wait for it
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
]
DIRECT_OPTIONS = [("grpc.enable_http_proxy", 0)]
"""A proxy that the environment names (https_proxy and the like) is the way out to the web, not to the services of a mesh."""
SIZE_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
]


def open_channel(target: str, service: str, idempotent: list[str], access: Access = OPEN) -> grpc.aio.Channel:
    """A channel to `host:port` or any gRPC target.

    `service` is the full name such as `murphey.retriever.v1.RetrieverService`; `idempotent` are its methods that may be
    sent again when the server was not reached or is restarting, a stream until its first message; `access` is what the
    service asks of its callers. Close it with `await channel.close()`.
    """
    options = [
        ("grpc.service_config", json.dumps(_service_config(service, idempotent))),
        ("grpc.enable_retries", 1),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 500),
        *DIRECT_OPTIONS,
        *KEEPALIVE_OPTIONS,
        *SIZE_OPTIONS,
    ]
    address = target if ":///" in target else f"dns:///{target}"

    def make(tls: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
        if tls is None:
            return grpc.aio.insecure_channel(address, options=options)
        return grpc.aio.secure_channel(address, tls, options=options)

    return make(None) if access == OPEN else AccessChannel(access, make)


def _service_config(service: str, idempotent: list[str]) -> dict[str, object]:
    retry_policy = {
        "maxAttempts": 3,
        "initialBackoff": "0.3s",  # the two pauses together outlast a reconnect
        "maxBackoff": "1s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    names = [{"service": service, "method": method} for method in idempotent]
    return {
        "loadBalancingConfig": [{"round_robin": {}}],
        "healthCheckConfig": {"serviceName": service},
        "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
        "methodConfig": [{"name": names, "retryPolicy": retry_policy}] if names else [],
    }
