"""Documents of the web by URL, streamed. Redirects are followed a few times, each checked as the first address was.

Not through obstore: its HTTP store follows redirects by itself, looks names up by itself, and refuses every answer
without a Content-Length, which is most pages.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit, urlunsplit

import httpcore

from ingest.documents import Metadata
from ingest.origins.addresses import Network
from ingest.origins.pacing import Pace, paced
from ingest.sources import WEB, Changed, Identity, Source, Unreadable, named

MAX_REDIRECTS = 5
AT_ONCE = 8
CONNECT_S, ANSWER_S = 10.0, 60.0
_REDIRECTS = (301, 302, 303, 307, 308)
_HEADERS = [("User-Agent", "murphey-ingest"), ("Accept", "*/*")]
_KEPT = "/%:@!$&'()*+,;=~-._?"


class Web:
    """Fetches. One for all documents of a command."""

    def __init__(self, pool: httpcore.AsyncConnectionPool) -> None:
        self._pool = pool

    @classmethod
    @asynccontextmanager
    async def open(cls, *, allow_private: bool) -> AsyncIterator["Web"]:
        """With connections of its own, closed on leaving."""
        network = Network(allow_private)
        async with httpcore.AsyncConnectionPool(max_connections=AT_ONCE, network_backend=network) as pool:
            yield cls(pool)

    def source(self, url: str, prefix: str) -> Source:
        """A document, called by its host, path and query."""
        parts = _parts(url)
        if problem := _problem(parts):
            return Source(url, prefix + url, problem=problem)
        path = "/".join(part for part in unquote(parts.path).split("/") if part)
        name = f"{parts.hostname}/{path}" if path else str(parts.hostname)
        return named(url, prefix + name + (f"?{parts.query}" if parts.query else ""), WebPage(self, url))

    @asynccontextmanager
    async def request(self, method: str, url: str) -> AsyncIterator[httpcore.Response]:
        """The answer at the end of the redirects. Unreadable."""
        timeouts = {"connect": CONNECT_S, "read": ANSWER_S, "write": ANSWER_S, "pool": None}
        async with AsyncExitStack() as stack:
            for _ in range(MAX_REDIRECTS + 1):
                stream = self._pool.stream(method, _in_ascii(url), headers=_HEADERS, extensions={"timeout": timeouts})
                try:
                    async with asyncio.timeout(CONNECT_S + ANSWER_S):
                        response = await stack.enter_async_context(stream)
                except (
                    TimeoutError,
                    httpcore.TimeoutException,
                    httpcore.NetworkError,
                    httpcore.ProtocolError,
                ) as error:
                    raise _unreadable(error) from error
                target = _header(response, "location")
                if response.status not in _REDIRECTS or not target:
                    yield response
                    return
                await stack.aclose()
                url = _redirected(url, target)
            raise Unreadable(f"It is redirected more than {MAX_REDIRECTS} times.")


@dataclass(frozen=True)
class WebPage:
    """What is at a URL. Its ETag, or else when it last changed, stands for its content, where the server tells it."""

    web: Web
    url: str
    pace: Pace = field(default_factory=Pace)

    async def identify(self) -> Identity:
        """As its headers say; a server that does not answer HEAD tells nothing."""
        async with self.web.request("HEAD", self.url) as response:
            return self._identity(response)

    async def pieces(self, identity: Identity) -> AsyncGenerator[bytes, None]:
        """Its bytes. Changed when its headers are no longer those."""
        async with self.web.request("GET", self.url) as response:
            if response.status != 200:
                raise Unreadable(f"The server answers {response.status}.")
            if identity.stamp and self._identity(response).stamp != identity.stamp:
                raise Changed
            try:
                async with aclosing(paced(response.aiter_stream(), self.pace)) as pieces:  # pyright: ignore
                    async for piece in pieces:
                        yield piece
            except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
                raise _unreadable(error) from error

    def _identity(self, response: httpcore.Response) -> Identity:
        stamp = ""
        if response.status == 200:
            stamp = _header(response, "etag") or _header(response, "last-modified")
        known: Metadata = {"source": self.url}
        return Identity("", 0, stamp, known | {"etag": stamp} if stamp else known)


def _parts(url: str) -> SplitResult:
    """All empty for what is no URL."""
    try:
        return urlsplit(url)
    except ValueError:
        return SplitResult("", "", "", "", "")


def _problem(parts: SplitResult) -> str:
    try:
        valid = bool(str(parts.hostname or "").encode("idna")) and parts.port != 0
    except ValueError:  # UnicodeError is one
        valid = False
    if not valid:
        return "It is not a URL of the form https://HOST/PATH."
    return "The URL holds a user name or a password; leave them out." if parts.username or parts.password else ""


def _redirected(url: str, target: str) -> str:
    """The absolute URL of a redirect. Unreadable for one to another protocol, or out of an encrypted one."""
    try:
        joined = urljoin(url, target)
    except ValueError:  # such as brackets around what is no IPv6 address
        joined = ""
    parts = _parts(joined)
    if parts.scheme not in WEB or _problem(parts):
        raise Unreadable("It is redirected to something that is not a web address.")
    if url.startswith("https:") and parts.scheme != "https":
        raise Unreadable(f"It is redirected from https to {parts.scheme}, where anybody could change it.")
    return joined


def _in_ascii(url: str) -> str:
    """The URL as it goes over the wire."""
    parts = urlsplit(url)
    host = str(parts.hostname).encode("idna").decode()
    host = f"[{host}]" if ":" in host else host
    place = host if parts.port is None else f"{host}:{parts.port}"
    path, query = quote(parts.path or "/", safe=_KEPT), quote(parts.query, safe=_KEPT)
    return urlunsplit((parts.scheme, place, path, query, ""))


def _header(response: httpcore.Response, name: str) -> str:
    value = next((value for key, value in response.headers if key.lower() == name.encode()), b"")
    return value.decode("latin-1").strip()[:500]


def _unreadable(error: Exception) -> Unreadable:
    if isinstance(error, TimeoutError | httpcore.TimeoutException):
        return Unreadable("The server did not answer in time.")
    return Unreadable(f"The server cannot be read: {error or type(error).__name__}")
