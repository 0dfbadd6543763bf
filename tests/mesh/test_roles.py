"""Every RPC of the contract has a role, and the map has no other."""

import importlib
from pathlib import Path
from typing import Any

from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

import murphey
from mesh.access.roles import ROLES, Scope


def contract() -> list[Any]:
    root = Path(next(iter(murphey.__path__)))
    ours = root.glob("*/v1/*_pb2.py")  # others are those of servers that are called
    modules = [".".join(("murphey", *path.relative_to(root).with_suffix("").parts)) for path in ours]
    return [importlib.import_module(module).DESCRIPTOR for module in modules]


def methods(files: list[Any]) -> set[str]:
    services = [service for file in files for service in file.services_by_name.values()]
    return {f"/{service.full_name}/{method.name}" for service in services for method in service.methods}


def test_every_rpc_has_a_role_and_every_role_an_rpc() -> None:
    found = methods([*contract(), health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR])
    assert len({method.split("/")[1] for method in found}) == 6
    assert set(ROLES) == found


def test_only_health_is_public() -> None:
    public = {method for method, scope in ROLES.items() if scope is Scope.PUBLIC}
    assert public == {"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"}


def test_what_the_contract_calls_internal_is() -> None:
    protos = Path(__file__).parents[2] / "protos"
    service = "murphey.retriever.v1.RetrieverService"
    comment: list[str] = []
    said = set()
    for line in (protos / "murphey/retriever/v1/retriever.proto").read_text().splitlines():
        if line.strip().startswith("//"):
            comment.append(line)
            continue
        if line.strip().startswith("rpc ") and "Internal. " in " ".join(comment):
            said.add(f"/{service}/{line.split()[1].partition('(')[0]}")
        comment = []
    assert said == {method for method, scope in ROLES.items() if scope is Scope.INTERNAL}
