"""Reddit dumps: scores, removals, bots; damage told before long work."""

import json
from pathlib import Path

import pytest
import zstandard

from mesh.errors import Corrupt, InvalidInput
from training import records
from training.collect.collecting import collect
from training.collect.reddit import LICENCE, PostFilter, RedditDump, subreddit_names

LONG = "A long text about how the tides are made by the moon and, to a lesser part, by the sun. " * 3


def post(number: int, **fields: object) -> dict[str, object]:
    return {
        "id": f"p{number}", "title": f"Why tides? {number}", "selftext": LONG, "score": 10, "subreddit": "askscience",
        "created_utc": 1_600_000_000, "permalink": f"/r/askscience/comments/p{number}/why/", "author": "somebody", **fields,
    }  # fmt: skip


def dump(path: Path, *posts: object) -> Path:
    lines = (post if isinstance(post, str) else json.dumps(post) for post in posts)
    path.write_bytes(zstandard.compress("\n".join(lines).encode()))
    return path


def run(path: Path, out: Path, wanted: PostFilter | None = None) -> list[records.Record]:
    manifest = collect(RedditDump(path, wanted or PostFilter()), out)
    return [record for name in manifest.shards or [] for record in records.read(out / name)]


def test_posts_and_comments_become_records(tmp_path: Path) -> None:
    comment = {
        "id": "c1", "body": f"&gt; quoted\n\n{LONG}&amp; more", "score": "7", "subreddit": "askscience", "link_id": "t3_p1",
        "created_utc": "1600000001",
    }  # fmt: skip
    first, second = run(dump(tmp_path / "d.zst", post(1), comment), tmp_path / "out")
    assert first.id == "reddit/submission/p1"
    assert first.text == f"Why tides? 1\n\n{LONG.strip()}"
    assert first.source == "https://www.reddit.com/r/askscience/comments/p1/why/"
    assert (first.licence, first.date) == (LICENCE, "2020-09-13T12:26:40+00:00")
    assert second.id == "reddit/comment/c1"
    assert second.text.startswith("> quoted\n")
    assert second.text.endswith("& more")
    assert second.source == "https://www.reddit.com/comments/p1"
    assert "somebody" not in str(first)


def test_the_filters_say_what_they_drop(tmp_path: Path) -> None:
    path = dump(
        tmp_path / "d.zst", post(1), post(2, score=1), post(3, selftext="[removed]"), post(4, removed_by_category="moderator"),
        post(5, author="AutoModerator"), post(6, over_18=True), post(7, selftext=""), "not json", post(8, stickied=True),
    )  # fmt: skip
    manifest = collect(RedditDump(path, PostFilter()), tmp_path / "out")
    assert manifest.records == 1
    assert manifest.dropped == {
        "low score": 1, "removed": 2, "bot or notice": 2, "over 18": 1, "too short": 1, "not a post": 1,
    }  # fmt: skip


def test_only_the_subreddits_that_are_named(tmp_path: Path) -> None:
    path = dump(tmp_path / "d.zst", post(1), post(2, subreddit="Other"))
    wanted = PostFilter(subreddits=subreddit_names(["r/AskScience"]))
    assert [record.id for record in run(path, tmp_path / "out", wanted)] == ["reddit/submission/p1"]


def test_it_goes_on_where_it_was_broken_off(tmp_path: Path) -> None:
    path = dump(tmp_path / "d.zst", *(post(number, score=number % 5) for number in range(40)))
    collect(RedditDump(path, PostFilter()), tmp_path / "out", limit=5)
    found = run(path, tmp_path / "out")
    assert found == run(path, tmp_path / "whole")
    assert len(found) == 16


def test_a_truncated_dump_is_told_before_anything_is_read(tmp_path: Path) -> None:
    path = dump(tmp_path / "d.zst", *(post(number) for number in range(100)))
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(Corrupt, match="truncated"):
        run(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_no_dump_of_posts_is_told(tmp_path: Path) -> None:
    path = dump(tmp_path / "d.zst", {"a": 1}, "[]", "x")
    with pytest.raises(InvalidInput, match="holds no posts"):
        run(path, tmp_path / "out")
