"""The contract's CacheControl, read."""

from mesh.caching import Use
from mesh.errors import InvalidInput
from murphey.retriever.v1 import cache_pb2


def to_use(message: cache_pb2.CacheControl, field: str) -> Use:
    """How a call lets caches take part. InvalidInput for a negative age."""
    age = message.max_age
    if age.seconds < 0 or age.nanos < 0:
        raise InvalidInput(
            f"max_age is {age.seconds + age.nanos / 1e9} s; it must be 0 or more.", field=f"{field}.max_age"
        )
    max_age_s = age.seconds + age.nanos / 1e9 if message.HasField("max_age") else None
    return Use(read=not message.no_cache, write=not message.no_store, max_age_s=max_age_s, sampled=message.sampled)


def from_use(use: Use) -> cache_pb2.CacheControl:
    """The message that `to_use` was given."""
    message = cache_pb2.CacheControl(no_cache=not use.read, no_store=not use.write, sampled=use.sampled)
    if use.max_age_s is not None:
        message.max_age.FromNanoseconds(round(use.max_age_s * 1e9))
    return message
