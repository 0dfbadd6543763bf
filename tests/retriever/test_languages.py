"""Words by language: what a text is in, and searches in a collection whose documents are in several languages."""

import pytest

from murphey.retriever.v1 import retriever_pb2 as pb
from retriever.languages import language_of, of_question, weigh
from retriever.sparse import words_of
from tests.retriever.conftest import Served
from tests.retriever.fakes import chunk
from tests.retriever.requests import message

GERMAN = "Die alten Häuser am Rande der Stadt wurden im vergangenen Jahr von ihren Bewohnern verlassen."
ENGLISH = "The old houses at the edge of the town were left by the people who had lived there last year."
SPANISH = "Las casas viejas al borde de la ciudad fueron abandonadas el año pasado por sus habitantes."


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (GERMAN, "german"), (ENGLISH, "english"), (SPANISH, "spanish"), ("", "english"), ("4711 0815", "english"),
        ("Stare domy na skraju miasta zostały w zeszłym roku opuszczone przez mieszkańców.", "english"),
    ],
)  # fmt: skip
def test_a_text_is_in_a_language_that_has_a_word_model(text: str, language: str) -> None:
    assert language_of(text) == language


def test_a_document_is_weighed_in_one_language() -> None:
    """Its name alone does not tell a short chunk's language; the chunks beside it do."""
    chunks = [chunk(GERMAN, document="g"), chunk("Museum Hotel", document="g", index=1), chunk(ENGLISH, document="e")]
    words, languages = weigh(chunks, "auto")
    assert languages == {"german", "english"}
    german, english = words_of("german"), words_of("english")
    expected = [german.of_document(f"Top\nSub\n{text}") for text in (GERMAN, "Museum Hotel")]
    assert words == [*expected, english.of_document(f"Top\nSub\n{ENGLISH}")]
    assert weigh(chunks[:1], "english")[1] == {"english"}


def test_a_question_is_asked_in_its_language_where_that_can_be_told() -> None:
    languages = ("english", "german", "spanish")
    for text, language in ((GERMAN, "german"), (ENGLISH, "english"), (SPANISH, "spanish")):
        assert of_question(text, languages) == words_of(language).of_query(text)
    assert of_question("the", ("english",)).indices == []


def test_a_question_that_may_be_in_any_language_is_asked_in_all_of_them() -> None:
    """Without what counts for nothing in one of them; each word counts once."""
    asked = of_question("the Hotels", ("english", "german"))
    forms = {index for language in ("english", "german") for index in words_of(language).of_query("hotels").indices}
    assert set(asked.indices) == forms
    assert asked.words == 1
    assert of_question("the", ("english", "german")).indices == []
    assert of_question("", ("english", "german")).indices == []


async def test_each_document_is_found_by_the_forms_of_its_language(served: Served) -> None:
    collection = pb.Collection(name="collections/mixed", language="auto")
    created = await served.stub.CreateCollection(pb.CreateCollectionRequest(collection=collection))
    assert (created.collection.language, list(created.collection.languages)) == ("auto", ["english"])
    chunks = [message(text, document=str(row), collection="mixed") for row, text in enumerate([GERMAN, ENGLISH])]
    await served.stub.UpsertChunks(pb.UpsertChunksRequest(collection="collections/mixed", chunks=chunks))
    for question, text in (("ein Haus", GERMAN), ("Bewohner", GERMAN), ("one house", ENGLISH), ("living", ENGLISH)):
        request = pb.SearchRequest(collection="collections/mixed", text=question, mode=pb.SEARCH_MODE_SPARSE)
        assert [found.chunk.text for found in (await served.stub.Search(request)).passages] == [text], question
    shown = await served.stub.GetCollection(pb.GetCollectionRequest(name="collections/mixed"))
    assert list(shown.collection.languages) == ["english", "german"]
