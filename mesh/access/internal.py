"""The key by which the services of a mesh know each other: one secret that all of them read from a file.

Without a setting it lies in the data folder, readable by its owner alone, and whichever process needs it first makes it.
In a cluster the services share no folder: there the file is a mounted secret, and must exist.
"""

import os
import secrets
from pathlib import Path

from mesh.errors import FailedPrecondition

MIN_CHARACTERS = 32


def internal_key(configured: Path | None, data: Path) -> str:
    """The key. FailedPrecondition when a configured file is missing, empty or too short to be a secret."""
    path = configured or data / "mesh" / "internal.key"
    if configured is None and not path.exists():
        _make(path)
    try:
        key = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise FailedPrecondition(f"The key of the services, {path}, cannot be read: {error}.") from error
    if len(key) < MIN_CHARACTERS or not key.isascii() or any(letter.isspace() for letter in key):
        raise FailedPrecondition(f"{path} must hold one line of at least {MIN_CHARACTERS} random ASCII characters.")
    return key


def _make(path: Path) -> None:
    """Whole or not at all, and only one of those who try: a link does not replace what is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_urlsafe(48) + "\n")
    try:
        os.link(scratch, path)
    except FileExistsError:
        pass
    finally:
        scratch.unlink()
