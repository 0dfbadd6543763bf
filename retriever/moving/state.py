"""How far a move has come, in a file: what was begun can be taken up again, whenever it was interrupted."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from retriever.whole_files import write_whole


@dataclass(frozen=True, slots=True)
class MoveState:
    """A move of a collection's indexes. `part` counts these twice, for published and for staged chunks; `after` is where the
    next page of that part begins."""

    collection: str
    source: str
    target: str
    indexes: tuple[str, ...]
    part: int = 0
    after: str = ""
    copied: int = 0

    @property
    def at(self) -> tuple[str, bool] | None:
        """The index that is being copied, and whether its staged chunks are; None at the end."""
        return None if self.part >= 2 * len(self.indexes) else (self.indexes[self.part // 2], bool(self.part % 2))

    def on(self, chunks: int, after: str) -> "MoveState":
        """After another page."""
        copied = self.copied + chunks
        return (
            replace(self, copied=copied, after=after)
            if after
            else replace(self, copied=copied, part=self.part + 1, after="")
        )


class MoveFiles:
    """The states of all moves that have not ended, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def changes(self, collection: str) -> Path:
        """Where the documents are noted that change meanwhile."""
        return self._folder / f"{collection}.changes"

    def load(self, collection: str) -> MoveState | None:
        """None when there is none."""
        path = self._path(collection)
        if not path.exists():
            return None
        plain = json.loads(path.read_text())
        return MoveState(**{**plain, "indexes": tuple(plain["indexes"])})

    def all(self) -> Iterator[MoveState]:
        """Every one."""
        for path in sorted(self._folder.glob("*.json")):
            state = self.load(path.stem)
            if state is not None:
                yield state

    def save(self, state: MoveState) -> None:
        """Whole or not at all."""
        write_whole(self._path(state.collection), json.dumps(asdict(state)))

    def remove(self, collection: str) -> None:
        """It has ended."""
        self._path(collection).unlink(missing_ok=True)
        self.changes(collection).unlink(missing_ok=True)

    def _path(self, collection: str) -> Path:
        return self._folder / f"{collection}.json"
