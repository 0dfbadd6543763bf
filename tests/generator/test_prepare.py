"""What is said of a model that is not there."""

from pathlib import Path

import pytest

from generator.prepare import prepare
from mesh.errors import InvalidInput, NotFound


@pytest.mark.slow
async def test_a_mistyped_name_is_told_from_a_file_that_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        InvalidInput, match=r"smollm2-typo is none of smollm2-135m-instruct.* cannot be had from the hub"
    ):
        await prepare("smollm2-typo", tmp_path)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    with pytest.raises(InvalidInput, match="broken cannot be read"):
        await prepare(tmp_path / "broken", tmp_path)


async def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="holds no model: name a folder"):
        await prepare(tmp_path, tmp_path)
