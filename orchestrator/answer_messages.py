"""Recorded and replayed answers, turned into messages."""

from collections.abc import Mapping
from typing import Any

from google.protobuf.struct_pb2 import Struct

from mesh.access.tenants import public
from murphey.orchestrator.v1 import orchestrator_pb2 as pb
from murphey.retriever.v1 import filter_pb2
from orchestrator.clients.generator import sampling_message
from orchestrator.comparing import Change, Difference
from orchestrator.feedback import Feedback
from orchestrator.questions import Question
from orchestrator.records import AnswerRecord
from orchestrator.replaying import Replay
from orchestrator.responses import citation_message, finish_message, source_message, timestamp

_CHANGES = {
    Change.SAME: pb.TEXT_CHANGE_SAME,
    Change.REMOVED: pb.TEXT_CHANGE_REMOVED,
    Change.ADDED: pb.TEXT_CHANGE_ADDED,
}


def record_message(record: AnswerRecord, *, whole: bool = True) -> pb.StoredAnswer:
    """An answer as it was given; without its sources and citations unless `whole`."""
    return pb.StoredAnswer(
        name=f"answers/{record.id}",
        question=_question(record.question),
        text=record.text,
        citations=map(citation_message, record.citations if whole else ()),
        sources=map(source_message, record.sources if whole else ()),
        finish=finish_message(record.finish),
        settings=_struct(record.settings),
        create_time=timestamp(record.create_time),
        feedback=feedback_message(record.feedback) if record.feedback else None,
    )


def feedback_message(feedback: Feedback) -> pb.Feedback:
    """What a person thinks of an answer."""
    return pb.Feedback(
        rating=pb.RATING_GOOD if feedback.good else pb.RATING_BAD,
        better_answer=feedback.better_answer,
        comment=feedback.comment,
        training_consent=feedback.training_consent,
        create_time=timestamp(feedback.create_time),
    )


def replay_message(replay: Replay) -> pb.ReplayAnswerResponse:
    """Both answers, and how they differ."""
    after = record_message(replay.after)
    after.name = ""
    return pb.ReplayAnswerResponse(
        before=record_message(replay.before), after=after, difference=_difference(replay.difference)
    )


def _difference(found: Difference) -> pb.AnswerDifference:
    return pb.AnswerDifference(
        same=found.same,
        text=[pb.TextPiece(change=_CHANGES[piece.change], text=piece.text) for piece in found.text],
        gained_sources=map(source_message, found.gained_sources),
        lost_sources=map(source_message, found.lost_sources),
        gained_citations=map(citation_message, found.gained_citations),
        lost_citations=map(citation_message, found.lost_citations),
        changed_versions=found.changed_versions,
    )


def _question(question: Question) -> pb.Question:
    return pb.Question(
        text=question.text,
        collection=public(question.collection),
        conversation=f"conversations/{question.conversation}" if question.conversation else "",
        filter=filter_pb2.Filter.FromString(question.search_filter) if question.search_filter else None,
        passage_limit=question.passage_limit,
        model=question.model,
        sampling=sampling_message(question.sampling),
        strict=question.strict,
        split=question.split,
    )


def _struct(values: Mapping[str, Any]) -> Struct:
    struct = Struct()
    struct.update(values)
    return struct
