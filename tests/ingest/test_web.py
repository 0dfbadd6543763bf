"""Documents from URLs: private addresses, redirects, slow servers, and what stands for a page's content."""

import asyncio
import ipaddress
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from ingest.origins.addresses import check_public
from ingest.origins.pacing import Pace
from ingest.origins.web import Web, WebPage
from ingest.sources import Changed, Unreadable

Answer = Callable[[str, str, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def web_server(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server of HTTP/1.1 that closes after each answer; `answer` is given method and path."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            method, path, _ = (await reader.readuntil(b"\r\n\r\n")).decode().split(" ", 2)
            await answer(method, path, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def respond(writer: asyncio.StreamWriter, status: int, headers: dict[str, str], body: bytes = b"") -> None:
    lines = [f"HTTP/1.1 {status} X", "Connection: close", *(f"{name}: {value}" for name, value in headers.items())]
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)


async def pages(method: str, path: str, writer: asyncio.StreamWriter) -> None:
    """A few pages as they come in the wild."""
    if path.startswith("/hop/"):
        left = int(path.rsplit("/", 1)[1])
        respond(writer, 302, {"Location": f"/hop/{left - 1}" if left else "/page", "Content-Length": "0"})
    elif path == "/away":
        respond(writer, 302, {"Location": "ftp://example.org/x", "Content-Length": "0"})
    elif path == "/brackets":
        respond(writer, 302, {"Location": "http://[example]/", "Content-Length": "0"})
    elif path == "/chunked":
        respond(writer, 200, {"Transfer-Encoding": "chunked"}, b"" if method == "HEAD" else b"5\r\nwords\r\n0\r\n\r\n")
    elif path == "/get-only" and method == "HEAD":
        respond(writer, 405, {"Content-Length": "0"})
    elif path == "/missing":
        respond(writer, 404, {"Content-Length": "0"})
    elif path == "/cut":
        respond(writer, 200, {"Content-Length": "100"}, b"only this")
    else:
        headers = {"Content-Length": "5", "ETag": '"1"' if path == "/page" else f'"{id(writer)}"'}
        respond(writer, 200, headers, b"" if method == "HEAD" else b"words")


@asynccontextmanager
async def page(url: str, *, allow_private: bool = True) -> AsyncIterator[WebPage]:
    async with Web.open(allow_private=allow_private) as web:
        content = web.source(url, "").content
        assert isinstance(content, WebPage)
        yield content


async def read(content: WebPage) -> bytes:
    return b"".join([piece async for piece in content.pieces(await content.identify())])


@pytest.mark.parametrize("path", ["/page", "/hop/4", "/chunked", "/get-only"])
async def test_a_page_is_read_however_it_is_served(path: str) -> None:
    async with web_server(pages) as server, page(server + path) as content:
        assert await read(content) == b"words"


async def test_its_etag_stands_for_its_content() -> None:
    async with web_server(pages) as server:
        async with page(f"{server}/page") as content:
            identity = await content.identify()
            assert (identity.sha256, identity.stamp, identity.known) == (
                "", '"1"', {"source": f"{server}/page", "etag": '"1"'},
            )  # fmt: skip
        async with page(f"{server}/other") as content:
            with pytest.raises(Changed):
                await read(content)
        async with page(f"{server}/chunked") as content:
            assert (await content.identify()).stamp == ""


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/missing", "answers 404"), ("/hop/5", "more than 5 times"), ("/away", "not a web address"),
        ("/cut", "cannot be read"), ("/brackets", "not a web address"),
    ],
)  # fmt: skip
async def test_what_cannot_be_read_says_why(path: str, message: str) -> None:
    async with web_server(pages) as server, page(server + path) as content:
        with pytest.raises(Unreadable, match=message):
            await read(content)


async def test_private_addresses_are_refused_unless_allowed() -> None:
    async with web_server(pages) as server:
        for url in (f"{server}/page", server.replace("127.0.0.1", "localhost") + "/page"):
            async with page(url, allow_private=False) as content:
                with pytest.raises(Unreadable, match="--allow-private"):
                    await read(content)


async def test_a_redirect_to_a_private_address_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first name has a public address, as far as the look-up tells; the one it redirects to has not."""
    looked_up = []

    def check(host: str, addresses: list[ipaddress.IPv4Address]) -> None:
        looked_up.append(host)
        check_public(host, [ipaddress.ip_address("93.184.216.34")] if host == "localhost" else addresses)

    async def redirect(method: str, path: str, writer: asyncio.StreamWriter) -> None:
        respond(writer, 301, {"Location": f"http://127.0.0.1:{port}/page", "Content-Length": "0"})

    monkeypatch.setattr("ingest.origins.addresses.check_public", check)
    async with web_server(redirect) as server:
        port = server.rsplit(":", 1)[1]
        async with page(f"http://localhost:{port}/", allow_private=False) as content:
            with pytest.raises(Unreadable, match=r"127\.0\.0\.1 has the address"):
                await read(content)
    assert looked_up == ["localhost", "127.0.0.1"]


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "::1", "::", "fe80::1", "fd00::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    with pytest.raises(Unreadable):
        check_public("host", [ipaddress.ip_address("8.8.8.8"), ipaddress.ip_address(address)])


def test_addresses_that_are() -> None:
    check_public("host", [ipaddress.ip_address("8.8.8.8"), ipaddress.ip_address("2606:4700::1111")])


@pytest.mark.parametrize(
    ("pace", "message"),
    [(Pace(step_bytes=1000, step_s=0.2), "within 0.2 s"), (Pace(step_bytes=1, whole_s=0.3), "came within 0.3 s")],
)
async def test_a_server_that_sends_slowly_for_ever_is_given_up(pace: Pace, message: str) -> None:
    async def drip(method: str, path: str, writer: asyncio.StreamWriter) -> None:
        respond(writer, 200, {"Content-Length": "1000000"})
        while method == "GET":
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with web_server(drip) as server, page(f"{server}/slow") as content:
        with pytest.raises(Unreadable, match=message):
            await read(replace(content, pace=pace))


async def test_a_server_that_is_not_there_is_named() -> None:
    async with web_server(pages) as server:
        pass
    async with page(server) as content:
        with pytest.raises(Unreadable):
            await read(content)


@pytest.mark.parametrize(
    ("url", "name", "problem"),
    [
        ("https://example.org/a/b.pdf", "example.org/a/b.pdf", ""), ("https://example.org/", "example.org", ""),
        ("https://example.org/a?id=3", "example.org/a?id=3", ""), ("https://example.org/%E2%82%AC", "example.org/€", ""),
        ("https://user:secret@example.org/", None, "user name"), ("https:///a", None, "not a URL"),
        ("https://[example]/", None, "not a URL"),
        ("https://example.org:99999/", None, "not a URL"), ("https://example.org/a%0Ab", None, "control character"),
    ],
)  # fmt: skip
async def test_a_page_is_called_by_its_url(url: str, name: str | None, problem: str) -> None:
    async with Web.open(allow_private=False) as web:
        source = web.source(url, "")
    assert problem in source.problem
    assert bool(source.problem) == bool(problem)
    assert name is None or source.display_name == name


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """For localhost, signed by itself, and its key."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*made, *names, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key


async def test_https_is_read_where_the_server_is_trusted_and_refused_where_not(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    async with web_server(pages, context) as server:
        url = server.replace("http://127.0.0.1", "https://localhost") + "/page"
        async with page(url) as content:
            with pytest.raises(Unreadable, match="certificate"):
                await read(content)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        async with page(url) as content:
            assert await read(content) == b"words"
