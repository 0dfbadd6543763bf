"""GeneratorService: converts, calls the domain, converts back."""

from collections.abc import AsyncIterator
from contextlib import aclosing

import grpc.aio

from generator.measures import measured
from generator.messages import completion_event, finish, model_message, prompt, sampling
from generator.models import Model, ModelCatalog
from generator.requests import Delta, Finish
from generator.spending import spending
from mesh.access.quotas import Quotas
from mesh.paging import decode_token, encode_token, page_size
from murphey.generator.v1 import generator_pb2 as pb
from murphey.generator.v1 import generator_pb2_grpc


class GeneratorServicer(generator_pb2_grpc.GeneratorServiceServicer):
    """The RPCs of generator.proto."""

    def __init__(self, catalog: ModelCatalog, quotas: Quotas) -> None:
        self._catalog, self._quotas = catalog, quotas

    async def Generate(self, request: pb.GenerateRequest, context: grpc.aio.ServicerContext) -> pb.GenerateResponse:
        """A whole completion."""
        model = self._catalog.get(request.model)
        texts: list[str] = []
        completion = spending(model.complete(prompt(request.prompt), sampling(request.sampling)), self._quotas)
        async with aclosing(measured(completion)) as events:
            async for event in events:
                if isinstance(event, Delta):
                    texts.append(event.text)
                elif isinstance(event, Finish):
                    return pb.GenerateResponse(text="".join(texts), finish=finish(event))
        raise RuntimeError("a completion ended without a finish")

    async def StreamGenerate(
        self, request: pb.StreamGenerateRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.StreamGenerateResponse]:
        """A completion as it comes."""
        model = self._catalog.get(request.model)
        completion = spending(model.complete(prompt(request.prompt), sampling(request.sampling)), self._quotas)
        async with aclosing(measured(completion)) as events:
            async for event in events:
                yield completion_event(event)

    async def CountTokens(
        self, request: pb.CountTokensRequest, context: grpc.aio.ServicerContext
    ) -> pb.CountTokensResponse:
        """Tokens of prompts."""
        model = self._catalog.get(request.model)
        prompts = [prompt(one, f"prompts[{index}]") for index, one in enumerate(request.prompts)]
        counts = await model.count(prompts)
        return pb.CountTokensResponse(
            tokens=counts.tokens, model=f"models/{counts.model}", context_tokens=model.view().context_tokens
        )

    async def ListModels(
        self, request: pb.ListModelsRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListModelsResponse:
        """A page of models, the default one first."""
        models, size, after = self._catalog.all(), page_size(request.page_size), decode_token(request.page_token)
        start = next((index + 1 for index, model in enumerate(models) if model.id == after), 0)
        page = models[start : start + size]
        more = start + size < len(models)
        return pb.ListModelsResponse(
            models=[self._message(model) for model in page],
            next_page_token=encode_token(page[-1].id) if more else "",
        )

    async def GetModel(self, request: pb.GetModelRequest, context: grpc.aio.ServicerContext) -> pb.GetModelResponse:
        """One model."""
        return pb.GetModelResponse(model=self._message(self._catalog.get(request.name, "name")))

    def _message(self, model: Model) -> pb.Model:
        return model_message(model.view(), default=model is self._catalog.default)
