"""Servers are asked as they like it, and files of the web are read whole."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from mesh.errors import InvalidInput, NotFound, PermissionDenied, Unauthenticated, Unavailable
from tests.training.test_collect_wikipedia import dump, page
from tests.training.web import Answer, Asked, serving
from training import records
from training.collect import inputs
from training.collect.collecting import collect
from training.collect.polite import ATTEMPTS, Pacing, PoliteClient
from training.collect.wikipedia import WikipediaDump

QUICK = Pacing(interval_s=0.0)


class Naps:
    """Sleeps that only are remembered."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)


def busy_until_http_date() -> Answer:
    return Answer(status=503, headers={"Retry-After": format_datetime(in_minutes(30), usegmt=True)})


def used_up_until_epoch() -> Answer:
    until = str(int(in_minutes(15).timestamp()))
    return Answer(status=403, headers={"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": until})


def in_minutes(minutes: int) -> datetime:
    return datetime.now(UTC) + timedelta(minutes=minutes)


def busy_first(*answers: Answer) -> Callable[[Asked], Answer]:
    remaining = list(answers)
    return lambda _: remaining.pop(0) if remaining else Answer(b'{"good": true}')


def test_it_says_who_asks_and_asks_not_too_often() -> None:
    naps = Naps()
    with serving(busy_first()) as site, PoliteClient(pacing=Pacing(interval_s=30.0), sleep=naps) as client:
        assert client.get_json(f"{site.url}/a") == {"good": True}
        client.get_json(f"{site.url}/b")
        client.get_json(f"{site.url}/c")
    assert all(asked.headers["User-Agent"].startswith("murphey/") for asked in site.asked)
    first, second = naps.slept
    assert 20.0 < first <= 30.0
    assert 40.0 < second <= 60.0


@pytest.mark.parametrize(
    ("answer", "least_s", "most_s"),
    [
        (lambda: Answer(status=429, headers={"Retry-After": "7"}), 7.0, 7.0),
        (lambda: Answer(status=503), 1.0, 1.0),
        (lambda: Answer(status=403, headers={"Retry-After": "3"}), 3.0, 3.0),
        (busy_until_http_date, 1_000.0, 1_800.0),
        (used_up_until_epoch, 300.0, 900.0),
    ],
)
def test_a_server_that_wants_a_pause_gets_it(answer: Callable[[], Answer], least_s: float, most_s: float) -> None:
    naps = Naps()
    with serving(busy_first(answer())) as site, PoliteClient(pacing=QUICK, sleep=naps) as client:
        assert client.get_json(site.url) == {"good": True}
    (slept,) = naps.slept
    assert least_s <= slept <= most_s


def test_a_pause_that_is_too_long_ends_the_run() -> None:
    naps = Naps()
    answer = Answer(status=429, headers={"Retry-After": "86400"})
    with (
        serving(lambda _: answer) as site,
        PoliteClient(pacing=QUICK, sleep=naps) as client,
        pytest.raises(Unavailable, match="wait 86,400 s"),
    ):
        client.get_json(site.url)
    assert naps.slept == []


def test_it_gives_up_on_a_server_that_stays_busy() -> None:
    naps = Naps()
    with (
        serving(lambda _: Answer(status=502)) as site,
        PoliteClient(pacing=QUICK, sleep=naps) as client,
        pytest.raises(Unavailable),
    ):
        client.get_json(site.url)
    assert naps.slept == [1.0, 2.0, 4.0, 8.0, 16.0]


@pytest.mark.parametrize(
    ("status", "error"), [(401, Unauthenticated), (403, PermissionDenied), (404, NotFound), (418, InvalidInput)]
)
def test_answers_that_waiting_does_not_change(status: int, error: type[Exception]) -> None:
    with serving(lambda _: Answer(status=status)) as site, PoliteClient(pacing=QUICK) as client, pytest.raises(error):
        client.get_json(site.url)


def test_a_dump_of_the_web_is_read_on_where_its_connection_broke(tmp_path: Path) -> None:
    content = dump(tmp_path / "dump.xml.bz2", *(page(number) for number in range(1, 400))).read_bytes()
    third = len(content) // 3

    def answer(asked: Asked) -> Answer:
        headers = {"ETag": '"v1"'}
        if "Range" not in asked.headers:
            return Answer(content, headers=headers, cut=third)
        start = int(asked.headers["Range"].removeprefix("bytes=").rstrip("-"))
        assert asked.headers["If-Range"] == '"v1"'
        return Answer(content[start:], 206, headers)

    with serving(answer) as site:
        place = inputs.find(f"{site.url}/dump.xml.bz2", QUICK)
        manifest = collect(WikipediaDump(place), tmp_path / "out")
    assert manifest.records == 399
    assert len(site.asked) == 2
    found = [record for path in records.shards(tmp_path / "out") for record in records.read(path)]
    assert found[-1].id == "wikipedia/de/399"


def test_a_file_whose_connection_breaks_again_and_again_is_read_as_long_as_it_goes_on() -> None:
    content = bytes(range(256)) * 40
    stuck = [False]

    def answer(asked: Asked) -> Answer:
        start = int(asked.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        cut = 0 if stuck[0] else len(content) // (2 * ATTEMPTS)
        return Answer(content[start:], 206 if start else 200, {"ETag": '"v1"'}, cut)

    with serving(answer) as site:
        with inputs.find(f"{site.url}/file", QUICK).open() as file:
            assert file.read() == content
        assert len(site.asked) > ATTEMPTS
        stuck[0] = True
        with inputs.find(f"{site.url}/file", QUICK).open() as file, pytest.raises(Unavailable, match="again and again"):
            file.read()


def test_a_file_that_changed_meanwhile_is_not_pieced_together(tmp_path: Path) -> None:
    content = dump(tmp_path / "dump.xml", *(page(number) for number in range(1, 100))).read_bytes()
    with serving(lambda asked: Answer(content, cut=None if "Range" in asked.headers else 5_000)) as site:
        place = inputs.find(f"{site.url}/dump.xml", QUICK)
        with pytest.raises(Unavailable, match="changed"):
            collect(WikipediaDump(place), tmp_path / "out")
