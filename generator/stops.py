"""Stop strings over text that comes in pieces: the text stops before the first one, and no part of one is given out."""

from collections.abc import Sequence


class StopStrings:
    """Watches one completion's text."""

    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = tuple(strings)
        self._held = ""

    def feed(self, text: str) -> tuple[str, bool]:
        """The text that can be given out now, and whether a stop string was met; then nothing more may be fed."""
        if not self._strings:
            return text, False
        text = self._held + text
        at = min((found for string in self._strings if (found := text.find(string)) >= 0), default=-1)
        if at >= 0:
            self._held = ""
            return text[:at], True
        keep = self._possible_start(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], False

    def flush(self) -> str:
        """The text held back, when the completion ends without a stop string."""
        held, self._held = self._held, ""
        return held

    def _possible_start(self, text: str) -> int:
        """Length of the longest end of `text` with which a stop string could begin."""
        longest = min(len(text), max(len(string) for string in self._strings) - 1)
        for length in range(longest, 0, -1):
            end = text[-length:]
            if any(string.startswith(end) for string in self._strings):
                return length
        return 0
