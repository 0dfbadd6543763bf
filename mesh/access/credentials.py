"""What a caller shows: an API key for a person's command, the internal key for a service that calls another one.

A channel adds it to each call as metadata. (grpc's own call credentials start a thread a call, and want TLS.)
"""

from collections.abc import Callable
from typing import Any

import grpc.aio

from mesh.access import identity
from mesh.access.internal import internal_key
from mesh.settings import ServiceSettings

Metadata = list[tuple[str, str]]
Credential = Callable[[], Metadata]
"""Asked at each call."""


def api_key(key: str) -> Credential:
    """A person's."""
    metadata = [("authorization", f"Bearer {key}")]
    return lambda: metadata


def of_service(settings: ServiceSettings) -> Credential | None:
    """A service's, which also tells for which tenant it calls; None where nobody asks for one."""
    if settings.auth == "off":
        return None
    authorization = ("authorization", f"Bearer {internal_key(settings.internal_key_file, settings.data)}")

    def metadata() -> Metadata:
        caller = identity.current.get()
        return [authorization] if caller is None else [authorization, (identity.TENANT, caller.tenant)]

    return metadata


class CredentialedChannel(grpc.aio.Channel):
    """A channel whose calls carry a credential. All else is the channel's own."""

    def __init__(self, channel: grpc.aio.Channel, credential: Credential) -> None:
        self._channel = channel
        self._credential = credential

    def unary_unary(self, *args: Any, **options: Any) -> Any:
        return self._credentialed(self._channel.unary_unary(*args, **options))

    def unary_stream(self, *args: Any, **options: Any) -> Any:
        return self._credentialed(self._channel.unary_stream(*args, **options))

    def stream_unary(self, *args: Any, **options: Any) -> Any:
        return self._credentialed(self._channel.stream_unary(*args, **options))

    def stream_stream(self, *args: Any, **options: Any) -> Any:
        return self._credentialed(self._channel.stream_stream(*args, **options))

    def _credentialed(self, method: Any) -> Callable[..., Any]:
        def call(*args: Any, metadata: Any = None, **options: Any) -> Any:
            return method(*args, metadata=[*(metadata or ()), *self._credential()], **options)

        return call

    async def close(self, grace: float | None = None) -> None:
        await self._channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._channel.channel_ready()

    async def __aenter__(self) -> "CredentialedChannel":
        await self._channel.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._channel.__aexit__(*error)
