"""Pretraining: token shards, batches, the loop, its checkpoints and its records."""
