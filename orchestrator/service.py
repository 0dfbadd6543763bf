"""The servicer: reads the message, calls the domain, writes the answer. Errors are the domain's own."""

from collections.abc import AsyncIterator
from contextlib import aclosing

import grpc.aio

from mesh.names import collection_id
from mesh.paging import page_size
from murphey.orchestrator.v1 import orchestrator_pb2 as pb
from murphey.orchestrator.v1 import orchestrator_pb2_grpc
from orchestrator.answer_messages import feedback_message, record_message, replay_message
from orchestrator.cached_answers import Answering
from orchestrator.conversations import Conversations
from orchestrator.forgetting import Forgetting
from orchestrator.records import Records
from orchestrator.replaying import Replayer
from orchestrator.requests import (
    read_answer,
    read_conversation,
    read_feedback,
    read_model,
    read_question,
    read_title,
)
from orchestrator.responses import conversation_message, event_message, whole_answer

Context = grpc.aio.ServicerContext


class Orchestrator(orchestrator_pb2_grpc.OrchestratorServiceServicer):
    """`murphey.orchestrator.v1.OrchestratorService`."""

    def __init__(
        self,
        answerer: Answering,
        conversations: Conversations,
        records: Records,
        replayer: Replayer,
        forgetting: Forgetting,
    ) -> None:
        self._answerer, self._conversations = answerer, conversations
        self._records, self._replayer, self._forgetting = records, replayer, forgetting

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
        self._forgetting.conversation(conversation)
        return pb.DeleteConversationResponse()

    async def GetAnswer(self, request: pb.GetAnswerRequest, context: Context) -> pb.GetAnswerResponse:
        """An answer as it was given."""
        return pb.GetAnswerResponse(answer=record_message(await self._records.get(read_answer(request.name))))

    async def ListAnswers(self, request: pb.ListAnswersRequest, context: Context) -> pb.ListAnswersResponse:
        """A page of answers."""
        collection = f"collections/{collection_id(request.collection)}" if request.collection else ""
        found, token = await self._records.page(
            collection, page_size(request.page_size), request.page_token, rated=request.rated
        )
        messages = [record_message(record, whole=False) for record in found]
        return pb.ListAnswersResponse(answers=messages, next_page_token=token)

    async def DeleteAnswer(self, request: pb.DeleteAnswerRequest, context: Context) -> pb.DeleteAnswerResponse:
        """Removes an answer."""
        await self._forgetting.answer(read_answer(request.name))
        return pb.DeleteAnswerResponse()

    async def ReplayAnswer(self, request: pb.ReplayAnswerRequest, context: Context) -> pb.ReplayAnswerResponse:
        """Gives an answer again and compares."""
        return replay_message(await self._replayer.replay(read_answer(request.name), read_model(request.model)))

    async def RateAnswer(self, request: pb.RateAnswerRequest, context: Context) -> pb.RateAnswerResponse:
        """Keeps what a person thinks of an answer."""
        feedback = read_feedback(request.feedback)
        await self._records.rate(read_answer(request.name), feedback)
        return pb.RateAnswerResponse(feedback=feedback_message(feedback))
