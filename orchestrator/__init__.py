"""Answers questions over documents: retrieve, prompt, generate, cite, and check every citation."""
