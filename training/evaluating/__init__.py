"""Evaluation of a trained model: perplexity, offline tasks, and answers through the mesh beside the model in service."""
