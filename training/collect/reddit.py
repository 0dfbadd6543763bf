"""Reddit from dumps: JSON lines compressed by zstandard, of submissions or of comments, as the archives of the whole site are.

Only what was not removed, has a score of at least `min_score`, and is not by a bot becomes a record. Authors' names are not
kept. The dumps of the whole site are packed with a window of 2 GiB, which unpacking them holds in memory.
"""

import html
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from mesh.errors import InvalidInput
from training.collect.collectors import Found, Position
from training.records import Record, lines
from training.zstd_frames import check_whole

LICENCE = "LicenseRef-Reddit-User-Agreement"
"""Posts stay their authors' and no open licence covers them; a dump's own licence is given with --licence."""
MAX_LINE_BYTES = 16 * 1024 * 1024
_PROBED = 1_000
_REMOVED = frozenset({"[removed]", "[deleted]", "[ removed by reddit ]", "[removed by reddit]"})
_BOTS = re.compile(r"automoderator$|bot$|_bot_|-bot-", re.IGNORECASE)
_SPACE_BEFORE_END = re.compile(r"[ \t]+\n")


@dataclass(frozen=True)
class PostFilter:
    """Which posts are wanted. `subreddits` are lower-case names; empty for all."""

    min_score: int = 3
    min_characters: int = 100
    over_18: bool = False
    subreddits: frozenset[str] = frozenset()

    def dropped(self, post: Mapping[str, Any], text: str) -> str:
        """Why a post is not wanted; empty when it is."""
        if _is_removed(post):
            return "removed"
        if _number(post.get("score")) < self.min_score:
            return "low score"
        if self.subreddits and str(post.get("subreddit", "")).lower() not in self.subreddits:
            return "other subreddit"
        if not self.over_18 and _is_true(post.get("over_18")):
            return "over 18"
        if _is_true(post.get("stickied")) or _BOTS.search(str(post.get("author") or "")):
            return "bot or notice"
        return "too short" if len(text) < self.min_characters else ""


class RedditDump:
    """A dump as a collector."""

    name = "reddit"

    def __init__(self, path: Path, wanted: PostFilter, licence: str = LICENCE) -> None:
        self._path, self._wanted, self._licence = path, wanted, licence

    @property
    def identity(self) -> Mapping[str, Any]:
        return {
            "dump": str(self._path), "size_bytes": self._path.stat().st_size, "licence": self._licence,
            **options(self._wanted),
        }  # fmt: skip

    @property
    def total(self) -> int | None:
        return None

    def check(self) -> int:
        """Corrupt for a truncated file, InvalidInput for one that is not of posts."""
        check_whole(self._path)
        probed = [_post(line) for line, _ in zip(self._lines(), range(_PROBED), strict=False)]
        if not any(probed):
            raise InvalidInput(
                f"{self._path} holds no posts: no line of the first {len(probed)} has a title or a body."
            )
        return self._path.stat().st_size

    def find(self, after: Position) -> Iterator[Found]:
        start = after if isinstance(after, int) else 0
        for number, line in enumerate(self._lines(), start=1):
            if number > start:
                yield self._found(number, line)

    def _lines(self) -> Iterator[bytes]:
        return lines(self._path, MAX_LINE_BYTES)

    def _found(self, number: int, line: bytes) -> Found:
        post = _post(line)
        if post is None:
            return Found(number, dropped="not a post", done=number)
        record = to_record(post, self._licence)
        dropped = self._wanted.dropped(post, record.text)
        return Found(number, dropped=dropped, done=number) if dropped else Found(number, record, done=number)


def options(wanted: PostFilter) -> dict[str, Any]:
    """The filter as part of a collector's identity."""
    return {
        "min_score": wanted.min_score, "min_characters": wanted.min_characters, "over_18": wanted.over_18,
        "subreddits": sorted(wanted.subreddits),
    }  # fmt: skip


def to_record(post: Mapping[str, Any], licence: str) -> Record:
    """A submission's title and text, or a comment's text."""
    is_comment = "body" in post
    body = _clean(post.get("body") if is_comment else post.get("selftext"))
    title = "" if is_comment else _clean(post.get("title"))
    text = "\n\n".join(part for part in (title, body) if part)
    kind, post_id = ("comment" if is_comment else "submission"), str(post.get("id", ""))
    metadata = {
        "kind": kind, "subreddit": str(post.get("subreddit", "")), "score": _number(post.get("score")),
        **({"title": title} if title else {}),
    }  # fmt: skip
    return Record(f"reddit/{kind}/{post_id}", text, _address(post, is_comment), licence, _date(post), metadata)


def subreddit_names(given: Collection[str]) -> frozenset[str]:
    """Names as filters have them: `r/AskScience` and `askscience` are one."""
    return frozenset(name.lower().removeprefix("/").removeprefix("r/") for name in given)


def _post(line: bytes) -> dict[str, Any] | None:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) and ("body" in value or "title" in value) else None


def _is_removed(post: Mapping[str, Any]) -> bool:
    bodies = (str(post.get(key) or "").strip().lower() for key in ("body", "selftext", "title"))
    return bool(post.get("removed_by_category") or post.get("banned_by")) or any(body in _REMOVED for body in bodies)


def _clean(text: Any) -> str:
    """Reddit escapes `&`, `<` and `>` in what it hands out."""
    plain = html.unescape(str(text or "")).replace("\r\n", "\n").replace("\u200b", "")
    return _SPACE_BEFORE_END.sub("\n", plain).strip()


def _address(post: Mapping[str, Any], is_comment: bool) -> str:
    permalink = str(post.get("permalink") or "")
    if permalink:
        return permalink if "://" in permalink else f"https://www.reddit.com{permalink}"
    parent = str(post.get("link_id") or "").removeprefix("t3_") if is_comment else str(post.get("id", ""))
    return f"https://www.reddit.com/comments/{parent}"


def _date(post: Mapping[str, Any]) -> str:
    created_s = _number(post.get("created_utc"))
    return datetime.fromtimestamp(created_s, UTC).isoformat(timespec="seconds") if created_s > 0 else ""


def _number(value: Any) -> int:
    """Some dumps write numbers as text."""
    try:
        return int(float(value))
    except (TypeError, ValueError, OverflowError):
        return 0


def _is_true(value: Any) -> bool:
    return value is True or str(value).lower() in ("true", "1")
