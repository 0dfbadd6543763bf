"""The servicer: reads the message, calls the domain, writes the answer. Errors are the domain's own."""

from collections.abc import AsyncIterator
from contextlib import aclosing

import grpc.aio

from mesh.paging import page_size
from murphey.orchestrator.v1 import orchestrator_pb2 as pb
from murphey.orchestrator.v1 import orchestrator_pb2_grpc
from orchestrator.cached_answers import CachedAnswerer
from orchestrator.conversations import Conversations
from orchestrator.requests import read_conversation, read_question, read_title
from orchestrator.responses import conversation_message, event_message, whole_answer

Context = grpc.aio.ServicerContext


class Orchestrator(orchestrator_pb2_grpc.OrchestratorServiceServicer):
    """`murphey.orchestrator.v1.OrchestratorService`."""

    def __init__(self, answerer: CachedAnswerer, conversations: Conversations) -> None:
        self._answerer, self._conversations = answerer, conversations

    async def Answer(self, request: pb.AnswerRequest, context: Context) -> pb.AnswerResponse:
        """A whole answer."""
        async with aclosing(self._answerer.answer(read_question(request.question))) as events:
            return whole_answer([event async for event in events])

    async def StreamAnswer(
        self, request: pb.StreamAnswerRequest, context: Context
    ) -> AsyncIterator[pb.StreamAnswerResponse]:
        """An answer as it comes. Closing this generator closes the domain's, which stops the model."""
        async with aclosing(self._answerer.answer(read_question(request.question))) as events:
            async for event in events:
                yield event_message(event)

    async def CreateConversation(
        self, request: pb.CreateConversationRequest, context: Context
    ) -> pb.CreateConversationResponse:
        """A new conversation."""
        made = await self._conversations.create(read_title(request.title))
        return pb.CreateConversationResponse(conversation=conversation_message(made))

    async def GetConversation(self, request: pb.GetConversationRequest, context: Context) -> pb.GetConversationResponse:
        """One conversation with its turns."""
        found = await self._conversations.get(read_conversation(request.name))
        return pb.GetConversationResponse(conversation=conversation_message(found))

    async def ListConversations(
        self, request: pb.ListConversationsRequest, context: Context
    ) -> pb.ListConversationsResponse:
        """A page of conversations."""
        found, token = await self._conversations.page(page_size(request.page_size), request.page_token)
        messages = [conversation_message(conversation) for conversation in found]
        return pb.ListConversationsResponse(conversations=messages, next_page_token=token)

    async def DeleteConversation(
        self, request: pb.DeleteConversationRequest, context: Context
    ) -> pb.DeleteConversationResponse:
        """Removes a conversation."""
        conversation = read_conversation(request.name)
        await self._conversations.delete(conversation)
        self._answerer.forget_conversation(conversation)
        return pb.DeleteConversationResponse()
