"""What a caller shows: an API key for a person's command, the internal key for a service that calls another one; and the
certificates of both sides where there is TLS.

A channel adds a key to each call as metadata. (grpc's own call credentials start a thread a call.)
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc.aio

from mesh.access.internal import internal_key
from mesh.access.tls import Certificates, client_certificates
from mesh.settings import ServiceSettings

LET_CALLS_END_S = 600.0
"""How long calls on a channel with an old certificate may go on."""
Metadata = list[tuple[str, str]]
Credential = Callable[[], Metadata]
"""Asked at each call."""


def api_key(key: str) -> Credential:
    """A person's or a service's."""
    metadata = [("authorization", f"Bearer {key}")]
    return lambda: metadata


@dataclass(frozen=True)
class Access:
    """How to get in to a service: nothing to show, and in plain, unless told."""

    credential: Credential | None = None
    certificates: Certificates | None = None


def of_service(settings: ServiceSettings) -> Access:
    """A service's, to the services that it calls."""
    return Access(_internal(settings), client_certificates(settings))


def _internal(settings: ServiceSettings) -> Credential | None:
    """For which tenant the service calls is told by `mesh.deadline.call_options`. None where nobody asks for a key."""
    if settings.auth == "off":
        return None
    return api_key(internal_key(settings.internal_key_file, settings.data))


class AccessChannel(grpc.aio.Channel):
    """A channel whose calls carry a credential and which is made anew when certificates are. All else is grpc's own."""

    def __init__(self, access: Access, make: Callable[[grpc.ChannelCredentials | None], grpc.aio.Channel]) -> None:
        self._access = access
        self._make = make
        self._leaving: set[asyncio.Task[None]] = set()
        self._open()

    def _open(self) -> None:
        self._pems = None if self._access.certificates is None else self._access.certificates.pems
        pems = self._pems
        self._channel = self._make(
            None if pems is None else grpc.ssl_channel_credentials(pems.roots, pems.key, pems.chain)
        )

    def _current(self) -> grpc.aio.Channel:
        certificates = self._access.certificates
        if certificates is not None:
            certificates.renewed()
            if certificates.pems is not self._pems:
                old = asyncio.create_task(self._channel.close(LET_CALLS_END_S))
                self._leaving.add(old)
                old.add_done_callback(self._leaving.discard)
                self._open()
        return self._channel

    def unary_unary(self, *args: Any, **options: Any) -> Any:
        return self._method("unary_unary", args, options)

    def unary_stream(self, *args: Any, **options: Any) -> Any:
        return self._method("unary_stream", args, options)

    def stream_unary(self, *args: Any, **options: Any) -> Any:
        return self._method("stream_unary", args, options)

    def stream_stream(self, *args: Any, **options: Any) -> Any:
        return self._method("stream_stream", args, options)

    def _method(self, kind: str, args: Any, made_with: Any) -> Callable[..., Any]:
        channel = self._channel
        method = getattr(channel, kind)(*args, **made_with)

        def call(*request: Any, metadata: Any = None, **options: Any) -> Any:
            nonlocal channel, method
            if (current := self._current()) is not channel:
                channel, method = current, getattr(current, kind)(*args, **made_with)
            shown = () if self._access.credential is None else self._access.credential()
            return method(*request, metadata=[*(metadata or ()), *shown], **options)

        return call

    async def close(self, grace: float | None = None) -> None:
        for task in self._leaving:
            task.cancel()
        await asyncio.gather(*self._leaving, return_exceptions=True)
        await self._channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._channel.channel_ready()

    async def __aenter__(self) -> "AccessChannel":
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self.close()
