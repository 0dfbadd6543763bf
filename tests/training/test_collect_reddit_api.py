"""Reddit's API by PRAW, against a server on this machine."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from mesh.errors import FailedPrecondition, Unauthenticated
from tests.training.web import Answer, Asked, serving
from training import records
from training.collect.collecting import collect
from training.collect.reddit import LICENCE, PostFilter
from training.collect.reddit_api import Addresses, Credentials, RedditListing

LONG = "A long text about how the tides are made by the moon and, to a lesser part, by the sun. " * 3
KNOWN = Credentials("some-id", "some-secret")


def submission(number: int) -> dict[str, Any]:
    data = {
        "id": f"p{number}", "name": f"t3_p{number}", "title": f"Why? {number}", "selftext": LONG, "score": 10 * (number % 3),
        "subreddit": "askscience", "created_utc": 1_600_000_000.0, "permalink": f"/r/askscience/comments/p{number}/why/",
        "over_18": False, "stickied": False, "removed_by_category": None, "author": "somebody",
    }  # fmt: skip
    return {"kind": "t3", "data": data}


def reddit(asked: Asked) -> Answer:
    """Two pages of a hundred submissions, as Reddit hands them out."""
    url = urlsplit(asked.path)
    headers = {"Content-Type": "application/json", "x-ratelimit-remaining": "500", "x-ratelimit-used": "1"}
    headers["x-ratelimit-reset"] = "1"
    if url.path == "/api/v1/access_token":
        if asked.headers.get("Authorization") != "Basic c29tZS1pZDpzb21lLXNlY3JldA==":
            return Answer(b"{}", 401, headers)
        token = {"access_token": "t", "token_type": "bearer", "expires_in": 3600, "scope": "*"}
        return Answer(json.dumps(token).encode(), headers=headers)
    after = parse_qs(url.query).get("after", ["t3_p0"])[0]
    first = int(after.removeprefix("t3_p")) + 1
    children = [submission(number) for number in range(first, min(first + 100, 201))]
    last = f"t3_p{first + 99}" if first + 99 < 200 else None
    return Answer(
        json.dumps({"kind": "Listing", "data": {"children": children, "after": last}}).encode(), headers=headers
    )


def listing(url: str, credentials: Credentials | None = KNOWN) -> RedditListing:
    return RedditListing(["askscience"], "new", PostFilter(), LICENCE, credentials, Addresses(url, url))


def test_a_listing_becomes_records_and_goes_on(tmp_path: Path) -> None:
    with serving(reddit) as site:
        collect(listing(site.url), tmp_path / "out", limit=20)
        manifest = collect(listing(site.url), tmp_path / "out")
        whole = collect(listing(site.url), tmp_path / "whole")
    found = [record for path in records.shards(tmp_path / "out") for record in records.read(path)]
    assert [each.id for each in found] == [f"reddit/submission/p{n}" for n in range(1, 201) if n % 3]
    assert (manifest.records, manifest.dropped) == (whole.records, {"low score": 66})
    assert found[0].source == "https://www.reddit.com/r/askscience/comments/p1/why/"
    assert "somebody" not in str(found)
    assert all(asked.headers["User-Agent"].startswith("murphey/") for asked in site.asked)
    assert "some-secret" not in (tmp_path / "out" / "collected.json").read_text()


def test_credentials_are_asked_for_first(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="MURPHEY_REDDIT_CLIENT_ID"):
        collect(listing("http://127.0.0.1:9", None), tmp_path / "out")


def test_wrong_credentials_are_told(tmp_path: Path) -> None:
    with serving(reddit) as site, pytest.raises(Unauthenticated):
        collect(listing(site.url, Credentials("wrong", "wrong")), tmp_path / "out")
