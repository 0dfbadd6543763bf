"""The orchestrator's tables. `migrations/` brings a database to this state."""

from datetime import UTC, datetime

from sqlalchemy import JSON, BigInteger, Column, ForeignKey, Index, Integer, MetaData, String, Table, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from mesh.access.identity import DEFAULT_TENANT


class UtcMicroseconds(TypeDecorator[datetime]):
    """A time in UTC as microseconds since 1970: exact, ordered, and the same in every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else round(value.timestamp() * 1_000_000)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None else datetime.fromtimestamp(value / 1_000_000, UTC)


metadata = MetaData()

conversations = Table(
    "conversations",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("title", String(200), nullable=False),
    Column("create_time", UtcMicroseconds, nullable=False),
    Column("update_time", UtcMicroseconds, nullable=False),
    Column("tenant", String(63), nullable=False, server_default=DEFAULT_TENANT),
    Index("conversations_latest", "tenant", "update_time", "id"),
)

answers = Table(
    "answers",
    metadata,
    Column("position", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("collection", String(160).with_variant(String(80), "sqlite"), nullable=False, index=True),
    Column("conversation", String(32), ForeignKey("conversations.id", ondelete="CASCADE"), index=True),
    Column("create_time", UtcMicroseconds, nullable=False, index=True),
    Column("record", Text, nullable=False),
    Column("feedback", Text),
    Column("tenant", String(63), nullable=False, server_default=DEFAULT_TENANT),
    Index("answers_of_tenant", "tenant", "position"),
)
"""`collection` is a name with its tenant, as are the documents below. SQLite does not look at the lengths."""

answer_documents = Table(
    "answer_documents",
    metadata,
    Column("answer", String(32), ForeignKey("answers.id", ondelete="CASCADE"), primary_key=True),
    Column("document", String(320).with_variant(String(256), "sqlite"), primary_key=True, index=True),
)

turns = Table(
    "turns",
    metadata,
    Column("position", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("conversation", String(32), ForeignKey("conversations.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("answer_id", String(32), nullable=False, unique=True),
    Column("question", Text, nullable=False),
    Column("answer", Text, nullable=False),
    Column("citations", JSON, nullable=False),
    Column("versions", JSON, nullable=False),
    Column("create_time", UtcMicroseconds, nullable=False),
)
