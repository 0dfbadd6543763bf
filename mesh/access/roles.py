"""The role map: what a caller must be allowed to do, for every RPC. A method that is not here is refused to everyone.

`tests/mesh/test_roles.py` fails when an RPC of the contract has no role. Who the caller is, is the gate's to find out.
"""

from enum import StrEnum


class Scope(StrEnum):
    """What a caller may do. Scopes do not contain each other: a key for an importer may `write` and not `read`."""

    PUBLIC = "public"
    """Nothing needs to be proved: probes and balancers have no key."""
    READ = "read"
    """Ask, search, converse, rate answers, look at documents and jobs."""
    WRITE = "write"
    """Take documents in and remove them, make collections, delete conversations and answers."""
    ADMIN = "admin"
    """Change or delete whole collections, look through the stores."""
    INTERNAL = "internal"
    """What only the services do among themselves. No API key has it."""


GRANTABLE = (Scope.READ, Scope.WRITE, Scope.ADMIN)
"""What an API key may be given."""

_METHODS: dict[str, dict[Scope, tuple[str, ...]]] = {
    "murphey.orchestrator.v1.OrchestratorService": {
        Scope.READ: (
            "Answer", "StreamAnswer", "CreateConversation", "GetConversation", "ListConversations", "GetAnswer",
            "ListAnswers", "ReplayAnswer", "RateAnswer",
        ),
        Scope.WRITE: ("DeleteConversation", "DeleteAnswer"),
    },
    "murphey.ingest.v1.IngestService": {
        Scope.READ: (
            "GetDocument", "ListDocuments", "GetDocumentText", "DownloadDocument", "GetJob", "ListJobs", "WatchJob",
        ),
        Scope.WRITE: (
            "UploadDocument", "UploadDocuments", "CompareDocuments", "DeleteDocument", "CancelJob", "RetryJob",
        ),
        Scope.ADMIN: ("ReindexCollection", "RollbackCollection", "FindOrphans"),
    },
    "murphey.retriever.v1.RetrieverService": {
        Scope.READ: ("Search", "Rerank", "GetCollection", "ListCollections"),
        Scope.WRITE: ("CreateCollection",),
        Scope.ADMIN: ("DeleteCollection", "MoveCollection"),
        Scope.INTERNAL: (
            "UpsertChunks", "PublishDocuments", "SetDocumentMetadata", "DeleteChunks", "ListStoredVersions",
            "GetCorpusVersion", "BuildIndex", "SwapIndex", "DropIndex", "ReadChunks", "Embed",
        ),
    },
    "murphey.generator.v1.GeneratorService": {
        Scope.READ: ("Generate", "StreamGenerate", "CountTokens", "ListModels", "GetModel"),
    },
    "grpc.health.v1.Health": {Scope.PUBLIC: ("Check", "Watch"), Scope.READ: ("List",)},
    "grpc.reflection.v1alpha.ServerReflection": {Scope.READ: ("ServerReflectionInfo",)},
}  # fmt: skip

ROLES: dict[str, Scope] = {
    f"/{service}/{method}": scope
    for service, scopes in _METHODS.items()
    for scope, methods in scopes.items()
    for method in methods
}
"""`/package.Service/Method` -> the scope that it needs."""
