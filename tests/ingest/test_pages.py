"""Page numbers that a person read off the pages themselves: words that stand on one page of a file, and on which."""

import re
from pathlib import Path

import pytest

from ingest.parsers.ocr import Recognizer
from ingest.parsers.parsing import parse_file
from ingest.parsers.reading import ReadLimits
from ingest.texts import TextIndex
from tests.ingest.conftest import NO_SPEECH

pytestmark = pytest.mark.slow

SEEN = [
    ("debian/debian-policy/policy.pdf", 61, "Called during error handling when prerm upgrade fails"),
    ("filings/2022 Q3 NVDA.pdf", 7, "FOR THE NINE MONTHS ENDED OCTOBER 30, 2022 AND OCTOBER 31, 2021"),
    ("filings/DOC2022.pdf", 30, "Poverty, limited job opportunity, and low labor force participation persist"),
    ("filings/NCT06158269_Prot_000.pdf", 4, "Patients who received attenuated alive vaccines within 4 weeks"),
    ("unstructured/pdf/multi-column.pdf", 9, "We thank the anonymous reviewers for their helpful"),
]


@pytest.mark.parametrize(("name", "page", "words"), SEEN)
def test_words_are_on_the_page_where_a_person_saw_them(
    name: str, page: int, words: str, documents_folder: Path, tmp_path: Path
) -> None:
    text, index, members = tmp_path / "text", tmp_path / "index", tmp_path / "members"
    path = documents_folder / name
    parse_file(path, path.name, text, index, members, Recognizer("eng"), NO_SPEECH, ReadLimits(1 << 28))
    found = re.finditer(r"\W+".join(map(re.escape, re.findall(r"\w+", words))), text.read_text())
    places = TextIndex.from_bytes(index.read_bytes())
    assert {(places.page(match.start()), places.page(match.end() - 1)) for match in found} == {(page, page)}
