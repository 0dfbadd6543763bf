"""How `murphey up` decides where its services listen and are called, and what is wrong with certificates before any is."""

import datetime
from pathlib import Path
from typing import Any

import pytest
import trustme
from typer.testing import CliRunner

from mesh.cli import build
from mesh.errors import FailedPrecondition
from mesh.reach import Reach, reach_of
from mesh.settings import ServiceSettings
from tests.mesh.test_tls import Folder, folder


def reach(settings: dict[str, Any], name: str | None = None) -> Reach:
    return reach_of(ServiceSettings(**settings), name)


def test_without_certificates_it_is_plain_and_on_loopback() -> None:
    found = reach({})
    assert (found.host, found.name, found.names) == ("127.0.0.1", "127.0.0.1", ())
    addresses = found.addresses(1, 7400, {"retriever": 7402}, {"retriever": 7412})
    assert (addresses.http, addresses.services, addresses.certificates()) == (
        "http://127.0.0.1:7400", {"retriever": "127.0.0.1:7402"}, None,
    )  # fmt: skip
    assert found.gateway_flags(7400, "other.example") == ["--listen=127.0.0.1:7400"]
    assert reach({"host": "::1"}).addresses(1, 7400, {}, {}).http == "http://[::1]:7400"


def test_the_certificate_s_names_are_those_that_the_gateway_answers_for(tmp_path: Path) -> None:
    files = Folder(tmp_path / "tls").write(authority := trustme.CA(), authority.issue_cert("localhost", "RAG.example"))
    found = reach({"host": "0.0.0.0", "auth": "keys", **files.settings(mutual=True)})
    assert (found.host, found.name, set(found.names)) == ("0.0.0.0", "localhost", {"localhost", "rag.example"})
    flags = found.gateway_flags(7400, "other.example")
    assert "--listen=0.0.0.0:7400" in flags
    assert "--auth=keys" in flags
    assert set(flags[-3].partition("=")[2].split(",")) == {"localhost", "rag.example", "other.example"}
    addresses = found.addresses(1, 7400, {}, {})
    assert (addresses.http, addresses.gateway) == ("https://localhost:7400", "localhost:7400")
    assert addresses.certificates() is not None
    assert addresses.tls_key.endswith("key.pem")
    assert reach(files.settings(), "rag.example").addresses(1, 7400, {}, {}).tls_key == ""


def test_certificates_that_the_services_would_not_take_are_refused_before_a_start(tmp_path: Path) -> None:
    ours, other = trustme.CA(), trustme.CA()
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    good = folder(tmp_path / "good", ours).settings(mutual=True)
    expired = folder(tmp_path / "expired", ours, not_after=past).settings()
    stranger = Folder(tmp_path / "stranger").write(other).path / "ca.pem"
    for settings, name, words in (
        (good, "elsewhere.example", "mismatch.*--name"),
        (good | {"tls_ca": stranger}, None, "not believed by .*stranger"),
        (good | {"tls_client_ca": stranger}, None, "could not call each other.*stranger"),
        (expired, None, "expired"),
        (good | {"tls_key": stranger}, None, "cannot be used"),
        (good | {"tls_certificate": tmp_path / "absent.pem"}, None, "absent.pem cannot be read"),
        (good | {"tls_ca": None}, None, "tls_ca is not"),
    ):
        with pytest.raises(FailedPrecondition, match=words):
            reach(settings, name)
    assert reach(good).name == "127.0.0.1"


def test_up_says_what_is_wrong_with_certificates_and_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, path in folder(tmp_path / "tls", trustme.CA()).settings().items():
        monkeypatch.setenv(f"MURPHEY_{name.upper()}", str(path))
    done = CliRunner().invoke(build(), ["up", "--data", str(tmp_path / "data"), "--name", "rag.example"])
    assert done.exit_code == 1
    assert "it is rag.example now" in done.stderr
    assert not (tmp_path / "data").exists()
