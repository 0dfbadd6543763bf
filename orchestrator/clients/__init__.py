"""gRPC clients of the services behind the orchestrator, each behind a protocol of `orchestrator.ports`."""
