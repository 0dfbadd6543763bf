"""The rerankers that exist. Only app.py imports them."""
