"""`current` in an index's folder names the sub-folder of the live shard. Without it there is no index."""

from pathlib import Path

_NAME = "current"


def exists(folder: Path) -> bool:
    """Whether there is an index."""
    return (folder / _NAME).exists()


def read(folder: Path) -> str:
    """The live shard's sub-folder."""
    return (folder / _NAME).read_text()


def write(folder: Path, name: str) -> None:
    """Whole or not at all."""
    scratch = folder / f"{_NAME}.new"
    scratch.write_text(name)
    scratch.replace(folder / _NAME)


def remove(folder: Path) -> None:
    """The index is gone, whatever is left of it."""
    (folder / _NAME).unlink(missing_ok=True)
