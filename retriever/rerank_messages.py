"""Wishes for another order of passages as messages, and orders as messages back."""

from collections.abc import Sequence

from mesh.errors import InvalidInput
from murphey.retriever.v1 import retriever_pb2
from retriever.bounds import check_count, check_texts, question_text, within
from retriever.ordering import DEFAULT_PASSAGES, Reranking

MAX_RERANKED, MAX_RERANK_TEXTS = 200, 1_000


def to_texts(request: retriever_pb2.RerankRequest) -> tuple[str, list[str]]:
    """The question and the texts to order. InvalidInput names the field."""
    question = question_text(request.query, "query")
    check_count("texts", len(request.texts), MAX_RERANK_TEXTS)
    check_texts(request.texts)
    within("limit", request.limit, 0, MAX_RERANK_TEXTS)
    return question, list(request.texts)


def ranked_messages(scores: Sequence[float], limit: int) -> list[retriever_pb2.RankedText]:
    """The best first, at most `limit` of them; 0 means all."""
    best_first = sorted(range(len(scores)), key=lambda row: -scores[row])
    return [retriever_pb2.RankedText(index=row, score=scores[row]) for row in best_first[: limit or None]]


def to_reranking(request: retriever_pb2.SearchRequest, by_vector: bool) -> Reranking | None:
    """None where nothing is to be reranked."""
    if not request.HasField("reranking"):
        return None
    if by_vector:
        raise InvalidInput("A reranker reads the question: give the text instead of a vector.", field="reranking")
    passages = within("reranking.passages", request.reranking.passages, 0, MAX_RERANKED) or DEFAULT_PASSAGES
    return Reranking(request.reranking.reranker, passages)


def to_diversity(request: retriever_pb2.SearchRequest) -> float:
    """0 to 1."""
    if not 0 <= request.diversity <= 1:
        raise InvalidInput(f"diversity is {request.diversity}; it must be 0 to 1.", field="diversity")
    return request.diversity
