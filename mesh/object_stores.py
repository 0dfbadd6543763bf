"""Object stores by URL: how they are opened, and what their errors say to people. Reading and writing is left to others."""

import atexit
import time
from datetime import timedelta
from functools import cache
from pathlib import Path

from obstore.store import LocalStore, ObjectStore, from_url

RETRIES, RETRIED_S = 4, 20.0
"""What a store does not answer is asked again so often, and no longer; those who call know better whether to go on."""
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_SERVICE_ACCOUNT",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
_SETTLE_S = 0.2
"""obstore's threads hold Python's objects for a moment after a call. An interpreter that ends just then aborts with the exit
code 134, all its work done: one in ten small programs did (https://github.com/PyO3/pyo3-async-runtimes/issues/40)."""
_DENIALS = ("403 Forbidden", "401 Unauthorized")
_NONE_THERE = ("169.254.169.254", "metadata.google.internal", "Account must be specified")
"""What is said where the environment has no credentials: a machine of the provider's own may be given some there."""


def open_store(url: str) -> ObjectStore:
    """At a URL such as `s3://bucket/prefix`, with the credentials of the environment. ValueError or BaseError for a bad one."""
    _settle_at_exit()
    return from_url(url, retry_config={"max_retries": RETRIES, "retry_timeout": timedelta(seconds=RETRIED_S)})


def open_folder(folder: Path) -> LocalStore:
    """In a folder, which is made where it is missing. BaseError or OSError for what cannot be one."""
    _settle_at_exit()
    return LocalStore(folder, mkdir=True)


@cache
def _settle_at_exit() -> None:
    atexit.register(time.sleep, _SETTLE_S)


def reason(error: Exception, url: str = "") -> str:
    """Why a store failed, in a line; what to do where its credentials are at fault."""
    said = (str(error).splitlines() or [type(error).__name__])[0]
    names = _CREDENTIALS.get(url.partition("://")[0], "the credentials of its provider")
    if any(sign in said for sign in _NONE_THERE):
        return f"there are no credentials for it. Set {names}."
    denial = next((denial for denial in _DENIALS if denial in said), None)
    if denial:
        return f"it denies access ({denial}). Look at {names}, and at what they may do there."
    if "404 Not Found" in said:
        return "there is no such bucket, or nothing of that name in it (404 Not Found)."
    return said[:300]
