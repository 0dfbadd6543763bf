"""Connections to public addresses only. A name is looked up once and connected to as found: nobody can change it between."""

import asyncio
import ipaddress
import socket
from collections.abc import Iterable

import httpcore

from ingest.sources import Unreadable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Network(httpcore.AsyncNetworkBackend):
    """Connects, and refuses addresses of this machine, of private networks and of link-local services unless allowed."""

    def __init__(self, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._plain: httpcore.AsyncNetworkBackend = httpcore.AnyIOBackend()  # pyright: ignore[reportAttributeAccessIssue]

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface of httpcore
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await _look_up(host, port)
        if not self._allow_private:
            check_public(host, addresses)
        failure: Exception | None = None
        for address in addresses:
            try:
                return await self._plain.connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure or httpcore.ConnectError(f"{host} has no address")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def check_public(host: str, addresses: Iterable[Address]) -> None:
    """Unreadable unless all addresses are public."""
    for address in addresses:
        if not _is_public(address):
            raise Unreadable(
                f"{host} has the address {address}, which is not a public one. Allow such addresses with --allow-private."
            )


def _is_public(address: Address) -> bool:
    """An IPv6 address that stands for an IPv4 one is what that one is."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return _is_public(inner)
    return address.is_global and not address.is_multicast and not address.is_reserved


async def _look_up(host: str, port: int) -> list[Address]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Unreadable(f"{host} cannot be found: {error.strerror}") from error
    return [ipaddress.ip_address(str(entry[4][0]).split("%")[0]) for entry in found]
