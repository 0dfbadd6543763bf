"""Wikipedia dumps: articles as plain text, in order, resumable; broken ones told."""

import bz2
from pathlib import Path

import pytest

from mesh.errors import Corrupt, FailedPrecondition, InvalidInput
from training import records
from training.collect import inputs
from training.collect.collecting import MANIFEST, collect, load
from training.collect.wikipedia import WikipediaDump
from training.collect.wikitext import Namespaces, plain_text

HEAD = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="de">
<siteinfo><sitename>Wikipedia</sitename><dbname>dewiki</dbname><base>https://de.wikipedia.org/wiki/Wikipedia:Hauptseite</base>
<namespaces><namespace key="0" case="first-letter" /><namespace key="6" case="first-letter">Datei</namespace>
<namespace key="14" case="first-letter">Kategorie</namespace></namespaces></siteinfo>
"""
PROSE = "Der '''Fluss''' fließt durch das Tal und mündet nach vielen Kilometern in das [[Meer]]. " * 3


def page(number: int, text: str = PROSE, title: str = "", namespace: int = 0, redirect: bool = False) -> str:
    mark = '<redirect title="X" />' if redirect else ""
    return (
        f"<page><title>{title or f'Artikel {number}'}</title><ns>{namespace}</ns><id>{number}</id>{mark}<revision>"
        f"<id>{number + 1000}</id><timestamp>2024-05-06T07:08:09Z</timestamp><text>{text}</text></revision></page>\n"
    )


def dump(path: Path, *pages: str, end: str = "</mediawiki>\n") -> Path:
    content = (HEAD + "".join(pages) + end).encode()
    path.write_bytes(bz2.compress(content) if path.suffix == ".bz2" else content)
    return path


def collector(path: Path, workers: int = 1) -> WikipediaDump:
    return WikipediaDump(inputs.find(str(path)), workers=workers)


def collected(folder: Path) -> list[records.Record]:
    return [record for path in records.shards(folder) for record in records.read(path)]


@pytest.mark.parametrize("name", ["dump.xml", "dump.xml.bz2"])
def test_articles_become_records(tmp_path: Path, name: str) -> None:
    path = dump(
        tmp_path / name, page(1, title="Über Flüsse"), page(2, redirect=True), page(3, namespace=4), page(4, text=""),
        page(5, text="#REDIRECT [[X]]"), page(6, text="Zu kurz."),
    )  # fmt: skip
    manifest = collect(collector(path), tmp_path / "out")
    (record,) = collected(tmp_path / "out")
    assert record.id == "wikipedia/de/1"
    assert record.source == "https://de.wikipedia.org/wiki/%C3%9Cber_Fl%C3%BCsse"
    assert (record.licence, record.date) == ("CC-BY-SA-4.0", "2024-05-06T07:08:09Z")
    assert record.text.startswith("Über Flüsse\n\nDer Fluss fließt durch das Tal und mündet")
    assert record.metadata == {"title": "Über Flüsse", "language": "de", "revision": "1001"}
    assert manifest.dropped == {"redirect": 2, "not an article": 1, "no text": 1, "too short": 1}
    assert manifest.finished


def test_it_goes_on_where_it_was_broken_off(tmp_path: Path) -> None:
    path = dump(tmp_path / "dump.xml", *(page(number) for number in range(1, 31)))
    collect(collector(path), tmp_path / "out", limit=7, shard_bytes=1_000)
    collect(collector(path), tmp_path / "out", limit=19, shard_bytes=1_000)
    manifest = collect(collector(path), tmp_path / "out", shard_bytes=1_000)
    whole = collect(collector(path), tmp_path / "whole")
    assert [each.id for each in collected(tmp_path / "out")] == [f"wikipedia/de/{number}" for number in range(1, 31)]
    assert (manifest.records, manifest.bytes, manifest.finished) == (30, whole.bytes, True)


def test_an_interruption_keeps_what_was_found(tmp_path: Path) -> None:
    path = dump(tmp_path / "dump.xml", *(page(number) for number in range(1, 11)))
    seen: list[object] = []

    def interrupt(found: object) -> None:
        seen.append(found)
        if len(seen) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect(collector(path), tmp_path / "out", watch=interrupt)
    assert len(collected(tmp_path / "out")) == 4
    collect(collector(path), tmp_path / "out")
    assert [each.id for each in collected(tmp_path / "out")] == [f"wikipedia/de/{number}" for number in range(1, 11)]


@pytest.mark.slow
def test_more_workers_give_the_same(tmp_path: Path) -> None:
    path = dump(tmp_path / "dump.xml.bz2", *(page(number) for number in range(1, 101)))
    collect(collector(path), tmp_path / "one")
    collect(collector(path, workers=2), tmp_path / "two")
    assert collected(tmp_path / "one") == collected(tmp_path / "two")


@pytest.mark.parametrize("name", ["dump.xml", "dump.xml.bz2"])
def test_a_truncated_dump_is_told_before_anything_is_read(tmp_path: Path, name: str) -> None:
    path = dump(tmp_path / name, *(page(number) for number in range(1, 50)))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(Corrupt, match="truncated"):
        collect(collector(path), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_broken_xml_is_told_with_its_line_and_what_stood_before_is_kept(tmp_path: Path) -> None:
    path = dump(tmp_path / "dump.xml", page(1), page(2), "<page><title>x</page>", page(3))
    with pytest.raises(Corrupt, match="broken XML at line 7"):
        collect(collector(path), tmp_path / "out")
    assert [each.id for each in collected(tmp_path / "out")] == ["wikipedia/de/1", "wikipedia/de/2"]


def test_damaged_bz2_is_told(tmp_path: Path) -> None:
    path = dump(tmp_path / "dump.xml.bz2", *(page(number) for number in range(1, 50)))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises((Corrupt, InvalidInput)):  # a block's checksum stands at its end: first comes what it unpacks to
        collect(collector(path), tmp_path / "out")


def test_entities_are_refused(tmp_path: Path) -> None:
    laughs = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>' + HEAD + page(1, "&b;") + "</mediawiki>"
    (tmp_path / "dump.xml").write_text(laughs)
    with pytest.raises(InvalidInput, match="entities"):
        collect(collector(tmp_path / "dump.xml"), tmp_path / "out")


def test_another_kind_of_xml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dump.xml").write_text("<html><body>no</body></html></mediawiki>")
    with pytest.raises(InvalidInput, match="not a MediaWiki dump"):
        collect(collector(tmp_path / "dump.xml"), tmp_path / "out")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path = dump(tmp_path / "dump.xml", page(1))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(FailedPrecondition, match="not empty"):
        collect(collector(path), tmp_path / "out")
    collect(collector(path), tmp_path / "own")
    other = dump(tmp_path / "other.xml", page(1), page(2))
    with pytest.raises(FailedPrecondition, match="name a new folder"):
        collect(collector(other), tmp_path / "own")
    (tmp_path / "own" / MANIFEST).write_text("{")
    with pytest.raises(Corrupt):
        load(tmp_path / "own")


@pytest.mark.parametrize(
    ("wikitext", "expected"),
    [
        ("'''Bold''' and ''italic''.", "Bold and italic."),
        ("A [[link]], a [[target|shown one]] and [[Some place#Part|]]x.", "A link, a shown one and x."),
        ("Before [[File:x.jpg|thumb|A [[nested]] caption]] after.", "Before after."),
        ("Text.[[Category:Things]][[de:Dinge]]", "Text."),
        ("Fact.<ref name=a>Source [[x]]</ref> More.<ref name=a />", "Fact. More."),
        ("{{Infobox|name=x|y={{z}}}}The prose.", "The prose."),
        ("It is {{convert|5|km|mi}} long, {{lang|fr|bonjour}}, {{nowrap|a b}}.", "It is 5 km long, bonjour, a b."),
        ("Rome ({{IPA|x}}; {{lang|la|Roma}}) is old. Paris ({{IPA|x}}) too.", "Rome (Roma) is old. Paris too."),
        ("{| class=x\n! a\n|-\n| b\n|}\nAfter the table.", "After the table."),
        ("* one\n* two\n# three", "- one\n- two\n- three"),
        ("See [http://example.org the site] and [http://example.org].", "See the site and."),
        ("a&nbsp;b &amp; c &lt;d&gt; <!-- hidden -->e", "a b & c <d> e"),
        ("The area is <math>\\pi r^2</math>.", "The area is $\\pi r^2$."),
        (
            "Lead.\n\n== One ==\n\n=== Empty ===\n\n== Two ==\nText.\n\n== References ==\n{{reflist}}\nx",
            "Lead.\n\nTwo\n\nText.",
        ),
    ],
)
def test_wikitext_reads_as_prose(wikitext: str, expected: str) -> None:
    assert plain_text(wikitext, Namespaces()) == expected
