"""What somebody sends who wants a tenant's things, for every RPC of the contract: their names are known, as if from a log."""

from collections.abc import Callable

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct

from murphey.generator.v1 import generator_pb2 as gen
from murphey.ingest.v1 import ingest_pb2 as ing
from murphey.orchestrator.v1 import orchestrator_pb2 as orc
from murphey.retriever.v1 import filter_pb2
from murphey.retriever.v1 import retriever_pb2 as ret
from murphey.retriever.v1.moving_pb2 import STORE_KIND_SERVER, MoveCollectionRequest
from murphey.retriever.v1.stored_chunks_pb2 import ReadChunksRequest
from tests.tenants.belongings import NOTES, PLAN, QUESTION, Belongings
from tests.tenants.mesh import named

Attempt = Callable[[Belongings], Message | list[Message]]


def _question(theirs: Belongings) -> orc.Question:
    return orc.Question(text=QUESTION, collection=NOTES, conversation=theirs.conversation)


def _alone(theirs: Belongings) -> orc.Question:
    """The same words, which a cache may know."""
    return orc.Question(text=QUESTION, collection=NOTES)


def _upload(theirs: Belongings) -> ing.UploadHeader:
    return ing.UploadHeader(collection=NOTES, display_name=PLAN)


def _chunk(theirs: Belongings) -> ret.Chunk:
    """One that would take the vector of another that reads the same."""
    identifier = "6c1d9a3e-1111-4111-8111-000000000001"
    return ret.Chunk(
        id=identifier,
        document=theirs.documents[1],
        version="v",
        text="stolen",
        span=ret.Span(end=6),
        same_as=identifier,
    )


def _only(theirs: Belongings) -> filter_pb2.Filter:
    condition = filter_pb2.FieldCondition(field="document")
    condition.match.string_value = theirs.documents[2]
    return filter_pb2.Filter(must=[filter_pb2.Condition(field=condition)])


_ORCHESTRATOR: dict[str, Attempt] = {
    "Answer": lambda theirs: orc.AnswerRequest(question=_alone(theirs)),
    "StreamAnswer": lambda theirs: orc.StreamAnswerRequest(question=_question(theirs)),
    "CreateConversation": lambda theirs: orc.CreateConversationRequest(title="mine"),
    "GetConversation": lambda theirs: orc.GetConversationRequest(name=theirs.conversation),
    "ListConversations": lambda theirs: orc.ListConversationsRequest(page_size=1000),
    "DeleteConversation": lambda theirs: orc.DeleteConversationRequest(name=theirs.conversation),
    "GetAnswer": lambda theirs: orc.GetAnswerRequest(name=theirs.answer),
    "ListAnswers": lambda theirs: orc.ListAnswersRequest(page_size=1000),
    "DeleteAnswer": lambda theirs: orc.DeleteAnswerRequest(name=theirs.answer),
    "ReplayAnswer": lambda theirs: orc.ReplayAnswerRequest(name=theirs.answer),
    "RateAnswer": lambda theirs: orc.RateAnswerRequest(
        name=theirs.answer, feedback=orc.Feedback(rating=orc.RATING_BAD, training_consent=True)
    ),
}
_INGEST: dict[str, Attempt] = {
    "UploadDocument": lambda theirs: [
        ing.UploadDocumentRequest(header=_upload(theirs)),
        ing.UploadDocumentRequest(data=b"overwritten"),
    ],
    "UploadDocuments": lambda theirs: ing.UploadDocumentsRequest(
        documents=[ing.SmallDocument(header=_upload(theirs), data=b"overwritten again")]
    ),
    "GetDocument": lambda theirs: ing.GetDocumentRequest(name=theirs.documents[2]),
    "ListDocuments": lambda theirs: ing.ListDocumentsRequest(parent=NOTES, page_size=1000),
    "CompareDocuments": lambda theirs: ing.CompareDocumentsRequest(
        parent=NOTES, files=[ing.ComparedFile(display_name=f"{theirs.tenant}-file.txt", metadata=Struct())]
    ),
    "DeleteDocument": lambda theirs: ing.DeleteDocumentRequest(name=theirs.documents[1]),
    "GetDocumentText": lambda theirs: ing.GetDocumentTextRequest(name=theirs.documents[2]),
    "DownloadDocument": lambda theirs: ing.DownloadDocumentRequest(name=theirs.documents[2]),
    "GetJob": lambda theirs: ing.GetJobRequest(name=theirs.jobs[0]),
    "ListJobs": lambda theirs: ing.ListJobsRequest(page_size=1000, batch=f"{theirs.tenant}-batch"),
    "WatchJob": lambda theirs: ing.WatchJobRequest(name=theirs.jobs[0]),
    "CancelJob": lambda theirs: ing.CancelJobRequest(name=theirs.jobs[0]),
    "RetryJob": lambda theirs: ing.RetryJobRequest(name=theirs.jobs[0]),
    "ReindexCollection": lambda theirs: ing.ReindexCollectionRequest(
        name=f"collections/{theirs.tenant}-drawer", chunking=ret.Chunking(chunk_tokens=32)
    ),
    "RollbackCollection": lambda theirs: ing.RollbackCollectionRequest(name=f"collections/{theirs.tenant}-drawer"),
    "FindOrphans": lambda theirs: ing.FindOrphansRequest(remove=True, minimum_age=Duration()),
}
_RETRIEVER: dict[str, Attempt] = {
    "Search": lambda theirs: ret.SearchRequest(collection=NOTES, text=QUESTION, filter=_only(theirs)),
    "Rerank": lambda theirs: ret.RerankRequest(query=QUESTION, texts=["mine"], reranker="shared-words"),
    "UpsertChunks": lambda theirs: ret.UpsertChunksRequest(collection=NOTES, chunks=[_chunk(theirs)]),
    "PublishDocuments": lambda theirs: ret.PublishDocumentsRequest(
        collection=NOTES, documents=[ret.DocumentVersion(document=theirs.documents[1], version="v")]
    ),
    "SetDocumentMetadata": lambda theirs: ret.SetDocumentMetadataRequest(
        collection=NOTES, documents=[ret.DocumentMetadata(document=theirs.documents[1], version="v")]
    ),
    "DeleteChunks": lambda theirs: ret.DeleteChunksRequest(
        collection=NOTES, documents=ret.DocumentNames(documents=theirs.documents[1:])
    ),
    "ListStoredVersions": lambda theirs: ret.ListStoredVersionsRequest(
        collection=f"collections/{theirs.tenant}-drawer"
    ),
    "GetCorpusVersion": lambda theirs: ret.GetCorpusVersionRequest(collection=f"collections/{theirs.tenant}-drawer"),
    "BuildIndex": lambda theirs: ret.BuildIndexRequest(
        collection=f"collections/{theirs.tenant}-drawer", chunking=ret.Chunking(chunk_tokens=16)
    ),
    "SwapIndex": lambda theirs: ret.SwapIndexRequest(
        collection=f"collections/{theirs.tenant}-drawer", index_version="x"
    ),
    "DropIndex": lambda theirs: ret.DropIndexRequest(
        collection=f"collections/{theirs.tenant}-drawer", index_version="x"
    ),
    "ReadChunks": lambda theirs: ReadChunksRequest(index=theirs.index),
    "MoveCollection": lambda theirs: MoveCollectionRequest(
        name=f"collections/{theirs.tenant}-drawer", store=STORE_KIND_SERVER
    ),
    "Embed": lambda theirs: ret.EmbedRequest(texts=["mine"]),
    "CreateCollection": lambda theirs: ret.CreateCollectionRequest(collection=ret.Collection(name="collections/mine")),
    "GetCollection": lambda theirs: ret.GetCollectionRequest(name=f"collections/{theirs.tenant}-drawer"),
    "ListCollections": lambda theirs: ret.ListCollectionsRequest(page_size=1000),
    "DeleteCollection": lambda theirs: ret.DeleteCollectionRequest(
        name=f"collections/{theirs.tenant}-drawer", force=True
    ),
}
_GENERATOR: dict[str, Attempt] = {
    "Generate": lambda theirs: gen.GenerateRequest(prompt=gen.Prompt(text=QUESTION)),
    "StreamGenerate": lambda theirs: gen.StreamGenerateRequest(prompt=gen.Prompt(text=QUESTION)),
    "CountTokens": lambda theirs: gen.CountTokensRequest(prompts=[gen.Prompt(text=QUESTION)]),
    "ListModels": lambda theirs: gen.ListModelsRequest(),
    "GetModel": lambda theirs: gen.GetModelRequest(),
}
ATTEMPTS: dict[str, Attempt] = {
    named(service, method): attempt
    for service, attempts in (
        ("orchestrator", _ORCHESTRATOR),
        ("ingest", _INGEST),
        ("retriever", _RETRIEVER),
        ("generator", _GENERATOR),
    )
    for method, attempt in attempts.items()
}
"""By the full name of the method."""
