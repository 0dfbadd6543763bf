"""Collects text: from dumps, archives, APIs, folders and Murphey's own collections, into records with source and licence."""
