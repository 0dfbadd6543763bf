"""Moves of collections as messages, and back."""

from dataclasses import dataclass

from mesh.errors import InvalidInput
from mesh.names import collection_id
from murphey.retriever.v1 import moving_pb2 as pb
from retriever.moving.mover import Phase, Progress

DEFAULT_QUESTIONS, MAX_QUESTIONS, DEFAULT_AGREEMENT = 200, 10_000, 0.99
STORES = {"edge": pb.STORE_KIND_EDGE, "server": pb.STORE_KIND_SERVER}
_NAMES = {number: name for name, number in STORES.items()}
_PHASES = {
    Phase.COPYING: pb.MOVE_PHASE_COPYING,
    Phase.CATCHING_UP: pb.MOVE_PHASE_CATCHING_UP,
    Phase.COMPARING: pb.MOVE_PHASE_COMPARING,
    Phase.DONE: pb.MOVE_PHASE_DONE,
}


@dataclass(frozen=True, slots=True)
class WantedMove:
    """What a caller asks for."""

    collection: str
    store: str
    questions: int
    agreement: float


def to_move(request: pb.MoveCollectionRequest) -> WantedMove:
    """InvalidInput for what is not said or out of bounds."""
    if not request.name:
        raise InvalidInput("The collection's name is missing: write collections/ID.", field="name")
    if request.store not in _NAMES:
        raise InvalidInput("Say where to: edge or server.", field="store")
    questions = request.questions if request.HasField("questions") else DEFAULT_QUESTIONS
    agreement = request.minimum_agreement if request.HasField("minimum_agreement") else DEFAULT_AGREEMENT
    if not 0 <= questions <= MAX_QUESTIONS:
        raise InvalidInput(f"questions is {questions}; it must be 0 to {MAX_QUESTIONS}.", field="questions")
    if not 0 <= agreement <= 1:
        raise InvalidInput(f"minimum_agreement is {agreement:g}; it must be 0 to 1.", field="minimum_agreement")
    return WantedMove(collection_id(request.name, "name"), _NAMES[request.store], questions, agreement)


def progress_message(progress: Progress) -> pb.MoveCollectionResponse:
    """How far a move has come."""
    agreement = progress.agreement
    return pb.MoveCollectionResponse(
        phase=_PHASES[progress.phase],
        copied_chunks=progress.copied,
        total_chunks=progress.total,
        questions=agreement.questions if agreement else 0,
        same_answers=agreement.same if agreement else 0,
    )
