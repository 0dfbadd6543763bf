"""Takes what tells of a person out of text: e-mail addresses, telephone and account numbers, addresses of machines, keys.

By patterns, so names of people stay; what must not be trained on at all needs a consent that is not given.
"""

import re

_PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("[EMAIL]", re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")),
    ("[KEY]", re.compile(r"\b(?:sk|pk|ghp|gho|xox[bp]|AKIA|mk)[-_]?[A-Za-z0-9_-]{16,}\b")),
    ("[IBAN]", re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b")),
    ("[IP]", re.compile(r"\b(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)\b")),
    ("[IP]", re.compile(r"\b(?:[0-9a-fA-F]{1,4}:){4,7}[0-9a-fA-F]{1,4}\b")),
    ("[PHONE]", re.compile(r"(?<![\w.])\+\d{1,3}[\d ()/.-]{6,16}\d\b|(?<![\w.])\(?0\d{2,5}\)?[ /-]\d[\d -]{4,10}\d\b")),
)
_CARD = re.compile(r"\b(?:\d[ -]?){12,18}\d\b")


def redacted(text: str) -> str:
    """The text with placeholders such as `[EMAIL]`."""
    for placeholder, pattern in _PATTERNS[:3]:
        text = pattern.sub(placeholder, text)
    text = _CARD.sub(lambda found: "[CARD]" if _is_card(found[0]) else found[0], text)
    for placeholder, pattern in _PATTERNS[3:]:
        text = pattern.sub(placeholder, text)
    return text


def _is_card(text: str) -> bool:
    """Luhn's sum."""
    digits = [int(letter) for letter in reversed(text) if letter.isdigit()]
    return sum(sum(divmod(2 * digit, 10)) if place % 2 else digit for place, digit in enumerate(digits)) % 10 == 0
