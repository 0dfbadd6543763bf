"""Qdrant's engine embedded: a child process of the retriever holds the shards, because the engine works under Python's GIL.

`store` is the store that the retriever sees, `process` talks to the child, `engine` is the child, `shard` is one index in
it, and `optimizer` builds indexes in a grandchild.
"""
