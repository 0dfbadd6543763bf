"""Caches of bytes: what they find, what they forget, and what they take."""

import os
import sys

import psutil
import pytest
from prometheus_client import REGISTRY

from mesh.caching import ENTRY_BYTES, MEGABYTE, ByteCache, Use, digest


def lookups(cache: str, result: str) -> float:
    return REGISTRY.get_sample_value("murphey_cache_lookups_total", {"cache": cache, "result": result}) or 0


def test_what_was_kept_is_found_and_counted() -> None:
    cache = ByteCache("found", MEGABYTE)
    assert cache.get(digest("a")) is None
    cache.put(digest("a"), b"tea")
    assert cache.get(digest("a")) == b"tea"
    assert cache.get(digest("a"), Use(read=False)) is None
    assert [lookups("found", result) for result in ("hit", "miss", "skipped")] == [1, 1, 1]
    assert REGISTRY.get_sample_value("murphey_cache_entries", {"cache": "found"}) == 1
    assert REGISTRY.get_sample_value("murphey_cache_bytes", {"cache": "found"}) == cache.size_bytes > ENTRY_BYTES


def test_keys_of_other_things_differ() -> None:
    keys = {
        digest(*parts)
        for parts in (("a", "b"), ("ab", ""), ("a",), ("a", "b", None), (b"a", "b"), ("a", 1), ("a", 1.5))
    }
    assert len(keys) == 7


def test_what_was_used_last_stays() -> None:
    cache = ByteCache("bounded", 3 * (ENTRY_BYTES + 100))
    for name in "abc":
        cache.put(digest(name), bytes(100))
    assert cache.get(digest("a"))
    cache.put(digest("d"), bytes(100))
    assert [name for name in "abcd" if cache.get(digest(name)) is not None] == ["a", "c", "d"]
    cache.put(digest("huge"), bytes(10_000))
    assert cache.get(digest("huge")) is None
    assert len(cache) == 3


def test_nothing_is_kept_without_room() -> None:
    cache = ByteCache("off", 0)
    cache.put(digest("a"), b"")
    assert (cache.get(digest("a")), len(cache), cache.enabled) == (None, 0, False)
    assert lookups("off", "miss") == 0


def test_what_is_too_old_for_a_call_is_not_used() -> None:
    cache = ByteCache("old", MEGABYTE)
    cache.put(digest("a"), b"tea")
    assert cache.get(digest("a"), Use(max_age_s=3600)) == b"tea"
    assert cache.get(digest("a"), Use(max_age_s=0)) is None


def test_stale_entries_are_dropped_by_tag() -> None:
    cache = ByteCache("tags", MEGABYTE)
    cache.put(digest("a"), b"1", ("collections/a", "v1"))
    cache.put(digest("b"), b"2", ("collections/b", "v1"))
    assert cache.drop(lambda tags: tags[0] == "collections/a") == 1
    assert cache.get(digest("a")) is None
    assert cache.get(digest("b")) == b"2"
    assert cache.size_bytes == ENTRY_BYTES + 1 + sum(64 + len(tag) for tag in ("collections/b", "v1"))


@pytest.mark.slow
@pytest.mark.parametrize("size", [100, 1_536, 2_000])
def test_its_own_count_is_not_less_than_the_memory_it_takes(size: int) -> None:
    cache, process = ByteCache(f"memory-{size}", 1_000 * MEGABYTE), psutil.Process()
    before = process.memory_info().rss
    for number in range(100_000):
        cache.put(digest(number), os.urandom(size), (f"answers/{number}", sys.intern("collections/a")))
    assert len(cache) == 100_000
    assert process.memory_info().rss - before < cache.size_bytes * 1.1
