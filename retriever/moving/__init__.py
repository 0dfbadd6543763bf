"""Moves a collection between stores, while it is used."""
