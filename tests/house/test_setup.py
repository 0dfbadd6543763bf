"""What `make setup` says when it cannot go on: what failed and what to do."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def setup(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Set-up of this tree with an environment elsewhere, which these failures never fill."""
    env = os.environ | {"VENV": str(tmp_path / "venv")} | environment
    return subprocess.run(
        ["bash", str(ROOT / "setup.sh")], env=env, capture_output=True, text=True, timeout=300, check=False
    )


def script(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_an_old_python_is_named_with_a_way_out(tmp_path: Path) -> None:
    old = script(tmp_path / "python3.9", 'if [ "$1" = --version ]; then echo Python 3.9.18; else exit 1; fi')
    done = setup(tmp_path, PYTHON=str(old))
    assert done.returncode == 1
    assert "Python 3.11 or newer is needed" in done.stderr
    assert "3.9.18" in done.stderr
    assert "PYTHON=" in done.stderr


def test_a_missing_python_is_named(tmp_path: Path) -> None:
    done = setup(tmp_path, PYTHON="python3.99")
    assert done.returncode == 1
    assert "python3.99 is missing" in done.stderr


def test_an_unknown_torch_is_refused(tmp_path: Path) -> None:
    done = setup(tmp_path, TORCH="rocm")
    assert done.returncode == 1
    assert "TORCH=rocm" in done.stderr


def test_too_little_disk_is_said_before_anything_is_made(tmp_path: Path) -> None:
    script(tmp_path / "bin" / "df", "echo Filesystem 1024-blocks Used Available; echo /dev/x 9 9 1024000")
    done = setup(tmp_path, PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert done.returncode == 1
    assert "1000 MB free" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_the_torch_that_was_chosen_is_kept(tmp_path: Path) -> None:
    script(tmp_path / "bin" / "df", "echo Filesystem 1024-blocks Used Available; echo /dev/x 9 9 1024000")
    stamp = tmp_path / "venv" / ".murphey-setup" / "packages"
    stamp.parent.mkdir(parents=True)
    stamp.write_text("65313a8a torch=cpu at=/somewhere")
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    assert "4500 MB are needed" in setup(tmp_path, PATH=path).stderr
    assert "10000 MB are needed" in setup(tmp_path, PATH=path, TORCH="").stderr


@pytest.mark.slow
def test_an_index_that_cannot_be_reached_is_said_plainly(tmp_path: Path) -> None:
    done = setup(tmp_path, PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_FIND_LINKS="")
    assert done.returncode == 1
    assert "the package index cannot be reached" in done.stderr
