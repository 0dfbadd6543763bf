"""HTTP as servers like it: who asks is said, requests come one at a time and not too often, and a server that asks for a pause
gets it (RFC 9110, section 10.2.3; the rate-limit headers of GitHub's API).
"""

import io
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2

from mesh.errors import InvalidInput, NotFound, PermissionDenied, Unauthenticated, Unavailable

INTERVAL_S = 1.0
"""Between the beginnings of two requests to a server."""
MAX_PAUSE_S = 3600.0
ATTEMPTS = 6
TIMEOUT_S = 60.0
_RETRIED = (408, 429, 500, 502, 503, 504)

Sleep = Callable[[float], None]


def user_agent() -> str:
    """Who asks."""
    return f"murphey/{version('murphey')} (collects training text; run by the user of this machine)"


@dataclass(frozen=True)
class Pacing:
    """How often to ask, and how long to wait at most when a server wants a pause."""

    interval_s: float = INTERVAL_S
    max_pause_s: float = MAX_PAUSE_S
    attempts: int = ATTEMPTS


class PoliteClient:
    """Asks servers, one request at a time."""

    def __init__(
        self, headers: Mapping[str, str] | None = None, pacing: Pacing | None = None, sleep: Sleep = time.sleep
    ) -> None:
        self._pacing, self._sleep = pacing or Pacing(), sleep
        own = {"User-Agent": user_agent(), **(headers or {})}
        self._client = httpx2.Client(headers=own, timeout=TIMEOUT_S, follow_redirects=True)
        self._next: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def get_json(self, url: str) -> object:
        """What an API answers. Errors of mesh.errors."""
        with self.stream(url) as response:
            response.read()
            try:
                return response.json()
            except ValueError as error:
                raise Unavailable(f"{url} answered with something that is not JSON.") from error

    @contextmanager
    def stream(self, url: str, headers: Mapping[str, str] | None = None) -> Iterator[httpx2.Response]:
        """A good answer, its body not yet read. Waits and asks again where the server is busy or asks for a pause."""
        for attempt in range(self._pacing.attempts):
            self._wait_turn(url)
            try:
                response = self._client.send(self._client.build_request("GET", url, headers=headers), stream=True)
            except httpx2.InvalidURL as error:
                raise InvalidInput(f"{url} is not a URL: {error}") from error
            except httpx2.TransportError as error:
                if attempt + 1 == self._pacing.attempts:
                    raise Unavailable(f"{urlsplit(url).netloc} cannot be reached: {error}") from error
                self._sleep(min(2.0**attempt, self._pacing.max_pause_s))
                continue
            try:
                pause_s = _pause(response, attempt)
                if pause_s is None:
                    _raise_for(response)
                    yield response
                    return
            finally:
                response.close()
            if pause_s > self._pacing.max_pause_s or attempt + 1 == self._pacing.attempts:
                raise Unavailable(
                    f"{urlsplit(url).netloc} answers {response.status_code} and asks to wait {pause_s:,.0f} s. "
                    "What was found is kept; run the same command again then.",
                    retry_after_s=pause_s,
                )
            self._sleep(pause_s)

    def _wait_turn(self, url: str) -> None:
        host = urlsplit(url).netloc
        now = time.monotonic()
        turn = max(now, self._next.get(host, 0.0))
        self._next[host] = turn + self._pacing.interval_s
        if turn > now:
            self._sleep(turn - now)


class WebFile(io.RawIOBase):
    """A file of the web, read once from its beginning. A connection that breaks is taken up where it broke (RFC 9110, section
    14), as long as the server says that the file is still the same.
    """

    def __init__(self, client: PoliteClient, url: str) -> None:
        super().__init__()
        self._client, self._url = client, url
        self._at = 0
        self._tag = ""
        self._whole: int | None = None
        self._rest = b""
        self._pieces = self._read()

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        """Bytes that were handed out."""
        return self._at - len(self._rest)

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            piece = next(self._pieces, b"")
            if not piece:
                return 0
            self._rest = piece
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def _read(self) -> Iterator[bytes]:
        in_vain = 0
        while in_vain < ATTEMPTS:  # a dump of many gigabytes may break off many times, as long as it goes on
            begun_at = self._at
            headers = {"Accept-Encoding": "identity"}
            if self._at:
                headers |= {"Range": f"bytes={self._at}-", "If-Range": self._tag}
            with self._client.stream(self._url, headers) as response:
                self._begin(response)
                try:
                    for piece in response.iter_raw():  # of no fixed size, which would be lost with the connection
                        self._at += len(piece)
                        yield piece
                except httpx2.TransportError:
                    pass
            if self._whole is None or self._at >= self._whole:
                return
            in_vain = 0 if self._at > begun_at else in_vain + 1
        raise Unavailable(f"{self._url} breaks off again and again, last after {self._at} bytes. Try again later.")

    def _begin(self, response: httpx2.Response) -> None:
        if self._at and response.status_code != 206:
            raise Unavailable(f"{self._url} changed, or its server cannot go on within a file. Try again.")
        if not self._at:
            length = response.headers.get("content-length")
            self._whole = int(length) if length else None
            self._tag = response.headers.get("etag") or response.headers.get("last-modified") or ""


def _pause(response: httpx2.Response, attempt: int) -> float | None:
    """How long the server wants to be left alone; None for an answer to use."""
    headers = response.headers
    limited = response.status_code == 403 and ("retry-after" in headers or headers.get("x-ratelimit-remaining") == "0")
    if response.status_code not in _RETRIED and not limited:
        return None
    if "retry-after" in headers:
        return _retry_after(headers["retry-after"])
    if headers.get("x-ratelimit-remaining") == "0" and headers.get("x-ratelimit-reset", "").isdecimal():
        return max(1.0, int(headers["x-ratelimit-reset"]) - time.time())
    return 2.0**attempt


def _retry_after(value: str) -> float:
    """Seconds, or until a date."""
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except ValueError:
        return 60.0


def _raise_for(response: httpx2.Response) -> None:
    if response.is_success:
        return
    url = str(response.request.url)
    match response.status_code:
        case 401:
            raise Unauthenticated(f"{url} does not accept the token.")
        case 403 | 451:
            raise PermissionDenied(f"{url} may not be read: the server answers {response.status_code}.")
        case 404 | 410:
            raise NotFound(f"There is nothing at {url}: the server answers {response.status_code}.")
    raise InvalidInput(f"{url} cannot be read: the server answers {response.status_code}.")
