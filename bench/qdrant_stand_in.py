"""Qdrant's gRPC protocol before Qdrant's embedded engine, where no server can be installed: `python -m bench.qdrant_stand_in
FOLDER` says on its standard output which port it took.

The messages are those of the real client, and the engine that searches is the server's own. What a server does besides is
missing: replicas, shards, quantization, index builds, anything over REST. All requests are kept for tests to look at.
"""

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import qdrant_edge as q
from google.protobuf.message import Message
from qdrant_client import grpc as pb
from qdrant_client import models
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc
from qdrant_client.grpc import collections_service_pb2_grpc, points_service_pb2_grpc

Context = grpc.aio.ServicerContext
_INDEXES: dict[int, Any] = {
    pb.FieldType.FieldTypeKeyword: q.KeywordIndexParams,
    pb.FieldType.FieldTypeFloat: q.FloatIndexParams,
    pb.FieldType.FieldTypeInteger: q.IntegerIndexParams,
    pb.FieldType.FieldTypeDatetime: q.DatetimeIndexParams,
}
_DONE = pb.PointsOperationResponse(result=pb.UpdateResult(operation_id=1, status=pb.UpdateStatus.Completed))


class StandIn:
    """The collections, each a shard, and every request that came."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shards: dict[str, q.EdgeShard] = {}
        self.requests: list[Message] = []
        self.metadata: list[dict[str, str]] = []

    @property
    def collections(self) -> set[str]:
        """Their names."""
        return set(self._shards)

    def of(self, kind: type[Any]) -> list[Any]:
        """The requests of a kind."""
        return [request for request in self.requests if isinstance(request, kind)]

    def create(self, request: Any) -> None:
        """A collection with the vectors that the request says."""
        dense = {
            name: q.EdgeVectorParams(size=params.size, distance=q.Distance.Cosine)
            for name, params in request.vectors_config.params_map.map.items()
        }
        idf = {name: q.EdgeSparseVectorParams(modifier=q.Modifier.Idf) for name in request.sparse_vectors_config.map}
        if not dense and not idf:  # the engine wants at least one
            idf = {"none": q.EdgeSparseVectorParams()}
        folder = self._folder / uuid.uuid4().hex
        folder.mkdir(parents=True)
        config = q.EdgeConfig(vectors=dense, sparse_vectors=idf)
        self._shards[request.collection_name] = q.EdgeShard.create(str(folder), config)

    def drop(self, name: str) -> None:
        """Its files stay until the end."""
        if (shard := self._shards.pop(name, None)) is not None:
            shard.close()

    def find(self, name: str) -> q.EdgeShard | None:
        """None where there is no such collection."""
        return self._shards.get(name)

    def close(self) -> None:
        """Lets go of the files."""
        for name in list(self._shards):
            self.drop(name)


class _Collections(collections_service_pb2_grpc.CollectionsServicer):
    def __init__(self, peer: StandIn) -> None:
        self._peer = peer

    async def CollectionExists(self, request: Any, context: Context) -> Any:
        exists = request.collection_name in self._peer.collections
        return pb.CollectionExistsResponse(result=pb.CollectionExists(exists=exists))

    async def Create(self, request: Any, context: Context) -> Any:
        if request.collection_name in self._peer.collections:
            await context.abort(
                grpc.StatusCode.ALREADY_EXISTS, f"Collection `{request.collection_name}` already exists!"
            )
        self._peer.create(request)
        return pb.CollectionOperationResponse(result=True)

    async def Delete(self, request: Any, context: Context) -> Any:
        self._peer.drop(request.collection_name)
        return pb.CollectionOperationResponse(result=True)

    async def UpdateAliases(self, request: Any, context: Context) -> Any:
        return pb.CollectionOperationResponse(result=True)


class _Points(points_service_pb2_grpc.PointsServicer):
    def __init__(self, peer: StandIn) -> None:
        self._peer = peer

    async def _shard(self, request: Any, context: Context) -> q.EdgeShard:
        shard = self._peer.find(request.collection_name)
        if shard is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"Collection `{request.collection_name}` doesn't exist!")
        assert shard is not None
        return shard

    async def Upsert(self, request: Any, context: Context) -> Any:
        shard = await self._shard(request, context)
        points = [_point(GrpcToRest.convert_point_struct(point)) for point in request.points]
        shard.update(q.UpdateOperation.upsert_points(points))
        return _DONE

    async def Delete(self, request: Any, context: Context) -> Any:
        shard = await self._shard(request, context)
        selector = request.points
        chosen = _filter(GrpcToRest.convert_filter(selector.filter)) if selector.HasField("filter") else None
        ids = {point.uuid for point in selector.points.ids}
        condition = chosen if chosen is not None else q.Filter(must=[q.HasIdCondition(ids)])
        shard.update(q.UpdateOperation.delete_points_by_filter(condition))
        return _DONE

    async def SetPayload(self, request: Any, context: Context) -> Any:
        shard = await self._shard(request, context)
        condition = _filter(GrpcToRest.convert_filter(request.points_selector.filter))
        payload = GrpcToRest.convert_payload(request.payload)
        shard.update(q.UpdateOperation.set_payload_by_filter(condition, payload))
        return _DONE

    async def CreateFieldIndex(self, request: Any, context: Context) -> Any:
        shard = await self._shard(request, context)
        shard.update(q.UpdateOperation.create_field_index(request.field_name, _INDEXES[request.field_type]()))
        return _DONE

    async def Count(self, request: Any, context: Context) -> Any:
        shard = await self._shard(request, context)
        counted = shard.count(q.CountRequest(filter=_condition(request)))
        return pb.CountResponse(result=pb.CountResult(count=counted))

    async def Get(self, request: Any, context: Context) -> Any:
        shard = await self._shard(request, context)
        ids: list[Any] = [point.uuid for point in request.ids]
        found = shard.retrieve(ids, with_payload=True, with_vector=_wanted(request.with_vectors))
        return pb.GetResponse(result=[RestToGrpc.convert_record(_record(record)) for record in found])

    async def Scroll(self, request: Any, context: Context) -> Any:
        shard = await self._shard(request, context)
        scroll = q.ScrollRequest(
            offset=request.offset.uuid or None, limit=request.limit, filter=_condition(request), with_payload=True,
            with_vector=_wanted(request.with_vectors),
        )  # fmt: skip
        records, after = shard.scroll(scroll)
        page = pb.ScrollResponse(result=[RestToGrpc.convert_record(_record(record)) for record in records])
        if after is not None:
            page.next_page_offset.uuid = str(after)
        return page

    async def Query(self, request: Any, context: Context) -> Any:
        shard = await self._shard(request, context)
        asked = request.query.nearest
        if asked.HasField("sparse"):
            vector: Any = q.SparseVector(list(asked.sparse.indices), list(asked.sparse.values))
        else:
            vector = list(asked.dense.data)
        query = q.QueryRequest(
            request.limit, query=q.Query.Nearest(vector, using=request.using), filter=_condition(request),
            with_payload=request.with_payload.enable,
        )  # fmt: skip
        return pb.QueryResponse(result=[_scored(point) for point in shard.query(query)])


class _Kept(grpc.aio.ServerInterceptor):
    """Keeps every request, and asks for the key."""

    def __init__(self, peer: StandIn, api_key: str | None) -> None:
        self._peer, self._api_key = peer, api_key

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = await continuation(handler_call_details)
        metadata = {key: str(value) for key, value in handler_call_details.invocation_metadata}

        async def call(request: Any, context: Context) -> Any:
            if self._api_key is not None and metadata.get("api-key") != self._api_key:
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, "Invalid API key or JWT")
            self._peer.requests.append(request)
            self._peer.metadata.append(metadata)
            return await handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(call, handler.request_deserializer, handler.response_serializer)


@asynccontextmanager
async def standing_in(
    folder: Path, *, api_key: str | None = None, credentials: grpc.ServerCredentials | None = None
) -> AsyncIterator[tuple[StandIn, int]]:
    """One that answers while inside, and its port."""
    peer = StandIn(folder)
    server = grpc.aio.server(interceptors=[_Kept(peer, api_key)], options=[("grpc.max_receive_message_length", -1)])
    collections_service_pb2_grpc.add_CollectionsServicer_to_server(_Collections(peer), server)
    points_service_pb2_grpc.add_PointsServicer_to_server(_Points(peer), server)
    address = "localhost:0" if credentials else "127.0.0.1:0"
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    await server.start()
    try:
        yield peer, port
    finally:
        await server.stop(0)
        peer.close()


def _condition(request: Any) -> q.Filter | None:
    return _filter(GrpcToRest.convert_filter(request.filter)) if request.HasField("filter") else None


def _filter(found: models.Filter) -> q.Filter:
    must, should, must_not = (
        [_part(each) for each in some or []] for some in (found.must, found.should, found.must_not)
    )
    return q.Filter(must=must or None, should=should or None, must_not=must_not or None)


def _part(condition: Any) -> Any:
    match condition:
        case models.Filter():
            return _filter(condition)
        case models.HasIdCondition():
            return q.HasIdCondition({str(each) for each in condition.has_id})
        case models.IsEmptyCondition():
            return q.IsEmptyCondition(condition.is_empty.key)
        case models.FieldCondition(match=models.MatchValue(value=value)):
            return q.FieldCondition(condition.key, match=q.MatchValue(value))
        case models.FieldCondition(match=models.MatchAny(any=values)):
            return q.FieldCondition(condition.key, match=q.MatchAny([str(value) for value in values]))
        case models.FieldCondition(range=models.Range() as found):
            return q.FieldCondition(condition.key, range=q.RangeFloat(**found.model_dump()))
        case models.FieldCondition(range=models.DatetimeRange() as found):
            bounds = {key: value and value.isoformat() for key, value in found.model_dump().items()}
            return q.FieldCondition(condition.key, range=q.RangeDateTime(**bounds))
    raise NotImplementedError(f"A condition that the stand-in does not know: {condition!r}")


def _point(point: models.PointStruct) -> q.Point:
    named: Any = point.vector or {}
    vectors: Any = {
        name: q.SparseVector(vector.indices, vector.values) if isinstance(vector, models.SparseVector) else list(vector)
        for name, vector in named.items()
    }
    return q.Point(str(point.id), vectors, point.payload)


def _wanted(selector: Any) -> Any:
    return list(selector.include.names) if selector.HasField("include") else selector.enable


def _record(record: q.Record) -> models.Record:
    named: Any = record.vector or {}
    vectors: Any = {
        name: models.SparseVector(indices=list(vector.indices), values=list(vector.values))
        if isinstance(vector, q.SparseVector)
        else list(vector)
        for name, vector in named.items()
    }
    return models.Record(id=str(record.id), payload=record.payload or {}, vector=vectors)


def _scored(point: q.ScoredPoint) -> Any:
    return RestToGrpc.convert_scored_point(
        models.ScoredPoint(id=str(point.id), version=0, score=point.score, payload=point.payload or {})
    )


async def _serve(folder: Path) -> None:
    async with standing_in(folder) as (_, port):
        sys.stdout.write(f"{port}\n")
        sys.stdout.flush()
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)  # until the other side has gone


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
