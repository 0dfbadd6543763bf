"""The whole path: a tiny corpus becomes a tokenizer, a model, a chat model and an export, and answers through the mesh."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from mesh.settings import default_models_folder
from tests.e2e.conftest import MURPHEY, start_mesh, stop_mesh
from tests.training.test_runs import write_run

pytestmark = pytest.mark.e2e


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder of models of the test's own, with links to those that the mesh needs beside the one it makes."""
    folder = tmp_path / "models"
    folder.mkdir()
    for path in default_models_folder().iterdir():
        if path.name != "trained":
            (folder / path.name).symlink_to(path)
    return folder


def test_text_becomes_a_model_that_answers_through_the_mesh(
    tmp_path: Path, models: Path, handbook: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MURPHEY_MODELS", str(models))
    run = [str(MURPHEY), "train", "run", str(write_run(tmp_path / "work"))]
    done = subprocess.run(run, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "tiny@v1"

    also = {"tiny-transformers": {"model": str(models / "trained/tiny/v1/huggingface"), "engine": "transformers"}}
    monkeypatch.setenv("MURPHEY_GENERATOR_MODEL", "tiny")
    monkeypatch.setenv("MURPHEY_GENERATOR_ALSO", json.dumps(also))
    mesh = start_mesh(tmp_path / "data")
    try:
        ingested = mesh.murphey("ingest", str(handbook))
        assert ingested.code == 0, ingested.err
        for model, engine in (("tiny", "openvino"), ("tiny-transformers", "transformers")):
            shown = mesh.murphey("models", "show", model, "--json").json()
            assert (shown["engine"], shown["state"]) == (engine, "ready")
            question = "How hot is the big kiln fired?"
            asked = mesh.murphey("ask", question, "--model", model, "--max-tokens", "24", "--json")
            assert asked.code == 0, asked.err
            answer = asked.json()
            assert answer["answer"].strip()
            assert answer["versions"]["model"].startswith(f"models/{model}@")
    finally:
        stop_mesh(mesh)
