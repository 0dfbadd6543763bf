"""Pages by key: a token names the last key of the page before (AIP-158)."""

import base64
import binascii

from mesh.errors import InvalidInput

DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE = 100, 1000


def page_size(requested: int) -> int:
    """0 means the default; over the maximum is the maximum."""
    if requested < 0:
        raise InvalidInput(f"page_size is {requested}; it must be 0 to {MAX_PAGE_SIZE}.", field="page_size")
    return min(requested or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def encode_token(last_key: str) -> str:
    """An opaque token for the page after `last_key`."""
    return base64.urlsafe_b64encode(last_key.encode()).decode()


def decode_token(token: str) -> str:
    """The key in a token; empty for the first page."""
    try:
        return base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError) as error:
        raise InvalidInput(f"page_token {token[:50]!r} was not given by this service.", field="page_token") from error
