"""Takes what tells of a person out of chats: what preparation masks, and keys, addresses of machines, local telephone numbers.

By patterns, so names of people stay; what must not be trained on at all needs a consent that is not given. One stand-in of a
kind, so that an answer still says what its passages say.
"""

import re
from functools import cache

from training.prepare.personal import TELEPHONE, Personal

KEY, EMAIL, MACHINE = "sk-example", "email@example.com", "192.0.2.1"
_PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = (
    (KEY, re.compile(r"\b(?:sk|pk|ghp|gho|xox[bp]|AKIA|mk)[-_]?[A-Za-z0-9_-]{16,}\b")),
    (MACHINE, re.compile(r"\b(?:[0-9a-fA-F]{1,4}:){4,7}[0-9a-fA-F]{1,4}\b")),
    (TELEPHONE, re.compile(r"(?<![\w.])(?<!\d )\(?0\d{2,5}\)?[ /-]\d[\d -]{4,10}\d\b")),
)


def redacted(text: str) -> str:
    """The text with examples in place of what was personal."""
    for stand_in, pattern in _PATTERNS:
        text = pattern.sub(stand_in, text)
    return _personal().format(text)


@cache
def _personal() -> Personal:
    return Personal(only_remove_public_ips=False, email_replacement=EMAIL, ip_replacement=MACHINE)
