"""Makes text of files: the type from the content, then the parser for it, in processes that may die."""
