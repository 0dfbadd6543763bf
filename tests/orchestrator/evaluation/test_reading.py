"""Sets: what is read, and which line is named when one cannot be."""

from pathlib import Path

import pytest

from mesh.errors import InvalidInput
from orchestrator.evaluation.reading import read_set
from orchestrator.evaluation.sets import Document, Part, chosen, document_id
from tests.orchestrator.evaluation.sample import ANSWERS, CORPUS, QRELS, QUERIES, json_lines, write_set


def test_a_folder_in_beirs_form(tmp_path: Path) -> None:
    found = read_set(write_set(tmp_path / "pottery"))
    assert found.name == "pottery"
    assert [question.id for question in found.questions] == ["q1", "q2", "q3", "q4"]
    first, *_, last = found.questions
    assert first.relevant == {"kiln": 2, "prices": 0}
    assert first.answers == ("1,240 degrees", "1,240 degrees Celsius")
    assert (first.is_judged, first.answerable) == (True, True)
    assert (last.is_judged, last.answerable, last.answers) == (False, False, ())
    assert found.judged_documents() == {"kiln", "keys/1", "prices"}
    assert found.corpus is not None
    assert found.corpus.ids == {"kiln", "keys/1", "prices", "empty"}
    assert [document.content for document in found.corpus.documents()][2:] == [CORPUS[2]["text"], ""]
    assert [document.content for document in found.corpus.documents()][1].startswith("Keys\n\nMarlene")


def test_judgements_by_split_without_header_or_with_windows_line_ends(tmp_path: Path) -> None:
    folder = write_set(tmp_path)
    (folder / "qrels.tsv").unlink()
    (folder / "qrels").mkdir()
    (folder / "qrels" / "test.tsv").write_bytes(b"q1\tkiln\t1\r\n\r\nq2\tkiln\t1\r\n")
    found = read_set(folder)
    assert [dict(question.relevant) for question in found.questions] == [{"kiln": 1}, {"kiln": 1}, {}, {}]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("corpus", '{"_id": "a", "text": "b"}\n{"_id": "c", "text": \n', "corpus.jsonl, line 2: not valid JSON"),
        ("corpus", json_lines([{"_id": "a", "text": "b"}] * 2), "line 2: the document 'a' stands there a second time"),
        ("corpus", json_lines([{"_id": 7, "text": "b"}]), "line 1: `_id` is missing, empty or not a string"),
        ("corpus", json_lines([{"_id": "a", "title": "b"}]), "line 1: `text` is missing"),
        ("corpus", json_lines([{"_id": "a", "text": "b", "title": 3}]), "`title` is not a string"),
        ("corpus", json_lines([{"_id": "a" * 2000, "text": "b"}]), "2000 characters is too long"),
        ("corpus", '{"_id": "a", "text": "\\ud800"}\n', "half of a surrogate pair"),
        ("corpus", "[1]\n", "line 1: not a JSON object"),
        ("corpus", "", "holds no documents"),
        (
            "queries",
            json_lines([QUERIES[0], {"_id": "q9", "text": "  "}]),
            "queries.jsonl, line 2: the question is empty",
        ),
        ("queries", json_lines([{"_id": "q1", "text": "x" * 8193}]), "the question has 8,193 characters"),
        ("queries", json_lines([QUERIES[0]] * 2), "line 2: the query 'q1' stands there a second time"),
        ("queries", "\n\n", "holds no queries"),
        ("qrels", QRELS + "q1\tnowhere\t1\n", "qrels.tsv, line 6: the document 'nowhere' is not in corpus.jsonl"),
        ("qrels", QRELS + "q9\tkiln\t1\n", "line 6: the query 'q9' is not in queries.jsonl"),
        ("qrels", "q1\tkiln\thigh\n", "line 1: the score 'high' is not a whole number"),
        ("qrels", "q1 0 kiln 1\n", "line 1: 1 columns instead of"),
        ("qrels", "q1\tkiln\t1\nq1\tkiln\t2\n", "line 2: the document 'kiln' is judged a second time"),
        ("answers", json_lines([ANSWERS[0], {"_id": "q9", "answers": []}]), "answers.jsonl, line 2: the query 'q9'"),
        ("answers", json_lines([{"_id": "q1", "answers": "18"}]), "`answers` is not a list of strings"),
        ("answers", json_lines([{"_id": "q1", "answers": [], "answerable": True}]), "does not agree"),
        ("answers", json_lines([ANSWERS[0]] * 2), "line 2: the query 'q1' is answered a second time"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, name: str, content: str, words: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        read_set(write_set(tmp_path, **{name: content}))
    assert words in raised.value.message


def test_bytes_that_are_no_text_are_named_with_their_line(tmp_path: Path) -> None:
    folder = write_set(tmp_path)
    (folder / "queries.jsonl").write_bytes(b'{"_id": "q1", "text": "a"}\n{"_id": "q2", "text": "\xff"}\n')
    with pytest.raises(InvalidInput, match=r"queries.jsonl, line 2: not UTF-8"):
        read_set(folder)


def test_what_is_no_set(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="There is no set"):
        read_set(tmp_path / "nowhere")
    with pytest.raises(InvalidInput, match=r"holds no queries\.jsonl"):
        read_set(tmp_path)
    (tmp_path / "questions.xlsx").touch()
    with pytest.raises(InvalidInput, match="neither a folder nor"):
        read_set(tmp_path / "questions.xlsx")
    (tmp_path / "queries.jsonl").write_text(json_lines(QUERIES))
    with pytest.raises(InvalidInput, match="neither judgements"):
        read_set(tmp_path)


def test_a_teams_own_questions(tmp_path: Path) -> None:
    path = tmp_path / "ours.csv"
    path.write_text(
        "\ufeffquestion,answer,document,answerable\n"
        'How hot?,"1,240 degrees",kiln.md,\n'
        "How hot?,1240 °C,handbook/kiln.md,true\n"
        "Who won the cup?,,,no\n"
        "What is new?,,,\n"
    )
    hot, cup, new = read_set(path).questions
    assert hot.answers == ("1,240 degrees", "1240 °C")
    assert hot.relevant == {"kiln.md": 1, "handbook/kiln.md": 1}
    assert (hot.answerable, cup.answerable, new.answerable) == (True, False, None)
    assert read_set(path).corpus is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("query,answer\nHow?,so\n", "line 1: the columns are query, answer; they must be question"),
        ("question,answer\nHow?,so,then\n", "line 2: not 2 columns; put texts with commas in quotes"),
        ("question,answer\nHow?\n", "line 2: not 2 columns"),
        ('question\n"How\n', "not valid CSV"),
        ("question,answerable\nHow?,maybe\n", "line 2: `answerable` is 'maybe'"),
        ("question,answer,answerable\nHow?,so,no\n", "line 2: `answerable` does not agree"),
        ("question\n \n", "line 2: the question is empty"),
        ("question\n", "holds no questions"),
        ("", "line 1: the columns are none"),
    ],
)
def test_a_wrong_csv_is_named_with_its_line(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "ours.csv"
    path.write_text(content)
    with pytest.raises(InvalidInput) as raised:
        read_set(path)
    assert words in raised.value.message


def test_a_fingerprint_changes_with_any_content_and_not_with_the_order(tmp_path: Path) -> None:
    base = read_set(write_set(tmp_path / "a")).fingerprint
    assert read_set(write_set(tmp_path / "b", queries=json_lines(QUERIES[::-1]))).fingerprint == base
    changed = [
        {"corpus": json_lines(CORPUS).replace("Monday", "Tuesday")},
        {"queries": json_lines(QUERIES).replace("hot", "warm")},
        {"qrels": QRELS.replace("kiln\t2", "kiln\t1")},
        {"answers": json_lines(ANSWERS).replace("18 euros", "18")},
    ]
    prints = [read_set(write_set(tmp_path / f"c{n}", **files)).fingerprint for n, files in enumerate(changed)]
    assert len({base, *prints}) == 5


def test_halves_and_samples_are_always_the_same(tmp_path: Path) -> None:
    rows = [{"_id": f"q{number}", "text": "How?"} for number in range(200)]
    questions = read_set(write_set(tmp_path, queries=json_lines(rows), qrels="q1\tkiln\t1\n", answers="")).questions
    calibration, held_out = chosen(questions, Part.CALIBRATION, None), chosen(questions, Part.HELD_OUT, None)
    assert sorted(q.id for q in calibration + held_out) == sorted(q.id for q in questions)
    assert 70 < len(calibration) < 130
    sample = chosen(questions, Part.HELD_OUT, 20)
    assert len(sample) == 20
    assert sample == chosen(questions[::-1], Part.HELD_OUT, 20)[::-1]
    assert {q.id for q in sample} <= {q.id for q in held_out}
    assert set(sample_ids := [q.id for q in chosen(questions, Part.HELD_OUT, 30)]) >= {q.id for q in sample}, sample_ids


@pytest.mark.parametrize("identifier", ["471", "a/b", "..", "x:y?", "ünï 漢", "50%", "a.txt"])
def test_any_id_is_read_back_from_its_files_name(identifier: str) -> None:
    name = Document(identifier, "", "text").file_name
    assert "/" not in name
    assert document_id(name, {identifier, "other"}) == identifier


def test_a_stored_document_is_known_by_its_name_with_or_without_its_ending() -> None:
    assert document_id("manuals/kiln.md", {"kiln"}) == "kiln"
    assert document_id("manuals/kiln.md", {"kiln.md"}) == "kiln.md"
    assert document_id("manuals/kiln.md", {"manuals/kiln.md", "kiln"}) == "manuals/kiln.md"
    assert document_id("manuals/kiln.md", {"keys"}) == "manuals/kiln.md"
