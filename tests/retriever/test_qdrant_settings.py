"""What is set of a Qdrant server reaches it: requests of the real client, as a server of Qdrant's own protocol gets them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from pydantic import ValidationError
from qdrant_client import grpc as pb

from bench.qdrant_stand_in import StandIn, standing_in
from mesh.errors import InvalidInput, Unavailable
from retriever.opening import Opened, open_stores
from retriever.settings import RetrieverSettings
from retriever.stores.base import Mode
from tests.retriever.fakes import WordsEmbedder, chunk, indexed
from tests.retriever.store_calls import ask

pytestmark = pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")


@dataclass(frozen=True)
class OnServer:
    """A retriever's stores, and the server that they are on."""

    opened: Opened
    peer: StandIn

    async def fill(self) -> None:
        await self.opened.store.create_index("test", WordsEmbedder.dimensions)
        await self.opened.store.upsert("test", [indexed(chunk("rockets burn kerosene"))], staged=False)

    def made(self, name: str) -> Any:
        return next(request for request in self.peer.of(pb.CreateCollection) if request.collection_name == name)


@asynccontextmanager
async def on_server(
    tmp_path: Path, *, server: dict[str, Any] | None = None, **settings: Any
) -> AsyncIterator[OnServer]:
    async with standing_in(tmp_path / "peer", **(server or {})) as (peer, port):
        wanted: dict[str, Any] = {"qdrant_url": "http://127.0.0.1:6333", "qdrant_grpc_port": port} | settings
        opened = await open_stores(RetrieverSettings(data=tmp_path, store="server", **wanted))
        try:
            yield OnServer(opened, peer)
        finally:
            await opened.store.close()


async def test_by_default_all_is_left_to_the_server(tmp_path: Path) -> None:
    async with on_server(tmp_path) as there:
        await there.fill()
        assert (await ask(there.opened.store, "kerosene"))[0].chunk.text == "rockets burn kerosene"
        made = there.made("murphey--test")
        assert not made.HasField("shard_number")
        assert made.replication_factor == made.write_consistency_factor == 1
        assert not made.vectors_config.params_map.map["dense"].HasField("quantization_config")
        query = there.peer.of(pb.QueryPoints)[0]
        assert not query.HasField("read_consistency")
        assert not query.HasField("params")


async def test_collections_are_made_as_is_set(tmp_path: Path) -> None:
    async with on_server(
        tmp_path, qdrant_shards=6, qdrant_replicas=3, qdrant_write_consistency=2, qdrant_quantization="scalar",
        qdrant_on_disk_vectors=True, qdrant_on_disk_payload=False, qdrant_hnsw_m=24, qdrant_hnsw_ef_construct=200,
    ) as there:  # fmt: skip
        await there.fill()
        made, staged = there.made("murphey--test"), there.made("murphey--test--staged")
        for each in (made, staged):
            assert (each.shard_number, each.replication_factor, each.write_consistency_factor) == (6, 3, 2)
            assert each.HasField("on_disk_payload")
            assert not each.on_disk_payload
        dense = made.vectors_config.params_map.map["dense"]
        assert dense.on_disk
        assert dense.quantization_config.scalar.type == pb.QuantizationType.Int8
        assert (made.hnsw_config.m, made.hnsw_config.ef_construct) == (24, 200)
        assert staged.hnsw_config.m == 0  # nobody searches it
        assert not staged.vectors_config.params_map.map["dense"].HasField("quantization_config")


async def test_bits_are_weighed_again_by_whole_vectors(tmp_path: Path) -> None:
    quantized = {"qdrant_quantization": "binary", "qdrant_oversampling": 3.0, "qdrant_search_ef": 256}
    async with on_server(tmp_path, **quantized, qdrant_replicas=3, qdrant_read_consistency="majority") as there:
        await there.fill()
        await ask(there.opened.store, "kerosene rockets", Mode.HYBRID)
        assert there.made("murphey--test").vectors_config.params_map.map["dense"].quantization_config.HasField("binary")
        queries = there.peer.of(pb.QueryPoints)
        dense = [query for query in queries if query.using == "dense"]
        sparse = [query for query in queries if query.using == "sparse"]
        assert dense
        assert sparse
        for query in dense:
            assert (query.params.quantization.rescore, query.params.quantization.oversampling) == (True, 3.0)
            assert query.params.hnsw_ef == 256
        assert not any(query.HasField("params") for query in sparse)
        reads = [*queries, *there.peer.of(pb.GetPoints)]
        assert {read.read_consistency.type for read in reads} == {pb.ReadConsistencyType.Majority}


async def test_a_number_of_replicas_is_asked(tmp_path: Path) -> None:
    async with on_server(tmp_path, qdrant_replicas=3, qdrant_read_consistency=2) as there:
        await there.fill()
        await ask(there.opened.store, "kerosene", Mode.DENSE)
        assert there.peer.of(pb.QueryPoints)[0].read_consistency.factor == 2


async def test_catalog_and_states_are_replicated_too(tmp_path: Path) -> None:
    async with on_server(tmp_path, qdrant_replicas=2, qdrant_write_consistency=2) as there:
        assert await there.opened.catalog.load() == {}
        await there.opened.versions.move("test", removal=False)
        for name in ("murphey--catalog", "murphey--corpus"):
            assert (there.made(name).replication_factor, there.made(name).write_consistency_factor) == (2, 2)


async def test_the_key_is_sent(tmp_path: Path) -> None:
    async with on_server(tmp_path, server={"api_key": "right"}, qdrant_api_key="right") as there:
        await there.fill()
        assert {metadata["api-key"] for metadata in there.peer.metadata} == {"right"}
    async with on_server(tmp_path, server={"api_key": "right"}, qdrant_api_key="wrong") as there:
        with pytest.raises(Unavailable, match="qdrant_api_key"):
            await there.fill()


async def test_tls_with_an_authority_of_ones_own(tmp_path: Path) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    leaf = authority.issue_cert("localhost")
    pair = leaf.private_key_pem.bytes(), b"".join(part.bytes() for part in leaf.cert_chain_pems)
    credentials = {"credentials": grpc.ssl_server_credentials([pair]), "api_key": "right"}
    for name, made_by in (("ours", authority), ("theirs", stranger)):
        made_by.cert_pem.write_to_path(str(tmp_path / f"{name}.pem"))
    url = {"qdrant_url": "https://localhost:6333", "qdrant_api_key": "right"}
    async with on_server(tmp_path, server=credentials, qdrant_ca=tmp_path / "ours.pem", **url) as there:
        await there.fill()
        assert len(await ask(there.opened.store, "kerosene")) == 1
    async with on_server(tmp_path, server=credentials, qdrant_ca=tmp_path / "theirs.pem", **url) as there:
        with pytest.raises(Unavailable, match="qdrant_ca"):
            await there.fill()


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"qdrant_url": "qdrant:6333"}, "is no address of a Qdrant server"),
        ({"qdrant_ca": "ca.pem"}, "write qdrant_url with https"),
        ({"qdrant_write_consistency": 3, "qdrant_replicas": 2}, "more than the 2"),
        ({"qdrant_read_consistency": 4, "qdrant_replicas": 3}, "must be 1 to qdrant_replicas, 3"),
        ({"qdrant_read_consistency": "most"}, "qdrant_read_consistency"),
        ({"qdrant_oversampling": 2.0}, "needs qdrant_quantization"),
        ({"qdrant_oversampling": 2.0, "qdrant_quantization": "binary", "qdrant_rescore": False}, "and qdrant_rescore"),
        ({"qdrant_quantization": "ternary"}, "qdrant_quantization"),
        ({"qdrant_shards": 0}, "qdrant_shards"),
        ({"qdrant_hnsw_m": 1}, "qdrant_hnsw_m"),
    ],
)
def test_what_contradicts_itself_is_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        RetrieverSettings(**settings)


@pytest.mark.parametrize(("content", "complaint"), [(None, "cannot be read"), ("hello", "holds no certificate")])
async def test_an_authority_that_is_none_is_refused(tmp_path: Path, content: str | None, complaint: str) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    url: dict[str, Any] = {"qdrant_url": "https://localhost:6333", "qdrant_ca": tmp_path / "ca.pem"}
    with pytest.raises(InvalidInput, match=complaint):
        await open_stores(RetrieverSettings(data=tmp_path, store="server", **url))
