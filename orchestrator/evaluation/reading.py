"""Reads labelled sets: a folder in BEIR's form (Thakur et al. 2021), or a team's own questions as CSV.

Whatever is wrong is said with file and line, before anything is asked.
"""

import csv
import hashlib
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from mesh.errors import InvalidInput
from orchestrator.evaluation.sets import MAX_FILE_NAME_CHARACTERS, Corpus, Document, EvaluationSet, Question

QRELS_HEADER = ["query-id", "corpus-id", "score"]
MAX_QUESTION_CHARACTERS = 8_192
_CSV_COLUMNS = {"question", "answer", "document", "answerable"}
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def read_set(path: Path) -> EvaluationSet:
    """The set of a folder or of a CSV file. InvalidInput, with file and line, for one that cannot be used."""
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise InvalidInput(f"There is no set at {path}. Name a folder in BEIR's form or a CSV file of questions.")
    if path.suffix.lower() != ".csv":
        raise InvalidInput(f"{path} is neither a folder nor a .csv file of questions.")
    return EvaluationSet(path.stem, tuple(_csv_questions(path)), corpus=None)


def _read_folder(folder: Path) -> EvaluationSet:
    queries = folder / "queries.jsonl"
    if not queries.is_file():
        raise InvalidInput(f"{folder} holds no queries.jsonl: it is not a set in BEIR's form.")
    corpus_file, qrels, answers = folder / "corpus.jsonl", _qrels_file(folder), folder / "answers.jsonl"
    corpus = _read_corpus(corpus_file) if corpus_file.is_file() else None
    texts = _texts(queries)
    grades = _grades(qrels, texts, corpus) if qrels.is_file() else {}
    answered = _answers(answers, texts) if answers.is_file() else {}
    if not grades and not answered:
        raise InvalidInput(f"{folder} holds neither judgements (qrels.tsv) nor answers (answers.jsonl).")
    questions = (
        Question(identifier, text, grades.get(identifier, {}), *answered.get(identifier, ((), None)))
        for identifier, text in texts.items()
    )
    return EvaluationSet(folder.resolve().name, tuple(questions), corpus)


def _qrels_file(folder: Path) -> Path:
    """BEIR itself keeps judgements by split, in `qrels/test.tsv`."""
    split = folder / "qrels" / "test.tsv"
    return split if split.is_file() else folder / "qrels.tsv"


def _read_corpus(path: Path) -> Corpus:
    digest, ids = hashlib.sha256(), set[str]()
    for number, document in _documents(path):
        if document.id in ids:
            raise _wrong(path, number, f"the document {document.id!r} stands there a second time")
        if len(document.file_name) > MAX_FILE_NAME_CHARACTERS:
            raise _wrong(path, number, f"the id of {len(document.id)} characters is too long")
        ids.add(document.id)
        digest.update(json.dumps([document.id, document.title, document.text]).encode())
    if not ids:
        raise InvalidInput(f"{path} holds no documents.")
    read_again = partial(_documents, path)
    return Corpus(frozenset(ids), digest.hexdigest()[:16], lambda: (document for _, document in read_again()))


def _documents(path: Path) -> Iterator[tuple[int, Document]]:
    for number, row in _json_lines(path):
        title = row.get("title") or ""
        if not isinstance(title, str):
            raise _wrong(path, number, "`title` is not a string")
        yield number, Document(_string(path, number, row, "_id"), title, _string(path, number, row, "text", True))


def _texts(path: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    for number, row in _json_lines(path):
        identifier, text = _string(path, number, row, "_id"), _string(path, number, row, "text")
        if identifier in texts:
            raise _wrong(path, number, f"the query {identifier!r} stands there a second time")
        texts[identifier] = _question_text(path, number, text)
    if not texts:
        raise InvalidInput(f"{path} holds no queries.")
    return texts


def _grades(path: Path, queries: dict[str, str], corpus: Corpus | None) -> dict[str, dict[str, int]]:
    grades: dict[str, dict[str, int]] = {}
    for number, line in _lines(path):
        cells = line.split("\t")
        if number == 1 and cells == QRELS_HEADER:
            continue
        if len(cells) != 3:
            raise _wrong(path, number, f"{len(cells)} columns instead of query-id, corpus-id and score, parted by tabs")
        query, document, score = cells
        if query not in queries:
            raise _wrong(path, number, f"the query {query!r} is not in queries.jsonl")
        if corpus is not None and document not in corpus.ids:
            raise _wrong(path, number, f"the document {document!r} is not in corpus.jsonl")
        if document in grades.get(query, {}):
            raise _wrong(path, number, f"the document {document!r} is judged a second time for the query {query!r}")
        grades.setdefault(query, {})[document] = _grade(path, number, score)
    return grades


def _grade(path: Path, number: int, score: str) -> int:
    try:
        return int(score)
    except ValueError:
        raise _wrong(path, number, f"the score {score[:30]!r} is not a whole number") from None


def _answers(path: Path, queries: dict[str, str]) -> dict[str, tuple[tuple[str, ...], bool]]:
    found: dict[str, tuple[tuple[str, ...], bool]] = {}
    for number, row in _json_lines(path):
        query, answers = _string(path, number, row, "_id"), row.get("answers")
        if query not in queries:
            raise _wrong(path, number, f"the query {query!r} is not in queries.jsonl")
        if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
            raise _wrong(path, number, "`answers` is not a list of strings")
        answerable = row.get("answerable", bool(answers))
        if not isinstance(answerable, bool) or answerable != bool(answers):
            raise _wrong(path, number, "`answerable` does not agree with `answers`")
        if query in found:
            raise _wrong(path, number, f"the query {query!r} is answered a second time")
        found[query] = (tuple(answers), answerable)
    return found


def _csv_questions(path: Path) -> Iterator[Question]:
    """Rows with the same question are one question with several answers and documents."""
    rows: dict[str, tuple[set[str], dict[str, int], set[bool]]] = {}
    for number, row in _csv_rows(path):
        text = _question_text(path, number, row["question"].strip())
        answers, relevant, told = rows.setdefault(text, (set(), {}, set()))
        if row.get("answer", "").strip():
            answers.add(row["answer"].strip())
        if row.get("document", "").strip():
            relevant[row["document"].strip()] = 1
        answerable = row.get("answerable", "").strip().lower()
        if answerable and answerable not in _TRUTH:
            raise _wrong(path, number, f"`answerable` is {answerable[:30]!r}; write true, false or nothing")
        if answerable:
            told.add(_TRUTH[answerable])
        if told == {True, False} or (answers and False in told):
            raise _wrong(path, number, "`answerable` does not agree with the answers to this question")
    if not rows:
        raise InvalidInput(f"{path} holds no questions.")
    for number, (text, (answers, relevant, told)) in enumerate(rows.items(), 1):
        answerable = False if False in told else bool(answers) or None
        yield Question(str(number), text, relevant, tuple(sorted(answers)), answerable)


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            columns = set(reader.fieldnames or ())
            if "question" not in columns or not columns <= _CSV_COLUMNS:
                shown = ", ".join(map(str, reader.fieldnames or ())) or "none"
                raise _wrong(
                    path,
                    1,
                    f"the columns are {shown[:200]}; they must be question, and may be answer, document, answerable",
                )
            for row in reader:
                if None in row or None in row.values():
                    raise _wrong(path, reader.line_num, f"not {len(columns)} columns; put texts with commas in quotes")
                yield reader.line_num, row
        except csv.Error as error:
            raise _wrong(path, reader.line_num, f"not valid CSV: {error}") from error
        except UnicodeDecodeError as error:
            raise InvalidInput(f"{path} is not UTF-8: save it as UTF-8 ({error.reason}).") from error


def _question_text(path: Path, number: int, text: str) -> str:
    if not text.strip():
        raise _wrong(path, number, "the question is empty")
    if len(text) > MAX_QUESTION_CHARACTERS:
        raise _wrong(path, number, f"the question has {len(text):,} characters; {MAX_QUESTION_CHARACTERS:,} are taken")
    return text


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in _lines(path):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise _wrong(path, number, f"not valid JSON: {error.msg} at column {error.colno}") from error
        if not isinstance(row, dict):
            raise _wrong(path, number, "not a JSON object")
        yield number, row


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, with their numbers from 1. Only \\n and \\r\\n end a line, as in JSON lines."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise _wrong(path, number, f"not UTF-8: {error.reason} at byte {error.start}") from error
            if text.strip():
                yield number, text.rstrip("\r\n")


def _string(path: Path, number: int, row: dict[str, Any], key: str, may_be_empty: bool = False) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not (value or may_be_empty):
        raise _wrong(path, number, f"`{key}` is missing, empty or not a string")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise _wrong(path, number, f"`{key}` holds half of a surrogate pair, which is no character")
    return value


def _wrong(path: Path, number: int, what: str) -> InvalidInput:
    return InvalidInput(f"{path}, line {number}: {what}.")
