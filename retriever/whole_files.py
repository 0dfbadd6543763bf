"""Small files that are there whole or as they were before, over the end of the process and of the machine."""

import os
from pathlib import Path


def write_whole(path: Path, content: str) -> None:
    """In a folder that is made where it is missing. It is on the disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f"{path.name}.new")
    with scratch.open("w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name
    finally:
        os.close(folder)
