"""What a run was made with: git revision, versions of packages, machine. Recorded, so that a result can be made again."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("murphey", "torch", "transformers", "tokenizers", "accelerate", "trl", "peft", "sentence-transformers")


def environment() -> dict[str, str]:
    """Names and values; what cannot be told is left out."""
    told = {"python": platform.python_version(), "machine": f"{platform.machine()}, {os.cpu_count()} CPUs"}
    for package in _PACKAGES:
        try:
            told[package] = version(package)
        except PackageNotFoundError:
            continue
    if revision := git_revision():
        told["git"] = revision
    return told


def git_revision() -> str:
    """The commit of this code, with `+changes` where files differ from it; empty outside of a repository."""
    folder = Path(__file__).parent
    found = _git(folder, "rev-parse", "HEAD")
    return found + ("+changes" if found and _git(folder, "status", "--porcelain", "--untracked-files=no") else "")


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
