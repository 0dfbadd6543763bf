"""The journal gives back what was written to it, and passes over what was cut off."""

from pathlib import Path

from retriever.chunks import DocumentVersion
from retriever.stores.base import OfIds
from retriever.stores.edge.journal import Follower, Journal
from retriever.stores.edge.operations import Delete, Replace, Upsert, in_steps, to_row, updates
from tests.retriever.fakes import chunk, indexed

FIRST, SECOND = Delete(OfIds(("a",))), Replace((DocumentVersion("d", "1"),))


def test_a_follower_reads_each_operation_once(tmp_path: Path) -> None:
    journal, follower = Journal(tmp_path / "journal"), Follower(tmp_path / "journal")
    journal.append(FIRST)
    assert list(follower.new()) == [FIRST]
    journal.append(SECOND)
    assert list(follower.new()) == [SECOND]
    assert list(follower.new()) == []
    assert journal.last() == SECOND
    journal.clear()
    assert journal.last() is None
    journal.close()


def test_a_cut_off_operation_is_none(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    journal.append(FIRST)
    whole = path.stat().st_size
    journal.append(SECOND)
    journal.close()
    for size in (whole, whole + 1, path.stat().st_size - 1):
        content = path.read_bytes()
        cut = tmp_path / f"cut-{size}"
        cut.write_bytes(content[:size])
        assert list(Follower(cut).new()) == [FIRST]
        assert Follower(cut).last() == FIRST


def test_only_what_takes_several_updates_goes_in_steps() -> None:
    rows = [to_row(indexed(chunk("tea", index=row))) for row in range(130)]
    assert [in_steps(operation) for operation in (Upsert.of(rows[:32]), Upsert.of(rows), FIRST)] == [False, True, False]
    assert len(list(updates(Upsert.of(rows)))) == 5
