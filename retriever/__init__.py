"""Finds: embeds text, keeps chunks in collections and searches them by meaning, by words, or by both."""
