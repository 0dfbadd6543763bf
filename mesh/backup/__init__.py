"""Backups of a whole mesh, and what is made of them."""
