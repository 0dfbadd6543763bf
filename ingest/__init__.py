"""Takes documents in: stores, parses and cuts them, has them embedded and indexed, and remembers every step."""
