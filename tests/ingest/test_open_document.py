"""OpenDocument presentations and spreadsheets, written here by odfpy: what they say, and on which slide or sheet."""

import io
from pathlib import Path
from typing import Any

import pytest
from odf import draw, opendocument, style, table, text
from odf.namespaces import PRESENTATIONNS

from mesh.errors import InvalidInput
from tests.ingest.test_formats import place, read


def saved(document: Any) -> bytes:
    buffer = io.BytesIO()
    document.write(buffer)
    return buffer.getvalue()


def presentation(*slides: tuple[str, str]) -> bytes:
    document: Any = opendocument.OpenDocumentPresentation()
    layout = style.PageLayout(name="Layout")
    document.automaticstyles.addElement(layout)
    document.masterstyles.addElement(style.MasterPage(name="Master", pagelayoutname=layout))
    for title, words in slides:
        page = draw.Page(name=title, masterpagename="Master")
        for y, line in ((1, title), (5, words)):
            frame = draw.Frame(width="20cm", height="3cm", x="2cm", y=f"{y}cm")
            box = draw.TextBox()
            if y == 1:
                frame.setAttrNS(PRESENTATIONNS, "class", "title")
            box.addElement(text.P(text=line))
            frame.addElement(box)
            page.addElement(frame)
        document.presentation.addElement(page)
    return saved(document)


def spreadsheet(**sheets: list[list[str | float]]) -> bytes:
    document: Any = opendocument.OpenDocumentSpreadsheet()
    for name, rows in sheets.items():
        sheet = table.Table(name=name)
        for row in rows:
            line = table.TableRow()
            for value in row:
                kind = {"valuetype": "string"} if isinstance(value, str) else {"valuetype": "float", "value": value}
                cell = table.TableCell(**kind)
                cell.addElement(text.P(text=str(value)))
                line.addElement(cell)
            sheet.addElement(line)
        document.spreadsheet.addElement(sheet)
    return saved(document)


def test_each_slide_of_a_presentation_is_a_place(tmp_path: Path) -> None:
    found = read(tmp_path, "talk", presentation(("Dome", "Greased every six weeks."), ("Mirror", "Washed in spring.")))

    assert found[2].media_type == "application/vnd.oasis.opendocument.presentation"
    assert [place(found, words).slide for words in ("six weeks", "in spring")] == [1, 2]
    assert found[0].startswith("# Dome\n\nGreased every six weeks.\n")


def test_each_sheet_of_a_spreadsheet_is_a_place_and_a_table(tmp_path: Path) -> None:
    data = spreadsheet(Sales=[["city", "sold"], ["Köln", 12.5]], Costs=[["city", "spent"], ["Bonn", 7]])

    found = read(tmp_path, "numbers", data)

    assert found[2].media_type == "application/vnd.oasis.opendocument.spreadsheet"
    assert "| Köln | 12.5 |" in found[0]
    assert [place(found, words).sheet for words in ("Köln", "Bonn")] == ["Sales", "Costs"]


@pytest.mark.parametrize("data", [presentation(("A", "b")), spreadsheet(A=[["b"]])])
def test_a_damaged_one_says_so(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(InvalidInput, match="damaged"):
        read(tmp_path, "cut", data[: len(data) // 2])
