"""Default < murphey.toml < environment < flag, and loopback only."""

from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import ValidationError

from mesh.errors import InvalidInput
from mesh.settings import ServiceSettings


class StoreSettings(ServiceSettings):
    service: ClassVar[str] = "retriever"
    store: str = "edge"


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MURPHEY_DATA", raising=False)


def test_each_source_wins_over_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    assert StoreSettings().store == "edge"
    Path("murphey.toml").write_text('[retriever]\nstore = "toml"\n[mesh]\ndata = "shared"\n')
    assert (StoreSettings().store, StoreSettings().data) == ("toml", Path("shared"))
    monkeypatch.setenv("MURPHEY_RETRIEVER_STORE", "environment")
    monkeypatch.setenv("MURPHEY_DATA", "from-environment")
    assert (StoreSettings().store, StoreSettings().data) == ("environment", Path("from-environment"))
    flags = ["--store", "flag", "--data", "from-flag"]
    assert (StoreSettings.from_flags(flags).store, StoreSettings.from_flags(flags).data) == ("flag", Path("from-flag"))


def test_another_section_is_not_read() -> None:
    Path("murphey.toml").write_text('[generator]\nengine = "openvino"\n')
    assert StoreSettings().store == "edge"


def test_unknown_key_is_refused() -> None:
    Path("murphey.toml").write_text('[retriever]\nstroe = "edge"\n')
    with pytest.raises(ValidationError, match="stroe"):
        StoreSettings()


def test_broken_toml_names_the_file() -> None:
    Path("murphey.toml").write_text("[retriever\n")
    with pytest.raises(InvalidInput, match=r"murphey\.toml"):
        StoreSettings()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.org"])
def test_only_loopback(host: str) -> None:
    with pytest.raises(ValidationError, match="loopback"):
        StoreSettings(host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.0.0.9"])
def test_loopback(host: str) -> None:
    assert StoreSettings(host=host).host == host


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[generatr]\nengine = "openvino"\n', "'generatr', which is no section"),
        ('engine = "openvino"\n', "'engine', which is no section"),
        ("[mesh]\ndrian_s = 5\n", r"'drian_s' in \[mesh\]"),
    ],
)
def test_what_no_service_reads_is_refused(text: str, words: str) -> None:
    Path("murphey.toml").write_text(text)
    with pytest.raises(InvalidInput, match=words):
        StoreSettings()
