"""Events and conversations of the domain, turned into messages."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from statistics import mean

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from mesh.place_messages import place_message
from murphey.generator.v1 import generator_pb2
from murphey.orchestrator.v1 import orchestrator_pb2 as pb
from murphey.retriever.v1 import retriever_pb2
from orchestrator.conversations import Conversation, StoredTurn
from orchestrator.events import (
    CachedFrom,
    Citation,
    Delta,
    Event,
    Finish,
    GroundedSentence,
    Outcome,
    SourcesFound,
    Started,
    StopReason,
    Usage,
    Versions,
)
from orchestrator.sources import Source, Span

_REASONS = {
    StopReason.STOP: generator_pb2.FINISH_REASON_STOP,
    StopReason.LENGTH: generator_pb2.FINISH_REASON_LENGTH,
    StopReason.TIME_LIMIT: generator_pb2.FINISH_REASON_TIME_LIMIT,
}
_OUTCOMES = {Outcome.ANSWERED: pb.OUTCOME_ANSWERED, Outcome.DECLINED: pb.OUTCOME_DECLINED}


def event_message(event: Event) -> pb.StreamAnswerResponse:
    """One event of a stream."""
    match event:
        case Delta(text):
            return pb.StreamAnswerResponse(delta=pb.Delta(text=text))
        case Citation():
            return pb.StreamAnswerResponse(citation=citation_message(event))
        case Started(answer_id, standalone, further):
            started = pb.Started(answer_id=answer_id, standalone_question=standalone, further_searches=further)
            return pb.StreamAnswerResponse(started=started)
        case SourcesFound(sources):
            return pb.StreamAnswerResponse(passages=pb.Passages(sources=[source_message(source) for source in sources]))
        case Finish():
            return pb.StreamAnswerResponse(finish=finish_message(event))


def whole_answer(events: Sequence[Event]) -> pb.AnswerResponse:
    """All events of an answer as one message."""
    response = pb.AnswerResponse(text="".join(event.text for event in events if isinstance(event, Delta)))
    for event in events:
        match event:
            case Started(answer_id, standalone, further):
                response.answer_id, response.standalone_question = answer_id, standalone
                response.further_searches.extend(further)
            case SourcesFound(sources):
                response.sources.extend(source_message(source) for source in sources)
            case Finish():
                response.finish.CopyFrom(finish_message(event))
            case _:
                pass
    cited = sorted((event for event in events if isinstance(event, Citation)), key=lambda c: c.answer_span.start)
    response.citations.extend(citation_message(citation) for citation in cited)
    return response


def citation_message(citation: Citation) -> pb.Citation:
    """A citation."""
    return pb.Citation(
        marker=citation.marker,
        document=citation.document,
        display_name=citation.display_name,
        document_version=citation.version,
        page=citation.page,
        span=_span(citation.span),
        quote=citation.quote,
        attributed=citation.attributed,
        answer_span=_span(citation.answer_span),
        similarity=citation.similarity,
        place=place_message(citation.place),
    )


def conversation_message(conversation: Conversation) -> pb.Conversation:
    """A conversation, with the turns that it holds."""
    return pb.Conversation(
        name=f"conversations/{conversation.id}",
        title=conversation.title,
        turns=[_turn(turn) for turn in conversation.turns],
        turn_count=conversation.turn_count,
        create_time=timestamp(conversation.create_time),
        update_time=timestamp(conversation.update_time),
    )


def source_message(source: Source) -> pb.Source:
    """A numbered source."""
    return pb.Source(
        number=source.number,
        document=source.document,
        display_name=source.display_name,
        document_version=source.version,
        text=source.text,
        span=_span(source.span),
        page=source.page,
        headings=source.headings,
        score=source.score,
        chunks=source.chunks,
        place=place_message(source.place),
    )


def finish_message(finish: Finish) -> pb.Finish:
    """How an answer ended."""
    timings = finish.timings
    engine = generator_pb2.Timings(
        queue=_duration(timings.generate.queue_s),
        prefill=_duration(timings.generate.prefill_s),
        decode=_duration(timings.generate.decode_s),
    )
    return pb.Finish(
        reason=_REASONS[finish.reason],
        outcome=_OUTCOMES[finish.outcome],
        usage=_usage(finish.usage),
        versions=_versions(finish.versions),
        timings=pb.Timings(
            retrieve=_duration(timings.retrieve_s),
            prompt=_duration(timings.prompt_s),
            generate=engine,
            first_token=_duration(timings.first_token_s),
            total=_duration(timings.total_s),
        ),
        dropped_markers=finish.dropped_markers,
        sentences=[_sentence(sentence) for sentence in finish.sentences],
        groundedness=mean(s.score for s in finish.sentences) if finish.sentences else None,
        withheld_sentences=finish.withheld_sentences,
        conversation=f"conversations/{finish.conversation}" if finish.conversation else "",
        seed=finish.seed,
        cached=_cached(finish.cached) if finish.cached else None,
    )


def _cached(cached: CachedFrom) -> pb.CachedAnswer:
    return pb.CachedAnswer(
        answer_id=cached.answer_id, create_time=timestamp(cached.create_time), usage=_usage(cached.usage)
    )


def _usage(usage: Usage) -> generator_pb2.Usage:
    return generator_pb2.Usage(
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        completion_tokens=usage.completion_tokens,
    )


def _sentence(sentence: GroundedSentence) -> pb.GroundedSentence:
    return pb.GroundedSentence(answer_span=_span(sentence.span), score=sentence.score, supported=sentence.supported)


def _turn(turn: StoredTurn) -> pb.Turn:
    return pb.Turn(
        answer_id=turn.answer_id,
        question=turn.question,
        answer=turn.answer,
        citations=[citation_message(citation) for citation in turn.citations],
        versions=_versions(turn.versions),
        create_time=timestamp(turn.create_time),
    )


def _versions(versions: Versions) -> pb.Versions:
    return pb.Versions(index=versions.index, prompt=versions.prompt, model=versions.model, corpus=versions.corpus)


def _span(span: Span) -> retriever_pb2.Span:
    return retriever_pb2.Span(start=span.start, end=span.end)


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromTimedelta(timedelta(seconds=seconds))
    return duration


def timestamp(time: datetime) -> Timestamp:
    """A time in UTC."""
    message = Timestamp()
    message.FromDatetime(time)
    return message
