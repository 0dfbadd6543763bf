"""Masks what is personal: addresses of e-mail and of public machines, as datatrove does, and numbers of bank accounts, payment
cards and telephones that are written so that no other number is meant.
"""

import re

from datatrove.pipeline.formatters.pii import PIIFormatter

_CARD = re.compile(r"(?<![\d.-])(?:\d[ -]?){12,18}\d(?![\d.-])")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b")
_TELEPHONE = re.compile(r"(?<![\w+])\+[1-9]\d{0,2}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{2,4}(?:[ .-]?\d{2,4}){1,4}(?!\w)")
_CARD_LENGTHS = range(13, 20)
CARD, IBAN, TELEPHONE = "4000 0000 0000 0002", "XX00 0000 0000 0000", "+1 555 0100"


class Personal(PIIFormatter):
    """What is masked stays readable: an example stands in its place."""

    name = "personal data"

    def format(self, text: str) -> str:
        masked = super().format(text)
        if not any(character.isdigit() for character in masked):
            return masked
        masked = _IBAN.sub(lambda found: IBAN if _is_iban(found[0]) else found[0], masked)
        masked = _CARD.sub(lambda found: CARD if _is_card(found[0]) else found[0], masked)
        masked = _TELEPHONE.sub(TELEPHONE, masked)
        if masked != text:
            self.stat_update("masked")
        return masked


def _is_card(text: str) -> bool:
    """Whether its check digit is right (ISO/IEC 7812-1, Luhn)."""
    digits = [int(character) for character in text if character.isdigit()]
    if len(digits) not in _CARD_LENGTHS or len(set(digits)) == 1:
        return False
    doubled = (digit if place % 2 == 0 else sum(divmod(2 * digit, 10)) for place, digit in enumerate(reversed(digits)))
    return sum(doubled) % 10 == 0


def _is_iban(text: str) -> bool:
    """Whether its check digits are right (ISO 13616, modulo 97)."""
    plain = text.replace(" ", "")
    if not 15 <= len(plain) <= 34:
        return False
    return int("".join(str(int(character, 36)) for character in plain[4:] + plain[:4])) % 97 == 1
