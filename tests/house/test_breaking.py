"""The breaking check against a release, in a repository of its own with the real contract and the real buf."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROTO = Path("protos/murphey/orchestrator/v1/orchestrator.proto")
FIELD = "message Started {\n  // Identifies the answer in logs and traces.\n  string answer_id = 1;\n"
"""Stays as it is, whatever the message is given beside it."""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository with this contract and no release."""
    for name in ("protos", "third_party", ".ci"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    (tmp_path / ".gitignore").write_text("third_party/\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "The contract")
    return tmp_path


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "tag.gpgSign=false")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True)


def breaking(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"BUF": str(Path(sys.executable).with_name("buf"))}
    command = ["bash", str(folder / ".ci" / "breaking")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def change(folder: Path, old: str, new: str) -> None:
    text = (folder / PROTO).read_text()
    assert text.count(old) == 1
    (folder / PROTO).write_text(text.replace(old, new))


def test_without_a_release_it_says_so(clone: Path) -> None:
    done = breaking(clone)
    assert done.returncode == 0
    assert "no release tag" in done.stdout


def test_the_same_contract_passes(clone: Path) -> None:
    git(clone, "tag", "v0.1.0")
    done = breaking(clone)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "v0.1.0" in done.stdout


def test_a_new_field_passes(clone: Path) -> None:
    git(clone, "tag", "v0.1.0")
    change(clone, FIELD, f"{FIELD}  // New.\n  string more = 100;\n")
    done = breaking(clone)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_removed_field_fails_and_is_named(clone: Path) -> None:
    git(clone, "tag", "v0.1.0")
    change(clone, FIELD, "message Started {\n")
    done = breaking(clone)
    assert done.returncode != 0
    assert "answer_id" in done.stdout


def test_it_compares_with_the_newest_release(clone: Path) -> None:
    git(clone, "tag", "v0.1.0")
    change(clone, FIELD, "message Started {\n")
    git(clone, "commit", "--quiet", "--all", "--message", "A break, released as such")
    git(clone, "tag", "v0.2.0")
    done = breaking(clone)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "v0.2.0" in done.stdout
