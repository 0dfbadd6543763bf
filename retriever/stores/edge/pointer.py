"""`current` in an index's folder names the sub-folder of the live shard. Without it there is no index."""

from pathlib import Path

from mesh.errors import Corrupt
from retriever.whole_files import write_whole

_NAME = "current"


def exists(folder: Path) -> bool:
    """Whether there is an index."""
    return (folder / _NAME).exists()


def read(folder: Path) -> str:
    """The live shard's sub-folder. Corrupt when it names none: all others are removed as refuse."""
    name = (folder / _NAME).read_text().strip()
    if not name or not (folder / name).is_dir():
        raise Corrupt(
            f"{folder / _NAME} names no shard. Restore the index from a backup, or write the shard's name into it."
        )
    return name


def write(folder: Path, name: str) -> None:
    """Whole or not at all."""
    write_whole(folder / _NAME, name)


def remove(folder: Path) -> None:
    """The index is gone, whatever is left of it."""
    (folder / _NAME).unlink(missing_ok=True)
