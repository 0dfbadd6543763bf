"""What a tenant has: documents, jobs, conversations and answers, each with a word of its own in it."""

from dataclasses import dataclass

import grpc

from mesh.access.tenants import scoped
from murphey.ingest.v1 import ingest_pb2 as ing
from murphey.orchestrator.v1 import orchestrator_pb2 as orc
from murphey.retriever.v1 import retriever_pb2 as ret
from tests.tenants.mesh import Metadata, TenantMesh, named, settled

NOTES = "collections/notes"
PLAN = "plan.txt"
"""All tenants name this document so, and keep it in collections of the same name."""
QUESTION = "Where is the vault, and which code opens it?"


@dataclass(frozen=True)
class Belongings:
    """A tenant's, by their names."""

    tenant: str
    key: Metadata
    documents: tuple[str, ...]
    jobs: tuple[str, ...]
    conversation: str
    answer: str
    index: str
    """As the store knows it, under which its notes are."""

    @property
    def marks(self) -> list[bytes]:
        """What nobody else may be told."""
        return [
            f"{self.tenant}-{what}".encode()
            for what in ("code", "file", "batch", "label", "title", "drawer", "comment")
        ]


async def fill(mesh: TenantMesh, tenant: str) -> Belongings:
    """Puts something in every store."""
    key = await mesh.key(tenant)
    for name in (NOTES, f"collections/{tenant}-drawer"):
        request = ret.CreateCollectionRequest(collection=ret.Collection(name=name))
        await mesh.done(named("retriever", "CreateCollection"), request, key)
    jobs = [
        await _ingest(mesh, key, collection, display_name, tenant)
        for collection, display_name in (("", PLAN), (NOTES, PLAN), (NOTES, f"{tenant}-file.txt"))
    ]
    made = await mesh.done(
        named("orchestrator", "CreateConversation"), orc.CreateConversationRequest(title=f"{tenant}-title"), key
    )
    asked = orc.Question(text=QUESTION, collection=NOTES, conversation=made.conversation.name)
    answered = await mesh.done(named("orchestrator", "Answer"), orc.AnswerRequest(question=asked), key)
    said = orc.Feedback(rating=orc.RATING_GOOD, comment=f"{tenant}-comment")
    rating = orc.RateAnswerRequest(name=f"answers/{answered.answer_id}", feedback=said)
    await mesh.done(named("orchestrator", "RateAnswer"), rating, key)
    documents = tuple(job.document for job in jobs)
    names = tuple(job.name for job in jobs)
    found = await mesh.done(named("retriever", "GetCollection"), ret.GetCollectionRequest(name=NOTES), key)
    index = f"{scoped('notes', tenant)}--{found.collection.index_version}"
    return Belongings(tenant, key, documents, names, made.conversation.name, f"answers/{answered.answer_id}", index)


async def _ingest(mesh: TenantMesh, key: Metadata, collection: str, display_name: str, tenant: str) -> ing.Job:
    header = ing.UploadHeader(collection=collection, display_name=display_name, batch=f"{tenant}-batch")
    header.metadata["label"] = f"{tenant}-label"
    text = f"The vault stands behind the door. The code that opens the vault is {tenant}-code, says {display_name}."
    requests = [ing.UploadDocumentRequest(header=header), ing.UploadDocumentRequest(data=text.encode())]
    taken = await mesh.done(named("ingest", "UploadDocument"), requests, key)
    return await settled(mesh, key, taken.job.name)


async def check_whole(mesh: TenantMesh, theirs: Belongings) -> None:
    """Everything is there as it was put."""
    key = theirs.key
    for document in theirs.documents:
        found = await mesh.done(named("ingest", "GetDocument"), ing.GetDocumentRequest(name=document), key)
        assert found.document.state == ing.DOCUMENT_STATE_LIVE
        assert found.document.metadata["label"] == f"{theirs.tenant}-label"
        file = await mesh.call(named("ingest", "DownloadDocument"), ing.DownloadDocumentRequest(name=document), key)
        assert f"{theirs.tenant}-code".encode() in file.told
        text = await mesh.done(named("ingest", "GetDocumentText"), ing.GetDocumentTextRequest(name=document), key)
        assert f"{theirs.tenant}-code" in text.text
    listed = await mesh.done(named("ingest", "ListJobs"), ing.ListJobsRequest(), key)
    assert {job.name for job in listed.jobs} == set(theirs.jobs)
    assert {job.state for job in listed.jobs} == {ing.JOB_STATE_SUCCEEDED}
    for collection, wanted in (("", 1), (NOTES, 2)):
        request = ret.SearchRequest(collection=collection, text=QUESTION)
        passages = (await mesh.done(named("retriever", "Search"), request, key)).passages
        assert len(passages) == wanted
        assert all(f"{theirs.tenant}-code" in passage.chunk.text for passage in passages)
    collections = await mesh.done(named("retriever", "ListCollections"), ret.ListCollectionsRequest(), key)
    names = {"collections/default", NOTES, f"collections/{theirs.tenant}-drawer"}
    assert {collection.name for collection in collections.collections} == names
    kept = await mesh.call(
        named("orchestrator", "GetConversation"), orc.GetConversationRequest(name=theirs.conversation), key
    )
    assert kept.code is grpc.StatusCode.OK
    assert len(kept.messages[0].conversation.turns) == 1
    answers = await mesh.done(named("orchestrator", "ListAnswers"), orc.ListAnswersRequest(), key)
    assert [answer.name for answer in answers.answers] == [theirs.answer]
    said = answers.answers[0].feedback
    assert (said.rating, said.comment) == (orc.RATING_GOOD, f"{theirs.tenant}-comment")
