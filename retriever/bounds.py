"""Bounds of what one call may hold."""

from mesh.errors import InvalidInput


def check_count(field: str, count: int, most: int) -> None:
    """InvalidInput unless there are 1 to `most`."""
    if not 1 <= count <= most:
        raise InvalidInput(f"{field} has {count} items; it must have 1 to {most:,}.", field=field)
