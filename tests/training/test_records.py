"""Files of records: what is written is read, and damage is told before long work."""

import errno
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import Corrupt, FailedPrecondition, InvalidInput, NotFound
from tests.training import prose
from training import disk, records
from training.records import SUFFIX, Record, ShardWriter
from training.zstd_frames import check_whole


def written(path: Path, *texts: str) -> Path:
    writer = ShardWriter(path)
    for number, text in enumerate(texts):
        writer.write(prose.record(number, text, kind="test"))
    writer.finish()
    return path


def test_records_come_back(tmp_path: Path) -> None:
    path = written(tmp_path / f"a{SUFFIX}", "one\ntwo\u2028three", "vier 🌍")
    found = list(records.read(path))
    assert [each.text for each in found] == ["one\ntwo\u2028three", "vier 🌍"]
    assert found[0] == prose.record(0, "one\ntwo\u2028three", kind="test")


def test_a_file_is_there_only_when_it_is_whole(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path / f"a{SUFFIX}")
    writer.write(prose.record(1, "text"))
    assert list(tmp_path.glob(f"[!.]*{SUFFIX}")) == []
    with pytest.raises(NotFound):
        records.shards(tmp_path)
    writer.discard()
    assert list(tmp_path.iterdir()) == []


FRAMES = [
    zstandard.ZstdCompressor(level=1, write_checksum=checksum, write_content_size=sized).compress(content)
    for checksum, sized, content in ((True, True, b"a" * 300_000), (False, False, b"bc" * 10), (True, True, b""))
]
ENDS = {len(FRAMES[0]), len(FRAMES[0]) + len(FRAMES[1])}
"""Cut there, nothing shows that a frame is missing."""


@given(cut=st.integers(1, sum(map(len, FRAMES)) - 1).filter(lambda place: place not in ENDS))
def test_every_cut_is_found_without_unpacking(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("cut") / "file.zst"
    path.write_bytes(b"".join(FRAMES))
    check_whole(path)
    path.write_bytes(b"".join(FRAMES)[:cut])
    with pytest.raises((Corrupt, InvalidInput)):
        check_whole(path)


def test_what_is_not_zstandard_is_told(tmp_path: Path) -> None:
    path = tmp_path / f"a{SUFFIX}"
    path.write_bytes(b"plain text that nobody packed")
    with pytest.raises(InvalidInput, match="not a zstandard file"):
        records.check([path])
    path.write_bytes(b"")
    with pytest.raises(Corrupt, match="empty"):
        records.check([path])


def test_damage_inside_is_told_while_reading(tmp_path: Path) -> None:
    path = written(tmp_path / f"a{SUFFIX}", *(prose.article(number) for number in range(20)))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises((Corrupt, InvalidInput)):
        list(records.read(path))


@pytest.mark.parametrize("line", [b"[1, 2]", b'{"id": "1", "text": "half a pair: \\ud83d"}'])
def test_a_line_that_is_no_record_is_told_with_its_number(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / f"a{SUFFIX}"
    path.write_bytes(zstandard.compress(prose.record(1, "text").line() + line + b"\n"))
    with pytest.raises(InvalidInput, match="line 2"):
        list(records.read(path))


def test_a_line_without_end_is_not_held_in_memory(tmp_path: Path) -> None:
    path = tmp_path / f"a{SUFFIX}"
    path.write_bytes(zstandard.compress(b"x" * 5_000_000))
    with pytest.raises(Corrupt, match="more than 1000000 bytes"):
        list(records.lines(path, max_bytes=1_000_000))


def test_too_little_room_is_told_before(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="MB are needed"):
        disk.need(tmp_path / "not" / "there", 1 << 60)


def test_a_full_disk_is_told_plainly(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="is full"), disk.full_is_told(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(PermissionError), disk.full_is_told(tmp_path):
        raise PermissionError(errno.EACCES, "no")


def test_a_disk_that_fills_up_while_writing_is_told() -> None:
    """/dev/full is a disk without room."""
    file = Path("/dev/full").open("wb")  # noqa: SIM115 - settle closes it
    with pytest.raises(FailedPrecondition, match="is full"), disk.full_is_told(Path("/dev")):
        file.write(b"x" * 100)
        disk.settle(file)
    with pytest.raises(OSError, match="No space"):
        file.close()


def test_a_record_keeps_its_metadata(tmp_path: Path) -> None:
    path = tmp_path / f"a{SUFFIX}"
    path.write_bytes(zstandard.compress(b'{"id": "1", "text": "t", "extra": 1}\n'))
    assert list(records.read(path)) == [Record("1", "t", "", "", "")]
