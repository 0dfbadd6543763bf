"""Source code from GitHub: clones and archives on this machine, and repositories by name through GitHub's API.

Only repositories under a permissive licence are taken, unless all are asked for; vendored, generated and packed files and files
that hold a secret are left out. Every record has its repository's licence, its language, and its address at the commit.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mesh.errors import InvalidInput, NotFound
from training.collect.collectors import Found, Position
from training.collect.polite import Pacing, PoliteClient
from training.collect.repositories import Repository, SourceFile, open_archive, open_clone
from training.collect.source_files import decoded, language_of, unwanted_path, unwanted_text
from training.records import Record

API = "https://api.github.com"
PERMISSIVE = frozenset(
    {
        "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "ISC", "MIT", "MIT-0", "NCSA",
        "PostgreSQL", "PSF-2.0", "Python-2.0", "Unlicense", "UPL-1.0", "WTFPL", "X11", "Zlib",
    }
)  # fmt: skip
_ARCHIVES = (".tar.gz", ".tgz", ".tar", ".tar.bz2", ".tar.xz", ".zip")
_NO_LICENCE = "NOASSERTION"


class GitHub:
    """Clones, archives and names of repositories as one collector, read in the order in which they are given."""

    name = "github"

    def __init__(
        self, places: Sequence[str], *, any_licence: bool = False, token: str | None = None, api: str = API,
        pacing: Pacing | None = None,
    ) -> None:  # fmt: skip
        self._places, self._any_licence, self._token = tuple(places), any_licence, token
        self._api, self._pacing = api.rstrip("/"), pacing

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"places": list(self._places), "any_licence": self._any_licence}

    @property
    def total(self) -> int | None:
        return len(self._places)

    def check(self) -> int:
        """InvalidInput, NotFound or Corrupt for what is not a repository; those of GitHub are looked up only later."""
        size = 0
        for place in self._places:
            if not is_name(place):
                path = Path(place)
                with self._opened(place):
                    size += path.stat().st_size if path.is_file() else 0
        return size

    def find(self, after: Position) -> Iterator[Found]:
        first, passed = _read(after)
        for number in range(first, len(self._places)):
            with self._opened(self._places[number]) as repository:
                yield from self._of(repository, number, passed if number == first else 0)

    def _of(self, repository: Repository, number: int, passed: int) -> Iterator[Found]:
        end = f"{number + 1}:0"
        if not self._any_licence and repository.licence not in PERMISSIVE:
            yield Found(end, dropped=f"repository under {repository.licence or 'no known licence'}", done=number + 1)
            return
        for count, file in enumerate(repository.files(), start=1):
            if count > passed:
                yield _found(file, repository, f"{number}:{count}", number)
        yield Found(end, done=number + 1)

    @contextmanager
    def _opened(self, place: str) -> Iterator[Repository]:
        path = Path(place)
        if path.is_dir():
            yield open_clone(path)
        elif path.is_file():
            yield open_archive(path)
        elif is_name(place):
            with self._fetched(place) as repository:
                yield repository
        else:
            raise NotFound(f"{place} is no clone, no archive ({', '.join(_ARCHIVES)}) and no OWNER/NAME.")

    @contextmanager
    def _fetched(self, name: str) -> Iterator[Repository]:
        """A repository of GitHub: what the API says of it, and its archive at the last commit in a file while it is read."""
        headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        with PoliteClient(headers, self._pacing) as client, tempfile.TemporaryDirectory() as folder:
            about = _object(client.get_json(f"{self._api}/repos/{name}"), name)
            branch = about.get("default_branch") or "HEAD"
            commit = _object(client.get_json(f"{self._api}/repos/{name}/commits/{branch}"), name)
            licence = str(_nested(about, "license").get("spdx_id") or "")
            revision = str(commit.get("sha", ""))
            path = Path(folder) / "archive.tar.gz"
            with client.stream(f"{self._api}/repos/{name}/tarball/{revision}") as response, path.open("wb") as file:
                for piece in response.iter_bytes():
                    file.write(piece)
            url = str(about.get("html_url") or f"https://github.com/{name}")
            date = str(_nested(_nested(commit, "commit"), "committer").get("date") or "")
            known = "" if licence == _NO_LICENCE else licence
            found = open_archive(path, str(about.get("full_name") or name), url, known, date)
            yield Repository(found.name, found.url, revision, found.date, found.licence, found.files)


def is_name(place: str) -> bool:
    """Whether it is `OWNER/NAME` and nothing here is called so."""
    parts = place.split("/")
    return len(parts) == 2 and all(parts) and not place.endswith(_ARCHIVES) and not Path(place).exists()


def _found(file: SourceFile, repository: Repository, position: str, done: int) -> Found:
    """A file's record, or why it has none."""
    dropped = unwanted_path(file.path, file.size_bytes)
    if dropped:
        return Found(position, dropped=dropped, done=done)
    text = decoded(file.read())
    dropped = "not text" if text is None else unwanted_text(text)
    if dropped or text is None:
        return Found(position, dropped=dropped, done=done)
    record = Record(
        f"github/{repository.name}/{file.path}", text, repository.source(file.path), repository.licence or "NOASSERTION",
        repository.date,
        {"repository": repository.name, "path": file.path, "language": language_of(file.path), "commit": repository.revision},
    )  # fmt: skip
    return Found(position, record, done=done)


def _read(position: Position) -> tuple[int, int]:
    """Which repository is next, and how many of its files are done."""
    if not isinstance(position, str):
        return 0, 0
    number, _, passed = position.partition(":")
    return int(number), int(passed)


def _object(value: object, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInput(f"GitHub's answer about {name} is not what its API describes.")
    return value


def _nested(value: dict[str, Any], key: str) -> dict[str, Any]:
    found = value.get(key)
    return found if isinstance(found, dict) else {}
