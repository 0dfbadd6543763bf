"""Chats from the conversations that the orchestrator keeps: only those whose people agreed, redacted.

Consent is a file of conversation names, one a line; what is not named there does not leave the mesh. A turn is taken when its
answer rests on at least one citation; which answers people found good, `feedback` knows.
"""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from mesh.deadline import call_options
from mesh.errors import InvalidInput, NotFound, translated
from murphey.orchestrator.v1 import orchestrator_pb2 as pb
from murphey.orchestrator.v1.orchestrator_pb2_grpc import OrchestratorServiceStub
from training.finetuning.redaction import redacted
from training.finetuning.rows import Message

_TIMEOUT_S = 30.0
_PREFIX = "conversations/"


def read_consent(file: Path) -> list[str]:
    """Names of conversations, each once; `#` begins a comment. NotFound for no file, InvalidInput for what is no name."""
    if not file.is_file():
        raise NotFound(
            f"{file} does not exist: list the conversations whose people agreed, one conversations/… a line."
        )
    names: dict[str, None] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        name = line.partition("#")[0].strip()
        if name and (not name.startswith(_PREFIX) or len(name.split()) > 1):
            raise InvalidInput(f"{file}, line {number}: not the name of a conversation, such as {_PREFIX}4f1a….")
        if name:
            names[name] = None
    if not names:
        raise InvalidInput(f"{file} names no conversation: nobody agreed, so there is nothing to export.")
    return list(names)


async def agreed_chats(stub: OrchestratorServiceStub, names: list[str]) -> AsyncIterator[list[Message]]:
    """The chat of each conversation that has a grounded turn. NotFound for a name that is not there."""
    for name in names:
        with translated("orchestrator"):
            request = pb.GetConversationRequest(name=name)
            found = (await stub.GetConversation(request, **call_options(_TIMEOUT_S))).conversation
        if chat := list(_messages(found)):
            yield chat


def _messages(conversation: pb.Conversation) -> Iterator[Message]:
    for turn in conversation.turns:
        if turn.citations:
            yield {"role": "user", "content": redacted(turn.question)}
            yield {"role": "assistant", "content": redacted(turn.answer)}
